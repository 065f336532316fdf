//! Looking for records: what a search asks for, and whether a record is a hit. A search proves nothing: each hit is proven by
//! itself and checked by the same [`Query::matches`], and what was left out nobody can tell.

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::{ContractState, Farm, NodeState, Terms},
    geography::Place,
    index::{self, IndexKey},
    record::{Body, Id, Kind, Record},
    unit::{Resources, Tokens},
};

/// An hour in milliseconds.
const HOUR_MS: u64 = 3_600_000;

/// What is looked for. Each filter narrows it; one that the kind of record does not have is refused by [`Self::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Query {
    /// Kind of the records.
    pub kind: Kind,
    /// To whom or what they belong: an owner, a farm, a node, a customer.
    pub of: Option<Id>,
    /// How far they are: contracts, nodes, terms.
    pub state: Option<State>,
    /// Where they stand: farms, nodes, terms.
    pub place: Option<Place>,
    /// Nodes on which an agreement for these resources may be made: they are heard of, have that much free, and their farm has open
    /// terms. Open terms, for [`Self::max_hour`].
    pub fits: Option<Resources>,
    /// Most that these resources cost for an hour by the asking prices of such terms.
    pub max_hour: Option<Tokens>,
}

/// A filter that the kind of record does not have, or that means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The kind does not have it.
    #[error("records of kind {kind} are not found by {filter}")]
    Filter {
        /// The kind.
        kind: Kind,
        /// The filter.
        filter: &'static str,
    },
    /// The place is not on the globe, or no country's code.
    #[error("a place is a country of two capital letters, or a point on the globe with a distance")]
    Place,
    /// A price of nothing.
    #[error("a price is that of resources: say which")]
    PriceOfNothing,
}

impl Query {
    /// All records of a kind.
    #[must_use]
    pub const fn all(kind: Kind) -> Self {
        Self {
            kind,
            of: None,
            state: None,
            place: None,
            fits: None,
            max_hour: None,
        }
    }

    /// Checks that the filters fit the kind.
    ///
    /// # Errors
    /// [`QueryError`] names the first that does not.
    pub fn check(&self) -> Result<(), QueryError> {
        let kind = self.kind;
        let refuse = |filter| Err(QueryError::Filter { kind, filter });
        if let Some(state) = self.state
            && !state.is_of(kind)
        {
            return refuse(state.name());
        }
        if self.place.is_some() && !matches!(kind, Kind::Farm | Kind::Node | Kind::Terms) {
            return refuse("place");
        }
        if self.place.is_some_and(|place| !place.is_valid()) {
            return Err(QueryError::Place);
        }
        let is_offer = matches!(kind, Kind::Node | Kind::Terms);
        if self.fits.is_some() && !is_offer {
            return refuse("free capacity");
        }
        if self.max_hour.is_some() && !is_offer {
            return refuse("price");
        }
        if self.max_hour.is_some() && self.fits.is_none() {
            return Err(QueryError::PriceOfNothing);
        }
        Ok(())
    }

    /// Whether hits are found farm by farm: by where a farm stands and whose it is.
    #[must_use]
    pub const fn by_farm(&self) -> bool {
        matches!(self.kind, Kind::Node | Kind::Terms) && (self.place.is_some() || self.fits.is_some())
    }

    /// Whether a record is a hit, by what `facts` knows of it.
    #[must_use]
    pub fn matches(&self, record: &Record, facts: &Facts<'_>) -> bool {
        if record.body.kind() != self.kind {
            return false;
        }
        let farm = match &record.body {
            Body::Farm(farm) => Some(farm),
            _ => facts.farm,
        };
        let belongs = |of: Id| {
            let by_index = index::keys(record).contains(&IndexKey::Of { kind: self.kind, of });
            let by_farm = matches!(self.kind, Kind::Node | Kind::Terms) && farm.is_some_and(|farm| farm.owner == of);
            by_index || by_farm
        };
        self.of.is_none_or(belongs)
            && self.state.is_none_or(|state| State::of(&record.body) == Some(state))
            && self
                .place
                .is_none_or(|place| farm.is_some_and(|farm| place.contains(&farm.location)))
            && self.fits.is_none_or(|wanted| self.can_be_agreed(wanted, record, facts))
    }

    fn can_be_agreed(&self, wanted: Resources, record: &Record, facts: &Facts<'_>) -> bool {
        let offers = |terms: &Terms| {
            let price = terms.prices.of(&wanted, HOUR_MS);
            terms.open && price.is_some_and(|price| self.max_hour.is_none_or(|most| price <= most))
        };
        match &record.body {
            Body::Terms(terms) => offers(terms),
            Body::Node(node) => {
                let free = node.capacity.saturating_sub(facts.reserved);
                node.state.is_rentable() && free.contains(wanted) && facts.terms.iter().any(offers)
            }
            _ => false,
        }
    }
}

/// What must be known of a record besides itself to tell whether it is a hit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The farm of a node or of terms.
    pub farm: Option<&'a Farm>,
    /// What is reserved on a node.
    pub reserved: Resources,
    /// The terms of a node's farm.
    pub terms: &'a [Terms],
}

/// Where a hit stands in the order of a search: by farm, then by id. Where a search does not go farm by farm the first is zero.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Position {
    /// The farm, or zero.
    pub farm: Id,
    /// The record.
    pub id: Id,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.farm, self.id)
    }
}

/// A text is no position of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position that a search gave")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (farm, id) = text.split_once('-').ok_or(NoPosition)?;
        let id_of = |text: &str| text.parse::<Id>().map_err(|_| NoPosition);
        Ok(Self {
            farm: id_of(farm)?,
            id: id_of(id)?,
        })
    }
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $tag:literal, $text:literal, [$($kind:ident),*];)*) => {
        /// How far a record is.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[borsh(use_discriminant = true)]
        #[serde(rename_all = "kebab-case")]
        #[repr(u8)]
        pub enum State {
            $($(#[$doc])* $name = $tag,)*
        }

        impl State {
            /// All states.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// One word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether records of a kind can be in it.
            #[must_use]
            pub const fn is_of(self, kind: Kind) -> bool {
                match self { $(Self::$name => matches!(kind, $(Kind::$kind)|*),)* }
            }
        }
    };
}

states! {
    /// A contract that its node has not acknowledged.
    Agreed = 1, "agreed", [Contract];
    /// A contract whose workload is being prepared.
    Deploying = 2, "deploying", [Contract];
    /// A contract that runs; a node that is heard of.
    Active = 3, "active", [Contract, Node];
    /// A contract whose next period is not paid in.
    Suspended = 4, "suspended", [Contract];
    /// A contract all of whose periods are settled.
    Expired = 5, "expired", [Contract];
    /// A contract that a party ended.
    Cancelled = 6, "cancelled", [Contract];
    /// A contract that was not kept.
    Failed = 7, "failed", [Contract];
    /// A node that has not been heard of yet.
    Joined = 8, "joined", [Node];
    /// A node that has fallen silent.
    Degraded = 9, "degraded", [Node];
    /// A node that has been silent for long.
    Gone = 10, "gone", [Node];
    /// A node that its farm has expelled.
    Expelled = 11, "expelled", [Node];
    /// Terms under which agreements may be made.
    Open = 12, "open", [Terms];
    /// Terms under which none may.
    Closed = 13, "closed", [Terms];
}

impl State {
    /// The state of a record of a kind that has states.
    #[must_use]
    pub fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Contract(contract) => Some(Self::from(&contract.state)),
            Body::Node(node) => Some(Self::from(&node.state)),
            Body::Terms(terms) => Some(if terms.open { Self::Open } else { Self::Closed }),
            _ => None,
        }
    }
}

impl From<&ContractState> for State {
    fn from(state: &ContractState) -> Self {
        match state {
            ContractState::Agreed { .. } => Self::Agreed,
            ContractState::Deploying { .. } => Self::Deploying,
            ContractState::Active { .. } => Self::Active,
            ContractState::Suspended { .. } => Self::Suspended,
            ContractState::Expired { .. } => Self::Expired,
            ContractState::Cancelled { .. } => Self::Cancelled,
            ContractState::Failed { .. } => Self::Failed,
        }
    }
}

impl From<&NodeState> for State {
    fn from(state: &NodeState) -> Self {
        match state {
            NodeState::Joined { .. } => Self::Joined,
            NodeState::Active { .. } => Self::Active,
            NodeState::Degraded { .. } => Self::Degraded,
            NodeState::Gone { .. } => Self::Gone,
            NodeState::Expelled => Self::Expelled,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such state; there are {}", State::ALL.iter().map(|state| state.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownState;

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let all = Self::ALL.iter().copied();
        all.into_iter().find(|state| state.name() == text).ok_or(UnknownState)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_a_kind_does_not_have_are_refused_by_name() {
        let of = |kind, change: fn(&mut Query)| {
            let mut query = Query::all(kind);
            change(&mut query);
            query.check().map_err(|error| error.to_string())
        };
        let place: fn(&mut Query) = |query| query.place = Some(Place::Country(*b"BE"));
        let fits: fn(&mut Query) = |query| query.fits = Some(Resources::ZERO);
        let price: fn(&mut Query) = |query| query.max_hour = Some(Tokens::ZERO);
        let open: fn(&mut Query) = |query| query.state = Some(State::Open);
        assert_eq!(of(Kind::Node, place), Ok(()));
        assert!(
            of(Kind::Contract, place)
                .unwrap_err()
                .ends_with("contract are not found by place")
        );
        assert!(of(Kind::Farm, fits).unwrap_err().ends_with("found by free capacity"));
        assert!(of(Kind::Farm, price).unwrap_err().ends_with("found by price"));
        assert!(of(Kind::Node, price).unwrap_err().contains("say which"));
        assert_eq!(of(Kind::Terms, open), Ok(()));
        assert!(of(Kind::Node, open).unwrap_err().ends_with("found by open"));
        let lower: fn(&mut Query) = |query| query.place = Some(Place::Country(*b"be"));
        assert_eq!(of(Kind::Farm, lower), Err(QueryError::Place.to_string()));
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        let id = |byte| Id::from_hash(crate::Hash::from_bytes([byte; 32]));
        let position = Position { farm: id(1), id: id(2) };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "-", "01-02", &id(1).to_string()] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }

    #[test]
    fn every_state_is_read_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(state.name().parse(), Ok(*state));
        }
        let unknown = "asleep".parse::<State>().unwrap_err().to_string();
        assert!(unknown.starts_with("no such state; there are agreed, "), "{unknown}");
    }
}
