//! Early user space: what PID 1 of a node and PID 1 of a micro-VM share, and both of them.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`] | the node's PID 1: the order of its boot, its event loop |
//! | [`guest`] | the micro-VM's PID 1 |
//! | [`supervise`] | the life of one supervised process as a pure state machine |
//! | [`modules`] | kernel modules: alias database, dependency order, loading, hotplug |
//! | [`verify`] | the image against its manifest |
//! | [`mounts`], [`sysctl`], [`cgroup`] | what the kernel is told at boot, as tables |
//! | [`netlink`], [`link`], [`power`] | netlink messages; addresses and routes; the power button |
//! | [`spawn`], [`reap`], [`ending`] | starting and collecting processes, ending the machine |
//! | [`console`], [`milestone`], [`log_file`], [`ring`] | what is said, and where it is kept |
//! | [`monotonic`], [`wait`], [`background`], [`sys`] | time as a value, threads, waiting on descriptors, the few raw system calls |
//!
//! Architecture invariants: nothing here knows of a ledger; the only unsafe code is in [`sys`]; decisions
//! every wait has an end.

pub mod background;
pub mod cgroup;
pub mod console;
pub mod ending;
pub mod guest;
pub mod link;
pub mod log_file;
pub mod milestone;
pub mod modules;
pub mod monotonic;
pub mod mounts;
pub mod netlink;
pub mod node;
pub mod power;
pub mod reap;
pub mod ring;
pub mod spawn;
pub mod supervise;
pub mod sys;
pub mod sysctl;
pub mod verify;
pub mod wait;
