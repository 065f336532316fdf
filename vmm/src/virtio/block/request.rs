//! Requests to a block device (section 5.2.6), read from a guest's chain and checked against the disk.

use node_api::vmm::Access;

use crate::{
    Memory,
    bytes::{self, u32_at, u64_at},
    virtio::chain::{self, Chain, Segment},
};

/// Unit of addresses and lengths in requests, in bytes.
pub const SECTOR: u64 = 512;
/// Most sectors of zeroes in one request (128 MiB).
pub const MAX_CLEAR: u32 = 0x4_0000;
/// Bytes of a request's header.
const HEADER: usize = 16;

/// What a request is answered with (section 5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ok,
    /// The request is wrong or the disk failed.
    IoError,
    /// The device does not know the request.
    Unsupported,
}

impl Answer {
    /// The status byte.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::IoError => 1,
            Self::Unsupported => 2,
        }
    }
}

/// A request that has been checked against the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Reads from byte `at` into `data`.
    Read {
        /// Offset in bytes.
        at: u64,
        /// Where to.
        data: Vec<Segment>,
    },
    /// Writes `data` at byte `at`.
    Write {
        /// Offset in bytes.
        at: u64,
        /// From where.
        data: Vec<Segment>,
    },
    /// Everything written before goes to stable storage.
    Flush,
    /// The serial.
    Serial {
        /// Where to.
        data: Vec<Segment>,
    },
    /// `length` bytes at `at` become zero.
    Zero {
        /// Offset in bytes.
        at: u64,
        /// Length in bytes.
        length: u64,
    },
    /// Answered without doing anything.
    Refused(Answer),
}

/// Reads the request in `request` for a disk of `capacity` bytes; returns it and the place of its status byte.
///
/// # Errors
/// The chain has no place for a status, so it cannot be answered.
pub fn parse(
    memory: &Memory,
    request: &Chain,
    capacity: u64,
    access: Access,
) -> Result<(Request, Segment), chain::Malformed> {
    let room = chain::length(&request.writable)
        .checked_sub(1)
        .ok_or(chain::Malformed)?;
    let status = *chain::part(&request.writable, room, 1)
        .first()
        .ok_or(chain::Malformed)?;
    let input = chain::part(&request.writable, 0, room);
    let mut header = [0; HEADER];
    if chain::gather(memory, &request.readable, &mut header)? < HEADER {
        return Ok((Request::Refused(Answer::IoError), status));
    }
    let output = chain::part(&request.readable, HEADER, usize::MAX);
    let (kind, sector) = (u32_at(&header, 0), u64_at(&header, 8));
    let range = |length: usize| {
        let length = bytes::wide(length);
        let at = sector.checked_mul(SECTOR)?;
        (length.is_multiple_of(SECTOR) && at.checked_add(length)? <= capacity).then_some(at)
    };
    let parsed = match (kind, access) {
        (0, _) => range(room).map(|at| Request::Read { at, data: input }),
        (1, Access::ReadWrite) => range(chain::length(&output)).map(|at| Request::Write { at, data: output }),
        (4, _) => Some(Request::Flush),
        (8, _) => Some(Request::Serial { data: input }),
        (13, Access::ReadWrite) => clear(memory, &output, capacity)?,
        (1 | 13, Access::ReadOnly) => None,
        _ => Some(Request::Refused(Answer::Unsupported)),
    };
    Ok((parsed.unwrap_or(Request::Refused(Answer::IoError)), status))
}

/// Reads the one range of a request for zeroes.
fn clear(memory: &Memory, output: &[Segment], capacity: u64) -> Result<Option<Request>, chain::Malformed> {
    let mut range = [0; 16];
    if chain::length(output) != range.len() || chain::gather(memory, output, &mut range)? != range.len() {
        return Ok(None);
    }
    let (sector, sectors, flags) = (u64_at(&range, 0), u32_at(&range, 8), u32_at(&range, 12));
    // Flag 0 lets zeroes be unmapped, which they need not be.
    if sectors > MAX_CLEAR || flags > 1 {
        return Ok(Some(Request::Refused(Answer::Unsupported)));
    }
    let length = u64::from(sectors) * SECTOR;
    let at = sector
        .checked_mul(SECTOR)
        .filter(|at| at.checked_add(length).is_some_and(|end| end <= capacity));
    Ok(at.map(|at| Request::Zero { at, length }))
}
