//! What the command line and the daemon say to each other over the control socket: one request, then events, a JSON object a
//! line. After [`Event::Open`] raw bytes follow in both directions.

use std::path::PathBuf;

use ledger::{
    Id, Resources, Tokens,
    body::{Blob, Label, Location, NodeState, ReleaseKeys, Terms},
    geography::Place,
    release::Paper,
    text::Text,
};
use node_api::image::FarmMedia;
use peer_link::PeerAddress;
use serde::{Deserialize, Serialize};

use crate::{app::App, who::Who};

/// Longest line in bytes; the longest carry an application with its environment, or a chunk of a log.
pub const MAX_LINE: usize = 512 * 1024;

/// What the command line asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Who the daemon is and how far it sees.
    Status,
    /// The wallet's balance.
    Balance,
    /// Moves tokens.
    Send {
        /// To whom.
        to: Who,
        /// How many.
        amount: Tokens,
    },
    /// All versions of the wallet's account.
    History,
    /// Claims a name.
    NameClaim {
        /// The name.
        label: Label,
    },
    /// Makes an own name stand for somebody else.
    NamePassOn {
        /// The name.
        label: Label,
        /// For whom.
        to: Who,
    },
    /// Gives an own name up.
    NameGiveUp {
        /// The name.
        label: Label,
    },
    /// For whom a name stands.
    NameShow {
        /// The name.
        label: Label,
    },
    /// What the keys of a release channel are to sign.
    ReleaseDraft {
        /// What it is about.
        draft: Draft,
    },
    /// Puts on the chain what they signed.
    ReleaseSubmit {
        /// What they signed.
        paper: Box<Paper>,
    },
    /// Gives a release to a share of the nodes.
    ReleaseStage {
        /// Its channel.
        channel: Id,
        /// Its number.
        number: u64,
        /// To how many of a thousand.
        permille: u16,
    },
    /// Makes a farm.
    FarmCreate {
        /// Its name.
        name: String,
        /// Where it stands.
        location: Location,
    },
    /// Gives a farm another name and place.
    FarmUpdate {
        /// The farm, by name or id; the only one if absent.
        farm: Option<String>,
        /// Its name from now on.
        name: String,
        /// Where it stands from now on.
        location: Location,
    },
    /// The own farms with nodes and terms.
    FarmList,
    /// Publishes or replaces the terms of a farm.
    FarmTerms {
        /// The farm, by name or id; the only one if absent.
        farm: Option<String>,
        /// The terms; their `farm` is filled in.
        terms: Terms,
    },
    /// Ends a contract on one of the own nodes.
    FarmCancel {
        /// The contract.
        contract: Id,
    },
    /// Makes an enrolment key.
    FarmMedia {
        /// The farm, by name or id; the only one if absent.
        farm: Option<String>,
        /// How many nodes may join.
        nodes: u32,
        /// For how many days.
        days: u32,
        /// Peers that the nodes ask first; the bot's own if empty.
        peers: Vec<PeerAddress>,
    },
    /// Keeps and publishes an imported image.
    ImageAdd {
        /// File of the root file system.
        root: PathBuf,
        /// The configuration.
        config: String,
        /// Name and tag.
        name: String,
    },
    /// Looks for nodes.
    Find {
        /// What they must have free.
        resources: Resources,
        /// Where.
        place: Option<Place>,
        /// Most that an hour may cost.
        max_hour: Option<Tokens>,
    },
    /// Deploys an application.
    Deploy {
        /// The application.
        app: Box<App>,
    },
    /// Changes a deployment that runs into what an application says.
    Amend {
        /// The application; its name is the deployment's.
        app: Box<App>,
    },
    /// All deployments.
    Ps,
    /// Output of a deployment from a byte on.
    Logs {
        /// The deployment.
        name: String,
        /// Offset of the first byte.
        from: u64,
    },
    /// A connection to a port of a deployment.
    Tunnel {
        /// The deployment.
        name: String,
        /// The port.
        port: u16,
    },
    /// Ends a deployment.
    Cancel {
        /// The deployment.
        name: String,
    },
    /// Forgets a deployment that has ended.
    Forget {
        /// The deployment.
        name: String,
    },
}

/// What the daemon answers; [`Event::Done`] or [`Event::Failed`] is the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage of a deployment was reached.
    Stage(Stage),
    /// Something worth knowing on the way.
    Note {
        /// One line.
        text: String,
    },
    /// Raw bytes follow.
    Open,
    /// Done.
    Done {
        /// The answer.
        reply: Reply,
    },
    /// Not done.
    Failed(Failure),
}

/// A stage of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub stage: String,
    /// Seconds since the stage before.
    pub seconds: f64,
    /// Seconds since the deployment began.
    pub at: f64,
    /// One line about it.
    pub detail: String,
}

/// The answer to a request that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "value", rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing to say.
    Nothing,
    /// To [`Request::Status`].
    Status(StatusView),
    /// To [`Request::Balance`].
    Balance(Tokens),
    /// To [`Request::History`].
    History(Vec<MovementView>),
    /// The id of what was made, changed or asked for.
    Made(Id),
    /// To [`Request::ReleaseDraft`].
    Paper(Box<Paper>),
    /// To [`Request::FarmList`].
    Farms(Vec<FarmView>),
    /// To [`Request::FarmMedia`].
    Media(FarmMedia),
    /// To [`Request::Find`].
    Nodes(Vec<NodeView>),
    /// To [`Request::Ps`].
    Deployments(Vec<DeploymentView>),
    /// To [`Request::Deploy`] and [`Request::Amend`].
    Deployed(DeploymentView),
    /// To [`Request::Logs`].
    Log {
        /// Offset of the first byte.
        from: u64,
        /// The bytes in hexadecimal digits.
        hex: String,
    },
}

/// What the keys of a release channel are to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draft {
    /// A channel of the bot's.
    Channel {
        /// Its name.
        label: Label,
        /// Its first keys.
        keys: ReleaseKeys,
    },
    /// Other keys, or another owner, of a channel.
    Rotation {
        /// The channel.
        channel: Id,
        /// The keys from then on.
        keys: ReleaseKeys,
        /// Who stages from then on; as before if absent.
        owner: Option<Who>,
    },
    /// A release.
    Release {
        /// Its channel.
        channel: Id,
        /// Its number; one more than the newest if absent.
        number: Option<u64>,
        /// How people call it.
        name: Text<32>,
        /// Its image's manifest.
        image: Blob,
    },
}

/// Who a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its link key and addresses.
    pub link: Option<PeerAddress>,
    /// Height of the newest verified block.
    pub height: u64,
}

/// One change of a balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovementView {
    /// Height of the block.
    pub height: u64,
    /// The balance since then.
    pub balance: Tokens,
    /// Whose transaction it was; all zeros where a rule of the chain was at work.
    pub author: Id,
}

/// A farm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarmView {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its country.
    pub country: String,
    /// Its nodes.
    pub nodes: Vec<FarmNodeView>,
    /// Its terms.
    pub terms: Vec<Id>,
}

/// A node of a farm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarmNodeView {
    /// Its id.
    pub id: Id,
    /// What it offers.
    pub capacity: Resources,
    /// What is reserved of it.
    pub reserved: Resources,
    /// Live contracts.
    pub contracts: usize,
    /// Maker and model.
    pub hardware: String,
    /// Disks that it does not touch, and why.
    pub refused_disks: Vec<String>,
    /// Whether it is heard of.
    pub state: NodeState,
}

/// A node that suits a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub node: Id,
    /// Its farm.
    pub farm: String,
    /// Where it stands.
    pub location: Location,
    /// What it has free.
    pub free: Resources,
    /// Asking price for an hour of what was looked for.
    pub hour: Tokens,
    /// Length of a period in milliseconds.
    pub period_ms: u64,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: String,
    /// Its contract.
    pub contract: Option<Id>,
    /// Its node.
    pub node: Option<Id>,
    /// Price of one period.
    pub price: Option<Tokens>,
    /// Periods that are settled, of all contracts.
    pub settled: u32,
    /// Periods that were ordered.
    pub periods: u32,
    /// What farmers have got, by all contracts.
    pub paid: Tokens,
    /// What was paid for periods that were disputed or not confirmed, and nobody has.
    pub withheld: Tokens,
    /// What is in escrow.
    pub held: Tokens,
    /// Periods of the contract that were disputed.
    pub disputes: u32,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What kind of reason it is.
    pub kind: FailureKind,
    /// One line that says what and what to do.
    pub text: String,
}

/// Kinds of failure; each has an exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Something of this machine: a file, a disk, a socket.
    Local,
    /// What was asked for cannot be.
    Usage,
    /// No daemon runs.
    NoDaemon,
    /// The chain or the other side refused.
    Refused,
    /// There is no such thing.
    NotFound,
    /// The identity cannot be opened.
    Identity,
    /// Chain, bot or node cannot be reached.
    Network,
}

impl FailureKind {
    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Local => 1,
            Self::Usage => 2,
            Self::NoDaemon => 3,
            Self::Refused => 4,
            Self::NotFound => 5,
            Self::Identity => 6,
            Self::Network => 7,
        }
    }
}
