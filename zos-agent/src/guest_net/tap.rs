//! Makes taps and loads the rule set.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
};

use super::{FLOWS_OF_A_GUEST, GUEST_PREFIX, Slot};
use crate::net::links::{LinkError, Links};

/// The program that loads a rule set, in the image.
pub const NFT: &str = "/sbin/nft";

/// Why the guests' network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The tap could not be made.
    #[error("make the tap {0}")]
    Tap(String, #[source] io::Error),
    /// The kernel refused a change of the tap.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel refused a setting.
    #[error("set {0}")]
    Setting(&'static str, #[source] io::Error),
    /// nft could not be run.
    #[error("run {NFT}")]
    Nft(#[source] io::Error),
    /// nft refused the rule set; what was in force stays in force.
    #[error("{NFT}: {0}")]
    Refused(String),
}

/// Makes the tap of a slot, with the node's address on it. It lasts for as long as the descriptor or a copy of it is open.
///
/// # Errors
/// [`NetError`].
pub async fn open_tap(links: &Links, slot: Slot) -> Result<OwnedFd, NetError> {
    let name = slot.tap();
    let tap_error = |source| NetError::Tap(name.clone(), source);
    let tun: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(tap_error)?
        .into();
    crate::sys::attach_tap(&tun, &name).map_err(tap_error)?;
    let index = Links::index_of(&name)?;
    // Guests have no IPv6 yet, and the node none on their taps. Best effort: a kernel without IPv6 has no such file.
    _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    links.address(&name, index, slot.gateway(), GUEST_PREFIX).await?;
    links.up(&name, index).await?;
    Ok(tun)
}

/// Ends a tap. Dropping the last descriptor removes the interface and its addresses.
pub fn close_tap(tap: OwnedFd) {
    drop(tap);
}

/// Settings that go with the rules. The table of flows is there once a rule asks for a flow's state; it has room for 64 guests that use all
/// of theirs; it takes 320 bytes of memory for each flow that there is. An established TCP flow is forgotten after the least
/// time that RFC 5382 (REQ-5) allows; the kernel's own is five days.
const SETTINGS: [(&str, u32); 3] = [
    ("/proc/sys/net/netfilter/nf_conntrack_max", 64 * FLOWS_OF_A_GUEST),
    ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", 7440),
    ("/proc/sys/net/ipv4/ip_forward", 1),
];

/// Loads a rule set, bounds the table of flows and then switches forwarding on, so that nothing is ever forwarded without rules.
/// Blocks for a few milliseconds.
///
/// # Errors
/// [`NetError`].
pub fn apply(ruleset: &str) -> Result<(), NetError> {
    load(Path::new(NFT), ruleset)?;
    for (setting, value) in SETTINGS {
        fs::write(setting, value.to_string()).map_err(|error| NetError::Setting(setting, error))?;
    }
    Ok(())
}

fn load(nft: &Path, ruleset: &str) -> Result<(), NetError> {
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NetError::Nft)?;
    if let Some(mut stdin) = child.stdin.take() {
        // nft that ended early closes the pipe; its own words come below.
        _ = stdin.write_all(ruleset.as_bytes());
    }
    let output = child.wait_with_output().map_err(NetError::Nft)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(NetError::Refused(
        said.lines().next().unwrap_or("no reason given").to_owned(),
    ))
}
