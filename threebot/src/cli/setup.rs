//! Making an identity and saying which chain it is on.

use std::{io::Read, path::Path};

use ledger::{Hash, Id, body::Entity, text::Text};
use peer_link::PeerAddress;
use threebot::{
    control::{Failure, FailureKind},
    home::{Config, Home},
    identity::{Identity, IdentityFile, Protection, Seed},
};
use zeroize::Zeroizing;

use super::{arguments::Setup, because, failure, passphrase, print};

/// Longest text in which recovery words are looked for, in bytes.
const MAX_WORDS: u64 = 4_096;

/// `init`: a new identity.
pub(super) fn init(home: &Home, setup: Setup, file: Option<&Path>, json: bool) -> Result<(), Failure> {
    let identity = Identity::founded(draw()?);
    make(home, &identity, setup, file)?;
    print::words(Some(identity.id()), &identity.seed().words(), json);
    Ok(())
}

/// `recover`: the identity behind words on standard input, of the entity that they founded or of another one.
pub(super) fn recover(
    home: &Home,
    (setup, entity): (Setup, Option<Id>),
    file: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let seed = read_words()?;
    let identity = Identity::of(entity.unwrap_or_else(|| seed.founding_id()), seed);
    make(home, &identity, setup, file)?;
    if json {
        print::json(&serde_json::json!({"id": identity.id()}));
    } else {
        print::line(&format!("id: {}", identity.id()));
    }
    Ok(())
}

/// A new seed.
pub(super) fn draw() -> Result<Seed, Failure> {
    Seed::generate().map_err(|error| failure(FailureKind::Local, format!("draw a seed: {error}")))
}

/// The seed behind words on standard input.
pub(super) fn read_words() -> Result<Seed, Failure> {
    let mut words = Zeroizing::new(String::new());
    std::io::stdin()
        .take(MAX_WORDS)
        .read_to_string(&mut words)
        .map_err(|error| failure(FailureKind::Local, format!("read recovery words: {error}")))?;
    Seed::from_words(&words).map_err(|error| because(FailureKind::Usage)(&error))
}

/// Makes a home directory for an identity.
pub(super) fn make(
    home: &Home,
    identity: &Identity,
    setup: Setup,
    file: Option<&Path>,
) -> Result<IdentityFile, Failure> {
    if setup.name.trim().is_empty() {
        return Err(failure(FailureKind::Usage, "--name: it is empty"));
    }
    let name = Text::new(setup.name).map_err(|error| failure(FailureKind::Usage, format!("--name: {error}")))?;
    let given = if setup.no_passphrase {
        None
    } else {
        Some(new_passphrase(file)?)
    };
    let plain = given.is_none();
    let protection = given.map_or(Protection::Plain, Protection::Passphrase);
    home.create().map_err(|error| because(FailureKind::Local)(&error))?;
    let made = IdentityFile::create(&home.identity(), identity, protection);
    let made = made.map_err(|error| because(FailureKind::Identity)(&error))?;
    if plain {
        print::note("the identity is stored unencrypted: whoever reads its file can spend its tokens");
    }
    let config = Config {
        name,
        genesis: setup.genesis,
        peers: setup.peers,
        listen: setup.listen,
        advertise: setup.advertise,
    };
    home.write_config(&config)
        .map_err(|error| because(FailureKind::Local)(&error))?;
    Ok(made)
}

fn new_passphrase(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let missing = || {
        let text =
            "give a passphrase by $THREEBOT_PASSPHRASE, --passphrase-file or at a terminal, or say --no-passphrase";
        failure(FailureKind::Identity, text)
    };
    let chosen = match passphrase::given(file)? {
        Some(given) => given,
        None => {
            let first = passphrase::prompt("new passphrase").ok_or_else(missing)?;
            let second = passphrase::prompt("the same again").ok_or_else(missing)?;
            if first != second {
                return Err(failure(FailureKind::Identity, "the two passphrases differ"));
            }
            first
        }
    };
    if chosen.is_empty() {
        return Err(failure(
            FailureKind::Identity,
            "the passphrase is empty; say --no-passphrase if you want none",
        ));
    }
    Ok(chosen)
}

/// Opens the identity.
pub(super) fn open(home: &Home, file: Option<&Path>) -> Result<Identity, Failure> {
    open_file(home, file).map(|(_, identity)| identity)
}

/// Opens the identity, to change it.
pub(super) fn open_file(home: &Home, file: Option<&Path>) -> Result<(IdentityFile, Identity), Failure> {
    let given = passphrase::given(file)?;
    let asked = || given.or_else(|| passphrase::prompt("passphrase"));
    IdentityFile::open(&home.identity(), asked).map_err(|error| because(FailureKind::Identity)(&error))
}

/// `chain`: which chain, and whom to ask.
pub(super) fn chain(home: &Home, genesis: Hash, peers: Vec<PeerAddress>) -> Result<(), Failure> {
    let local = |error: threebot::home::HomeError| because(FailureKind::Local)(&error);
    let mut config = home.config().map_err(local)?;
    if let Some(before) = config.genesis.filter(|before| *before != genesis) {
        print::note(&format!("the bot leaves chain {before}"));
    }
    config.genesis = Some(genesis);
    config.peers = peers;
    home.write_config(&config).map_err(local)
}

/// The entity record for a genesis.
pub(super) fn entity(home: &Home, identity: &Identity) -> Result<Entity, Failure> {
    let config = home.config().map_err(|error| because(FailureKind::Local)(&error))?;
    Ok(Entity {
        keys: identity.keys(),
        name: config.name,
        addresses: config.advertise,
        recovery: None,
    })
}
