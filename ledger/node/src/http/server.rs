//! Taking connections, each within its bounds.

use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, warn};

use super::{HttpLimits, buckets::Client, connection::Impatient, site::Site};

/// Pause after the system gave no connection, for instance because no descriptors are left.
const PAUSE: Duration = Duration::from_millis(100);
/// What a client reads that gets no connection.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// What a client reads that has too many of them.
const SHARE: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Answers until it is dropped, and all connections with it.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "no HTTP connection could be taken");
                    sleep(PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let client = Client::at(from.ip());
        let Ok(place) = Arc::clone(&site.places).try_acquire_owned() else {
            site.ledger().metrics().turned_away("all");
            refuse(&socket, FULL);
            continue;
        };
        let Some(share) = site.connections.take(client) else {
            site.ledger().metrics().turned_away("one-client");
            refuse(&socket, SHARE);
            continue;
        };
        let router = router.clone().layer(Extension(client));
        let limits = site.limits;
        connections.spawn(async move {
            let (_place, _share) = (place, share);
            if let Err(error) = answer(socket, router, limits).await {
                debug!(%error, "an HTTP connection ended");
            }
        });
    }
}

/// Says in one line why there is no connection, if the client's socket takes it at once.
fn refuse(socket: &TcpStream, line: &[u8]) {
    let _: io::Result<usize> = socket.try_write(line);
}

async fn answer(socket: TcpStream, router: Router, limits: HttpLimits) -> hyper::Result<()> {
    // A block is announced in few bytes, and soon.
    let _ = socket.set_nodelay(true);
    let socket = TokioIo::new(Impatient::new(socket, limits.stall));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.headers.max(8_192))
        .max_header_size(limits.headers)
        .serve_connection(socket, TowerToHyperService::new(router))
        .await
}
