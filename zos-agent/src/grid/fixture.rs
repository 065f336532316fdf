//! Records for tests.

use ledger::{
    Hash, Id, Record, Resources, Tokens,
    agreement::{Agreement, SignedAgreement},
    body::{Blob, Contract, ContractState, Image, SettlementRule},
    key::Signature,
    record::Body,
    text::Text,
};

/// The state of a contract whose workload began to run at time 0 of the chain.
pub(crate) fn active() -> ContractState {
    ContractState::Active {
        since: Default::default(),
        period: 0,
        report: None,
        receipt: None,
        missed: 0,
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
            config: blob(255),
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

/// A contract with periods of 10 s, told from others by `salt`.
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
        rule: SettlementRule {
            period_ms: 10_000,
            grace_ms: 5_000,
            acknowledge_ms: 5_000,
            deploy_ms: 5_000,
            tolerance_permille: 10,
            unconfirmed_permille: 500,
            disputed_permille: 500,
            missed_limit: 3,
        },
        image: (id(5), Hash::ZERO),
        sealed: Blob {
            hash: Hash::ZERO,
            size: 1,
        },
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
            state,
            disputes: 0,
        },
    )
}
