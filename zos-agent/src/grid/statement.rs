//! What the node says of itself on the chain, and when it says so again.

use std::net::{IpAddr, SocketAddr};

use ledger::{
    Hash, Id, Operation, Resources, SigningKey,
    body::{DiskRefusal, Keys, MAX_ADDRESSES, MAX_DISK_REFUSALS, Node},
    text::Text,
    transaction::Join,
};

use super::duties::ChainHead;
use crate::{
    capacity::{Capacity, Hardware},
    disks::Refusal,
};

/// What the node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it offers.
    pub capacity: Resources,
    /// Where its link may be reached.
    pub addresses: Vec<SocketAddr>,
    /// Maker and model.
    pub hardware: Text<128>,
    /// Disks that it does not touch.
    pub refused_disks: Vec<DiskRefusal>,
}

impl Statement {
    /// Puts together what was observed. Addresses that were advertised come first.
    #[must_use]
    pub fn new(
        capacity: &Capacity,
        hardware: &Hardware,
        advertised: &[SocketAddr],
        leased: &[IpAddr],
        port: u16,
        refused: &[Refusal],
    ) -> Self {
        let mut addresses = advertised.to_vec();
        addresses.extend(leased.iter().map(|address| SocketAddr::new(*address, port)));
        addresses.truncate(MAX_ADDRESSES);
        let parts = [&hardware.vendor, &hardware.product, &hardware.processor];
        let hardware: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        let refusal = |refusal: &Refusal| DiskRefusal {
            disk: Text::lossy(refusal.serial.as_deref().unwrap_or(&refusal.name)),
            reason: Text::lossy(&refusal.to_string()),
        };
        Self {
            capacity: Resources {
                cru: capacity.cru,
                mru: capacity.mru,
                sru: capacity.sru,
                hru: capacity.hru,
            },
            addresses,
            hardware: Text::lossy(&hardware.join(", ")),
            refused_disks: refused.iter().take(MAX_DISK_REFUSALS).map(refusal).collect(),
        }
    }
}

/// The right to join a farm.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The farm.
    pub farm: Id,
    /// The farm's enrolment key, if the boot media carry it.
    pub key: Option<SigningKey>,
}

/// What there is to say, given what stands on the chain; nothing while both agree, but that the node is there, from time to
/// time.
///
/// # Errors
/// One line that says why the node cannot join.
pub fn decide(
    ours: &Statement,
    on_chain: Option<&Node>,
    keys: &Keys,
    enrolment: Option<&Enrolment>,
    chain: Hash,
    head: ChainHead,
) -> Result<Option<Operation>, &'static str> {
    let Some(node) = on_chain else {
        let enrolment = enrolment.ok_or("no farm is named: boot the farm's own media")?;
        let key = enrolment
            .key
            .as_ref()
            .ok_or("the boot media carry no enrolment key of the farm")?;
        return Ok(Some(Operation::JoinNode(Join {
            farm: enrolment.farm,
            keys: *keys,
            capacity: ours.capacity,
            addresses: ours.addresses.clone(),
            hardware: ours.hardware.clone(),
            refused_disks: ours.refused_disks.clone(),
            enrolment: Join::consent(chain, key, enrolment.farm, keys),
        })));
    };
    let same = node.capacity == ours.capacity
        && node.addresses == ours.addresses
        && node.hardware == ours.hardware
        && node.refused_disks == ours.refused_disks;
    if !same {
        return Ok(Some(Operation::UpdateNode {
            capacity: ours.capacity,
            addresses: ours.addresses.clone(),
            hardware: ours.hardware.clone(),
            refused_disks: ours.refused_disks.clone(),
        }));
    }
    let attests = node.state.attests_at().is_some_and(|at| at.millis() <= head.time_ms);
    Ok(attests.then_some(Operation::Attest {
        block: (head.height, head.id),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Timestamp, body::NodeState};

    fn statement() -> Statement {
        Statement {
            capacity: Resources {
                cru: 1,
                mru: 2,
                sru: 3,
                hru: 4,
            },
            addresses: vec!["127.0.0.1:7770".parse().unwrap()],
            hardware: Text::lossy("box"),
            refused_disks: vec![],
        }
    }

    fn keys() -> Keys {
        let public = SigningKey::from_seed(&[1; 32]).public();
        Keys {
            signing: public,
            link: public,
            encryption: public,
        }
    }

    fn on_chain(ours: &Statement) -> Node {
        Node {
            farm: Id::CHAIN,
            keys: keys(),
            capacity: ours.capacity,
            addresses: ours.addresses.clone(),
            hardware: ours.hardware.clone(),
            refused_disks: ours.refused_disks.clone(),
            state: NodeState::Active {
                seen: Timestamp::from_millis(1_000),
                until: Timestamp::from_millis(3_000),
            },
        }
    }

    fn head(time_ms: u64) -> ChainHead {
        ChainHead {
            height: 7,
            id: Hash::ZERO,
            time_ms,
        }
    }

    fn decided(on_chain: Option<&Node>, enrolment: Option<&Enrolment>) -> Result<Option<Operation>, &'static str> {
        decide(&statement(), on_chain, &keys(), enrolment, Hash::ZERO, head(1_999))
    }

    #[test]
    fn an_unknown_node_joins_with_the_farms_consent_and_says_what_is_missing() {
        let enrolment = Enrolment {
            farm: Id::CHAIN,
            key: Some(SigningKey::from_seed(&[2; 32])),
        };
        assert!(matches!(
            decided(None, Some(&enrolment)),
            Ok(Some(Operation::JoinNode(_)))
        ));
        assert!(decided(None, Some(&Enrolment { key: None, ..enrolment })).is_err());
        assert!(decided(None, None).is_err());
    }

    #[test]
    fn a_member_attests_in_good_time_and_at_once_when_it_is_missed() {
        let attests = |node: &Node, time| {
            let said = decide(&statement(), Some(node), &keys(), None, Hash::ZERO, head(time)).unwrap();
            matches!(said, Some(Operation::Attest { block: (7, Hash::ZERO) }))
        };
        let mut node = on_chain(&statement());
        assert!(!attests(&node, 1_999) && attests(&node, 2_000));
        node.state = NodeState::Gone {
            since: Timestamp::from_millis(1_000),
        };
        assert!(attests(&node, 1_000));
        node.state = NodeState::Expelled;
        assert!(!attests(&node, 9_000));
    }

    #[test]
    fn a_member_speaks_only_when_something_has_changed() {
        let mut node = on_chain(&statement());
        assert_eq!(decided(Some(&node), None), Ok(None));
        node.capacity.cru += 1;
        assert!(matches!(
            decided(Some(&node), None),
            Ok(Some(Operation::UpdateNode { .. }))
        ));
    }
}
