//! A peer of the chain that passes questions on to an honest one, and lies in its answers when it is told to.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, MAX_REQUEST, Request};
use ledger::body::ContractState;
use ledger::consensus::{CommitSignature, VoteKind, vote_bytes};
use ledger::record::Body;
use ledger::{CertifiedHeader, Height, SigningKey, Timestamp, Validator, ValidatorSet};
use peer_link::{
    Connections, Endpoint, Limits, LinkError, LinkKey, PeerAddress, Protocols, Serving, Stream, protocol,
    serve_requests,
};
use tokio::runtime::Runtime;

/// Most answers that are kept to be told again later.
const MAX_KEPT: usize = 256;
/// How often a silent peer looks whether it still is.
const SILENT: Duration = Duration::from_millis(100);
/// By how many blocks a header that it makes is ahead.
const AHEAD: Height = 1_000;
/// Longest silence between two heads of the honest peer.
const HEADS: Duration = Duration::from_secs(60);

/// What a peer does with what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It says what is true.
    Nothing,
    /// Its genesis is another one.
    Genesis,
    /// Headers are certified by a key that is no validator's, in a validator's name.
    ForgedCertificate,
    /// Headers name another validator set, which has certified them.
    ValidatorSet,
    /// Every contract was cancelled.
    Cancelled,
    /// The node has no contracts.
    NoContracts,
    /// The chain is where it was when it was first asked about; all of it is genuine.
    Past,
    /// Its answers are no messages.
    Garbage,
    /// It takes every question and answers none.
    Silence,
}

/// A running liar. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Liar {
    address: PeerAddress,
    shared: Arc<Shared>,
    // Before the runtime that they need.
    _serving: Serving,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    honest: PeerAddress,
    links: Connections,
}

#[derive(Debug)]
struct State {
    lie: Lie,
    /// The first answers that were given, by question.
    first: BTreeMap<Vec<u8>, Answer>,
    first_head: Option<Answer>,
}

impl Liar {
    /// Starts a liar that knows what the peer at `honest` knows.
    pub(crate) fn start(honest: &str, lie: Lie) -> Result<Self> {
        let honest = honest.parse().context("read the honest peer's address")?;
        let runtime = Runtime::new().context("start the liar's tasks")?;
        let _guard = runtime.enter();
        let bind = async {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            Endpoint::bind(&LinkKey::from_seed(&[66; 32]), any).await
        };
        let endpoint = runtime.block_on(bind)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                lie,
                first: BTreeMap::new(),
                first_head: None,
            }),
            honest,
            links: Connections::new(endpoint.clone(), protocol::LEDGER),
        });
        let answering = Arc::clone(&shared);
        let protocols = Protocols::new().with(protocol::LEDGER, move |connection| {
            let shared = Arc::clone(&answering);
            let limits = Limits {
                request: MAX_REQUEST,
                streams: 64,
            };
            serve_requests(connection, limits, move |request, stream| {
                respond(Arc::clone(&shared), request, stream)
            })
        });
        Ok(Self {
            address: PeerAddress::new(endpoint.id(), endpoint.bound())?,
            shared,
            _serving: endpoint.serve(protocols),
            _runtime: runtime,
        })
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// Says how it answers from now on.
    pub(crate) fn tell(&self, lie: Lie) {
        self.shared.state().lie = lie;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lie(&self) -> Lie {
        self.state().lie
    }

    /// The honest answer.
    async fn ask(&self, request: &Request) -> Answer {
        let asked = match self.links.get(&self.honest).await {
            Ok(connection) => connection.call(request, MAX_ANSWER, DEADLINE).await,
            Err(error) => return Answer::Unable(error.to_string()),
        };
        asked.unwrap_or_else(|error| Answer::Unable(error.to_string()))
    }

    /// What is answered where the honest answer is `honest`, or nothing where that is no message of the protocol.
    fn alter(&self, request: &Request, honest: Answer) -> Option<Answer> {
        let mut state = self.state();
        let question = borsh::to_vec(request).unwrap_or_default();
        match &honest {
            Answer::Head { .. } => _ = state.first_head.get_or_insert_with(|| honest.clone()),
            Answer::Records { .. } if state.first.len() < MAX_KEPT => {
                state.first.entry(question.clone()).or_insert_with(|| honest.clone());
            }
            _ => {}
        }
        match (state.lie, honest) {
            (Lie::Garbage | Lie::Silence, _) => None,
            (Lie::Past, Answer::Head { .. }) => state.first_head.clone(),
            (Lie::Past, honest @ Answer::Records { .. }) => Some(state.first.get(&question).cloned().unwrap_or(honest)),
            (lie, mut honest) => {
                distort(lie, &mut honest);
                Some(honest)
            }
        }
    }
}

async fn respond(shared: Arc<Shared>, request: Request, mut stream: Stream) -> Result<(), LinkError> {
    if request == Request::Watch {
        return watch(&shared, stream).await;
    }
    let honest = shared.ask(&request).await;
    tell(&shared, &request, honest, &mut stream).await?;
    stream.finish();
    Ok(())
}

/// Passes on every head that the honest peer announces, in its own way.
async fn watch(shared: &Shared, mut stream: Stream) -> Result<(), LinkError> {
    let Ok(connection) = shared.links.get(&shared.honest).await else {
        return Ok(());
    };
    let mut heads = connection.open().await?;
    heads.send(&Request::Watch, MAX_REQUEST).await?;
    loop {
        let head = heads.receive_within(MAX_ANSWER, HEADS).await?;
        tell(shared, &Request::Watch, head, &mut stream).await?;
    }
}

async fn tell(shared: &Shared, request: &Request, honest: Answer, stream: &mut Stream) -> Result<(), LinkError> {
    match shared.alter(request, honest) {
        Some(answer) => stream.send(&answer, MAX_ANSWER).await,
        None if shared.lie() == Lie::Garbage => stream.send(&[255_u8; 64], MAX_ANSWER).await,
        None => {
            while shared.lie() == Lie::Silence {
                tokio::time::sleep(SILENT).await;
            }
            Ok(())
        }
    }
}

fn distort(lie: Lie, answer: &mut Answer) {
    match (lie, answer) {
        (Lie::Genesis, Answer::Genesis(genesis)) => genesis.block_interval_ms += 1,
        (Lie::ForgedCertificate | Lie::ValidatorSet, Answer::Head { head, .. } | Answer::Records { head, .. }) => {
            certify(lie, head);
        }
        (Lie::Cancelled | Lie::NoContracts, Answer::Records { proofs, .. }) => {
            for body in proofs
                .iter_mut()
                .filter_map(|proof| Some(&mut proof.record.as_mut()?.body))
            {
                match (lie, body) {
                    (Lie::Cancelled, Body::Contract(contract)) => {
                        let at = Timestamp::from_millis(1);
                        contract.state = ContractState::Cancelled { at };
                    }
                    (Lie::NoContracts, Body::Assignments(set)) => set.contracts.clear(),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Makes a header far ahead of the chain's, which no honest peer knows yet, and puts the liar's own signature under it.
fn certify(lie: Lie, head: &mut CertifiedHeader) {
    let key = SigningKey::from_seed(&[66; 32]);
    head.header.height += AHEAD;
    head.certificate.height = head.header.height;
    if lie == Lie::ValidatorSet {
        let own = Validator {
            key: key.public(),
            link: key.public(),
            power: 1,
        };
        let set = ValidatorSet::new(vec![own]).expect("one validator with power is a set");
        head.header.validators = set.hash();
        head.header.next_validators = set.hash();
        head.certificate.signatures = vec![CommitSignature {
            validator: key.public(),
            signature: key.sign_bytes(&[]),
        }];
    }
    head.certificate.block = head.header.id();
    let (chain, certificate) = (head.header.chain, &mut head.certificate);
    let block = Some(certificate.block);
    let bytes = vote_bytes(chain, VoteKind::Precommit, certificate.height, certificate.round, block);
    for signature in &mut certificate.signatures {
        signature.signature = key.sign_bytes(&bytes);
    }
}
