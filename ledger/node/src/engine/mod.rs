//! Consensus: blocks in a fixed beat, decided by more than two thirds of the validators' power.
//!
//! ```text
//!  Application  ◄── Host (own thread) ◄── engine (actors) ──► network: the other validators
//!                    │                     │
//!                    ▼                     ▼
//!                 bodies/               wal          both on disk before anything is signed or sent
//! ```
//!
//! The engine decides on block ids and signs over the chain's own bytes. The [`Application`] makes, checks and commits
//! blocks. One validator runs the same code with no peers.
//!
//! Crash safety: what we sign is in the write-ahead log, and the block it is about in `bodies/`, before it leaves the
//! process. After a crash at any moment the log is played back at the height the application names, the same messages are
//! signed again bit for bit (ed25519 is deterministic) and no others.
//!
//! Architecture invariant: no type of the engine's crates leaves this module.

mod assembly;
mod bodies;
mod codec;
mod evidence;
mod host;
mod hub;
mod linked;
mod mesh;
mod network;
mod signing;
#[cfg(test)]
mod tests;
mod types;
mod wal;

use std::{future::Future, io, path::PathBuf, time::Duration};

use arc_malachitebft_app_channel::{
    Channels, ConsensusContext, EngineBuilder, EngineHandle, RequestContext, SyncContext, WalContext,
    app::{
        config::{ConsensusConfig, NodeConfig, ValuePayload, ValueSyncConfig},
        types::core::LinearTimeouts,
    },
};
use ledger::{Certificate, Hash, SigningKey, ValidatorSet, body::Misconduct};
use tokio::sync::oneshot;
use tracing::info;

pub use bodies::BodyError;
pub use host::HostError;
pub use linked::Linked;
pub use mesh::{Addresses, Mesh, MeshDoor};

use types::Chain;

/// How often validators tell one another which blocks they have; one that fell behind notices no sooner.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Requests of ours that the engine has not taken yet.
const REQUESTS: usize = 100;

/// What decides a block's content and keeps it. Called from one thread, one call at a time; calls may block.
pub trait Application: Send + 'static {
    /// Why a block could not be made, checked, committed or read: a failure of this machine, after which the engine stops.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The height to be decided next: one above the last committed block. The first height is 1.
    ///
    /// # Errors
    /// When this machine fails; the engine then stops. A wrong height would be worse: at an earlier one it would vote again.
    fn next_height(&self) -> Result<u64, Self::Error>;

    /// The validators in force at `height`, which is at most [`Application::next_height`].
    fn validators(&self, height: u64) -> ValidatorSet;

    /// Makes a block for the next height. Called at most once for a height and round, crashes included, unless the
    /// process died before the result was on disk.
    ///
    /// # Errors
    /// When this machine fails; the engine then stops.
    fn propose(&mut self, height: u64, round: u32) -> Result<Proposed, Self::Error>;

    /// Checks a block for the next height completely.
    ///
    /// # Errors
    /// When this machine fails; a bad block is [`Verdict::Refused`].
    fn validate(&mut self, height: u64, bytes: &[u8]) -> Result<Verdict, Self::Error>;

    /// Makes a block and its certificate durable and applies it, in one transaction. The block was proposed or validated
    /// here before, perhaps before a restart, and has the next height.
    ///
    /// # Errors
    /// When this machine fails; the engine then stops.
    fn commit(&mut self, bytes: &[u8], certificate: Certificate) -> Result<(), Self::Error>;

    /// Takes note of validators that signed what excludes each other, seen since the last block.
    ///
    /// # Errors
    /// When this machine fails; the engine then stops.
    fn misbehaved(&mut self, proven: Vec<Misconduct>) -> Result<(), Self::Error>;

    /// A committed block and its certificate, for a validator that catches up.
    ///
    /// # Errors
    /// When this machine fails; the engine then stops.
    fn decided(&self, height: u64) -> Result<Option<(Vec<u8>, Certificate)>, Self::Error>;
}

/// A block made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// The block's id.
    pub block: Hash,
    /// The block's bytes, at most [`ledger::encoding::MAX_BLOCK`].
    pub bytes: Vec<u8>,
}

/// What a check of a block found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be committed and has this id.
    Valid(Hash),
    /// It may not, with one line that says why.
    Refused(String),
}

/// How long a round waits for others. Each grows with the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the proposal.
    pub propose: Duration,
    /// For more prevotes once two thirds have voted for different things.
    pub prevote: Duration,
    /// For more precommits once two thirds have voted for different things.
    pub precommit: Duration,
}

impl Default for Timeouts {
    /// Short, since each turn of an absent proposer costs the first.
    fn default() -> Self {
        Self {
            propose: Duration::from_secs(1),
            prevote: Duration::from_millis(500),
            precommit: Duration::from_millis(500),
        }
    }
}

/// What a validator runs with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The chain's id: hash of its genesis.
    pub chain: Hash,
    /// Key that signs votes and proposals.
    pub key: SigningKey,
    /// Directory of the write-ahead log and undecided blocks; no other engine may use it.
    pub directory: PathBuf,
    /// Time from one block to the next.
    pub block_interval: Duration,
    /// How long rounds wait.
    pub timeouts: Timeouts,
    /// Name in logs and metrics.
    pub moniker: String,
}

/// Why the engine could not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The write-ahead log cannot be used.
    #[error("open the write-ahead log {path}")]
    Wal {
        /// The log.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Undecided blocks could not be read.
    #[error("read undecided blocks")]
    Bodies(#[from] BodyError),
    /// The engine's actors could not be started.
    #[error("start consensus: {0}")]
    Start(String),
    /// The thread that serves the application could not be started.
    #[error("start the consensus thread")]
    Thread(#[source] io::Error),
    /// The application or the store of undecided blocks failed.
    #[error("consensus host")]
    Host(#[from] HostError),
    /// The engine stopped by itself, for instance because its log could not be written. The log says why; a restart goes
    /// on where it was once the cause is gone.
    #[error("consensus stopped by itself; its log has the reason")]
    Stopped,
}

/// Runs consensus alone until `shutdown` completes, and gives the application back.
///
/// # Errors
/// [`EngineError`] when the engine cannot start, the application fails or the engine stops by itself.
pub async fn run<A: Application>(
    config: EngineConfig,
    application: A,
    shutdown: impl Future<Output = ()>,
) -> Result<A, EngineError> {
    run_with(config, None, application, shutdown).await
}

/// Runs consensus among the validators of a mesh until `shutdown` completes, and gives the application back.
///
/// # Errors
/// As [`run`].
pub async fn run_among<A: Application>(
    config: EngineConfig,
    mesh: Mesh,
    application: A,
    shutdown: impl Future<Output = ()>,
) -> Result<A, EngineError> {
    run_with(config, Some(mesh), application, shutdown).await
}

async fn run_with<A: Application>(
    config: EngineConfig,
    mesh: Option<Mesh>,
    application: A,
    shutdown: impl Future<Output = ()>,
) -> Result<A, EngineError> {
    let log = config.directory.join("wal");
    wal::prepare(&log).await.map_err(|source| EngineError::Wal {
        path: log.clone(),
        source,
    })?;
    let bodies = bodies::Bodies::open(&config.directory.join("bodies"))?;
    let (channels, engine) = start(&config, mesh, log).await?;
    let host = host::Host {
        application,
        key: config.key.public(),
        bodies,
        timeouts: linear(config.timeouts),
        block_interval: config.block_interval,
        network: channels.network,
        assembly: assembly::Assembly::default(),
        ahead: Vec::new(),
        streams: 0,
    };
    let (done, mut ended) = oneshot::channel();
    let questions = channels.consensus;
    let work = move || {
        // The receiver waits for this unless the whole process is going away.
        let _ = done.send(host.run(questions));
    };
    std::thread::Builder::new()
        .name("consensus-host".into())
        .spawn(work)
        .map_err(EngineError::Thread)?;

    let early = tokio::select! {
        () = shutdown => None,
        ended = &mut ended => Some(ended),
    };
    let by_itself = early.is_some();
    // Its own failure to stop means that it has stopped.
    let _ = engine.actor.kill_and_wait(None).await;
    let ended = match early {
        Some(ended) => ended,
        None => ended.await,
    };
    let (application, result) = ended.map_err(|_| EngineError::Stopped)?;
    result?;
    if by_itself {
        return Err(EngineError::Stopped);
    }
    info!("consensus stopped");
    Ok(application)
}

async fn start(
    config: &EngineConfig,
    mesh: Option<Mesh>,
    log: PathBuf,
) -> Result<(Channels<Chain>, EngineHandle), EngineError> {
    let failed = |error: String| EngineError::Start(error);
    let (network, parts) = network::spawn(mesh).await.map_err(|error| failed(error.to_string()))?;
    let address = types::Address(config.key.public());
    let verifier = signing::Verifying { chain: config.chain };
    let signer = signing::Signing {
        chain: config.chain,
        key: config.key.clone(),
    };
    EngineBuilder::new(Chain, Settings::new(config.moniker.clone()))
        .with_default_wal(WalContext::new(log, codec::BorshCodec))
        .with_custom_network(network, parts)
        .with_default_sync(SyncContext::new(codec::BorshCodec))
        .with_default_consensus(ConsensusContext::new_validator(
            address,
            Box::new(verifier),
            Box::new(signer),
        ))
        .with_default_request(RequestContext::new(REQUESTS))
        .build()
        .await
        .map_err(|error| failed(format!("{error:#}")))
}

fn linear(timeouts: Timeouts) -> LinearTimeouts {
    let Timeouts {
        propose,
        prevote,
        precommit,
    } = timeouts;
    LinearTimeouts {
        propose,
        propose_delta: propose / 4,
        prevote,
        prevote_delta: prevote / 4,
        precommit,
        precommit_delta: precommit / 4,
        rebroadcast: propose + prevote + precommit,
        max_timeout: Duration::from_secs(30),
    }
}

/// The engine's own configuration.
struct Settings {
    moniker: String,
    consensus: ConsensusConfig,
    sync: ValueSyncConfig,
}

impl Settings {
    fn new(moniker: String) -> Self {
        // With proposals alone every block would count as valid without the application being asked.
        let consensus = ConsensusConfig {
            value_payload: ValuePayload::ProposalAndParts,
            ..Default::default()
        };
        Self {
            moniker,
            consensus,
            sync: ValueSyncConfig {
                status_update_interval: STATUS_INTERVAL,
                ..Default::default()
            },
        }
    }
}

impl NodeConfig for Settings {
    fn moniker(&self) -> &str {
        &self.moniker
    }

    fn consensus(&self) -> &ConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut ConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.sync
    }
}
