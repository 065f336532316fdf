//! What each command does.

use std::{
    fs,
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use ledger::{Genesis, Hash, SignedDecree, decree::Change};
use ledger_node::{
    Home, HttpOptions, InitOptions, Introduction, Operator, RunOptions, approve, audit, fetch_genesis, merge,
    read_genesis, run,
};
use peer_link::PeerAddress;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use super::{
    arguments::{self, Arguments, Changes, Command, HTTP, Http},
    log::{self, LogFormat},
};

/// Time between two lines that say how far a long command is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Why a command failed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does what the command line says.
pub(crate) fn perform(arguments: Arguments) -> Result<(), Failure> {
    let format = arguments.log_format;
    match arguments.command {
        Command::Keys { dir, advertise } => say_json(&Home::introduce(&dir, advertise)?),
        Command::Init {
            dir,
            name,
            interval_ms,
            attest_ms,
            name_deposit,
            entities,
            validators,
        } => {
            let options = InitOptions {
                name,
                interval_ms,
                attest_ms,
                name_deposit,
                entities,
                validators,
            };
            say_chain(&Home::init(&dir, &options)?)
        }
        Command::Join {
            dir,
            genesis,
            chain,
            peers,
        } => {
            let genesis = match (genesis, chain) {
                (Some(file), _) => read_genesis(&file)?,
                (None, chain) => ask_for_genesis(chain.ok_or("name the chain with --genesis or --chain")?, &peers)?,
            };
            say_chain(&Home::join(&dir, genesis, peers)?)
        }
        Command::Run {
            dir,
            listen,
            advertise,
            peers,
            http,
        } => block_on(validate(RunOptions {
            advertise,
            peers,
            http: http_options(http),
            ..RunOptions::new(dir, listen)
        })),
        Command::Verify { dir } => verify(&dir, format),
        Command::Charter(operator) => block_on(async {
            let operator = connect(operator).await?;
            let charter = operator.charter().await?.record;
            operator.close().await;
            say_json(&charter)
        }),
        Command::Decree(command) => decree(command, format),
    }
}

fn decree(command: arguments::Decree, format: LogFormat) -> Result<(), Failure> {
    match command {
        arguments::Decree::Draft { operator, changes } => block_on(async {
            let changes = read_changes(changes)?;
            let operator = connect(operator).await?;
            let draft = operator.draft(changes).await?;
            operator.close().await;
            say_json(&draft)
        }),
        arguments::Decree::Approve { dir, decree } => {
            let signed = approve(&dir, read_decree(&decree)?)?;
            log::say(format, Level::INFO, "you approve:");
            for change in &signed.decree.changes {
                log::say(format, Level::INFO, &format!("  {change}"));
            }
            say_json(&signed)
        }
        arguments::Decree::Submit { operator, decrees } => block_on(async {
            let decrees = decrees.iter().map(|path| read_decree(path)).collect::<Result<_, _>>()?;
            let decree = merge(decrees)?;
            let operator = connect(operator).await?;
            let header = operator.submit(decree).await?;
            operator.close().await;
            say_json(&serde_json::json!({"height": header.height}))
        }),
    }
}

fn verify(directory: &Path, format: LogFormat) -> Result<(), Failure> {
    let mut said = Instant::now();
    let progress = |height, last| {
        if said.elapsed() >= PROGRESS {
            log::say(format, Level::INFO, &format!("block {height} of {last}"));
            said = Instant::now();
        }
    };
    say_json(&audit(directory, progress)?)
}

async fn connect(operator: arguments::Operator) -> Result<Operator, Failure> {
    Ok(Operator::connect(&operator.dir, operator.peers).await?)
}

/// Those who go first, so that one may come under another key.
fn read_changes(changes: Changes) -> Result<Vec<Change>, Failure> {
    let mut all: Vec<Change> = changes.removed.into_iter().map(Change::RemoveValidator).collect();
    for (path, power) in changes.added {
        all.push(Introduction::read(&path)?.admission(power));
    }
    all.extend(changes.upgrade.map(Change::ScheduleUpgrade));
    all.extend(changes.cancel_upgrade.then_some(Change::CancelUpgrade));
    all.extend(changes.attest_ms.map(Change::AttestEvery));
    all.extend(changes.name_deposit.map(Change::NameDeposit));
    Ok(all)
}

fn read_decree(path: &Path) -> Result<SignedDecree, Failure> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| {
        let path = path.display();
        format!("{path}: no decree ({error}); `ledgerd decree draft` writes one").into()
    })
}

fn ask_for_genesis(chain: Hash, peers: &[PeerAddress]) -> Result<Genesis, Failure> {
    block_on(async { Ok(fetch_genesis(chain, peers).await?) })
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

/// At the address that was given, which must be had; else at the usual one, if it can.
fn http_options(http: Option<Http>) -> Option<HttpOptions> {
    match http {
        Some(Http::Off) => None,
        Some(Http::At(listen)) => Some(HttpOptions::new(listen)),
        None => Some(HttpOptions {
            optional: true,
            ..HttpOptions::new(HTTP)
        }),
    }
}

async fn validate(options: RunOptions) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = run(options).await?;
    let mut ready = serde_json::json!({"chain": running.chain(), "peer": running.address().to_string()});
    if let Some(address) = running.http() {
        ready["http"] = format!("http://{address}/").into();
    }
    say_json(&ready)?;
    tokio::select! {
        failed = running.failed() => {
            running.close().await;
            return failed.map_err(Failure::from);
        }
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(running.stop().await?)
}

fn say_chain(home: &Home) -> Result<(), Failure> {
    say_json(&serde_json::json!({"chain": home.genesis.hash()}))
}

fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    say(&serde_json::to_string(value)?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn say(line: &str) {
    println!("{line}");
}
