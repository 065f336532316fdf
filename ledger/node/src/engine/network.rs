//! The engine's network actor.

use arc_malachitebft_app_channel::{
    NetworkMsg,
    app::engine::{
        network::{Msg, Multiaddr, NetworkEvent, NetworkRef},
        util::output_port::OutputPort,
    },
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, async_trait};
use tokio::sync::mpsc;

use super::types::Chain;

/// Events that a subscriber may lag behind before it misses some.
const EVENTS: usize = 4096;
/// Parts of our proposals that wait to be sent.
const PARTS: usize = 64;

/// Starts the actor. Parts of proposals go into the channel.
pub(super) async fn spawn() -> Result<(NetworkRef<Chain>, mpsc::Sender<NetworkMsg<Chain>>), SpawnErr> {
    let (actor, _) = Actor::spawn(None, Network, ()).await?;
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

#[async_trait]
impl Actor for Network {
    type Msg = Msg<Chain>;
    type State = OutputPort<NetworkEvent<Chain>>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Msg<Chain>>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(OutputPort::with_capacity(EVENTS))
    }

    async fn handle(
        &self,
        _: ActorRef<Msg<Chain>>,
        message: Msg<Chain>,
        events: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Subscribe(subscriber) => {
                subscriber.send(NetworkEvent::Listening(Multiaddr::empty()));
                subscriber.subscribe_to_port(events);
            }
            Msg::DumpState(reply) => {
                let _ = reply.send(None);
            }
            _ => {}
        }
        Ok(())
    }
}
