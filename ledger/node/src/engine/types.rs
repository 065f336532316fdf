//! The chain's own types in the shapes that the consensus engine asks for.

use std::fmt;

use arc_malachitebft_app_channel::app::types::core as engine;
use borsh::{BorshDeserialize, BorshSerialize};
use engine::{NilOrVal, Round, VoteType, VotingPower};
use ledger::{Hash, PublicKey, Signature, ValidatorSet};

/// Names all the types below to the engine, and selects proposers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain;

/// Height of a block; the first block has height 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub(super) struct Height(pub(super) u64);

impl fmt::Display for Height {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl engine::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's address is its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(super) struct Address(pub(super) PublicKey);

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl engine::Address for Address {}

/// What is agreed on: the id of a block. The block's bytes travel beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(super) struct BlockId(pub(super) Hash);

impl fmt::Display for BlockId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl engine::Value for BlockId {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

/// One validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    address: Address,
    /// Key of its peer link.
    pub(super) link: PublicKey,
    power: VotingPower,
}

impl engine::Validator<Chain> for Member {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.address.0
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// The validators of a height, in ascending order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Members(pub(super) Vec<Member>);

impl From<&ValidatorSet> for Members {
    fn from(set: &ValidatorSet) -> Self {
        let member = |v: &ledger::Validator| Member {
            address: Address(v.key),
            link: v.link,
            power: v.power,
        };
        Self(set.validators().iter().map(member).collect())
    }
}

impl engine::ValidatorSet<Chain> for Members {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.iter().map(|member| member.power).sum()
    }

    fn get_by_address(&self, address: &Address) -> Option<&Member> {
        self.0.iter().find(|member| member.address == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.0.get(index)
    }
}

/// A proposer's word: this block, at this height and round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) block: BlockId,
    pub(super) valid_round: Round,
    pub(super) proposer: Address,
}

impl engine::Proposal<Chain> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.block
    }

    fn take_value(self) -> BlockId {
        self.block
    }

    fn pol_round(&self) -> Round {
        self.valid_round
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// A piece of a block's bytes on its way to the other validators. The stream's end follows the last piece.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Part {
    /// What the pieces will make up.
    Head(Head),
    /// The next bytes.
    Piece(Vec<u8>),
}

/// Announces the bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Head {
    pub(super) height: u64,
    pub(super) round: u32,
    pub(super) valid_round: Option<u32>,
    pub(super) proposer: PublicKey,
    pub(super) block: Hash,
    /// Length of the block in bytes.
    pub(super) size: u32,
}

impl engine::ProposalPart<Chain> for Part {
    fn is_first(&self) -> bool {
        matches!(self, Self::Head(_))
    }

    /// The end of the stream is a message of its own.
    fn is_last(&self) -> bool {
        false
    }
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) kind: VoteType,
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) block: NilOrVal<BlockId>,
    pub(super) voter: Address,
}

/// There are no vote extensions.
impl engine::Vote<Chain> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.block
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.block
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.voter
    }

    fn extension(&self) -> Option<&engine::SignedExtension<Chain>> {
        None
    }

    fn take_extension(&mut self) -> Option<engine::SignedExtension<Chain>> {
        None
    }

    fn extend(self, _: engine::SignedExtension<Chain>) -> Self {
        self
    }
}

/// ed25519, strictly verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ed25519;

impl engine::SigningScheme for Ed25519 {
    type DecodingError = std::array::TryFromSliceError;
    type Signature = Signature;
    type PublicKey = PublicKey;
    /// The engine never sees it.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, Self::DecodingError> {
        bytes.try_into().map(Signature::from_bytes)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.as_bytes().to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, Self::DecodingError> {
        bytes.try_into().map(PublicKey::from_bytes)
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
}

impl engine::Context for Chain {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Member;
    type ValidatorSet = Members;
    type Timeouts = engine::LinearTimeouts;
    type Value = BlockId;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, set: &'a Members, height: Height, round: Round) -> &'a Member {
        let turn = height.0.wrapping_add(u64::from(round.as_u32().unwrap_or(0)));
        &set.0[proposer_of(&set.0.iter().map(|member| member.power).collect::<Vec<_>>(), turn)]
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        block: BlockId,
        valid_round: Round,
        proposer: Address,
    ) -> Proposal {
        Proposal {
            height,
            round,
            block,
            valid_round,
            proposer,
        }
    }

    fn new_prevote(&self, height: Height, round: Round, block: NilOrVal<BlockId>, voter: Address) -> Vote {
        Vote {
            kind: VoteType::Prevote,
            height,
            round,
            block,
            voter,
        }
    }

    fn new_precommit(&self, height: Height, round: Round, block: NilOrVal<BlockId>, voter: Address) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height,
            round,
            block,
            voter,
        }
    }
}

/// Index of the proposer of a turn, by weighted rotation: over as many turns as there is power (divided by its greatest
/// common divisor), each validator has as many turns as it has power, spread evenly.
///
/// The powers' place on a ring is walked in steps of about the golden section, the step coprime to the ring's length, so
/// that each place is visited once a revolution and the turns of a mighty validator do not follow one another.
fn proposer_of(powers: &[u64], turn: u64) -> usize {
    let divisor = powers.iter().copied().fold(0, greatest_common_divisor).max(1);
    let total: u64 = powers.iter().map(|power| power / divisor).sum();
    if total == 0 {
        return 0;
    }
    let golden = u64::try_from(u128::from(total) * 618 / 1000).unwrap_or(1).max(1);
    let step = (golden..=total)
        .find(|step| greatest_common_divisor(*step, total) == 1)
        .unwrap_or(1);
    let place = u64::try_from(u128::from(turn % total) * u128::from(step) % u128::from(total)).unwrap_or(0);
    let mut end = 0;
    powers
        .iter()
        .position(|power| {
            end += power / divisor;
            place < end
        })
        .unwrap_or(0)
}

const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_validator_proposes_in_proportion_to_its_power() {
        for powers in [vec![1], vec![5, 5, 5, 5], vec![1, 2, 3], vec![100, 1, 1], vec![7; 10]] {
            let divisor = powers.iter().copied().fold(0, greatest_common_divisor);
            let revolution = powers.iter().sum::<u64>() / divisor;
            let mut turns = vec![0; powers.len()];
            for turn in 1000..1000 + revolution {
                turns[proposer_of(&powers, turn)] += divisor;
            }
            assert_eq!(turns, powers);
        }
    }

    #[test]
    fn equal_validators_take_turns_so_that_a_dead_one_delays_one_round() {
        for turn in 0..50 {
            assert_ne!(proposer_of(&[1; 4], turn), proposer_of(&[1; 4], turn + 1));
        }
    }

    #[test]
    fn huge_powers_neither_overflow_nor_hang() {
        let powers = [(1 << 62) - 1, 1 << 61];
        assert!(proposer_of(&powers, u64::MAX) < 2);
    }
}
