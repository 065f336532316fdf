//! Writes the corpus anew: first inputs of each target, made of true values. `cargo xtask fuzz --seeds` runs it after a format
//! has changed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use borsh::BorshSerialize;
use ledger::{
    Kind, Operation, Tokens,
    encoding::encode,
    query::{Position, Query},
    sets::Set,
    transaction::Step,
};
use node_api::manifest::{Entry, Manifest};
use workload::{EncryptionKey, Workload, node::Request, seal};
use zos_fuzz::world::{RELEASE, World, author};

/// Where the corpus is.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of one target.
struct Seeds {
    directory: PathBuf,
    count: usize,
}

impl Seeds {
    fn of(target: &str) -> io::Result<Self> {
        let directory = corpus().join(target);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, count: 0 })
    }

    fn add(&mut self, name: &str, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.count += 1;
        fs::write(self.directory.join(format!("{:03}-{name}", self.count)), bytes)
    }

    fn value(&mut self, kind: u8, name: &str, value: &impl BorshSerialize) -> io::Result<()> {
        self.add(name, [vec![kind], encode(value)].concat())
    }
}

fn main() -> io::Result<()> {
    let mut world = World::new();
    values(&mut world)?;
    texts(&world)?;
    choices("machine", 24, 400)?;
    choices("light", 24, 60)?;
    workloads()?;
    node_api()
}

fn values(world: &mut World) -> io::Result<()> {
    let mut seeds = Seeds::of("values")?;
    let head = world.certified.clone().expect("there is a block");
    let contract = world.store.latest.keys().find(|key| key.kind == Kind::Contract);
    let contract = *contract.expect("there is a contract");
    let progress = Operation::Progress {
        contract: contract.id,
        step: Step::Acknowledged,
    };
    let transfer = Operation::Transfer {
        to: author(2),
        amount: Tokens::from_micro(7),
    };
    let said = [
        (10, progress),
        (1, transfer),
        (1, Operation::OpenChannel(world.opening())),
        (1, Operation::PublishRelease(world.release(2, &RELEASE))),
    ];
    let said = said.map(|(seed, operation)| world.sign(seed, operation));
    let block = ledger::Block {
        header: head.header.clone(),
        transactions: said.to_vec(),
    };
    seeds.value(0, "block", &block)?;
    seeds.value(1, "header", &head.header)?;
    seeds.value(2, "certificate", &head.certificate)?;
    seeds.value(3, "certified-header", &head)?;
    for transaction in &said {
        seeds.value(4, "transaction", transaction)?;
    }
    for record in world.store.latest.values() {
        seeds.value(5, record.body.kind().name(), record)?;
    }
    seeds.value(6, "genesis", &world.genesis)?;
    seeds.value(7, "proof", &world.prove(contract))?;
    seeds.value(8, "validators", &world.genesis.validators)?;
    seeds.value(11, "query", &Query::all(Kind::Node))?;
    seeds.value(12, "position", &Position::default())?;
    for node in world.store.nodes.values().take(2) {
        seeds.value(13, "tree-node", node)?;
    }
    seeds.value(14, "key", &contract)?;
    let region = Set {
        kind: Kind::Contract,
        of: author(1),
    }
    .region();
    seeds.value(15, "region-proof", &(region, world.prove_below(region)))
}

fn texts(world: &World) -> io::Result<()> {
    let mut seeds = Seeds::of("texts")?;
    for text in [
        "12.5",
        "0.000001",
        "51.05,3.72",
        "-90,180",
        "8GiB",
        "90 min",
        "BE",
        "node",
        "active",
        "anna",
    ] {
        seeds.add("text", text)?;
    }
    seeds.add("hash", world.genesis.hash().to_string())?;
    seeds.add("position", Position::default().to_string())?;
    seeds.add("genesis", serde_json::to_string(&world.genesis)?)?;
    seeds.add("entity", serde_json::to_string(&world.genesis.entities[0].entity)?)?;
    let transfer = Operation::Transfer {
        to: author(2),
        amount: Tokens::from_micro(7),
    };
    seeds.add("transaction", serde_json::to_string(&world.sign(1, transfer))?)
}

/// Choices by a generator whose figures are always the same.
fn choices(target: &str, count: u32, length: usize) -> io::Result<()> {
    let mut seeds = Seeds::of(target)?;
    for number in 0..count {
        let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(1);
        let byte = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        let bytes: Vec<u8> = std::iter::repeat_with(byte).take(length).collect();
        seeds.add("choices", bytes)?;
    }
    Ok(())
}

fn workloads() -> io::Result<()> {
    let mut seeds = Seeds::of("workload")?;
    let contract = author(1);
    seeds.value(0, "status", &Request::Status { contract })?;
    seeds.value(0, "tunnel", &Request::Tunnel { contract, port: 80 })?;
    let workload = Workload {
        name: "web".into(),
        env: vec![("A".into(), "b".into())],
        args: Some(vec!["run".into()]),
        ports: vec![80],
        volumes: vec![],
    };
    seeds.value(2, "workload", &workload)?;
    let key = EncryptionKey::from_seed(&[8; 32]);
    let sealed = seal(&workload, &[key.public()]).map_err(io::Error::other)?;
    seeds.add("sealed", [vec![3], sealed].concat())?;
    seeds.add("forged", [4, 0, 0, 0, 1])
}

fn node_api() -> io::Result<()> {
    let mut seeds = Seeds::of("node_api")?;
    let lines: [(u8, &str); 4] = [
        (0, "\"status\"\n"),
        (3, "\"status\"\n"),
        (6, "\"status\"\n"),
        (9, "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n"),
    ];
    for (kind, line) in lines {
        seeds.add("line", [&[kind], line.as_bytes()].concat())?;
    }
    let mut manifest = Manifest::new();
    let entry = Entry::file(b"text", 0o644);
    manifest.insert("/etc/file", entry).map_err(io::Error::other)?;
    seeds.add("manifest", [vec![8], manifest.to_string().into_bytes()].concat())?;
    seeds.add("milestone", b"\x0a[zos +61.007] init: ready: all up")
}
