//! As much of HTTP as it takes to ask a demo for a page and to leave a file with it (RFC 9112, without persistence).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Longest wait for a connection, and then for each piece of the answer.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest answer in bytes; a longer one is cut.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// What comes after the head.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks for `path`.
///
/// # Errors
/// If there is no answer, or it is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    ask(address, "GET", path, &[]).with_context(|| format!("GET http://{address}{path}"))
}

/// Leaves `body` at `path`.
///
/// # Errors
/// If there is no answer, or it is not HTTP.
pub fn put(address: SocketAddr, path: &str, body: &[u8]) -> Result<Answer> {
    ask(address, "PUT", path, body).with_context(|| format!("PUT http://{address}{path}"))
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connect")?;
    stream.set_read_timeout(Some(LIMIT)).context("set a limit")?;
    stream.set_write_timeout(Some(LIMIT)).context("set a limit")?;
    // By version 1.0 the answer ends with the connection and is never in chunks.
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).context("send")?;
    stream.write_all(body).context("send")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).context("receive")?;
    parse(&answer).context("the answer is not HTTP")
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let line = std::str::from_utf8(answer.get(..head)?).ok()?.lines().next()?;
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: answer.get(head + 4..)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn status_and_body_are_taken_apart_and_garbage_is_not_http() {
        let answer = parse(b"HTTP/1.1 201 Created\r\nServer: x\r\n\r\nbody\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (201, "body\r\n\r\n"));
        assert_eq!(parse(b"HTTP/1.1 201 Created\r\n"), None);
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
    }

    #[test]
    fn request_carries_its_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"hello") {
                let mut part = [0; 64];
                let read = stream.read(&mut part).unwrap();
                bytes.extend_from_slice(&part[..read]);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            String::from_utf8(bytes).unwrap()
        });
        assert_eq!(put(address, "/data/a", b"hello").unwrap().status, 204);
        let request = server.join().unwrap();
        assert!(request.starts_with("PUT /data/a HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("Content-Length: 5\r\n"), "{request}");
    }
}
