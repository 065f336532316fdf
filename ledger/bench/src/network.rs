//! Several validators on this machine, each a process.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use ledger::{Hash, PublicKey, SigningKey, Validator};
use ledger_node::Home;
use peer_link::PeerAddress;

use crate::world;

/// First of the UDP ports.
const PORT: u16 = 7_771;

/// What a validator runs.
#[derive(Debug, Clone)]
pub enum Program {
    /// `ledgerd` at this path.
    Ledgerd(PathBuf),
    /// This program with a bare engine.
    Bare,
}

/// A process that ends with this.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Validators that run.
#[derive(Debug)]
pub struct Network {
    /// The chain's id.
    pub chain: Hash,
    /// Where the validators are reached.
    pub peers: Vec<PeerAddress>,
    _processes: Vec<Process>,
}

fn address(number: u16) -> SocketAddr {
    ([127, 0, 0, 1], PORT + number).into()
}

/// Starts a chain of `validators` validators in which `owners` have tokens.
///
/// # Errors
/// When one does not start.
pub fn start(
    program: &Program,
    directory: &Path,
    (validators, interval_ms): (u16, u32),
    owners: &[SigningKey],
) -> Result<Network> {
    let homes: Vec<PathBuf> = (0..validators)
        .map(|number| directory.join(number.to_string()))
        .collect();
    let introduced = homes.iter().zip(0..).map(|(home, number)| {
        fs::create_dir_all(home)?;
        Ok(Home::introduce(home, vec![address(number)])?)
    });
    let introduced = introduced.collect::<Result<Vec<_>>>()?;
    let set = introduced.iter().map(|validator| Validator {
        key: validator.key,
        link: PublicKey::from_bytes(*validator.peer.id().as_bytes()),
        power: 1,
    });
    let genesis = world::genesis(set.collect(), interval_ms, owners)?;
    let peers: Vec<PeerAddress> = introduced.into_iter().map(|validator| validator.peer).collect();
    let mut processes = Vec::new();
    for (home, number) in homes.iter().zip(0..) {
        let others: Vec<PeerAddress> = peers
            .iter()
            .filter(|peer| !peer.addresses().contains(&address(number)))
            .cloned()
            .collect();
        Home::join(home, genesis.clone(), others.clone())?;
        processes.push(start_one(program, home, number, &others)?);
    }
    Ok(Network {
        chain: genesis.hash(),
        peers,
        _processes: processes,
    })
}

/// Starts one validator and waits until it says that it is ready.
///
/// # Errors
/// When it ends before.
pub fn start_one(program: &Program, home: &Path, number: u16, others: &[PeerAddress]) -> Result<Process> {
    let listen = address(number).to_string();
    let mut command = match program {
        Program::Ledgerd(path) => {
            let mut command = Command::new(path);
            command.args(["run", "--http", "off", "--advertise", &listen]);
            command
        }
        Program::Bare => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("bare");
            for peer in others {
                command.args(["--peer", &peer.to_string()]);
            }
            command
        }
    };
    command
        .args(["--listen", &listen, "--dir"])
        .arg(home)
        .stdout(Stdio::piped());
    command.env("LEDGERD_LOG", "warn");
    let mut process = Process(command.spawn().context("start a validator")?);
    let output = process.0.stdout.take().context("a validator's output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(!line.is_empty(), "a validator ended before it was ready");
    Ok(process)
}
