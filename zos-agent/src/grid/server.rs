//! Answers to the customers of this node's contracts, over the peer link.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use ledger::{Id, text::Text};
use node_api::guest::Workload;
use peer_link::{Connection, Limits, LinkError, PeerId, Shares, Stream, serve_requests};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use workload::node::{Answer, MAX_ANSWER, MAX_REQUEST, Request, State};

use super::{
    docket::{Entry, vm_id},
    images::Images,
    shared::Shared,
    tunnel,
};
use crate::vm::{
    VmId,
    guest::Guest,
    registry::{self, Live},
};

const LIMITS: Limits = Limits {
    request: MAX_REQUEST,
    streams: 64,
};
/// Most tunnels of one contract at a time.
pub const MAX_TUNNELS: usize = 64;
/// Most questions for the output of one contract at a time.
pub const MAX_LOGS: usize = 4;
/// Longest wait for a guest to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// What answers customers.
#[derive(Debug)]
pub struct Server {
    /// What the tasks share.
    pub shared: Arc<Shared>,
    /// The images.
    pub images: Images,
    /// Where the monitors' sockets are.
    pub run: PathBuf,
    /// The VMs that run now.
    pub live: watch::Receiver<BTreeMap<VmId, Live>>,
    /// Tunnels that are open: [`MAX_TUNNELS`].
    pub tunnels: Shares<Id>,
    /// Questions for output that are being answered: [`MAX_LOGS`]. Each takes a thread for up to five seconds.
    pub logs: Shares<Id>,
}

/// Answers one peer until its connection ends.
pub async fn serve(server: Arc<Server>, connection: Connection) {
    serve_requests(connection, LIMITS, move |request, stream| {
        respond(Arc::clone(&server), request, stream)
    })
    .await;
}

fn refused(reason: &str) -> Answer {
    Answer::Refused {
        reason: Text::lossy(reason),
    }
}

fn not_ready(reason: &str) -> Answer {
    Answer::NotReady {
        reason: Text::lossy(reason),
    }
}

async fn respond(server: Arc<Server>, request: Request, mut stream: Stream) -> Result<(), LinkError> {
    let contract = request.contract();
    let answer = match server.entry(contract, stream.peer()) {
        Err(answer) => answer,
        Ok(entry) => match request {
            Request::Status { .. } => server.status(contract, &entry),
            Request::Log { from, .. } => match server.logs.take(contract) {
                Some(_ticket) => server.log(contract, from).await,
                None => not_ready("the output is being read already, as often as a contract may"),
            },
            Request::Tunnel { port, .. } => match server.tunnels.take(contract) {
                Some(_ticket) => match server.connect(contract, &entry, port).await {
                    Ok(guest) => return tunnel(stream, guest).await,
                    Err(answer) => answer,
                },
                None => not_ready("as many tunnels are open as a contract may have; close one"),
            },
        },
    };
    stream.send(&answer, MAX_ANSWER).await?;
    stream.finish();
    Ok(())
}

async fn tunnel(mut stream: Stream, guest: TcpStream) -> Result<(), LinkError> {
    stream.send(&Answer::Tunnel, MAX_ANSWER).await?;
    let carried = tunnel::carry(stream.into_halves(), guest.into_split(), tunnel::IDLE).await;
    carried.map_err(LinkError::Stream)
}

impl Server {
    /// The contract, if the peer is its customer.
    fn entry(&self, contract: Id, peer: PeerId) -> Result<Entry, Answer> {
        let entry = self.shared.docket().entries().get(&contract).cloned();
        // One answer for both, so that strangers learn nothing.
        let stranger = || refused("no contract of yours has this id here");
        let entry = entry.ok_or_else(stranger)?;
        match self.shared.customer(entry.contract.signed.agreement.customer) {
            Some(customer) if customer == peer => Ok(entry),
            Some(_) => Err(stranger()),
            // After a start the contracts are known before the chain is reached.
            None => Err(not_ready("it has not learned from the chain yet who its customers are")),
        }
    }

    fn status(&self, contract: Id, entry: &Entry) -> Answer {
        let guest = self.shared.guests().get(&contract).cloned();
        let uptime_ms = guest.as_ref().map_or(0, |guest| guest.uptime_ms);
        let (state, restarts) = match guest.and_then(|guest| guest.workload) {
            Some(Workload::Running { restarts }) => (State::Running, restarts),
            Some(Workload::BackingOff { restarts, code }) => (
                State::BackingOff {
                    reason: Text::lossy(&format!("ended with code {code}")),
                },
                restarts,
            ),
            Some(Workload::Failed { reason }) => (
                State::Failed {
                    reason: Text::lossy(&reason),
                },
                0,
            ),
            None => (self.before_running(contract, entry), 0),
        };
        Answer::Status {
            state,
            uptime_ms,
            restarts,
        }
    }

    fn before_running(&self, contract: Id, entry: &Entry) -> State {
        if let Some(problem) = &entry.problem {
            return State::Failed {
                reason: Text::lossy(problem),
            };
        }
        let Some(image) = &entry.image else {
            return State::Fetching { done: 0, total: 0 };
        };
        let hash = *image.root.hash.as_bytes();
        if self.images.path(&hash).exists() && entry.config.is_some() && entry.workload.is_some() {
            match self.shared.waiting().get(&contract) {
                Some(reason) => State::BackingOff {
                    reason: Text::lossy(reason),
                },
                None => State::Starting,
            }
        } else {
            State::Fetching {
                done: self.images.progress(&hash).unwrap_or(0),
                total: entry.bytes(),
            }
        }
    }

    async fn log(&self, contract: Id, from: u64) -> Answer {
        let Some(vm) = vm_id(contract) else {
            return not_ready("the workload does not run");
        };
        let socket = registry::directory(&self.run, &vm).join("vsock");
        let asked = tokio::task::spawn_blocking(move || Guest::connect(&socket)?.log(from)).await;
        match asked {
            Ok(Ok((from, bytes))) => Answer::Log { from, bytes },
            Ok(Err(error)) => not_ready(&format!(
                "the guest does not answer: {}",
                error_line::with_causes(&error)
            )),
            Err(_) => refused("the guest could not be asked"),
        }
    }

    async fn connect(&self, contract: Id, entry: &Entry, port: u16) -> Result<TcpStream, Answer> {
        let named = entry
            .workload
            .as_ref()
            .is_some_and(|workload| workload.ports.contains(&port));
        if !named {
            return Err(refused("the workload does not name this port"));
        }
        if entry.contract.ended().is_some() {
            return Err(refused("the contract has ended"));
        }
        let place = || vm_id(contract).and_then(|vm| self.live.borrow().get(&vm).copied());
        let live = place().ok_or_else(|| not_ready("the workload does not run"))?;
        match timeout(CONNECT, TcpStream::connect((live.slot.guest(), port))).await {
            // The place may have passed to another guest meanwhile.
            Ok(Ok(stream)) if place() == Some(live) => Ok(stream),
            Ok(Ok(_)) => Err(not_ready("the workload was restarted meanwhile")),
            Ok(Err(error)) => Err(not_ready(&format!("port {port} of the workload: {error}"))),
            Err(_) => Err(not_ready(&format!("port {port} of the workload does not answer"))),
        }
    }
}
