//! What stands on the chain of one record, with all that proves it: to be kept, passed on and verified without asking anybody.

use serde::{Deserialize, Serialize};

use crate::{
    block::{CertifiedHeader, Header},
    genesis::Genesis,
    hash::Hash,
    light::{LightClient, LightError, RecordProof, verify_history},
    record::{Record, RecordKey},
};

/// A record as it was after a block, with its history, and the way there from the genesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excerpt {
    /// The chain's genesis.
    pub genesis: Genesis,
    /// The handovers before the block, in ascending order of height.
    pub handovers: Vec<CertifiedHeader>,
    /// The block's header.
    pub head: CertifiedHeader,
    /// Which record it is.
    pub key: RecordKey,
    /// Its latest version after the block, or that there was none.
    pub proof: RecordProof,
    /// The versions before, newest first, back to version 1.
    pub earlier: Vec<Record>,
}

/// What an excerpt proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpted {
    /// The header of the block after which the newest version was the latest one.
    pub header: Header,
    /// The record's versions, newest first; none where it is proven that there was none.
    pub versions: Vec<Record>,
}

impl Excerpt {
    /// Verifies all of it from the genesis hash on.
    ///
    /// # Errors
    /// [`LightError`] names the check that failed.
    pub fn verify(self, chain: Hash) -> Result<Excerpted, LightError> {
        let mut light = LightClient::new(chain, &self.genesis)?;
        for handover in &self.handovers {
            light.advance(handover)?;
        }
        light.advance(&self.head)?;
        let mut versions = Vec::new();
        if let Some(latest) = light.verify_record(self.key, self.proof)? {
            verify_history(&latest, &self.earlier)?;
            versions.push(latest);
            versions.extend(self.earlier);
        } else if let Some(record) = self.earlier.first() {
            return Err(LightError::BrokenHistory(self.key, record.version));
        }
        let header = self.head.header;
        Ok(Excerpted { header, versions })
    }
}
