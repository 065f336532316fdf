//! A chain of two blocks, made by hand, with one validator, and what an honest peer answers of it.

use std::collections::BTreeSet;

use chain_client::protocol::{Answer, MAX_LEAVES, PAGE, Request};
use ledger::{
    CertifiedHeader, Genesis, Hash, Header, Height, Id, Record, RecordKey, SigningKey, Timestamp, Tokens, Validator,
    ValidatorSet,
    block::Block,
    body::{Account, Assignments, Blob, Image},
    consensus::{Certificate, CommitSignature, VoteKind, vote_bytes},
    genesis::Issuance,
    light::RecordProof,
    query::Position,
    record::Body,
    sets,
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

/// Names of the images that belong to it from the second block on: more than one answer holds.
fn images() -> impl Iterator<Item = Text<128>> {
    (0..=MAX_LEAVES).map(|n| Text::lossy(&format!("image {n}")))
}

/// Ids of its images, in ascending order.
pub(crate) fn image_ids() -> Vec<Id> {
    let ids: BTreeSet<Id> = images().map(|name| Image::founding_id(node(), &name)).collect();
    ids.into_iter().collect()
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
        chain.decide(1, vec![(node(), account.into())]);
        if height > 1 {
            let assignments = Assignments {
                contracts: contracts(),
                ..Assignments::default()
            };
            let mut bodies = vec![(node(), assignments.into())];
            bodies.extend(images().map(|name| {
                let (root, config) = (Blob::of(&[1]), Blob::of(&[2]));
                let owner = node();
                let image = Image {
                    owner,
                    name,
                    root,
                    config,
                };
                (Image::founding_id(owner, &image.name), image.into())
            }));
            chain.decide(2, bodies);
        }
        chain
    }

    fn decide(&mut self, height: Height, bodies: Vec<(Id, Body)>) {
        let mut changes = Vec::new();
        for (id, body) in bodies {
            let record = Record {
                id,
                version: 1,
                previous: Hash::ZERO,
                author: Id::CHAIN,
                height,
                body,
            };
            changes.extend(sets::changes(None, &record));
            self.store.latest.insert(record.key(), record);
        }
        changes.sort_unstable();
        let (root, nodes) = tree::update(&self.store, self.store.root, &changes).unwrap();
        self.store.nodes.extend(nodes);
        self.store.root = root;
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
            Request::Region { region, .. } => Answer::Region {
                head: self.head.clone(),
                proof: tree::prove_below(&self.store, self.store.root, *region, MAX_LEAVES).unwrap(),
            },
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
