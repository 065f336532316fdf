//! What the engine saw a validator sign twice, in the chain's own terms.

use arc_malachitebft_app_channel::app::types::{
    MisbehaviorEvidence,
    core::{NilOrVal, SignedMessage},
};
use ledger::body::{Misconduct, Pair};

use super::{
    signing::kind_of,
    types::{Chain, Proposal, Vote},
};

/// The statements that exclude each other, one proof for each pair of them that is one.
pub(super) fn misconduct_of(evidence: &MisbehaviorEvidence<Chain>) -> Vec<Misconduct> {
    let votes = evidence.votes.iter().flat_map(|(_, pairs)| pairs);
    let proposals = evidence.proposals.iter().flat_map(|(_, pairs)| pairs);
    votes
        .filter_map(|(first, second)| of_votes(first, second))
        .chain(proposals.filter_map(|(first, second)| of_proposals(first, second)))
        .collect()
}

fn of_votes(first: &SignedMessage<Chain, Vote>, second: &SignedMessage<Chain, Vote>) -> Option<Misconduct> {
    let (one, other) = (&first.message, &second.message);
    let (height, round) = (one.height.0, one.round.as_u32()?);
    let statement = |signed: &SignedMessage<Chain, Vote>| {
        let block = match signed.message.block {
            NilOrVal::Nil => None,
            NilOrVal::Val(block) => Some(block.0),
        };
        (block, signed.signature)
    };
    let mut pair = [statement(first), statement(second)];
    pair.sort();
    let same_step = (one.kind, one.height, one.round) == (other.kind, other.height, other.round);
    (same_step && pair[0].0 != pair[1].0).then_some(Misconduct {
        validator: one.voter.0,
        height,
        round,
        pair: Pair::Votes(kind_of(one.kind), pair),
    })
}

/// Proposals of one block that differ in what they say of earlier rounds are no proof that a third party could judge.
fn of_proposals(first: &SignedMessage<Chain, Proposal>, second: &SignedMessage<Chain, Proposal>) -> Option<Misconduct> {
    let (one, other) = (&first.message, &second.message);
    let (height, round) = (one.height.0, one.round.as_u32()?);
    let statement = |signed: &SignedMessage<Chain, Proposal>| {
        let proposal = &signed.message;
        (proposal.block.0, proposal.valid_round.as_u32(), signed.signature)
    };
    let mut pair = [statement(first), statement(second)];
    pair.sort();
    let same_round = (one.height, one.round) == (other.height, other.round);
    (same_round && pair[0].0 != pair[1].0).then_some(Misconduct {
        validator: one.proposer.0,
        height,
        round,
        pair: Pair::Proposals(pair),
    })
}
