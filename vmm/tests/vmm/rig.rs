//! Starts the real monitor on the machine's KVM with a kernel of a few instructions.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use node_api::vmm::{Config, Jail, Serial, Vsock};

/// Where the kernel is loaded to and entered.
const ENTRY: u32 = 0x10_0000;
/// How long a few instructions may take on an emulated processor.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// 32-bit machine code.
#[derive(Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Writes `value` to `port`.
    pub(crate) fn out(mut self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        // mov dx, port; mov al, value; out dx, al
        self.0.extend([0x66, 0xba, low, high, 0xb0, value, 0xee]);
        self
    }

    /// Writes `text` to the first serial port.
    pub(crate) fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(0x3f8, byte))
    }

    /// Raises an exception that nothing handles.
    pub(crate) fn fault(mut self) -> Self {
        self.0.push(0xcc);
        self
    }

    /// Waits for ever.
    pub(crate) fn halt(mut self) -> Self {
        // hlt; jmp -3
        self.0.extend([0xf4, 0xeb, 0xfd]);
        self
    }

    /// An ELF image with a note that names the entry.
    pub(crate) fn kernel(&self) -> Vec<u8> {
        self.image(18)
    }

    /// The same with another note, which no loader looks for.
    pub(crate) fn kernel_without_pvh(&self) -> Vec<u8> {
        self.image(17)
    }

    fn image(&self, note: u32) -> Vec<u8> {
        const HEADERS: u64 = 64 + 2 * 56;
        const NOTE: u64 = 12 + 4 + 4;
        let length = u64::try_from(self.0.len()).unwrap();
        let entry = u64::from(ENTRY);
        let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for half in [2u16, 62] {
            elf.extend(half.to_le_bytes());
        }
        elf.extend(1u32.to_le_bytes());
        for long in [entry, 64, 0] {
            elf.extend(long.to_le_bytes());
        }
        elf.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 0, 0, 0] {
            elf.extend(half.to_le_bytes());
        }
        // Loaded segment, then note: type, flags, offset, virtual and physical address, sizes, alignment.
        for (kind, offset, size) in [(1u32, HEADERS + NOTE, length), (4, HEADERS, NOTE)] {
            elf.extend(kind.to_le_bytes());
            elf.extend(5u32.to_le_bytes());
            for long in [offset, entry, entry, size, size, 4] {
                elf.extend(long.to_le_bytes());
            }
        }
        for word in [4u32, 4, note] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(b"Xen\0");
        elf.extend(ENTRY.to_le_bytes());
        elf.extend(&self.0);
        elf
    }
}

/// A monitor that runs, and what it was given.
pub(crate) struct Monitor {
    pub(crate) process: Child,
    directory: tempfile::TempDir,
}

/// What a configuration is changed by before the monitor starts.
pub(crate) type Change = fn(&mut Config);

/// Starts the monitor with `kernel`; `change` has the last word on the configuration.
pub(crate) fn start(kernel: &[u8], jail: Option<Jail>, change: impl FnOnce(&mut Config)) -> Monitor {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    std::fs::write(place("kernel"), kernel).unwrap();
    let kernel = inherit(File::open(place("kernel")).unwrap());
    let serial = inherit(File::create(place("serial")).unwrap());
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    let kvm = inherit(kvm.expect("these tests need /dev/kvm, read-write; load kvm_intel or kvm_amd"));
    let control = inherit(UnixListener::bind(place("control")).unwrap());
    let vsock = inherit(UnixListener::bind(place("vsock")).unwrap());
    let mut config = Config {
        id: "test".into(),
        vcpus: 1,
        memory_mib: 64,
        kernel_fd: kernel.as_raw_fd(),
        initrd_fd: None,
        command_line: String::new(),
        kvm_fd: kvm.as_raw_fd(),
        disks: Vec::new(),
        networks: Vec::new(),
        vsock: Some(Vsock {
            cid: 3,
            listener_fd: vsock.as_raw_fd(),
        }),
        serial: Serial {
            fd: serial.as_raw_fd(),
            limit: 4096,
        },
        control_fd: control.as_raw_fd(),
        jail,
    };
    change(&mut config);
    let mut text = tempfile::tempfile().unwrap();
    text.write_all(&serde_json::to_vec(&config).unwrap()).unwrap();
    text.seek(SeekFrom::Start(0)).unwrap();
    let text = inherit(text);
    let process = Command::new(env!("CARGO_BIN_EXE_vmm"))
        .args(["--config-fd", &text.as_raw_fd().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Monitor { process, directory }
}

/// Lets a child have this descriptor under the same number.
pub(crate) fn inherit(file: impl Into<OwnedFd>) -> OwnedFd {
    let fd = file.into();
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    fd
}

impl Monitor {
    /// Waits for the end; returns exit code and standard error.
    pub(crate) fn end(mut self) -> (i32, String, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.process.kill().unwrap();
                panic!("the monitor did not end in {PATIENCE:?}; console: {}", self.console());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut error = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (status.code().unwrap_or(-1), error, self.console())
    }

    /// What the guest has written.
    pub(crate) fn console(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("serial")).unwrap()
    }

    /// Waits until the guest has written `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.console().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} on the console");
            assert!(self.process.try_wait().unwrap().is_none(), "the monitor has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks one question.
    pub(crate) fn ask(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.directory.path().join("control")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    /// Where clients of the guest's sockets connect.
    pub(crate) fn vsock(&self) -> PathBuf {
        self.directory.path().join("vsock")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}
