//! A workload that tries to reach what it is told to, and says how that went.
//!
//! A request's body has an attempt a line; the answer has the outcomes in the same order. All attempts are made at the same
//! time. See [`attempt::Attempt`] for what can be tried.
#![forbid(unsafe_code)]

mod attempt;
mod packet;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use attempt::Attempt;

/// Where it listens.
const PORT: u16 = 80;
/// Longest body of a request in bytes.
const MAX_BODY: u64 = 64 * 1024;
/// Lines of a request's head that are read; with more than that it is no request.
const MAX_HEAD: usize = 64;
/// Longest wait for a piece of a request.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    loop {
        let (stream, _) = listener.accept()?;
        // One customer asks, one request at a time. One that was not answered is asked again.
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let attempts = request(&stream)?;
    let running: Vec<_> = attempts
        .lines()
        .map(|line| {
            let line = line.to_owned();
            thread::spawn(move || outcome(&line))
        })
        .collect();
    let outcomes: Vec<String> = running
        .into_iter()
        .map(|attempt| attempt.join().unwrap_or_else(|_| "broke down".to_owned()))
        .collect();
    let body = outcomes.join("\n");
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn outcome(line: &str) -> String {
    match line.parse::<Attempt>() {
        Ok(attempt) => attempt.make().to_string(),
        Err(error) => error.to_string(),
    }
}

/// The body of a request.
fn request(stream: &TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream.take(MAX_BODY));
    let mut length = 0;
    for _ in 0..MAX_HEAD {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            let mut body = String::new();
            reader.take(length).read_to_string(&mut body)?;
            return Ok(body);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    Err(io::Error::other("the head has no end"))
}
