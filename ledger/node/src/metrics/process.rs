//! What the kernel says of this process, under the names that Prometheus clients give it. What it does not say is left out.

use std::{fs, time::Duration};

use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::sample::{size, whole};

/// Ticks a second in `/proc` on x86-64 (proc(5), `USER_HZ`).
const TICKS: u64 = 100;
/// Which field of `/proc/self/stat` has the start, counted from the one after the program's name.
const START: usize = 19;

/// The metrics of this process.
pub(super) fn registry() -> Registry {
    let mut all = Registry::with_prefix("process");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, help, field) in [
        ("resident_memory", "Resident memory", "VmRSS"),
        ("virtual_memory", "Virtual memory", "VmSize"),
    ] {
        if let Some(bytes) = memory(&status, field) {
            all.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(whole(bytes)));
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them reads this directory.
        let open = size(open.count().saturating_sub(1));
        all.register("open_fds", "Open file descriptors", ConstGauge::new(open));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        all.register("max_fds", "Most open file descriptors", ConstGauge::new(whole(most)));
    }
    if let Some(start) = start() {
        let help = "Start of the process since 1970";
        all.register_with_unit("start_time", help, Unit::Seconds, ConstGauge::new(start.as_secs_f64()));
    }
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    if let Ok(spent) = Duration::try_from(spent) {
        let help = "Processor time spent";
        all.register_with_unit("cpu", help, Unit::Seconds, ConstCounter::new(spent.as_secs_f64()));
    }
    all
}

/// Bytes of a field of `/proc/self/status`, which has kibibytes.
fn memory(status: &str, field: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// When the process began, since 1970.
fn start() -> Option<Duration> {
    let (stat, machine) = (
        fs::read_to_string("/proc/self/stat").ok()?,
        fs::read_to_string("/proc/stat").ok()?,
    );
    started(&stat, &machine)
}

fn started(stat: &str, machine: &str) -> Option<Duration> {
    // The program's name may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(START)?.parse().ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let since_boot = Duration::from_millis(ticks.checked_mul(1_000 / TICKS)?);
    Some(Duration::from_secs(boot.parse().ok()?) + since_boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_taken_apart() {
        let status = "Name:\tledgerd\nVmSize:\t 2048 kB\nVmRSS:\t      12 kB\n";
        assert_eq!(memory(status, "VmRSS"), Some(12_288));
        assert_eq!(memory(status, "VmSwap"), None);
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 250 20";
        let start = started(stat, "cpu 1\nbtime 1000\n");
        assert_eq!(start, Some(Duration::from_millis(1_002_500)));
    }

    #[test]
    fn this_process_began_before_now() {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let start = start().unwrap();
        assert!(start < now + Duration::from_secs(1) && now - start < Duration::from_secs(86_400));
    }
}
