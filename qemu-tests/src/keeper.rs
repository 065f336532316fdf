//! A thread that owns the QEMU process, so that it dies with its owner whatever happens.
//!
//! The kernel kills a process that asked for it when the *thread* that started it ends. A test's thread, or one of a
//! pool, may end early; this one lives as long as the machine.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};

/// Owns a running program. Dropping it kills the program.
#[derive(Debug)]
pub(crate) struct Keeper {
    requests: Sender<Request>,
    pid: u32,
}

#[derive(Debug)]
enum Request {
    /// Kill it unless it has ended, and say how it ended.
    Kill(Sender<Option<ExitStatus>>),
    /// Wait until it ends.
    Wait(Sender<Option<ExitStatus>>),
}

impl Keeper {
    /// Starts a program. Its standard error goes to the file `errors`, its standard output is returned.
    pub(crate) fn start(program: &str, arguments: &[String], errors: &Path) -> Result<(Self, ChildStdout)> {
        let errors = File::create(errors).with_context(|| format!("make {}", errors.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments.iter().map(OsString::from));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        // An interrupt at the terminal is for its owner, which ends what it keeps in its own order.
        command.process_group(0);
        // What it says is for files (https://no-color.org).
        command.env("NO_COLOR", "1");
        let (started_sender, started) = channel();
        let (requests, inbox) = channel();
        thread::Builder::new()
            .name("keeper".into())
            .spawn(move || match command.spawn() {
                Ok(mut child) => {
                    let output = child.stdout.take();
                    // The receiver waits below, and a lost machine is killed by the loop's end.
                    let _ = started_sender.send(Ok((child.id(), output)));
                    keep(&mut child, &inbox);
                }
                Err(error) => {
                    let _ = started_sender.send(Err(error));
                }
            })
            .context("start the keeper's thread")?;
        let (pid, output) = started
            .recv()
            .context("hear of the program's start")?
            .context("start setpriv")?;
        Ok((Self { requests, pid }, output.context("take the program's output")?))
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills the program at once, unless it has ended.
    pub(crate) fn kill(&self) -> Option<ExitStatus> {
        self.ask(Request::Kill)
    }

    /// Waits until the program ends by itself.
    pub(crate) fn wait(&self) -> Option<ExitStatus> {
        self.ask(Request::Wait)
    }

    fn ask(&self, request: impl FnOnce(Sender<Option<ExitStatus>>) -> Request) -> Option<ExitStatus> {
        let (sender, answer) = channel();
        self.requests.send(request(sender)).ok()?;
        answer.recv().ok()?
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(child: &mut Child, inbox: &Receiver<Request>) {
    while let Ok(request) = inbox.recv() {
        let answer = match request {
            Request::Kill(answer) => {
                // An error says that it has ended.
                let _ = child.kill();
                answer
            }
            Request::Wait(answer) => answer,
        };
        let _ = answer.send(child.wait().ok());
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn program_is_killed_when_its_keeper_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let (keeper, mut output) = Keeper::start("sleep", &["1000".into()], &directory.path().join("errors")).unwrap();
        let process = format!("/proc/{}", keeper.pid());
        assert!(Path::new(&process).exists());
        drop(keeper);
        assert!(!Path::new(&process).exists());
        let mut rest = Vec::new();
        assert_eq!(output.read_to_end(&mut rest).unwrap(), 0);
    }

    #[test]
    fn program_that_is_not_there_leaves_a_reason() {
        let directory = tempfile::tempdir().unwrap();
        let errors = directory.path().join("errors");
        let (keeper, _output) = Keeper::start("no-such-program-of-zos", &[], &errors).unwrap();
        assert!(!keeper.wait().unwrap().success());
        assert!(
            std::fs::read_to_string(&errors)
                .unwrap()
                .contains("no-such-program-of-zos")
        );
    }
}
