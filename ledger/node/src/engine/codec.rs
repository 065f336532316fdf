//! The engine's messages in borsh: in its write-ahead log and between validators.

use std::io;

use arc_malachitebft_app_channel::app::{
    consensus::LivenessMsg,
    streaming::{StreamContent, StreamId, StreamMessage},
    types::{
        PeerId, ProposedValue, SignedConsensusMsg,
        codec::{Codec, HasEncodedLen},
        core::{
            ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal, PolkaCertificate, PolkaSignature, Round,
            RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage, Validity, VoteType,
        },
        sync::{RawDecidedValue, Request, Response, Status},
    },
};
use arc_malachitebft_sync::{ValueRequest, ValueResponse};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use ledger::{
    Certificate, Hash, PublicKey, Signature,
    consensus::{CommitSignature, VoteKind},
};

use super::types::{Address, BlockId, Chain, Height, Part, Proposal, Vote};

/// Encodes and decodes through the mirror types of this module.
#[derive(Debug, Clone, Copy)]
pub(super) struct BorshCodec;

/// A type of the engine that has a mirror with a binary form.
pub(super) trait Mirrored: Sized {
    /// The mirror.
    type Mirror: BorshSerialize + BorshDeserialize;
    /// To the mirror.
    fn mirror(&self) -> Self::Mirror;
    /// Back from the mirror.
    fn restore(mirror: Self::Mirror) -> Result<Self, io::Error>;
}

impl<T: Mirrored> Codec<T> for BorshCodec {
    type Error = io::Error;

    fn decode(&self, bytes: Bytes) -> Result<T, io::Error> {
        T::restore(borsh::from_slice(&bytes)?)
    }

    fn encode(&self, message: &T) -> Result<Bytes, io::Error> {
        borsh::to_vec(&message.mirror()).map(Bytes::from)
    }
}

impl HasEncodedLen<Response<Chain>> for BorshCodec {
    fn encoded_len(&self, response: &Response<Chain>) -> Result<usize, io::Error> {
        borsh::object_length(&response.mirror())
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum SignedMirror {
    Vote(VoteMirror),
    Proposal(ProposalMirror),
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct VoteMirror {
    kind: VoteKind,
    height: u64,
    round: Option<u32>,
    block: Option<Hash>,
    voter: PublicKey,
    signature: Signature,
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct ProposalMirror {
    height: u64,
    round: Option<u32>,
    block: Hash,
    valid_round: Option<u32>,
    proposer: PublicKey,
    signature: Signature,
}

fn kind_of(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

fn type_of(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

fn block_of(block: &NilOrVal<BlockId>) -> Option<Hash> {
    match block {
        NilOrVal::Nil => None,
        NilOrVal::Val(block) => Some(block.0),
    }
}

fn nil_or(block: Option<Hash>) -> NilOrVal<BlockId> {
    block.map_or(NilOrVal::Nil, |block| NilOrVal::Val(BlockId(block)))
}

fn vote_mirror(signed: &SignedMessage<Chain, Vote>) -> VoteMirror {
    let Vote {
        kind,
        height,
        round,
        ref block,
        voter,
    } = signed.message;
    VoteMirror {
        kind: kind_of(kind),
        height: height.0,
        round: round.as_u32(),
        block: block_of(block),
        voter: voter.0,
        signature: signed.signature,
    }
}

fn restore_vote(mirror: VoteMirror) -> SignedMessage<Chain, Vote> {
    let vote = Vote {
        kind: type_of(mirror.kind),
        height: Height(mirror.height),
        round: mirror.round.into(),
        block: nil_or(mirror.block),
        voter: Address(mirror.voter),
    };
    SignedMessage::new(vote, mirror.signature)
}

impl Mirrored for SignedConsensusMsg<Chain> {
    type Mirror = SignedMirror;

    fn mirror(&self) -> SignedMirror {
        match self {
            Self::Vote(vote) => SignedMirror::Vote(vote_mirror(vote)),
            Self::Proposal(signed) => {
                let Proposal {
                    height,
                    round,
                    block,
                    valid_round,
                    proposer,
                } = signed.message;
                SignedMirror::Proposal(ProposalMirror {
                    height: height.0,
                    round: round.as_u32(),
                    block: block.0,
                    valid_round: valid_round.as_u32(),
                    proposer: proposer.0,
                    signature: signed.signature,
                })
            }
        }
    }

    fn restore(mirror: SignedMirror) -> Result<Self, io::Error> {
        Ok(match mirror {
            SignedMirror::Vote(vote) => Self::Vote(restore_vote(vote)),
            SignedMirror::Proposal(mirror) => {
                let proposal = Proposal {
                    height: Height(mirror.height),
                    round: mirror.round.into(),
                    block: BlockId(mirror.block),
                    valid_round: mirror.valid_round.into(),
                    proposer: Address(mirror.proposer),
                };
                Self::Proposal(SignedMessage::new(proposal, mirror.signature))
            }
        })
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct ProposedMirror {
    height: u64,
    round: Option<u32>,
    valid_round: Option<u32>,
    proposer: PublicKey,
    block: Hash,
    valid: bool,
}

impl Mirrored for ProposedValue<Chain> {
    type Mirror = ProposedMirror;

    fn mirror(&self) -> ProposedMirror {
        ProposedMirror {
            height: self.height.0,
            round: self.round.as_u32(),
            valid_round: self.valid_round.as_u32(),
            proposer: self.proposer.0,
            block: self.value.0,
            valid: self.validity.is_valid(),
        }
    }

    fn restore(mirror: ProposedMirror) -> Result<Self, io::Error> {
        Ok(Self {
            height: Height(mirror.height),
            round: mirror.round.into(),
            valid_round: mirror.valid_round.into(),
            proposer: Address(mirror.proposer),
            value: BlockId(mirror.block),
            validity: Validity::from_bool(mirror.valid),
        })
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct PolkaMirror {
    height: u64,
    round: Option<u32>,
    block: Hash,
    signatures: Vec<CommitSignature>,
}

impl Mirrored for PolkaCertificate<Chain> {
    type Mirror = PolkaMirror;

    fn mirror(&self) -> PolkaMirror {
        let signature = |s: &PolkaSignature<Chain>| CommitSignature {
            validator: s.address.0,
            signature: s.signature,
        };
        PolkaMirror {
            height: self.height.0,
            round: self.round.as_u32(),
            block: self.value_id.0,
            signatures: self.polka_signatures.iter().map(signature).collect(),
        }
    }

    fn restore(mirror: PolkaMirror) -> Result<Self, io::Error> {
        let signature = |s: CommitSignature| PolkaSignature::new(Address(s.validator), s.signature);
        Ok(Self {
            height: Height(mirror.height),
            round: mirror.round.into(),
            value_id: BlockId(mirror.block),
            polka_signatures: mirror.signatures.into_iter().map(signature).collect(),
        })
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct RoundMirror {
    height: u64,
    round: Option<u32>,
    skip: bool,
    signatures: Vec<(VoteKind, Option<Hash>, PublicKey, Signature)>,
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum LivenessMirror {
    Vote(VoteMirror),
    Polka(PolkaMirror),
    SkipRound(RoundMirror),
}

impl Mirrored for LivenessMsg<Chain> {
    type Mirror = LivenessMirror;

    fn mirror(&self) -> LivenessMirror {
        match self {
            Self::Vote(vote) => LivenessMirror::Vote(vote_mirror(vote)),
            Self::PolkaCertificate(certificate) => LivenessMirror::Polka(certificate.mirror()),
            Self::SkipRoundCertificate(certificate) => LivenessMirror::SkipRound(RoundMirror {
                height: certificate.height.0,
                round: certificate.round.as_u32(),
                skip: certificate.cert_type == RoundCertificateType::Skip,
                signatures: certificate
                    .round_signatures
                    .iter()
                    .map(|s| (kind_of(s.vote_type), block_of(&s.value_id), s.address.0, s.signature))
                    .collect(),
            }),
        }
    }

    fn restore(mirror: LivenessMirror) -> Result<Self, io::Error> {
        Ok(match mirror {
            LivenessMirror::Vote(vote) => Self::Vote(restore_vote(vote)),
            LivenessMirror::Polka(polka) => Self::PolkaCertificate(PolkaCertificate::restore(polka)?),
            LivenessMirror::SkipRound(mirror) => Self::SkipRoundCertificate(RoundCertificate {
                height: Height(mirror.height),
                round: mirror.round.into(),
                cert_type: if mirror.skip {
                    RoundCertificateType::Skip
                } else {
                    RoundCertificateType::Precommit
                },
                round_signatures: mirror
                    .signatures
                    .into_iter()
                    .map(|(kind, block, voter, signature)| {
                        RoundSignature::new(type_of(kind), nil_or(block), Address(voter), signature)
                    })
                    .collect(),
            }),
        })
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct StreamMirror {
    stream: Vec<u8>,
    sequence: u64,
    content: Option<Part>,
}

impl Mirrored for StreamMessage<Part> {
    type Mirror = StreamMirror;

    fn mirror(&self) -> StreamMirror {
        StreamMirror {
            stream: self.stream_id.to_bytes().to_vec(),
            sequence: self.sequence,
            content: self.content.as_data().cloned(),
        }
    }

    fn restore(mirror: StreamMirror) -> Result<Self, io::Error> {
        let content = mirror.content.map_or(StreamContent::Fin, StreamContent::Data);
        Ok(Self::new(StreamId::new(mirror.stream.into()), mirror.sequence, content))
    }
}

impl Mirrored for Status<Chain> {
    type Mirror = (Vec<u8>, u64, u64);

    fn mirror(&self) -> Self::Mirror {
        (self.peer_id.to_bytes(), self.tip_height.0, self.history_min_height.0)
    }

    fn restore((peer, tip, first): Self::Mirror) -> Result<Self, io::Error> {
        let peer_id = PeerId::from_bytes(&peer).map_err(|_| malformed("peer id"))?;
        Ok(Self {
            peer_id,
            tip_height: Height(tip),
            history_min_height: Height(first),
        })
    }
}

impl Mirrored for Request<Chain> {
    type Mirror = (u64, u64);

    fn mirror(&self) -> Self::Mirror {
        let Self::ValueRequest(request) = self;
        (request.range.start().0, request.range.end().0)
    }

    fn restore((first, last): Self::Mirror) -> Result<Self, io::Error> {
        Ok(Self::ValueRequest(ValueRequest::new(Height(first)..=Height(last))))
    }
}

impl Mirrored for Response<Chain> {
    type Mirror = (u64, Vec<(Vec<u8>, Certificate)>);

    fn mirror(&self) -> Self::Mirror {
        let Self::ValueResponse(response) = self;
        // A certificate without a round cannot be decided upon; the receiver refuses what remains.
        let values = response.values.iter().filter_map(|value| {
            Some((
                value.value_bytes.to_vec(),
                certificate_of(&value.certificate.trim_vote_extensions())?,
            ))
        });
        (response.start_height.0, values.collect())
    }

    fn restore((start, values): Self::Mirror) -> Result<Self, io::Error> {
        let values = values
            .into_iter()
            .map(|(bytes, certificate)| decided_value(bytes, certificate))
            .collect();
        Ok(Self::ValueResponse(ValueResponse::new(Height(start), values)))
    }
}

/// The engine's certificate as the chain's; none without a round.
pub(super) fn certificate_of(
    certificate: &arc_malachitebft_app_channel::app::types::core::CommitCertificate<Chain>,
) -> Option<Certificate> {
    let mut signatures: Vec<_> = certificate
        .commit_signatures
        .iter()
        .map(|s| CommitSignature {
            validator: s.address.0,
            signature: s.signature,
        })
        .collect();
    signatures.sort_by_key(|s| s.validator);
    Some(Certificate {
        height: certificate.height.0,
        round: certificate.round.as_u32()?,
        block: certificate.value_id.0,
        signatures,
    })
}

/// A committed block as the engine passes it on.
pub(super) fn decided_value(bytes: Vec<u8>, certificate: Certificate) -> RawDecidedValue<Chain> {
    let signature = |s: CommitSignature| ExtendedCommitSignature::new(Address(s.validator), s.signature, None);
    let certificate = ExtendedCommitCertificate {
        height: Height(certificate.height),
        round: Round::new(certificate.round),
        value_id: BlockId(certificate.block),
        commit_signatures: certificate.signatures.into_iter().map(signature).collect(),
    };
    RawDecidedValue::new(bytes.into(), certificate)
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
