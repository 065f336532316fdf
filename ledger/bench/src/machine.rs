//! What the kernel knows of processes and of the network.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Gives this process, and those that it starts, a network of their own in which nothing but they is heard.
///
/// # Errors
/// When the process may not, for it needs root.
pub fn own_network() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("make a network namespace; the bench needs root")
}

/// Switches the loopback interface of the own network on.
///
/// # Errors
/// When the kernel refuses.
pub async fn loopback_up() -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let loopback = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle
        .link()
        .set(loopback)
        .execute()
        .await
        .context("switch the loopback interface on")
}

/// Bytes that went over the loopback interface, with the heads of their packets.
///
/// # Errors
/// When the kernel does not tell.
pub fn loopback_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next());
    Ok(received.context("/proc/net/dev has no loopback interface")?.parse()?)
}

/// Memory that a process has in use.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.context("no VmRSS")?.parse::<u64>()? * 1_024)
}

/// Bytes of a file that are on the disk.
///
/// # Errors
/// When there is no such file.
pub fn disk_bytes(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let about = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(about.blocks() * 512)
}
