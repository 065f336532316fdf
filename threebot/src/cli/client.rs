//! Asking the daemon.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use threebot::{
    control::{Event, Failure, FailureKind, MAX_LINE, Reply, Request},
    home::Home,
};

use super::failure;

/// Asks the daemon and waits for its last word; `told` gets what comes before.
pub(super) fn ask(home: &Home, request: &Request, mut told: impl FnMut(Event)) -> Result<Reply, Failure> {
    let mut stream = connect(home)?;
    let lost = |error: &dyn std::fmt::Display| failure(FailureKind::Local, format!("talk to the daemon: {error}"));
    let mut line = serde_json::to_vec(request).map_err(|error| lost(&error))?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(failure(
            FailureKind::Usage,
            "the request is too long; shorten the environment",
        ));
    }
    stream.write_all(&line).map_err(|error| lost(&error))?;
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line);
        if read.map_err(|error| lost(&error))? == 0 {
            return Err(failure(FailureKind::NoDaemon, "the daemon stopped before it was done"));
        }
        match serde_json::from_slice(&line).map_err(|error| lost(&error))? {
            Event::Done { reply } => return Ok(reply),
            Event::Failed(failure) => return Err(failure),
            event => told(event),
        }
    }
}

fn connect(home: &Home) -> Result<UnixStream, Failure> {
    UnixStream::connect(home.control()).map_err(|error| no_daemon(home, &error))
}

/// What it means that the control socket cannot be opened.
pub(super) fn no_daemon(home: &Home, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let path = home.path().display();
    match error.kind() {
        NotFound | ConnectionRefused => {
            let text = format!("no daemon runs on {path}; start `threebot --home {path} serve`");
            failure(FailureKind::NoDaemon, text)
        }
        _ => failure(
            FailureKind::Local,
            format!("open the daemon's socket in {path}: {error}"),
        ),
    }
}
