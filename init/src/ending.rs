//! The end of the machine: everything killed, everything unmounted, nothing lost.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use node_api::mountinfo::mount_points;
use rustix::{
    mount::{MountFlags, UnmountFlags, mount_remount, unmount},
    system::{RebootCommand, reboot},
};

use crate::{console, monotonic::Monotonic, reap};

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Power off.
    PowerOff,
    /// Start again.
    Reboot,
}

/// Pause between a fatal error's message and the restart, long enough to be read.
pub const FATAL_PAUSE: Duration = Duration::from_secs(5);
/// Pause between the refusal of the machine or its image and the power-off.
pub const REFUSAL_PAUSE: Duration = Duration::from_secs(10);
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Most mounts that are undone, a bound against a table that grows while it is walked.
const MOST_MOUNTS: usize = 4096;
/// What the kernel needs to the last.
const KERNELS_OWN: &[&str] = &["/", "/proc", "/sys", "/dev"];

/// Makes a panic anywhere in the process end in a message, a sync and a restart of the machine.
pub fn restart_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        fatal(&text);
    }));
}

/// Says why, waits, and restarts the machine.
pub fn fatal(why: &str) -> ! {
    rustix::fs::sync();
    console::say(&format!("fatal: {why}; restart in {} s", FATAL_PAUSE.as_secs()));
    thread::sleep(FATAL_PAUSE);
    now(End::Reboot)
}

/// Says why this machine or its image is refused, waits, and powers off. Not a restart: it would come here again, and
/// a machine that is off is seen.
pub fn refuse(why: &str) -> ! {
    rustix::fs::sync();
    console::say(why);
    console::say(&format!(
        "refusing to go on; power off in {} s",
        REFUSAL_PAUSE.as_secs()
    ));
    thread::sleep(REFUSAL_PAUSE);
    now(End::PowerOff)
}

/// Kills every other process and collects it.
pub fn kill_everything() {
    let began = Monotonic::now();
    while Monotonic::now().since(began) < KILL_WAIT {
        // Nobody left is as good as killed.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        while !reap::ended().is_empty() {}
        if !reap::any_left() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    console::say("processes that cannot be killed are left behind");
}

/// Unmounts what can be unmounted, innermost first; what is busy becomes read-only.
pub fn unmount_everything() {
    rustix::fs::sync();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut targets: Vec<PathBuf> = mount_points(&table).take(MOST_MOUNTS).collect();
    targets.reverse();
    for target in targets.iter().filter(|target| !is_kernels_own(target)) {
        if unmount(target, UnmountFlags::empty()).is_err() {
            // What is not ours to change, such as a kernel file system, has no data to lose.
            let _ = mount_remount(target, MountFlags::RDONLY, "");
        }
    }
    let _ = mount_remount("/", MountFlags::RDONLY, "");
    rustix::fs::sync();
}

/// Ends the machine at once. When the firmware does not do it, the processor stops.
pub fn now(end: End) -> ! {
    rustix::fs::sync();
    let command = match end {
        End::PowerOff => RebootCommand::PowerOff,
        End::Reboot => RebootCommand::Restart,
    };
    if let Err(error) = reboot(command) {
        console::say_error("end the machine", &error);
    }
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn is_kernels_own(target: &Path) -> bool {
    let own = |top: &&str| target == Path::new(top) || (*top != "/" && target.starts_with(top));
    KERNELS_OWN.iter().any(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_unmounted_and_the_kernels_own_is_not() {
        let is_kernels_own = |target: &str| is_kernels_own(Path::new(target));
        assert!(is_kernels_own("/") && is_kernels_own("/sys/fs/cgroup") && is_kernels_own("/dev"));
        assert!(!is_kernels_own("/data") && !is_kernels_own("/devices") && !is_kernels_own("/run"));
    }
}
