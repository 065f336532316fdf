//! Puts a micro-VM together and runs it: descriptors, jail, machine, devices, threads, filters, in this order.

mod board;

use std::{
    io,
    sync::{Arc, Barrier},
    thread,
    time::Instant,
};

use kvm_ioctls::VcpuFd;
use node_api::vmm::{Config, LANDLOCK_LINE, exit};
use vmm_sys_util::timerfd::TimerFd;

use self::board::Board;
use crate::{
    acpi,
    boot::{self, BootError},
    bus::Bus,
    config::{self, ConfigError},
    control::{Control, Machine},
    descriptors::{self, Descriptors},
    end::{Ender, Ending},
    event_loop::{EventLoop, Interest, Source},
    jail::{self, Inmate, JailError},
    layout,
    metrics::Metrics,
    seccomp::{self, SeccompError, Thread},
    serial::{self, SerialLog},
    sys, vcpu,
    virtio::{
        block::Block,
        rng::Rng,
        slot::{DOORBELL, Slot},
        vsock::device::Vsock,
    },
    vm::{Vm, VmError},
};

/// Stack of each thread in bytes; pages of it that are never touched cost nothing.
const STACK: usize = 512 * 1024;
/// Event number of the console's timer.
const CONSOLE_TIMER: u32 = 1;

/// Why a micro-VM was not started.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// A file in it is.
    #[error("configuration")]
    Boot(#[from] BootError),
    /// The jail did not close.
    #[error("jail")]
    Jail(#[from] JailError),
    /// A filter did.
    #[error("jail")]
    Seccomp(#[from] SeccompError),
    /// KVM refused.
    #[error("kvm")]
    Vm(#[from] VmError),
    /// The host refused something that devices need.
    #[error("{step}")]
    Host {
        /// What was tried.
        step: &'static str,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
}

impl Failure {
    /// The exit code that tells the agent.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Config(_) | Self::Boot(_) => exit::BAD_CONFIG,
            Self::Jail(_) | Self::Seccomp(_) => exit::JAIL,
            Self::Vm(_) => exit::KVM,
            Self::Host { .. } => exit::HOST_IO,
        }
    }

    /// One line with the whole chain of causes.
    #[must_use]
    pub fn line(&self) -> String {
        error_line::with_causes(self)
    }
}

fn host(step: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Host { step, source }
}

/// What is built before the threads start.
struct Parts {
    vm: Vm,
    bus: Bus,
    disks: Vec<Arc<Slot<Block>>>,
    events: EventLoop,
    vcpus: Vec<VcpuFd>,
    metrics: Metrics,
    ender: Ender,
}

/// Runs what `config`, which has been checked, describes. Returns only when it cannot be started.
pub fn run(config: &Config) -> Failure {
    match start(config) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn start(config: &Config) -> Result<std::convert::Infallible, Failure> {
    let mut descriptors = descriptors::adopt(config)?;
    let cgroup = descriptors.cgroup.take();
    if let Some(identity) = &config.jail {
        let kept = config::descriptors(config).into_iter().map(|(_, fd)| fd);
        let kept = kept.filter(|fd| Some(*fd) != identity.cgroup_procs_fd).collect();
        let threads = u64::from(config.vcpus) + crate::bytes::wide(config.disks.len());
        let longest_file = longest_file(&descriptors, config).map_err(host("measure the disks"))?;
        let landlock = jail::close(Inmate {
            identity,
            cgroup,
            descriptors: kept,
            threads,
            longest_file,
        })?;
        sys::say(&format!("{LANDLOCK_LINE}{landlock}"));
    }
    let parts = build(config, descriptors)?;
    launch(parts)
}

/// Disks keep their length, and the console's log has its limit.
fn longest_file(descriptors: &Descriptors, config: &Config) -> io::Result<u64> {
    let mut longest = config.serial.limit;
    for disk in &descriptors.disks {
        longest = longest.max(disk.metadata()?.len());
    }
    Ok(longest)
}

fn build(config: &Config, mut descriptors: Descriptors) -> Result<Parts, Failure> {
    let metrics = Metrics::default();
    let console = Arc::new(
        SerialLog::new(descriptors.serial, config.serial.limit, &metrics).map_err(host("open the console's log"))?,
    );
    let ender = Ender::new(console.clone());
    let vm = Vm::new(&descriptors.kvm, u64::from(config.memory_mib) << 20)?;
    let devices = config.disks.len() + config.networks.len() + usize::from(config.vsock.is_some()) + 1;
    let entry = boot::load(
        vm.memory(),
        &mut descriptors.kernel,
        descriptors.initrd.as_mut(),
        &config.command_line,
        &acpi::tables(config.vcpus, devices),
    )?;
    let mut events = EventLoop::new().map_err(host("make the event loop"))?;
    watch_console(&mut events, console.clone())?;

    let mut board = Board::new(&vm, &metrics, &ender);
    let disks = board.plug_disks(&config.disks, descriptors.disks)?;
    board.plug_networks(&mut events, &config.networks, descriptors.taps)?;
    if let (Some(vsock), Some(listener)) = (&config.vsock, descriptors.vsock) {
        let device = Vsock::new(vsock.cid, listener, events.registrar(), &metrics).map_err(host("wait for clients"))?;
        board.plug_polled(device, "vsock", &mut events)?;
    }
    board.plug_polled(Rng::new(&metrics), "rng", &mut events)?;

    let machine = Machine {
        id: config.id.clone(),
        started: Instant::now(),
        metrics: metrics.clone(),
        button: vm.line(layout::EVENT_LINE)?,
        ender: ender.clone(),
    };
    let control =
        Control::new(descriptors.control, events.registrar(), machine).map_err(host("wait for the control socket"))?;
    events.add(Arc::new(control));

    let interrupt = vm
        .line(layout::SERIAL_LINE)?
        .try_clone()
        .map_err(host("share an event"))?;
    let bus = Bus::new(
        serial::port(console, interrupt),
        board.into_windows(),
        metrics.counter("bus.unknown"),
    );
    let vcpus = make_vcpus(&vm, config.vcpus, entry)?;
    Ok(Parts {
        vm,
        bus,
        disks,
        events,
        vcpus,
        metrics,
        ender,
    })
}

fn make_vcpus(vm: &Vm, count: u8, entry: u64) -> Result<Vec<VcpuFd>, Failure> {
    let mut vcpus = Vec::new();
    for index in 0..count {
        let fd = vm.vcpu(index, count)?;
        if index == 0 {
            vcpu::prepare_first(&fd, entry)?
        } else {
            vcpu::prepare(&fd)?
        }
        vcpus.push(fd);
    }
    Ok(vcpus)
}

/// Writes out a line of the console that has no end yet.
struct ConsoleTimer(Arc<SerialLog>);

impl Source for ConsoleTimer {
    fn handle(&self, _number: u32) {
        self.0.timer_fired();
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

fn watch_console(events: &mut EventLoop, console: Arc<SerialLog>) -> Result<(), Failure> {
    let timer = TimerFd::new().map_err(|error| host("make a timer")(error.into()))?;
    events
        .registrar()
        .add(sys::borrow(&timer), CONSOLE_TIMER, Interest::Readable)
        .map_err(host("wait for a timer"))?;
    console.set_timer(timer);
    events.add(Arc::new(ConsoleTimer(console)));
    Ok(())
}

/// Starts all threads, closes their filters, and then lets the guest run.
fn launch(parts: Parts) -> Result<std::convert::Infallible, Failure> {
    let Parts {
        vm: _vm,
        bus,
        disks,
        events,
        vcpus,
        metrics,
        ender,
    } = parts;
    sys::install_violation_handler().map_err(host("handle refused system calls"))?;
    let ready = Arc::new(Barrier::new(vcpus.len() + disks.len() + 1));
    let bus = Arc::new(bus);
    let exits = metrics.counter("vcpu.exits");
    for (index, disk) in disks.into_iter().enumerate() {
        spawn(format!("disk-{index}"), Thread::Disk, &ready, move || {
            loop {
                disk.handle(DOORBELL);
            }
        })?;
    }
    for (index, fd) in vcpus.into_iter().enumerate() {
        let (bus, ender, exits) = (bus.clone(), ender.clone(), exits.clone());
        spawn(format!("vcpu-{index}"), Thread::Vcpu, &ready, move || {
            vcpu::run(fd, &bus, &ender, &exits)
        })?;
    }
    seccomp::install(Thread::Main)?;
    ready.wait();
    loop {
        if let Err(error) = events.turn() {
            ender.end(&Ending::HostIo(format!("wait for events: {error}")));
        }
    }
}

fn spawn(
    name: String,
    kind: Thread,
    ready: &Arc<Barrier>,
    work: impl FnOnce() -> std::convert::Infallible + Send + 'static,
) -> Result<(), Failure> {
    let ready = ready.clone();
    let body = move || {
        if let Err(error) = seccomp::install(kind) {
            let failure = Failure::from(error);
            sys::leave(failure.code(), Some(&failure.line()));
        }
        ready.wait();
        match work() {}
    };
    thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(body)
        .map(drop)
        .map_err(host("start a thread"))
}
