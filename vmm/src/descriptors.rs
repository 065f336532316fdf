//! Takes over the descriptors that a checked configuration names, and checks what each one is.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileTypeExt, net::UnixListener},
    },
};

use node_api::vmm::{Access, Config};
use rustix::fs::OFlags;

use crate::{config::ConfigError, sys};

/// Version of KVM's interface, unchanged since 2007.
const KVM_API: i32 = 12;
/// Flags of a tap queue: `IFF_TAP`, `IFF_NO_PI`, `IFF_VNET_HDR`.
const TAP_FLAGS: i32 = 0x0002 | 0x1000 | 0x4000;

/// Everything that the monitor will ever have open.
#[derive(Debug)]
pub struct Descriptors {
    /// The kernel image.
    pub kernel: File,
    /// The initial ram file system.
    pub initrd: Option<File>,
    /// `/dev/kvm`.
    pub kvm: kvm_ioctls::Kvm,
    /// One file a disk, in the configuration's order.
    pub disks: Vec<File>,
    /// One tap queue a network, in the configuration's order.
    pub taps: Vec<File>,
    /// Where clients of the guest's sockets connect.
    pub vsock: Option<UnixListener>,
    /// Where the console goes.
    pub serial: File,
    /// Where the agent connects.
    pub control: UnixListener,
    /// `cgroup.procs` of the monitor's group.
    pub cgroup: Option<File>,
}

/// Adopts every descriptor of `config`, which has been checked.
///
/// # Errors
/// [`ConfigError`] of the first one that is not open or not what its field asks for.
pub fn adopt(config: &Config) -> Result<Descriptors, ConfigError> {
    let kernel = File::from(open("kernel_fd", config.kernel_fd)?);
    require(is_regular(&kernel), "kernel_fd", "a regular file")?;
    let initrd = config
        .initrd_fd
        .map(|fd| open("initrd_fd", fd))
        .transpose()?
        .map(File::from);
    if let Some(initrd) = &initrd {
        require(is_regular(initrd), "initrd_fd", "a regular file")?;
    }
    let kvm = open("kvm_fd", config.kvm_fd)?;
    let is_device = File::from(
        kvm.try_clone()
            .map_err(|error| ConfigError::new("kvm_fd", error.to_string()))?,
    )
    .metadata()
    .is_ok_and(|metadata| metadata.file_type().is_char_device());
    let kvm = sys::kvm(kvm);
    require(
        is_device && kvm.get_api_version() == KVM_API,
        "kvm_fd",
        "/dev/kvm with interface version 12",
    )?;
    let serial = File::from(open("serial.fd", config.serial.fd)?);
    require(
        writable(&serial),
        "serial.fd",
        "a regular file or a pipe, opened for writing",
    )?;
    let vsock = config
        .vsock
        .as_ref()
        .map(|vsock| listener("vsock.listener_fd", vsock.listener_fd))
        .transpose()?;
    let cgroup = config.jail.as_ref().and_then(|jail| jail.cgroup_procs_fd);
    Ok(Descriptors {
        kernel,
        initrd,
        kvm,
        disks: disks(config)?,
        taps: taps(config)?,
        vsock,
        serial,
        control: listener("control_fd", config.control_fd)?,
        cgroup: cgroup
            .map(|fd| open("jail.cgroup_procs_fd", fd))
            .transpose()?
            .map(File::from),
    })
}

fn disks(config: &Config) -> Result<Vec<File>, ConfigError> {
    let mut disks = Vec::new();
    for (index, disk) in config.disks.iter().enumerate() {
        let field = format!("disks[{index}].fd");
        let file = File::from(open(&field, disk.fd)?);
        let is_disk = file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_block_device());
        require(is_disk, &field, "a regular file or a block device")?;
        if disk.access == Access::ReadWrite {
            require(
                writable(&file),
                &field,
                "opened for reading and writing, or access read-only",
            )?;
        }
        disks.push(file);
    }
    Ok(disks)
}

fn taps(config: &Config) -> Result<Vec<File>, ConfigError> {
    let mut taps = Vec::new();
    for (index, network) in config.networks.iter().enumerate() {
        let field = format!("networks[{index}].fd");
        let tap = File::from(open(&field, network.fd)?);
        let flags = sys::tap_flags(&tap).unwrap_or(0);
        require(
            flags & TAP_FLAGS == TAP_FLAGS,
            &field,
            "a tap queue with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
        )?;
        sys::set_tap_header(&tap)
            .and_then(|()| set_nonblocking(&tap))
            .map_err(|error| ConfigError::new(&field, format!("a tap queue that takes settings: {error}")))?;
        taps.push(tap);
    }
    Ok(taps)
}

fn listener(field: &str, fd: i32) -> Result<UnixListener, ConfigError> {
    let socket = open(field, fd)?;
    let listens = rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false);
    let is_unix =
        rustix::net::sockopt::socket_domain(&socket).is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX);
    let is_stream =
        rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == rustix::net::SocketType::STREAM);
    require(listens && is_unix && is_stream, field, "a listening unix stream socket")?;
    let listener = UnixListener::from(socket);
    listener
        .set_nonblocking(true)
        .map_err(|error| ConfigError::new(field, error.to_string()))?;
    Ok(listener)
}

fn open(field: &str, fd: i32) -> Result<OwnedFd, ConfigError> {
    sys::adopt(fd).map_err(|error| ConfigError::new(field, format!("an open descriptor; {fd}: {error}")))
}

fn require(holds: bool, field: &str, rule: &str) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::new(field, rule))
    }
}

fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

fn writable(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.intersects(OFlags::WRONLY | OFlags::RDWR))
}

fn set_nonblocking(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file.as_fd())?;
    Ok(rustix::fs::fcntl_setfl(file.as_fd(), flags | OFlags::NONBLOCK)?)
}
