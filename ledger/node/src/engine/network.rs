//! The engine's network actor: passes what the engine says to the [`Hub`].

use std::sync::Arc;

use arc_malachitebft_app_channel::{
    NetworkMsg,
    app::{
        engine::network::{Msg, Multiaddr, NetworkEvent, NetworkRef},
        types::SignedConsensusMsg,
    },
};
use arc_malachitebft_network::Channel;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, async_trait};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    codec::Mirrored,
    hub::{Hub, Wire, engine_id},
    mesh::{self, Mesh},
    types::Chain,
};

/// Parts of our proposals that wait to be sent.
const PARTS: usize = 64;

/// Starts the actor. Parts of proposals go into the channel.
pub(super) async fn spawn(
    mesh: Option<Mesh>,
) -> Result<(NetworkRef<Chain>, mpsc::Sender<NetworkMsg<Chain>>), SpawnErr> {
    let (actor, _) = Actor::spawn(None, Network, mesh).await?;
    let (sender, mut parts) = mpsc::channel::<NetworkMsg<Chain>>(PARTS);
    let target = actor.clone();
    tokio::spawn(async move {
        while let Some(part) = parts.recv().await {
            if target.cast(part.into()).is_err() {
                break;
            }
        }
    });
    Ok((actor, sender))
}

/// Carries messages between validators; alone it carries none.
struct Network;

/// The hub, and the task that keeps its links; they end with the actor.
struct Running {
    hub: Arc<Hub>,
    links: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(links) = &self.links {
            links.abort();
        }
    }
}

#[async_trait]
impl Actor for Network {
    type Msg = Msg<Chain>;
    type State = Running;
    type Arguments = Option<Mesh>;

    async fn pre_start(&self, _: ActorRef<Msg<Chain>>, mesh: Option<Mesh>) -> Result<Running, ActorProcessingErr> {
        let linked = mesh.as_ref().map(Mesh::linked).unwrap_or_default();
        let hub = Arc::new(Hub::new(linked));
        let links = mesh.map(|mesh| tokio::spawn(mesh::run(Arc::clone(&hub), mesh)));
        Ok(Running { hub, links })
    }

    /// What cannot be sent is lost, as on any network; the engine asks and sends again.
    async fn handle(
        &self,
        _: ActorRef<Msg<Chain>>,
        message: Msg<Chain>,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        let hub = &running.hub;
        match message {
            Msg::Subscribe(subscriber) => {
                subscriber.send(NetworkEvent::Listening(Multiaddr::empty()));
                for peer in hub.connected() {
                    subscriber.send(NetworkEvent::PeerConnected(engine_id(peer)));
                    subscriber.send(NetworkEvent::PeerSubscribed(engine_id(peer), Channel::Sync));
                }
                subscriber.subscribe_to_port(hub.events());
            }
            Msg::PublishConsensusMsg(message @ (SignedConsensusMsg::Vote(_) | SignedConsensusMsg::Proposal(_))) => {
                hub.publish(&Wire::Consensus(message.mirror()));
            }
            Msg::PublishLivenessMsg(message) => hub.publish(&Wire::Liveness(message.mirror())),
            Msg::PublishProposalPart(part) => hub.publish(&Wire::Part(part.mirror())),
            Msg::BroadcastStatus(status) => {
                hub.publish(&Wire::Status {
                    tip: status.tip_height.0,
                    first: status.history_min_height.0,
                });
            }
            Msg::OutgoingRequest(peer, request, reply) => {
                // Who asked may be gone, and the answer then finds nobody.
                let _ = reply.send(mesh::request(hub, peer, &request));
            }
            Msg::OutgoingResponse(id, response) => hub.respond(&id, Some(response)),
            Msg::CancelInboundRequest(id) => hub.respond(&id, None),
            Msg::UpdateValidatorSet(members) => hub.admit(&members),
            Msg::DumpState(reply) => {
                let _ = reply.send(None);
            }
            _ => {}
        }
        Ok(())
    }
}
