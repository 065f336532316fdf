//! A workload that keeps a journal on its volume for as long as it runs, and says over HTTP what it has flushed.
//!
//! `journal PORT DIRECTORY`. `GET /` is answered with its [`Status`]; `GET /verify` reads all records again and is answered with
//! the number up to which all are whole. `GET /end` makes it end and leave a process behind that listens on the port after its
//! own; a journal does not begin while there is such a process.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use qemu_tests::journal::{self, Journal, Status};

/// Longest wait for a client.
const LIMIT: Duration = Duration::from_secs(10);
/// The word by which the program is what a journal leaves behind.
const LEFT_BEHIND: &str = "left-behind";
/// Pause between two looks whether that listens.
const PAUSE: Duration = Duration::from_millis(20);
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
    let port = port.parse().map_err(io::Error::other);
    let ended = port.and_then(|port| match directory.as_str() {
        LEFT_BEHIND => stay_behind(port),
        directory => run(port, Path::new(directory)),
    });
    if let Err(error) = ended {
        eprintln!("journal: {error}");
    }
    ExitCode::FAILURE
}

fn run(port: u16, directory: &Path) -> io::Result<()> {
    if listens_beside(port) {
        return Err(io::Error::other("what the one before has left behind is still there"));
    }
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
        match respond(&stream, &status, directory) {
            Ok(Asked::End) => {
                leave_behind(port)?;
                return Err(io::Error::other("told to end"));
            }
            // A client that has gone is no reason to end.
            Ok(Asked::Answer) | Err(_) => {}
        }
    }
}

/// Starts a process that goes on, in a group of its own, and waits until it listens.
fn leave_behind(port: u16) -> io::Result<()> {
    let mut program = Command::new(env::current_exe()?);
    program.args([&port.to_string(), LEFT_BEHIND]).process_group(0);
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    program.spawn()?;
    let deadline = Instant::now() + LIMIT;
    while !listens_beside(port) {
        if Instant::now() > deadline {
            return Err(io::Error::other("nothing was left behind"));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Listens beside a journal for good.
fn stay_behind(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(beside(port))?;
    loop {
        listener.accept()?;
    }
}

fn listens_beside(port: u16) -> bool {
    TcpStream::connect_timeout(&beside(port), LIMIT).is_ok()
}

fn beside(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port + 1).into()
}

#[expect(clippy::print_stderr, reason = "the workload's log")]
fn complain(error: &io::Error) {
    eprintln!("journal: append: {error}");
}

/// What a client asked for.
enum Asked {
    /// An answer.
    Answer,
    /// That the journal ends.
    End,
}

fn respond(mut stream: &TcpStream, status: &Status, directory: &Path) -> io::Result<Asked> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut request = BufReader::new(stream.take(MAX_REQUEST));
    let mut first = String::new();
    request.read_line(&mut first)?;
    let mut line = String::new();
    while request.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let path = first.split(' ').nth(1);
    let (code, body) = match path {
        Some("/end") => ("200 OK", String::new()),
        Some("/") => ("200 OK", status.line()),
        Some("/verify") => ("200 OK", journal::last(directory)?.to_string()),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!("HTTP/1.0 {code}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())?;
    Ok(if path == Some("/end") {
        Asked::End
    } else {
        Asked::Answer
    })
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
