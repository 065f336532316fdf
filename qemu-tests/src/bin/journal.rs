//! A workload that keeps a journal on its volume for as long as it runs, and says over HTTP what it has flushed.
//!
//! `journal PORT DIRECTORY`. `GET /` is answered with its [`Status`]; `GET /verify` reads all records again and is answered with
//! the number up to which all are whole.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use qemu_tests::journal::{self, Journal, Status};

/// Longest wait for a client.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest request in bytes.
const MAX_REQUEST: u64 = 4096;
/// Records after which it only answers: half of the smallest volume that scenarios give it.
const MAX_RECORDS: u64 = 64 * 1024;

#[expect(clippy::print_stderr, reason = "the workload's log")]
fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [port, directory] = words.as_slice() else {
        eprintln!("usage: journal PORT DIRECTORY");
        return ExitCode::FAILURE;
    };
    let ended = port
        .parse()
        .map_err(io::Error::other)
        .and_then(|port| run(port, Path::new(directory)));
    if let Err(error) = ended {
        eprintln!("journal: {error}");
    }
    ExitCode::FAILURE
}

fn run(port: u16, directory: &Path) -> io::Result<()> {
    let began_ms = uptime_ms()?;
    let mut journal = Journal::open(directory)?;
    let mut status = Status {
        boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        uptime_ms: began_ms,
        began_ms,
        found: journal.last(),
        flushed: journal.last(),
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let flushed = Arc::new(AtomicU64::new(journal.last()));
    let latest = Arc::clone(&flushed);
    thread::spawn(move || {
        while journal.last() < MAX_RECORDS {
            match journal.append() {
                Ok(number) => latest.store(number, Ordering::SeqCst),
                Err(error) => return complain(&error),
            }
        }
    });
    loop {
        let (stream, _) = listener.accept()?;
        status.flushed = flushed.load(Ordering::SeqCst);
        status.uptime_ms = uptime_ms()?;
        // A client that has gone is no reason to end.
        let _ = respond(&stream, &status, directory);
    }
}

#[expect(clippy::print_stderr, reason = "the workload's log")]
fn complain(error: &io::Error) {
    eprintln!("journal: append: {error}");
}

fn respond(mut stream: &TcpStream, status: &Status, directory: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut request = BufReader::new(stream.take(MAX_REQUEST));
    let mut first = String::new();
    request.read_line(&mut first)?;
    let mut line = String::new();
    while request.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let (code, body) = match first.split(' ').nth(1) {
        Some("/") => ("200 OK", status.line()),
        Some("/verify") => ("200 OK", journal::last(directory)?.to_string()),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!("HTTP/1.0 {code}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())
}

/// The first number of /proc/uptime, which has seconds with two decimals.
fn uptime_ms() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let digits: String = text
        .chars()
        .take_while(|character| *character != ' ')
        .filter(|character| *character != '.')
        .collect();
    let hundredths: u64 = digits.parse().map_err(io::Error::other)?;
    Ok(hundredths * 10)
}
