//! From unpacked packages and built programs to finished images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cpio::Tree;
use crate::node::{Levels, Parts};
use crate::sources::Sources;
use crate::{executables, guest, iso, kernel, node, pxe};

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// For farms.
    Release,
    /// For scenarios: the same with an agent that causes faults from within.
    Test,
}

/// Whether the image should be small or made quickly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Made quickly.
    Dev,
    /// Small.
    Release,
}

impl Profile {
    fn levels(self) -> Levels {
        match self {
            Self::Dev => Levels::DEV,
            Self::Release => Levels::RELEASE,
        }
    }
}

/// Our static programs, without symbols.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// PID 1 of a node.
    pub init: PathBuf,
    /// PID 1 of a micro-VM.
    pub guest_init: PathBuf,
    /// The node's agent.
    pub agent: PathBuf,
    /// The monitor.
    pub vmm: PathBuf,
    /// The agent that causes faults; needed for [`Flavour::Test`] alone.
    pub test_agent: PathBuf,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the packages are.
    pub sources: Sources,
    /// Our programs.
    pub binaries: Binaries,
    /// What the image is for.
    pub flavour: Flavour,
    /// How it is made.
    pub profile: Profile,
    /// Arguments for the kernel's command line after those that every node has.
    pub arguments: Vec<String>,
}

/// A node's kernel and initial root, as they are booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The bzImage.
    pub kernel: Vec<u8>,
    /// The initial root, an archive in one zstd frame.
    pub initramfs: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
}

/// The kernel's command line of every node. The last console is `/dev/console`.
///
/// `slab_nomerge` to `debugfs=off` are the Kernel Self Protection Project's; without `cryptomgr.notests` the kernel
/// spends a second on testing its own ciphers; `panic=10` restarts a node that nobody is near.
pub const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200 quiet panic=10 oops=panic \
    slab_nomerge init_on_alloc=1 page_alloc.shuffle=1 randomize_kstack_offset=on vsyscall=none debugfs=off \
    random.trust_cpu=on cryptomgr.notests";

/// The whole command line with `arguments`.
#[must_use]
pub fn command_line(arguments: &[String]) -> String {
    arguments
        .iter()
        .fold(COMMAND_LINE.to_owned(), |line, argument| line + " " + argument)
}

/// Makes the tree of a node's initial root.
///
/// # Errors
/// If something that belongs into it is missing.
pub fn tree(options: &Options) -> Result<Tree> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let binaries = &options.binaries;
    let guest_tree = options.sources.kernel("guest-kernel")?;
    let guest_image = read(&guest_tree.image)?;
    let guest_kernel =
        kernel::extract(&guest_image).with_context(|| format!("unpack {}", guest_tree.image.display()))?;
    let mut programs = node::programs(read(&binaries.init)?, read(&binaries.agent)?, read(&binaries.vmm)?);
    if options.flavour == Flavour::Test {
        programs.push((executables::TEST_AGENT, read(&binaries.test_agent)?));
    }
    let parts = Parts {
        programs,
        tools: &options.sources.set("tools"),
        kernel: &options.sources.kernel("kernel")?,
        guest_kernel,
        guest_initramfs: guest::initramfs(&read(&binaries.guest_init)?, &guest_tree)?,
    };
    node::tree(parts, options.profile.levels(), options.flavour)
}

/// Makes what a node boots.
///
/// # Errors
/// If something that belongs into it is missing.
pub fn boot_files(options: &Options) -> Result<Built> {
    let node_kernel = options.sources.kernel("kernel")?;
    let kernel = fs::read(&node_kernel.image).with_context(|| format!("read {}", node_kernel.image.display()))?;
    let archive = tree(options)?.to_cpio()?;
    let initramfs = node::compress(&archive, options.profile.levels().archive)?;
    Ok(Built {
        kernel,
        initramfs,
        command_line: command_line(&options.arguments),
    })
}

/// Makes the ISO at `out` and, beside it, the directory `pxe` for booting from a network.
///
/// # Errors
/// If something that belongs into it is missing, or a tool that makes it fails.
pub fn image(options: &Options, out: &Path) -> Result<Built> {
    let built = boot_files(options)?;
    let directory = out.parent().context("the image's path has no directory")?;
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    iso::write(&built, out)?;
    pxe::write(&built, &directory.join("pxe"))?;
    Ok(built)
}
