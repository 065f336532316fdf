//! What a customer deploys, as the file that `threebot deploy` reads.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// An application.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its image, by the name that it was pushed under.
    pub image: String,
    /// Ports that a tunnel may lead to.
    pub ports: Vec<u16>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Storage in MiB, for the image and all volumes.
    pub storage_mib: u32,
    /// Its volume.
    pub volume: Option<Volume>,
    /// For how many periods.
    pub periods: u32,
    /// How many of them are paid in at a time; all if absent.
    pub deposit: Option<u32>,
    /// Most whole tokens that it may cost.
    pub budget: u32,
}

/// A disk of an application's own.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where its files are seen.
    pub mount: String,
    /// Its size in MiB.
    pub size_mib: u32,
}

impl App {
    /// The demo: nginx with a thread, 256 MiB of memory and a volume at `/data`, for `periods` periods.
    #[must_use]
    pub fn demo(periods: u32) -> Self {
        Self {
            name: "demo".to_owned(),
            image: "demo".to_owned(),
            ports: vec![80],
            memory_mib: 256,
            storage_mib: 512,
            volume: Some(Volume {
                mount: "/data".to_owned(),
                size_mib: 128,
            }),
            periods,
            deposit: None,
            budget: 100,
        }
    }

    /// Writes it into `directory` as `NAME.toml`, and returns where that is.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_in(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(format!("{}.toml", self.name));
        fs::write(&path, self.text()).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "name = \"{}\"\nimage = \"{}\"\nports = {:?}\nperiods = {}\nbudget = \"{}\"\n\n[resources]\ncru = 1\nmru = \
             \"{} MiB\"\nsru = \"{} MiB\"\n",
            self.name, self.image, self.ports, self.periods, self.budget, self.memory_mib, self.storage_mib
        );
        if let Some(deposit) = self.deposit {
            text = format!("deposit = {deposit}\n{text}");
        }
        if let Some(volume) = &self.volume {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n[[volumes]]\nname = \"data\"\nsize = \"{} MiB\"\nmount = \"{}\"\n",
                volume.size_mib, volume.mount
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_is_written_as_the_command_line_reads_it() {
        assert_eq!(
            App::demo(360).text(),
            "name = \"demo\"\nimage = \"demo\"\nports = [80]\nperiods = 360\nbudget = \"100\"\n\n[resources]\ncru = 1\n\
             mru = \"256 MiB\"\nsru = \"512 MiB\"\n\n[[volumes]]\nname = \"data\"\nsize = \"128 MiB\"\nmount = \"/data\"\n"
        );
    }
}
