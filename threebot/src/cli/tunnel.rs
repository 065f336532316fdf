//! A local TCP port that leads to a port of a deployment.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use threebot::{
    control::{Event, Failure, FailureKind, MAX_LINE, Request},
    home::Home,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
};

use super::{arguments::Ports, client::no_daemon, failure, print};

/// Most connections at once; beyond it new ones wait.
const MAX_CONNECTIONS: usize = 64;

/// Listens until it is interrupted.
pub(super) async fn run(home: Home, name: String, ports: Ports, json: bool) -> Result<(), Failure> {
    let taken = |error: std::io::Error| failure(FailureKind::Local, format!("listen on {}: {error}", ports.local));
    let listener = TcpListener::bind(ports.local).await.map_err(taken)?;
    let local = listener.local_addr().map_err(taken)?;
    // One try, so that a wrong name or port is said at once. A workload that does not listen yet may do so later.
    match open(&home, &name, ports.remote).await {
        Ok(stream) => drop(stream),
        Err(failure) if failure.kind == FailureKind::Network => print::note(&failure.text),
        Err(failure) => return Err(failure),
    }
    say(local, &name, ports.remote, json);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let (stream, _) = listener.accept().await.map_err(taken)?;
        let (home, name) = (home.clone(), name.clone());
        tokio::spawn(async move {
            if let Err(failure) = carry(&home, &name, ports.remote, stream).await {
                print::error(&failure.text);
            }
            drop(slot);
        });
    }
}

fn say(local: SocketAddr, name: &str, remote: u16, json: bool) {
    if json {
        print::json(&serde_json::json!({"listening": local, "deployment": name, "port": remote}));
    } else {
        print::line(&format!("{local} leads to port {remote} of {name}; Ctrl-C ends it"));
    }
}

async fn carry(home: &Home, name: &str, port: u16, mut near: TcpStream) -> Result<(), Failure> {
    let mut far = open(home, name, port).await?;
    // How a connection ends is between its two ends.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    Ok(())
}

async fn open(home: &Home, name: &str, port: u16) -> Result<BufReader<UnixStream>, Failure> {
    let path: PathBuf = home.control();
    let lost = |error: &dyn std::fmt::Display| failure(FailureKind::Local, format!("talk to the daemon: {error}"));
    let mut stream = UnixStream::connect(&path)
        .await
        .map_err(|error| no_daemon(home, &error))?;
    let name = name.to_owned();
    let mut line = serde_json::to_vec(&Request::Tunnel { name, port }).map_err(|error| lost(&error))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(|error| lost(&error))?;
    let mut stream = BufReader::new(stream);
    let mut answer = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let read = (&mut stream).take(limit).read_until(b'\n', &mut answer).await;
    read.map_err(|error| lost(&error))?;
    match serde_json::from_slice(&answer).map_err(|error| lost(&error))? {
        Event::Open => Ok(stream),
        Event::Failed(failure) => Err(failure),
        _ => Err(lost(&"it answered something else")),
    }
}
