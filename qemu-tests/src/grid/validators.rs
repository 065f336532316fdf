//! The chain's validators: a process and a home each, on the loopback address.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{program::Program, programs::Programs};

/// Until a validator is ready.
const READY: Duration = Duration::from_secs(60);

/// The file with their ports, beside their homes.
const PORTS: &str = "ports.json";

/// The validators of a chain, running. Dropping it kills them.
#[derive(Debug)]
pub struct Validators {
    chain: String,
    running: Vec<Validator>,
}

#[derive(Debug)]
struct Validator {
    peer: String,
    http: String,
    program: Program,
}

impl Validators {
    /// Runs a chain with one validator for each of `ports`, at the loopback address; a lone one may take any port, 0. Goes on
    /// with the chain that is in `directory`, or founds one there on which `owners`, `FILE=TOKENS` each, have tokens.
    ///
    /// # Errors
    /// If another number of validators is there, or one does not get ready. The error has what it said.
    pub fn start(programs: &Programs, directory: &Path, ports: &[u16], owners: &[String]) -> Result<Self> {
        let homes = homes(directory);
        if !homes.exists() {
            let founding = directory.join("validators.partial");
            if founding.exists() {
                fs::remove_dir_all(&founding).with_context(|| format!("remove {}", founding.display()))?;
            }
            Founding {
                ledgerd: &programs.ledgerd,
                homes: &founding,
                log: &directory.join("founding.log"),
            }
            .found(ports, owners)?;
            fs::rename(&founding, &homes).with_context(|| format!("name {}", homes.display()))?;
        }
        let founded = founded_for(&homes)?;
        ensure!(
            founded == ports,
            "the validators in {} listen at the ports {founded:?} and not {ports:?}",
            homes.display()
        );
        let mut chain = String::new();
        let mut running = Vec::new();
        for (number, port) in (1..).zip(ports) {
            let home = home(&homes, number).display().to_string();
            let (link, http) = (loopback(*port), loopback(0));
            let words = ["run", "--dir", &home, "--listen", &link, "--http", &http].map(str::to_owned);
            let program = Program::start(
                &programs.ledgerd,
                &words,
                &directory.join(format!("validator-{number}.log")),
            )?;
            let ready = program.ready(READY)?;
            chain = text(&ready, "chain")?;
            let (peer, http) = (text(&ready, "peer")?, text(&ready, "http")?);
            running.push(Validator { peer, http, program });
        }
        Ok(Self { chain, running })
    }

    /// Hash of the chain's genesis.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Their addresses on this computer, `KEY@IP:PORT` each.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        self.running.iter().map(|validator| validator.peer.as_str())
    }

    /// Where readers are answered over HTTP, for each of them.
    pub fn http(&self) -> impl Iterator<Item = &str> {
        self.running.iter().map(|validator| validator.http.as_str())
    }

    /// The first one's address.
    pub(super) fn peer(&self) -> &str {
        self.peers().next().unwrap_or_default()
    }

    /// The first one's address where this computer is called `host`.
    pub(super) fn peer_from(&self, host: IpAddr) -> Result<String> {
        moved(self.peer(), host)
    }

    /// Numbers of those that have ended by themselves, 1 for the first.
    #[must_use]
    pub fn ended(&self) -> Vec<usize> {
        let ended = (1..).zip(&self.running);
        ended
            .filter(|(_, validator)| validator.program.has_ended())
            .map(|(number, _)| number)
            .collect()
    }
}

/// The ports that validators were founded for, by which they know each other.
fn founded_for(homes: &Path) -> Result<Vec<u16>> {
    let file = homes.join(PORTS);
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

/// The directory with a home for each validator.
#[must_use]
pub fn homes(directory: &Path) -> PathBuf {
    directory.join("validators")
}

fn home(homes: &Path, number: usize) -> PathBuf {
    homes.join(number.to_string())
}

fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Making the homes of a new chain's validators.
struct Founding<'a> {
    ledgerd: &'a Path,
    homes: &'a Path,
    log: &'a Path,
}

impl Founding<'_> {
    fn found(&self, ports: &[u16], owners: &[String]) -> Result<()> {
        fs::create_dir_all(self.homes).with_context(|| format!("make {}", self.homes.display()))?;
        let introductions = match ports {
            // Nobody is to reach it, and it may not know its port yet.
            [_] => vec![],
            ports => (1..)
                .zip(ports)
                .map(|(number, port)| self.introduce(number, *port))
                .collect::<Result<_>>()?,
        };
        let mut words = self.words("init", 1);
        for (file, _) in introductions.iter().skip(1) {
            words.extend(["--validator".to_owned(), file.display().to_string()]);
        }
        for owner in owners {
            words.extend(["--entity".to_owned(), owner.clone()]);
        }
        self.run(&words)?;
        let genesis = home(self.homes, 1).join("genesis.json").display().to_string();
        for number in 2..=introductions.len() {
            let mut words = self.words("join", number);
            words.extend(["--genesis".to_owned(), genesis.clone()]);
            for (_, peer) in &introductions {
                words.extend(["--peer".to_owned(), peer.clone()]);
            }
            self.run(&words)?;
        }
        let file = self.homes.join(PORTS);
        fs::write(&file, serde_json::to_vec(ports)?).with_context(|| format!("write {}", file.display()))?;
        introductions
            .iter()
            .try_for_each(|(file, _)| fs::remove_file(file).with_context(|| format!("remove {}", file.display())))
    }

    /// Makes a validator's keys. Returns the file that introduces it, and its address.
    fn introduce(&self, number: usize, port: u16) -> Result<(PathBuf, String)> {
        let mut words = self.words("keys", number);
        words.extend(["--advertise".to_owned(), loopback(port)]);
        let introduction = self.run(&words)?;
        let file = self.homes.join(format!("{number}.json"));
        fs::write(&file, &introduction).with_context(|| format!("write {}", file.display()))?;
        Ok((file, text(&introduction, "peer")?))
    }

    fn words(&self, command: &str, number: usize) -> Vec<String> {
        let home = home(self.homes, number).display().to_string();
        vec![command.to_owned(), "--dir".to_owned(), home]
    }

    fn run(&self, words: &[String]) -> Result<String> {
        Program::run(self.ledgerd, words, self.log, READY)
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
