//! Whether a farmer's bot makes an offer: chain and policy on one side, a request on the other.

use ledger::{
    Hash, Id, Timestamp,
    body::{Assignments, Entity, Farm, Image, Node, Terms},
};

use crate::{
    negotiation::{Ask, Reason, Request},
    policy::Policy,
};

/// What stands on the chain about a request, proven.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who asks.
    pub customer: Entity,
    /// The wanted node.
    pub node: Node,
    /// What is reserved on it.
    pub assignments: Assignments,
    /// The node's farm.
    pub farm: Farm,
    /// The terms and their version.
    pub terms: (Hash, Terms),
    /// The image and its version.
    pub image: (Hash, Image),
    /// Live contracts on all nodes of the farmer.
    pub live_contracts: usize,
    /// The time.
    pub now: Timestamp,
}

/// Whether it asks over the link of its own record.
///
/// # Errors
/// The reason, in words for the customer.
pub fn check_link(customer: &Entity, asked_over: &[u8; 32]) -> Result<(), Reason> {
    if customer.keys.link.as_bytes() != asked_over {
        return Err(Reason::lossy("this link is not the customer's"));
    }
    Ok(())
}

/// Whether the policy has nothing against a customer.
///
/// # Errors
/// The reason, in words for the customer.
pub fn admit(id: Id, policy: &Policy) -> Result<(), Reason> {
    let refuse = |reason: &str| Err(Reason::lossy(reason));
    if !policy.accept {
        return refuse("this farmer takes no contracts now");
    }
    if policy.blocked.contains(&id) {
        return refuse("this farmer does not deal with this customer");
    }
    Ok(())
}

/// What is asked for the request of a customer who was admitted, or why nothing is offered.
///
/// # Errors
/// The reason, in words for the customer.
pub fn judge(farmer: Id, request: &Request, facts: &Facts, policy: &Policy) -> Result<Ask, Reason> {
    let refuse = |reason: &str| Err(Reason::lossy(reason));
    if usize::try_from(policy.max_contracts).is_ok_and(|most| facts.live_contracts >= most) {
        return refuse("this farmer has as many contracts as it takes");
    }
    let (terms_version, terms) = &facts.terms;
    if facts.farm.owner != farmer || terms.farm != facts.node.farm {
        return refuse("node, terms and farmer do not belong together");
    }
    if !facts.node.state.is_rentable() {
        return Err(Reason::lossy(&format!("the node is {}", facts.node.state.name())));
    }
    if *terms_version != request.terms.1 || !terms.open {
        return refuse("the terms have changed");
    }
    if !(terms.periods.0..=terms.periods.1).contains(&request.periods) {
        return refuse("the terms allow another number of periods");
    }
    let resources = request.resources;
    if resources.cru == 0 || resources.mru == 0 {
        return refuse("a workload needs at least one thread and memory");
    }
    if !facts
        .node
        .capacity
        .saturating_sub(facts.assignments.reserved)
        .contains(resources)
    {
        return refuse("the node has not that much free");
    }
    let (image_version, image) = &facts.image;
    if *image_version != request.image.1 {
        return refuse("the image has changed");
    }
    if image.root.size > resources.sru.saturating_add(resources.hru) {
        return refuse("the image is larger than the storage that is asked for");
    }
    let Some(price) = terms.prices.of(&resources, terms.rule.period_ms) else {
        return refuse("the price is not representable");
    };
    Ok(Ask {
        price,
        concession: policy.concession(price),
        rule: terms.rule,
        valid_until: facts.now.plus(u64::from(policy.offer_valid_seconds) * 1_000),
        customer_key: facts.customer.keys.signing,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ledger::{
        PublicKey, Resources, Tokens,
        body::{Blob, Keys, Location, NodeState, Prices, SettlementRule},
        text::Text,
    };

    fn id(seed: u8) -> Id {
        Id::from_hash(hash(seed))
    }

    fn hash(seed: u8) -> Hash {
        Hash::from_bytes([seed; 32])
    }

    fn keys() -> Keys {
        let key = PublicKey::from_bytes([1; 32]);
        Keys {
            signing: key,
            link: key,
            encryption: key,
        }
    }

    /// A node of the farm 3.
    pub(crate) fn node(capacity: Resources) -> Node {
        Node {
            farm: id(3),
            keys: keys(),
            capacity,
            addresses: vec![],
            hardware: Text::default(),
            refused_disks: vec![],
            state: NodeState::Joined {
                until: Timestamp::default(),
            },
        }
    }

    fn terms() -> Terms {
        let tokens = Tokens::from_micro(1_000);
        Terms {
            farm: id(3),
            prices: Prices {
                cru_hour: tokens,
                mru_gib_hour: tokens,
                sru_gib_hour: tokens,
                hru_gib_hour: tokens,
            },
            periods: (1, 10),
            rule: SettlementRule {
                period_ms: 3_600_000,
                grace_ms: 1_000,
                acknowledge_ms: 1_000,
                deploy_ms: 1_000,
                suspend_ms: 1_000,
                tolerance_permille: 1,
                unconfirmed_permille: 1,
                missed_limit: 1,
                dispute_limit: 1,
            },
            open: true,
        }
    }

    fn facts() -> Facts {
        let blob = Blob {
            hash: hash(7),
            size: 100,
        };
        Facts {
            customer: Entity {
                keys: keys(),
                name: Text::default(),
                addresses: vec![],
                recovery: None,
            },
            node: node(Resources {
                cru: 4,
                mru: 1_000,
                sru: 1_000,
                hru: 0,
            }),
            assignments: Assignments::default(),
            farm: Farm {
                owner: id(2),
                name: Text::default(),
                location: Location {
                    country: *b"BE",
                    latitude: 0,
                    longitude: 0,
                },
                enrolments: vec![],
            },
            terms: (hash(5), terms()),
            image: (
                hash(6),
                Image {
                    owner: id(1),
                    name: Text::default(),
                    root: blob,
                    config: blob,
                },
            ),
            live_contracts: 0,
            now: Timestamp::from_millis(1_000),
        }
    }

    fn request() -> Request {
        Request {
            customer: id(1),
            terms: (id(4), hash(5)),
            node: id(8),
            resources: Resources {
                cru: 2,
                mru: 100,
                sru: 200,
                hru: 0,
            },
            periods: 5,
            deposit: 5,
            image: (id(9), hash(6)),
            sealed: Blob {
                hash: hash(10),
                size: 1,
            },
            salt: [0; 16],
        }
    }

    #[test]
    fn a_fitting_request_is_offered_the_asking_price() {
        let ask = judge(id(2), &request(), &facts(), &Policy::default()).unwrap();
        // Two threads for an hour, and a micro-token for each begun part of memory and storage.
        assert_eq!(ask.price, Tokens::from_micro(2_002));
        assert_eq!(ask.valid_until, Timestamp::from_millis(301_000));
    }

    #[test]
    fn who_asks_is_checked_before_what_is_asked() {
        let customer = facts().customer;
        let link = |over| check_link(&customer, &[over; 32]).map_err(|reason| reason.to_string());
        assert_eq!(link(1), Ok(()));
        assert!(link(9).unwrap_err().contains("this link"));
        let check = |policy: &Policy| admit(id(1), policy).map_err(|reason| reason.to_string());
        let policy = Policy::default();
        assert_eq!(check(&policy), Ok(()));
        let closed = Policy {
            accept: false,
            ..Policy::default()
        };
        assert!(check(&closed).unwrap_err().contains("no contracts now"));
        let blocking = Policy {
            blocked: [id(1)].into(),
            ..Policy::default()
        };
        assert!(check(&blocking).unwrap_err().contains("does not deal"));
    }

    type Change = fn(&mut Facts, &mut Request, &mut Policy);

    #[test]
    fn whatever_does_not_fit_is_refused_by_name() {
        let cases: [(Change, &str); 12] = [
            (|_, _, p| p.max_contracts = 0, "as many contracts"),
            (|f, _, _| f.farm.owner = id(7), "belong together"),
            (|f, _, _| f.node.farm = id(7), "belong together"),
            (|f, _, _| f.node.state = NodeState::Expelled, "expelled"),
            (|f, _, _| f.terms.0 = hash(1), "terms have changed"),
            (|f, _, _| f.terms.1.open = false, "terms have changed"),
            (|_, r, _| r.periods = 11, "another number"),
            (|_, r, _| r.resources.cru = 0, "at least one thread"),
            (|_, r, _| r.resources.cru = 5, "that much free"),
            (|f, _, _| f.assignments.reserved.cru = 3, "that much free"),
            (|f, _, _| f.image.0 = hash(1), "image has changed"),
            (|f, _, _| f.image.1.root.size = 201, "larger than the storage"),
        ];
        for (change, reason) in cases {
            let (mut facts, mut request, mut policy) = (facts(), request(), Policy::default());
            change(&mut facts, &mut request, &mut policy);
            let refused = judge(id(2), &request, &facts, &policy).unwrap_err();
            assert!(refused.as_str().contains(reason), "{refused} for {reason}");
        }
    }
}
