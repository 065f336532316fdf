//! The real monitor: on the machine's KVM with kernels of a few instructions, and in its jail.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod jail;
mod machine;
mod rig;
mod violation;
