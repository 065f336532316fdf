//! Brings the chain up and then the node's membership, on a task of their own.

use std::{path::Path, sync::Arc, time::Duration};

use chain_client::{ChainClient, Complaints};
use error_line::with_causes;
use ledger::{Hash, Id, SigningKey};
use peer_link::{Endpoint, PeerAddress};
use tokio::sync::watch;

use super::say;
use crate::{
    grid::{
        images::Images,
        member::{Me, Member},
        shared::Shared,
        statement::{Enrolment, Statement},
    },
    settings::Settings,
};

/// Name of the light client's file on the home disk.
const TRUST: &str = "chain-head";
/// Pause before the chain is tried again.
const CHAIN_PAUSE: Duration = Duration::from_secs(2);

/// The right to join a farm that the settings name.
pub(super) fn enrolment(settings: &Settings) -> Option<Enrolment> {
    let farm = Id::from_hash(Hash::from_bytes(settings.farm?));
    let key = settings.enrolment_seed.as_ref().map(|seed| SigningKey::from_seed(seed));
    Some(Enrolment { farm, key })
}

/// Starts the task that speaks with the chain.
#[expect(
    clippy::too_many_arguments,
    reason = "puts the task together from the agent's parts, once"
)]
pub(super) fn spawn_member(
    settings: &Settings,
    endpoint: Endpoint,
    home: &Path,
    me: Me,
    shared: &Arc<Shared>,
    images: &Images,
    statement: watch::Receiver<Option<Statement>>,
    heights: watch::Sender<Option<u64>>,
) {
    let Some(genesis) = settings.genesis.map(Hash::from_bytes) else {
        return say("no chain: boot the farm's own media, or name one with zos.genesis=HASH and zos.peer=KEY@IP:PORT");
    };
    let peers = settings.peers.clone();
    let (shared, images, trust) = (Arc::clone(shared), images.clone(), home.join(TRUST));
    tokio::spawn(async move {
        let client = open_chain(endpoint, genesis, peers, &trust).await;
        say("chain verified from its genesis");
        let mut heads = client.heads();
        tokio::spawn(async move {
            while heads.changed().await.is_ok() {
                let height = heads.borrow_and_update().as_ref().map(|head| head.height);
                heights.send_replace(height);
            }
        });
        Member {
            client,
            me,
            shared,
            images,
            statement,
            say,
        }
        .run()
        .await;
    });
}

async fn open_chain(endpoint: Endpoint, genesis: Hash, peers: Vec<PeerAddress>, trust: &Path) -> ChainClient {
    let mut complaint = String::new();
    let complaints = Complaints::to(say);
    loop {
        let (endpoint, peers) = (endpoint.clone(), peers.clone());
        let opened = ChainClient::open(endpoint, genesis, peers, Some(trust.to_owned()), complaints.clone()).await;
        let text = match opened {
            Ok(client) => match client.sync().await {
                Ok(_) => return client,
                Err(error) => with_causes(&error),
            },
            Err(error) => with_causes(&error),
        };
        if text != complaint {
            say(&text);
            complaint = text;
        }
        tokio::time::sleep(CHAIN_PAUSE).await;
    }
}
