//! Changing a contract that runs: what a customer's bot proposes, and whether a farmer's bot signs it.
//!
//! There is no bargaining: the price follows what the terms ask for, with the discount that was agreed on at first.

use ledger::{
    Agreement, Amendment, Hash, Id, Resources, Timestamp, Tokens,
    body::{Assignments, Blob, Contract, Node, Prices, Terms},
};

use crate::{negotiation::Reason, policy::Policy};

/// How long a proposal may be put on the chain, in milliseconds.
const VALID_MS: u64 = 120_000;

/// What is to hold from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What the contract reserves.
    pub resources: Resources,
    /// Its periods, the settled ones among them.
    pub periods: u32,
    /// How many periods are paid in at a time; absent: all at once.
    pub deposit: Option<u32>,
    /// The image and its version.
    pub image: (Id, Hash),
    /// The sealed workload.
    pub sealed: Blob,
}

/// Why there is nothing to propose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The contract has ended.
    #[error("its contract is {0}")]
    Ended(&'static str),
    /// More periods have begun than are to be.
    #[error("{begun} periods have begun, {wanted} are asked for")]
    Begun {
        /// How many have begun.
        begun: u32,
        /// How many there are to be.
        wanted: u32,
    },
    /// The price is not representable.
    #[error("its price is not representable")]
    Price,
}

/// What a customer's bot proposes; nothing where the contract is what is wanted. `prices` are those of the terms.
///
/// # Errors
/// [`ProposalError`].
pub fn propose(
    id: Id,
    contract: &Contract,
    change: Change,
    prices: &Prices,
    now: Timestamp,
) -> Result<Option<Amendment>, ProposalError> {
    let before = &contract.signed.agreement;
    let settled = contract.settled();
    let settled = settled.ok_or(ProposalError::Ended(contract.state_name()))?;
    let (begun, wanted) = (settled.saturating_add(1), change.periods);
    if wanted < begun {
        return Err(ProposalError::Begun { begun, wanted });
    }
    let price = follow(before, &change.resources, prices).ok_or(ProposalError::Price)?;
    let deposit = match change.deposit {
        None => wanted,
        Some(_) => contract.funded.clamp(begun, wanted),
    };
    let agreement = Agreement {
        resources: change.resources,
        price,
        periods: wanted,
        deposit,
        image: change.image,
        sealed: change.sealed,
        valid_until: now.plus(VALID_MS),
        ..before.clone()
    };
    let same = Agreement {
        valid_until: before.valid_until,
        deposit: before.deposit,
        ..agreement.clone()
    };
    // What is paid in at a time alone needs nobody's consent.
    if same == *before && (deposit == contract.funded || change.deposit.is_some()) {
        return Ok(None);
    }
    Ok(Some(Amendment {
        contract: id,
        number: contract.amendments.saturating_add(1),
        replaces: before.hash(),
        agreement,
    }))
}

/// The price of an agreement with other resources: as it is, in the ratio of what the terms ask for these and those.
fn follow(before: &Agreement, resources: &Resources, prices: &Prices) -> Option<Tokens> {
    let period_ms = before.rule.period_ms;
    let asked = |resources| prices.of(resources, period_ms);
    scaled(before.price, asked(&before.resources)?, asked(resources)?)
}

/// `price` in the ratio in which `after` stands to `before`, rounded up.
fn scaled(price: Tokens, before: Tokens, after: Tokens) -> Option<Tokens> {
    if before == after {
        return Some(price);
    }
    let scaled = u128::from(price.micro()).checked_mul(u128::from(after.micro()))?;
    // What was free is asked for at its price from now on.
    let scaled = match u128::from(before.micro()) {
        0 => u128::from(after.micro()),
        before => scaled.div_ceil(before),
    };
    u64::try_from(scaled).ok().map(Tokens::from_micro)
}

/// What stands on the chain about a proposal, proven.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The contract.
    pub contract: Contract,
    /// Its node.
    pub node: Node,
    /// What is reserved on it.
    pub assignments: Assignments,
    /// The terms that it was made under, as they are now.
    pub terms: Terms,
    /// The time.
    pub now: Timestamp,
}

/// Whether the farmer `farmer` signs a proposal of a customer who was admitted. The chain checks the rest.
///
/// # Errors
/// The reason, in words for the customer.
pub fn judge(farmer: Id, amendment: &Amendment, facts: &Facts, policy: &Policy) -> Result<(), Reason> {
    let refuse = |reason: &str| Err(Reason::lossy(reason));
    let (before, after) = (&facts.contract.signed.agreement, &amendment.agreement);
    if before.farmer != farmer || after.farmer != farmer {
        return refuse("the contract is another farmer's");
    }
    if facts.contract.ended().is_some() || amendment.replaces != before.hash() {
        return refuse("the contract has changed");
    }
    if !facts.terms.open {
        return refuse("the terms are closed");
    }
    if after.periods > facts.terms.periods.1 {
        return refuse("the terms allow fewer periods");
    }
    let longest = VALID_MS.max(u64::from(policy.offer_valid_seconds) * 1_000);
    if after.valid_until > facts.now.plus(longest) {
        return refuse("it would be valid for too long");
    }
    let others = facts.assignments.reserved.saturating_sub(before.resources);
    let free = facts.node.capacity.saturating_sub(others);
    if !free.contains(after.resources) && !before.resources.contains(after.resources) {
        return refuse("the node has not that much free");
    }
    let prices = &facts.terms.prices;
    let asked = prices.of(&after.resources, before.rule.period_ms);
    let (Some(asked), Some(followed)) = (asked, follow(before, &after.resources, prices)) else {
        return refuse("the price is not representable");
    };
    let least = followed.max(policy.concession(asked).floor);
    if after.price < least {
        return Err(Reason::lossy(&format!("a period costs at least {least}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Signature, agreement::SignedAgreement, body::ContractState};

    use crate::{acceptance::tests::node, bounds::tests::USUAL};

    const GIB: u64 = 1 << 30;
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const fn t(micro: u64) -> Tokens {
        Tokens::from_micro(micro)
    }

    fn hash(seed: u8) -> Hash {
        Hash::from_bytes([seed; 32])
    }

    fn id(seed: u8) -> Id {
        Id::from_hash(hash(seed))
    }

    fn resources(cru: u64) -> Resources {
        Resources {
            cru,
            mru: GIB,
            sru: GIB,
            hru: 0,
        }
    }

    /// A thread for an hour costs 1,000 micro-tokens, all else is free.
    fn prices() -> Prices {
        Prices {
            cru_hour: t(1_000),
            mru_gib_hour: t(0),
            sru_gib_hour: t(0),
            hru_gib_hour: t(0),
        }
    }

    /// A contract of ten periods for nine tenths of what the terms ask, four of which are paid in and two settled.
    fn contract() -> Contract {
        let agreement = Agreement {
            customer: id(1),
            farmer: id(2),
            terms: (id(4), hash(5)),
            node: id(8),
            resources: resources(1),
            price: t(900),
            periods: 10,
            deposit: 4,
            rule: USUAL,
            image: (id(9), hash(6)),
            sealed: Blob::of(b"sealed"),
            valid_until: Timestamp::default(),
            salt: [0; 16],
        };
        let none = Signature::from_bytes([0; 64]);
        Contract {
            signed: SignedAgreement {
                agreement,
                customer: none,
                farmer: none,
            },
            replaces: None,
            amendments: 0,
            state: ContractState::beginning(NOW, 2, t(900)),
            funded: 4,
            disputes: 0,
        }
    }

    fn change() -> Change {
        let agreement = contract().signed.agreement;
        Change {
            resources: agreement.resources,
            periods: agreement.periods,
            deposit: Some(4),
            image: agreement.image,
            sealed: agreement.sealed,
        }
    }

    fn proposed(change: Change) -> Result<Agreement, ProposalError> {
        let proposed = propose(id(3), &contract(), change, &prices(), NOW);
        proposed.map(|amendment| amendment.expect("it is a change").agreement)
    }

    #[test]
    fn the_price_follows_the_terms_with_the_discount_that_was_agreed() {
        let longer = proposed(Change {
            periods: 20,
            ..change()
        })
        .unwrap();
        assert_eq!((longer.price, longer.periods, longer.deposit), (t(900), 20, 4));
        let larger = proposed(Change {
            resources: resources(2),
            ..change()
        })
        .unwrap();
        assert_eq!(larger.price, t(1_800));
        assert_eq!(scaled(t(10), t(3), t(4)), Some(t(14)), "rounded up");
        assert_eq!(scaled(t(0), t(0), t(7)), Some(t(7)));
        assert_eq!(scaled(t(u64::MAX), t(1), t(2)), None);
    }

    #[test]
    fn what_is_paid_in_covers_what_has_begun_and_no_more_than_all() {
        let deposit = |deposit, periods| {
            let change = Change {
                deposit,
                periods,
                ..change()
            };
            proposed(change).map(|agreement| agreement.deposit)
        };
        assert_eq!(deposit(None, 12), Ok(12));
        assert_eq!(deposit(Some(1), 12), Ok(4));
        assert_eq!(deposit(Some(4), 3), Ok(3));
        assert_eq!(deposit(None, 2), Err(ProposalError::Begun { begun: 3, wanted: 2 }));
    }

    #[test]
    fn what_changes_nothing_and_what_has_ended_is_not_proposed() {
        let propose = |contract: &Contract, change| propose(id(3), contract, change, &prices(), NOW);
        assert_eq!(propose(&contract(), change()), Ok(None));
        let other_deposit = Change {
            deposit: Some(1),
            ..change()
        };
        assert_eq!(propose(&contract(), other_deposit), Ok(None));
        let all = Change {
            deposit: None,
            ..change()
        };
        assert!(matches!(propose(&contract(), all), Ok(Some(_))));
        let ended = Contract {
            state: ContractState::Expired { at: NOW },
            ..contract()
        };
        assert_eq!(propose(&ended, change()), Err(ProposalError::Ended("expired")));
    }

    fn facts() -> Facts {
        Facts {
            contract: contract(),
            node: node(resources(4)),
            assignments: Assignments {
                reserved: Resources { cru: 2, ..resources(1) },
                ..Assignments::default()
            },
            terms: Terms {
                farm: id(3),
                prices: prices(),
                periods: (1, 100),
                rule: USUAL,
                open: true,
            },
            now: NOW,
        }
    }

    #[test]
    fn a_farmer_signs_what_is_proposed_and_names_what_it_does_not_sign() {
        let three = Change {
            resources: resources(3),
            periods: 20,
            ..change()
        };
        let good = propose(id(3), &contract(), three, &prices(), NOW).unwrap().unwrap();
        let judged = |farmer, change: fn(&mut Amendment), facts: &Facts| {
            let mut amendment = good.clone();
            change(&mut amendment);
            judge(id(farmer), &amendment, facts, &Policy::default()).map_err(|reason| reason.to_string())
        };
        assert_eq!(judged(2, |_| {}, &facts()), Ok(()));
        type Doing = fn(&mut Amendment);
        let wrong: [(Doing, &str); 6] = [
            (|a| a.agreement.farmer = id(7), "another farmer"),
            (|a| a.replaces = hash(9), "has changed"),
            (|a| a.agreement.periods = 101, "fewer periods"),
            (|a| a.agreement.valid_until = NOW.plus(4_000_000), "too long"),
            (|a| a.agreement.resources.cru = 4, "not that much free"),
            (|a| a.agreement.price = t(2_699), "at least 0.002700"),
        ];
        for (change, reason) in wrong {
            let refused = judged(2, change, &facts()).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(judged(7, |_| {}, &facts()).is_err());
        let mut closed = facts();
        closed.terms.open = false;
        assert!(judged(2, |_| {}, &closed).unwrap_err().contains("closed"));
    }
}
