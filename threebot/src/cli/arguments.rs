//! What can be written on the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use ledger::{Hash, Id, PublicKey, Tokens, body::Label, quantity};
use peer_link::PeerAddress;
use threebot::who::Who;

const CODES: &str = "\
Exit codes: 0 done; 1 a file, disk or socket of this machine; 2 wrong usage; 3 no daemon runs (start `threebot serve`);
4 the chain or the other side refused; 5 no such thing; 6 the identity cannot be opened; 7 chain, bot or node not reached.";

/// Most days for which boot media give the right to join: ten years.
const MOST_DAYS: i64 = 3_650;

/// A person's or farmer's bot: identity, wallet, farms, deployments.
#[derive(Parser)]
#[command(name = "threebot", version, after_help = CODES)]
pub(crate) struct Arguments {
    /// The bot's directory.
    #[arg(long, global = true, env = "THREEBOT_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// A file whose first line is the identity's passphrase.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a new identity and prints its recovery words, once.
    Init(Setup),
    /// Makes the identity behind 24 recovery words, read from standard input.
    Recover {
        /// The entity that has its keys on the chain, if they are no longer those that founded it.
        #[arg(long, value_name = "ID")]
        entity: Option<Id>,
        #[command(flatten)]
        setup: Setup,
    },
    /// Changes the bot's keys on the chain, while `threebot serve` does not run.
    #[command(subcommand)]
    Keys(Keys),
    /// Sets which chain the bot is on, and whom it asks.
    Chain {
        /// Hash of the chain's genesis.
        #[arg(long)]
        genesis: Hash,
        /// A peer of the chain, KEY@IP:PORT; may be given several times.
        #[arg(long = "peer", required = true)]
        peers: Vec<PeerAddress>,
    },
    /// Prints the bot's id.
    Id,
    /// Prints the bot's entity record as JSON, for a genesis.
    Entity,
    /// Runs the daemon.
    Serve,
    /// Shows who the daemon is and how far it sees.
    Status,
    /// Shows what may be spent.
    Balance,
    /// Moves tokens to an entity.
    Send {
        /// To whom: an id or a name.
        to: Who,
        /// How many, such as 12.5.
        #[arg(value_parser = quantity::tokens)]
        amount: Tokens,
    },
    /// Shows every change of the balance, newest first.
    History,
    /// Claims, passes on and gives up names.
    #[command(subcommand)]
    Name(Name),
    /// Makes and changes farms.
    #[command(subcommand)]
    Farm(Farm),
    /// Makes releases of the node's system and gives them to nodes.
    #[command(subcommand)]
    Release(Release),
    /// Publishes images.
    #[command(subcommand)]
    Image(Image),
    /// Looks for nodes.
    Find {
        /// Processor threads.
        #[arg(long, default_value_t = 1)]
        cru: u64,
        /// Memory, such as 512MiB.
        #[arg(long, value_parser = quantity::bytes, default_value = "256MiB")]
        mru: u64,
        /// Solid-state storage.
        #[arg(long, value_parser = quantity::bytes, default_value = "1GiB")]
        sru: u64,
        /// Rotating storage.
        #[arg(long, value_parser = quantity::bytes, default_value = "0")]
        hru: u64,
        /// In which country, such as BE.
        #[arg(long, value_parser = quantity::country, conflicts_with = "near")]
        country: Option<[u8; 2]>,
        /// Near which point: latitude and longitude in degrees.
        #[arg(long, allow_hyphen_values = true, value_name = "LAT,LON", value_parser = quantity::point)]
        near: Option<(i32, i32)>,
        /// How near.
        #[arg(long, default_value_t = 500, requires = "near")]
        km: u32,
        /// Most that an hour may cost.
        #[arg(long, value_parser = quantity::tokens)]
        max_price: Option<Tokens>,
    },
    /// Deploys an application and waits until it runs.
    Deploy {
        /// Its app.toml.
        app: PathBuf,
    },
    /// Changes a deployment that runs into what its app.toml says now: periods, resources, image, environment. The node stays.
    Amend {
        /// Its app.toml.
        app: PathBuf,
    },
    /// Lists deployments.
    Ps,
    /// Prints a deployment's output.
    Logs {
        /// The deployment.
        name: String,
        /// Goes on as output comes.
        #[arg(short, long)]
        follow: bool,
    },
    /// Opens a local TCP port that leads to a port of a deployment.
    Tunnel {
        /// The deployment.
        name: String,
        /// [IP:]LOCAL:PORT, such as 8080:80; LOCAL 0 takes a free port.
        #[arg(value_name = "LOCAL:PORT", value_parser = parse_ports)]
        ports: Ports,
    },
    /// Ends a deployment; what is left in escrow returns.
    Cancel {
        /// The deployment.
        name: String,
    },
    /// Takes a deployment that has ended off the list.
    Forget {
        /// The deployment.
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Setup {
    /// A name for people, on the chain.
    #[arg(long, default_value = "3bot")]
    pub(crate) name: String,
    /// UDP address of the link; port 0 takes a free one at each start.
    #[arg(long, default_value = "0.0.0.0:7100")]
    pub(crate) listen: SocketAddr,
    /// An address where others reach the link, for instance the router's; may be given several times. If absent, the address
    /// with which this machine sends to the chain's peers.
    #[arg(long)]
    pub(crate) advertise: Vec<SocketAddr>,
    /// Hash of the chain's genesis.
    #[arg(long)]
    pub(crate) genesis: Option<Hash>,
    /// A peer of the chain, KEY@IP:PORT; may be given several times.
    #[arg(long = "peer")]
    pub(crate) peers: Vec<PeerAddress>,
    /// Stores the identity unencrypted.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) no_passphrase: bool,
}

#[derive(Subcommand)]
pub(crate) enum Release {
    /// Makes a release key in a file and prints its public half. It needs no bot, and is best kept where there is none.
    Key {
        /// The file; one that is there is never overwritten.
        file: PathBuf,
    },
    /// Shows what a draft says, and prints it with a key's signature.
    Sign {
        /// The release key's file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The draft.
        draft: PathBuf,
    },
    /// Prints the draft of a release channel of the bot's, for its keys to sign.
    DraftChannel {
        /// Its name.
        name: Label,
        #[command(flatten)]
        keys: ReleaseKeysArguments,
    },
    /// Prints the draft of other keys for a channel, for the keys before and those after to sign.
    DraftRotation {
        /// The channel.
        #[arg(long, value_name = "ID")]
        channel: Id,
        /// Who stages its releases from then on, if somebody else: an id or a name.
        #[arg(long)]
        owner: Option<Who>,
        #[command(flatten)]
        keys: ReleaseKeysArguments,
    },
    /// Prints the draft of a release, for its channel's keys to sign.
    Draft {
        /// The channel.
        #[arg(long, value_name = "ID")]
        channel: Id,
        /// How people call it, such as 1.2.0.
        #[arg(long)]
        name: String,
        /// Its number, if it is not to be one more than that of the newest.
        #[arg(long)]
        number: Option<u64>,
        /// The manifest of its image.
        manifest: PathBuf,
    },
    /// Puts on the chain what was signed, with the signatures of all the files, and prints its id.
    Submit {
        /// Signed copies of one draft.
        #[arg(required = true)]
        papers: Vec<PathBuf>,
    },
    /// Gives a release to a share of all nodes; 0 % gives it to none any more.
    Stage {
        /// The channel.
        #[arg(long, value_name = "ID")]
        channel: Id,
        /// The release's number.
        number: u64,
        /// The share, such as 2.5%.
        #[arg(value_parser = share)]
        share: u16,
    },
}

#[derive(Args)]
pub(crate) struct ReleaseKeysArguments {
    /// A release key's public half; once for each.
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub(crate) keys: Vec<PublicKey>,
    /// How many of them must sign.
    #[arg(long)]
    pub(crate) threshold: u8,
}

/// Thousandths of a percentage with one digit after the point at most.
fn share(text: &str) -> Result<u16, String> {
    let wrong = || "a share is from 0% to 100%, with one digit after the point at most".to_owned();
    let digits = text.strip_suffix('%').unwrap_or(text);
    let (whole, tenth) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(tenth) || tenth.len() != 1 {
        return Err(wrong());
    }
    let permille = format!("{whole}{tenth}").parse().map_err(|_| wrong())?;
    if permille > 1_000 { Err(wrong()) } else { Ok(permille) }
}

#[derive(Subcommand)]
pub(crate) enum Keys {
    /// Gives the bot new keys and prints their recovery words, once. Its id and all that it has stays.
    Rotate,
    /// Gives the bot a recovery key, which can replace the others and nothing else, and prints its words, once.
    Recovery {
        /// Puts a new one in the place of the one that it has, whose words are read from standard input.
        #[arg(long)]
        replace: bool,
        /// Takes away the one that it has, whose words are read from standard input.
        #[arg(long, conflicts_with = "replace")]
        remove: bool,
    },
    /// Takes an entity back whose keys are lost or stolen, by the words of its recovery key on standard input: gives it new
    /// keys and prints their recovery words, once.
    Recover {
        /// The entity.
        #[arg(long, value_name = "ID")]
        entity: Id,
        #[command(flatten)]
        setup: Setup,
    },
}

#[derive(Subcommand)]
pub(crate) enum Name {
    /// Claims a name for the bot; the chain's deposit lies with it.
    Claim {
        /// The name, such as alice-2.
        name: Label,
    },
    /// Makes a name of the bot's stand for somebody else. The deposit goes along.
    PassOn {
        /// The name.
        name: Label,
        /// For whom: an id or a name.
        to: Who,
    },
    /// Gives a name of the bot's up; the deposit returns.
    GiveUp {
        /// The name.
        name: Label,
    },
    /// Prints the id for which a name stands.
    Show {
        /// The name.
        name: Label,
    },
}

#[derive(Subcommand)]
pub(crate) enum Farm {
    /// Makes a farm.
    Create(Place),
    /// Gives a farm another name and place.
    Update {
        /// The farm, by name or id; the only one if absent.
        #[arg(long)]
        farm: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Publishes or replaces the farm's terms.
    Terms(Box<TermsArguments>),
    /// Makes boot media with the right to join nodes.
    Media {
        /// The farm, by name or id; the only one if absent.
        #[arg(long)]
        farm: Option<String>,
        /// How many nodes may join.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        nodes: u32,
        /// For how many days.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=MOST_DAYS))]
        days: u32,
        /// A peer of the chain that the nodes ask first; those of this bot if absent.
        #[arg(long = "peer")]
        peers: Vec<PeerAddress>,
        /// Where to write the media.
        #[arg(long, default_value = "farm.json")]
        out: PathBuf,
        /// An image into which the media are written as well.
        #[arg(long)]
        iso: Option<PathBuf>,
    },
    /// Ends a contract on one of the bot's nodes; its customer pays nothing for the begun period.
    Cancel {
        /// The contract.
        contract: Id,
    },
    /// Lists the bot's farms with their nodes.
    List,
}

/// What a farm is called, and where it stands.
#[derive(Args)]
pub(crate) struct Place {
    /// Its name.
    pub(crate) name: String,
    /// Its country, such as BE.
    #[arg(long, value_parser = quantity::country)]
    pub(crate) country: [u8; 2],
    /// Latitude in degrees.
    #[arg(long, allow_hyphen_values = true, value_parser = |text: &str| quantity::degrees(text, 90))]
    pub(crate) lat: i32,
    /// Longitude in degrees.
    #[arg(long, allow_hyphen_values = true, value_parser = |text: &str| quantity::degrees(text, 180))]
    pub(crate) lon: i32,
}

#[derive(Args)]
pub(crate) struct TermsArguments {
    /// The farm, by name or id; the only one if absent.
    #[arg(long)]
    pub(crate) farm: Option<String>,
    /// Price of a processor thread for an hour.
    #[arg(long, value_parser = quantity::tokens)]
    pub(crate) cru_hour: Tokens,
    /// Price of a GiB of memory for an hour.
    #[arg(long, value_parser = quantity::tokens)]
    pub(crate) mru_gib_hour: Tokens,
    /// Price of a GiB of solid-state storage for an hour.
    #[arg(long, value_parser = quantity::tokens)]
    pub(crate) sru_gib_hour: Tokens,
    /// Price of a GiB of rotating storage for an hour.
    #[arg(long, value_parser = quantity::tokens, default_value = "0")]
    pub(crate) hru_gib_hour: Tokens,
    /// Length of a period.
    #[arg(long, value_parser = quantity::millis, default_value = "1h")]
    pub(crate) period: u64,
    /// How long report and receipt are waited for after a period.
    #[arg(long, value_parser = quantity::millis, default_value = "5m")]
    pub(crate) grace: u64,
    /// In what time a node must acknowledge.
    #[arg(long, value_parser = quantity::millis, default_value = "2m")]
    pub(crate) acknowledge: u64,
    /// In what time a workload must run.
    #[arg(long, value_parser = quantity::millis, default_value = "15m")]
    pub(crate) deploy: u64,
    /// In what time a suspended contract, whose next period is not paid in, must be paid.
    #[arg(long, value_parser = quantity::millis, default_value = "1d")]
    pub(crate) suspend: u64,
    /// Most by which report and receipt may differ and still agree, in thousandths of a period.
    #[arg(long, default_value_t = 50)]
    pub(crate) tolerance_permille: u16,
    /// Part of the reported time that the farmer is paid without a receipt, in thousandths; the rest is nobody's.
    #[arg(long, default_value_t = 900)]
    pub(crate) unconfirmed_permille: u16,
    /// Periods in a row without a report after which a contract fails.
    #[arg(long, default_value_t = 2)]
    pub(crate) missed_limit: u32,
    /// Periods in which report and receipt differed, in all, after which a contract fails.
    #[arg(long, default_value_t = 24)]
    pub(crate) dispute_limit: u32,
    /// Fewest periods of an agreement.
    #[arg(long, default_value_t = 1)]
    pub(crate) min_periods: u32,
    /// Most periods of an agreement.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) max_periods: u32,
    /// Makes no more agreements under them.
    #[arg(long)]
    pub(crate) closed: bool,
}

#[derive(Subcommand)]
pub(crate) enum Image {
    /// Imports an OCI image layout and publishes it.
    Push {
        /// The layout's directory.
        layout: PathBuf,
        /// Name and tag.
        name: String,
    },
}

/// Both ends of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) local: SocketAddr,
    pub(crate) remote: u16,
}

fn parse_ports(text: &str) -> Result<Ports, String> {
    let wrong = || format!("{text:?} is not [IP:]LOCAL:PORT, such as 8080:80");
    let (local, remote) = text.rsplit_once(':').ok_or_else(wrong)?;
    let remote = remote.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let local = match local.parse::<u16>() {
        Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
        Err(_) => local.parse().map_err(|_| wrong())?,
    };
    Ok(Ports { local, remote })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn media_without_use_are_refused() {
        let media = |option: &str, value: &str| {
            let words = ["threebot", "farm", "media", option, value];
            Arguments::try_parse_from(words).map(drop)
        };
        for (option, value) in [("--nodes", "0"), ("--days", "0"), ("--days", "3651")] {
            assert!(media(option, value).is_err(), "{option} {value}");
        }
        for (option, value) in [("--nodes", "1"), ("--days", "1"), ("--days", "3650")] {
            media(option, value).unwrap();
        }
    }

    #[test]
    fn tunnels_name_both_ends() {
        let local = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(parse_ports("8080:80"), Ok(Ports { local, remote: 80 }));
        assert_eq!(parse_ports("127.0.0.1:8080:80"), Ok(Ports { local, remote: 80 }));
        assert!(parse_ports("[::1]:0:80").is_ok());
        for text in ["80", "8080:0", "x:80", "8080:http"] {
            assert!(parse_ports(text).is_err(), "{text}");
        }
    }
}
