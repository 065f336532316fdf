//! 3bots: people's and farmers' representatives on the contract chain.
//!
//! | module | idea | IO |
//! |---|---|---|
//! | [`who`] | each other, as people write them | none |
//! | [`identity`] | a seed, three keys; encrypted at rest, recovery words | its file |
//! | [`keys`] | | rotates them, recovers them |
//! | [`home`], [`policy`] | the home directory, what a farmer's bot may agree to | files |
//! | [`market`], [`bounds`] | which nodes and rules suit, the cheapest first | none |
//! | [`negotiation`] | two cores that come to one agreement or none | none |
//! | [`app`], [`deployment`] | what a customer runs and what is to be done about it | files |
//! | [`acceptance`] | whether a farmer's bot makes an offer | none |
//! | [`amendment`] | what a customer proposes for a contract that runs, and whether a farmer signs it | none |
//! | [`oci`] | an OCI layout flattened into one squashfs | files |
//! | [`bot`], [`serve`] | the daemon: keys, chain, links, deployments | all |
//! | [`control`] | what command line and daemon say to each other | none |
//!
//! Architecture invariant: only the daemon holds the link key and speaks to chain and peers; every command of the command
//! line that needs them asks the daemon.
#![forbid(unsafe_code)]

pub mod acceptance;
pub mod amendment;
pub mod app;
pub mod bot;
pub mod bounds;
pub mod control;
pub mod deployment;
pub mod home;
pub mod identity;
pub mod keys;
pub mod market;
pub mod negotiation;
pub mod oci;
pub mod policy;
pub mod replacement;
pub mod serve;
pub mod who;
