//! The header of every packet (section 5.10.6).

use crate::bytes::{u16_at, u32_at, u64_at};

/// Bytes of a header.
pub const HEADER: usize = 44;
/// The host's context id.
pub const HOST: u64 = 2;
/// Type of a stream.
pub const STREAM: u16 = 1;

/// The sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// The sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opens a stream.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or ends one.
    Reset,
    /// Says what the sender is done with.
    Shutdown,
    /// Carries data.
    Data,
    /// Says how much room there is.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

impl Operation {
    fn code(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }

    fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Context id of the sender.
    pub source: u64,
    /// Context id of the receiver.
    pub destination: u64,
    /// Port of the sender.
    pub source_port: u32,
    /// Port of the receiver.
    pub destination_port: u32,
    /// Bytes of data that follow.
    pub length: u32,
    /// Type of the connection.
    pub kind: u16,
    /// What it is for; `None` is unknown.
    pub operation: Option<Operation>,
    /// Flags of a shutdown.
    pub flags: u32,
    /// Bytes that the sender has room for in all.
    pub window: u32,
    /// Bytes that the sender has passed on, modulo 2^32.
    pub forwarded: u32,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER]) -> Self {
        Self {
            source: u64_at(bytes, 0),
            destination: u64_at(bytes, 8),
            source_port: u32_at(bytes, 16),
            destination_port: u32_at(bytes, 20),
            length: u32_at(bytes, 24),
            kind: u16_at(bytes, 28),
            operation: Operation::from_code(u16_at(bytes, 30)),
            flags: u32_at(bytes, 32),
            window: u32_at(bytes, 36),
            forwarded: u32_at(bytes, 40),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.source.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.destination.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.operation.map_or(0, Operation::code).to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.window.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.forwarded.to_le_bytes());
        bytes
    }

    /// The reset that answers this packet, which no stream takes.
    #[must_use]
    pub fn reset(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            length: 0,
            kind: self.kind,
            operation: Some(Operation::Reset),
            flags: 0,
            window: 0,
            forwarded: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_survive_their_encoding(mut bytes in prop::collection::vec(any::<u8>(), HEADER), code in 1u8..8) {
            bytes[30] = code;
            bytes[31] = 0;
            let bytes: [u8; HEADER] = bytes.try_into().unwrap();
            prop_assert_eq!(Header::parse(&bytes).encode(), bytes);
        }
    }

    #[test]
    fn unknown_operation_is_none() {
        let mut bytes = [0; HEADER];
        bytes[30] = 8;
        assert_eq!(Header::parse(&bytes).operation, None);
    }
}
