//! The light client: trusts the genesis hash and nothing else.
//!
//! It follows certified headers. A header counts when more than two thirds of the voting power of the set in force signed it;
//! the set in force is the genesis' until a certified header hands over to another one, so the work grows with changes of the
//! set and not with blocks. What a record says counts when a proof leads from it to the state root of a trusted header.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    block::{CertifiedHeader, Header},
    consensus::{CertificateError, ValidatorSet, ValidatorSetError},
    genesis::{Genesis, GenesisError},
    hash::Hash,
    record::{Id, Kind, Record, RecordKey},
    tree::{Proof, ProofError},
    unit::Height,
};

/// Why something that a peer said is not believed. Each variant is the name of the check that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The genesis is not the trusted one.
    #[error("wrong genesis: its hash is {actual}, expected {expected}")]
    WrongGenesis {
        /// Hash of what was received.
        actual: Hash,
        /// The trusted hash.
        expected: Hash,
    },
    /// The genesis breaks a rule.
    #[error("bad genesis")]
    BadGenesis(#[source] GenesisError),
    /// The header is of another chain.
    #[error("other chain: header of {0}")]
    OtherChain(Hash),
    /// The header is older than what was verified before.
    #[error("stale head: height {given}, but {trusted} is verified")]
    StaleHead {
        /// Height of the header.
        given: Height,
        /// Height that is verified.
        trusted: Height,
    },
    /// Another block was certified at the verified height: two thirds of the validators lied.
    #[error("conflicting head: block {given} at height {height}, but {trusted} is verified")]
    ConflictingHead {
        /// The height.
        height: Height,
        /// Block of the header.
        given: Hash,
        /// Block that is verified.
        trusted: Hash,
    },
    /// The header is certified by a set that is not in force, or a handover is missing before it.
    #[error("wrong validator set: header of height {height} names {given}, in force is {in_force}")]
    WrongValidatorSet {
        /// Height of the header.
        height: Height,
        /// The set that it names.
        given: Hash,
        /// The set in force.
        in_force: Hash,
    },
    /// The certificate belongs to another block.
    #[error("certificate of another block: height {height}, block {block}")]
    OtherBlock {
        /// Height of the certificate.
        height: Height,
        /// Block of the certificate.
        block: Hash,
    },
    /// The certificate proves nothing.
    #[error("forged certificate")]
    ForgedCertificate(#[source] CertificateError),
    /// The set that a header hands over to is missing, or is not the one that it names.
    #[error("bad handover at height {0}")]
    BadHandover(Height),
    /// The set that a header hands over to breaks a rule.
    #[error("bad handover set")]
    BadHandoverSet(#[source] ValidatorSetError),
    /// Nothing is verified yet, so nothing can be proven.
    #[error("no verified head")]
    NoHead,
    /// A proof does not lead from the record to the trusted root.
    #[error("bad proof of {key}")]
    BadProof {
        /// The record.
        key: RecordKey,
        /// The check.
        #[source]
        error: ProofError,
    },
    /// A proof does not lead from a region's leaves to the trusted root.
    #[error("bad proof of a set")]
    BadRegion(#[source] ProofError),
    /// The record is not the one whose hash was proven.
    #[error("altered record: {0} is not the version that was proven")]
    AlteredRecord(RecordKey),
    /// A record that was proven to exist was left out.
    #[error("missing record: {0} was proven to exist and not sent")]
    WithheldRecord(RecordKey),
    /// Contracts of a node were left out, or others slipped in.
    #[error("truncated contract set of node {0}")]
    TruncatedSet(Id),
    /// A version does not link to the one before.
    #[error("broken history of {0}: version {1} does not link to the one before")]
    BrokenHistory(RecordKey, u64),
}

impl LightError {
    /// The name of the check that failed; the text of the error begins with it.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::WrongGenesis { .. } => "wrong genesis",
            Self::BadGenesis(_) => "bad genesis",
            Self::OtherChain(_) => "other chain",
            Self::StaleHead { .. } => "stale head",
            Self::ConflictingHead { .. } => "conflicting head",
            Self::WrongValidatorSet { .. } => "wrong validator set",
            Self::OtherBlock { .. } => "certificate of another block",
            Self::ForgedCertificate(_) => "forged certificate",
            Self::BadHandover(_) => "bad handover",
            Self::BadHandoverSet(_) => "bad handover set",
            Self::NoHead => "no verified head",
            Self::BadProof { .. } => "bad proof",
            Self::BadRegion(_) => "bad proof of a set",
            Self::AlteredRecord(_) => "altered record",
            Self::WithheldRecord(_) => "missing record",
            Self::TruncatedSet(_) => "truncated contract set",
            Self::BrokenHistory(..) => "broken history",
        }
    }
}

/// What a peer says of a record: its latest version or that there is none, with the proof.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RecordProof {
    /// The latest version.
    pub record: Option<Record>,
    /// The way from it to the state root.
    pub proof: Proof,
}

impl RecordProof {
    /// Checks the proof for `key` against a trusted state root.
    ///
    /// # Errors
    /// [`LightError`] names the check that failed.
    pub fn verify(self, root: Hash, key: RecordKey) -> Result<Option<Record>, LightError> {
        let value = self
            .proof
            .verify(root, key.path())
            .map_err(|error| LightError::BadProof { key, error })?;
        match (value, self.record) {
            (None, None) => Ok(None),
            (Some(value), Some(record)) if record.hash() == value && record.key() == key => Ok(Some(record)),
            // The set of a node's contracts is one record: another one than the proven leaves some out or slips some in.
            _ if key.kind == Kind::Assignments => Err(LightError::TruncatedSet(key.id)),
            (Some(_), None) => Err(LightError::WithheldRecord(key)),
            (_, Some(_)) => Err(LightError::AlteredRecord(key)),
        }
    }
}

/// Checks that `earlier` is the whole history before `latest`, newest first, back to version 1.
///
/// # Errors
/// [`LightError::BrokenHistory`] names the first version that does not fit.
pub fn verify_history(latest: &Record, earlier: &[Record]) -> Result<(), LightError> {
    let mut after = latest;
    for record in earlier {
        if !after.follows(record) {
            return Err(LightError::BrokenHistory(latest.key(), after.version));
        }
        after = record;
    }
    if after.version == 1 && after.previous == Hash::ZERO {
        Ok(())
    } else {
        Err(LightError::BrokenHistory(latest.key(), after.version))
    }
}

/// What a light client has verified so far. This is what it keeps over a restart.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LightClient {
    chain: Hash,
    /// The set in force for the next header.
    validators: ValidatorSet,
    head: Option<Header>,
}

impl LightClient {
    /// Starts from a genesis, if it is the one whose hash is trusted.
    ///
    /// # Errors
    /// [`LightError`] when it is another one or breaks a rule.
    pub fn new(trusted: Hash, genesis: &Genesis) -> Result<Self, LightError> {
        let actual = genesis.hash();
        if actual != trusted {
            return Err(LightError::WrongGenesis {
                actual,
                expected: trusted,
            });
        }
        genesis.check().map_err(LightError::BadGenesis)?;
        Ok(Self {
            chain: trusted,
            validators: genesis.validators.clone(),
            head: None,
        })
    }

    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.chain
    }

    /// The newest verified header.
    #[must_use]
    pub fn head(&self) -> Option<&Header> {
        self.head.as_ref()
    }

    /// Height of the newest verified header, 0 before the first.
    #[must_use]
    pub fn height(&self) -> Height {
        self.head.as_ref().map_or(0, |head| head.height)
    }

    /// Verifies a newer header and trusts it from then on. The verified one again changes nothing and is no error.
    ///
    /// # Errors
    /// [`LightError`] names the check that failed; the client has not changed then.
    pub fn advance(&mut self, certified: &CertifiedHeader) -> Result<(), LightError> {
        let header = &certified.header;
        if header.chain != self.chain {
            return Err(LightError::OtherChain(header.chain));
        }
        let id = header.id();
        if let Some(head) = &self.head {
            if header.height < head.height {
                return Err(LightError::StaleHead {
                    given: header.height,
                    trusted: head.height,
                });
            }
            if id == head.id() {
                return Ok(());
            }
        }
        self.check_certificate(certified, id)?;
        // Only what is certified as well conflicts; anything else is a forgery like every other.
        if let Some(head) = self.head.as_ref().filter(|head| head.height == header.height) {
            return Err(LightError::ConflictingHead {
                height: head.height,
                given: id,
                trusted: head.id(),
            });
        }
        if header.next_validators != header.validators {
            let set = certified
                .handover
                .as_ref()
                .ok_or(LightError::BadHandover(header.height))?;
            set.check().map_err(LightError::BadHandoverSet)?;
            if set.hash() != header.next_validators {
                return Err(LightError::BadHandover(header.height));
            }
            self.validators = set.clone();
        }
        self.head = Some(header.clone());
        Ok(())
    }

    fn check_certificate(&self, certified: &CertifiedHeader, id: Hash) -> Result<(), LightError> {
        let (header, certificate) = (&certified.header, &certified.certificate);
        let in_force = self.validators.hash();
        if header.validators != in_force {
            let (height, given) = (header.height, header.validators);
            return Err(LightError::WrongValidatorSet {
                height,
                given,
                in_force,
            });
        }
        if certificate.height != header.height || certificate.block != id {
            return Err(LightError::OtherBlock {
                height: certificate.height,
                block: certificate.block,
            });
        }
        certificate
            .verify(self.chain, &self.validators)
            .map_err(LightError::ForgedCertificate)
    }

    /// Checks what a peer says of a record against the newest verified header.
    ///
    /// # Errors
    /// [`LightError`] names the check that failed.
    pub fn verify_record(&self, key: RecordKey, proof: RecordProof) -> Result<Option<Record>, LightError> {
        let head = self.head.as_ref().ok_or(LightError::NoHead)?;
        proof.verify(head.state, key)
    }
}
