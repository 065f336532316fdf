//! What is known of a guest that runs: what it says of itself, and since when its time counts.

use std::time::Duration;

use crate::guest_net::Slot;

/// A guest as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestView {
    /// Its place among the guests.
    pub slot: Slot,
    /// Milliseconds since its kernel started, by its own word; 0 while it does not answer. Nothing is paid by it.
    pub uptime_ms: u64,
    /// Start of its monitor in time since the machine's, once the workload came to run in it. What is paid counts from here.
    pub counts_from: Option<Duration>,
    /// What its process does, once it answers.
    pub workload: Option<node_api::guest::Workload>,
}

impl GuestView {
    /// Whether the workload's process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.workload, Some(node_api::guest::Workload::Running { .. }))
    }

    /// Whether the workload's process runs or has run. One that ends by itself is not less of a workload, or whoever hides his
    /// from its init would compute for nothing.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        let ran = matches!(self.workload, Some(node_api::guest::Workload::BackingOff { restarts, .. }) if restarts > 0);
        ran || self.is_running()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_api::guest::Workload;

    #[test]
    fn workload_whose_process_ends_again_and_again_has_begun() {
        let begun = |workload| {
            let view = GuestView {
                slot: Slot::new(0).unwrap(),
                uptime_ms: 0,
                workload,
                counts_from: None,
            };
            view.has_begun()
        };
        assert!(begun(Some(Workload::Running { restarts: 0 })));
        assert!(begun(Some(Workload::BackingOff { restarts: 1, code: 0 })));
        assert!(
            !begun(Some(Workload::BackingOff { restarts: 0, code: 0 })),
            "not started yet"
        );
        let reason = "program x is not in PATH".to_owned();
        assert!(!begun(Some(Workload::Failed { reason })));
        assert!(!begun(None));
    }
}
