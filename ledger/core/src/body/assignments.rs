use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{record::Id, unit::Resources};

/// Most contracts that are live on one node.
pub const MAX_CONTRACTS: usize = 1_024;

/// The complete set of contracts that are live on a node, under the node's id. Because the set is one record, a proof of it
/// is a proof that nothing was left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Assignments {
    /// Contracts that are neither ended nor failed.
    pub contracts: BTreeSet<Id>,
    /// Sum of the resources that they reserve.
    pub reserved: Resources,
}
