//! 3bots: people's and farmers' representatives on the contract chain.
//!
//! | module | idea | IO |
//! |---|---|---|
//! | [`quantity`] | amounts, sizes and times as people write them | none |
//! | [`identity`] | one seed, three keys; encrypted at rest, recovery words | its file |
//! | [`home`], [`policy`] | the home directory, what a farmer's bot may agree to | files |
//! | [`market`] | which nodes suit, the cheapest first | none |
//! | [`negotiation`] | two cores that come to one agreement or none | none |
//! | [`app`], [`deployment`] | what a customer runs and what is to be done about it | files |
//! | [`oci`] | an OCI layout flattened into one squashfs | files |
#![forbid(unsafe_code)]

pub mod app;
pub mod deployment;
pub mod home;
pub mod identity;
pub mod market;
pub mod negotiation;
pub mod oci;
pub mod policy;
pub mod quantity;
