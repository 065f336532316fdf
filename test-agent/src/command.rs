//! What can be asked for.

use std::{io, net::SocketAddr};

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Which process the agent is.
    Agent,
    /// Which process a contract's monitor is.
    Monitor(String),
    /// How much memory PID 1 holds.
    InitMemory,
    /// How much memory the agent holds.
    AgentMemory,
    /// How much memory a contract's monitor holds beyond its guest's, which has so many bytes.
    MonitorMemory(String, u64),
    /// Which sockets are open to anyone.
    Sockets,
    /// Kill the agent.
    KillAgent,
    /// Make the agent do nothing any more.
    FreezeAgent,
    /// Kill a contract's monitor.
    KillMonitor(String),
    /// Ask a guest for a page.
    Get(SocketAddr, String),
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The line is none of the known ones.
    #[error("not a command")]
    Unknown,
    /// Nobody is meant, or more than one.
    #[error("{count} processes are meant")]
    Processes {
        /// How many.
        count: usize,
    },
    /// The kernel says no.
    #[error("{step}: {source}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Makes a refusal of an error of `step`.
pub(crate) fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Refusal {
    move |source| Refusal::Failed {
        step,
        source: source.into(),
    }
}

impl Command {
    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Result<Self, Refusal> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["agent"] => Ok(Self::Agent),
            ["monitor", contract] => Ok(Self::Monitor((*contract).to_owned())),
            ["memory", "init"] => Ok(Self::InitMemory),
            ["memory", "agent"] => Ok(Self::AgentMemory),
            ["memory", "monitor", contract, guest] => {
                let guest = guest.parse().map_err(|_| Refusal::Unknown)?;
                Ok(Self::MonitorMemory((*contract).to_owned(), guest))
            }
            ["sockets"] => Ok(Self::Sockets),
            ["freeze", "agent"] => Ok(Self::FreezeAgent),
            ["kill", "agent"] => Ok(Self::KillAgent),
            ["kill", "monitor", contract] => Ok(Self::KillMonitor((*contract).to_owned())),
            ["get", address, path] => {
                let address = address.parse().map_err(|_| Refusal::Unknown)?;
                Ok(Self::Get(address, (*path).to_owned()))
            }
            _ => Err(Refusal::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_understood_and_others_refused() {
        let monitor = Command::KillMonitor("0a1b".to_owned());
        assert_eq!(Command::parse("kill monitor 0a1b").unwrap(), monitor);
        assert_eq!(Command::parse(" kill  agent\r").unwrap(), Command::KillAgent);
        let get = Command::Get(SocketAddr::from(([100, 64, 0, 2], 80)), "/".to_owned());
        assert_eq!(Command::parse("get 100.64.0.2:80 /").unwrap(), get);
        for line in [
            "",
            "kill",
            "kill init",
            "kill agent now",
            "get here /",
            "memory monitor 0a",
        ] {
            assert!(Command::parse(line).is_err(), "{line:?}");
        }
    }
}
