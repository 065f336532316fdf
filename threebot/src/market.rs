//! Which nodes suit a workload, the cheapest first.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{
    Hash, Id, Resources, Timestamp, Tokens,
    body::{Location, NodeState, Terms},
    geography::Place,
};
use serde::Serialize;

use crate::bounds;

/// An hour in milliseconds.
const HOUR_MS: u64 = 3_600_000;

/// A node and the terms under which it is offered, as proven on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The node.
    pub node: Id,
    /// Its farm.
    pub farm: Id,
    /// The farm's name.
    pub farm_name: String,
    /// The farm's owner, with whom to negotiate.
    pub owner: Id,
    /// Where the farm stands.
    pub location: Location,
    /// What the machine says it is.
    pub hardware: String,
    /// Whether it is heard of.
    pub state: NodeState,
    /// What is not reserved.
    pub free: Resources,
    /// The terms' id and version.
    pub terms_id: (Id, Hash),
    /// The terms.
    pub terms: Terms,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// What a node must have free.
    pub resources: Resources,
    /// For how many periods, if that is settled.
    pub periods: Option<u32>,
    /// Where.
    pub place: Option<Place>,
    /// Most that an hour may cost at the asking price.
    pub max_hour: Option<Tokens>,
    /// Nodes and farmers that are not to be taken.
    pub avoid: BTreeSet<Id>,
    /// Who looks: its own nodes are no use to it, for a bot does not negotiate with itself.
    pub customer: Id,
}

/// A node that suits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node and its terms.
    pub listing: Listing,
    /// Asking price of the wanted resources for an hour.
    pub hour: Tokens,
    /// Asking price of the wanted resources for one period of the terms.
    pub period: Tokens,
}

/// A node that does not suit, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// The node.
    pub node: Id,
    /// Why.
    pub reason: &'static str,
}

/// The outcome of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranking {
    /// What suits, the cheapest hour first; among equals the one with more memory free, then by id.
    pub candidates: Vec<Candidate>,
    /// What does not.
    pub withheld: Vec<Withheld>,
    /// How many nodes were looked at, if the market has more.
    pub cut: Option<usize>,
}

impl Ranking {
    /// Why nodes are withheld, a line for each reason, that of the most nodes first; and whether there are more nodes.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut by_reason: BTreeMap<&str, BTreeSet<Id>> = BTreeMap::new();
        for Withheld { node, reason } in &self.withheld {
            by_reason.entry(reason).or_default().insert(*node);
        }
        let mut reasons: Vec<_> = by_reason.into_iter().collect();
        reasons.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
        let line = |(reason, nodes): (&str, BTreeSet<Id>)| match (nodes.len(), nodes.first()) {
            (1, Some(node)) => format!("node {}: {reason}", node.short()),
            (many, _) => format!("{many} nodes: {reason}"),
        };
        let mut lines: Vec<String> = reasons.into_iter().map(line).collect();
        if let Some(looked_at) = self.cut {
            lines.push(format!(
                "the market has more than the {looked_at} nodes that were looked at; another search sees others"
            ));
        }
        lines
    }
}

/// The order in which candidates are asked: who has failed before comes after who has not, the longest ago first; then farmers
/// take turns, each with its cheapest left, so that one with many nodes holds up nobody else.
#[must_use]
pub fn by_turns(candidates: Vec<Candidate>, failed: &BTreeMap<Id, Timestamp>) -> Vec<Candidate> {
    let mut turns: BTreeMap<Id, usize> = BTreeMap::new();
    let mut placed: Vec<_> = candidates
        .into_iter()
        .map(|candidate| {
            let Listing { node, owner, .. } = candidate.listing;
            let turn = turns.entry(owner).or_default();
            *turn += 1;
            let last_failed = failed.get(&node).max(failed.get(&owner)).copied();
            ((last_failed, *turn), candidate)
        })
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Ranks listings. A node that is offered under several terms appears once, under its cheapest.
#[must_use]
pub fn rank(listings: Vec<Listing>, wanted: &Wanted) -> Ranking {
    let mut ranking = Ranking::default();
    for listing in listings {
        let node = listing.node;
        match suits(listing, wanted) {
            Ok(candidate) => ranking.candidates.push(candidate),
            Err(reason) => ranking.withheld.push(Withheld { node, reason }),
        }
    }
    let key = |candidate: &Candidate| {
        let listing = &candidate.listing;
        (
            candidate.hour,
            std::cmp::Reverse(listing.free.mru),
            listing.node,
            listing.terms_id.0,
        )
    };
    ranking.candidates.sort_by_key(key);
    let mut seen = BTreeSet::new();
    ranking
        .candidates
        .retain(|candidate| seen.insert(candidate.listing.node));
    ranking.withheld.retain(|withheld| !seen.contains(&withheld.node));
    ranking
}

fn suits(listing: Listing, wanted: &Wanted) -> Result<Candidate, &'static str> {
    if wanted.avoid.contains(&listing.node) {
        return Err("it failed a short while ago");
    }
    if wanted.avoid.contains(&listing.owner) {
        return Err("its farmer failed a short while ago");
    }
    if listing.owner == wanted.customer {
        return Err("it is the searcher's own");
    }
    if !listing.state.is_rentable() {
        return Err("it has not been heard of for long");
    }
    if !listing.terms.open {
        return Err("its terms are closed");
    }
    if let Some(excess) = bounds::exceeded(&listing.terms.rule) {
        return Err(excess);
    }
    let (fewest, most) = listing.terms.periods;
    if wanted
        .periods
        .is_some_and(|periods| !(fewest..=most).contains(&periods))
    {
        return Err("its terms allow another number of periods");
    }
    if wanted.place.is_some_and(|place| !place.contains(&listing.location)) {
        return Err("it stands elsewhere");
    }
    if !listing.free.contains(wanted.resources) {
        return Err("it has not that much free");
    }
    let price = |millis| listing.terms.prices.of(&wanted.resources, millis);
    let (Some(hour), Some(period)) = (price(HOUR_MS), price(listing.terms.rule.period_ms)) else {
        return Err("its price is not representable");
    };
    if wanted.max_hour.is_some_and(|most| hour > most) {
        return Err("it costs more");
    }
    Ok(Candidate { listing, hour, period })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::body::{Prices, SettlementRule};

    fn id(seed: u8) -> Id {
        Id::from_hash(Hash::from_bytes([seed; 32]))
    }

    fn listing(node: u8, cru_hour: u64) -> Listing {
        let price = Tokens::from_micro(cru_hour);
        Listing {
            node: id(node),
            farm: id(100),
            farm_name: "farm".into(),
            owner: id(101),
            location: Location {
                country: *b"BE",
                latitude: 0,
                longitude: 0,
            },
            hardware: String::new(),
            state: NodeState::Joined {
                until: Timestamp::default(),
            },
            free: Resources {
                cru: 4,
                mru: 8 << 30,
                sru: 100 << 30,
                hru: 0,
            },
            terms_id: (id(102), Hash::ZERO),
            terms: Terms {
                farm: id(100),
                prices: Prices {
                    cru_hour: price,
                    mru_gib_hour: Tokens::ZERO,
                    sru_gib_hour: Tokens::ZERO,
                    hru_gib_hour: Tokens::ZERO,
                },
                periods: (1, 10),
                rule: SettlementRule {
                    period_ms: HOUR_MS / 2,
                    ..bounds::tests::USUAL
                },
                open: true,
            },
        }
    }

    fn wanted() -> Wanted {
        Wanted {
            resources: Resources {
                cru: 2,
                ..Resources::ZERO
            },
            ..Wanted::default()
        }
    }

    #[test]
    fn the_cheapest_comes_first_and_ties_have_an_order() {
        let mut roomy = listing(4, 100);
        roomy.free.mru *= 2;
        let ranking = rank(
            vec![listing(3, 300), listing(2, 100), listing(1, 100), roomy],
            &wanted(),
        );
        let nodes: Vec<_> = ranking.candidates.iter().map(|c| c.listing.node).collect();
        assert_eq!(nodes, [id(4), id(1), id(2), id(3)]);
        let first = &ranking.candidates[0];
        assert_eq!((first.hour.micro(), first.period.micro()), (200, 100));
    }

    #[test]
    fn a_node_under_several_terms_is_taken_under_the_cheapest() {
        let mut other = listing(1, 50);
        other.terms_id.0 = id(103);
        let mut closed = listing(1, 1);
        closed.terms.open = false;
        let ranking = rank(vec![listing(1, 100), other, closed], &wanted());
        assert_eq!(ranking.candidates.len(), 1);
        assert_eq!(ranking.candidates[0].listing.terms_id.0, id(103));
        assert!(ranking.withheld.is_empty());
    }

    #[test]
    fn farmers_take_turns_and_whoever_failed_comes_last() {
        let of = |node, price, owner| {
            let mut listing = listing(node, price);
            listing.owner = id(owner);
            listing
        };
        let cheap = (1..=20).map(|node| of(node, 100 + u64::from(node), 201));
        let listings = cheap.chain([of(31, 300, 202), of(32, 301, 202), of(41, 400, 203)]);
        let candidates = rank(listings.collect(), &wanted()).candidates;
        let order = |failed: &[(Id, u64)]| {
            let failed = failed.iter().map(|(id, at)| (*id, Timestamp::from_millis(*at)));
            let order = by_turns(candidates.clone(), &failed.collect());
            let nodes = order.into_iter().map(|candidate| candidate.listing.node);
            nodes.take(5).collect::<Vec<_>>()
        };
        assert_eq!(order(&[]), [1, 31, 41, 2, 32].map(id));
        assert_eq!(order(&[(id(201), 5)]), [31, 41, 32, 1, 2].map(id));
        assert_eq!(
            order(&[(id(201), 5), (id(31), 4), (id(32), 3), (id(41), 2)]),
            [41, 32, 31, 1, 2].map(id)
        );
    }

    #[test]
    fn reasons_are_counted_and_one_node_is_named() {
        let mut closed = listing(1, 1);
        closed.terms.open = false;
        let abroad = |node| {
            let mut listing = listing(node, 1);
            listing.location.country = *b"DE";
            listing
        };
        let wanted = Wanted {
            place: Some(Place::Country(*b"BE")),
            ..wanted()
        };
        let ranking = rank(vec![closed, abroad(2), abroad(3), abroad(3)], &wanted);
        let one = format!("node {}: its terms are closed", id(1).short());
        assert_eq!(ranking.reasons(), ["2 nodes: it stands elsewhere".to_owned(), one]);
    }

    #[test]
    fn what_does_not_suit_is_withheld_with_its_reason() {
        let reason = |listing: Listing, wanted: &Wanted| rank(vec![listing], wanted).withheld[0].reason;
        let mut closed = listing(1, 1);
        closed.terms.open = false;
        assert_eq!(reason(closed, &wanted()), "its terms are closed");
        let small = Wanted {
            resources: Resources {
                cru: 5,
                ..Resources::ZERO
            },
            ..wanted()
        };
        assert_eq!(reason(listing(1, 1), &small), "it has not that much free");
        let long = Wanted {
            periods: Some(11),
            ..wanted()
        };
        assert_eq!(
            reason(listing(1, 1), &long),
            "its terms allow another number of periods"
        );
        let abroad = Wanted {
            place: Some(Place::Country(*b"DE")),
            ..wanted()
        };
        assert_eq!(reason(listing(1, 1), &abroad), "it stands elsewhere");
        let cheap = Wanted {
            max_hour: Some(Tokens::from_micro(1)),
            ..wanted()
        };
        assert_eq!(reason(listing(1, 1), &cheap), "it costs more");
        let failed = Wanted {
            avoid: [id(1)].into(),
            ..wanted()
        };
        assert_eq!(reason(listing(1, 1), &failed), "it failed a short while ago");
        let distrusted = Wanted {
            avoid: [id(101)].into(),
            ..wanted()
        };
        assert_eq!(
            reason(listing(1, 1), &distrusted),
            "its farmer failed a short while ago"
        );
        let mut greedy = listing(1, 1);
        greedy.terms.rule.tolerance_permille = 0;
        assert_eq!(
            Some(reason(greedy.clone(), &wanted())),
            bounds::exceeded(&greedy.terms.rule)
        );
        let mut silent = listing(1, 1);
        let (since, until) = (Timestamp::default(), Timestamp::default());
        silent.state = NodeState::Degraded { since, until };
        assert_eq!(reason(silent, &wanted()), "it has not been heard of for long");
        let own = Wanted {
            customer: id(101),
            ..wanted()
        };
        assert_eq!(reason(listing(1, 1), &own), "it is the searcher's own");
        assert_eq!(
            reason(listing(1, u64::MAX), &wanted()),
            "its price is not representable"
        );
    }
}
