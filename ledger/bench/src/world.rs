//! A chain of many contracts, made by the chain's own rules: each is an agreement that both parties signed, in a block that a
//! validator certified.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use ledger::{
    Agreement, Certificate, Genesis, Id, Kind, Operation, Record, RecordKey, Resources, Signatures, SignedAgreement,
    SignedTransaction, SigningKey, Timestamp, Tokens, Transaction, Validator, ValidatorSet,
    block::MAX_TRANSACTIONS,
    body::{Blob, Enrolment, Entity, Farm, Image, Keys, Location, Node, Prices, SettlementRule, Terms},
    consensus::{CommitSignature, VoteKind, vote_bytes},
    genesis::{GenesisEntity, Issuance},
    machine::{check_signatures, propose_block},
    store::Store as _,
    text::Text,
    transaction::Join,
};
use ledger_node::{Clock, Database, Home};
use serde::{Deserialize, Serialize};

/// Contracts of one node.
pub const CONTRACTS_OF_A_NODE: usize = 50;
/// Contracts of one customer.
const CONTRACTS_OF_A_CUSTOMER: usize = 1_000;
/// Records of which the reads take some at random.
const SAMPLE: usize = 10_000;
const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 86_400_000;
/// Nothing falls due while it is measured.
const RULE: SettlementRule = SettlementRule {
    period_ms: 3_600_000,
    grace_ms: 300_000,
    acknowledge_ms: DAY_MS,
    deploy_ms: DAY_MS,
    suspend_ms: DAY_MS,
    tolerance_permille: 50,
    unconfirmed_permille: 500,
    missed_limit: 2,
    dispute_limit: 2,
};

/// What the chain holds, for those who read it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sample {
    /// How many contracts there are.
    pub contracts: u64,
    /// Ids of some of them.
    pub ids: Vec<Id>,
    /// Nodes with [`CONTRACTS_OF_A_NODE`] contracts each.
    pub nodes: Vec<Id>,
}

impl Sample {
    fn path(directory: &Path) -> PathBuf {
        directory.join("sample.json")
    }

    /// The sample of a chain that [`grow`] made.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = Self::path(directory);
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The key number `number` of those that have `role`.
#[must_use]
pub fn key(role: u8, number: usize) -> SigningKey {
    let mut seed = [role; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SigningKey::from_seed(&seed)
}

/// The entity of a key.
#[must_use]
pub fn entity(key: &SigningKey) -> Entity {
    Entity {
        keys: keys(key),
        name: Text::lossy("somebody"),
        addresses: vec![],
        recovery: None,
    }
}

fn keys(key: &SigningKey) -> Keys {
    let public = key.public();
    Keys {
        signing: public,
        link: public,
        encryption: public,
    }
}

/// A chain of some validators that begins now, in which everybody of `owners` has a million tokens.
///
/// # Errors
/// When the validators are none or too many.
pub fn genesis(validators: Vec<Validator>, interval_ms: u32, owners: &[SigningKey]) -> Result<Genesis> {
    let founder = |owner| GenesisEntity {
        entity: entity(owner),
        balance: Tokens::from_micro(1_000_000_000_000),
    };
    Ok(Genesis {
        name: Text::lossy("bench"),
        time: Clock::default().now(),
        block_interval_ms: interval_ms,
        attest_ms: DAY_MS,
        name_deposit: Tokens::from_micro(5),
        validators: ValidatorSet::new(validators)?,
        entities: owners.iter().map(founder).collect(),
        issuance: Issuance::Fixed,
    })
}

/// Makes a validator's directory with a chain of `contracts` contracts, and the sample of it.
///
/// # Errors
/// When the directory is not empty, or a disk is full.
pub fn grow(directory: &Path, contracts: usize, mut tell: impl FnMut(usize)) -> Result<()> {
    let introduction = Home::introduce(directory, vec![([127, 0, 0, 1], 7771).into()])?;
    let validator = Validator {
        key: introduction.key,
        link: ledger::PublicKey::from_bytes(*introduction.peer.id().as_bytes()),
        power: 1,
    };
    let home = Home::join(directory, genesis(vec![validator], 1_000, &[key(FARMER, 0)])?, vec![])?;
    let database = Database::open(&directory.join("chain.redb"), home.genesis.clone())?;
    let mut world = World {
        database,
        validator: home.consensus_key,
        signatures: Signatures::default(),
        nonces: HashMap::new(),
        now: home.genesis.time.millis(),
        waiting: Vec::new(),
    };
    let market = world.furnish()?;
    let mut sample = Sample {
        contracts: u64::try_from(contracts)?,
        ids: Vec::new(),
        nodes: Vec::new(),
    };
    let each = contracts.div_ceil(SAMPLE).max(1);
    for number in 0..contracts {
        if number % CONTRACTS_OF_A_CUSTOMER == 0 {
            world.found_customer(number / CONTRACTS_OF_A_CUSTOMER)?;
        }
        if number % CONTRACTS_OF_A_NODE == 0 {
            sample.nodes.push(world.join(&market, number / CONTRACTS_OF_A_NODE)?);
        }
        let id = world.agree(&market, number)?;
        if number % each == 0 {
            sample.ids.push(id);
        }
        if number % 10_000 == 0 {
            tell(number);
        }
    }
    world.flush()?;
    std::fs::write(Sample::path(directory), serde_json::to_vec(&sample)?)?;
    Ok(())
}

const FARMER: u8 = 1;
const CUSTOMER: u8 = 2;
const NODE: u8 = 3;
const ENROLMENT: u8 = 4;

/// What agreements name.
struct Market {
    farm: Id,
    terms: RecordKey,
    terms_hash: ledger::Hash,
    image: RecordKey,
    image_hash: ledger::Hash,
}

struct World {
    database: Database,
    validator: SigningKey,
    signatures: Signatures,
    nonces: HashMap<Id, u64>,
    now: u64,
    waiting: Vec<Unsigned>,
}

/// What becomes a transaction; signing is work for all processors.
struct Unsigned {
    transaction: Transaction,
    signer: SigningKey,
    agreement: Option<(SigningKey, SigningKey)>,
}

impl Unsigned {
    fn sign(&self, chain: ledger::Hash) -> SignedTransaction {
        let mut transaction = self.transaction.clone();
        if let (Operation::Agree(signed), Some((customer, farmer))) = (&mut transaction.operation, &self.agreement) {
            signed.customer = signed.agreement.sign(chain, customer);
            signed.farmer = signed.agreement.sign(chain, farmer);
        }
        transaction.sign(chain, &self.signer)
    }
}

fn location() -> Location {
    Location {
        country: *b"BE",
        latitude: 51_000_000,
        longitude: 3_700_000,
    }
}

impl World {
    fn chain(&self) -> ledger::Hash {
        self.database.genesis().hash()
    }

    fn say(&mut self, signer: &SigningKey, author: Id, operation: Operation) {
        self.say_signed(signer, author, operation, None);
    }

    fn say_signed(
        &mut self,
        signer: &SigningKey,
        author: Id,
        operation: Operation,
        agreement: Option<(SigningKey, SigningKey)>,
    ) {
        let nonce = self.nonces.entry(author).or_default();
        let transaction = Transaction {
            author,
            nonce: *nonce,
            operation,
        };
        *nonce += 1;
        self.waiting.push(Unsigned {
            transaction,
            signer: signer.clone(),
            agreement,
        });
    }

    /// A farm with an enrolment, terms and an image.
    fn furnish(&mut self) -> Result<Market> {
        let farmer = key(FARMER, 0);
        let owner = entity(&farmer).founding_id();
        let name = Text::lossy("farm");
        let farm = Farm {
            owner,
            name: name.clone(),
            location: location(),
            enrolments: vec![],
        }
        .founding_id();
        let location = location();
        self.say(&farmer, owner, Operation::CreateFarm { name, location });
        let enrolment = Enrolment {
            key: key(ENROLMENT, 0).public(),
            remaining: u32::MAX,
            until: Timestamp::from_millis(u64::MAX),
        };
        let enrolments = vec![enrolment];
        self.say(&farmer, owner, Operation::SetEnrolments { farm, enrolments });
        let price = Tokens::from_micro(1);
        let terms = Terms {
            farm,
            prices: Prices {
                cru_hour: price,
                mru_gib_hour: price,
                sru_gib_hour: price,
                hru_gib_hour: price,
            },
            periods: (1, 100),
            rule: RULE,
            open: true,
        };
        let terms_key = RecordKey::new(Kind::Terms, terms.founding_id());
        self.say(&farmer, owner, Operation::PublishTerms(terms));
        let blob = |seed, size| Blob {
            hash: ledger::Hash::from_bytes([seed; 32]),
            size,
        };
        let name = Text::lossy("nginx");
        let (root, config) = (blob(1, GIB), blob(2, 100));
        let image_key = RecordKey::new(Kind::Image, Image::founding_id(owner, &name));
        self.say(&farmer, owner, Operation::PublishImage { name, root, config });
        self.flush()?;
        let snapshot = self.database.snapshot()?;
        let hash = |key| anyhow::Ok(snapshot.latest(key)?.context("what was made is not there")?.hash());
        Ok(Market {
            farm,
            terms_hash: hash(&terms_key)?,
            terms: terms_key,
            image_hash: hash(&image_key)?,
            image: image_key,
        })
    }

    /// Makes a customer with a thousand tokens.
    fn found_customer(&mut self, number: usize) -> Result<()> {
        self.flush_if_full(2)?;
        let (signer, bank) = (key(CUSTOMER, number), key(FARMER, 0));
        let id = entity(&signer).founding_id();
        self.say(&signer, id, Operation::CreateEntity(entity(&signer)));
        let amount = Tokens::from_micro(1_000_000_000);
        let from = entity(&bank).founding_id();
        self.say(&bank, from, Operation::Transfer { to: id, amount });
        Ok(())
    }

    /// Lets a node join.
    fn join(&mut self, market: &Market, number: usize) -> Result<Id> {
        let signer = key(NODE, number);
        let keys = keys(&signer);
        let id = Node::founding_id(&keys);
        let join = Join {
            farm: market.farm,
            keys,
            capacity: Resources {
                cru: 64,
                mru: 256 * GIB,
                sru: 4_096 * GIB,
                hru: 0,
            },
            addresses: vec![],
            hardware: Text::lossy("machine"),
            refused_disks: vec![],
            enrolment: Join::consent(self.chain(), &key(ENROLMENT, 0), market.farm, &keys),
        };
        self.flush_if_full(1)?;
        self.say(&signer, id, Operation::JoinNode(join));
        Ok(id)
    }

    /// Makes the contract number `number`. Returns its id.
    fn agree(&mut self, market: &Market, number: usize) -> Result<Id> {
        self.flush_if_full(1)?;
        let (customer, farmer) = (key(CUSTOMER, number / CONTRACTS_OF_A_CUSTOMER), key(FARMER, 0));
        let author = entity(&customer).founding_id();
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&number.to_le_bytes());
        let agreement = Agreement {
            customer: author,
            farmer: entity(&farmer).founding_id(),
            terms: (market.terms.id, market.terms_hash),
            node: Node::founding_id(&keys(&key(NODE, number / CONTRACTS_OF_A_NODE))),
            resources: Resources {
                cru: 1,
                mru: GIB,
                sru: 2 * GIB,
                hru: 0,
            },
            price: Tokens::from_micro(5),
            periods: 24,
            deposit: 24,
            rule: RULE,
            image: (market.image.id, market.image_hash),
            sealed: Blob {
                hash: ledger::Hash::from_bytes([5; 32]),
                size: 1_000,
            },
            valid_until: Timestamp::from_millis(self.now + DAY_MS),
            salt,
        };
        let id = agreement.contract_id();
        // Both sign when the block is made.
        let nobody = ledger::Signature::from_bytes([0; 64]);
        let signed = SignedAgreement {
            agreement,
            customer: nobody,
            farmer: nobody,
        };
        let parties = Some((customer.clone(), farmer));
        self.say_signed(&customer, author, Operation::Agree(signed), parties);
        Ok(id)
    }

    /// Makes a block if there is no room in it for so many more.
    fn flush_if_full(&mut self, more: usize) -> Result<()> {
        // Agreements are of such a length that the block is full before its number of transactions is reached.
        if self.waiting.len() + more > MAX_TRANSACTIONS / 2 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let chain = self.chain();
        let waiting = std::mem::take(&mut self.waiting);
        let transactions = on_all_processors(&waiting, |unsigned| unsigned.sign(chain));
        self.now += 1;
        let snapshot = self.database.snapshot()?;
        let state = (&snapshot, &self.signatures);
        check_signatures(state, chain, &transactions);
        let (head, now) = (snapshot.head()?, Timestamp::from_millis(self.now));
        let proposer = self.validator.public();
        let made = propose_block(state, self.database.genesis(), &head, proposer, now, &transactions)?;
        let left_out = transactions.len() - made.block.transactions.len();
        ensure!(
            left_out == 0,
            "{left_out} left out of a block: {:?}",
            made.refused.first()
        );
        let header = &made.block.header;
        let bytes = vote_bytes(chain, VoteKind::Precommit, header.height, 0, Some(header.id()));
        let certificate = Certificate {
            height: header.height,
            round: 0,
            block: header.id(),
            signatures: vec![CommitSignature {
                validator: proposer,
                signature: self.validator.sign_bytes(&bytes),
            }],
        };
        self.database.commit(&made.block, &certificate, &made.outcome)?;
        Ok(())
    }
}

/// Does the same with each of many, on all processors, and gives the results in their order.
pub fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let shares = items.chunks(share);
        let running: Vec<_> = shares
            .map(|share| scope.spawn(move || share.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let done = running
            .into_iter()
            .map(|thread| thread.join().expect("the work does not panic"));
        done.flatten().collect()
    })
}

/// Some contracts of the sample.
///
/// # Errors
/// When the database cannot be read or lacks one.
pub fn contracts(database: &Database, sample: &Sample, count: usize) -> Result<Vec<Record>> {
    let snapshot = database.snapshot()?;
    let ids = sample.ids.iter().take(count);
    ids.map(|id| {
        let record = snapshot.latest_version(&RecordKey::new(Kind::Contract, *id))?;
        record.with_context(|| format!("contract {id} is not there"))
    })
    .collect()
}

/// The database of a chain that [`grow`] made.
///
/// # Errors
/// When it cannot be opened.
pub fn open(directory: &Path) -> Result<Database> {
    let home = Home::open(directory)?;
    Ok(Database::open(&directory.join("chain.redb"), home.genesis)?)
}
