//! Links to the other validators: each is dialled until it is there, and each may dial us.
//!
//! On a connection either side opens one stream of messages, and one stream for each request for blocks. A stream begins
//! with an [`Opening`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_malachitebft_app_channel::app::{
    engine::network::NetworkEvent,
    types::{
        PeerId as EngineId,
        sync::{Request, Response},
    },
};
use arc_malachitebft_sync::{OutboundFailureReason, OutboundRequestId};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use ledger::encoding::MAX_BLOCK;
use peer_link::{Backoff, Connection, Endpoint, LinkError, PeerAddress, PeerId, Stream, protocol};
use tokio::{
    io::AsyncWriteExt,
    sync::{Mutex, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use super::{
    codec::Mirrored,
    hub::{Hub, QUEUE, Wire, engine_id, link_id},
    linked::Linked,
    types::Chain,
};

/// Connections that the endpoint accepted and the engine has not taken yet.
const INCOMING: usize = 32;
/// Longest message in bytes: a certificate of all validators, or a piece of a block with its frame.
pub(super) const MAX_MESSAGE: usize = 128 << 10;
/// Longest opening in bytes.
pub(super) const MAX_OPENING: usize = 64;
/// Longest answer with committed blocks in bytes: what the host puts into one, its last block and certificates.
const MAX_ANSWER: usize = 3 * MAX_BLOCK + (4 << 20);
/// Streams that a validator may have open.
const STREAMS: u32 = 16;
/// Longest wait for a stream's opening.
const OPENING_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for an answer with blocks.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Pause before the first dial after a failure or a lost link.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between dials. A link that is lost before counts as a failure: who hangs up at once is not dialled at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What a stream is for.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub(super) enum Opening {
    /// Messages follow, one a frame.
    Messages,
    /// Committed blocks from the first to the last height are asked for; one frame answers.
    Blocks(u64, u64),
}

/// Where peers are reached.
pub type Addresses = BTreeMap<PeerId, PeerAddress>;

/// How this validator reaches the others. Clones share the connections that come in; one engine at a time uses it.
#[derive(Debug, Clone)]
pub struct Mesh {
    endpoint: Endpoint,
    addresses: watch::Receiver<Addresses>,
    incoming: Arc<Mutex<mpsc::Receiver<Connection>>>,
    pub(super) linked: Linked,
}

/// Takes the connections of [`protocol::CONSENSUS`] that the endpoint accepts.
#[derive(Debug, Clone)]
pub struct MeshDoor(mpsc::Sender<Connection>);

impl Mesh {
    /// A mesh over `endpoint` with those validators whose addresses are known. The door is to be given the accepted
    /// connections.
    #[must_use]
    pub fn new(endpoint: Endpoint, addresses: watch::Receiver<Addresses>) -> (Self, MeshDoor) {
        let (door, incoming) = mpsc::channel(INCOMING);
        (
            Self {
                endpoint,
                addresses,
                incoming: Arc::new(Mutex::new(incoming)),
                linked: Linked::default(),
            },
            MeshDoor(door),
        )
    }

    /// Who is linked, now and later.
    #[must_use]
    pub fn linked(&self) -> Linked {
        self.linked.clone()
    }
}

impl MeshDoor {
    /// Hands a connection to the engine and waits until it ends.
    pub async fn handle(self, connection: Connection) {
        if self.0.try_send(connection.clone()).is_ok() {
            connection.closed().await;
        }
    }
}

/// Keeps the links until it is aborted.
pub(super) async fn run(hub: Arc<Hub>, mut mesh: Mesh) {
    let mut dialled: BTreeMap<PeerId, (PeerAddress, AbortHandle)> = BTreeMap::new();
    let mut members = hub.members();
    let mut links = JoinSet::new();
    // One that was used before has ended.
    let mut incoming = mesh.incoming.lock().await;
    loop {
        let wanted: Addresses = {
            let (members, addresses) = (members.borrow_and_update(), mesh.addresses.borrow_and_update());
            let is_wanted = |peer: &PeerId| *peer != mesh.endpoint.id() && members.contains(peer);
            addresses
                .iter()
                .filter(|(peer, _)| is_wanted(peer))
                .map(|(peer, at)| (*peer, at.clone()))
                .collect()
        };
        dialled.retain(|peer, (address, dialling)| {
            let stays = wanted.get(peer) == Some(address);
            if !stays {
                dialling.abort();
            }
            stays
        });
        for (peer, address) in wanted {
            dialled.entry(peer).or_insert_with(|| {
                let dialling = keep_dialling(Arc::clone(&hub), mesh.endpoint.clone(), address.clone());
                (address, links.spawn(dialling))
            });
        }
        tokio::select! {
            Some(connection) = incoming.recv() => {
                links.spawn(serve(Arc::clone(&hub), connection));
            }
            Some(_) = links.join_next() => {}
            Ok(()) = members.changed() => {}
            Ok(()) = mesh.addresses.changed() => {}
            else => break,
        }
    }
}

async fn keep_dialling(hub: Arc<Hub>, endpoint: Endpoint, peer: PeerAddress) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let pause = if hub.is_connected(peer.id()) {
            FIRST_PAUSE
        } else {
            match endpoint.dial(&peer, protocol::CONSENSUS).await {
                Ok(connection) => {
                    let since = Instant::now();
                    serve(Arc::clone(&hub), connection).await;
                    if since.elapsed() >= LONGEST_PAUSE {
                        backoff.succeeded();
                    }
                }
                Err(error) => debug!(%error, "validator not reached"),
            }
            backoff.failed()
        };
        sleep(pause).await;
    }
}

/// Exchanges messages over one connection until it ends.
async fn serve(hub: Arc<Hub>, connection: Connection) {
    let peer = connection.peer();
    if !hub.admits(peer) {
        debug!(%peer, "not a validator, refused");
        connection.close();
        return;
    }
    connection.limit_streams(STREAMS);
    let (queue, messages) = mpsc::channel(QUEUE);
    let attached = Attached {
        number: hub.attach(connection.clone(), queue),
        hub: Arc::clone(&hub),
        connection,
    };
    let connection = &attached.connection;
    let ended = tokio::select! {
        ended = write(connection, messages) => ended,
        ended = read(connection, &hub) => ended,
    };
    if let Err(error) = ended
        && error.is_violation()
    {
        connection.cut_off(&error);
    }
}

/// A link that the hub has. However whoever keeps it ends, it is closed and the hub has it no more.
struct Attached {
    hub: Arc<Hub>,
    connection: Connection,
    number: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.connection.close();
        self.hub.detach(self.connection.peer(), self.number);
    }
}

async fn write(connection: &Connection, mut messages: mpsc::Receiver<Bytes>) -> Result<(), LinkError> {
    let mut stream = connection.open().await?;
    stream.send(&Opening::Messages, MAX_OPENING).await?;
    let (_read, mut write) = stream.into_halves();
    while let Some(message) = messages.recv().await {
        write.write_all(&message).await.map_err(LinkError::Stream)?;
    }
    Ok(())
}

async fn read(connection: &Connection, hub: &Arc<Hub>) -> Result<(), LinkError> {
    let mut streams: JoinSet<Result<(), LinkError>> = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept() => {
                streams.spawn(read_stream(stream?, Arc::clone(hub)));
            }
            Some(Ok(ended)) = streams.join_next() => match ended {
                Err(error) if error.is_violation() => return Err(error),
                _ => {}
            },
        }
    }
}

async fn read_stream(mut stream: Stream, hub: Arc<Hub>) -> Result<(), LinkError> {
    match stream.receive_within(MAX_OPENING, OPENING_DEADLINE).await? {
        Opening::Messages => {
            while let Some(message) = stream.receive::<Wire>(MAX_MESSAGE).await? {
                hub.deliver(stream.peer(), message)?;
            }
            Ok(())
        }
        Opening::Blocks(first, last) => answer(stream, &hub, (first, last)).await,
    }
}

async fn answer(mut stream: Stream, hub: &Hub, range: (u64, u64)) -> Result<(), LinkError> {
    let peer = engine_id(stream.peer());
    let request = Request::restore(range).map_err(LinkError::Malformed)?;
    let Some((id, waiting)) = hub.keep_inbound() else {
        return Ok(());
    };
    hub.events().send(NetworkEvent::SyncRequest(id.clone(), peer, request));
    let answered = match timeout(ANSWER_DEADLINE, waiting).await {
        Ok(Ok(response)) => stream.send(&response.mirror(), MAX_ANSWER).await,
        Ok(Err(_)) => return Ok(()),
        Err(_) => Err(LinkError::Deadline(ANSWER_DEADLINE)),
    };
    stream.finish();
    if answered.is_err() {
        hub.respond(&id, None);
        hub.events().send(NetworkEvent::SyncInboundRequestFailed(id, peer));
    }
    answered
}

/// Asks a peer for committed blocks; the answer comes as an event.
pub(super) fn request(hub: &Arc<Hub>, peer: EngineId, request: &Request<Chain>) -> OutboundRequestId {
    let id = hub.next_request();
    let (hub, asked, range) = (Arc::clone(hub), id.clone(), request.mirror());
    tokio::spawn(async move {
        let event = match ask(&hub, &peer, range).await {
            Ok(response) => NetworkEvent::SyncResponse(asked, peer, Some(response)),
            Err(reason) => NetworkEvent::SyncRequestFailed(asked, peer, reason),
        };
        hub.events().send(event);
    });
    id
}

async fn ask(hub: &Hub, peer: &EngineId, range: (u64, u64)) -> Result<Response<Chain>, OutboundFailureReason> {
    let connection = link_id(peer).and_then(|peer| hub.connection(peer));
    let connection = connection.ok_or(OutboundFailureReason::DialFailure)?;
    let opening = Opening::Blocks(range.0, range.1);
    let answered = connection.call(&opening, MAX_ANSWER, ANSWER_DEADLINE).await;
    let response = answered.and_then(|mirror| Response::restore(mirror).map_err(LinkError::Malformed));
    response.map_err(|error| match error {
        LinkError::Closed(_) => OutboundFailureReason::ConnectionClosed,
        LinkError::Deadline(_) => OutboundFailureReason::Timeout,
        error => {
            if error.is_violation() {
                connection.cut_off(&error);
            }
            OutboundFailureReason::Io
        }
    })
}
