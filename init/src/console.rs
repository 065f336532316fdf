//! The machine's console: where PID 1 speaks, since nobody can log in.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    sync::OnceLock,
    time::Duration,
};

use error_line::with_causes;

use crate::{milestone, monotonic::Monotonic, wait};

/// How long a line may wait for a slow terminal before the rest of it is dropped.
const PATIENCE: Duration = Duration::from_millis(200);

static CONSOLE: OnceLock<Console> = OnceLock::new();

/// An open console and the name under which this program speaks.
#[derive(Debug)]
pub struct Console {
    file: Option<File>,
    program: &'static str,
}

/// Opens `/dev/console` for the whole process. Without one, lines are dropped and the machine goes on.
pub fn open(program: &'static str) {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open("/dev/console")
        .ok();
    // A second call keeps the first console, which is as good.
    let _ = CONSOLE.set(Console { file, program });
}

/// Says `text` as a [`milestone`] of this program.
pub fn say(text: &str) {
    if let Some(console) = CONSOLE.get() {
        console.write(&milestone::line(Monotonic::now(), console.program, text));
    }
}

/// Says `text` in the name of a supervised service.
pub fn relay(program: &str, text: &str) {
    if let Some(console) = CONSOLE.get() {
        console.write(&milestone::line(Monotonic::now(), program, text));
    }
}

/// Says an error and what it came from on one line.
pub fn say_error(what: &str, error: &dyn std::error::Error) {
    say(&format!("{what}: {}", with_causes(error)));
}

impl Console {
    fn write(&self, line: &str) {
        let Some(mut file) = self.file.as_ref() else { return };
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait::writable(file.as_fd(), PATIENCE) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
