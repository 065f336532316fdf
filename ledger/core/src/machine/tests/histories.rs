//! Random histories.

use proptest::prelude::*;

use super::*;
use crate::{
    sets::{self, Set},
    tree::prove_below,
};

/// One step of a random history.
#[derive(Debug, Clone)]
enum Act {
    /// Salt, periods, and how many of them are deposited.
    Agree(u8, u32, u32),
    Fund(usize, u32),
    /// Which contract, periods, deposit, threads and price.
    Amend(usize, u32, u32, u64, u64),
    Step(usize, u8),
    Claim(usize, u64, bool),
    Cancel(usize, bool),
    Transfer(u64, bool),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (any::<u8>(), 1_u32..5, 1_u32..4).prop_map(|(salt, periods, deposit)| Act::Agree(salt, periods, deposit)),
        (0_usize..8, 0_u32..3).prop_map(|(which, periods)| Act::Fund(which, periods)),
        (0_usize..8, 0_u32..6, 0_u32..6, 0_u64..4, 0_u64..2_000)
            .prop_map(|(which, periods, deposit, cru, price)| Act::Amend(which, periods, deposit, cru, price)),
        (0_usize..8, 0_u8..3).prop_map(|(which, step)| Act::Step(which, step)),
        (0_usize..8, 0_u64..20_000, any::<bool>()).prop_map(|(which, up, node)| Act::Claim(which, up, node)),
        (0_usize..8, any::<bool>()).prop_map(|(which, customer)| Act::Cancel(which, customer)),
        (0_u64..SUPPLY * 2, any::<bool>()).prop_map(|(amount, back)| Act::Transfer(amount, back)),
        (0_u64..20_000).prop_map(Act::Wait),
    ];
    proptest::collection::vec(act, 1..60)
}

impl World {
    fn act(&mut self, act: Act, contracts: &mut Vec<Id>) {
        let pick = |which: usize| {
            contracts
                .get(which % contracts.len().max(1))
                .copied()
                .unwrap_or(Id::CHAIN)
        };
        // Whatever is refused has changed nothing, which `block` checks.
        let _ = match act {
            Act::Agree(salt, periods, deposit) => {
                let agreement = self.agreement(salt, 1, periods).agreement;
                let deposit = deposit.min(periods);
                let signed = self.signed(Agreement { deposit, ..agreement });
                contracts.push(signed.agreement.contract_id());
                self.try_one(CUSTOMER, Operation::Agree(signed))
            }
            Act::Fund(which, periods) => {
                let contract = pick(which);
                let known = self.store.latest.get(&RecordKey::new(Kind::Contract, contract));
                let funded = known
                    .and_then(|known| Contract::of(&known.body))
                    .map_or(0, |known| known.funded);
                let funded = funded + periods;
                self.try_one(CUSTOMER, Operation::Fund { contract, funded })
            }
            Act::Amend(which, periods, deposit, cru, price) => {
                let contract = pick(which);
                if !self
                    .store
                    .latest
                    .contains_key(&RecordKey::new(Kind::Contract, contract))
                {
                    return;
                }
                self.amend(contract, |agreement| {
                    agreement.periods = periods;
                    agreement.deposit = deposit;
                    agreement.resources.cru = cru;
                    agreement.price = Tokens::from_micro(price);
                })
            }
            Act::Step(which, step) => {
                let step =
                    [Step::Acknowledged, Step::Running, Step::Refused(Text::lossy("no"))][usize::from(step)].clone();
                self.try_one(
                    NODE,
                    Operation::Progress {
                        contract: pick(which),
                        step,
                    },
                )
            }
            Act::Claim(which, up_ms, by_node) => self.claim(pick(which), up_ms, by_node),
            Act::Cancel(which, customer) => self.try_one(
                if customer { CUSTOMER } else { FARMER },
                Operation::Cancel { contract: pick(which) },
            ),
            Act::Transfer(amount, back) => {
                let (from, to) = if back { (FARMER, CUSTOMER) } else { (CUSTOMER, FARMER) };
                self.try_one(
                    from,
                    Operation::Transfer {
                        to: author(to),
                        amount: Tokens::from_micro(amount),
                    },
                )
            }
            Act::Wait(millis) => {
                self.wait(millis);
                Ok(())
            }
        };
    }

    /// What one party says of the period that is settled next.
    fn claim(&mut self, contract: Id, up_ms: u64, by_node: bool) -> Result<(), Refusal> {
        let known = self.store.latest.get(&RecordKey::new(Kind::Contract, contract));
        let open = known.and_then(|known| Contract::of(&known.body)?.open_period());
        let period = open.map_or(0, |open| open.index);
        if by_node {
            self.report(contract, period, up_ms)
        } else {
            self.receipt(contract, period, up_ms)
        }
    }

    fn history(&self, latest: &Record) -> Vec<Record> {
        let mut versions = vec![];
        let mut previous = latest.previous;
        while previous != Hash::ZERO {
            let record = self.store.versions[&previous].clone();
            previous = record.previous;
            versions.push(record);
        }
        versions
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_histories_conserve_tokens_and_links_and_give_the_same_root_again(acts in acts()) {
        let run = || {
            let mut world = World::furnished();
            let mut contracts = vec![];
            for act in acts.clone() {
                world.act(act, &mut contracts);
            }
            world
        };
        let world = run();
        for latest in world.store.latest.values() {
            verify_history(latest, &world.history(latest)).unwrap();
        }
        let assignments = world.get::<Assignments>(author(NODE));
        let live = |record: &&Record| matches!(&record.body, Body::Contract(contract) if contract.ended().is_none());
        let expected: std::collections::BTreeSet<Id> = world.store.latest.values().filter(live).map(|r| r.id).collect();
        prop_assert_eq!(assignments.contracts, expected);
        let mut sets: BTreeMap<Set, Vec<Id>> = BTreeMap::new();
        for record in world.store.latest.values() {
            for set in sets::of(record) {
                sets.entry(set).or_default().push(record.id);
            }
        }
        for kind in [Kind::Contract, Kind::Farm, Kind::Node, Kind::Terms, Kind::Image] {
            for of in [author(CUSTOMER), author(FARMER), author(NODE), farm()] {
                let set = Set { kind, of };
                let proof = prove_below(&world.store, world.store.root, set.region(), 1_000).unwrap().unwrap();
                let leaves = proof.verify(world.store.root, set.region()).unwrap();
                prop_assert_eq!(set.members(&leaves), sets.get(&set).cloned().unwrap_or_default());
            }
        }
        prop_assert_eq!(world.store.root, run().store.root);
    }
}
