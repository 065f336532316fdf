//! The daemon: opens what a bot is made of, answers peers and the control socket, and goes on trying while the chain is out
//! of reach.

mod requests;
mod socket;

use std::{path::PathBuf, time::Duration};

use chain_client::{ChainClient, Complaints};
use peer_link::{BindError, BlobError, BlobStore, Endpoint};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    bot::{Bot, Parts},
    deployment::{Deployments, StoreError},
    home::{Config, Home, HomeError},
    identity::Identity,
};

/// Pauses between attempts to reach the chain, first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why a daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The home directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The link's port.
    #[error("`listen` in {config}")]
    Bind {
        /// Where the port is configured.
        config: PathBuf,
        /// The cause.
        #[source]
        source: BindError,
    },
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The deployments.
    #[error(transparent)]
    Deployments(#[from] StoreError),
    /// The control socket.
    #[error("control socket {path}")]
    Control {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be waited for.
    #[error("wait for signals")]
    Signals(#[source] std::io::Error),
    /// The bot's keys are being changed.
    #[error("a change of the bot's keys was begun; run `threebot keys rotate` to finish it")]
    KeysChange,
    /// The peer link's socket is lost.
    #[error("the peer link lost its socket; start `threebot serve` again")]
    LinkLost,
}

/// Runs the daemon until it is told to stop. `ready` is called once the bot stands on the chain.
///
/// # Errors
/// [`ServeError`] when it cannot start, or when it lost its link; an unreachable chain is no reason.
pub async fn serve(home: Home, identity: Identity, ready: impl FnOnce(&Bot)) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let _lock = home.lock()?;
    if identity.next().is_some() {
        return Err(ServeError::KeysChange);
    }
    let config = home.config()?;
    config.chain()?;
    home.policy()?;
    let deployments = Deployments::open(home.deployments())?;
    let endpoint = Endpoint::bind(&identity.link(), config.listen)
        .await
        .map_err(|source| ServeError::Bind {
            config: home.config_path(),
            source,
        })?;
    let blobs = BlobStore::open(&home.blobs()).await?;
    let (announce, bot) = watch::channel(None);
    let socket = socket::listen(&home.control(), bot)?;
    let running = async {
        let chain = open_chain(&home, &config, &endpoint).await;
        let _following = chain.follow();
        let derived = config.advertise.is_empty() && config.listen.ip().is_unspecified();
        let bot = Bot::new(Parts {
            home: home.clone(),
            config,
            identity,
            chain,
            endpoint: endpoint.clone(),
            blobs,
            deployments,
        });
        let mut serving = endpoint.serve(bot.protocols());
        if derived {
            let addresses: Vec<String> = bot.addresses().iter().map(ToString::to_string).collect();
            let addresses = addresses.join(" and ");
            info!(
                "others are told to reach this bot at {addresses}; set `advertise` in config.toml where that is wrong"
            );
        }
        announce.send_replace(Some(bot.clone()));
        let work = async {
            register(&bot).await;
            bot.keep_all().await;
            ready(&bot);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            // A bot that nobody reaches is of no use; whoever supervises it starts another.
            () = serving.ended() => {}
        }
    };
    let ended = tokio::select! {
        () = running => Err(ServeError::LinkLost),
        _ = terminate.recv() => {
            info!("told to stop");
            Ok(())
        }
        _ = interrupt.recv() => {
            info!("interrupted");
            Ok(())
        }
    };
    drop(socket);
    let bot = announce.borrow().clone();
    match bot {
        Some(bot) => bot.shut_down().await,
        None => endpoint.close().await,
    }
    ended
}

/// Reaches the chain, however long that takes.
async fn open_chain(home: &Home, config: &Config, endpoint: &Endpoint) -> ChainClient {
    let mut pause = PAUSES.0;
    let mut said = String::new();
    loop {
        let (genesis, peers) = match config.chain() {
            Ok(chain) => chain,
            // Checked before; the configuration in memory does not change.
            Err(_) => return std::future::pending().await,
        };
        match ChainClient::open(
            endpoint.clone(),
            genesis,
            peers,
            Some(home.head()),
            Complaints::to_log(),
        )
        .await
        {
            Ok(chain) => return chain,
            Err(error) => {
                let text = crate::bot::error_line(&error);
                if text != said {
                    warn!("{text}; trying again; where that is wrong, `threebot chain` sets genesis and peers");
                    said = text;
                }
            }
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSES.1);
    }
}

/// Puts the bot's entity on the chain, however long that takes.
async fn register(bot: &Bot) {
    let mut pause = PAUSES.0;
    while let Err(error) = bot.register().await {
        warn!("put this bot on the chain: {}; trying again", error.line());
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSES.1);
    }
}
