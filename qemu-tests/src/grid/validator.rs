//! The chain's one validator.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Bot, program::Program, programs::Programs};

/// Until it is ready.
const READY: Duration = Duration::from_secs(60);

/// A running validator.
#[derive(Debug)]
pub(super) struct Validator {
    chain: String,
    peer: String,
    _program: Program,
}

impl Validator {
    /// Makes a chain on which some bots own whole tokens, and runs its validator.
    pub(super) fn start(programs: &Programs, directory: &Path, owners: &[(&Bot, u32)]) -> Result<Self> {
        let home = directory.join("ledgerd");
        let log = directory.join("ledgerd.log");
        let mut words = vec!["init".to_owned(), "--dir".to_owned(), home.display().to_string()];
        for (owner, tokens) in owners {
            let entity = directory.join(format!("{}.json", owner.name()));
            fs::write(&entity, owner.run(&["entity"])?).with_context(|| format!("write {}", entity.display()))?;
            words.push("--entity".to_owned());
            words.push(format!("{}={tokens}", entity.display()));
        }
        let made = Program::run(&programs.ledgerd, &words, &log, READY)?;
        let chain = text(&made, "chain")?;
        let words = ["run", "--dir", &home.display().to_string(), "--listen", "127.0.0.1:0"].map(str::to_owned);
        let program = Program::start(&programs.ledgerd, &words, &log)?;
        let peer = text(&program.ready(READY)?, "peer")?;
        Ok(Self {
            chain,
            peer,
            _program: program,
        })
    }

    /// Hash of the chain's genesis.
    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    /// Its address on this computer, `KEY@IP:PORT`.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// Its address where this computer is called `host`.
    pub(super) fn peer_from(&self, host: IpAddr) -> Result<String> {
        moved(&self.peer, host)
    }
}

fn moved(peer: &str, host: IpAddr) -> Result<String> {
    let (key, address) = peer.split_once('@').context("the validator's address has no @")?;
    let address: SocketAddr = address
        .parse()
        .with_context(|| format!("read the validator's address {address}"))?;
    Ok(format!("{key}@{}", SocketAddr::new(host, address.port())))
}

/// A field of a line of JSON.
fn text(line: &str, field: &str) -> Result<String> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("read what ledgerd said: {line}"))?;
    let text = value[field].as_str();
    text.map(str::to_owned)
        .with_context(|| format!("ledgerd said no {field}: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_moved_to_where_the_host_is_seen() {
        assert_eq!(moved("aa@127.0.0.1:7", super::super::HOST).unwrap(), "aa@10.0.2.2:7");
        assert!(moved("127.0.0.1:7", super::super::HOST).is_err());
    }
}
