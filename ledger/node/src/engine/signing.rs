//! Signing and verifying over the chain's own bytes, so that a light client needs no engine.

use arc_malachitebft_app_channel::app::types::core::{
    NilOrVal, SignedMessage, ValidatorProof, VoteExtensionScope, VoteType,
};
use arc_malachitebft_signing::{Error, Signer, VerificationResult, Verifier};
use async_trait::async_trait;
use ledger::{
    Hash, PublicKey, Signature, SigningKey,
    consensus::{VoteKind, proposal_bytes, vote_bytes},
};

use super::types::{Chain, Proposal, Vote};

/// What is asked for has no meaning on this chain.
#[derive(Debug, thiserror::Error)]
#[error("{0} are not used on this chain")]
struct Unused(&'static str);

/// The step of a vote.
pub(super) fn kind_of(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

/// The bytes of a vote, or none for a vote in no round.
fn bytes_of_vote(chain: Hash, vote: &Vote) -> Option<Vec<u8>> {
    let block = match vote.block {
        NilOrVal::Nil => None,
        NilOrVal::Val(block) => Some(block.0),
    };
    Some(vote_bytes(
        chain,
        kind_of(vote.kind),
        vote.height.0,
        vote.round.as_u32()?,
        block,
    ))
}

fn bytes_of_proposal(chain: Hash, proposal: &Proposal) -> Option<Vec<u8>> {
    let valid_round = proposal.valid_round.as_u32();
    Some(proposal_bytes(
        chain,
        proposal.height.0,
        proposal.round.as_u32()?,
        proposal.block.0,
        valid_round,
    ))
}

/// Signs with the validator's key.
pub(super) struct Signing {
    pub(super) chain: Hash,
    pub(super) key: SigningKey,
}

impl Signing {
    fn sign<T>(&self, message: T, bytes: Option<Vec<u8>>) -> Result<SignedMessage<Chain, T>, Error> {
        let bytes = bytes.ok_or_else(|| Error::from_source(Unused("messages outside a round")))?;
        Ok(SignedMessage::new(message, self.key.sign_bytes(&bytes)))
    }
}

#[async_trait]
impl Signer<Chain> for Signing {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Chain, Vote>, Error> {
        let bytes = bytes_of_vote(self.chain, &vote);
        self.sign(vote, bytes)
    }

    async fn sign_proposal(&self, proposal: Proposal) -> Result<SignedMessage<Chain, Proposal>, Error> {
        let bytes = bytes_of_proposal(self.chain, &proposal);
        self.sign(proposal, bytes)
    }

    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<Chain>,
        (): (),
    ) -> Result<SignedMessage<Chain, ()>, Error> {
        Err(Error::from_source(Unused("vote extensions")))
    }

    /// Links prove who a peer is, so no such proof is ever given.
    async fn sign_validator_proof(&self, _: Vec<u8>, _: Vec<u8>) -> Result<ValidatorProof<Chain>, Error> {
        Err(Error::from_source(Unused("validator proofs")))
    }
}

/// Verifies what others signed.
pub(super) struct Verifying {
    pub(super) chain: Hash,
}

fn verify(bytes: Option<Vec<u8>>, signature: &Signature, key: &PublicKey) -> VerificationResult {
    VerificationResult::from_bool(bytes.is_some_and(|bytes| key.verifies_bytes(&bytes, signature)))
}

#[async_trait]
impl Verifier<Chain> for Verifying {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(verify(bytes_of_vote(self.chain, vote), signature, key))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(verify(bytes_of_proposal(self.chain, proposal), signature, key))
    }

    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Chain>,
        (): &(),
        _: &Signature,
        _: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(&self, _: &ValidatorProof<Chain>) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }
}
