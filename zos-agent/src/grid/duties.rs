//! What the node owes the chain for its contracts: acknowledgement, progress, reports.

use ledger::{
    Hash, Header, Height, Id, Operation,
    body::{Contract, ContractState},
    text::Text,
    transaction::Step,
};

use super::docket::Entry;

/// What is known of a contract's workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether its process runs, or has run and is started again.
    pub begun: bool,
}

/// The newest verified block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: Hash,
    /// Its time in milliseconds.
    pub time_ms: u64,
}

impl ChainHead {
    /// What a header says.
    #[must_use]
    pub fn of(header: &Header) -> Self {
        Self {
            height: header.height,
            id: header.id(),
            time_ms: header.time.millis(),
        }
    }
}

/// Decides the next thing to say about a contract, if there is one. Said again until the chain shows it, so that nothing is
/// lost by a crash or an outage.
#[must_use]
pub fn duty(id: Id, entry: &Entry, seen: Seen, head: ChainHead) -> Option<Operation> {
    let contract = &entry.contract;
    let step = |step| Some(Operation::Progress { contract: id, step });
    match contract.state {
        _ if contract.ended().is_none() && entry.problem.is_some() => {
            step(Step::Refused(Text::lossy(entry.problem.as_deref().unwrap_or_default())))
        }
        // Whoever reserves capacity and sends no workload has it for the shorter of both times alone.
        ContractState::Agreed { .. } if entry.workload.is_none() => None,
        ContractState::Agreed { .. } => step(Step::Acknowledged),
        ContractState::Deploying { .. } => seen.begun.then_some(Operation::Progress {
            contract: id,
            step: Step::Running,
        }),
        ContractState::Active { report: None, .. } => report(id, entry, contract, head),
        _ => None,
    }
}

fn report(id: Id, entry: &Entry, contract: &Contract, head: ChainHead) -> Option<Operation> {
    let period = contract.open_period()?;
    let (began, end) = (period.began.millis(), period.end.millis());
    (head.time_ms >= end).then(|| Operation::Report {
        contract: id,
        period: period.index,
        up_ms: entry.uptime.within(began, end),
        block: (head.height, head.id),
    })
}

#[cfg(test)]
mod tests {
    use ledger::Timestamp;

    use super::*;
    use crate::grid::fixture;

    #[test]
    fn contract_is_acknowledged_once_its_workload_is_here() {
        let acknowledge_by = Timestamp::from_millis(9);
        let record = fixture::contract(1, ContractState::Agreed { acknowledge_by });
        let mut entry = Entry::new(record).unwrap();
        let head = ChainHead {
            height: 7,
            id: Hash::ZERO,
            time_ms: 1,
        };
        let due = |entry: &Entry| duty(entry.record.id, entry, Seen::default(), head);
        assert_eq!(due(&entry), None);
        entry.workload = Some(fixture::workload());
        let contract = entry.record.id;
        let step = Step::Acknowledged;
        assert_eq!(due(&entry), Some(Operation::Progress { contract, step }));
    }

    #[test]
    fn what_can_never_run_is_refused_whatever_ran_before() {
        let mut entry = Entry::new(fixture::contract(1, fixture::active())).unwrap();
        entry.problem = Some("too large".into());
        let head = ChainHead {
            height: 7,
            id: Hash::ZERO,
            time_ms: 1,
        };
        let seen = Seen { begun: true };
        let refused = duty(entry.record.id, &entry, seen, head);
        let Some(Operation::Progress { step, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(step, Step::Refused(Text::lossy("too large")));
    }

    #[test]
    fn report_waits_until_the_chain_has_passed_the_end_of_its_period() {
        let record = fixture::contract(1, fixture::active());
        let mut entry = Entry::new(record).unwrap();
        // The node's own clock runs ahead of the chain's.
        entry.uptime.add(2_000, 13_000);
        let at = |time_ms| {
            let head = ChainHead {
                height: 7,
                id: Hash::ZERO,
                time_ms,
            };
            duty(entry.record.id, &entry, Seen::default(), head)
        };
        assert_eq!(at(9_999), None);
        let Some(Operation::Report { period, up_ms, .. }) = at(10_000) else {
            panic!("{:?}", at(10_000))
        };
        assert_eq!(
            (period, up_ms),
            (0, 8_000),
            "what ran after the end belongs to the next period"
        );
    }
}
