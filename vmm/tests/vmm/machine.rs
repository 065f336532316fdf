//! The real monitor on the machine's KVM: how it starts, what it refuses, and every way it ends.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use crate::rig::{Code, inherit, start};
use node_api::vmm::{Access, Disk, exit};

#[test]
fn guest_writes_to_its_console_and_powers_off() {
    let code = Code::default().print("hello\nno end of line").out(0x600, 0x34).halt();
    let (status, error, console) = start(&code.kernel(), None, |_| {}).end();
    assert_eq!(
        (status, error.as_str(), console.as_str()),
        (exit::POWERED_OFF, "", "hello\nno end of line")
    );
}

#[test]
fn guest_resets_by_the_acpi_register_and_by_the_keyboard_controller() {
    for (port, value) in [(0x602, 1), (0x64, 0xfe)] {
        let code = Code::default().out(port, value).halt();
        assert_eq!(
            start(&code.kernel(), None, |_| {}).end().0,
            exit::RESET,
            "port {port:#x}"
        );
    }
}

#[test]
fn triple_fault_ends_the_monitor_with_its_address() {
    let (status, error, console) = start(&Code::default().print("now\n").fault().kernel(), None, |_| {}).end();
    assert_eq!((status, console.as_str()), (exit::GUEST_FAULT, "now\n"));
    assert!(error.starts_with("vmm: guest fault: "), "{error}");
}

#[test]
fn agent_reads_status_and_pulls_the_plug() {
    let mut monitor = start(&Code::default().print("up\n").halt().kernel(), None, |_| {});
    monitor.wait_for("up");
    let status = monitor.ask(r#"{"op":"status"}"#);
    assert!(
        status.contains(r#""id":"test""#) && status.contains(r#""serial.bytes":3"#),
        "{status}"
    );
    assert_eq!(monitor.ask(r#"{"op":"power-button"}"#), "{\"answer\":\"done\"}\n");
    assert_eq!(monitor.ask(r#"{"op":"kill"}"#), "{\"answer\":\"done\"}\n");
    assert_eq!(monitor.end().0, exit::KILLED);
}

#[test]
fn client_of_a_guest_without_driver_is_hung_up_on_in_bounded_time() {
    let mut monitor = start(&Code::default().print("up\n").halt().kernel(), None, |_| {});
    monitor.wait_for("up");
    for greeting in ["CONNECT 80\n", "nonsense\n", "endless endless endless endless endless"] {
        let mut client = UnixStream::connect(monitor.vsock()).unwrap();
        client.set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
        client.write_all(greeting.as_bytes()).unwrap();
        let mut answer = [0; 8];
        assert!(matches!(client.read(&mut answer), Ok(0) | Err(_)), "{greeting}");
    }
    assert!(monitor.ask(r#"{"op":"status"}"#).contains(r#""vsock.refused":3"#));
}

#[test]
fn four_processors_and_memory_on_both_sides_of_the_hole_are_given() {
    let code = Code::default().print("wide\n").out(0x600, 0x34).halt();
    let monitor = start(&code.kernel(), None, |config| {
        config.vcpus = 4;
        config.memory_mib = 4096;
    });
    let (status, error, _) = monitor.end();
    assert_eq!((status, error.as_str()), (exit::POWERED_OFF, ""));
}

#[test]
fn wrong_descriptors_and_kernels_are_named() {
    let code = Code::default().halt();
    let cases: [(&str, Vec<u8>, crate::rig::Change); 5] = [
        ("kernel_fd", code.kernel_without_pvh(), |_| {}),
        ("kernel_fd", b"#!/bin/sh".to_vec(), |_| {}),
        ("kvm_fd", code.kernel(), |config| {
            std::mem::swap(&mut config.kvm_fd, &mut config.serial.fd)
        }),
        ("control_fd", code.kernel(), |config| config.control_fd = 900),
        ("vcpus", code.kernel(), |config| config.vcpus = 0),
    ];
    for (field, kernel, change) in cases {
        let (status, error, _) = start(&kernel, None, change).end();
        assert_eq!(status, exit::BAD_CONFIG, "{error}");
        assert!(
            error.starts_with("vmm: configuration: ") && error.contains(field),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn disk_that_cannot_be_written_is_refused_for_writing() {
    let file = inherit(std::fs::File::open(env!("CARGO_MANIFEST_PATH")).unwrap());
    let monitor = start(&Code::default().halt().kernel(), None, |config| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        config.disks = vec![Disk {
            fd,
            access: Access::ReadWrite,
            serial: String::new(),
        }];
    });
    let (status, error, _) = monitor.end();
    assert_eq!(status, exit::BAD_CONFIG);
    assert!(error.contains("disks[0].fd"), "{error}");
}

#[test]
fn wrong_command_lines_are_refused_in_one_line() {
    for arguments in [
        &[][..],
        &["--config-fd"],
        &["--config-fd", "x"],
        &["--config-fd", "1"],
        &["--help"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_vmm"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(exit::BAD_CONFIG), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vmm"))
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        concat!("vmm ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
