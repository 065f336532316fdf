//! The state machine driven through blocks, as validators drive it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    agreement::{Agreement, SignedAgreement},
    block::{Block, CertifiedHeader},
    body::*,
    consensus::{Certificate, CommitSignature, Validator, ValidatorSet, VoteKind, vote_bytes},
    genesis::{Genesis, GenesisEntity, Issuance},
    hash::Hash,
    key::SigningKey,
    light::{LightClient, LightError, RecordProof, verify_history},
    record::{Body, BodyOf, Id, Kind, Record, RecordKey},
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
    tolerance_permille: 50,
    unconfirmed_permille: 1_000,
    disputed_permille: 500,
    missed_limit: 2,
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
}

const CUSTOMER: u8 = 1;
const FARMER: u8 = 2;
const NODE: u8 = 3;
const ENROLMENT: u8 = 4;
const VALIDATOR: u8 = 9;

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
        let light = LightClient::new(genesis.hash(), &genesis).unwrap();
        Self {
            genesis,
            store,
            head,
            light,
            nonces: BTreeMap::new(),
            now: 1_000,
            certified: vec![],
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
        let proposer = key(VALIDATOR).public();
        let (block, refused) =
            propose_block(&self.store, &self.genesis, &self.head, proposer, now, transactions).unwrap();
        let outcome = apply_block(&self.store, &self.genesis, &self.head, &block).unwrap();
        let taken = &block.transactions;
        let (without_refused, _) = propose_block(&self.store, &self.genesis, &self.head, proposer, now, taken).unwrap();
        assert_eq!(block, without_refused, "a refused transaction has changed something");
        self.store.absorb(outcome);
        self.head = self.head.after(&block.header);
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
        let signature = CommitSignature {
            validator: key(VALIDATOR).public(),
            signature: key(VALIDATOR).sign_bytes(&bytes),
        };
        let certificate = Certificate {
            height,
            round: 0,
            block: id,
            signatures: vec![signature],
        };
        CertifiedHeader {
            header: block.header.clone(),
            certificate,
            handover: None,
        }
    }

    fn check_conservation(&self) {
        let total: u64 = self
            .store
            .latest
            .values()
            .map(|record| match &record.body {
                Body::Account(account) => account.balance.micro(),
                Body::Escrow(escrow) => {
                    assert_eq!(
                        escrow.deposited.micro(),
                        escrow.held.micro() + escrow.paid.micro() + escrow.returned.micro()
                    );
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

#[test]
fn a_contract_lives_from_agreement_to_expiry_and_pays_the_agreed_price() {
    let mut world = World::furnished();
    let contract = world.run(1, 2);
    assert_eq!(world.get::<Assignments>(author(NODE)).reserved.cru, 1);
    for period in 0..2 {
        world.wait(9_000);
        world.report(contract, period, 10_000).unwrap();
        world.ok(
            CUSTOMER,
            Operation::Receipt {
                contract,
                period,
                up_ms: 10_000,
            },
        );
    }
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Expired { .. }
    ));
    assert_eq!(world.get::<Account>(author(FARMER)).balance, Tokens::from_micro(2_000));
    assert_eq!(world.get::<Assignments>(author(NODE)), Assignments::default());
}

#[test]
fn cancelling_returns_what_was_not_used_and_frees_the_node() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    world.wait(4_000);
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Cancelled { .. }
    ));
    let escrow = world.get::<Escrow>(contract);
    assert_eq!((escrow.held, escrow.paid), (Tokens::ZERO, Tokens::from_micro(600)));
    assert_eq!(world.get::<Assignments>(author(NODE)), Assignments::default());
    let again = world.try_one(CUSTOMER, Operation::Cancel { contract });
    assert!(matches!(again, Err(Refusal::State { .. })), "{again:?}");
}

#[test]
fn silence_and_cancelling_in_the_grace_gain_the_customer_nothing() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    // 14 s after the start the first period is over and not settled, and 4 s of the second have begun.
    world.wait(12_000);
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert_eq!(world.get::<Escrow>(contract).paid, Tokens::from_micro(1_400));
}

#[test]
fn a_contract_that_was_settled_late_is_never_due_before_those_behind_it() {
    let mut world = World::furnished();
    let rule = SettlementRule {
        missed_limit: 1_000,
        ..RULE
    };
    let id = terms().founding_id();
    world.ok(
        FARMER,
        Operation::UpdateTerms {
            id,
            terms: Terms { rule, ..terms() },
        },
    );
    let agreement = Agreement {
        rule,
        ..world.agreement(1, 1, 50).agreement
    };
    let signed = world.signed(agreement);
    let contract = signed.agreement.contract_id();
    world.ok(CUSTOMER, Operation::Agree(signed));
    world.ok(
        NODE,
        Operation::Progress {
            contract,
            step: Step::Acknowledged,
        },
    );
    world.ok(
        NODE,
        Operation::Progress {
            contract,
            step: Step::Running,
        },
    );
    world.wait(200_000);
    let due = world.get::<Contract>(contract).due().unwrap();
    assert!(due > world.head.time, "{due:?} is not after {:?}", world.head.time);
}

#[test]
fn an_account_names_the_transaction_that_used_its_last_nonce() {
    let mut world = World::furnished();
    let sent = world.sign(
        CUSTOMER,
        Operation::Transfer {
            to: author(FARMER),
            amount: Tokens::from_micro(5),
        },
    );
    world.block(std::slice::from_ref(&sent));
    assert_eq!(world.get::<Account>(author(CUSTOMER)).last, sent.hash());
}

#[test]
fn a_node_that_says_nothing_is_paid_nothing_and_the_escrow_returns() {
    let mut world = World::furnished();
    let contract = world.agree(1, 3);
    world.wait(6_000);
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NotAcknowledged,
            ..
        }
    ));
    let contract = world.run(2, 10);
    for _ in 0..2 {
        world.wait(15_000);
    }
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NodeSilent,
            ..
        }
    ));
    assert_eq!(
        world.get::<Account>(author(CUSTOMER)).balance,
        Tokens::from_micro(SUPPLY)
    );
}

#[test]
fn capacity_is_never_over_committed() {
    let mut world = World::furnished();
    world.agree(1, 1);
    let too_much = world.agreement(2, 2, 1);
    let refused = world.try_one(CUSTOMER, Operation::Agree(too_much));
    assert!(matches!(refused, Err(Refusal::Capacity(_))), "{refused:?}");
    world.agree(3, 1);
}

#[test]
fn an_agreement_needs_both_signatures_funds_and_the_terms_as_they_are() {
    let mut world = World::furnished();
    let good = world.agreement(1, 1, 1);
    let mut unsigned = good.clone();
    unsigned.farmer = unsigned.customer;
    assert_eq!(
        world.try_one(CUSTOMER, Operation::Agree(unsigned)),
        Err(Refusal::AgreementSignature("farmer".into()))
    );
    let dear = world.signed(Agreement {
        price: Tokens::from_micro(SUPPLY + 1),
        ..good.agreement.clone()
    });
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(dear)),
        Err(Refusal::Funds { .. })
    ));
    let forever = world.signed(Agreement {
        periods: 101,
        ..good.agreement.clone()
    });
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(forever)),
        Err(Refusal::Agreement(_))
    ));
    world.ok(
        FARMER,
        Operation::UpdateTerms {
            id: terms().founding_id(),
            terms: Terms {
                periods: (1, 99),
                ..terms()
            },
        },
    );
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(good)),
        Err(Refusal::Agreement(_))
    ));
    let good = world.agreement(1, 1, 1);
    world.ok(CUSTOMER, Operation::Agree(good.clone()));
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(good)),
        Err(Refusal::Exists(_))
    ));
}

#[test]
fn replays_other_chains_and_wrong_nonces_have_refusals_of_their_own() {
    let mut world = World::furnished();
    let transfer = || Operation::Transfer {
        to: author(FARMER),
        amount: Tokens::from_micro(5),
    };
    let sent = world.sign(CUSTOMER, transfer());
    assert_eq!(world.block(std::slice::from_ref(&sent)), vec![]);
    assert!(matches!(world.block(&[sent]).pop(), Some(Refusal::NonceUsed { .. })));
    let nonce = world.nonces[&author(CUSTOMER)];
    let make = |nonce, chain| {
        Transaction {
            author: author(CUSTOMER),
            nonce,
            operation: transfer(),
        }
        .sign(chain, &key(CUSTOMER))
    };
    let ahead = make(nonce + 1, world.chain());
    assert!(matches!(world.block(&[ahead]).pop(), Some(Refusal::NonceAhead { .. })));
    let elsewhere = make(nonce, Hash::from_bytes([1; 32]));
    assert_eq!(world.block(&[elsewhere]).pop(), Some(Refusal::BadSignature));
    let stranger = world.sign(77, transfer());
    assert!(matches!(
        world.block(&[stranger]).pop(),
        Some(Refusal::UnknownAuthor(_))
    ));
    let too_much = Operation::Transfer {
        to: author(FARMER),
        amount: Tokens::from_micro(SUPPLY),
    };
    assert!(matches!(world.try_one(CUSTOMER, too_much), Err(Refusal::Funds { .. })));
}

#[test]
fn a_node_joins_only_with_the_farms_consent_and_within_its_limits() {
    let mut world = World::bare();
    let location = Location {
        country: *b"BE",
        latitude: 0,
        longitude: 0,
    };
    world.ok(
        FARMER,
        Operation::CreateFarm {
            name: Text::lossy("farm"),
            location,
        },
    );
    let join = world.join(ENROLMENT);
    let refused = world.try_one(NODE, Operation::JoinNode(join.clone()));
    assert!(matches!(refused, Err(Refusal::Enrolment(_))));
    let enrolment = Enrolment {
        key: key(ENROLMENT).public(),
        remaining: 0,
        until: Timestamp::from_millis(1 << 40),
    };
    world.ok(
        FARMER,
        Operation::SetEnrolments {
            farm: farm(),
            enrolments: vec![enrolment],
        },
    );
    assert!(matches!(
        world.try_one(NODE, Operation::JoinNode(join.clone())),
        Err(Refusal::Enrolment(_))
    ));
    let enrolment = Enrolment {
        remaining: 1,
        ..enrolment
    };
    world.ok(
        FARMER,
        Operation::SetEnrolments {
            farm: farm(),
            enrolments: vec![enrolment],
        },
    );
    world.ok(NODE, Operation::JoinNode(join));
    assert_eq!(world.get::<Farm>(farm()).enrolments[0].remaining, 0);
    world.ok(FARMER, Operation::ExpelNode { node: author(NODE) });
    assert_eq!(world.get::<Node>(author(NODE)).state, NodeState::Expelled);
}

#[test]
fn a_report_cannot_be_made_ahead() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    assert!(matches!(world.report(contract, 0, 10_000), Err(Refusal::State { .. })));
    let early = (world.head.height, world.head.id);
    world.wait(8_000);
    let with_early_block = Operation::Report {
        contract,
        period: 0,
        up_ms: 10_000,
        block: early,
    };
    assert!(matches!(
        world.try_one(NODE, with_early_block),
        Err(Refusal::Invalid(_))
    ));
    world.report(contract, 0, 10_000).unwrap();
    assert!(matches!(world.report(contract, 0, 10_000), Err(Refusal::State { .. })));
}

#[test]
fn a_peer_that_lies_is_refused_by_the_name_of_the_check() {
    let mut world = World::furnished();
    let contract = world.agree(1, 5);
    let key_of = RecordKey::new(Kind::Contract, contract);
    let good = world.prove(key_of);
    assert_eq!(
        world.light.verify_record(key_of, good.clone()).unwrap().unwrap().key(),
        key_of
    );
    let absent = RecordKey::new(Kind::Contract, Id::CHAIN);
    assert_eq!(world.light.verify_record(absent, world.prove(absent)), Ok(None));

    let mut altered = good.clone();
    altered.record.as_mut().unwrap().version += 1;
    assert_eq!(
        world.light.verify_record(key_of, altered),
        Err(LightError::AlteredRecord(key_of))
    );
    let withheld = RecordProof {
        record: None,
        ..good.clone()
    };
    assert_eq!(
        world.light.verify_record(key_of, withheld),
        Err(LightError::WithheldRecord(key_of))
    );
    let denied = RecordProof {
        record: None,
        ..world.prove(absent)
    };
    assert!(matches!(
        world.light.verify_record(key_of, denied),
        Err(LightError::BadProof { .. })
    ));

    let newest = world.certified.last().unwrap().clone();
    let stale = world.certified[0].clone();
    assert!(matches!(world.light.advance(&stale), Err(LightError::StaleHead { .. })));
    let mut fresh = LightClient::new(world.chain(), &world.genesis).unwrap();
    let mut forged = newest.clone();
    forged.header.state = Hash::ZERO;
    assert!(matches!(fresh.advance(&forged), Err(LightError::OtherBlock { .. })));
    forged.certificate.block = forged.header.id();
    assert!(matches!(fresh.advance(&forged), Err(LightError::ForgedCertificate(_))));
    let mut other_set = newest.clone();
    other_set.header.validators = Hash::ZERO;
    assert!(matches!(
        fresh.advance(&other_set),
        Err(LightError::WrongValidatorSet { .. })
    ));
    let mut elsewhere = newest.clone();
    elsewhere.header.chain = Hash::ZERO;
    assert!(matches!(fresh.advance(&elsewhere), Err(LightError::OtherChain(_))));
    fresh.advance(&newest).unwrap();
    // At the verified height too, another block is a forgery, unless the validators certified it as well.
    assert!(matches!(fresh.advance(&forged), Err(LightError::ForgedCertificate(_))));
    assert!(matches!(
        fresh.advance(&other_set),
        Err(LightError::WrongValidatorSet { .. })
    ));
    let twin = world.certify(&Block {
        header: forged.header,
        transactions: vec![],
    });
    assert!(matches!(fresh.advance(&twin), Err(LightError::ConflictingHead { .. })));
    assert_eq!(fresh.height(), world.light.height());
    assert!(matches!(
        LightClient::new(Hash::ZERO, &world.genesis),
        Err(LightError::WrongGenesis { .. })
    ));
}

#[test]
fn a_handover_needs_the_set_that_the_header_names() {
    let world = World::furnished();
    let next = key(50).public();
    let set = ValidatorSet::new(vec![Validator {
        key: next,
        link: next,
        power: 1,
    }])
    .unwrap();
    let mut header = world.certified.last().unwrap().header.clone();
    header.next_validators = set.hash();
    let certified = |handover| {
        let mut certified = world.certify(&Block {
            header: header.clone(),
            transactions: vec![],
        });
        certified.handover = handover;
        certified
    };
    let mut light = LightClient::new(world.chain(), &world.genesis).unwrap();
    assert!(matches!(
        light.advance(&certified(None)),
        Err(LightError::BadHandover(_))
    ));
    let wrong = world.genesis.validators.clone();
    assert!(matches!(
        light.advance(&certified(Some(wrong))),
        Err(LightError::BadHandover(_))
    ));
    light.advance(&certified(Some(set))).unwrap();
    let mut later = header.clone();
    later.height += 1;
    let later = world.certify(&Block {
        header: later,
        transactions: vec![],
    });
    assert!(matches!(
        light.advance(&later),
        Err(LightError::WrongValidatorSet { .. })
    ));
}

#[test]
fn a_block_with_a_wrong_field_or_transaction_is_refused() {
    let world = World::furnished();
    let now = Timestamp::from_millis(world.now + 1_000);
    let proposer = key(VALIDATOR).public();
    let transfer = world.sign(
        CUSTOMER,
        Operation::Transfer {
            to: author(FARMER),
            amount: Tokens::from_micro(5),
        },
    );
    let (block, _) = propose_block(&world.store, &world.genesis, &world.head, proposer, now, &[transfer]).unwrap();
    let apply = |block: &Block| apply_block(&world.store, &world.genesis, &world.head, block).map(|_| ());
    apply(&block).unwrap();
    type Alter = fn(&mut crate::Header);
    let cases: Vec<(&str, Alter)> = vec![
        ("chain", |h| h.chain = Hash::ZERO),
        ("height", |h| h.height += 1),
        ("time", |h| h.time = Timestamp::from_millis(0)),
        ("previous", |h| h.previous = Hash::ZERO),
        ("transactions", |h| h.transactions = Hash::ZERO),
        ("validators", |h| h.validators = Hash::ZERO),
        ("next_validators", |h| h.next_validators = Hash::ZERO),
        ("proposer", |h| h.proposer = key(80).public()),
        ("state", |h| h.state = Hash::ZERO),
    ];
    for (name, alter) in cases {
        let mut wrong = block.clone();
        alter(&mut wrong.header);
        match apply(&wrong) {
            Err(BlockError::Header { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut bad = block.clone();
    bad.transactions.push(bad.transactions[0].clone());
    bad.header.transactions = Block::transactions_hash(&bad.transactions);
    assert!(matches!(apply(&bad), Err(BlockError::Transaction { index: 1, .. })));
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Act {
    Agree(u8, u32),
    Step(usize, u8),
    Claim(usize, u64, bool),
    Cancel(usize, bool),
    Transfer(u64, bool),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (any::<u8>(), 1_u32..4).prop_map(|(salt, periods)| Act::Agree(salt, periods)),
        (0_usize..8, 0_u8..3).prop_map(|(which, step)| Act::Step(which, step)),
        (0_usize..8, 0_u64..20_000, any::<bool>()).prop_map(|(which, up, node)| Act::Claim(which, up, node)),
        (0_usize..8, any::<bool>()).prop_map(|(which, customer)| Act::Cancel(which, customer)),
        (0_u64..SUPPLY * 2, any::<bool>()).prop_map(|(amount, back)| Act::Transfer(amount, back)),
        (0_u64..20_000).prop_map(Act::Wait),
    ];
    proptest::collection::vec(act, 1..60)
}

impl World {
    fn act(&mut self, act: Act, contracts: &mut Vec<Id>) {
        let pick = |which: usize| {
            contracts
                .get(which % contracts.len().max(1))
                .copied()
                .unwrap_or(Id::CHAIN)
        };
        // Whatever is refused has changed nothing, which `block` checks.
        let _ = match act {
            Act::Agree(salt, periods) => {
                let signed = self.agreement(salt, 1, periods);
                contracts.push(signed.agreement.contract_id());
                self.try_one(CUSTOMER, Operation::Agree(signed))
            }
            Act::Step(which, step) => {
                let step =
                    [Step::Acknowledged, Step::Running, Step::Refused(Text::lossy("no"))][usize::from(step)].clone();
                self.try_one(
                    NODE,
                    Operation::Progress {
                        contract: pick(which),
                        step,
                    },
                )
            }
            Act::Claim(which, up_ms, by_node) => {
                let contract = pick(which);
                let period = match self
                    .store
                    .latest
                    .get(&RecordKey::new(Kind::Contract, contract))
                    .map(|r| &r.body)
                {
                    Some(Body::Contract(Contract {
                        state: ContractState::Active { period, .. },
                        ..
                    })) => *period,
                    _ => 0,
                };
                if by_node {
                    self.report(contract, period, up_ms)
                } else {
                    self.try_one(
                        CUSTOMER,
                        Operation::Receipt {
                            contract,
                            period,
                            up_ms,
                        },
                    )
                }
            }
            Act::Cancel(which, customer) => self.try_one(
                if customer { CUSTOMER } else { FARMER },
                Operation::Cancel { contract: pick(which) },
            ),
            Act::Transfer(amount, back) => {
                let (from, to) = if back { (FARMER, CUSTOMER) } else { (CUSTOMER, FARMER) };
                self.try_one(
                    from,
                    Operation::Transfer {
                        to: author(to),
                        amount: Tokens::from_micro(amount),
                    },
                )
            }
            Act::Wait(millis) => {
                self.wait(millis);
                Ok(())
            }
        };
    }

    fn history(&self, latest: &Record) -> Vec<Record> {
        let mut versions = vec![];
        let mut previous = latest.previous;
        while previous != Hash::ZERO {
            let record = self.store.versions[&previous].clone();
            previous = record.previous;
            versions.push(record);
        }
        versions
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_histories_conserve_tokens_and_links_and_give_the_same_root_again(acts in acts()) {
        let run = || {
            let mut world = World::furnished();
            let mut contracts = vec![];
            for act in acts.clone() {
                world.act(act, &mut contracts);
            }
            world
        };
        let world = run();
        for latest in world.store.latest.values() {
            verify_history(latest, &world.history(latest)).unwrap();
        }
        let assignments = world.get::<Assignments>(author(NODE));
        let live = |record: &&Record| matches!(&record.body, Body::Contract(contract) if contract.ended().is_none());
        let expected: std::collections::BTreeSet<Id> = world.store.latest.values().filter(live).map(|r| r.id).collect();
        prop_assert_eq!(assignments.contracts, expected);
        prop_assert_eq!(world.store.root, run().store.root);
    }
}
