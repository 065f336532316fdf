//! Blocks that were made or checked here and are not decided yet, with what they change: a decided one is not worked out again.

use std::collections::VecDeque;

use ledger::{Block, Hash, machine::Outcome};

/// Most blocks that are kept; rounds beyond the first are rare.
const KEPT: usize = 4;

/// What blocks of the next height change.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    outcomes: VecDeque<(Hash, Outcome)>,
}

impl Checked {
    /// Keeps what a block of this id changes, which builds on the newest one.
    pub(crate) fn keep(&mut self, id: Hash, outcome: Outcome) {
        self.outcomes.retain(|(kept, _)| *kept != id);
        if self.outcomes.len() >= KEPT {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((id, outcome));
    }

    /// What `block` changes, if it is one of those. All others are forgotten: they build on what is the newest block no longer.
    pub(crate) fn take(&mut self, block: &Block) -> Option<Outcome> {
        let id = block.header.id();
        // The id stands for the header alone, and the header for these transactions.
        let whole = block.header.transactions == Block::transactions_hash(&block.transactions);
        let outcomes = std::mem::take(&mut self.outcomes);
        let mut found = outcomes.into_iter().filter(|(kept, _)| whole && *kept == id);
        found.next().map(|(_, outcome)| outcome)
    }
}
