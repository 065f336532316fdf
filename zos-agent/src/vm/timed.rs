//! A socket with one deadline for the whole exchange: whoever answers a byte at a time gains no more time by it.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};

/// A stream that fails with [`io::ErrorKind::TimedOut`] once its time is over.
#[derive(Debug)]
pub(super) struct Timed {
    stream: UnixStream,
    until: Instant,
}

impl Timed {
    /// Connects; everything on the stream is to be done within `patience`.
    pub(super) fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let until = Instant::now() + patience;
        let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Also the time that connect(2) waits for room in the queue of a peer that accepts nobody.
        stream.set_write_timeout(Some(patience))?;
        stream.connect(&SockAddr::unix(socket)?)?;
        Ok(Self {
            stream: OwnedFd::from(stream).into(),
            until,
        })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(left)
        }
    }
}

impl Read for Timed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(to)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::BufRead, os::unix::net::UnixListener, thread};

    #[test]
    fn a_peer_that_answers_a_byte_at_a_time_gains_no_time() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let began = Instant::now();
        let stream = Timed::connect(&socket, Duration::from_millis(200)).unwrap();
        let mut line = String::new();
        assert!(io::BufReader::new(stream).read_line(&mut line).is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_peer_that_accepts_nobody_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&socket).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let began = Instant::now();
        let full = (0..3).map(|_| Timed::connect(&socket, Duration::from_millis(200)));
        let connected: Vec<io::Result<Timed>> = full.collect();
        assert!(connected[2].is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
