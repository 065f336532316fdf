//! A page of a guest, asked for from its own node (RFC 9112, without persistence).

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::command::{Refusal, failed};

/// Longest wait for a connection, and then for each piece of the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest answer in bytes; a longer one is cut.
const MAX_ANSWER: u64 = 4096;

/// The first line of the page at `path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, Refusal> {
    let answer = ask(address, path).map_err(failed("ask the guest"))?;
    let answer = String::from_utf8_lossy(&answer);
    let page = answer
        .split_once("\r\n\r\n")
        .filter(|(head, _)| head.split(' ').nth(1) == Some("200"))
        .and_then(|(_, body)| body.lines().next());
    page.map(str::to_owned).ok_or_else(|| Refusal::Failed {
        step: "read the guest's answer",
        source: io::ErrorKind::InvalidData.into(),
    })
}

fn ask(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn served(answer: &'static str) -> Result<String, Refusal> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let page = get(address, "/");
        server.join().unwrap();
        page
    }

    #[test]
    fn page_is_what_follows_the_head_of_a_good_answer() {
        assert_eq!(served("HTTP/1.1 200 OK\r\nX: y\r\n\r\nfirst\nsecond").unwrap(), "first");
        assert!(served("HTTP/1.1 500 no\r\n\r\nfirst").is_err());
        assert!(served("garbage").is_err());
    }
}
