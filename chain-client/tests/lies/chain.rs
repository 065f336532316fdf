//! A chain of two blocks, made by hand, with one validator, and what an honest peer answers of it.

use std::collections::BTreeSet;

use chain_client::protocol::{Answer, PAGE, Request};
use ledger::{
    CertifiedHeader, Genesis, Hash, Header, Height, Id, Record, RecordKey, SigningKey, Timestamp, Tokens, Validator,
    ValidatorSet,
    block::Block,
    body::{Account, Assignments},
    consensus::{Certificate, CommitSignature, VoteKind, vote_bytes},
    genesis::Issuance,
    light::RecordProof,
    query::Position,
    record::Body,
    store::MemoryStore,
    text::Text,
    tree,
};

/// The node of which contracts are on the chain from the second block on.
pub(crate) fn node() -> Id {
    Id::from_hash(Hash::from_bytes([7; 32]))
}

/// The contracts that are live on it.
pub(crate) fn contracts() -> BTreeSet<Id> {
    [1, 2].map(|seed| Id::from_hash(Hash::from_bytes([seed; 32]))).into()
}

/// Ids that a search finds, more than one page of them, in ascending order.
pub(crate) fn farms() -> Vec<Id> {
    let id = |seed: u16| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        Id::from_hash(Hash::from_bytes(bytes))
    };
    (1..=600).map(id).collect()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// A set of one validator.
pub(crate) fn validators(seed: u8) -> ValidatorSet {
    let key = key(seed).public();
    ValidatorSet::new(vec![Validator {
        key,
        link: key,
        power: 1,
    }])
    .unwrap()
}

/// A header with the precommit of the validator `seed`.
pub(crate) fn certify(header: Header, seed: u8) -> CertifiedHeader {
    let (height, block) = (header.height, header.id());
    let bytes = vote_bytes(header.chain, VoteKind::Precommit, height, 0, Some(block));
    let signature = CommitSignature {
        validator: key(seed).public(),
        signature: key(seed).sign_bytes(&bytes),
    };
    CertifiedHeader {
        header,
        certificate: Certificate {
            height,
            round: 0,
            block,
            signatures: vec![signature],
        },
        handover: None,
    }
}

/// Seed of the chain's validator.
const VALIDATOR: u8 = 1;

/// The chain up to one of its heights.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    pub(crate) head: CertifiedHeader,
    store: MemoryStore,
}

impl Chain {
    /// The chain when `height` blocks were decided, 1 or 2.
    pub(crate) fn at(height: Height) -> Self {
        let genesis = Genesis {
            name: Text::lossy("test"),
            time: Timestamp::from_millis(0),
            block_interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            validators: validators(VALIDATOR),
            entities: vec![],
            issuance: Issuance::Fixed,
        };
        let mut chain = Self {
            head: certify(header(&genesis, 1, Hash::ZERO, Hash::ZERO), VALIDATOR),
            genesis,
            store: MemoryStore::default(),
        };
        let account = Account {
            balance: Tokens::from_micro(5),
            ..Account::default()
        };
        chain.decide(1, account.into());
        if height > 1 {
            let assignments = Assignments {
                contracts: contracts(),
                ..Assignments::default()
            };
            chain.decide(2, assignments.into());
        }
        chain
    }

    fn decide(&mut self, height: Height, body: Body) {
        let record = Record {
            id: node(),
            version: 1,
            previous: Hash::ZERO,
            author: Id::CHAIN,
            height,
            body,
        };
        let change = [(record.key().path(), record.hash())];
        let (root, nodes) = tree::update(&self.store, self.store.root, &change).unwrap();
        self.store.nodes.extend(nodes);
        self.store.root = root;
        self.store.latest.insert(record.key(), record);
        let previous = if height == 1 { Hash::ZERO } else { self.head.header.id() };
        self.head = certify(header(&self.genesis, height, previous, root), VALIDATOR);
    }

    /// What an honest peer answers.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        match request {
            Request::Genesis => Answer::Genesis(self.genesis.clone()),
            Request::Head { .. } | Request::Watch => Answer::Head {
                handovers: vec![],
                head: self.head.clone(),
            },
            Request::Records(keys) | Request::RecordsAt { keys, .. } => Answer::Records {
                head: self.head.clone(),
                proofs: keys.iter().map(|key| self.proof(key)).collect(),
            },
            Request::Search { after, .. } => {
                let at = |id| Position {
                    farm: Id::default(),
                    id,
                };
                let above = farms()
                    .into_iter()
                    .map(at)
                    .filter(|hit| after.is_none_or(|after| *hit > after));
                let hits: Vec<Position> = above.take(PAGE).collect();
                let next = hits.last().copied().filter(|_| hits.len() == PAGE);
                Answer::Found { hits, next }
            }
            _ => Answer::Unable("not known here".into()),
        }
    }

    fn proof(&self, key: &RecordKey) -> RecordProof {
        RecordProof {
            record: self.store.latest.get(key).cloned(),
            proof: tree::prove(&self.store, self.store.root, key.path()).unwrap(),
        }
    }
}

fn header(genesis: &Genesis, height: Height, previous: Hash, state: Hash) -> Header {
    Header {
        chain: genesis.hash(),
        height,
        time: Timestamp::from_millis(1_000 * height),
        previous,
        transactions: Block::transactions_hash(&[]),
        state,
        validators: genesis.validators.hash(),
        next_validators: genesis.validators.hash(),
        proposer: key(VALIDATOR).public(),
    }
}
