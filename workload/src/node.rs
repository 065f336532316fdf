//! The protocol `zos/node/1` between a customer's bot and the node that keeps one of its contracts.
//!
//! A stream carries one [`Request`] frame and one [`Answer`] frame; after [`Answer::Tunnel`] raw bytes follow in both
//! directions until either side ends its own. The node lets in only the link key of the contract's customer, as it stands
//! on the chain; anyone else gets [`Answer::Refused`].

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use ledger::{Id, text::Text};
use serde::Serialize;

/// Longest request frame in bytes.
pub const MAX_REQUEST: usize = 64;
/// Most bytes of output in one [`Answer::Log`].
pub const LOG_CHUNK: usize = 64 * 1024;
/// Longest answer frame in bytes: a chunk of output, and room for the fields around it.
pub const MAX_ANSWER: usize = LOG_CHUNK + 1024;

/// What a customer asks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Request {
    /// How the workload is.
    Status {
        /// The contract.
        contract: Id,
    },
    /// Output of the workload from byte `from`, counted since the guest started.
    Log {
        /// The contract.
        contract: Id,
        /// Offset of the first wanted byte.
        from: u64,
    },
    /// A connection to a TCP port of the guest, one that the workload names.
    Tunnel {
        /// The contract.
        contract: Id,
        /// The port.
        port: u16,
    },
}

impl Request {
    /// The contract that this is about.
    #[must_use]
    pub const fn contract(&self) -> Id {
        match self {
            Self::Status { contract } | Self::Log { contract, .. } | Self::Tunnel { contract, .. } => *contract,
        }
    }
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// Answer to [`Request::Status`].
    Status {
        /// How far the workload is.
        state: State,
        /// Milliseconds since the guest's kernel started, 0 when no guest runs.
        uptime_ms: u64,
        /// Times that the workload's process was started before this one.
        restarts: u32,
    },
    /// Answer to [`Request::Log`].
    Log {
        /// Offset of the first byte in `bytes`; larger than asked where older output was dropped, smaller where the guest
        /// has started anew.
        from: u64,
        /// Output, at most [`LOG_CHUNK`] bytes, as it was written; empty when there is none yet.
        bytes: Vec<u8>,
    },
    /// The tunnel is open; raw bytes follow.
    Tunnel,
    /// Not possible now, and worth asking again: the workload does not run yet, or does not listen yet.
    NotReady {
        /// Why, one line.
        reason: Text<256>,
    },
    /// The node does not do it, with one line that says why.
    Refused {
        /// The reason.
        reason: Text<256>,
    },
}

/// How far a node is with a workload.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// The image and the sealed workload are being fetched.
    Fetching {
        /// Bytes that are here and verified.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All content is here and verified; volumes are prepared and the micro-VM starts.
    Starting,
    /// The workload's process runs.
    Running,
    /// The process or the micro-VM ended and is started again after a pause.
    BackingOff {
        /// How it ended, one line.
        reason: Text<160>,
    },
    /// It cannot run.
    Failed {
        /// Why, one line.
        reason: Text<160>,
    },
}

impl State {
    /// Whether image and sealed workload are on the node, verified.
    #[must_use]
    pub const fn is_fetched(&self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::BackingOff { .. })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching { done, total } => write!(f, "fetching ({done} of {total} bytes)"),
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::BackingOff { reason } => write!(f, "backing off: {reason}"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{
        Hash,
        encoding::{decode, encode},
    };

    #[test]
    fn the_largest_messages_fit_their_frames() {
        let contract = Id::from_hash(Hash::from_bytes([7; 32]));
        for request in [
            Request::Status { contract },
            Request::Log {
                contract,
                from: u64::MAX,
            },
            Request::Tunnel {
                contract,
                port: u16::MAX,
            },
        ] {
            assert!(encode(&request).len() <= MAX_REQUEST);
            assert_eq!(decode::<Request>(&encode(&request), MAX_REQUEST).unwrap(), request);
            assert_eq!(request.contract(), contract);
        }
        let reason = Text::lossy(&"x".repeat(300));
        let answers = [
            Answer::Log {
                from: 1,
                bytes: vec![0; LOG_CHUNK],
            },
            Answer::Status {
                state: State::Failed {
                    reason: Text::lossy(&"x".repeat(300)),
                },
                uptime_ms: 1,
                restarts: 2,
            },
            Answer::Refused { reason: reason.clone() },
            Answer::NotReady { reason },
            Answer::Tunnel,
        ];
        for answer in answers {
            assert_eq!(decode::<Answer>(&encode(&answer), MAX_ANSWER).unwrap(), answer);
        }
    }
}
