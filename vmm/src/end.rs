//! How a monitor ends: one place that writes out the console and leaves with a documented exit code.

use std::sync::Arc;

use node_api::vmm::exit;

use crate::{serial::SerialLog, sys};

/// Why the monitor ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest powered off.
    PoweredOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest did what its processor cannot do.
    GuestFault(String),
    /// KVM refused to go on.
    Kvm(String),
    /// A device on the host's side failed.
    HostIo(String),
    /// The agent asked for it.
    Killed,
}

impl Ending {
    /// The exit code that tells the agent.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::PoweredOff => exit::POWERED_OFF,
            Self::Reset => exit::RESET,
            Self::GuestFault(_) => exit::GUEST_FAULT,
            Self::Kvm(_) => exit::KVM,
            Self::HostIo(_) => exit::HOST_IO,
            Self::Killed => exit::KILLED,
        }
    }

    /// The line for standard error; an ending that the guest or the agent wanted needs none.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        match self {
            Self::PoweredOff | Self::Reset | Self::Killed => None,
            Self::GuestFault(reason) => Some(format!("guest fault: {reason}")),
            Self::Kvm(reason) => Some(format!("kvm: {reason}")),
            Self::HostIo(reason) => Some(format!("host: {reason}")),
        }
    }
}

/// Ends the process on behalf of any thread.
#[derive(Debug, Clone)]
pub struct Ender {
    console: Arc<SerialLog>,
}

impl Ender {
    /// An ender that writes out `console` first.
    #[must_use]
    pub fn new(console: Arc<SerialLog>) -> Self {
        Self { console }
    }

    /// Ends the process. Other threads are not waited for: what the guest has flushed is on stable storage already.
    pub fn end(&self, ending: &Ending) -> ! {
        self.console.flush();
        sys::leave(ending.code(), ending.line().as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_the_guest_or_agent_wanted_are_silent_and_others_say_why() {
        assert_eq!(Ending::PoweredOff.line(), None);
        assert_eq!(Ending::Killed.code(), exit::KILLED);
        let fault = Ending::GuestFault("triple fault".into());
        assert_eq!(
            (fault.code(), fault.line().as_deref()),
            (exit::GUEST_FAULT, Some("guest fault: triple fault"))
        );
    }
}
