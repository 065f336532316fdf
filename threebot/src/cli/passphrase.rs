//! Where the identity's passphrase comes from: the environment, a file, or the terminal.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use threebot::control::{Failure, FailureKind};
use zeroize::Zeroizing;

use super::failure;

/// Longest passphrase in bytes.
const MAX: u64 = 4_096;
const VARIABLE: &str = "THREEBOT_PASSPHRASE";

/// The passphrase that is given without asking, if there is one.
pub(super) fn given(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(path) = file {
        let read = File::open(path).and_then(|file| {
            let mut line = Zeroizing::new(String::new());
            BufReader::new(file.take(MAX)).read_line(&mut line)?;
            Ok(line)
        });
        let line = read.map_err(|error| {
            failure(
                FailureKind::Identity,
                format!("passphrase file {}: {error}", path.display()),
            )
        })?;
        return Ok(Some(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())));
    }
    Ok(std::env::var(VARIABLE).ok().map(Zeroizing::new))
}

/// Asks at the terminal, without showing what is typed.
pub(super) fn prompt(question: &str) -> Option<Zeroizing<String>> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    let before = tcgetattr(&terminal).ok()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    write!(terminal, "{question}: ").ok()?;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
    let typed = read_line(&terminal);
    // If this fails the terminal stays silent, which `reset` mends.
    let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
    let _ = writeln!(terminal);
    typed.ok()
}

fn read_line(terminal: &File) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(terminal.take(MAX)).read_line(&mut line)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
