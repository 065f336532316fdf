//! What records say, one file a kind.

mod account;
mod assignments;
mod charter;
mod contract;
mod entity;
mod escrow;
mod farm;
mod image;
mod misconduct;
mod name;
mod node;
mod release;
mod terms;

pub use account::Account;
pub use assignments::{Assignments, MAX_CONTRACTS};
pub use charter::{ATTEST_MS, Charter, CharterError, Upgrade};
pub use contract::{Claim, Contract, ContractState, Failure, Period};
pub use entity::{Entity, Keys, MAX_ADDRESSES};
pub use escrow::Escrow;
pub use farm::{Enrolment, Farm, Location, MAX_ENROLMENTS};
pub use image::{Blob, Image};
pub use misconduct::{Misconduct, MisconductError, Pair};
pub use name::{LABEL_LENGTH, Label, LabelError, Name};
pub use node::{DiskRefusal, MAX_DISK_REFUSALS, Node, NodeState};
pub use release::{Channel, MAX_RELEASE_KEYS, MAX_STAGED, Release, ReleaseKeys, choose};
pub use terms::{MAX_PERIODS, Prices, SettlementRule, Terms, TermsError};
