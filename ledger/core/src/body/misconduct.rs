//! Misconduct: two statements of one validator that exclude each other, kept as what they are, proof of a lie.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    consensus::{VoteKind, proposal_bytes, vote_bytes},
    hash::Hash,
    key::{PublicKey, Signature},
    record::{Id, Kind},
    unit::Height,
};

/// What a validator signed twice at one height. Whoever has its key did it: the machine, two machines with the same keys, or a
/// thief.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Misconduct {
    /// The validator.
    pub validator: PublicKey,
    /// The height.
    pub height: Height,
    /// The round.
    pub round: u32,
    /// The two statements.
    pub pair: Pair,
}

/// Two statements of the same round, that for the lower block, or none, first.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pair {
    /// Votes of the same step.
    Votes(VoteKind, [(Option<Hash>, Signature); 2]),
    /// Proposals; each with the round in which two thirds had prevoted for its block before, if any.
    Proposals([(Hash, Option<u32>, Signature); 2]),
}

/// Why two statements prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MisconductError {
    /// They are for the same block, or in the wrong order.
    #[error("the statements are not for two blocks in ascending order")]
    Order,
    /// One is not signed by the validator.
    #[error("a statement is not signed by the validator")]
    Forged,
}

impl Misconduct {
    /// The id under which the misconduct of a validator at a height is kept: once, whatever else it signed there.
    #[must_use]
    pub fn id(&self) -> Id {
        Id::found(Kind::Misconduct, &(self.validator, self.height))
    }

    /// Checks that the validator has signed both statements and could not have signed both in good faith.
    ///
    /// # Errors
    /// [`MisconductError`] names the check that failed.
    pub fn check(&self, chain: Hash) -> Result<(), MisconductError> {
        let Self {
            validator,
            height,
            round,
            pair,
        } = self;
        let (ascending, signed) = match pair {
            Pair::Votes(kind, votes) => (
                votes[0].0 < votes[1].0,
                votes.each_ref().map(|(block, signature)| {
                    let bytes = vote_bytes(chain, *kind, *height, *round, *block);
                    validator.verifies_bytes(&bytes, signature)
                }),
            ),
            Pair::Proposals(proposals) => (
                proposals[0].0 < proposals[1].0,
                proposals.each_ref().map(|(block, valid_round, signature)| {
                    let bytes = proposal_bytes(chain, *height, *round, *block, *valid_round);
                    validator.verifies_bytes(&bytes, signature)
                }),
            ),
        };
        if !ascending {
            return Err(MisconductError::Order);
        }
        if signed == [true, true] {
            Ok(())
        } else {
            Err(MisconductError::Forged)
        }
    }
}
