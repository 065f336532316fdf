//! Which QEMU runs a machine.

use std::path::{Path, PathBuf};

use crate::Acceleration;

/// The system's.
const QEMU: &str = "qemu-system-x86_64";

/// A QEMU, and where its firmware is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Emulator {
    program: String,
    firmware: Vec<PathBuf>,
}

impl Emulator {
    /// The QEMU for processors of this kind.
    ///
    /// Up to 8.0 a translator with a thread a processor may go on executing what it translated of code that another
    /// processor was changing. A kernel that patches itself then takes its own breakpoint for ever: with Debian 12's QEMU
    /// about one boot in sixty. So the translator is the newer one that `cargo xtask setup` unpacks, if it is there. What
    /// counts instructions has one processor and stays with the system's, by which the figures of its peers were made.
    pub(crate) fn of(acceleration: Acceleration, zos: &Path) -> Self {
        let unpacked = zos.join("root/emulator/usr");
        let program = unpacked.join("bin").join(QEMU);
        if acceleration == Acceleration::Translator && program.is_file() {
            Self {
                program: program.display().to_string(),
                firmware: ["qemu", "seabios"].map(|name| unpacked.join("share").join(name)).into(),
            }
        } else {
            Self {
                program: QEMU.to_owned(),
                firmware: Vec::new(),
            }
        }
    }

    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// What tells it where its firmware is.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let place = |path: &PathBuf| ["-L".to_owned(), path.display().to_string()];
        self.firmware.iter().flat_map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn translator_is_the_unpacked_one_if_there_is_one() {
        let zos = tempfile::tempdir().unwrap();
        let of = |acceleration| Emulator::of(acceleration, zos.path());
        assert_eq!(of(Acceleration::Translator).program(), QEMU);
        let programs = zos.path().join("root/emulator/usr/bin");
        fs::create_dir_all(&programs).unwrap();
        fs::write(programs.join(QEMU), "").unwrap();
        let emulator = of(Acceleration::Translator);
        assert_eq!(emulator.program(), programs.join(QEMU).to_str().unwrap());
        assert_eq!(emulator.arguments().len(), 4);
        for other in [Acceleration::Kvm, Acceleration::Counted] {
            assert_eq!(of(other).program(), QEMU);
            assert_eq!(of(other).arguments(), Vec::<String>::new());
        }
    }
}
