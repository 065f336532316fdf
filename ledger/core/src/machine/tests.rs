//! The state machine driven through blocks, as validators drive it.

mod amendments;
mod blocks;
mod charter;
mod contracts;
mod histories;
mod keys;
mod light;
mod names;
mod nodes;
mod releases;
mod transactions;

use std::collections::BTreeMap;

use super::*;
use crate::{
    agreement::{Agreement, Amendment, SignedAgreement, SignedAmendment},
    block::{Block, CertifiedHeader},
    body::*,
    consensus::{Certificate, CommitSignature, Validator, ValidatorSet, VoteKind, vote_bytes},
    genesis::{Genesis, GenesisEntity, Issuance},
    hash::Hash,
    key::SigningKey,
    light::{LightClient, LightError, RecordProof, verify_history},
    record::{Body, BodyOf, Id, Kind, Record, RecordKey},
    signatures::Signatures,
    store::MemoryStore,
    text::Text,
    transaction::{Join, Operation, SignedTransaction, Step, Transaction},
    tree,
    unit::{Resources, Timestamp, Tokens},
};

const GIB: u64 = 1 << 30;
const SUPPLY: u64 = 1_000_000_000;
const RULE: SettlementRule = SettlementRule {
    period_ms: 10_000,
    grace_ms: 5_000,
    acknowledge_ms: 5_000,
    deploy_ms: 20_000,
    suspend_ms: 20_000,
    tolerance_permille: 50,
    unconfirmed_permille: 1_000,
    missed_limit: 2,
    dispute_limit: 2,
};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn keys(seed: u8) -> Keys {
    let public = key(seed).public();
    Keys {
        signing: public,
        link: public,
        encryption: public,
    }
}

fn entity(seed: u8) -> Entity {
    Entity {
        keys: keys(seed),
        name: Text::lossy("somebody"),
        addresses: vec![],
        recovery: None,
    }
}

/// A chain of one validator in memory, with a farmer, a customer, a farm, a node, terms and an image.
struct World {
    genesis: Genesis,
    store: MemoryStore,
    head: Head,
    light: LightClient,
    nonces: BTreeMap<Id, u64>,
    now: u64,
    certified: Vec<CertifiedHeader>,
    /// Every set that was in force.
    sets: BTreeMap<Hash, ValidatorSet>,
}

const CUSTOMER: u8 = 1;
const FARMER: u8 = 2;
const NODE: u8 = 3;
const ENROLMENT: u8 = 4;
const VALIDATOR: u8 = 9;
/// Seeds of all who ever validate.
const VALIDATORS: std::ops::Range<u8> = VALIDATOR..20;

impl World {
    fn bare() -> Self {
        let validator = key(VALIDATOR).public();
        let founder = |seed, balance| GenesisEntity {
            entity: entity(seed),
            balance: Tokens::from_micro(balance),
        };
        let genesis = Genesis {
            name: Text::lossy("test"),
            time: Timestamp::from_millis(1_000),
            block_interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            validators: ValidatorSet::new(vec![Validator {
                key: validator,
                link: validator,
                power: 1,
            }])
            .unwrap(),
            entities: vec![founder(CUSTOMER, SUPPLY), founder(FARMER, 0)],
            issuance: Issuance::Fixed,
        };
        genesis.check().unwrap();
        let outcome = genesis_outcome(&genesis).unwrap();
        let head = Head::genesis(&genesis, &outcome);
        let mut store = MemoryStore::default();
        store.absorb(outcome);
        let sets = BTreeMap::from([(head.validators.hash(), head.validators.clone())]);
        let light = LightClient::new(genesis.hash(), &genesis).unwrap();
        Self {
            genesis,
            store,
            head,
            light,
            nonces: BTreeMap::new(),
            now: 1_000,
            certified: vec![],
            sets,
        }
    }

    fn furnished() -> Self {
        let mut world = Self::bare();
        let enrolment = Enrolment {
            key: key(ENROLMENT).public(),
            remaining: 1,
            until: Timestamp::from_millis(1_000_000),
        };
        let location = Location {
            country: *b"BE",
            latitude: 51_000_000,
            longitude: 3_700_000,
        };
        world.ok(
            FARMER,
            Operation::CreateFarm {
                name: Text::lossy("farm"),
                location,
            },
        );
        world.ok(
            FARMER,
            Operation::SetEnrolments {
                farm: farm(),
                enrolments: vec![enrolment],
            },
        );
        let join = world.join(ENROLMENT);
        world.ok(NODE, Operation::JoinNode(join));
        world.ok(FARMER, Operation::PublishTerms(terms()));
        let blob = |seed, size| Blob {
            hash: Hash::from_bytes([seed; 32]),
            size,
        };
        world.ok(
            CUSTOMER,
            Operation::PublishImage {
                name: Text::lossy("nginx"),
                root: blob(1, GIB),
                config: blob(2, 100),
            },
        );
        world
    }

    fn join(&self, enrolment: u8) -> Join {
        Join {
            farm: farm(),
            keys: keys(NODE),
            capacity: Resources {
                cru: 2,
                mru: 4 * GIB,
                sru: 10 * GIB,
                hru: 0,
            },
            addresses: vec![],
            hardware: Text::lossy("box"),
            refused_disks: vec![],
            enrolment: Join::consent(self.genesis.hash(), &key(enrolment), farm(), &keys(NODE)),
        }
    }

    fn chain(&self) -> Hash {
        self.genesis.hash()
    }

    fn sign(&self, seed: u8, operation: Operation) -> SignedTransaction {
        let author = author(seed);
        let nonce = self.nonces.get(&author).copied().unwrap_or(0);
        Transaction {
            author,
            nonce,
            operation,
        }
        .sign(self.chain(), &key(seed))
    }

    /// Puts one block on the chain, checked as a validator and as a light client would.
    fn block(&mut self, transactions: &[SignedTransaction]) -> Vec<Refusal> {
        self.now += 1_000;
        let now = Timestamp::from_millis(self.now);
        let proposer = self.head.validators.validators()[0].key;
        let state = (&self.store, &Signatures::default());
        let Proposal { block, refused, .. } =
            propose_block(state, &self.genesis, &self.head, proposer, now, transactions).unwrap();
        let outcome = apply_block((&self.store, &Signatures::default()), &self.genesis, &self.head, &block).unwrap();
        let taken = &block.transactions;
        let again = propose_block(state, &self.genesis, &self.head, proposer, now, taken).unwrap();
        assert_eq!(block, again.block, "a refused transaction has changed something");
        assert_eq!(outcome, again.outcome, "who proposes and who checks differ");
        self.head = self.head.after(&block.header, &outcome);
        self.sets
            .insert(self.head.validators.hash(), self.head.validators.clone());
        self.store.absorb(outcome);
        self.store.headers.insert(block.header.height, block.header.clone());
        for transaction in &block.transactions {
            *self.nonces.entry(transaction.transaction.author).or_default() += 1;
        }
        let certified = self.certify(&block);
        self.light.advance(&certified).unwrap();
        self.certified.push(certified);
        self.check_conservation();
        refused.into_iter().map(|(_, refusal)| refusal).collect()
    }

    fn certify(&self, block: &Block) -> CertifiedHeader {
        let (height, id) = (block.header.height, block.header.id());
        let bytes = vote_bytes(self.chain(), VoteKind::Precommit, height, 0, Some(id));
        let header = block.header.clone();
        let set = self.sets.get(&header.validators).unwrap_or(&self.genesis.validators);
        let sign = |seed: u8| CommitSignature {
            validator: key(seed).public(),
            signature: key(seed).sign_bytes(&bytes),
        };
        let members = VALIDATORS.filter(|seed| set.get(&key(*seed).public()).is_some());
        let certificate = Certificate {
            height,
            round: 0,
            block: id,
            signatures: members.map(sign).collect(),
        };
        let handover = (header.next_validators != header.validators)
            .then(|| self.sets.get(&header.next_validators).cloned())
            .flatten();
        CertifiedHeader {
            header,
            certificate,
            handover,
        }
    }

    fn check_conservation(&self) {
        let total: u64 = self
            .store
            .latest
            .values()
            .map(|record| match &record.body {
                Body::Account(account) => account.balance.micro(),
                Body::Name(name) => name.deposit.micro(),
                Body::Escrow(escrow) => {
                    assert_eq!(
                        escrow.deposited.micro(),
                        escrow.held.micro() + escrow.paid.micro() + escrow.returned.micro() + escrow.withheld.micro()
                    );
                    assert_eq!(Some(escrow.held), self.get::<Contract>(record.id).held());
                    escrow.held.micro()
                }
                _ => 0,
            })
            .sum();
        assert_eq!(total, SUPPLY);
    }

    fn try_one(&mut self, seed: u8, operation: Operation) -> Result<(), Refusal> {
        let transaction = self.sign(seed, operation);
        self.block(&[transaction]).pop().map_or(Ok(()), Err)
    }

    fn ok(&mut self, seed: u8, operation: Operation) {
        self.try_one(seed, operation).unwrap();
    }

    fn wait(&mut self, millis: u64) {
        self.now += millis;
        self.block(&[]);
    }

    fn get<B: BodyOf>(&self, id: Id) -> B {
        B::of(&self.store.latest[&RecordKey::new(B::KIND, id)].body)
            .unwrap()
            .clone()
    }

    fn hash_of(&self, kind: Kind, id: Id) -> Hash {
        self.store.latest[&RecordKey::new(kind, id)].hash()
    }

    fn agreement(&self, salt: u8, cru: u64, periods: u32) -> SignedAgreement {
        let agreement = Agreement {
            customer: author(CUSTOMER),
            farmer: author(FARMER),
            terms: (terms().founding_id(), self.hash_of(Kind::Terms, terms().founding_id())),
            node: author(NODE),
            resources: Resources {
                cru,
                mru: GIB,
                sru: 2 * GIB,
                hru: 0,
            },
            price: Tokens::from_micro(1_000),
            periods,
            deposit: periods,
            rule: RULE,
            image: (image(), self.hash_of(Kind::Image, image())),
            sealed: Blob {
                hash: Hash::from_bytes([5; 32]),
                size: 10,
            },
            valid_until: Timestamp::from_millis(self.now + 60_000),
            salt: [salt; 16],
        };
        self.signed(agreement)
    }

    fn signed(&self, agreement: Agreement) -> SignedAgreement {
        let customer = agreement.sign(self.chain(), &key(CUSTOMER));
        let farmer = agreement.sign(self.chain(), &key(FARMER));
        SignedAgreement {
            agreement,
            customer,
            farmer,
        }
    }

    /// An amendment of a contract that both sign.
    fn amendment(&self, contract: Id, change: impl FnOnce(&mut Agreement)) -> SignedAmendment {
        let before = self.get::<Contract>(contract);
        let number = before.amendments + 1;
        let mut agreement = before.signed.agreement;
        let replaces = agreement.hash();
        agreement.valid_until = Timestamp::from_millis(self.now + 60_000);
        change(&mut agreement);
        let amendment = Amendment {
            contract,
            number,
            replaces,
            agreement,
        };
        SignedAmendment {
            customer: amendment.sign(self.chain(), &key(CUSTOMER)),
            farmer: amendment.sign(self.chain(), &key(FARMER)),
            amendment,
        }
    }

    fn amend(&mut self, contract: Id, change: impl FnOnce(&mut Agreement)) -> Result<(), Refusal> {
        let amendment = self.amendment(contract, change);
        self.try_one(CUSTOMER, Operation::Amend(amendment))
    }

    fn agree(&mut self, salt: u8, periods: u32) -> Id {
        let signed = self.agreement(salt, 1, periods);
        let id = signed.agreement.contract_id();
        self.ok(CUSTOMER, Operation::Agree(signed));
        id
    }

    fn run(&mut self, salt: u8, periods: u32) -> Id {
        let contract = self.agree(salt, periods);
        self.ok(
            NODE,
            Operation::Progress {
                contract,
                step: Step::Acknowledged,
            },
        );
        self.ok(
            NODE,
            Operation::Progress {
                contract,
                step: Step::Running,
            },
        );
        contract
    }

    fn report(&mut self, contract: Id, period: u32, up_ms: u64) -> Result<(), Refusal> {
        let block = (self.head.height, self.head.id);
        self.try_one(
            NODE,
            Operation::Report {
                contract,
                period,
                up_ms,
                block,
            },
        )
    }

    fn receipt(&mut self, contract: Id, period: u32, up_ms: u64) -> Result<(), Refusal> {
        self.try_one(
            CUSTOMER,
            Operation::Receipt {
                contract,
                period,
                up_ms,
            },
        )
    }

    /// A running contract of which less is paid in than was agreed.
    fn run_with_deposit(&mut self, periods: u32, deposit: u32) -> Id {
        let signed = self.signed(Agreement {
            deposit,
            ..self.agreement(1, 1, periods).agreement
        });
        let contract = signed.agreement.contract_id();
        self.ok(CUSTOMER, Operation::Agree(signed));
        for step in [Step::Acknowledged, Step::Running] {
            self.ok(NODE, Operation::Progress { contract, step });
        }
        contract
    }

    fn prove(&self, key: RecordKey) -> RecordProof {
        RecordProof {
            record: self.store.latest.get(&key).cloned(),
            proof: tree::prove(&self.store, self.store.root, key.path()).unwrap(),
        }
    }
}

fn author(seed: u8) -> Id {
    if seed == NODE {
        Node::founding_id(&keys(NODE))
    } else {
        entity(seed).founding_id()
    }
}

fn farm() -> Id {
    let location = Location {
        country: *b"BE",
        latitude: 0,
        longitude: 0,
    };
    Farm {
        owner: author(FARMER),
        name: Text::lossy("farm"),
        location,
        enrolments: vec![],
    }
    .founding_id()
}

fn terms() -> Terms {
    let price = Tokens::from_micro(3_600);
    let prices = Prices {
        cru_hour: price,
        mru_gib_hour: price,
        sru_gib_hour: price,
        hru_gib_hour: price,
    };
    Terms {
        farm: farm(),
        prices,
        periods: (1, 100),
        rule: RULE,
        open: true,
    }
}

fn image() -> Id {
    Image::founding_id(author(CUSTOMER), &Text::lossy("nginx"))
}
