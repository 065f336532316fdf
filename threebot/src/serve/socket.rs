//! The control socket: one request a connection, a JSON object a line.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use tracing::{debug, warn};

use super::{ServeError, requests};
use crate::{
    bot::Bot,
    control::{Event, Failure, FailureKind, MAX_LINE, Request},
};

/// Most requests at once; beyond it new ones wait.
const MAX_REQUESTS: usize = 128;
/// Events that wait for a slow reader.
pub(super) const EVENTS: usize = 256;

/// The listening socket; gone with its file when dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        // A file that is gone already is as wanted.
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens at `path`. The home directory's lock makes sure that a file there is a leftover.
pub(super) fn listen(path: &Path, bot: watch::Receiver<Option<Bot>>) -> Result<Socket, ServeError> {
    let failed = |source| ServeError::Control {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let task = tokio::spawn(accept(listener, bot));
    Ok(Socket {
        path: path.to_owned(),
        task,
    })
}

async fn accept(listener: UnixListener, bot: watch::Receiver<Option<Bot>>) {
    let slots = Arc::new(Semaphore::new(MAX_REQUESTS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let bot = bot.borrow().clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, bot).await {
                        debug!(%error, "control connection");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "control socket");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, bot: Option<Bot>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    (&mut read).take(limit).read_until(b'\n', &mut line).await?;
    let failed = |kind, text: String| Event::Failed(Failure { kind, text });
    let request = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("the daemon does not understand this request ({error}); is it of another version?");
            return say(&mut write, &failed(FailureKind::Usage, text)).await;
        }
    };
    let Some(bot) = bot else {
        let text = "the chain was not reached yet; the daemon goes on trying, its log says why".into();
        return say(&mut write, &failed(FailureKind::Network, text)).await;
    };
    if let Request::Tunnel { name, port } = &request {
        return match bot.tunnel(name, *port).await {
            Ok((_connection, stream)) => {
                say(&mut write, &Event::Open).await?;
                let (node_read, node_write) = stream.into_halves();
                let mut near = tokio::io::join(read, write);
                let mut far = tokio::io::join(node_read, node_write);
                tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
            }
            Err(error) => say(&mut write, &Event::Failed(error.into())).await,
        };
    }
    let (events, mut told) = mpsc::channel(EVENTS);
    // The work goes on when the listener goes away.
    tokio::spawn(async move { requests::perform(&bot, request, events).await });
    while let Some(event) = told.recv().await {
        say(&mut write, &event).await?;
    }
    Ok(())
}

async fn say(write: &mut (impl tokio::io::AsyncWrite + Unpin), event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event).map_err(io::Error::other)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    write.flush().await
}
