//! Records for tests.

use std::sync::LazyLock;

use ledger::{
    Hash, Id, Record, Resources, Timestamp, Tokens,
    agreement::{Agreement, SignedAgreement},
    body::{Blob, Contract, ContractState, Image, SettlementRule},
    key::Signature,
    record::{Body, BodyOf},
    text::Text,
};
use workload::{EncryptionKey, Workload};

use super::docket::{Docket, Entry};

/// The configuration of every image.
pub(crate) const CONFIG: &[u8] = br#"{"config":{"Cmd":["/bin/x"]}}"#;
/// Periods of a contract that are paid in.
pub(crate) const FUNDED: u32 = 4;

/// The state of a contract whose workload began to run at time 0 of the chain.
pub(crate) fn active() -> ContractState {
    ContractState::beginning(Timestamp::default(), 0, Tokens::from_micro(1))
}

/// The state of such a contract after all that was paid in is used up.
pub(crate) fn suspended() -> ContractState {
    let since = Timestamp::from_millis(u64::from(FUNDED) * 10_000);
    ContractState::Suspended {
        since,
        until: since.plus(60_000),
        period: FUNDED,
        missed: 0,
    }
}

/// The ciphertext of [`workload`] for the key of the seed of ones. It stays the same within a run of the tests.
pub(crate) fn sealed() -> Vec<u8> {
    static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let node = EncryptionKey::from_seed(&[1; 32]);
        workload::seal(&workload(), &[node.public()]).unwrap()
    });
    SEALED.clone()
}

/// Tells a docket all about a contract.
pub(crate) fn fill(docket: &mut Docket, record: Record) {
    let entry = Entry::new(record).unwrap();
    let (id, salt) = (entry.record.id, entry.contract.signed.agreement.salt[0]);
    docket.learn(entry);
    docket.learn_image(id, &image(salt));
    docket.learn_config(id, CONFIG.to_vec());
    docket.learn_sealed(id, &sealed());
}

/// The next version of a contract, whose agreement was amended.
pub(crate) fn amended(before: &Record, change: impl FnOnce(&mut Agreement)) -> Record {
    let mut contract = Contract::of(&before.body).unwrap().clone();
    contract.replaces = Some(contract.signed.agreement.hash());
    contract.amendments += 1;
    change(&mut contract.signed.agreement);
    Record {
        version: before.version + 1,
        previous: before.hash(),
        body: contract.into(),
        ..before.clone()
    }
}

/// What a customer sealed.
pub(crate) fn workload() -> Workload {
    Workload {
        name: "web".into(),
        env: vec![],
        args: None,
        ports: vec![],
        volumes: vec![],
    }
}

/// An image whose root file system has the hash of `byte` repeated.
pub(crate) fn image(byte: u8) -> Record {
    let blob = |byte| Blob {
        hash: Hash::from_bytes([byte; 32]),
        size: 1,
    };
    record(
        Id::from_hash(Hash::from_bytes([byte; 32])),
        Image {
            owner: Id::CHAIN,
            name: Text::lossy("image"),
            root: blob(byte),
            config: Blob::of(CONFIG),
        },
    )
}

fn record(id: Id, body: impl Into<Body>) -> Record {
    Record {
        id,
        version: 1,
        previous: Hash::ZERO,
        author: Id::CHAIN,
        height: 1,
        body: body.into(),
    }
}

/// A contract with periods of 10 s, told from others by `salt`, of the image of that byte.
pub(crate) fn contract(salt: u8, state: ContractState) -> Record {
    let id = |byte| Id::from_hash(Hash::from_bytes([byte; 32]));
    let agreement = Agreement {
        customer: id(1),
        farmer: id(2),
        terms: (id(3), Hash::ZERO),
        node: id(4),
        resources: Resources {
            cru: 1,
            mru: 1 << 28,
            sru: 1 << 28,
            hru: 0,
        },
        price: Tokens::from_micro(1),
        periods: 10,
        deposit: FUNDED,
        rule: SettlementRule {
            period_ms: 10_000,
            grace_ms: 5_000,
            acknowledge_ms: 5_000,
            deploy_ms: 5_000,
            suspend_ms: 60_000,
            tolerance_permille: 10,
            unconfirmed_permille: 500,
            missed_limit: 3,
            dispute_limit: 3,
        },
        image: (id(salt), image(salt).hash()),
        sealed: Blob::of(&sealed()),
        valid_until: Default::default(),
        salt: [salt; 16],
    };
    record(
        agreement.contract_id(),
        Contract {
            signed: SignedAgreement {
                agreement,
                customer: Signature::from_bytes([0; 64]),
                farmer: Signature::from_bytes([0; 64]),
            },
            replaces: None,
            amendments: 0,
            state,
            funded: FUNDED,
            disputes: 0,
        },
    )
}
