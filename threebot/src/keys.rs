//! Changing the keys that the chain has for a bot: rotation, a recovery key, recovery.
//!
//! A change is kept before it is sent, so that an end in between loses no key: what was begun is finished by doing it again.

use std::net::SocketAddr;

use chain_client::{Author, ChainClient, Complaints};
use ledger::{Hash, Id, Kind, NewKeys, Operation, RecordKey, RecoveryChange, body::Entity};
use peer_link::Endpoint;

use crate::{
    bot::{BotError, error_line},
    home::Config,
    identity::{Identity, IdentityFile, IdentityFileError, Seed},
};

/// Why keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The chain was not reached, or refuses.
    #[error(transparent)]
    Bot(#[from] BotError),
    /// The identity could not be kept.
    #[error(transparent)]
    File(#[from] IdentityFileError),
}

/// A bot's identity and the chain, while no daemon runs.
#[derive(Debug)]
pub struct Keyring {
    chain: ChainClient,
    endpoint: Endpoint,
    file: IdentityFile,
    identity: Identity,
}

impl Keyring {
    /// Opens the chain that is configured.
    ///
    /// # Errors
    /// [`BotError`] when none is, or when it is not reached.
    pub async fn open(config: &Config, (file, identity): (IdentityFile, Identity)) -> Result<Self, BotError> {
        let (genesis, peers) = config.chain()?;
        // Nobody reaches it here, so any port will do.
        let listen = SocketAddr::new(config.listen.ip(), 0);
        let endpoint = Endpoint::bind(&identity.link(), listen)
            .await
            .map_err(|error| BotError::Local(error_line(&error)))?;
        let opened = ChainClient::open(endpoint.clone(), genesis, peers, None, Complaints::to_log()).await;
        match opened {
            Ok(chain) => Ok(Self {
                chain,
                endpoint,
                file,
                identity,
            }),
            Err(error) => {
                endpoint.close().await;
                Err(error.into())
            }
        }
    }

    /// Closes its link.
    pub async fn close(self) {
        self.endpoint.close().await;
    }

    /// The entity as it stands on the chain, with the hash of its latest version.
    ///
    /// # Errors
    /// [`BotError`] when it is not there, or the chain does not answer.
    pub async fn entity(&self) -> Result<(Entity, Hash), BotError> {
        let id = self.identity.id();
        let known = self.chain.record::<Entity>(id).await?;
        let known = known.ok_or_else(|| BotError::NotFound(format!("entity {id} is not on the chain")))?;
        Ok((known.body, known.record.hash()))
    }

    /// Gives the entity the keys of a seed, or of the one with which this was begun before. `keep` is told that seed once the
    /// identity file has it and before the chain does.
    ///
    /// # Errors
    /// [`KeysError`] says why it is not done; done again it goes on.
    pub async fn rotate(mut self, seed: Seed, keep: impl FnOnce(&Seed)) -> Result<Self, KeysError> {
        // Not begun where it cannot end well.
        self.entity().await?;
        if self.identity.next().is_none() {
            let begun = self.identity.clone().with_next(seed);
            self.file.replace(&begun)?;
            self.identity = begun;
        }
        let Some(next) = self.identity.next().cloned() else {
            return Ok(self);
        };
        keep(&next);
        let new = self.proven(&next);
        let author = Author {
            id: self.identity.id(),
            key: self.identity.signing(),
        };
        self.change(&author, Operation::RotateKeys(new), new).await?;
        self.identity = self.identity.renewed();
        self.file.replace(&self.identity)?;
        Ok(self)
    }

    /// Gives the entity the recovery key of a seed, or none. `present` is the seed of the one that it has. `keep` is called
    /// when nothing is known to speak against it and before the chain has it: nobody could replace a key whose seed is lost.
    ///
    /// # Errors
    /// [`BotError`] says why it is not done.
    pub async fn set_recovery(
        &self,
        seed: Option<&Seed>,
        present: Option<&Seed>,
        keep: impl FnOnce(),
    ) -> Result<(), BotError> {
        let (entity, version) = self.entity().await?;
        let change = RecoveryChange {
            entity: self.identity.id(),
            version,
            recovery: seed.map(|seed| seed.recovery().public()),
        };
        let consent = match (entity.recovery, present) {
            (None, _) => None,
            (Some(key), Some(present)) if present.recovery().public() == key => {
                Some(change.consent(self.chain.chain(), &present.recovery()))
            }
            (Some(_), Some(_)) => {
                let text = "these are not the words of the recovery key that the bot has now";
                return Err(BotError::Usage(text.to_owned()));
            }
            (Some(_), None) => {
                let text = "the bot has a recovery key; --replace or --remove, with its words on standard input";
                return Err(BotError::Usage(text.to_owned()));
            }
        };
        let author = Author {
            id: self.identity.id(),
            key: self.identity.signing(),
        };
        let operation = Operation::SetRecovery {
            recovery: change.recovery,
            consent,
        };
        keep();
        let Err(error) = self.chain.send(&author, operation).await else {
            return Ok(());
        };
        match self.entity().await {
            Ok((entity, _)) if entity.recovery == change.recovery => Ok(()),
            _ => Err(error.into()),
        }
    }

    /// Gives the entity the keys of this identity by its recovery key, which stays. `keep` is told their seed when nothing is
    /// known to speak against it and before the chain has them.
    ///
    /// # Errors
    /// [`BotError`] says why it is not done; done again it goes on.
    pub async fn recover(&self, recovery: &Seed, keep: impl FnOnce(&Seed)) -> Result<(), BotError> {
        let new = self.proven(self.identity.seed());
        let key = recovery.recovery();
        let by = key.public();
        if self.entity().await?.0.recovery != Some(by) {
            let text = "these are not the words of the entity's recovery key";
            return Err(BotError::Refused(text.to_owned()));
        }
        keep(self.identity.seed());
        let author = Author {
            id: Entity::recovery_author(&by),
            key,
        };
        let operation = Operation::Recover {
            entity: self.identity.id(),
            by,
            new,
            recovery: Some(by),
        };
        self.change(&author, operation, new).await
    }

    fn proven(&self, seed: &Seed) -> NewKeys {
        NewKeys::prove(self.chain.chain(), &seed.signing(), self.identity.id(), seed.keys())
    }

    /// Sends what gives the entity new keys, if it has them not yet.
    async fn change(&self, author: &Author, operation: Operation, new: NewKeys) -> Result<(), BotError> {
        if self.entity().await?.0.keys == new.keys {
            return Ok(());
        }
        let Err(error) = self.chain.send(author, operation).await else {
            return Ok(());
        };
        // Sent again after it stood on the chain it is refused, for the keys that signed it are replaced.
        match self.entity().await {
            Ok((entity, _)) if entity.keys == new.keys => Ok(()),
            _ => Err(error.into()),
        }
    }
}

/// Why a bot whose entity has other keys can do nothing.
pub(crate) fn other_keys(id: Id) -> BotError {
    BotError::Refused(format!(
        "{} has other keys on the chain than this bot: they were rotated or recovered elsewhere; with the recovery key's words \
         `threebot keys recover` takes it back",
        RecordKey::new(Kind::Entity, id)
    ))
}
