//! A running machine.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

use crate::arguments::{OVMF_VARIABLES, Places, arguments};
use crate::config::Config;
use crate::console::Console;
use crate::emulator::Emulator;
use crate::faults::Faults;
use crate::keeper::Keeper;
use crate::place::zos_directory;
use crate::qmp::Qmp;

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub struct Machine {
    /// What it says on its serial line.
    pub console: Console,
    /// QEMU's control socket.
    pub qmp: Qmp,
    /// Its second serial line, if it was given one.
    pub faults: Option<Faults>,
    keeper: Keeper,
    directory: PathBuf,
    /// The sockets' directory: the machine's own may be too deep for a socket's path.
    _sockets: TempDir,
}

impl Machine {
    /// Starts a machine whose files are kept in `directory`: `console.log`, `qemu.log` and, with UEFI, the firmware's
    /// variables, which a machine started there later finds again.
    ///
    /// # Errors
    /// If QEMU cannot be started or ends at once; what it said is in the error.
    pub fn start(config: &Config, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let variables = directory.join("uefi-variables.fd");
        if !variables.exists() && Path::new(OVMF_VARIABLES).exists() {
            fs::copy(OVMF_VARIABLES, &variables).context("copy the firmware's variables")?;
        }
        let sockets = tempfile::tempdir().context("make a directory for sockets")?;
        let socket = sockets.path().join("qmp");
        let listener = UnixListener::bind(&socket).context("open the control socket")?;
        let second = sockets.path().join("faults");
        let faults = UnixListener::bind(&second).context("open the second serial line")?;
        let errors = directory.join("qemu.log");
        let line = arguments(
            config,
            Places {
                qmp: &socket,
                faults: &second,
                variables: &variables,
            },
        );
        let emulator = Emulator::of(config.acceleration, &zos_directory());
        let line = [emulator.arguments(), line].concat();
        let (keeper, output) = Keeper::start(emulator.program(), &line, &errors)?;
        let console = Console::follow(output, &directory.join("console.log"))?;
        let qmp = Qmp::accept(&listener).with_context(|| {
            let said = fs::read_to_string(&errors).unwrap_or_default();
            format!("start {}: {}", emulator.program(), said.trim())
        })?;
        let faults = config.faults.then(|| Faults::accept(&faults)).transpose()?;
        Ok(Self {
            console,
            qmp,
            faults,
            keeper,
            directory: directory.to_owned(),
            _sockets: sockets,
        })
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// Cuts the power: QEMU is killed, what it had not written is lost.
    pub fn cut_power(self) {
        self.keeper.kill();
    }

    /// Presses the power button, and waits until the machine is off.
    ///
    /// # Errors
    /// If it is not off within `limit`.
    pub fn power_off(mut self, limit: Duration) -> Result<()> {
        self.press_power_button()?;
        self.wait_until_off(limit)
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// If it is not off within `limit`, or QEMU failed.
    pub fn wait_until_off(self, limit: Duration) -> Result<()> {
        self.console.wait_for_end(limit)?;
        let status = self.keeper.wait().context("learn how QEMU ended")?;
        anyhow::ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp.execute("system_reset", &json!({})).map(drop)
    }

    /// Stops all processors.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp.execute("stop", &json!({})).map(drop)
    }

    /// Lets the processors go on.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn resume(&mut self) -> Result<()> {
        self.qmp.execute("cont", &json!({})).map(drop)
    }

    /// Plugs the network cable in or out.
    ///
    /// # Errors
    /// If QEMU is gone or the machine has no network.
    pub fn cable(&mut self, cable: Cable) -> Result<()> {
        let up = cable == Cable::In;
        self.qmp
            .execute("set_link", &json!({ "name": "network", "up": up }))
            .map(drop)
    }
}

/// Whether the network cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// It is.
    In,
    /// It is not.
    Out,
}
