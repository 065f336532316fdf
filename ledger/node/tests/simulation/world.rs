//! Four ledgers under virtual time, and what may happen to them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ledger::{
    Block, Certificate, Decree, Genesis, Hash, Id, Kind, LightClient, Operation, RecordKey, SignedDecree,
    SignedTransaction, SigningKey, Timestamp, Tokens, Transaction, Validator, ValidatorSet,
    body::{Account, Charter, Entity, Keys},
    consensus::{CommitSignature, VoteKind, vote_bytes},
    decree::Change,
    encoding::encode,
    genesis::{GenesisEntity, Issuance},
    record::BodyOf,
    store::Store,
    text::Text,
};
use ledger_node::{Clock, Database, Ledger, Submission};

use crate::disk::Disk;

const REPLICAS: u8 = 4;
const SUPPLY: u64 = 1_000_000;
/// Entities that may come to be; the first one owns everything.
const ENTITIES: u8 = 6;
/// Most by which a clock is wrong, less than what validators bear.
const MAX_SKEW_MS: u64 = 4_000;
const BEGINNING_MS: u64 = 1_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn entity(seed: u8) -> Entity {
    let public = key(100 + seed).public();
    let keys = Keys {
        signing: public,
        link: public,
        encryption: public,
    };
    Entity {
        keys,
        name: Text::lossy("somebody"),
        addresses: vec![],
        recovery: None,
    }
}

fn validator(seed: u8, power: u64) -> Validator {
    let key = key(seed).public();
    Validator { key, link: key, power }
}

fn genesis() -> Genesis {
    Genesis {
        name: Text::lossy("simulation"),
        time: Timestamp::from_millis(BEGINNING_MS - MAX_SKEW_MS),
        block_interval_ms: 1_000,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        validators: ValidatorSet::new((0..REPLICAS).map(|seed| validator(seed, 10)).collect()).unwrap(),
        entities: vec![GenesisEntity {
            entity: entity(0),
            balance: Tokens::from_micro(SUPPLY),
        }],
        issuance: Issuance::Fixed,
    }
}

/// One validator's copy of the chain.
struct Replica {
    seed: u8,
    disk: Disk,
    clock: Clock,
    /// Absent while it is off.
    ledger: Option<Ledger>,
    /// The highest block whose commit it has acknowledged.
    acknowledged: u64,
}

impl Replica {
    fn start(&mut self) {
        let database = Database::open_on(self.disk.handle(), genesis()).expect("what was committed can be read");
        let ledger = Ledger::new(database, key(self.seed).public(), self.clock.clone()).unwrap();
        let height = ledger.next_height().unwrap() - 1;
        assert!(
            height >= self.acknowledged,
            "block {} was acknowledged and is lost",
            self.acknowledged
        );
        self.acknowledged = height;
        self.ledger = Some(ledger);
    }

    /// The next block that it is to have; nothing while it is off.
    fn next(&self) -> Option<u64> {
        self.ledger.as_ref().map(|ledger| ledger.next_height().unwrap())
    }
}

/// What counts what a schedule did, so that a simulation in which nothing happens is seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) blocks: u64,
    pub(crate) transactions: u64,
    pub(crate) decrees: u64,
    pub(crate) cuts: u64,
    pub(crate) cuts_amid: u64,
    pub(crate) caught_up: u64,
}

/// The replicas, the time, and what was decided so far.
pub(crate) struct World {
    chance: fastrand::Rng,
    now: Arc<AtomicU64>,
    replicas: Vec<Replica>,
    decided: Vec<(Vec<u8>, Certificate)>,
    nonces: Vec<u64>,
    pub(crate) counts: Counts,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let now = Arc::new(AtomicU64::new(BEGINNING_MS));
        let mut replica = |seed| {
            let (now, skew) = (Arc::clone(&now), chance.u64(0..=MAX_SKEW_MS));
            let read = move || Timestamp::from_millis(now.load(Ordering::Relaxed) - skew);
            let mut replica = Replica {
                seed,
                disk: Disk::default(),
                clock: Clock::new(read),
                ledger: None,
                acknowledged: 0,
            };
            replica.start();
            replica
        };
        let replicas = (0..REPLICAS).map(&mut replica).collect();
        Self {
            chance,
            now,
            replicas,
            decided: vec![],
            nonces: vec![0; usize::from(ENTITIES)],
            counts: Counts::default(),
        }
    }

    /// Something happens.
    pub(crate) fn step(&mut self) {
        match self.chance.u8(0..20) {
            0..=2 => {
                let passed = self.chance.u64(0..3_000);
                self.now.fetch_add(passed, Ordering::Relaxed);
            }
            3..=8 => self.transact(),
            9..=15 => self.decide(),
            16 => self.cut(),
            _ => self.recover(),
        }
    }

    fn any_replica(&mut self) -> usize {
        self.chance.usize(0..self.replicas.len())
    }

    /// An entity gives a transaction to some of the replicas, each of which has or has not got those before.
    fn transact(&mut self) {
        let from = self.chance.u8(0..ENTITIES);
        let nonce = self.nonces[usize::from(from)];
        let operation = if nonce == 0 && from != 0 {
            Operation::CreateEntity(entity(from))
        } else {
            Operation::Transfer {
                to: entity(self.chance.u8(0..ENTITIES)).founding_id(),
                amount: Tokens::from_micro(self.chance.u64(1..SUPPLY / 10)),
            }
        };
        let author = entity(from).founding_id();
        let transaction = sign(author, nonce, operation, &key(100 + from));
        let mut taken = false;
        for replica in &self.replicas {
            if let (Some(ledger), true) = (&replica.ledger, self.chance.bool()) {
                taken |= ledger.submit(transaction.clone()).unwrap() == Submission::Taken;
            }
        }
        // Half of the authors sign the next one at once, half when they see this one in a block.
        if taken && from.is_multiple_of(2) {
            self.nonces[usize::from(from)] += 1;
        }
    }

    /// One of the replicas that are level proposes, and if those that find the block good have the power, it is decided.
    fn decide(&mut self) {
        let height = u64::try_from(self.decided.len()).unwrap() + 1;
        let proposer = self.any_replica();
        if self.replicas[proposer].next() != Some(height) {
            return;
        }
        if self.chance.u8(0..10) == 0 {
            self.change_powers(proposer);
        }
        let ledger = self.replicas[proposer].ledger.as_ref().unwrap();
        let set = ledger.validators();
        let block = ledger.propose().expect("its clock is not behind by more than is borne");
        let bytes = encode(&block);
        let id = block.header.id();
        let mut signatures = Vec::new();
        for replica in &self.replicas {
            if replica.next() == Some(height) {
                let ledger = replica.ledger.as_ref().unwrap();
                assert_eq!(ledger.validate(&bytes).expect("an honest block is good"), id);
                let vote = vote_bytes(ledger.genesis().hash(), VoteKind::Precommit, height, 0, Some(id));
                signatures.push(CommitSignature {
                    validator: key(replica.seed).public(),
                    signature: key(replica.seed).sign_bytes(&vote),
                });
            }
        }
        let certificate = Certificate {
            height,
            round: 0,
            block: id,
            signatures,
        };
        if certificate.verify(block.header.chain, &set).is_err() {
            return;
        }
        self.counts.blocks += 1;
        self.counts.transactions += u64::try_from(block.transactions.len()).unwrap();
        self.note_authors(&block);
        self.decided.push((bytes, certificate));
        for number in 0..self.replicas.len() {
            // The others hear of it later.
            if self.replicas[number].next() == Some(height) && self.chance.u8(0..4) > 0 {
                self.commit(number, height);
            }
        }
    }

    /// What stands in a block was signed next by its author.
    fn note_authors(&mut self, block: &Block) {
        for signed in &block.transactions {
            let Transaction { author, nonce, .. } = &signed.transaction;
            let of = (0..ENTITIES).find(|seed| entity(*seed).founding_id() == *author);
            if let Some(of) = of {
                let next = &mut self.nonces[usize::from(of)];
                *next = (*next).max(nonce + 1);
            } else {
                self.counts.decrees += 1;
            }
        }
    }

    /// The validators agree on other powers, such that any three of them still decide.
    fn change_powers(&mut self, by: usize) {
        let changes = (0..REPLICAS).map(|seed| Change::PutValidator(validator(seed, self.chance.u64(10..=12))));
        let changes: Vec<Change> = changes.collect();
        let replica = &self.replicas[by];
        let ledger = replica.ledger.as_ref().unwrap();
        let chain = ledger.genesis().hash();
        let snapshot = ledger.snapshot().unwrap();
        let charter = snapshot
            .latest(&RecordKey::new(Kind::Charter, Charter::ID))
            .unwrap()
            .unwrap();
        let decree = Decree {
            previous: charter.hash(),
            changes,
        };
        let approvals = (0..3).map(|seed| decree.approve(chain, &key(seed))).collect();
        let author = Charter::author_of(&key(replica.seed).public());
        let nonce = ledger.next_nonce(author).unwrap();
        let operation = Operation::Decree(SignedDecree { decree, approvals });
        // Another one of the same author may wait already.
        let _ = ledger
            .submit(sign(author, nonce, operation, &key(replica.seed)))
            .unwrap();
    }

    /// Commits a decided block; the power may go meanwhile.
    fn commit(&mut self, number: usize, height: u64) {
        let cut = self.chance.u8(0..10) == 0;
        let replica = &mut self.replicas[number];
        if cut {
            replica.disk.cut_after(self.chance.usize(0..30));
        }
        let (bytes, certificate) = &self.decided[usize::try_from(height).unwrap() - 1];
        let committed = replica.ledger.as_ref().unwrap().commit(bytes, certificate.clone());
        match committed {
            Ok(()) => {
                replica.acknowledged = height;
                replica.disk.keep();
            }
            Err(error) => {
                assert!(cut, "{error:?}");
                self.counts.cuts_amid += 1;
                self.switch_off(number);
            }
        }
    }

    fn switch_off(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        replica.disk.cut(&mut self.chance);
        replica.ledger = None;
        self.counts.cuts += 1;
    }

    fn cut(&mut self) {
        let number = self.any_replica();
        if self.replicas[number].ledger.is_some() {
            self.switch_off(number);
        }
    }

    /// A replica comes back if it was off, and hears of some of what it has missed.
    fn recover(&mut self) {
        let number = self.any_replica();
        if self.replicas[number].ledger.is_none() {
            self.replicas[number].start();
        }
        for _ in 0..self.chance.u8(0..5) {
            self.catch_up_one(number);
        }
    }

    fn catch_up_one(&mut self, number: usize) -> bool {
        match self.replicas[number].next() {
            Some(next) if usize::try_from(next).unwrap() <= self.decided.len() => {
                self.commit(number, next);
                self.counts.caught_up += 1;
                true
            }
            _ => false,
        }
    }

    /// Everybody comes back and is level: all have the same, it conserves the tokens, and a light client believes it.
    pub(crate) fn settle(&mut self) {
        for number in 0..self.replicas.len() {
            while self.replicas[number].ledger.is_none() || self.catch_up_one(number) {
                if self.replicas[number].ledger.is_none() {
                    self.replicas[number].start();
                }
            }
        }
        let mut states: Vec<(u64, Hash)> = Vec::new();
        for replica in &self.replicas {
            let ledger = replica.ledger.as_ref().unwrap();
            let snapshot = ledger.snapshot().unwrap();
            let mut light = LightClient::new(ledger.genesis().hash(), ledger.genesis()).unwrap();
            let height = snapshot.height().unwrap();
            for height in 1..=height {
                light.advance(&snapshot.certified(height).unwrap().unwrap()).unwrap();
            }
            let accounts = snapshot.find(Kind::Account, None, None, usize::MAX).unwrap();
            let sum: u64 = accounts.into_iter().map(|id| balance(&snapshot, id)).sum();
            assert_eq!(sum, SUPPLY);
            states.push((height, snapshot.head().unwrap().state));
        }
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "{states:?}");
    }
}

fn balance(store: &impl Store, id: Id) -> u64 {
    let record = store.latest(&RecordKey::new(Kind::Account, id)).unwrap().unwrap();
    Account::of(&record.body).unwrap().balance.micro()
}

fn sign(author: Id, nonce: u64, operation: Operation, key: &SigningKey) -> SignedTransaction {
    Transaction {
        author,
        nonce,
        operation,
    }
    .sign(genesis().hash(), key)
}
