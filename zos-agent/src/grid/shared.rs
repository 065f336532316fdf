//! What the tasks of the agent share: contracts, guests, where images come from, the chain's time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chain_client::ChainClock;
use ledger::{
    Header, Id, Timestamp,
    body::{Blob, Node},
};
use peer_link::{PeerAddress, PeerId};

use super::{
    docket::{Docket, Entry},
    keeper::Keeper,
    sources::Sources,
    view::GuestView,
};
use crate::reconcile::ImageHash;

/// What the tasks of the agent share.
#[derive(Debug)]
pub struct Shared {
    contracts: Keeper,
    guests: Mutex<BTreeMap<Id, GuestView>>,
    waiting: Mutex<BTreeMap<Id, String>>,
    sources: Mutex<Sources>,
    customers: Mutex<BTreeMap<Id, PeerId>>,
    clock: Mutex<ChainClock>,
    node: Mutex<Option<Node>>,
}

impl Shared {
    /// Nothing is known but the contracts.
    #[must_use]
    pub fn new(contracts: Keeper) -> Self {
        Self {
            contracts,
            guests: Mutex::default(),
            waiting: Mutex::default(),
            sources: Mutex::default(),
            customers: Mutex::default(),
            clock: Mutex::default(),
            node: Mutex::default(),
        }
    }

    /// The contracts as they are known. Not to be held over a wait.
    pub fn docket(&self) -> MutexGuard<'_, Docket> {
        self.contracts.docket()
    }

    /// Learns and forgets contracts.
    #[must_use]
    pub fn contracts(&self) -> &Keeper {
        &self.contracts
    }

    /// The guests as they were seen last.
    pub fn guests(&self) -> MutexGuard<'_, BTreeMap<Id, GuestView>> {
        lock(&self.guests)
    }

    /// Workloads that are not started, and what each waits for.
    pub fn waiting(&self) -> MutexGuard<'_, BTreeMap<Id, String>> {
        lock(&self.waiting)
    }

    /// Says what each workload that is not started waits for.
    pub fn set_waiting(&self, waiting: BTreeMap<Id, String>) {
        *lock(&self.waiting) = waiting;
    }

    /// What an image is and who has it.
    #[must_use]
    pub fn source(&self, image: &ImageHash) -> Option<(Blob, Vec<PeerAddress>)> {
        lock(&self.sources).of(image)
    }

    /// The link key of a contract's customer.
    #[must_use]
    pub fn customer(&self, customer: Id) -> Option<PeerId> {
        lock(&self.customers).get(&customer).copied()
    }

    /// The node's own record, once it was proven.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        lock(&self.node).clone()
    }

    /// The chain's time now in milliseconds: that of the newest verified block and what has passed since it came. 0 before
    /// the first.
    #[must_use]
    pub fn chain_now_ms(&self) -> u64 {
        let now = lock(&self.clock).read(Instant::now());
        now.map_or(0, Timestamp::millis)
    }

    /// Notes that a contract's workload has run until now, since `from` in time since the machine's start. Nothing is noted
    /// before the chain has told the time.
    ///
    /// # Errors
    /// The disk's.
    pub async fn note_uptime(&self, id: Id, from: Duration) -> std::io::Result<()> {
        let now = self.chain_now_ms();
        if now == 0 {
            return Ok(());
        }
        let ran = crate::machine::uptime().saturating_sub(from);
        let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
        self.contracts.ran(id, now.saturating_sub(ran_ms), now).await
    }

    /// The node's own record as it was proven last.
    pub(super) fn set_node(&self, node: Option<Node>) {
        *lock(&self.node) = node;
    }

    /// Learns the link key of a contract's customer.
    pub(super) fn know_customer(&self, customer: Id, peer: PeerId) {
        lock(&self.customers).insert(customer, peer);
    }

    /// Learns what a contract says of its image and who has it.
    pub(super) fn know_source(&self, contract: Id, root: Blob, providers: Vec<PeerAddress>) {
        lock(&self.sources).insert(contract, root, providers);
    }

    /// Forgets customers and sources that no live contract names.
    pub(super) fn prune(&self, live: &[(Id, Entry)]) {
        let customers: BTreeSet<Id> = live
            .iter()
            .map(|(_, entry)| entry.contract.signed.agreement.customer)
            .collect();
        lock(&self.customers).retain(|customer, _| customers.contains(customer));
        lock(&self.sources).retain(&live.iter().map(|(id, _)| *id).collect());
    }

    /// Goes on from the time of a head, unless a newer one has told it.
    pub(super) fn set_clock(&self, head: &Header) {
        lock(&self.clock).verified(head.time, Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
