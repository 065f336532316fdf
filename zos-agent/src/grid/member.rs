//! The task that speaks with the chain.

use std::{collections::BTreeSet, io::ErrorKind, sync::Arc, time::Duration};

use chain_client::{Author, ChainClient, ClientError, SendError};
use error_line::with_causes;
use ledger::{
    Header, Id, Kind, Operation, PublicKey, RecordKey,
    body::{Blob, ContractState, Entity, Image, Keys, Node},
};
use peer_link::{PeerAddress, PeerId};
use tokio::sync::watch;
use tracing::warn;

use super::{
    docket::{Entry, spec, vm_id},
    duties::{ChainHead, Seen, duty},
    images::Images,
    shared::Shared,
    statement::{Enrolment, Statement, decide},
    view::GuestView,
};

/// Longest time between two turns when no new head comes.
const TURN: Duration = Duration::from_secs(2);
/// Most contracts that are asked for because they are no longer among the live ones, in one turn.
const MAX_LOOKED_UP: usize = 64;

/// Who the node is on the chain.
#[derive(Debug, Clone)]
pub struct Me {
    /// Its id and signing key.
    pub author: Author,
    /// Its public keys.
    pub keys: Keys,
    /// Its right to join a farm.
    pub enrolment: Option<Enrolment>,
}

/// Why a turn was not finished; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("chain")]
    Client(#[from] ClientError),
    #[error("send {0}")]
    Send(&'static str, #[source] SendError),
    #[error("join: {0}")]
    Join(&'static str),
    #[error("keep what was proven")]
    Keep(#[source] std::io::Error),
    /// What runs goes on; what was proven is asked for again.
    #[error(
        "the home disk is full: contract {} was not written down; what runs goes on, and it is tried again: contracts on this \
         disk must end, or the disk be replaced by a larger one, before new ones fit", .0.short()
    )]
    Full(Id),
}

impl TurnError {
    fn keeping(id: Id) -> impl Fn(std::io::Error) -> Self {
        move |error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full(id),
            _ => Self::Keep(error),
        }
    }
}

/// The node's membership: one turn after each new head.
#[derive(Debug)]
pub struct Member {
    /// The chain.
    pub client: ChainClient,
    /// Who the node is.
    pub me: Me,
    /// What the tasks share.
    pub shared: Arc<Shared>,
    /// Where images come from.
    pub images: Images,
    /// What the node has to say of itself.
    pub statement: watch::Receiver<Option<Statement>>,
    /// Says one line on the console.
    pub say: fn(&str),
}

impl Member {
    /// Runs for as long as the agent does.
    pub async fn run(mut self) {
        let _following = self.client.follow();
        let mut heads = self.client.heads();
        let mut complaint = String::new();
        loop {
            let text = match self.turn().await {
                Ok(()) => String::new(),
                Err(error) => with_causes(&error),
            };
            // The same trouble is said once, and again after it was gone.
            if text != complaint && !text.is_empty() {
                (self.say)(&text);
            }
            complaint = text;
            // Whether a head came or the time is over, the next turn looks at everything.
            let _ = tokio::time::timeout(TURN, heads.changed()).await;
        }
    }

    async fn turn(&mut self) -> Result<(), TurnError> {
        let head = match self.client.head() {
            Some(head) => head,
            None => self.client.sync().await?,
        };
        self.shared.set_clock(&head);
        // A registration that fails, or something that could not be learned, is no reason to neglect what is known.
        let joined = self.is_member(ChainHead::of(&head)).await;
        if matches!(joined, Ok(false)) {
            return Ok(());
        }
        let mut trouble = joined.err();
        match self.learn().await {
            Ok(()) => {}
            Err(error @ TurnError::Client(_)) => return Err(trouble.unwrap_or(error)),
            Err(error) => {
                if matches!(error, TurnError::Full(_)) {
                    self.images.want_room();
                }
                trouble = trouble.or(Some(error));
            }
        }
        let live: Vec<(Id, Entry)> = {
            let docket = self.shared.docket();
            let live = docket
                .entries()
                .iter()
                .filter(|(_, entry)| entry.contract.ended().is_none());
            live.map(|(id, entry)| (*id, entry.clone())).collect()
        };
        // What is owed comes first, for all: no contract's trouble holds up another's.
        trouble = trouble.or(self.answer(live.iter().map(|(id, _)| *id), &head).await.err());
        for (id, entry) in &live {
            trouble = trouble.or(self.prepare(*id, entry).await.err());
        }
        self.shared.prune(&live);
        trouble.map_or(Ok(()), Err)
    }

    /// Joins, or says what has changed. Returns whether the node is a member of its farm.
    async fn is_member(&mut self, head: ChainHead) -> Result<bool, TurnError> {
        let on_chain = self
            .client
            .record::<Node>(self.me.author.id)
            .await?
            .map(|proven| proven.body);
        self.shared.set_node(on_chain.clone());
        let Some(ours) = self.statement.borrow().clone() else {
            return Ok(on_chain.is_some());
        };
        let chain = self.client.chain();
        let operation = decide(
            &ours,
            on_chain.as_ref(),
            &self.me.keys,
            self.me.enrolment.as_ref(),
            chain,
            head,
        );
        match operation.map_err(TurnError::Join)? {
            None => Ok(true),
            Some(operation) => {
                let news = match operation {
                    Operation::JoinNode(_) => Some("registered"),
                    Operation::UpdateNode { .. } => Some("registration updated"),
                    // That the node is still there is no news.
                    _ => None,
                };
                self.client
                    .send(&self.me.author, operation)
                    .await
                    .map_err(|error| TurnError::Send("registration", error))?;
                if let Some(what) = news {
                    let capacity = &ours.capacity;
                    (self.say)(&format!(
                        "{what} as node {}: {} threads, {} bytes of memory, {} of flash, {} of rotating storage",
                        self.me.author.id, capacity.cru, capacity.mru, capacity.sru, capacity.hru
                    ));
                }
                let registered = self.client.record::<Node>(self.me.author.id).await?;
                self.shared.set_node(registered.map(|proven| proven.body));
                Ok(true)
            }
        }
    }

    /// Takes over the complete set of live contracts, and the newest version of those that are no longer among them.
    async fn learn(&self) -> Result<(), TurnError> {
        let assigned = self.client.assigned(self.me.author.id).await?;
        let named: BTreeSet<Id> = assigned.iter().map(|contract| contract.record.id).collect();
        let mut trouble = None;
        for contract in assigned {
            let id = contract.record.id;
            let before = self.suspended(id);
            let content = {
                let docket = self.shared.docket();
                if docket.is_news(&contract.record) {
                    docket.sole_content(id)
                } else {
                    vec![]
                }
            };
            let kept = self.shared.contracts().learn(contract.record).await;
            trouble = trouble.or(kept.map_err(TurnError::keeping(id)).err());
            self.discard_replaced(id, content).await;
            if self.suspended(id) != before {
                let state = contract.body.state_name();
                (self.say)(&format!("contract {} is {state}", id.short()));
            }
        }
        let gone: Vec<RecordKey> = {
            let docket = self.shared.docket();
            let left = docket
                .entries()
                .iter()
                .filter(|(id, entry)| !named.contains(*id) && entry.contract.ended().is_none());
            left.map(|(id, _)| RecordKey::new(Kind::Contract, *id))
                .take(MAX_LOOKED_UP)
                .collect()
        };
        for record in self.client.records(&gone).await?.into_iter().flatten() {
            let id = record.id;
            if let Err(error) = self.shared.contracts().learn(record).await {
                trouble = trouble.or(Some(TurnError::keeping(id)(error)));
                continue;
            }
            let docket = self.shared.docket();
            if let Some(entry) = docket.entries().get(&id) {
                (self.say)(&format!("contract {} is {}", id.short(), entry.contract.state_name()));
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Gives back content of the image that a contract named until it was amended.
    async fn discard_replaced(&self, id: Id, content: Vec<Blob>) {
        let keeps_image = {
            let docket = self.shared.docket();
            docket.entries().get(&id).is_none_or(|entry| entry.image.is_some())
        };
        for blob in content.into_iter().filter(|_| !keeps_image) {
            if let Err(error) = self.images.discard(blob).await {
                warn!(contract = %id, "content stays in the store: {}", with_causes(&error));
            }
        }
    }

    /// Whether a contract is suspended, as far as is known here.
    fn suspended(&self, id: Id) -> bool {
        let docket = self.shared.docket();
        let known = docket.entries().get(&id).map(|entry| &entry.contract.state);
        matches!(known, Some(ContractState::Suspended { .. }))
    }

    /// Fetches what is missing of a contract: the image's record and configuration, the ciphertext, who the customer is.
    async fn prepare(&self, id: Id, entry: &Entry) -> Result<(), TurnError> {
        let agreement = &entry.contract.signed.agreement;
        if entry.problem.is_some() {
            return Ok(());
        }
        let customer = self.peer(agreement.customer).await?;
        if let Some(customer) = &customer {
            self.shared.know_customer(agreement.customer, customer.id());
        }
        if entry.image.is_none() {
            let version = self.client.version::<Image>(agreement.image.1).await?;
            let kept = self.shared.contracts().learn_image(id, &version.record).await;
            kept.map_err(TurnError::keeping(id))?;
            return Ok(());
        }
        if entry.workload.is_none() {
            let sealed = self.client.sealed(&agreement.sealed).await?;
            let kept = self.shared.contracts().learn_sealed(id, sealed).await;
            kept.map_err(TurnError::keeping(id))?;
        }
        let Some(image) = &entry.image else {
            return Ok(());
        };
        let owner = if image.owner == agreement.customer {
            None
        } else {
            self.peer(image.owner).await?
        };
        let providers: Vec<PeerAddress> = customer.into_iter().chain(owner).collect();
        self.shared.know_source(id, image.root, providers.clone());
        if entry.config.is_none() {
            self.fetch_config(id, image.config, providers);
        }
        self.check(id);
        Ok(())
    }

    /// Begins to fetch the image's configuration; a provider that does not answer holds up nothing else.
    fn fetch_config(&self, id: Id, config: Blob, providers: Vec<PeerAddress>) {
        let Some(asking) = self.images.ask(id) else { return };
        let (images, shared) = (self.images.clone(), Arc::clone(&self.shared));
        tokio::spawn(async move {
            match images.config(config, &providers).await {
                Ok(bytes) => {
                    if let Err(error) = shared.contracts().learn_config(id, bytes).await {
                        warn!(contract = %id, "image configuration not kept: {}", with_causes(&error));
                    } else if let Err(error) = images.discard(config).await {
                        warn!(contract = %id, "image configuration stays in the store: {}", with_causes(&error));
                    }
                }
                Err(error) => warn!(contract = %id, "image configuration not fetched: {}", with_causes(&error)),
            }
            drop(asking);
        });
    }

    /// Notes a contract that can never run here as soon as all of it is known.
    fn check(&self, id: Id) {
        let mut docket = self.shared.docket();
        let Some((entry, vm)) = docket.entries().get(&id).zip(vm_id(id)) else {
            return;
        };
        if let (Some(config), Some(workload)) = (&entry.config, &entry.workload)
            && let Err(problem) = spec(entry, vm, config, workload, "/".into())
        {
            docket.refuse(id, problem);
        }
    }

    async fn peer(&self, entity: Id) -> Result<Option<PeerAddress>, TurnError> {
        let Some(entity) = self.client.record::<Entity>(entity).await? else {
            return Ok(None);
        };
        let link: PublicKey = entity.body.keys.link;
        let id = PeerId::from_bytes(link.as_bytes()).ok();
        Ok(id.and_then(|id| PeerAddress::new(id, entity.body.addresses).ok()))
    }

    fn owed(&self, id: Id, head: ChainHead) -> Option<Operation> {
        let begun = self.shared.guests().get(&id).is_some_and(GuestView::has_begun);
        let docket = self.shared.docket();
        duty(id, docket.entries().get(&id)?, Seen { begun }, head)
    }

    /// What the node owes the chain about a contract, with what has run until now.
    async fn settle(&self, id: Id, head: ChainHead) -> Option<Operation> {
        let owed = self.owed(id, head)?;
        let counts_from = self.shared.guests().get(&id).and_then(|guest| guest.counts_from);
        let (Operation::Report { .. }, Some(from)) = (&owed, counts_from) else {
            return Some(owed);
        };
        // What ran until now belongs to the period that has just ended.
        if let Err(error) = self.shared.note_uptime(id, from).await {
            warn!(contract = %id, "uptime not kept: {}", with_causes(&error));
        }
        self.owed(id, head)
    }

    /// Says what the node owes the chain about its contracts, together: periods of many may end at once, and each report must
    /// stand within a grace.
    async fn answer(&self, live: impl Iterator<Item = Id>, head: &Header) -> Result<(), TurnError> {
        let head = ChainHead::of(head);
        let (mut said, mut operations) = (Vec::new(), Vec::new());
        for id in live {
            if let Some(operation) = self.settle(id, head).await {
                said.push((id, name(&operation)));
                operations.push(operation);
            }
        }
        if operations.is_empty() {
            return Ok(());
        }
        let outcomes = self.client.send_all(&self.me.author, operations).await;
        let mut trouble = None;
        for ((id, what), outcome) in said.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => (self.say)(&format!("contract {} {what}", id.short())),
                // The contract has moved on meanwhile; the next turn sees it.
                Err(SendError::Refused(refusal)) => warn!(contract = %id, "{what} refused: {refusal}"),
                Err(error) => trouble = trouble.or(Some(TurnError::Send(what, error))),
            }
        }
        trouble.map_or(Ok(()), Err)
    }
}

fn name(operation: &Operation) -> &'static str {
    use ledger::transaction::Step;
    match operation {
        Operation::Progress {
            step: Step::Acknowledged,
            ..
        } => "acknowledged",
        Operation::Progress {
            step: Step::Running, ..
        } => "runs",
        Operation::Progress {
            step: Step::Refused(_), ..
        } => "refused",
        Operation::Report { .. } => "reported",
        _ => "answered",
    }
}
