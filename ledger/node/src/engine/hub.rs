//! Who is linked, what is sent to all of them, and what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use arc_malachitebft_app_channel::app::{
    consensus::LivenessMsg,
    engine::{
        network::{NetworkEvent, Status},
        util::output_port::OutputPort,
    },
    streaming::StreamMessage,
    types::{PeerId as EngineId, SignedConsensusMsg, sync::Response},
};
use arc_malachitebft_network::Channel;
use arc_malachitebft_sync::{InboundRequestId, OutboundRequestId};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use peer_link::{Connection, LinkError, PeerId};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::{
    codec::{LivenessMirror, Mirrored, SignedMirror, StreamMirror},
    linked::Linked,
    types::{Chain, Height, Members, Part},
};

/// Events that a subscriber may lag behind before it misses some.
const EVENTS: usize = 8192;
/// Messages that wait to be sent to one peer; a peer that is slower is disconnected and catches up later.
pub(super) const QUEUE: usize = 1024;
/// Requests of peers that wait for our answer.
const MAX_INBOUND: usize = 64;

/// What validators say to one another on a stream of messages.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum Wire {
    /// A vote or a proposal.
    Consensus(SignedMirror),
    /// Something said again so that a stuck round goes on.
    Liveness(LivenessMirror),
    /// A part of a proposed block.
    Part(StreamMirror),
    /// Which blocks the sender has.
    Status {
        /// The highest.
        tip: u64,
        /// The lowest.
        first: u64,
    },
}

/// The links of this validator.
pub(super) struct Hub {
    events: OutputPort<NetworkEvent<Chain>>,
    /// Links of the validators of the height; only they are listened to.
    members: watch::Sender<BTreeSet<PeerId>>,
    state: Mutex<State>,
    linked: Linked,
}

#[derive(Default)]
struct State {
    links: BTreeMap<PeerId, Vec<Link>>,
    inbound: BTreeMap<InboundRequestId, oneshot::Sender<Response<Chain>>>,
    counter: u64,
}

struct Link {
    number: u64,
    connection: Connection,
    queue: mpsc::Sender<Bytes>,
}

/// The id by which the engine knows a peer: an identity multihash of its key in protobuf.
pub(super) fn engine_id(peer: PeerId) -> EngineId {
    let bytes = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20], peer.as_bytes().as_slice()].concat();
    EngineId::from_bytes(&bytes).expect("36 bytes after an identity multihash's header are an id")
}

/// Back from [`engine_id`].
pub(super) fn link_id(peer: &EngineId) -> Option<PeerId> {
    PeerId::from_bytes(peer.to_bytes().get(6..)?.try_into().ok()?).ok()
}

impl Hub {
    pub(super) fn new(linked: Linked) -> Self {
        Self {
            events: OutputPort::with_capacity(EVENTS),
            members: watch::channel(BTreeSet::new()).0,
            state: Mutex::default(),
            linked,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn events(&self) -> &OutputPort<NetworkEvent<Chain>> {
        &self.events
    }

    pub(super) fn connected(&self) -> Vec<PeerId> {
        self.state().links.keys().copied().collect()
    }

    pub(super) fn is_connected(&self, peer: PeerId) -> bool {
        self.state().links.contains_key(&peer)
    }

    /// Links of the validators of the height, with all changes to come.
    pub(super) fn members(&self) -> watch::Receiver<BTreeSet<PeerId>> {
        self.members.subscribe()
    }

    /// The validators of the height now. The links of others are closed.
    pub(super) fn admit(&self, members: &Members) {
        let links = members
            .0
            .iter()
            .filter_map(|member| PeerId::from_bytes(member.link.as_bytes()).ok());
        let links: BTreeSet<PeerId> = links.collect();
        for (peer, gone) in &self.state().links {
            if !links.contains(peer) {
                gone.iter().for_each(|link| link.connection.close());
            }
        }
        self.members.send_if_modified(|members| {
            let changed = *members != links;
            *members = links;
            changed
        });
    }

    pub(super) fn admits(&self, peer: PeerId) -> bool {
        self.members.borrow().contains(&peer)
    }

    /// Adds a link. Returns its number.
    pub(super) fn attach(&self, connection: Connection, queue: mpsc::Sender<Bytes>) -> u64 {
        let peer = connection.peer();
        let mut state = self.state();
        state.counter += 1;
        let number = state.counter;
        let links = state.links.entry(peer).or_default();
        links.push(Link {
            number,
            connection,
            queue,
        });
        let first = links.len() == 1;
        drop(state);
        if first {
            self.linked.came(peer);
            info!(%peer, "validator connected");
            self.events.send(NetworkEvent::PeerConnected(engine_id(peer)));
            self.events
                .send(NetworkEvent::PeerSubscribed(engine_id(peer), Channel::Sync));
        }
        number
    }

    /// Removes a link.
    pub(super) fn detach(&self, peer: PeerId, number: u64) {
        let mut state = self.state();
        let Some(links) = state.links.get_mut(&peer) else {
            return;
        };
        links.retain(|link| link.number != number);
        if links.is_empty() {
            state.links.remove(&peer);
            drop(state);
            self.linked.went(peer);
            info!(%peer, "validator disconnected");
            self.events.send(NetworkEvent::PeerDisconnected(engine_id(peer)));
        }
    }

    pub(super) fn connection(&self, peer: PeerId) -> Option<Connection> {
        self.state()
            .links
            .get(&peer)?
            .last()
            .map(|link| link.connection.clone())
    }

    /// Sends to each linked peer once, by its newest link: an older one may be of a process that is gone.
    pub(super) fn publish(&self, message: &Wire) {
        let frame = match frame(message) {
            Ok(frame) => frame,
            Err(error) => {
                error!(%error, "a message of ours has no binary form");
                return;
            }
        };
        for (peer, links) in &self.state().links {
            let Some(link) = links.last() else { continue };
            if let Err(mpsc::error::TrySendError::Full(_)) = link.queue.try_send(frame.clone()) {
                warn!(%peer, "validator takes its messages too slowly, disconnected");
                link.connection.close();
            }
        }
    }

    /// Passes on what a peer said.
    pub(super) fn deliver(&self, peer: PeerId, message: Wire) -> Result<(), LinkError> {
        let from = engine_id(peer);
        let event = match message {
            Wire::Consensus(mirror) => match restored(mirror)? {
                SignedConsensusMsg::Vote(vote) => NetworkEvent::Vote(from, vote),
                SignedConsensusMsg::Proposal(proposal) => NetworkEvent::Proposal(from, proposal),
            },
            Wire::Liveness(mirror) => match restored(mirror)? {
                LivenessMsg::Vote(vote) => NetworkEvent::Vote(from, vote),
                LivenessMsg::PolkaCertificate(certificate) => NetworkEvent::PolkaCertificate(from, certificate),
                LivenessMsg::SkipRoundCertificate(certificate) => NetworkEvent::RoundCertificate(from, certificate),
            },
            Wire::Part(mirror) => {
                let part: StreamMessage<Part> = restored(mirror)?;
                NetworkEvent::ProposalPart(from, Some(from), part)
            }
            Wire::Status { tip, first } => {
                self.linked.told(peer, tip);
                NetworkEvent::Status(from, Status::new(Height(tip), Height(first)))
            }
        };
        self.events.send(event);
        Ok(())
    }

    /// A number for a request of ours.
    pub(super) fn next_request(&self) -> OutboundRequestId {
        let mut state = self.state();
        state.counter += 1;
        OutboundRequestId::new(state.counter)
    }

    /// Keeps a peer's request until it is answered; none when too many wait.
    pub(super) fn keep_inbound(&self) -> Option<(InboundRequestId, oneshot::Receiver<Response<Chain>>)> {
        let mut state = self.state();
        state.inbound.retain(|_, waiting| !waiting.is_closed());
        if state.inbound.len() >= MAX_INBOUND {
            return None;
        }
        state.counter += 1;
        let id = InboundRequestId::new(state.counter);
        let (sender, receiver) = oneshot::channel();
        state.inbound.insert(id.clone(), sender);
        Some((id, receiver))
    }

    /// Answers a peer's request, or drops it.
    pub(super) fn respond(&self, id: &InboundRequestId, response: Option<Response<Chain>>) {
        let waiting = self.state().inbound.remove(id);
        if let (Some(waiting), Some(response)) = (waiting, response) {
            // The peer may be gone.
            let _ = waiting.send(response);
        }
    }
}

fn restored<T: Mirrored>(mirror: T::Mirror) -> Result<T, LinkError> {
    T::restore(mirror).map_err(LinkError::Malformed)
}

fn frame(message: &Wire) -> std::io::Result<Bytes> {
    let body = borsh::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    Ok([length.to_le_bytes().as_slice(), &body].concat().into())
}
