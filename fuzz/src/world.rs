//! A small chain in memory whose people and machines say what an input makes them say.

use ledger::{
    Agreement, Amendment, Block, Body, Certificate, CertifiedHeader, Genesis, Hash, Id, Kind, Operation, Record,
    RecordKey, Refusal, Resources, Signatures, SignedAgreement, SignedAmendment, SignedDecree, SignedTransaction,
    SigningKey, Timestamp, Tokens, Transaction, Validator, ValidatorSet,
    body::{
        Account, Blob, Channel, Charter, Contract, Enrolment, Entity, Farm, Image, Keys, Label, Location, Misconduct,
        Node, Pair, Prices, Release, ReleaseKeys, SettlementRule, Terms,
    },
    consensus::{CommitSignature, VoteKind, vote_bytes},
    decree::{Change, Decree},
    encoding::decode,
    genesis::{GenesisEntity, Issuance},
    light::RecordProof,
    machine::{Head, apply_block, genesis_outcome, propose_block},
    record::BodyOf,
    release::{Manifest, Opening, Rotation, SignedManifest, SignedOpening, SignedRotation},
    store::MemoryStore,
    text::Text,
    transaction::{Join, NewKeys, RecoveryChange, Step},
    tree::{self, Region, RegionProof},
};

use crate::input::Input;

/// All tokens that there are.
pub const SUPPLY: u64 = 2_000_000_000;
const PEOPLE: std::ops::Range<u8> = 1..4;
const NODES: std::ops::Range<u8> = 10..13;
const ENROLMENT: u8 = 20;
const VALIDATOR: u8 = 30;
/// Seeds of keys that the last of the people may have instead of their first ones.
const ROTATED: [u8; 2] = [40, 41];
/// Seeds of release keys.
pub const RELEASE: [u8; 2] = [43, 44];
/// Seed of their recovery key.
const RECOVERY: u8 = 42;
const GIB: u64 = 1 << 30;
const RULE: SettlementRule = SettlementRule {
    period_ms: 10_000,
    grace_ms: 5_000,
    acknowledge_ms: 5_000,
    deploy_ms: 20_000,
    suspend_ms: 20_000,
    tolerance_permille: 50,
    unconfirmed_permille: 500,
    missed_limit: 2,
    dispute_limit: 2,
};

/// The key of a number.
#[must_use]
pub fn key(seed: u8) -> SigningKey {
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

/// Who has this key.
#[must_use]
pub fn author(seed: u8) -> Id {
    if NODES.contains(&seed) {
        Node::founding_id(&keys(seed))
    } else if seed == VALIDATOR {
        Charter::author_of(&key(VALIDATOR).public())
    } else {
        entity(seed).founding_id()
    }
}

/// Keys of which one must sign.
fn release_keys(seeds: &[u8]) -> ReleaseKeys {
    let mut keys: Vec<_> = seeds.iter().map(|seed| key(*seed).public()).collect();
    keys.sort();
    ReleaseKeys { threshold: 1, keys }
}

fn opening() -> Opening {
    Opening {
        label: Label::new("stable").expect("it is a label"),
        keys: release_keys(&RELEASE[..1]),
        owner: author(1),
    }
}

fn channel() -> Id {
    let opening = opening();
    Channel::founding_id(&opening.label, &opening.keys)
}

fn location() -> Location {
    Location {
        country: *b"BE",
        latitude: 51_000_000,
        longitude: 3_700_000,
    }
}

/// The chain.
#[derive(Debug, Clone)]
pub struct World {
    /// Its genesis.
    pub genesis: Genesis,
    /// Its state.
    pub store: MemoryStore,
    head: Head,
    /// The newest block, as light clients get it.
    pub certified: Option<CertifiedHeader>,
    now: u64,
    contracts: Vec<Id>,
}

impl World {
    /// A chain with a farm, a node, terms, an image, a contract, and a channel with a release.
    #[must_use]
    pub fn new() -> Self {
        let validator = key(VALIDATOR).public();
        let founder = |seed| GenesisEntity {
            entity: entity(seed),
            balance: Tokens::from_micro(SUPPLY / 2),
        };
        let genesis = Genesis {
            name: Text::lossy("fuzz"),
            time: Timestamp::from_millis(1_000),
            block_interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            validators: ValidatorSet::new(vec![Validator {
                key: validator,
                link: validator,
                power: 1,
            }])
            .expect("one validator is a set"),
            entities: PEOPLE.take(2).map(founder).collect(),
            issuance: Issuance::Fixed,
        };
        let outcome = genesis_outcome(&genesis).expect("a genesis applies");
        let head = Head::genesis(&genesis, &outcome);
        let mut store = MemoryStore::default();
        store.absorb(outcome);
        let mut world = Self {
            genesis,
            store,
            head,
            certified: None,
            now: 1_000,
            contracts: vec![],
        };
        world.furnish();
        world
    }

    fn furnish(&mut self) {
        let [farmer, customer, node] = [2, 1, NODES.start];
        let name = Text::lossy("farm");
        let location = location();
        self.must(farmer, Operation::CreateFarm { name, location });
        let enrolments = vec![self.enrolment(2)];
        let farm = farm();
        self.must(farmer, Operation::SetEnrolments { farm, enrolments });
        let join = self.join(node);
        self.must(node, Operation::JoinNode(join));
        self.must(farmer, Operation::PublishTerms(terms()));
        self.must(customer, publish_image());
        self.must(customer, Operation::OpenChannel(self.opening()));
        let manifest = self.release(1, &RELEASE[..1]);
        self.must(customer, Operation::PublishRelease(manifest));
        let agreement = self.agreement(1, 3, 2);
        self.contracts.push(agreement.agreement.contract_id());
        self.must(customer, Operation::Agree(agreement));
    }

    fn must(&mut self, seed: u8, operation: Operation) {
        let transaction = self.sign(seed, operation);
        let refused = self.block(&[transaction], 1_000);
        assert!(refused.is_empty(), "{refused:?}");
    }

    fn chain(&self) -> Hash {
        self.genesis.hash()
    }

    /// Signs what somebody says next.
    #[must_use]
    pub fn sign(&self, seed: u8, operation: Operation) -> SignedTransaction {
        let (author, seed) = match seed {
            RECOVERY => (Entity::recovery_author(&key(seed).public()), seed),
            _ => (author(seed), self.signer(seed)),
        };
        let nonce = self.read::<Account>(author).map_or(0, |account| account.nonce);
        let transaction = Transaction {
            author,
            nonce,
            operation,
        };
        transaction.sign(self.chain(), &key(seed))
    }

    /// Whose key signs for somebody now.
    fn signer(&self, seed: u8) -> u8 {
        let keys = self.read::<Entity>(author(seed)).map(|entity| entity.keys);
        let signs = |other: &u8| keys.is_some_and(|keys| keys.signing == key(*other).public());
        ROTATED.into_iter().find(signs).unwrap_or(seed)
    }

    fn read<B: BodyOf>(&self, id: Id) -> Option<B> {
        let record = self.store.latest.get(&RecordKey::new(B::KIND, id))?;
        B::of(&record.body).cloned()
    }

    fn hash_of(&self, kind: Kind, id: Id) -> Hash {
        let record = self.store.latest.get(&RecordKey::new(kind, id));
        record.map_or(Hash::ZERO, Record::hash)
    }

    /// Makes a block `later` milliseconds after the one before, checked as who proposes and who checks would.
    ///
    /// # Panics
    /// When the two disagree, or tokens came to be or were lost.
    pub fn block(&mut self, transactions: &[SignedTransaction], later: u64) -> Vec<Refusal> {
        self.now = self.now.saturating_add(later);
        let now = Timestamp::from_millis(self.now);
        let proposer = self.head.validators.validators()[0].key;
        let signatures = Signatures::default();
        let state = (&self.store, &signatures);
        let made = propose_block(state, &self.genesis, &self.head, proposer, now, transactions);
        let Ok(made) = made else {
            // An upgrade that this program does not have stops the chain.
            return vec![];
        };
        let checked = apply_block(state, &self.genesis, &self.head, &made.block);
        assert_eq!(checked.expect("what was proposed is valid"), made.outcome);
        self.certified = Some(self.certify(&made.block, made.outcome.validators()));
        self.head = self.head.after(&made.block.header, &made.outcome);
        self.store.absorb(made.outcome);
        let header = made.block.header;
        self.store.headers.insert(header.height, header);
        self.check_conservation();
        made.refused.into_iter().map(|(_, refusal)| refusal).collect()
    }

    fn certify(&self, block: &Block, next: Option<&ValidatorSet>) -> CertifiedHeader {
        let header = block.header.clone();
        let bytes = vote_bytes(self.chain(), VoteKind::Precommit, header.height, 0, Some(header.id()));
        let certificate = Certificate {
            height: header.height,
            round: 0,
            block: header.id(),
            signatures: vec![CommitSignature {
                validator: key(VALIDATOR).public(),
                signature: key(VALIDATOR).sign_bytes(&bytes),
            }],
        };
        let handover = next.filter(|_| header.next_validators != header.validators).cloned();
        CertifiedHeader {
            header,
            certificate,
            handover,
        }
    }

    fn check_conservation(&self) {
        let held = self.store.latest.values().map(|record| match &record.body {
            Body::Account(account) => account.balance.micro(),
            Body::Name(name) => name.deposit.micro(),
            Body::Escrow(escrow) => escrow.held.micro(),
            _ => 0,
        });
        assert_eq!(held.sum::<u64>(), SUPPLY, "tokens came to be or were lost");
    }

    /// A record with its proof under the newest block.
    ///
    /// # Panics
    /// Never: the tree is whole.
    #[must_use]
    pub fn prove(&self, key: RecordKey) -> RecordProof {
        RecordProof {
            record: self.store.latest.get(&key).cloned(),
            proof: tree::prove(&self.store, self.store.root, key.path()).expect("the tree is whole"),
        }
    }

    /// All that stands in a region of the state tree under the newest block.
    ///
    /// # Panics
    /// Never: the tree is whole and small.
    #[must_use]
    pub fn prove_below(&self, region: Region) -> RegionProof {
        let proof = tree::prove_below(&self.store, self.store.root, region, usize::MAX);
        proof.expect("the tree is whole").expect("it is small")
    }

    fn enrolment(&self, remaining: u32) -> Enrolment {
        Enrolment {
            key: key(ENROLMENT).public(),
            remaining,
            until: Timestamp::from_millis(u64::MAX),
        }
    }

    fn join(&self, seed: u8) -> Join {
        Join {
            farm: farm(),
            keys: keys(seed),
            capacity: Resources {
                cru: 4,
                mru: 8 * GIB,
                sru: 20 * GIB,
                hru: 0,
            },
            addresses: vec![],
            hardware: Text::lossy("box"),
            refused_disks: vec![],
            enrolment: Join::consent(self.chain(), &key(ENROLMENT), farm(), &keys(seed)),
        }
    }

    fn agreement(&self, salt: u8, periods: u32, deposit: u32) -> SignedAgreement {
        let (terms, image) = (terms().founding_id(), image());
        self.signed(Agreement {
            customer: author(1),
            farmer: author(2),
            terms: (terms, self.hash_of(Kind::Terms, terms)),
            node: author(NODES.start),
            resources: Resources {
                cru: 1,
                mru: GIB,
                sru: 2 * GIB,
                hru: 0,
            },
            price: Tokens::from_micro(1_000),
            periods,
            deposit,
            rule: RULE,
            image: (image, self.hash_of(Kind::Image, image)),
            sealed: Blob {
                hash: Hash::from_bytes([5; 32]),
                size: 10,
            },
            valid_until: Timestamp::from_millis(self.now + 60_000),
            salt: [salt; 16],
        })
    }

    fn signed(&self, agreement: Agreement) -> SignedAgreement {
        SignedAgreement {
            customer: agreement.sign(self.chain(), &key(1)),
            farmer: agreement.sign(self.chain(), &key(2)),
            agreement,
        }
    }

    /// What somebody says by an input, and who says it; a time that passes in any case.
    pub fn act(&mut self, input: &mut Input<'_>) {
        let mut said = Vec::new();
        for _ in 0..=input.below(3) {
            let (seed, operation) = self.operation(input);
            let mut transaction = self.sign(seed, operation);
            match input.byte() {
                // A replay, a gap, somebody else's name, another signature.
                0xff => transaction.transaction.nonce ^= input.number(),
                0xfe => transaction.transaction.author = author(1),
                0xfd => transaction.signature = transaction_of(&transaction, input),
                _ => {}
            }
            said.push(transaction);
        }
        // Hours at most: a chain whose clock runs off ends, and tells nothing.
        let later = input.number() % 8_000_000 + 1;
        self.block(&said, later);
    }

    fn contract(&self, input: &mut Input<'_>) -> Id {
        let number = input.below(self.contracts.len() + 1);
        self.contracts.get(number).copied().unwrap_or_default()
    }

    fn person(&self, input: &mut Input<'_>) -> u8 {
        [1, 2, 3, 10, 11, VALIDATOR][input.below(6)]
    }

    fn operation(&mut self, input: &mut Input<'_>) -> (u8, Operation) {
        let (anybody, node) = (self.person(input), NODES.start + u8::from(input.byte() & 1 == 1));
        let block = (self.head.height, self.head.id);
        let contract = self.contract(input);
        let operation = match input.below(31) {
            0 => return (3, Operation::CreateEntity(entity(3))),
            1 => Operation::UpdateEntity {
                name: Text::lossy("other"),
                addresses: vec![],
            },
            2 | 3 => Operation::Transfer {
                to: author(self.person(input)),
                amount: Tokens::from_micro(input.number()),
            },
            4 => Operation::SetEnrolments {
                farm: farm(),
                enrolments: vec![self.enrolment(input.small())],
            },
            5 => return (node, Operation::JoinNode(self.join(node))),
            6 => return (node, Operation::Attest { block }),
            7 => {
                let mut capacity = self.join(node).capacity;
                capacity.cru = input.number();
                let update = Operation::UpdateNode {
                    capacity,
                    addresses: vec![],
                    hardware: Text::lossy("box"),
                    refused_disks: vec![],
                };
                return (node, update);
            }
            8 => Operation::ExpelNode { node: author(node) },
            9 => Operation::ClaimName(label(input)),
            10 => Operation::PassOnName {
                label: label(input),
                to: author(self.person(input)),
            },
            11 => Operation::GiveUpName(label(input)),
            12 | 13 => {
                let signed = self.agreement(input.byte(), input.small() % 200, input.small() % 200);
                self.contracts.push(signed.agreement.contract_id());
                return (1, Operation::Agree(signed));
            }
            14 => match self.amendment(contract, input) {
                Some(amendment) => return (1, Operation::Amend(amendment)),
                None => Operation::Cancel { contract },
            },
            15 => {
                let funded = input.small() % 200;
                return (1, Operation::Fund { contract, funded });
            }
            16 | 17 => {
                let step =
                    [Step::Acknowledged, Step::Running, Step::Refused(Text::lossy("no"))][input.below(3)].clone();
                return (node, Operation::Progress { contract, step });
            }
            18 => {
                let (period, up_ms) = (self.period(contract, input), input.number() % 20_000);
                let report = Operation::Report {
                    contract,
                    period,
                    up_ms,
                    block,
                };
                return (node, report);
            }
            19 => {
                let (period, up_ms) = (self.period(contract, input), input.number() % 20_000);
                let receipt = Operation::Receipt {
                    contract,
                    period,
                    up_ms,
                };
                return (1, receipt);
            }
            20 => Operation::Cancel { contract },
            21 => Operation::Decree(self.decree(input)),
            22 => Operation::ReportMisconduct(self.misconduct(input)),
            26 => Operation::OpenChannel(self.opening()),
            27 => Operation::RotateReleaseKeys(self.release_rotation(input)),
            28 => {
                let number = u64::from(input.small() % 4);
                let release = self.release(number, &RELEASE[input.below(2)..]);
                return (1, Operation::PublishRelease(release));
            }
            29 => {
                let release = Release::founding_id(channel(), u64::from(input.small() % 4));
                let permille = u16::try_from(input.number() % 1_100).unwrap_or_default();
                return (1, Operation::StageRelease { release, permille });
            }
            23 => return (3, Operation::RotateKeys(self.new_keys(input))),
            24 => {
                let recovery = (input.byte() & 1 == 1).then(|| key(RECOVERY).public());
                let change = RecoveryChange {
                    entity: author(3),
                    version: self.hash_of(Kind::Entity, author(3)),
                    recovery,
                };
                let consent = Some(change.consent(self.chain(), &key(RECOVERY)));
                return (3, Operation::SetRecovery { recovery, consent });
            }
            25 => {
                let recover = Operation::Recover {
                    entity: author(3),
                    by: key(RECOVERY).public(),
                    new: self.new_keys(input),
                    recovery: Some(key(RECOVERY).public()),
                };
                return (RECOVERY, recover);
            }
            _ => {
                // Whatever decodes.
                let bytes = input.take(400);
                decode(bytes, 400).unwrap_or(Operation::Cancel { contract })
            }
        };
        (anybody, operation)
    }

    /// A channel with a release key.
    #[must_use]
    pub fn opening(&self) -> SignedOpening {
        let opening = opening();
        let signed = opening.sign(self.chain(), &key(RELEASE[0]));
        opening.signed(vec![signed])
    }

    fn release_rotation(&self, input: &mut Input<'_>) -> SignedRotation {
        let known = self.read::<Channel>(channel());
        let rotation = Rotation {
            channel: channel(),
            number: known.map_or(0, |known| known.rotations) + u32::from(input.byte() / 20 != 0),
            keys: release_keys(&RELEASE[..=input.below(2)]),
            owner: author(1),
        };
        let signatures = RELEASE.map(|seed| rotation.sign(self.chain(), &key(seed)));
        rotation.signed(signatures[..=input.below(2)].to_vec())
    }

    /// A release that these release keys sign.
    #[must_use]
    pub fn release(&self, number: u64, keys: &[u8]) -> SignedManifest {
        let manifest = Manifest {
            channel: channel(),
            number,
            name: Text::lossy("1.0"),
            image: Blob {
                hash: Hash::ZERO,
                size: 7,
            },
        };
        let sign = |seed: &u8| manifest.sign(self.chain(), &key(*seed));
        let signatures = keys.iter().map(sign).collect();
        manifest.signed(signatures)
    }

    /// Of somebody who signs by whatever keys they have: their first ones, or one of a few others.
    fn new_keys(&self, input: &mut Input<'_>) -> NewKeys {
        let seed = [3, ROTATED[0], ROTATED[1]][input.below(3)];
        NewKeys::prove(self.chain(), &key(seed), author(3), entity(seed).keys)
    }

    fn period(&self, contract: Id, input: &mut Input<'_>) -> u32 {
        let open = self
            .read::<Contract>(contract)
            .and_then(|contract| contract.open_period());
        open.map_or(0, |period| period.index)
            .wrapping_add(u32::from(input.byte() / 200))
    }

    fn amendment(&self, contract: Id, input: &mut Input<'_>) -> Option<SignedAmendment> {
        let before = self.read::<Contract>(contract)?;
        let number = before.amendments + 1;
        let mut agreement = before.signed.agreement;
        let replaces = agreement.hash();
        agreement.valid_until = Timestamp::from_millis(self.now + 60_000);
        agreement.periods = input.small() % 200;
        agreement.deposit = input.small() % 200;
        agreement.resources.cru = input.number() % 6;
        agreement.price = Tokens::from_micro(input.number());
        let amendment = Amendment {
            contract,
            number,
            replaces,
            agreement,
        };
        Some(SignedAmendment {
            customer: amendment.sign(self.chain(), &key(1)),
            farmer: amendment.sign(self.chain(), &key(2)),
            amendment,
        })
    }

    fn decree(&self, input: &mut Input<'_>) -> SignedDecree {
        let change = match input.below(4) {
            0 => Change::AttestEvery(input.number()),
            1 => Change::NameDeposit(Tokens::from_micro(input.number())),
            2 => Change::CancelUpgrade,
            _ => Change::RemoveValidator(key(input.byte()).public()),
        };
        let decree = Decree {
            previous: self.hash_of(Kind::Charter, Charter::ID),
            changes: vec![change],
        };
        let approval = CommitSignature {
            validator: key(VALIDATOR).public(),
            signature: key(VALIDATOR).sign_bytes(&decree.bytes(self.chain())),
        };
        SignedDecree {
            decree,
            approvals: vec![approval],
        }
    }

    fn misconduct(&self, input: &mut Input<'_>) -> Misconduct {
        let height = input.number() % (self.head.height + 2);
        let vote = |block| {
            let bytes = vote_bytes(self.chain(), VoteKind::Precommit, height, 0, block);
            (block, key(VALIDATOR).sign_bytes(&bytes))
        };
        Misconduct {
            validator: key(VALIDATOR).public(),
            height,
            round: 0,
            pair: Pair::Votes(VoteKind::Precommit, [None, Some(self.chain())].map(vote)),
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn transaction_of(transaction: &SignedTransaction, input: &mut Input<'_>) -> ledger::Signature {
    let mut bytes = *transaction.signature.as_bytes();
    bytes[input.below(64)] ^= input.byte();
    ledger::Signature::from_bytes(bytes)
}

fn label(input: &mut Input<'_>) -> ledger::body::Label {
    ["anna", "ben", "carl"][input.below(3)].parse().expect("a name")
}

fn farm() -> Id {
    let farm = Farm {
        owner: author(2),
        name: Text::lossy("farm"),
        location: location(),
        enrolments: vec![],
    };
    farm.founding_id()
}

fn terms() -> Terms {
    let price = Tokens::from_micro(3_600);
    Terms {
        farm: farm(),
        prices: Prices {
            cru_hour: price,
            mru_gib_hour: price,
            sru_gib_hour: price,
            hru_gib_hour: price,
        },
        periods: (1, 100),
        rule: RULE,
        open: true,
    }
}

fn image() -> Id {
    Image::founding_id(author(1), &Text::lossy("nginx"))
}

fn publish_image() -> Operation {
    let blob = |seed, size| Blob {
        hash: Hash::from_bytes([seed; 32]),
        size,
    };
    Operation::PublishImage {
        name: Text::lossy("nginx"),
        root: blob(1, GIB),
        config: blob(2, 100),
    }
}
