//! What may stand on the command line.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use ledger::{Hash, Height, PublicKey, Tokens, body::Upgrade};
use peer_link::PeerAddress;

use super::log::LogFormat;

/// An hour: idle nodes cost a chain little, and nobody looks long for one that is not there.
const ATTEST_MS: u64 = 3_600_000;
/// Where readers of this machine are answered if nothing is said.
pub(super) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7780);

/// Where `ledgerd run` answers over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

#[derive(Parser)]
#[command(name = "ledgerd", version, about = "A validator of the contract chain")]
pub(crate) struct Arguments {
    /// How standard error is written: lines for people, or a JSON object a line. Wrong usage is always told to people.
    #[arg(
        long,
        value_enum,
        global = true,
        env = "LEDGERD_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes a validator's keys and prints what it tells those who make it a validator, as JSON.
    Keys {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// An address where others reach its peer link; may be given several times.
        #[arg(long, value_name = "IP:PORT", required = true)]
        advertise: Vec<SocketAddr>,
    },
    /// Makes a new chain with this machine as a validator: its only one, unless others are named.
    Init {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the chain, for people.
        #[arg(long, default_value = "zos")]
        name: String,
        /// Time between two blocks in milliseconds.
        #[arg(long, default_value_t = 1_000)]
        interval_ms: u32,
        /// Longest time between two attestations of a node that counts as active, in milliseconds.
        #[arg(long, default_value_t = ATTEST_MS)]
        attest_ms: u64,
        /// Tokens that are deposited for a name.
        #[arg(long, default_value = "10", value_parser = parse_tokens)]
        name_deposit: Tokens,
        /// An entity that exists from the start: a file with its record as JSON, and how many whole tokens it owns.
        #[arg(long = "entity", value_name = "FILE=TOKENS", value_parser = parse_entity)]
        entities: Vec<(PathBuf, Tokens)>,
        /// Another validator: a file with what `ledgerd keys` printed there; may be given several times.
        #[arg(long = "validator", value_name = "FILE")]
        validators: Vec<PathBuf>,
    },
    /// Makes the directory of a member of a chain that exists: of one of its validators, or of one that follows it without
    /// a vote.
    Join {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// The chain's genesis, as the founder's `genesis.json` has it.
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "chain",
            conflicts_with = "chain"
        )]
        genesis: Option<PathBuf>,
        /// Hash of the chain's genesis, which a peer is then asked for.
        #[arg(long, value_name = "HASH")]
        chain: Option<Hash>,
        /// A validator of the chain; may be given several times.
        #[arg(long = "peer", value_name = "KEY@IP:PORT", required = true)]
        peers: Vec<PeerAddress>,
    },
    /// Runs the validator until it is told to stop.
    Run {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// UDP address of the peer link; port 0 takes a free one.
        #[arg(long, default_value = "0.0.0.0:7771")]
        listen: SocketAddr,
        /// An address where others reach the peer link, for instance the router's; may be given several times. If absent,
        /// the address of this machine on its default route.
        #[arg(long, value_name = "IP:PORT")]
        advertise: Vec<SocketAddr>,
        /// A validator besides those of `peers.json`, or at another address; may be given several times.
        #[arg(long = "peer", value_name = "KEY@IP:PORT")]
        peers: Vec<PeerAddress>,
        /// TCP address at which readers are answered over HTTP, or `off`; port 0 takes a free one. If absent, 127.0.0.1:7780, if
        /// nobody else has that.
        #[arg(long, value_name = "IP:PORT", value_parser = parse_http)]
        http: Option<Http>,
    },
    /// Verifies the directory's whole chain, while nobody runs on it: checksums, the certificate of each block, each block by
    /// doing it again from the genesis on, and all that is kept of them. Writes nothing but a file as large as the chain, which is
    /// gone at the end. Prints what was verified as JSON; exit code 1 with the first thing that is wrong.
    Verify {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Prints the chain's charter, proven, as JSON: its validators and its rules.
    Charter(Operator),
    /// Changes the charter: drafted by one operator, approved by those of more than two thirds of the voting power, submitted
    /// by any of them.
    #[command(subcommand)]
    Decree(Decree),
}

/// Whose directory it is, and whom to ask.
#[derive(Args)]
pub(super) struct Operator {
    /// Directory of the validator.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// A member of the chain to ask, besides those that the directory names; may be given several times.
    #[arg(long = "peer", value_name = "KEY@IP:PORT")]
    pub(super) peers: Vec<PeerAddress>,
}

#[derive(Subcommand)]
pub(super) enum Decree {
    /// Prints a decree that changes the charter as it is now, as JSON.
    Draft {
        #[command(flatten)]
        operator: Operator,
        #[command(flatten)]
        changes: Changes,
    },
    /// Shows a decree, and prints it with the approval of the directory's validator.
    Approve {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// What `draft` or another `approve` printed.
        #[arg(value_name = "FILE")]
        decree: PathBuf,
    },
    /// Brings a decree onto the chain with the approvals of all the files.
    Submit {
        #[command(flatten)]
        operator: Operator,
        /// What `approve` printed, by each approving operator.
        #[arg(value_name = "FILE", required = true)]
        decrees: Vec<PathBuf>,
    },
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct Changes {
    /// A validator that goes; its key as `ledgerd charter` shows it. May be given several times.
    #[arg(long = "remove", value_name = "KEY")]
    pub(super) removed: Vec<PublicKey>,
    /// A validator that comes: a file with what `ledgerd keys` printed there, and its voting power, 1 if absent. With
    /// `--remove` of its former key it has changed its key. May be given several times.
    #[arg(long = "add", value_name = "FILE[=POWER]", value_parser = parse_admission)]
    pub(super) added: Vec<(PathBuf, u64)>,
    /// A later version of the rules, and the first block that is made by it.
    #[arg(long, value_name = "PROTOCOL@HEIGHT", value_parser = parse_upgrade, conflicts_with = "cancel_upgrade")]
    pub(super) upgrade: Option<Upgrade>,
    /// The upgrade that is to come does not come.
    #[arg(long)]
    pub(super) cancel_upgrade: bool,
    /// Longest time between two attestations of a node that counts as active, in milliseconds.
    #[arg(long, value_name = "MS")]
    pub(super) attest_ms: Option<u64>,
    /// Tokens that are deposited for a name.
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    pub(super) name_deposit: Option<Tokens>,
}

fn parse_entity(text: &str) -> Result<(PathBuf, Tokens), String> {
    let (path, tokens) = text.rsplit_once('=').ok_or("expected FILE=TOKENS")?;
    Ok((path.into(), parse_tokens(tokens)?))
}

fn parse_tokens(text: &str) -> Result<Tokens, String> {
    let tokens: u64 = text
        .parse()
        .map_err(|_| "the number of tokens is not a whole number".to_owned())?;
    let micro = tokens.checked_mul(Tokens::PER_TOKEN).ok_or("too many tokens")?;
    Ok(Tokens::from_micro(micro))
}

fn parse_admission(text: &str) -> Result<(PathBuf, u64), String> {
    match text.rsplit_once('=') {
        None => Ok((text.into(), 1)),
        Some((path, power)) => {
            let power = power.parse().map_err(|_| "the voting power is not a whole number")?;
            Ok((path.into(), power))
        }
    }
}

fn parse_http(text: &str) -> Result<Http, String> {
    match text {
        "off" => Ok(Http::Off),
        address => address
            .parse()
            .map(Http::At)
            .map_err(|_| "expected IP:PORT or off".to_owned()),
    }
}

fn parse_upgrade(text: &str) -> Result<Upgrade, String> {
    let parse = || -> Option<(u32, Height)> {
        let (protocol, from) = text.split_once('@')?;
        Some((protocol.parse().ok()?, from.parse().ok()?))
    };
    let (protocol, from) = parse().ok_or("expected PROTOCOL@HEIGHT, two whole numbers")?;
    Ok(Upgrade { protocol, from })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn http_is_an_address_or_off() {
        assert_eq!(parse_http("off"), Ok(Http::Off));
        assert_eq!(parse_http("127.0.0.1:7780"), Ok(Http::At(HTTP)));
        assert!(parse_http("7780").is_err());
    }

    #[test]
    fn powers_and_upgrades_are_numbers() {
        assert_eq!(parse_admission("a.json").unwrap(), ("a.json".into(), 1));
        assert_eq!(parse_admission("a=b.json=7").unwrap(), ("a=b.json".into(), 7));
        assert!(parse_admission("a.json=x").is_err());
        let (protocol, from) = (2, 900);
        assert_eq!(parse_upgrade("2@900").unwrap(), Upgrade { protocol, from });
        assert!(parse_upgrade("2").is_err() && parse_upgrade("2@-1").is_err());
    }
}
