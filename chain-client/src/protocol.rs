//! The ledger protocol: one request on a stream, one answer; [`Request::Watch`] alone is answered by a frame for each new
//! head until the stream ends. Frames are Borsh.

use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use ledger::{
    Block, Certificate, CertifiedHeader, Genesis, Hash, Height, Record, RecordKey, Refusal, SignedTransaction,
    encoding::{MAX_BLOCK, MAX_RECORD, MAX_TRANSACTION},
    light::RecordProof,
    query::{Position, Query},
    tree::{Region, RegionProof},
};
use peer_link::PeerAddress;

/// Longest request in bytes: a sealed text with its length.
pub const MAX_REQUEST: usize = MAX_SEALED + MAX_TRANSACTION;
/// Most bytes of transactions that are passed on at once.
pub const MAX_RELAYED: usize = MAX_SEALED;
/// Longest answer in bytes: a full page of records with their proofs.
pub const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// Longest answer with blocks in bytes: the longest block with the certificate of the largest validator set.
pub const MAX_BLOCKS: usize = MAX_BLOCK + 64 * 1024;
/// Longest sealed text that is held, in bytes.
pub const MAX_SEALED: usize = 64 * 1024;
/// Most records asked for at once.
pub const MAX_KEYS: usize = 16;
/// Most hits or handovers in one answer.
pub const PAGE: usize = 256;
/// Most versions in one answer.
pub const HISTORY_PAGE: usize = MAX_ANSWER / MAX_RECORD / 2;
/// Most leaves of the state tree in one answer.
pub const MAX_LEAVES: usize = 2_048;
/// Longest time that an answer waits for a block.
pub const BLOCK_WAIT: Duration = Duration::from_secs(5);
/// Time in which an answer comes.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[expect(clippy::large_enum_variant, reason = "requests are short-lived")]
pub enum Request {
    /// The genesis.
    Genesis,
    /// The newest certified header, after the handovers above a height.
    Head {
        /// Height up to which handovers are known.
        after: Height,
    },
    /// The latest versions of at most [`MAX_KEYS`] records, proven against the newest header.
    Records(Vec<RecordKey>),
    /// Which records match a query, in ascending order, at most [`PAGE`].
    Search {
        /// What is looked for.
        query: Query,
        /// Only what stands above this.
        after: Option<Position>,
        /// Most of one farm, where the search goes farm by farm.
        each: u16,
    },
    /// One version of a record, by its hash.
    Version(Hash),
    /// The versions before one, newest first, at most [`HISTORY_PAGE`].
    History {
        /// Hash of the newest version that is wanted.
        from: Hash,
    },
    /// Puts a transaction among those that wait for a block.
    Submit(SignedTransaction),
    /// Holds a sealed text until the contract that names its hash has ended.
    Hold(Vec<u8>),
    /// A sealed text that is held.
    Sealed(Hash),
    /// Every new head from now on.
    Watch,
    /// Puts transactions of [`MAX_RELAYED`] bytes at most among those that wait, as [`Self::Submit`] does for one; what breaks a rule
    /// is dropped. Validators pass on by it what others submit to them.
    Relay(Vec<SignedTransaction>),
    /// Tells where the asking validator is reached, and asks where others are.
    Acquaint(PeerAddress),
    /// The blocks above a height with their certificates, as many as fit into [`MAX_BLOCKS`].
    Blocks {
        /// The highest block that is known.
        after: Height,
        /// How long the answer is to wait for a block where there is none yet, in milliseconds, at most [`BLOCK_WAIT`]; it is
        /// empty then.
        wait_ms: u16,
    },
    /// At most [`MAX_KEYS`] records as they were after a block, proven against its header.
    RecordsAt {
        /// Height of the block.
        height: Height,
        /// The records.
        keys: Vec<RecordKey>,
    },
    /// All that stands in a region of the state tree after a block, proven against its header.
    Region {
        /// Height of the block; the newest without one.
        height: Option<Height>,
        /// The region.
        region: Region,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// To [`Request::Genesis`].
    Genesis(Genesis),
    /// To [`Request::Head`] and [`Request::Watch`].
    Head {
        /// Handovers in ascending order of height, at most [`PAGE`]; where there are more, `head` is the last of these.
        handovers: Vec<CertifiedHeader>,
        /// The newest header.
        head: CertifiedHeader,
    },
    /// To [`Request::Records`] and [`Request::RecordsAt`].
    Records {
        /// The header that the proofs lead to.
        head: CertifiedHeader,
        /// A proof for each key, in their order.
        proofs: Vec<RecordProof>,
    },
    /// To [`Request::Search`].
    Found {
        /// The hits, in ascending order.
        hits: Vec<Position>,
        /// Where to go on; `None` at the end.
        next: Option<Position>,
    },
    /// To [`Request::Version`] and [`Request::History`].
    Versions(Vec<Record>),
    /// To [`Request::Submit`], [`Request::Hold`] and [`Request::Relay`]: taken.
    Taken,
    /// To [`Request::Submit`]: it breaks a rule.
    Refused(Refusal),
    /// To [`Request::Sealed`].
    Sealed(Vec<u8>),
    /// The peer cannot answer, with one line that says why.
    Unable(String),
    /// To [`Request::Acquaint`]: where the peer itself is reached, and the validators that it knows.
    Peers(Vec<PeerAddress>),
    /// To [`Request::Blocks`], in ascending order without a gap.
    Blocks(Vec<(Block, Certificate)>),
    /// To [`Request::Region`].
    Region {
        /// The header that the proof leads to.
        head: CertifiedHeader,
        /// The proof; nothing where there are more than [`MAX_LEAVES`] leaves, and each half is to be asked for.
        proof: Option<RegionProof>,
    },
}
