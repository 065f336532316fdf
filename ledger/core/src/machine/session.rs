//! Reading and writing records within one block.

use std::collections::BTreeMap;

use borsh::BorshSerialize;

use crate::{
    body::{Account, Charter, Entity, Node},
    consensus::ValidatorSet,
    hash::Hash,
    key::{PublicKey, Purpose, Signature},
    machine::{
        Refusal, amendment, charter, contracts, farms, keys, names, nodes, people, releases, settlement, signatures,
    },
    record::{Body, BodyOf, Id, Kind, Record, RecordKey},
    sets,
    signatures::{Claim, Signatures},
    store::{Store, StoreError},
    transaction::{Operation, SignedTransaction},
    tree::{self, TreeError},
    unit::{Height, Timestamp, Tokens},
};

/// Most records that a rule changes by time in one block; the rest follow in the next.
pub(super) const MAX_DUE: usize = 1_000;

/// Why something could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The transaction breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed; nothing is known about the transaction.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a block changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// New versions, in the order in which they were made.
    pub records: Vec<Record>,
    /// New nodes of the state tree.
    pub nodes: Vec<(Hash, tree::Node)>,
    /// Root of the state tree.
    pub root: Hash,
}

impl Outcome {
    /// The validators of the next block, if the charter changed.
    #[must_use]
    pub fn validators(&self) -> Option<&ValidatorSet> {
        self.records.iter().rev().find_map(|record| match &record.body {
            Body::Charter(charter) => Some(&charter.validators),
            _ => None,
        })
    }
}

/// One block being applied.
#[derive(Debug)]
pub struct Session<'a, S: Store + ?Sized> {
    pub(super) store: &'a S,
    signatures: &'a Signatures,
    pub(super) chain: Hash,
    pub(super) height: Height,
    pub(super) time: Timestamp,
    latest: BTreeMap<RecordKey, Record>,
    records: Vec<Record>,
    /// Versions made by the transaction that is being applied.
    pending: Vec<Record>,
}

impl<'a, S: Store + ?Sized> Session<'a, S> {
    /// Begins a block on the store's state. What was found valid in `signatures` is not checked again.
    pub fn new(store: &'a S, signatures: &'a Signatures, chain: Hash, height: Height, time: Timestamp) -> Self {
        Self {
            store,
            signatures,
            chain,
            height,
            time,
            latest: BTreeMap::new(),
            records: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Lets an upgrade begin whose height has come.
    pub(super) fn begin_upgrade(&mut self) -> Result<(), StoreError> {
        let begun = charter::begin_upgrade(self);
        self.keep_rule(begun)
    }

    /// Version of the rules that the block is made by.
    pub(super) fn protocol(&self) -> Result<u32, StoreError> {
        let charter = self.read::<Charter>(Charter::ID)?;
        Ok(charter.expect("a chain has a charter from its genesis on").protocol)
    }

    /// Makes the charter of a new chain.
    pub(super) fn found_charter(&mut self, charter: Charter) -> Result<(), StoreError> {
        let founded = self.create(Charter::ID, Id::CHAIN, charter);
        self.keep_rule(founded)
    }

    /// Changes what is due by the block's time: contracts and nodes.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    pub fn settle_due(&mut self) -> Result<(), StoreError> {
        for key in self.store.due(self.time, MAX_DUE)? {
            let changed = match key.kind {
                Kind::Node => nodes::on_due(self, key.id),
                _ => settlement::on_due(self, key.id),
            };
            self.keep_rule(changed)?;
        }
        Ok(())
    }

    /// Founds an entity of the genesis.
    pub(super) fn found(&mut self, entity: &Entity, balance: Tokens) -> Result<(), StoreError> {
        let id = entity.founding_id();
        let founded = self
            .create(id, Id::CHAIN, entity.clone())
            .and_then(|()| self.credit(id, Id::CHAIN, balance));
        self.keep_rule(founded)
    }

    /// Issues tokens by the genesis' schedule.
    pub(super) fn issue(&mut self, to: Id, amount: Tokens) -> Result<(), StoreError> {
        let issued = self.credit(to, Id::CHAIN, amount);
        self.keep_rule(issued)
    }

    /// Keeps what a rule changed. A rule is never refused: a checked genesis and the invariants of contracts exclude it.
    fn keep_rule(&mut self, result: Result<(), Fault>) -> Result<(), StoreError> {
        match result {
            Ok(()) => self.keep(),
            Err(Fault::Store(error)) => return Err(error),
            Err(Fault::Refused(refusal)) => panic!("a rule of the chain was refused: {refusal}"),
        }
        Ok(())
    }

    /// Applies one transaction, wholly or not at all.
    ///
    /// # Errors
    /// [`Fault::Refused`] when it breaks a rule; it then has changed nothing.
    pub fn apply(&mut self, signed: &SignedTransaction) -> Result<(), Fault> {
        let result = self.try_apply(signed);
        match result {
            Ok(()) => self.keep(),
            Err(_) => self.discard(),
        }
        result
    }

    /// Checks alone that a transaction's author, as the state has it, signed it.
    ///
    /// # Errors
    /// [`Fault::Refused`] when there is no such author or the signature is another's.
    pub fn check_signature(&self, signed: &SignedTransaction) -> Result<(), Fault> {
        let transaction = &signed.transaction;
        let key = self.author_key(transaction.author, &transaction.operation)?;
        if self.verifies(key, Purpose::Transaction, transaction, signed.signature) {
            Ok(())
        } else {
            Err(Refusal::BadSignature.into())
        }
    }

    /// Whether `signature` is the key's over `value`, for this purpose and chain.
    pub(super) fn verifies(
        &self,
        key: PublicKey,
        purpose: Purpose,
        value: &impl BorshSerialize,
        signature: Signature,
    ) -> bool {
        self.holds(&Claim::new(key, (purpose, self.chain), value, signature))
    }

    /// Whether a signature holds.
    pub(super) fn holds(&self, claim: &Claim) -> bool {
        self.signatures.verify(claim)
    }

    fn try_apply(&mut self, signed: &SignedTransaction) -> Result<(), Fault> {
        let transaction = &signed.transaction;
        let author = transaction.author;
        self.check_signature(signed)?;
        let account = self.read::<Account>(author)?.unwrap_or_default();
        let (given, expected) = (transaction.nonce, account.nonce);
        if given < expected {
            return Err(Refusal::NonceUsed { given, expected }.into());
        }
        if given > expected {
            return Err(Refusal::NonceAhead { given, expected }.into());
        }
        self.write(
            author,
            author,
            Account {
                nonce: expected + 1,
                last: signed.hash(),
                ..account
            },
        )?;
        match &transaction.operation {
            Operation::CreateEntity(entity) => people::create(self, author, entity),
            Operation::UpdateEntity { name, addresses } => people::update(self, author, name, addresses),
            Operation::RotateKeys(new) => keys::rotate(self, author, new),
            Operation::SetRecovery { recovery, consent } => keys::set_recovery(self, author, *recovery, *consent),
            Operation::Recover {
                entity,
                by,
                new,
                recovery,
            } => keys::recover(self, *entity, *by, new, *recovery),
            Operation::Transfer { to, amount } => people::transfer(self, author, *to, *amount),
            Operation::CreateFarm { name, location } => farms::create(self, author, name, *location),
            Operation::UpdateFarm { farm, name, location } => farms::update(self, author, *farm, name, *location),
            Operation::SetEnrolments { farm, enrolments } => farms::set_enrolments(self, author, *farm, enrolments),
            Operation::PublishTerms(terms) => farms::publish_terms(self, author, terms),
            Operation::UpdateTerms { id, terms } => farms::update_terms(self, author, *id, terms),
            Operation::ExpelNode { node } => farms::expel(self, author, *node),
            Operation::JoinNode(join) => nodes::join(self, author, join),
            Operation::UpdateNode {
                capacity,
                addresses,
                hardware,
                refused_disks,
            } => nodes::update(self, author, *capacity, addresses, hardware, refused_disks),
            Operation::Attest { block } => nodes::attest(self, author, *block),
            Operation::PublishImage { name, root, config } => people::publish_image(self, author, name, *root, *config),
            Operation::ClaimName(label) => names::claim(self, author, label),
            Operation::PassOnName { label, to } => names::pass_on(self, author, label, *to),
            Operation::GiveUpName(label) => names::give_up(self, author, label),
            Operation::OpenChannel(signed) => releases::open(self, author, signed),
            Operation::RotateReleaseKeys(signed) => releases::rotate(self, author, signed),
            Operation::PublishRelease(signed) => releases::publish(self, author, signed),
            Operation::StageRelease { release, permille } => releases::stage(self, author, *release, *permille),
            Operation::Agree(agreement) => contracts::agree(self, author, agreement),
            Operation::Amend(amendment) => amendment::amend(self, author, amendment),
            Operation::Fund { contract, funded } => contracts::fund(self, author, *contract, *funded),
            Operation::Progress { contract, step } => contracts::progress(self, author, *contract, step),
            Operation::Cancel { contract } => contracts::cancel(self, author, *contract),
            Operation::Report {
                contract,
                period,
                up_ms,
                block,
            } => settlement::report(self, author, *contract, *period, *up_ms, *block),
            Operation::Receipt {
                contract,
                period,
                up_ms,
            } => settlement::receipt(self, author, *contract, *period, *up_ms),
            Operation::Decree(decree) => charter::decree(self, author, decree),
            Operation::ReportMisconduct(misconduct) => charter::report_misconduct(self, author, misconduct),
        }
    }

    /// The key that must have signed: of the record that is being made, or of the author's latest record.
    fn author_key(&self, author: Id, operation: &Operation) -> Result<PublicKey, Fault> {
        let founded = signatures::founded(operation);
        if let Some((expected, key)) = founded {
            return if expected == author {
                Ok(key)
            } else {
                Err(Refusal::WrongId {
                    given: author,
                    expected,
                }
                .into())
            };
        }
        if let Some(entity) = self.read::<Entity>(author)? {
            return Ok(entity.keys.signing);
        }
        if let Some(node) = self.read::<Node>(author)? {
            return Ok(node.keys.signing);
        }
        let validator = self
            .read::<Charter>(Charter::ID)?
            .and_then(|charter| charter.key_of(author));
        Ok(validator.ok_or(Refusal::UnknownAuthor(author))?)
    }

    /// Closes the block.
    ///
    /// # Errors
    /// [`TreeError`] when the state tree cannot be read.
    pub fn finish(self, root: Hash) -> Result<Outcome, TreeError> {
        let mut changes = Vec::new();
        for (key, record) in &self.latest {
            let before = self.store.latest(key).map_err(TreeError::Store)?;
            changes.extend(sets::changes(before.as_ref(), record));
        }
        changes.sort();
        // Nobody finds two members of one set with the same half of an id, and nobody who does shall stop the chain.
        changes.dedup_by_key(|(path, _)| *path);
        let (root, nodes) = tree::update(self.store, root, &changes)?;
        Ok(Outcome {
            records: self.records,
            nodes,
            root,
        })
    }

    fn latest(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        if let Some(record) = self.pending.iter().rev().find(|record| record.key() == *key) {
            return Ok(Some(record.clone()));
        }
        match self.latest.get(key) {
            Some(record) => Ok(Some(record.clone())),
            None => self.store.latest(key),
        }
    }

    /// The latest version of a record, whole.
    pub(super) fn record(&self, kind: Kind, id: Id) -> Result<Record, Fault> {
        let key = RecordKey::new(kind, id);
        Ok(self.latest(&key)?.ok_or(Refusal::Missing(key))?)
    }

    /// What the latest version of a record says, if there is one.
    pub(super) fn read<B: BodyOf>(&self, id: Id) -> Result<Option<B>, StoreError> {
        let record = self.latest(&RecordKey::new(B::KIND, id))?;
        Ok(record.and_then(|record| B::of(&record.body).cloned()))
    }

    /// What the latest version of a record says.
    pub(super) fn require<B: BodyOf>(&self, id: Id) -> Result<B, Fault> {
        Ok(self
            .read::<B>(id)?
            .ok_or(Refusal::Missing(RecordKey::new(B::KIND, id)))?)
    }

    /// Makes the first version of a record.
    pub(super) fn create<B: BodyOf>(&mut self, id: Id, author: Id, body: B) -> Result<(), Fault> {
        if self.read::<B>(id)?.is_some() {
            return Err(Refusal::Exists(RecordKey::new(B::KIND, id)).into());
        }
        self.write(id, author, body)
    }

    /// Appends a version, linked to the one before.
    pub(super) fn write<B: BodyOf>(&mut self, id: Id, author: Id, body: B) -> Result<(), Fault> {
        let body: Body = body.into();
        let before = self.latest(&RecordKey::new(B::KIND, id))?;
        let (version, previous) = before.map_or((1, Hash::ZERO), |before| (before.version + 1, before.hash()));
        self.pending.push(Record {
            id,
            version,
            previous,
            author,
            height: self.height,
            body,
        });
        Ok(())
    }

    /// Takes `amount` from an account.
    pub(super) fn debit(&mut self, from: Id, author: Id, amount: Tokens) -> Result<(), Fault> {
        let account = self.read::<Account>(from)?.unwrap_or_default();
        let balance = account.balance.checked_sub(amount).ok_or(Refusal::Funds {
            balance: account.balance.micro(),
            needed: amount.micro(),
        })?;
        self.write(from, author, Account { balance, ..account })
    }

    /// Adds `amount` to an account. Nothing is written for nothing.
    pub(super) fn credit(&mut self, to: Id, author: Id, amount: Tokens) -> Result<(), Fault> {
        if amount == Tokens::ZERO {
            return Ok(());
        }
        let account = self.read::<Account>(to)?.unwrap_or_default();
        let balance = account
            .balance
            .checked_add(amount)
            .ok_or_else(|| Refusal::Invalid("balance is not representable".into()))?;
        self.write(to, author, Account { balance, ..account })
    }

    fn keep(&mut self) {
        for record in self.pending.drain(..) {
            self.latest.insert(record.key(), record.clone());
            self.records.push(record);
        }
    }

    fn discard(&mut self) {
        self.pending.clear();
    }
}
