//! Between the engine and the application: answers the engine's questions, one after the other, on a thread of its own.

use std::time::Duration;

use arc_malachitebft_app_channel::{
    AppMsg, NetworkMsg,
    app::{
        engine::host::{HeightParams, Next, SyncedValueOutcome},
        streaming::StreamMessage,
        types::{
            LocallyProposedValue, PeerId, ProposedValue,
            core::{LinearTimeouts, Round, Validity},
            sync::RawDecidedValue,
        },
    },
};
use bytes::Bytes;
use ledger::{Hash, PublicKey, encoding::MAX_BLOCK};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{
    Application, Proposed, Verdict,
    assembly::{Assembly, stream_of},
    bodies::{Bodies, Body, BodyError},
    codec::{certificate_of, decided_value},
    evidence::misconduct_of,
    types::{Address, BlockId, Chain, Head, Height, Members, Part},
};

/// Complete blocks kept for heights ahead of ours.
const MAX_AHEAD: usize = 16;
/// How far ahead of ours such a height may be.
const MAX_LEAD: u64 = 4;
/// Most bytes of blocks in one answer to a peer that catches up.
const MAX_HISTORY_BYTES: usize = 4 << 20;

/// Why the host gave up. The engine stops; after a restart the write-ahead log goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The application failed.
    #[error("{0}")]
    Application(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// An undecided block could not be kept.
    #[error("keep a proposed block")]
    Bodies(#[from] BodyError),
    /// A block was decided whose bytes are not here.
    #[error("block {block} was decided at height {height} and its bytes are not here")]
    MissingBody {
        /// The height.
        height: u64,
        /// The block.
        block: Hash,
    },
    /// The application proposed a block that is too long.
    #[error("the block proposed for height {0} is longer than {MAX_BLOCK} bytes")]
    TooLong(u64),
    /// The engine decided without a round.
    #[error("the engine decided height {0} without a round")]
    NoRound(u64),
}

/// The host's state.
pub(super) struct Host<A> {
    pub(super) application: A,
    pub(super) key: PublicKey,
    pub(super) bodies: Bodies,
    pub(super) timeouts: LinearTimeouts,
    pub(super) block_interval: Duration,
    pub(super) network: mpsc::Sender<NetworkMsg<Chain>>,
    pub(super) assembly: Assembly,
    pub(super) ahead: Vec<Body>,
    pub(super) streams: u64,
}

fn failed<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> HostError {
    move |error| HostError::Application(what, Box::new(error))
}

impl<A: Application> Host<A> {
    /// Answers until the engine stops or something fails. Gives the application back.
    pub(super) fn run(mut self, mut questions: mpsc::Receiver<AppMsg<Chain>>) -> (A, Result<(), HostError>) {
        while let Some(question) = questions.blocking_recv() {
            if let Err(error) = self.answer(question) {
                return (self.application, Err(error));
            }
        }
        (self.application, Ok(()))
    }

    fn next_height(&self) -> Result<u64, HostError> {
        self.application.next_height().map_err(failed("read the height"))
    }

    /// A reply that nobody waits for any more is no error: the engine has gone on or is stopping.
    fn answer(&mut self, question: AppMsg<Chain>) -> Result<(), HostError> {
        match question {
            AppMsg::ConsensusReady { reply } => {
                let height = self.next_height()?;
                info!(height, "consensus starts");
                let _ = reply.send((Height(height), self.parameters(height)));
            }
            AppMsg::StartedRound {
                height,
                round,
                reply_value,
                ..
            } => {
                let _ = reply_value.send(self.started_round(height, round)?);
            }
            AppMsg::GetValue {
                height, round, reply, ..
            } => {
                let block = self.propose(height.0, round.as_u32().unwrap_or(0))?;
                let _ = reply.send(LocallyProposedValue::new(height, round, BlockId(block)));
            }
            AppMsg::ReceivedProposalPart {
                from,
                published_by,
                part,
                reply,
            } => {
                let _ = reply.send(self.received(published_by.unwrap_or(from), part)?);
            }
            AppMsg::RestreamProposal {
                height,
                round,
                valid_round,
                address,
                value_id,
            } => {
                self.publish_again(height.0, round, valid_round, address, value_id.0);
            }
            AppMsg::Decided { certificate, reply, .. } => {
                let height = certificate.height.0;
                let certificate = certificate_of(&certificate).ok_or(HostError::NoRound(height))?;
                self.commit(certificate)?;
                let _ = reply.send(());
            }
            AppMsg::Finalized { evidence, reply, .. } => {
                let proven = misconduct_of(&evidence);
                if !proven.is_empty() {
                    self.application
                        .misbehaved(proven)
                        .map_err(failed("take note of misconduct"))?;
                }
                let height = self.next_height()?;
                let _ = reply.send(Next::Start(Height(height), self.parameters(height)));
            }
            AppMsg::GetHistoryMinHeight { reply } => _ = reply.send(Height(1)),
            AppMsg::GetDecidedValues { range, reply } => {
                let _ = reply.send(self.history(range.start().0, range.end().0)?);
            }
            AppMsg::ProcessSyncedValue {
                height,
                round,
                proposer,
                value_bytes,
                reply,
            } => {
                let _ = reply.send(self.synced(height, round, proposer, &value_bytes)?);
            }
            AppMsg::ExtendVote { reply, .. } => _ = reply.send(None),
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                let _ = reply.send(extensions.into_iter().map(|(voter, ())| (voter, Ok(()))).collect());
            }
        }
        Ok(())
    }

    fn parameters(&self, height: u64) -> HeightParams<Chain> {
        let members = Members::from(&self.application.validators(height));
        HeightParams::new(members, self.timeouts, Some(self.block_interval))
    }

    /// What was proposed for this height up to this round, as far as it is here: the engine has forgotten it in a crash,
    /// or it came ahead of time.
    fn started_round(&mut self, height: Height, round: Round) -> Result<Vec<ProposedValue<Chain>>, HostError> {
        let (due, ahead) = std::mem::take(&mut self.ahead)
            .into_iter()
            .partition(|body| body.head.height <= height.0);
        self.ahead = ahead;
        for body in Vec::from_iter::<Vec<Body>>(due) {
            if body.head.height == height.0 {
                self.check_and_keep(body)?;
            }
        }
        let known = self.bodies.of_height(height.0);
        Ok(known
            .filter(|body| Round::new(body.head.round) <= round)
            .map(|body| proposed_value(&body.head))
            .collect())
    }

    /// The block that we propose: the one proposed before, if there is one, or a new one, durable before it is known.
    fn propose(&mut self, height: u64, round: u32) -> Result<Hash, HostError> {
        if self.bodies.by_proposer(height, round, &self.key).is_none() {
            let proposed = self
                .application
                .propose(height, round)
                .map_err(failed("make a block"))?;
            let Proposed { block, bytes } = proposed;
            let size = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_BLOCK);
            let size = size.ok_or(HostError::TooLong(height))?;
            let head = Head {
                height,
                round,
                valid_round: None,
                proposer: self.key,
                block,
                size,
            };
            self.bodies.keep(Body { head, bytes }, &self.key)?;
        }
        let missing = HostError::MissingBody {
            height,
            block: Hash::ZERO,
        };
        let body = self
            .bodies
            .by_proposer(height, round, &self.key)
            .ok_or(missing)?
            .clone();
        self.publish(body.head, &body.bytes);
        Ok(body.head.block)
    }

    fn publish_again(&mut self, height: u64, round: Round, valid_round: Round, proposer: Address, block: Hash) {
        let (Some(body), Some(round)) = (self.bodies.get(height, block).cloned(), round.as_u32()) else {
            warn!(height, %block, "a block to be proposed again is not here");
            return;
        };
        let head = Head {
            round,
            valid_round: valid_round.as_u32(),
            proposer: proposer.0,
            ..body.head
        };
        self.publish(head, &body.bytes);
    }

    /// Peers that miss parts ask for the block later, so a network that is gone is no error here.
    fn publish(&mut self, head: Head, block: &[u8]) {
        self.streams += 1;
        let id = [head.height, u64::from(head.round), self.streams]
            .map(u64::to_be_bytes)
            .concat();
        for part in stream_of(id, head, block) {
            if self
                .network
                .blocking_send(NetworkMsg::PublishProposalPart(part))
                .is_err()
            {
                return;
            }
        }
    }

    fn received(
        &mut self,
        publisher: PeerId,
        part: StreamMessage<Part>,
    ) -> Result<Option<ProposedValue<Chain>>, HostError> {
        let (head, bytes) = match self.assembly.insert(publisher.to_bytes(), part) {
            Ok(Some(complete)) => complete,
            Ok(None) => return Ok(None),
            Err(error) => {
                warn!(peer = %publisher, %error, "proposal refused");
                return Ok(None);
            }
        };
        let height = self.next_height()?;
        let body = Body { head, bytes };
        if head.height == height {
            return Ok(self.check_and_keep(body)?.then(|| proposed_value(&head)));
        }
        if head.height > height && head.height - height <= MAX_LEAD {
            if self.ahead.len() >= MAX_AHEAD {
                self.ahead.remove(0);
            }
            self.ahead.push(body);
        }
        Ok(None)
    }

    /// Whether a proposed block is what its head says and may be committed; it is then durable. A block that fails is not
    /// reported as invalid: its id may belong to other, valid bytes.
    fn check_and_keep(&mut self, body: Body) -> Result<bool, HostError> {
        let Head {
            height,
            round,
            block,
            proposer,
            ..
        } = body.head;
        match self
            .application
            .validate(height, &body.bytes)
            .map_err(failed("check a block"))?
        {
            Verdict::Valid(id) if id == block => Ok(self.bodies.keep(body, &self.key)?),
            Verdict::Valid(id) => {
                warn!(height, round, %proposer, announced = %block, found = %id, "proposed block is another one");
                Ok(false)
            }
            Verdict::Refused(reason) => {
                warn!(height, round, %proposer, %block, reason, "proposed block refused");
                Ok(false)
            }
        }
    }

    fn commit(&mut self, certificate: ledger::Certificate) -> Result<(), HostError> {
        let (height, block) = (certificate.height, certificate.block);
        if height < self.next_height()? {
            debug!(height, "already committed");
            return Ok(());
        }
        let body = self
            .bodies
            .get(height, block)
            .ok_or(HostError::MissingBody { height, block })?;
        self.application
            .commit(&body.bytes, certificate)
            .map_err(failed("commit a block"))?;
        self.bodies.prune(height);
        self.assembly.forget(height);
        Ok(())
    }

    fn history(&self, first: u64, last: u64) -> Result<Vec<RawDecidedValue<Chain>>, HostError> {
        let mut values = Vec::new();
        let mut bytes = 0;
        for height in first..=last {
            let decided = self
                .application
                .decided(height)
                .map_err(failed("read a committed block"))?;
            let Some((block, certificate)) = decided else { break };
            bytes += block.len();
            if !values.is_empty() && bytes > MAX_HISTORY_BYTES {
                break;
            }
            values.push(decided_value(block, certificate));
        }
        Ok(values)
    }

    fn synced(
        &mut self,
        height: Height,
        round: Round,
        proposer: Address,
        bytes: &Bytes,
    ) -> Result<SyncedValueOutcome<Chain>, HostError> {
        if height.0 != self.next_height()? {
            return Ok(SyncedValueOutcome::LocalTransientError);
        }
        let verdict = self
            .application
            .validate(height.0, bytes)
            .map_err(failed("check a block"))?;
        let (Verdict::Valid(block), Some(round), Ok(size)) = (verdict, round.as_u32(), u32::try_from(bytes.len()))
        else {
            return Ok(SyncedValueOutcome::PeerFault);
        };
        let head = Head {
            height: height.0,
            round,
            valid_round: None,
            proposer: proposer.0,
            block,
            size,
        };
        // A certificate vouches for it, so it is kept like our own.
        self.bodies.keep(
            Body {
                head,
                bytes: bytes.to_vec(),
            },
            &proposer.0,
        )?;
        Ok(SyncedValueOutcome::Verdict(proposed_value(&head)))
    }
}

fn proposed_value(head: &Head) -> ProposedValue<Chain> {
    ProposedValue {
        height: Height(head.height),
        round: Round::new(head.round),
        valid_round: head.valid_round.into(),
        proposer: Address(head.proposer),
        value: BlockId(head.block),
        validity: Validity::Valid,
    }
}
