//! `ledger`: what stands on the contract chain, proven.
//!
//! Answers are JSON, a line each. Exit codes: 0 done, 1 failed with the reason in one line, 2 wrong usage, 5 proven that there is
//! no such record.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use chain_client::{ChainClient, Reach};
use clap::{Args, Parser, Subcommand};
use error_line::with_causes;
use ledger::{
    Excerpt, Hash, Height, Id, Kind, LightError, RecordKey, Resources, Tokens,
    body::Charter,
    geography::Place,
    quantity,
    query::{Query, QueryError, State},
};
use ledger_node::{OperatorError, open_chain};
use peer_link::PeerAddress;
use serde::Serialize;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const MISSING: u8 = 5;
/// Longest file with an excerpt in bytes: some ten thousand versions.
const MAX_EXCERPT: u64 = 64 * 1024 * 1024;

/// Asks validators and followers of a chain and verifies what they say, from the genesis on.
#[derive(Parser)]
#[command(
    name = "ledger",
    version,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 5 proven that there is no such record."
)]
struct Arguments {
    /// Hash of the chain's genesis: all that is trusted.
    #[arg(long, env = "LEDGER_CHAIN", value_name = "HASH")]
    chain: Hash,
    /// A member of the chain to ask; may be given several times. `verify` asks nobody.
    #[arg(
        long = "peer",
        env = "LEDGER_PEERS",
        value_name = "KEY@IP:PORT",
        value_delimiter = ' '
    )]
    peers: Vec<PeerAddress>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Ask(Question),
    /// Verifies what `export` wrote, without asking anybody. Prints the block after which it was so, then the versions, newest first.
    Verify {
        /// The file; `-` is standard input.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum Question {
    /// The newest block, and who validates the next.
    Status,
    /// The latest version of a record, or that of an earlier time.
    Get {
        /// Its kind, such as contract.
        kind: Kind,
        /// Its id.
        id: Id,
        /// As it was after this block.
        #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
        at: Option<Height>,
    },
    /// The versions of a record, newest first, each linked to the one before: all, or the newest 10,000.
    History {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
    },
    /// A record with its whole history and all that proves it, as one line of JSON to be kept or passed on.
    Export {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
        /// As it was after this block.
        #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
        at: Option<Height>,
    },
    /// Records of a kind, each proven to match. A peer may leave some out.
    Find(Find),
    /// All records of a kind that belong to somebody or something, proven to be all. Contracts that have ended are not among them.
    Set {
        /// Their kind.
        kind: Kind,
        /// To whom or what they belong: an owner, a farm, a node.
        of: Id,
    },
}

#[derive(Args)]
struct Find {
    /// Their kind.
    kind: Kind,
    /// To whom or what they belong: an owner, a farm, a node.
    #[arg(long)]
    of: Option<Id>,
    /// How far they are: contracts, nodes, terms.
    #[arg(long)]
    state: Option<State>,
    /// In which country they stand, such as BE: farms, nodes, terms.
    #[arg(long, value_parser = quantity::country, conflicts_with = "near")]
    country: Option<[u8; 2]>,
    /// Near which point they stand: latitude and longitude in degrees.
    #[arg(long, allow_hyphen_values = true, value_name = "LAT,LON", value_parser = quantity::point)]
    near: Option<(i32, i32)>,
    /// How near.
    #[arg(long, default_value_t = 500, requires = "near")]
    km: u32,
    /// Nodes that can be rented with so many threads free, and as much of the others.
    #[arg(long)]
    cru: Option<u64>,
    /// Memory, such as 512MiB.
    #[arg(long, value_parser = quantity::bytes)]
    mru: Option<u64>,
    /// Solid-state storage.
    #[arg(long, value_parser = quantity::bytes)]
    sru: Option<u64>,
    /// Rotating storage.
    #[arg(long, value_parser = quantity::bytes)]
    hru: Option<u64>,
    /// Most that these cost for an hour, in tokens, by the asking price.
    #[arg(long, value_parser = quantity::tokens)]
    max_price: Option<Tokens>,
    /// Most of them.
    #[arg(long, default_value_t = 100)]
    most: usize,
}

impl Find {
    fn query(&self) -> Query {
        let near = |(latitude, longitude)| Place::Near {
            latitude,
            longitude,
            km: self.km,
        };
        let amounts = [self.cru, self.mru, self.sru, self.hru];
        let fits = amounts.iter().any(Option::is_some).then(|| {
            let [cru, mru, sru, hru] = amounts.map(Option::unwrap_or_default);
            Resources { cru, mru, sru, hru }
        });
        Query {
            kind: self.kind,
            of: self.of,
            state: self.state,
            place: self.country.map(Place::Country).or(self.near.map(near)),
            fits,
            max_hour: self.max_price,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("nobody to ask: name members of the chain with --peer KEY@IP:PORT or in LEDGER_PEERS")]
    NoPeers,
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0} is longer than {MAX_EXCERPT} bytes")]
    TooLong(PathBuf),
    #[error("{0} is nothing that `ledger export` wrote")]
    NoExcerpt(PathBuf, #[source] serde_json::Error),
    #[error("{0} proves nothing")]
    Proof(PathBuf, #[source] Box<LightError>),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("ask the chain")]
    Client(#[from] chain_client::ClientError),
    #[error("start threads")]
    Runtime(#[from] std::io::Error),
    #[error("there is no {0}: that is proven")]
    Missing(RecordKey),
    #[error("there was no {0} after block {1}: that is proven")]
    MissingThen(RecordKey, Height),
    #[error("write the answer as JSON")]
    Json(#[from] serde_json::Error),
}

fn main() -> ExitCode {
    abort_on_panic::install();
    let arguments = Arguments::parse();
    let done = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(perform(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::from(match error {
                Failure::Missing(_) | Failure::MissingThen(..) => MISSING,
                Failure::Query(_) | Failure::NoPeers => USAGE,
                _ => FAILED,
            })
        }
    }
}

async fn perform(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { chain, peers, command } = arguments;
    match command {
        Command::Verify { file } => verify(chain, &file),
        Command::Ask(_) if peers.is_empty() => Err(Failure::NoPeers),
        Command::Ask(question) => answer(&open_chain(chain, peers).await?, question).await,
    }
}

async fn answer(client: &ChainClient, question: Question) -> Result<(), Failure> {
    match question {
        Question::Status => {
            let head = client.sync().await?;
            let key = RecordKey::new(Kind::Charter, Charter::ID);
            let charter = client.records_at(&[key], head.height).await?.pop().flatten();
            let charter = charter.ok_or(Failure::MissingThen(key, head.height))?.body;
            say(&serde_json::json!({"id": head.id(), "head": head, "charter": charter}))
        }
        Question::Get { kind, id, at } => {
            let key = RecordKey::new(kind, id);
            let found = match at {
                Some(height) => client.records_at(&[key], height).await?,
                None => client.records(&[key]).await?,
            };
            let record = found.into_iter().flatten().next().ok_or(match at {
                Some(height) => Failure::MissingThen(key, height),
                None => Failure::Missing(key),
            })?;
            say(&record)
        }
        Question::History { kind, id } => {
            let key = RecordKey::new(kind, id);
            if client.records(&[key]).await?.into_iter().flatten().next().is_none() {
                return Err(Failure::Missing(key));
            }
            client.history(key).await?.iter().try_for_each(say)
        }
        Question::Export { kind, id, at } => say(&client.excerpt(RecordKey::new(kind, id), at).await?),
        Question::Find(find) => {
            let query = find.query();
            query.check()?;
            let found = client.search(&query, Reach::most(find.most)).await?;
            client.prove(&query, &found.hits).await?.iter().try_for_each(say)?;
            if found.cut {
                note("there are more; --most N shows more of them");
            }
            Ok(())
        }
        Question::Set { kind, of } => {
            let (header, ids) = client.set(kind, of).await?;
            let keys: Vec<RecordKey> = ids.into_iter().map(|id| RecordKey::new(kind, id)).collect();
            let members = client.records_at(&keys, header.height).await?;
            keys.into_iter()
                .zip(members)
                .try_for_each(|(key, member)| say(&member.ok_or(Failure::MissingThen(key, header.height))?))
        }
    }
}

fn verify(chain: Hash, file: &Path) -> Result<(), Failure> {
    let read = |error| Failure::Read(file.to_owned(), error);
    let mut source: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(read)?)
    };
    let mut text = Vec::new();
    source
        .by_ref()
        .take(MAX_EXCERPT + 1)
        .read_to_end(&mut text)
        .map_err(read)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_EXCERPT) {
        return Err(Failure::TooLong(file.to_owned()));
    }
    let excerpt: Excerpt = serde_json::from_slice(&text).map_err(|error| Failure::NoExcerpt(file.to_owned(), error))?;
    let key = excerpt.key;
    let proven = excerpt
        .verify(chain)
        .map_err(|error| Failure::Proof(file.to_owned(), Box::new(error)))?;
    say(&serde_json::json!({"id": proven.header.id(), "head": proven.header}))?;
    if proven.versions.is_empty() {
        return Err(Failure::MissingThen(key, proven.header.height));
    }
    proven.versions.iter().try_for_each(say)
}

/// One line on standard output. A reader that went away is no reason to fail.
fn say(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)?;
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn say_error(error: &Failure) {
    note(&with_causes(error));
}

#[expect(clippy::print_stderr, reason = "what a person reads beside the answer")]
fn note(text: &str) {
    eprintln!("ledger: {text}");
}
