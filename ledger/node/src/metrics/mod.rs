//! What those who run a validator watch: counted here as it happens, and told together with a [`Sample`] of what is.
//!
//! Names are `zos_ledger_…` in base units, those of the process as Prometheus clients name them. Labels have values from this
//! program alone: no stranger makes a series.

mod process;
mod sample;

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chain_client::protocol::Request;
use ledger::{Block, Body, Certificate, Height, Refusal, machine::Outcome};
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{http::reason, node::Submission};

pub(crate) use sample::Sample;

/// What the names of all metrics of the chain begin with.
const PREFIX: &str = "zos_ledger";
/// Upper bounds of the time buckets: 0.1 ms to 6.6 s, each four times the one before.
const TIMES: (f64, f64, u16) = (0.000_1, 4.0, 9);
/// Reason of a transaction for which there is no room.
const FULL: &str = "busy";

/// Why a transaction is refused, or a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What is asked over the peer link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Which endpoint answered how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    endpoint: String,
    code: u16,
}

/// What is counted from the start of the program on.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    blocks: Counter,
    committed: Counter,
    taken: Counter,
    refused: Family<Reason, Counter>,
    rounds: Counter,
    evidence: Counter,
    apply: Histogram,
    commit: Histogram,
    clients: Gauge,
    queries: Family<Kind, Counter>,
    requests: Family<Answered, Counter>,
    turned_away: Family<Reason, Counter>,
    /// Height of the chain as the peer said that was followed last.
    heard: AtomicU64,
}

impl Metrics {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        let (start, factor, length) = TIMES;
        let times = || Histogram::new(exponential_buckets(start, factor, length));
        let metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            blocks: Counter::default(),
            committed: Counter::default(),
            taken: Counter::default(),
            refused: Family::default(),
            rounds: Counter::default(),
            evidence: Counter::default(),
            apply: times(),
            commit: times(),
            clients: Gauge::default(),
            queries: Family::default(),
            requests: Family::default(),
            turned_away: Family::default(),
            heard: AtomicU64::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let all = &mut self.registry;
        all.register("blocks", "Blocks appended", self.blocks.clone());
        let help = "Transactions of appended blocks";
        all.register("transactions_committed", help, self.committed.clone());
        let help = "Transactions that were submitted here and wait, or waited, for a block";
        all.register("transactions_taken", help, self.taken.clone());
        let help = "Transactions refused when they were submitted here, or when a block was made of them";
        all.register("transactions_refused", help, self.refused.clone());
        let help = "Rounds that appended blocks took beyond the first";
        all.register("rounds_beyond_first", help, self.rounds.clone());
        let help = "Proofs of misconduct in appended blocks";
        all.register("evidence_recorded", help, self.evidence.clone());
        let help = "Time to check a block and work out what it changes";
        all.register_with_unit("block_apply", help, Unit::Seconds, self.apply.clone());
        let help = "Time to make a block and what it changes durable";
        all.register_with_unit("block_commit", help, Unit::Seconds, self.commit.clone());
        let help = "Links of those who ask, light clients and members";
        all.register("clients_linked", help, self.clients.clone());
        let help = "Requests over the peer link";
        all.register("link_requests", help, self.queries.clone());
        let help = "HTTP requests answered; streams count when they begin";
        all.register("http_requests", help, self.requests.clone());
        let help = "HTTP connections that were not taken, for want of places of all or of one client";
        all.register("http_connections_refused", help, self.turned_away.clone());
        self
    }

    /// A block was appended.
    pub(crate) fn block(&self, block: &Block, certificate: &Certificate, outcome: &Outcome, commit: Duration) {
        self.blocks.inc();
        self.committed.inc_by(count(block.transactions.len()));
        self.rounds.inc_by(certificate.round.into());
        let evidence = outcome.records.iter();
        let evidence = evidence.filter(|record| matches!(record.body, Body::Misconduct(_)));
        self.evidence.inc_by(count(evidence.count()));
        self.commit.observe(commit.as_secs_f64());
    }

    /// What a block changes was worked out: of a proposal, one's own or another's, or of a block that others have.
    pub(crate) fn applied(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }

    /// A transaction was submitted here.
    pub(crate) fn submitted(&self, submission: &Submission) {
        match submission {
            Submission::Taken => _ = self.taken.inc(),
            Submission::Waits => {}
            Submission::Refused(refusal) => self.refused(refusal),
            Submission::Full(_) => self.refused_for(FULL),
        }
    }

    /// A transaction breaks a rule.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refused_for(reason(refusal));
    }

    fn refused_for(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Somebody has a link, until what is given here is dropped.
    pub(crate) fn linked(&self) -> Client {
        self.clients.inc();
        Client(self.clients.clone())
    }

    /// Somebody asked over the peer link.
    pub(crate) fn asked(&self, request: &Request) {
        let kind = kind_of(request);
        self.queries.get_or_create(&Kind { kind }).inc();
    }

    /// An HTTP request was answered. The endpoint is its pattern, never what was asked for.
    pub(crate) fn answered(&self, endpoint: &str, code: u16) {
        let endpoint = endpoint.to_owned();
        self.requests.get_or_create(&Answered { endpoint, code }).inc();
    }

    /// An HTTP connection was not taken.
    pub(crate) fn turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&Reason { reason }).inc();
    }

    /// A peer that is followed said how high the chain is.
    pub(crate) fn heard(&self, height: Height) {
        self.heard.store(height, Ordering::Relaxed);
    }

    /// Height of the chain as the peer said that was followed last, 0 before the first.
    pub(crate) fn heard_of(&self) -> Height {
        self.heard.load(Ordering::Relaxed)
    }

    /// All that was counted and what is now, as the text format of OpenMetrics 1.0 has it.
    ///
    /// # Errors
    /// [`fmt::Error`] never in practice: a string takes all.
    pub(crate) fn text(&self, sample: &Sample) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &sample.registry(PREFIX))?;
        encode_registry(&mut text, &process::registry())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// A link that is counted.
#[derive(Debug)]
pub(crate) struct Client(Gauge);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const fn kind_of(request: &Request) -> &'static str {
    match request {
        Request::Genesis => "genesis",
        Request::Head { .. } => "head",
        Request::Records(_) => "records",
        Request::Search { .. } => "search",
        Request::Version(_) => "version",
        Request::History { .. } => "history",
        Request::Submit(_) => "submit",
        Request::Hold(_) => "hold",
        Request::Sealed(_) => "sealed",
        Request::Watch => "watch",
        Request::Relay(_) => "relay",
        Request::Acquaint(_) => "acquaint",
        Request::Blocks { .. } => "blocks",
        Request::RecordsAt { .. } => "records-at",
        Request::Region { .. } => "region",
    }
}
