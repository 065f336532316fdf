//! What `ledgerd` tells readers over HTTP.
//!
//! ```text
//!  reader ── connection ── gate: rate, time, headers ── endpoint ──► Site ──► Snapshot (a thread of its own)
//!             (server)      (here)                                     └────► Source::submit, as the peer link
//! ```
//!
//! Everything is read, but for signed transactions. Reads are made on threads for blocking work, a few at a time, so that
//! readers hold up neither links nor consensus. Every wait, queue and table has a bound in [`HttpLimits`].
//!
//! Architecture invariant: an answer needs no trust where a proof can be had; nothing that changes a record is decided here.

mod ask;
mod blocks;
mod buckets;
mod chain;
mod connection;
mod error;
mod events;
mod explorer;
mod find;
mod limits;
mod metrics;
mod openapi;
mod records;
mod server;
mod site;
mod tag;
mod transactions;
mod view;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

pub use buckets::Rate;
pub use limits::HttpLimits;
pub use openapi::openapi;

pub(crate) use error::reason;
pub(crate) use metrics::Watched;

use crate::serve::Source;
use buckets::Client;
use error::ApiError;
use site::Site;

/// Where and how readers are answered.
#[derive(Debug, Clone, Copy)]
pub struct HttpOptions {
    /// Address to listen at; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bounds.
    pub limits: HttpLimits,
    /// Whether the validator starts without it, with a warning, where the address is taken by somebody else.
    pub optional: bool,
}

impl HttpOptions {
    /// At this address, with the bounds for readers from anywhere.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        let limits = HttpLimits::default();
        Self {
            listen,
            limits,
            optional: false,
        }
    }
}

/// The HTTP side cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen for HTTP at {address}{}", advice(source))]
pub struct HttpError {
    /// Where.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; name another address with --http IP:PORT, or --http off",
        _ => "",
    }
}

/// A socket that listens and does not answer yet.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    options: HttpOptions,
}

/// The HTTP side that answers; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Serving {
    /// Where it answers.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Bound {
    /// Listens.
    ///
    /// # Errors
    /// [`HttpError`] when the address cannot be had.
    pub(crate) async fn new(options: HttpOptions) -> Result<Self, HttpError> {
        let address = options.listen;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| HttpError { address, source })?;
        Ok(Self { listener, options })
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// [`HttpError`] when the socket does not say where it listens.
    pub(crate) fn serve(self, source: Arc<Source>, watched: Watched) -> Result<Serving, HttpError> {
        let address = self.options.listen;
        let local = self.listener.local_addr();
        let address = local.map_err(|source| HttpError { address, source })?;
        let site = Arc::new(Site::new(source, watched, self.options.limits));
        let router = router(&site);
        let task = tokio::spawn(server::serve(self.listener, site, router));
        Ok(Serving { address, task })
    }
}

type Endpoint = (&'static str, MethodRouter<Arc<Site>>);

/// All endpoints that the description names.
fn endpoints() -> Vec<Endpoint> {
    vec![
        ("/v1/status", get(chain::status)),
        ("/v1/events", get(events::events)),
        ("/metrics", get(metrics::metrics)),
        ("/v1/head", get(chain::head)),
        ("/v1/genesis", get(chain::genesis)),
        ("/v1/handovers", get(chain::handovers)),
        ("/v1/charter", get(chain::charter)),
        ("/v1/blocks", get(blocks::list)),
        ("/v1/blocks/{height}", get(blocks::one)),
        ("/v1/blocks/{height}/transactions", get(blocks::transactions)),
        ("/v1/blocks/{height}/records", get(blocks::records)),
        ("/v1/records/{kind}", get(find::find)),
        ("/v1/records/{kind}/{id}", get(records::one)),
        ("/v1/records/{kind}/{id}/history", get(records::history)),
        ("/v1/records/{kind}/{id}/history.borsh", get(records::history_bytes)),
        ("/v1/records/{kind}/{id}/proof", get(records::proof)),
        ("/v1/records/{kind}/{id}/proof.borsh", get(records::proof_bytes)),
        ("/v1/versions/{hash}", get(records::version)),
        ("/v1/names/{label}", get(records::name)),
        ("/v1/accounts/{id}", get(records::account)),
        ("/v1/search", get(records::search)),
        ("/v1/transactions", post(transactions::submit)),
    ]
}

fn router(site: &Arc<Site>) -> Router {
    let mut router = Router::new().route("/v1/openapi.json", get(openapi::get));
    for (path, endpoint) in endpoints() {
        router = router.route(path, endpoint);
    }
    for (path, file) in explorer::files() {
        router = router.route(&path, file);
    }
    router
        .fallback(async || ApiError::no_endpoint())
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(DefaultBodyLimit::max(site.limits.body))
        .layer(from_fn_with_state(Arc::clone(site), gate))
        .with_state(Arc::clone(site))
}

/// What goes with every answer: a page of ours loads nothing from elsewhere and stands in no frame, and answers may be read by
/// pages of others, since everybody may read them.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// Stands before every endpoint: counts requests, and gives each its time.
async fn gate(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match site.admit(client) {
        Err(error) => error.into_response(),
        Ok(()) => {
            let answered = timeout(site.limits.request_time, next.run(request)).await;
            answered.unwrap_or_else(|_| ApiError::late().into_response())
        }
    };
    for (name, value) in HEADERS {
        let headers = response.headers_mut();
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let endpoint = endpoint.as_ref().map_or("none", MatchedPath::as_str);
    site.ledger().metrics().answered(endpoint, response.status().as_u16());
    response
}
