//! What the kernel command line and the farm's boot media ask of the agent.
//!
//! Reading is two steps: [`Raw::parse`] splits the command line into options and keeps them as written; [`resolve`] checks
//! each, joins them with the farm's media and says in one line what is wrong with one. A wrong option is left out and
//! reported; it never keeps the node from going on.
//!
//! | option | meaning |
//! |---|---|
//! | `zos.genesis=HEX` | hash of the chain's genesis |
//! | `zos.peer=KEYHEX@IP:PORT` | a peer to ask first; repeatable |
//! | `zos.farm=HEX` | id of the farm that the node joins |
//! | `zos.advertise=IP:PORT` | where peers reach the link port from outside; repeatable |
//! | `zos.port=N` | UDP port of the peer link, [`DEFAULT_PORT`] unless told |
//! | `zos.erase=SERIAL` | a disk that may be erased; repeatable |
//! | `zos.console=PATH` | where the status screen goes, [`DEFAULT_CONSOLE`] unless told |

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use data_encoding::HEXLOWER_PERMISSIVE;
use node_api::image::FarmMedia;
use peer_link::PeerAddress;
use zeroize::Zeroizing;

/// UDP port of the peer link when `zos.port=` is absent.
pub const DEFAULT_PORT: u16 = 7770;
/// Where the status screen goes when `zos.console=` is absent.
pub const DEFAULT_CONSOLE: &str = "/dev/console";
/// Most values of a repeatable option; more are reported and left out.
pub const MAX_REPEATS: usize = 64;
/// Options of `init`, which the agent passes over in silence.
const OPTIONS_OF_OTHERS: [&str; 3] = ["init", "log", "watchdog"];

/// The `zos.*` options as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    options: Vec<(String, String)>,
}

/// The checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hash of the chain's genesis.
    pub genesis: Option<[u8; 32]>,
    /// The farm that the node joins.
    pub farm: Option<[u8; 32]>,
    /// Seed of the farm's enrolment key; present only where the farm's media name the same farm.
    pub enrolment_seed: Option<Zeroizing<[u8; 32]>>,
    /// Peers to ask first.
    pub peers: Vec<PeerAddress>,
    /// Addresses at which peers reach the link port from outside.
    pub advertise: Vec<SocketAddr>,
    /// UDP port of the peer link.
    pub port: u16,
    /// Serials of disks that may be erased.
    pub erase: BTreeSet<String>,
    /// Where the status screen goes.
    pub console: PathBuf,
}

/// One wrong option; its text is the line for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No option of this name exists.
    Unknown(String),
    /// The value has not the shape that the option wants.
    Malformed {
        /// Name without `zos.`.
        option: String,
        /// The value as written.
        value: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// An option that is given once was given again; the first holds.
    Repeated(String),
    /// More than [`MAX_REPEATS`] values.
    TooMany(String),
    /// The farm's media hold a field that is not what it should be.
    Media {
        /// Name of the field.
        field: &'static str,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The command line names another farm than the media, so the media's enrolment key does not count.
    OtherFarm,
}

const WANT_HASH: &str = "64 hexadecimal digits";
const WANT_PEER: &str = "a link key of 64 hexadecimal digits, @, an address and a port";
const WANT_ADDRESS: &str = "an address and a port, such as 192.0.2.7:7770";

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "command line: zos.{option} is no option of this system; ignored"),
            Self::Malformed { option, value, wanted } => {
                write!(f, "command line: zos.{option}={value}: {wanted} wanted; ignored")
            }
            Self::Repeated(option) => write!(f, "command line: zos.{option} given more than once; the first holds"),
            Self::TooMany(option) => {
                write!(
                    f,
                    "command line: more than {MAX_REPEATS} values of zos.{option}; the rest ignored"
                )
            }
            Self::Media { field, wanted } => write!(f, "farm media: {field}: {wanted} wanted; ignored"),
            Self::OtherFarm => {
                f.write_str("command line: zos.farm is not the farm of the boot media; their enrolment key is not used")
            }
        }
    }
}

impl Raw {
    /// Picks the `zos.*` options out of a kernel command line. Double quotes hold spaces together, as for the kernel.
    #[must_use]
    pub fn parse(command_line: &str) -> Self {
        let options = words(command_line)
            .into_iter()
            .filter_map(|word| {
                let (name, value) = word.split_once('=').unwrap_or((&word, ""));
                Some((name.strip_prefix("zos.")?.to_owned(), value.to_owned()))
            })
            .collect();
        Self { options }
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Checks the options and joins them with the farm's media. An option of the command line goes before the media's.
#[must_use]
pub fn resolve(raw: &Raw, media: Option<&FarmMedia>) -> (Settings, Vec<Problem>) {
    let mut resolver = Resolver::default();
    for (option, value) in &raw.options {
        resolver.option(option, value);
    }
    if let Some(media) = media {
        resolver.media(media);
    }
    let settings = Settings {
        genesis: resolver.genesis,
        farm: resolver.farm,
        enrolment_seed: resolver.enrolment_seed,
        peers: resolver.peers,
        advertise: resolver.advertise,
        port: resolver.port.unwrap_or(DEFAULT_PORT),
        erase: resolver.erase,
        console: resolver.console.unwrap_or_else(|| PathBuf::from(DEFAULT_CONSOLE)),
    };
    (settings, resolver.problems)
}

#[derive(Default)]
struct Resolver {
    genesis: Option<[u8; 32]>,
    farm: Option<[u8; 32]>,
    enrolment_seed: Option<Zeroizing<[u8; 32]>>,
    peers: Vec<PeerAddress>,
    advertise: Vec<SocketAddr>,
    port: Option<u16>,
    erase: BTreeSet<String>,
    console: Option<PathBuf>,
    problems: Vec<Problem>,
}

impl Resolver {
    fn option(&mut self, option: &str, value: &str) {
        let problem = match option {
            "genesis" => once(&mut self.genesis, hash(value), WANT_HASH),
            "farm" => once(&mut self.farm, hash(value), WANT_HASH),
            "port" => once(
                &mut self.port,
                value.parse().ok().filter(|port| *port != 0),
                "a port from 1 to 65535",
            ),
            "console" => {
                let path = value.starts_with('/').then(|| PathBuf::from(value));
                once(&mut self.console, path, "an absolute path")
            }
            "peer" => many(&mut self.peers, peer(value), WANT_PEER),
            "advertise" => many(&mut self.advertise, address(value), WANT_ADDRESS),
            "erase" if value.is_empty() => Some(Fault::Malformed("the serial of a disk")),
            "erase" if self.erase.len() >= MAX_REPEATS => Some(Fault::TooMany),
            "erase" => {
                self.erase.insert(value.to_owned());
                None
            }
            other if OPTIONS_OF_OTHERS.contains(&other) => None,
            other => return self.problems.push(Problem::Unknown(other.to_owned())),
        };
        self.problems.extend(problem.map(|fault| match fault {
            Fault::Malformed(wanted) => Problem::Malformed {
                option: option.to_owned(),
                value: value.to_owned(),
                wanted,
            },
            Fault::Repeated => Problem::Repeated(option.to_owned()),
            Fault::TooMany => Problem::TooMany(option.to_owned()),
        }));
    }

    fn media(&mut self, media: &FarmMedia) {
        match hash(&media.genesis) {
            Some(genesis) => _ = self.genesis.get_or_insert(genesis),
            None => self.problems.push(Problem::Media {
                field: "genesis",
                wanted: WANT_HASH,
            }),
        }
        for text in media.peers.iter().take(MAX_REPEATS) {
            match peer(text) {
                Some(peer) if self.peers.contains(&peer) => {}
                Some(peer) => self.peers.push(peer),
                None => self.problems.push(Problem::Media {
                    field: "peers",
                    wanted: WANT_PEER,
                }),
            }
        }
        let Some(farm) = hash(&media.farm) else {
            return self.problems.push(Problem::Media {
                field: "farm",
                wanted: WANT_HASH,
            });
        };
        if *self.farm.get_or_insert(farm) != farm {
            return self.problems.push(Problem::OtherFarm);
        }
        match hash(&media.enrolment_seed) {
            Some(seed) => self.enrolment_seed = Some(Zeroizing::new(seed)),
            None => self.problems.push(Problem::Media {
                field: "enrolment_seed",
                wanted: WANT_HASH,
            }),
        }
    }
}

enum Fault {
    Malformed(&'static str),
    Repeated,
    TooMany,
}

fn once<T>(slot: &mut Option<T>, value: Option<T>, wanted: &'static str) -> Option<Fault> {
    match (value, &slot) {
        (None, _) => Some(Fault::Malformed(wanted)),
        (Some(_), Some(_)) => Some(Fault::Repeated),
        (value, None) => {
            *slot = value;
            None
        }
    }
}

fn many<T: PartialEq>(list: &mut Vec<T>, value: Option<T>, wanted: &'static str) -> Option<Fault> {
    match value {
        None => Some(Fault::Malformed(wanted)),
        Some(value) if list.contains(&value) => None,
        Some(_) if list.len() >= MAX_REPEATS => Some(Fault::TooMany),
        Some(value) => {
            list.push(value);
            None
        }
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let reachable = match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    (reachable && address.port() != 0).then_some(address)
}

/// A key that is no point of the curve is nobody's, so it is mistyped.
fn peer(text: &str) -> Option<PeerAddress> {
    let (key, at) = text.split_once('@')?;
    PeerAddress::new(key.parse().ok()?, vec![address(at)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media() -> FarmMedia {
        FarmMedia {
            genesis: "11".repeat(32),
            peers: vec![format!("{}@10.0.2.2:7001", "22".repeat(32))],
            farm: "33".repeat(32),
            enrolment_seed: "44".repeat(32),
        }
    }

    fn lines(command_line: &str, media: Option<&FarmMedia>) -> Vec<String> {
        resolve(&Raw::parse(command_line), media)
            .1
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_option_is_understood() {
        let line = format!(
            "quiet zos.genesis={a} zos.farm={b} zos.peer={a}@192.0.2.1:7770 zos.peer={b}@[2001:db8::1]:9 zos.port=8000 \
             zos.advertise=198.51.100.4:8000 zos.erase=S1 \"zos.erase=serial with spaces\" zos.erase=\"S 3\" zos.console=/dev/ttyS0",
            a = "aa".repeat(32),
            b = "BB".repeat(32)
        );
        let (settings, problems) = resolve(&Raw::parse(&line), None);
        assert_eq!(problems, []);
        assert_eq!(settings.genesis, Some([0xaa; 32]));
        assert_eq!(settings.farm, Some([0xbb; 32]));
        assert_eq!(settings.peers.len(), 2);
        assert_eq!(settings.peers[1].addresses(), ["[2001:db8::1]:9".parse().unwrap()]);
        assert_eq!(settings.port, 8000);
        assert_eq!(settings.advertise, ["198.51.100.4:8000".parse().unwrap()]);
        assert_eq!(
            settings.erase.iter().map(String::as_str).collect::<Vec<_>>(),
            ["S 3", "S1", "serial with spaces"]
        );
        assert_eq!(settings.console, PathBuf::from("/dev/ttyS0"));
    }

    #[test]
    fn each_wrong_option_gives_one_line_and_stops_nothing() {
        assert_eq!(
            lines(
                "zos.port=0 zos.genesis=12 zos.peer=x zos.erase= zos.colour=red zos.advertise=0.0.0.0:1 zos.port=9 zos.port=10",
                None
            ),
            [
                "command line: zos.port=0: a port from 1 to 65535 wanted; ignored",
                "command line: zos.genesis=12: 64 hexadecimal digits wanted; ignored",
                "command line: zos.peer=x: a link key of 64 hexadecimal digits, @, an address and a port wanted; ignored",
                "command line: zos.erase=: the serial of a disk wanted; ignored",
                "command line: zos.colour is no option of this system; ignored",
                "command line: zos.advertise=0.0.0.0:1: an address and a port, such as 192.0.2.7:7770 wanted; ignored",
                "command line: zos.port given more than once; the first holds",
            ]
        );
    }

    #[test]
    fn mistyped_key_of_a_peer_is_said() {
        let key = "02".repeat(32);
        let problem = format!(
            "command line: zos.peer={key}@192.0.2.1:7770: a link key of 64 hexadecimal digits, @, an address and a port wanted; \
             ignored"
        );
        assert_eq!(lines(&format!("zos.peer={key}@192.0.2.1:7770"), None), [problem]);
    }

    #[test]
    fn farm_media_fill_what_the_command_line_leaves_open() {
        let (settings, problems) = resolve(&Raw::parse("root=/dev/sda"), Some(&media()));
        assert_eq!(problems, []);
        assert_eq!(settings.genesis, Some([0x11; 32]));
        assert_eq!(settings.farm, Some([0x33; 32]));
        assert_eq!(settings.enrolment_seed.as_deref(), Some(&[0x44; 32]));
        assert_eq!(settings.peers.len(), 1);
        assert_eq!(settings.port, DEFAULT_PORT);
    }

    #[test]
    fn enrolment_key_of_another_farm_is_not_used() {
        let line = format!("zos.farm={}", "99".repeat(32));
        let (settings, problems) = resolve(&Raw::parse(&line), Some(&media()));
        assert_eq!(problems, [Problem::OtherFarm]);
        assert_eq!(settings.farm, Some([0x99; 32]));
        assert!(settings.enrolment_seed.is_none());
    }

    #[test]
    fn repeatable_options_are_bounded() {
        let line: String = (0..=MAX_REPEATS).map(|i| format!("zos.erase=S{i} ")).collect();
        assert_eq!(
            lines(&line, None),
            ["command line: more than 64 values of zos.erase; the rest ignored"]
        );
    }
}
