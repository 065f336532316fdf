//! A validator's directory: its keys, the genesis and the chain.
//!
//! ```text
//! validator.key    seeds of the consensus and link keys, 0600
//! peers.json       where other validators are reached; absent: nowhere
//! genesis.json     the chain's genesis
//! chain.redb       blocks, records, indexes
//! consensus/       write-ahead log and undecided blocks
//! ```
//!
//! Each file appears whole or not at all, the genesis last: a directory with a genesis is complete, and one without holds at
//! most keys that signed nothing yet, with which another init or join goes on. Keys alone must not be put back from a copy: without
//! the log of what it has signed a validator may sign a height again.

mod files;
mod keys;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ledger::{
    Genesis, SigningKey, Tokens, ValidatorSet,
    body::Entity,
    consensus::MAX_VALIDATORS,
    genesis::{GenesisEntity, GenesisError, Issuance},
    text::{Text, TextError},
};
use peer_link::{AddressError, LinkKey, PeerAddress};

pub use keys::Introduction;

use self::keys::{Keys, validator};
use crate::Clock;

/// Most peers that a validator is told of.
pub const MAX_PEERS: usize = MAX_VALIDATORS;

const GENESIS: &str = "genesis.json";
const PEERS: &str = "peers.json";
const DATABASE: &str = "chain.redb";
const CONSENSUS: &str = "consensus";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is a chain already.
    #[error("{0} exists already; choose another directory")]
    Exists(PathBuf),
    /// There is no chain yet.
    #[error("{0} is missing; run `ledgerd init --dir DIR` or `ledgerd join --dir DIR` first")]
    Missing(PathBuf),
    /// A file that another program makes is not there.
    #[error("{path} is missing; {made_by} writes one")]
    NotMade {
        /// The file.
        path: PathBuf,
        /// What writes it.
        made_by: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The addresses cannot be told to others.
    #[error("addresses of the validator")]
    Addresses(#[source] AddressError),
    /// More peers than a validator keeps.
    #[error("{0} peers are too many; name at most {MAX_PEERS}")]
    Peers(usize),
    /// The chain's name is not usable.
    #[error("name of the chain")]
    Name(#[source] TextError),
    /// The options form no genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The system gave no randomness.
    #[error("system randomness: {0}")]
    Randomness(getrandom::Error),
}

/// What a new chain starts with.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// A name for people.
    pub name: String,
    /// Time between blocks in milliseconds.
    pub interval_ms: u32,
    /// Longest time between two attestations of a node that counts as active, in milliseconds.
    pub attest_ms: u64,
    /// What is deposited for a name.
    pub name_deposit: Tokens,
    /// Files with an entity as JSON, and what each owns from the start.
    pub entities: Vec<(PathBuf, Tokens)>,
    /// Files with the [`Introduction`]s of the validators besides this one.
    pub validators: Vec<PathBuf>,
}

/// A validator's directory.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    /// The chain's genesis.
    pub genesis: Genesis,
    /// Key that signs votes.
    pub consensus_key: SigningKey,
    /// Key of the peer link.
    pub link_key: LinkKey,
    /// Where other validators are reached.
    pub peers: Vec<PeerAddress>,
}

impl Home {
    /// What the validator of a directory, reached at some addresses, tells those who found a chain with it. Makes its keys
    /// if it has none.
    ///
    /// # Errors
    /// [`HomeError`] when the addresses cannot be told, or the keys be read or written.
    pub fn introduce(directory: &Path, addresses: Vec<SocketAddr>) -> Result<Introduction, HomeError> {
        let keys = Keys::read_or_make(directory)?;
        let peer = PeerAddress::new(keys.link.id(), addresses).map_err(HomeError::Addresses)?;
        make_directory(directory)?;
        keys.keep(directory)?;
        Ok(Introduction {
            key: keys.consensus.public(),
            peer,
        })
    }

    /// Makes a new chain.
    ///
    /// # Errors
    /// [`HomeError`] when there is one already, an option is wrong or a file cannot be written.
    pub fn init(directory: &Path, options: &InitOptions) -> Result<Self, HomeError> {
        check_vacant(directory)?;
        let entities = options.entities.iter().map(read_entity).collect::<Result<_, _>>()?;
        let others: Vec<Introduction> = options
            .validators
            .iter()
            .map(|path| Introduction::read(path))
            .collect::<Result<_, _>>()?;
        let keys = Keys::read_or_make(directory)?;
        let mut validators = vec![validator(keys.consensus.public(), keys.link.id())];
        validators.extend(others.iter().map(Introduction::validator));
        let genesis = Genesis {
            name: Text::new(&options.name).map_err(HomeError::Name)?,
            time: Clock::default().now(),
            block_interval_ms: options.interval_ms,
            attest_ms: options.attest_ms,
            name_deposit: options.name_deposit,
            validators: ValidatorSet::new(validators).map_err(GenesisError::Validators)?,
            entities,
            issuance: Issuance::Fixed,
        };
        let peers = others.into_iter().map(|other| other.peer).collect();
        Self::complete(directory, keys, genesis, peers)
    }

    /// Makes the directory of a member of a chain that somebody else founded. It votes if the genesis has the keys that
    /// [`Self::introduce`] gave, and follows the chain otherwise.
    ///
    /// # Errors
    /// [`HomeError`] when there is a chain already, the genesis breaks a rule or a file cannot be written.
    pub fn join(directory: &Path, genesis: Genesis, peers: Vec<PeerAddress>) -> Result<Self, HomeError> {
        check_vacant(directory)?;
        if peers.len() > MAX_PEERS {
            return Err(HomeError::Peers(peers.len()));
        }
        Self::complete(directory, Keys::read_or_make(directory)?, genesis, peers)
    }

    fn complete(directory: &Path, keys: Keys, genesis: Genesis, peers: Vec<PeerAddress>) -> Result<Self, HomeError> {
        genesis.check()?;
        make_directory(directory)?;
        keys.keep(directory)?;
        // What a killed init or join left of it may be of another chain.
        files::remove(&directory.join(PEERS))?;
        if !peers.is_empty() {
            files::write_new(&directory.join(PEERS), 0o644, &peers)?;
        }
        files::write_new(&directory.join(GENESIS), 0o644, &genesis)?;
        Ok(Self {
            directory: directory.to_owned(),
            genesis,
            consensus_key: keys.consensus,
            link_key: keys.link,
            peers,
        })
    }

    /// Reads a directory that [`Self::init`] or [`Self::join`] made.
    ///
    /// # Errors
    /// [`HomeError`] when a file is missing or damaged.
    pub fn open(directory: &Path) -> Result<Self, HomeError> {
        let genesis = read_genesis(&directory.join(GENESIS))?;
        let keys = Keys::read(directory)?;
        let peers: Vec<PeerAddress> = match files::read(&directory.join(PEERS)) {
            Err(HomeError::Missing(_)) => vec![],
            read => read?,
        };
        if peers.len() > MAX_PEERS {
            return Err(HomeError::Peers(peers.len()));
        }
        Ok(Self {
            directory: directory.to_owned(),
            genesis,
            consensus_key: keys.consensus,
            link_key: keys.link,
            peers,
        })
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// The consensus engine's directory.
    #[must_use]
    pub fn consensus(&self) -> PathBuf {
        self.directory.join(CONSENSUS)
    }
}

/// Reads the genesis that a chain's founder hands out.
///
/// # Errors
/// [`HomeError`] when there is none at `path`, or it breaks a rule.
pub fn read_genesis(path: &Path) -> Result<Genesis, HomeError> {
    let genesis: Genesis = files::read(path)?;
    genesis.check()?;
    Ok(genesis)
}

/// A chain without its genesis is no half-made directory: its keys have signed.
fn check_vacant(directory: &Path) -> Result<(), HomeError> {
    for left in [GENESIS, DATABASE, CONSENSUS].map(|name| directory.join(name)) {
        if left.exists() {
            return Err(HomeError::Exists(left));
        }
    }
    Ok(())
}

fn make_directory(directory: &Path) -> Result<(), HomeError> {
    fs::create_dir_all(directory).map_err(|source| HomeError::Io {
        path: directory.to_owned(),
        source,
    })
}

fn read_entity((path, balance): &(PathBuf, Tokens)) -> Result<GenesisEntity, HomeError> {
    let entity: Entity = files::read_made_by(path, "entity record", "`threebot entity > FILE`")?;
    Ok(GenesisEntity {
        entity,
        balance: *balance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> InitOptions {
        InitOptions {
            name: "test".into(),
            interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            entities: vec![],
            validators: vec![],
        }
    }

    #[test]
    fn a_directory_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let options = options();
        assert!(matches!(Home::open(folder.path()), Err(HomeError::Missing(_))));
        let made = Home::init(folder.path(), &options).unwrap();
        let read = Home::open(folder.path()).unwrap();
        assert_eq!(made.genesis.hash(), read.genesis.hash());
        assert_eq!(made.link_key.id(), read.link_key.id());
        assert!(matches!(Home::init(folder.path(), &options), Err(HomeError::Exists(_))));
    }

    #[test]
    fn an_init_that_was_killed_between_its_files_is_completed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let options = options();
        let killed = Home::init(folder.path(), &options).unwrap();
        // Cut off in the middle of the second file.
        fs::remove_file(folder.path().join("genesis.json")).unwrap();
        fs::write(folder.path().join("genesis.next"), "{\"na").unwrap();
        assert!(matches!(Home::open(folder.path()), Err(HomeError::Missing(_))));
        let made = Home::init(folder.path(), &options).unwrap();
        assert_eq!(made.link_key.id(), killed.link_key.id());
        // Cut off in the middle of the first one.
        let fresh = tempfile::tempdir().unwrap();
        fs::write(fresh.path().join("validator.next"), "{").unwrap();
        Home::init(fresh.path(), &options).unwrap();
        let old = tempfile::tempdir().unwrap();
        fs::write(old.path().join("chain.redb"), "").unwrap();
        assert!(matches!(Home::init(old.path(), &options), Err(HomeError::Exists(_))));
        for folder in [folder.path(), fresh.path()] {
            Home::open(folder).unwrap();
            assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
        }
    }

    #[test]
    fn an_interval_out_of_bounds_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions {
            interval_ms: 1,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            ..options()
        };
        assert!(matches!(
            Home::init(folder.path(), &options),
            Err(HomeError::Genesis(_))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn introduced_validators_found_one_chain_that_each_can_join() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let introduce = |name: &str, port: u16| {
            let introduction = Home::introduce(&place(name), vec![([127, 0, 0, 1], port).into()]).unwrap();
            let file = place(&format!("{name}.json"));
            fs::write(&file, serde_json::to_vec(&introduction).unwrap()).unwrap();
            (introduction, file)
        };
        let (second, second_file) = introduce("second", 7772);
        let (third, third_file) = introduce("third", 7773);
        assert_eq!(introduce("second", 7772).0, second, "its keys are made once");
        let founded = InitOptions {
            validators: vec![second_file, third_file],
            ..options()
        };
        let founder = Home::init(&place("founder"), &founded).unwrap();
        assert_eq!(founder.peers, [second.peer, third.peer.clone()]);
        assert_eq!(founder.genesis.validators.validators().len(), 3);
        let joined = Home::join(&place("second"), founder.genesis.clone(), vec![third.peer.clone()]).unwrap();
        assert_eq!(joined.consensus_key.public(), second.key);
        assert!(founder.genesis.validators.get(&second.key).is_some());
        let read = Home::open(&place("second")).unwrap();
        assert_eq!(
            (read.genesis.hash(), read.peers),
            (founder.genesis.hash(), vec![third.peer])
        );
        let again = Home::join(&place("second"), founder.genesis, vec![]);
        assert!(matches!(again, Err(HomeError::Exists(_))), "{again:?}");
    }

    #[test]
    fn a_missing_or_wrong_introduction_says_what_writes_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("other.json");
        let with_file = InitOptions {
            validators: vec![file.clone()],
            ..options()
        };
        let init = || {
            Home::init(&folder.path().join("home"), &with_file)
                .unwrap_err()
                .to_string()
        };
        assert!(init().contains("`ledgerd keys --dir DIR --advertise IP:PORT > FILE` writes one"));
        fs::write(&file, "{}").unwrap();
        assert!(init().contains("no introduction"), "{}", init());
        assert!(!folder.path().join("home").exists());
    }
}
