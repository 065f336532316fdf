//! A network of its own for one validator: a namespace with a loopback interface and nothing else. Peer links find every way
//! there is from one machine to another, so a link that fails must be the only one.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::UdpSocket,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Brings the loopback interface up (`IFF_UP | IFF_LOOPBACK`), says so and waits to be killed.
const HOLD: &str = "mount -t sysfs sysfs /sys && echo 9 > /sys/class/net/lo/flags && echo up && exec sleep infinity";

/// A network namespace. Dropping it ends it, once nobody is in it.
#[derive(Debug)]
pub(crate) struct Space {
    holder: Child,
    namespace: File,
}

impl Space {
    pub(crate) fn new() -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-c", HOLD]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = holder.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "a namespace needs root");
        let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
        Self { holder, namespace }
    }

    /// Does something in it.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        // The thread leaves it by ending.
        thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// A socket in it, at a free port of its loopback address.
    pub(crate) fn socket(&self) -> UdpSocket {
        self.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // One that has ended is none to kill.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
