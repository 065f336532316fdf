use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{record::Id, unit::Tokens};

/// The money of a contract, under the contract's id. What was deposited is always what is held, paid, returned and
/// withheld.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Escrow {
    /// Who deposited it and receives the rest.
    pub customer: Id,
    /// Who is paid.
    pub farmer: Id,
    /// What was deposited.
    pub deposited: Tokens,
    /// What is held.
    pub held: Tokens,
    /// What the farmer has received.
    pub paid: Tokens,
    /// What has returned to the customer.
    pub returned: Tokens,
    /// What the customer paid for and the farmer could not show: neither has it, it went to the chain's own account.
    pub withheld: Tokens,
}

impl Escrow {
    /// What the contract has cost its customer.
    #[must_use]
    pub const fn cost(&self) -> Tokens {
        self.paid.saturating_add(self.withheld)
    }
}
