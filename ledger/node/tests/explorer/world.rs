//! A chain with one validator, and on it a farm, a node and a contract that runs.

use std::{collections::BTreeMap, net::SocketAddr, sync::Mutex, time::Duration};

use ledger::{
    Agreement, Hash, Id, Kind, Operation, RecordKey, Resources, SignedAgreement, SigningKey, Timestamp, Tokens,
    Transaction,
    body::{Blob, Enrolment, Entity, Farm, Image, Keys, Location, Node, Prices, SettlementRule, Terms},
    text::Text,
    transaction::{Join, Step},
};
use ledger_node::{Home, HttpLimits, HttpOptions, InitOptions, Rate, RunOptions, Running, Submission, run};
use tokio::time::timeout;

use crate::chromium::PATIENCE;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const GIB: u64 = 1 << 30;
const HOUR_MS: u64 = 3_600_000;
const CUSTOMER: u8 = 1;
const FARMER: u8 = 2;
const NODE: u8 = 3;
const ENROLMENT: u8 = 4;
/// A name that is markup to whoever takes it for that.
pub(crate) const FARM: &str = "<img src=x onerror=document.title='taken'>";

pub(crate) const RULE: SettlementRule = SettlementRule {
    period_ms: HOUR_MS,
    grace_ms: HOUR_MS,
    acknowledge_ms: HOUR_MS,
    deploy_ms: HOUR_MS,
    suspend_ms: HOUR_MS,
    tolerance_permille: 50,
    unconfirmed_permille: 1_000,
    missed_limit: 2,
    dispute_limit: 2,
};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub(crate) fn keys(seed: u8) -> Keys {
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

fn author(seed: u8) -> Id {
    match seed {
        NODE => Node::founding_id(&keys(NODE)),
        _ => entity(seed).founding_id(),
    }
}

/// Limits for a reader who opens many pages at once.
pub(crate) fn eager() -> HttpLimits {
    let rate = Rate {
        every: Duration::from_millis(1),
        burst: 10_000,
    };
    HttpLimits {
        rate,
        ..HttpLimits::default()
    }
}

/// The chain, and what stands on it.
pub(crate) struct World {
    pub(crate) running: Running,
    pub(crate) contract: Id,
    pub(crate) farm: Id,
    nonces: Mutex<BTreeMap<u8, u64>>,
    _folder: tempfile::TempDir,
}

impl World {
    /// Starts a chain and puts everything on it.
    pub(crate) async fn start(limits: HttpLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let entities = [(CUSTOMER, 1_000_000_000), (FARMER, 0)].map(|(seed, tokens)| {
            let path = folder.path().join(format!("entity-{seed}.json"));
            std::fs::write(&path, serde_json::to_vec(&entity(seed)).unwrap()).unwrap();
            (path, Tokens::from_micro(tokens))
        });
        let options = InitOptions {
            name: "test".into(),
            interval_ms: 200,
            attest_ms: HOUR_MS,
            name_deposit: Tokens::from_micro(5),
            entities: entities.into(),
            validators: vec![],
        };
        let home = folder.path().join("validator");
        Home::init(&home, &options).unwrap();
        let options = RunOptions {
            http: Some(HttpOptions {
                limits,
                ..HttpOptions::new(LOOPBACK)
            }),
            ..RunOptions::new(home, LOOPBACK)
        };
        let mut world = Self {
            running: run(options).await.unwrap(),
            contract: Id::CHAIN,
            farm: Id::CHAIN,
            nonces: Mutex::default(),
            _folder: folder,
        };
        world.furnish().await;
        world
    }

    /// Where the page is.
    pub(crate) fn page(&self, part: &str) -> String {
        format!("http://{}/{part}", self.running.http().unwrap())
    }

    /// The page of the contract.
    pub(crate) fn contract_page(&self) -> String {
        self.page(&format!("#/record/contract/{}", self.contract))
    }

    /// Puts an operation on the chain; gives the height of a block that has it.
    pub(crate) async fn put(&self, seed: u8, operation: Operation) -> u64 {
        let nonce = {
            let mut nonces = self.nonces.lock().unwrap();
            let next = nonces.entry(seed).or_default();
            *next += 1;
            *next - 1
        };
        let transaction = Transaction {
            author: author(seed),
            nonce,
            operation,
        };
        let ledger = self.running.ledger();
        let mut heads = ledger.heads();
        let taken = ledger
            .submit(transaction.sign(self.running.chain(), &key(seed)))
            .unwrap();
        assert!(matches!(taken, Submission::Taken), "{taken:?}");
        let stands = heads.wait_for(|_| ledger.snapshot().unwrap().account(author(seed)).unwrap().nonce > nonce);
        let head = timeout(PATIENCE, stands).await.unwrap().unwrap();
        head.as_ref().unwrap().header.height
    }

    /// The customer pays in more periods.
    pub(crate) async fn fund(&self, funded: u32) -> u64 {
        let contract = self.contract;
        self.put(CUSTOMER, Operation::Fund { contract, funded }).await
    }

    async fn furnish(&mut self) {
        let location = Location {
            country: *b"BE",
            latitude: 51_050_000,
            longitude: 3_720_000,
        };
        let name = Text::lossy(FARM);
        let farm = Farm {
            owner: author(FARMER),
            name: name.clone(),
            location,
            enrolments: vec![],
        };
        self.farm = farm.founding_id();
        self.put(FARMER, Operation::CreateFarm { name, location }).await;
        let enrolment = Enrolment {
            key: key(ENROLMENT).public(),
            remaining: 1,
            until: Timestamp::from_millis(u64::MAX),
        };
        let enrolments = vec![enrolment];
        self.put(
            FARMER,
            Operation::SetEnrolments {
                farm: self.farm,
                enrolments,
            },
        )
        .await;
        self.put(NODE, Operation::JoinNode(self.join())).await;
        self.put(FARMER, Operation::PublishTerms(self.terms())).await;
        let blob = |content: &[u8]| Blob::of(content);
        let image = Operation::PublishImage {
            name: Text::lossy("nginx"),
            root: blob(b"root"),
            config: blob(b"config"),
        };
        self.put(CUSTOMER, image).await;
        let agreement = self.agreement();
        self.contract = agreement.contract_id();
        let chain = self.running.chain();
        let signed = SignedAgreement {
            customer: agreement.sign(chain, &key(CUSTOMER)),
            farmer: agreement.sign(chain, &key(FARMER)),
            agreement,
        };
        self.put(CUSTOMER, Operation::Agree(signed)).await;
        let contract = self.contract;
        for step in [Step::Acknowledged, Step::Running] {
            self.put(NODE, Operation::Progress { contract, step }).await;
        }
    }

    fn join(&self) -> Join {
        Join {
            farm: self.farm,
            keys: keys(NODE),
            capacity: Resources {
                cru: 8,
                mru: 16 * GIB,
                sru: 100 * GIB,
                hru: 0,
            },
            addresses: vec![([127, 0, 0, 1], 7_770).into()],
            hardware: Text::lossy("box"),
            refused_disks: vec![],
            enrolment: Join::consent(self.running.chain(), &key(ENROLMENT), self.farm, &keys(NODE)),
        }
    }

    fn terms(&self) -> Terms {
        let price = Tokens::from_micro(3_600);
        let prices = Prices {
            cru_hour: price,
            mru_gib_hour: price,
            sru_gib_hour: price,
            hru_gib_hour: price,
        };
        Terms {
            farm: self.farm,
            prices,
            periods: (1, 100),
            rule: RULE,
            open: true,
        }
    }

    fn version(&self, kind: Kind, id: Id) -> (Id, Hash) {
        let snapshot = self.running.ledger().snapshot().unwrap();
        let record = snapshot.latest_version(&RecordKey::new(kind, id)).unwrap();
        (id, record.unwrap().hash())
    }

    fn agreement(&self) -> Agreement {
        let image = Image::founding_id(author(CUSTOMER), &Text::lossy("nginx"));
        let time = self.running.ledger().snapshot().unwrap().head().unwrap().time;
        Agreement {
            customer: author(CUSTOMER),
            farmer: author(FARMER),
            terms: self.version(Kind::Terms, self.terms().founding_id()),
            node: author(NODE),
            resources: Resources {
                cru: 2,
                mru: 4 * GIB,
                sru: 25 * GIB,
                hru: 0,
            },
            price: Tokens::from_micro(1_500_000),
            periods: 50,
            deposit: 2,
            rule: RULE,
            image: self.version(Kind::Image, image),
            sealed: Blob::of(b"sealed"),
            valid_until: time.plus(HOUR_MS),
            salt: [7; 16],
        }
    }
}
