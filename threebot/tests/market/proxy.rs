//! A peer of the chain that lies about transactions, and otherwise passes on what an honest one says.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, MAX_REQUEST, Request};
use ledger::{Operation, Refusal};
use peer_link::{Connections, Endpoint, Limits, LinkKey, PeerAddress, Protocols, Serving, protocol, serve_requests};

use super::LOOPBACK;

/// The peer.
pub(crate) struct Proxy {
    pub(crate) address: PeerAddress,
    conduct: Arc<Conduct>,
    _endpoint: Endpoint,
    _serving: Serving,
}

#[derive(Default)]
struct Conduct {
    /// Passes agreements on and says that the chain refused them.
    denies_agreements: AtomicBool,
    /// Passes no cancellation on.
    drops_cancellations: AtomicBool,
}

impl Proxy {
    /// Starts in front of an honest peer.
    pub(crate) async fn start(honest: PeerAddress) -> Self {
        let endpoint = Endpoint::bind(&LinkKey::generate().unwrap(), LOOPBACK).await.unwrap();
        let links = Connections::new(endpoint.clone(), protocol::LEDGER);
        let conduct = Arc::new(Conduct::default());
        let shared = Arc::clone(&conduct);
        let protocols = Protocols::new().with(protocol::LEDGER, move |connection| {
            let limits = Limits {
                request: MAX_REQUEST,
                streams: 16,
            };
            let (links, honest, conduct) = (links.clone(), honest.clone(), Arc::clone(&shared));
            serve_requests(connection, limits, move |request: Request, mut stream| {
                let (links, honest, conduct) = (links.clone(), honest.clone(), Arc::clone(&conduct));
                async move {
                    let answer = match conduct.instead(&request) {
                        Instead::Say(answer) => answer,
                        Instead::Pass(lie) => {
                            let honest = links.get(&honest).await.unwrap();
                            let answer = honest.call(&request, MAX_ANSWER, DEADLINE).await?;
                            lie.unwrap_or(answer)
                        }
                    };
                    stream.send(&answer, MAX_ANSWER).await?;
                    stream.finish();
                    Ok(())
                }
            })
        });
        Self {
            address: PeerAddress::new(endpoint.id(), endpoint.bound()).unwrap(),
            conduct,
            _serving: endpoint.serve(protocols),
            _endpoint: endpoint,
        }
    }

    pub(crate) fn deny_agreements(&self) {
        self.conduct.denies_agreements.store(true, Ordering::SeqCst);
    }

    pub(crate) fn drop_cancellations(&self, drop: bool) {
        self.conduct.drops_cancellations.store(drop, Ordering::SeqCst);
    }
}

/// What is done with a request.
enum Instead {
    /// It is answered here.
    Say(Answer),
    /// It is passed on, and answered by what comes back or by a lie.
    Pass(Option<Answer>),
}

impl Conduct {
    fn instead(&self, request: &Request) -> Instead {
        match request {
            Request::Watch => Instead::Say(Answer::Unable("ask instead".into())),
            Request::Submit(sent) => match sent.transaction.operation {
                Operation::Agree(_) if self.denies_agreements.load(Ordering::SeqCst) => {
                    Instead::Pass(Some(Answer::Refused(Refusal::Capacity("so it is said".into()))))
                }
                Operation::Cancel { .. } if self.drops_cancellations.load(Ordering::SeqCst) => {
                    Instead::Say(Answer::Unable("not now".into()))
                }
                _ => Instead::Pass(None),
            },
            _ => Instead::Pass(None),
        }
    }
}
