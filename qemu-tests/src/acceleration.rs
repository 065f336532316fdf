//! How QEMU runs the machine's processors.

use std::fs::{self, OpenOptions};

/// Where instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// By the processor itself, with its virtualization for the node's own guests.
    Kvm,
    /// By QEMU's translator, which offers the node AMD's virtualization.
    Translator,
    /// By the translator on one processor whose clock counts instructions, two nanoseconds each, and jumps to the next
    /// timer when it idles: what happens inside the machine takes the same time in each run. What waits for something
    /// outside measures nothing.
    Counted,
}

impl Acceleration {
    /// The best that this computer has. A /dev/kvm without hardware behind it is slower than the translator.
    #[must_use]
    pub fn detect() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let usable = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        Self::choose(&processor, usable)
    }

    fn choose(processor: &str, usable: bool) -> Self {
        let virtualizes = processor
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")));
        if virtualizes && usable {
            Self::Kvm
        } else {
            Self::Translator
        }
    }

    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            // A thread a processor; `Emulator::of` says which QEMU can do that.
            Self::Translator => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Self::Counted => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=1,sleep=off",
                "-cpu",
                "max",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_both_the_device_and_the_hardware() {
        assert_eq!(Acceleration::choose("flags : fpu svm", true), Acceleration::Kvm);
        assert_eq!(Acceleration::choose("flags : fpu vmx", false), Acceleration::Translator);
        assert_eq!(
            Acceleration::choose("flags : fpu\nmodel name : svm", true),
            Acceleration::Translator
        );
    }
}
