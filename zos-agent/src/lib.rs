//! The agent of a node: makes the machine match what the chain says was agreed.
//!
//! Data flows one way: settings, disks and network are observed; pure functions decide; thin shells do.
//!
//! | module | decides (pure) | does |
//! |---|---|---|
//! | [`settings`] | command line and farm media → settings | – |
//! | [`disks`] | facts → may it be written | reads `/sys/block`, the disks' ends, a disk in full |
//! | [`layout`], [`pool`] | bytes of our mark and partition table | formats, mounts |
//! | [`storage`] | – | brings disks from found to mounted |
//! | [`home`] | which disk is home; may an identity be made | reads and writes the record of it |
//! | [`place`] | which disk holds a workload's data | – |
//! | [`identity`] | which of several copies holds | reads and writes the key files |
//! | [`capacity`] | hardware → resource units | reads `/proc` and `/sys` |
//! | [`net`] | DHCP state machine | netlink, sockets |
//! | [`guest_net`] | rule set, addresses of guests | taps, nft |
//! | [`vm`] | what a monitor is given | opens it, spawns, adopts, watches |
//! | [`reconcile`] | desired, observed → plan | carries out a plan |
//! | [`machine`] | – | what runs; carries out a plan on it |
//! | [`grid`] | statements, duties, uptime, processes | speaks with the chain and with customers |
//! | [`watch`] | – | asks guests how they are |
//! | [`agent`] | – | puts all of it together |
//! | [`console`] | status → lines | writes them |
//! | [`heartbeat`], [`init_client`] | – | liveness and readiness |
//!
//! Architecture invariant: only [`pool`] writes to a disk that it was not told to mount, and only after
//! [`disks::decide`](disks::decide()).

pub mod agent;
pub mod capacity;
pub mod console;
pub mod disks;
pub mod durable;
pub mod grid;
pub mod guest_net;
pub mod heartbeat;
pub mod home;
pub mod identity;
pub mod init_client;
pub mod layout;
pub mod machine;
pub mod net;
pub mod place;
pub mod pool;
pub mod reconcile;
pub mod settings;
pub mod storage;
mod sys;
pub mod text;
pub mod vm;
pub mod watch;
