//! The workload's process: how it is started, and what is said of it.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use node_api::guest::{DEFAULT_PATH, Process, Workload};

use crate::supervise::{Backoff, Exit, Readiness, Restart, Spec, State};

/// How the workload is supervised: started again for ever.
pub const SPEC: Spec = Spec {
    backoff: Backoff {
        first: Duration::from_secs(1),
        most: Duration::from_secs(60),
    },
    healthy: Duration::from_secs(60),
    restart: Restart::Always,
    readiness: Readiness::Spawned,
    liveness: None,
    stop: Duration::from_secs(10),
};

/// Why the workload cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration names no program.
    #[error("no program is configured")]
    NoProgram,
    /// The program is in none of the directories.
    #[error("program {program} is not in PATH ({path})")]
    NotFound {
        /// The program.
        program: String,
        /// Where it was looked for.
        path: String,
    },
    /// The working directory cannot be made.
    #[error("make working directory {cwd}")]
    Directory {
        /// The directory.
        cwd: String,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
    /// The kernel refused.
    #[error("start {program}")]
    Refused {
        /// The program.
        program: String,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

/// Prepares the command: program, arguments, environment, directory and identity.
///
/// # Errors
/// [`StartError`] when there is no such program or directory.
pub fn command(process: &Process) -> Result<Command, StartError> {
    let (name, arguments) = process.argv.split_first().ok_or(StartError::NoProgram)?;
    let program = find_program(process, name)?;
    let cwd = if process.cwd.is_empty() {
        "/"
    } else {
        process.cwd.as_str()
    };
    fs::create_dir_all(cwd).map_err(|cause| StartError::Directory {
        cwd: cwd.to_owned(),
        cause,
    })?;
    let mut command = Command::new(program);
    command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .current_dir(cwd)
        .uid(process.uid)
        .gid(process.gid);
    command.envs(process.env.iter().map(|(name, value)| (name, value)));
    if !process.env.iter().any(|(name, _)| name == "PATH") {
        command.env("PATH", DEFAULT_PATH);
    }
    Ok(command)
}

fn find_program(process: &Process, name: &str) -> Result<PathBuf, StartError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = process
        .env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map_or(DEFAULT_PATH, |(_, path)| path.as_str());
    let runs = |file: &Path| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    path.split(':')
        .filter(|dir| !dir.is_empty() && !name.is_empty())
        .map(|dir| Path::new(dir).join(name))
        .find(|file| runs(file))
        .ok_or_else(|| StartError::NotFound {
            program: name.to_owned(),
            path: path.to_owned(),
        })
}

/// What the guest's PID 1 remembers of the workload, besides its state.
#[derive(Debug, Default)]
pub struct History {
    /// Times it was started.
    pub starts: u32,
    /// Its last end.
    pub last: Option<Exit>,
    /// Why the last attempt to start it came to nothing, if it did.
    pub refused: Option<String>,
}

impl History {
    /// What is answered to whoever asks.
    #[must_use]
    pub fn report(&self, state: &State) -> Workload {
        if let Some(reason) = &self.refused {
            return Workload::Failed { reason: reason.clone() };
        }
        match state {
            State::Starting(_) | State::Running(_) | State::Stopping { .. } => Workload::Running {
                restarts: self.starts.saturating_sub(1),
            },
            _ => Workload::BackingOff {
                restarts: self.starts,
                code: self.last.map_or(0, Exit::code),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monotonic::Monotonic;

    fn process(argv: &[&str], path: Option<&str>) -> Process {
        Process {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            env: path
                .map(|path| ("PATH".to_owned(), path.to_owned()))
                .into_iter()
                .collect(),
            cwd: String::new(),
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn programs_are_looked_up_in_the_workloads_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prog");
        fs::write(&file, "").unwrap();
        let path = format!("/nowhere:{}", dir.path().display());
        let not_executable = command(&process(&["prog"], Some(&path))).unwrap_err().to_string();
        assert!(
            not_executable.starts_with("program prog is not in PATH (/nowhere:"),
            "{not_executable}"
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let found = command(&process(&["prog", "-x"], Some(&path))).unwrap();
        assert_eq!(found.get_program(), file.as_os_str());
        assert!(matches!(command(&process(&[], None)), Err(StartError::NoProgram)));
    }

    #[test]
    fn a_slash_means_no_search() {
        assert_eq!(command(&process(&["/x/y"], None)).unwrap().get_program(), "/x/y");
    }

    #[test]
    fn reports_say_how_it_is() {
        let mut history = History {
            starts: 3,
            last: Some(Exit::Signal(9)),
            refused: None,
        };
        let backing_off = State::BackingOff {
            until: Monotonic::boot(),
            attempt: 1,
        };
        assert_eq!(
            history.report(&backing_off),
            Workload::BackingOff { restarts: 3, code: 137 }
        );
        history.refused = Some("why".to_owned());
        assert_eq!(
            history.report(&backing_off),
            Workload::Failed {
                reason: "why".to_owned()
            }
        );
    }
}
