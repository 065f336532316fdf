//! The hybrid ISO: a CD or a stick, by BIOS or by UEFI.
//!
//! | path | what |
//! |---|---|
//! | `/boot/vmlinuz` | the node's kernel |
//! | `/boot/initramfs.img` | its initial root |
//! | `/boot/farm.img` | the farm slot, empty |
//! | `/boot/grub/grub.cfg` | what the boot loader does, with the kernel's command line |
//! | `/boot/grub/bios.img`, `efi.img` | the boot loader for BIOS, and a FAT file system with that for UEFI |
//! | `/boot/id-…` | names the build, so that the loader finds its own medium among others |
//!
//! The same parts and the same versions of GRUB, mtools and xorriso give the same bytes: all dates are [`EPOCH`].

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::build::Built;

/// The date of everything in the image: 2026-01-01 in seconds since 1970.
pub const EPOCH: u64 = 1_767_225_600;
/// Label of the file system.
pub const LABEL: &str = "ZOS";
/// Serial number of the FAT file system, any constant.
const FAT_SERIAL: &str = "5a4f5301";
/// Bytes of the FAT file system: a 2.88 MB floppy, the largest that mformat knows by name.
const FAT_BYTES: u64 = 2880 * 1024;
/// GRUB's first stage for a stick booted by BIOS.
const HYBRID_MBR: &str = "/usr/lib/grub/i386-pc/boot_hybrid.img";

const MODULES: [&str; 12] = [
    "iso9660",
    "part_msdos",
    "part_gpt",
    "fat",
    "search",
    "search_fs_file",
    "normal",
    "configfile",
    "linux",
    "echo",
    "test",
    "reboot",
];

/// A platform that GRUB is made for.
struct Platform {
    format: &'static str,
    modules: &'static [&'static str],
}

const BIOS: Platform = Platform {
    format: "i386-pc-eltorito",
    modules: &["biosdisk"],
};
const UEFI: Platform = Platform {
    format: "x86_64-efi",
    modules: &["all_video", "efi_gop"],
};

/// Writes the ISO with `built` to `out`.
///
/// # Errors
/// If a tool is missing or fails; its own words are in the error.
pub fn write(built: &Built, out: &Path) -> Result<()> {
    let staging = Staging::new(out)?;
    let id = identity(built);
    staging.file("boot/vmlinuz", &built.kernel)?;
    staging.file("boot/initramfs.img", &built.initramfs)?;
    staging.file("boot/farm.img", &farm_media::empty_slot())?;
    staging.file("boot/grub/grub.cfg", config(&built.command_line).as_bytes())?;
    staging.file(&format!("boot/id-{id}"), &[])?;

    let early = staging.beside("early.cfg");
    fs::write(&early, early_config(&id)).context("write the boot loader's first script")?;
    loader(&BIOS, &early, &staging.path("boot/grub/bios.img"))?;
    let efi = staging.beside("bootx64.efi");
    loader(&UEFI, &early, &efi)?;
    fat(&staging.path("boot/grub/efi.img"), &efi)?;

    staging.set_dates()?;
    let partial = staging.beside("image.iso");
    xorriso(&staging.tree, &partial)?;
    fs::rename(&partial, out).with_context(|| format!("move the image to {}", out.display()))
}

/// The boot loader's menu, which shows only to who holds a key down.
fn config(command_line: &str) -> String {
    format!(
        "set timeout=0\nset default=0\nset gfxpayload=keep\nmenuentry \"ZOS\" {{\n    linux /boot/vmlinuz {command_line}\n    \
         initrd /boot/initramfs.img /boot/farm.img\n}}\n"
    )
}

/// The kernel's command line in a menu that this module made.
///
/// # Errors
/// If there is none.
pub fn command_line_of(config: &str) -> Result<String> {
    let line = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("linux /boot/vmlinuz "));
    Ok(line.context("the boot loader's menu starts no kernel")?.to_owned())
}

/// What the loader does before it has found its medium.
fn early_config(id: &str) -> String {
    format!(
        "search --no-floppy --set=root --file /boot/id-{id}\nset prefix=($root)/boot/grub\n\
         configfile /boot/grub/grub.cfg\n"
    )
}

fn identity(built: &Built) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&built.kernel)
        .update(&built.initramfs)
        .update(built.command_line.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

fn loader(platform: &Platform, early: &Path, out: &Path) -> Result<()> {
    let mut command = Command::new("grub-mkimage");
    command
        .args(["-O", platform.format, "-p", "/boot/grub", "-c"])
        .arg(early)
        .arg("-o")
        .arg(out);
    command.args(MODULES).args(platform.modules);
    run(&mut command)
}

fn fat(out: &Path, efi: &Path) -> Result<()> {
    let size = fs::metadata(efi).context("read the boot loader's size")?.len();
    ensure!(
        size < FAT_BYTES * 9 / 10,
        "the boot loader of {size} bytes does not fit into {FAT_BYTES}"
    );
    let file = File::create(out).with_context(|| format!("make {}", out.display()))?;
    file.set_len(FAT_BYTES)
        .with_context(|| format!("make {}", out.display()))?;
    drop(file);
    set_date(efi)?;
    run(Command::new("mformat")
        .args(["-f", "2880", "-N", FAT_SERIAL, "-v", LABEL, "-i"])
        .arg(out)
        .arg("::"))?;
    run(Command::new("mmd").arg("-i").arg(out).args(["::/EFI", "::/EFI/BOOT"]))?;
    run(Command::new("mcopy")
        .arg("-m")
        .arg("-i")
        .arg(out)
        .arg(efi)
        .arg("::/EFI/BOOT/BOOTX64.EFI"))
}

fn xorriso(tree: &Path, out: &Path) -> Result<()> {
    let mut command = Command::new("xorriso");
    command.args(["-as", "mkisofs", "-quiet", "-iso-level", "3", "-volid", LABEL, "-r"]);
    command.args([
        "-b",
        "boot/grub/bios.img",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
    ]);
    command.args(["--grub2-boot-info", "--grub2-mbr", HYBRID_MBR]);
    command.args(["--efi-boot", "boot/grub/efi.img", "-efi-boot-part", "--efi-boot-image"]);
    command.args(["--protective-msdos-label", "-o"]).arg(out).arg(tree);
    run(&mut command)
}

/// Runs a tool in silence; if it fails, its output is the error.
fn run(command: &mut Command) -> Result<()> {
    command
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .env("TZ", "UTC")
        .env("LC_ALL", "C");
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("start {program}: run `cargo xtask setup`"))?;
    if !output.status.success() {
        bail!(
            "{program} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn set_date(path: &Path) -> Result<()> {
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH);
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.set_times(FileTimes::new().set_accessed(date).set_modified(date))
        .with_context(|| format!("set the date of {}", path.display()))
}

/// A directory in which an image is put together, removed in the end.
struct Staging {
    root: PathBuf,
    tree: PathBuf,
}

impl Staging {
    fn new(out: &Path) -> Result<Self> {
        let name = out
            .file_name()
            .context("the image's path has no name")?
            .to_string_lossy();
        let root = out.with_file_name(format!(".{name}.{}", std::process::id()));
        let tree = root.join("tree");
        fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
        Ok(Self { root, tree })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        let parent = path.parent().context("path without parent")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    fn set_dates(&self) -> Result<()> {
        let mut todo = vec![self.tree.clone()];
        while let Some(path) = todo.pop() {
            set_date(&path)?;
            if path.is_dir() {
                for entry in fs::read_dir(&path).with_context(|| format!("list {}", path.display()))? {
                    todo.push(entry?.path());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left over after an error only takes space.
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_read_back_from_the_menu() {
        assert_eq!(
            command_line_of(&config("quiet zos.farm=1")).unwrap(),
            "quiet zos.farm=1"
        );
        assert!(command_line_of("set timeout=0\n").is_err());
    }

    #[test]
    fn missing_tool_points_to_setup() {
        let error = run(&mut Command::new("no-such-tool-of-zos")).unwrap_err();
        assert_eq!(error.to_string(), "start no-such-tool-of-zos: run `cargo xtask setup`");
    }
}
