//! By what records are found besides their id. Indexes are not authenticated: each hit is proven by itself. And by when a rule
//! finds them.

use borsh::BorshSerialize;

use crate::{
    body::Charter,
    geography::Cell,
    query::State,
    record::{Body, Id, Kind, Record},
    unit::Timestamp,
};

/// Under what a record is found. No key is the beginning of another's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize)]
pub enum IndexKey {
    /// Records of `kind` that belong to `of`: farms, images and names of an owner, nodes and terms of a farm, contracts of a customer,
    /// farmer or node, misconduct of a validator, release channels of an owner, releases of a channel.
    Of {
        /// Kind of the records.
        kind: Kind,
        /// To whom or what they belong.
        of: Id,
    },
    /// Records of `kind` that are in a state.
    In {
        /// Kind of the records.
        kind: Kind,
        /// The state.
        state: State,
    },
    /// Farms in a country.
    Country([u8; 2]),
    /// Farms in a part of the globe.
    Cell(Cell),
}

/// Under which keys a record is found.
#[must_use]
pub fn keys(record: &Record) -> Vec<IndexKey> {
    let kind = record.body.kind();
    let of: Vec<Id> = match &record.body {
        Body::Account(_) | Body::Entity(_) | Body::Escrow(_) | Body::Assignments(_) | Body::Charter(_) => vec![],
        Body::Misconduct(misconduct) => vec![Charter::author_of(&misconduct.validator)],
        Body::Farm(farm) => vec![farm.owner],
        Body::Node(node) => vec![node.farm],
        Body::Terms(terms) => vec![terms.farm],
        Body::Contract(contract) => {
            let agreement = &contract.signed.agreement;
            vec![agreement.customer, agreement.farmer, agreement.node]
        }
        Body::Image(image) => vec![image.owner],
        Body::Name(name) => name.owner.into_iter().collect(),
        Body::Channel(channel) => vec![channel.owner],
        Body::Release(release) => vec![release.signed.manifest.channel],
    };
    let mut keys: Vec<IndexKey> = of.into_iter().map(|of| IndexKey::Of { kind, of }).collect();
    keys.extend(State::of(&record.body).map(|state| IndexKey::In { kind, state }));
    if let Body::Farm(farm) = &record.body {
        let location = &farm.location;
        keys.extend([IndexKey::Country(location.country), IndexKey::Cell(Cell::of(location))]);
    }
    keys
}

/// The next time at which a rule changes a record by itself.
#[must_use]
pub fn due(record: &Record) -> Option<Timestamp> {
    match &record.body {
        Body::Contract(contract) => contract.due(),
        Body::Node(node) => node.state.due(),
        _ => None,
    }
}
