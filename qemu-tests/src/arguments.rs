//! A machine as QEMU's command line.

use std::path::Path;

use crate::config::{Boot, Bus, Config, Disk, DiskSource, Firmware, Forward, Medium, OnReset, Protocol};

/// OVMF's program, which is not written to.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// OVMF's variables, of which every machine has a copy.
pub(crate) const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Files and sockets of one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// Socket on which the harness awaits QEMU.
    pub(crate) qmp: &'a Path,
    /// Socket on which the harness awaits the second serial line.
    pub(crate) faults: &'a Path,
    /// The machine's copy of OVMF's variables.
    pub(crate) variables: &'a Path,
}

/// QEMU's arguments. The serial line is QEMU's standard output.
pub(crate) fn arguments(config: &Config, places: Places<'_>) -> Vec<String> {
    let mut line = Line::default();
    line.words(&[
        "-M",
        "q35",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-serial",
        "stdio",
    ]);
    line.words(config.acceleration.arguments());
    line.pair("-m", config.memory_mib.to_string());
    line.pair("-smp", config.processors.to_string());
    line.pair("-qmp", format!("unix:{}", escaped(places.qmp)));
    line.words(&["-device", "virtio-rng-pci", "-device", "i6300esb,id=watchdog"]);
    if config.faults {
        line.pair("-serial", format!("unix:{}", escaped(places.faults)));
    }
    if config.on_reset == OnReset::End {
        line.words(&["-no-reboot"]);
    }
    boot(&mut line, &config.boot, places);
    for (index, disk) in config.disks.iter().enumerate() {
        attach(&mut line, disk, index);
    }
    if config.network {
        let forwards = config.forwards.iter().map(forward).collect::<String>();
        line.pair("-netdev", format!("user,id=network{forwards}"));
        line.pair("-device", "virtio-net-pci,netdev=network".to_owned());
    }
    line.0.extend(config.extra.iter().cloned());
    line.0
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn pair(&mut self, option: &str, value: String) {
        self.0.push(option.to_owned());
        self.0.push(value);
    }
}

fn boot(line: &mut Line, boot: &Boot, places: Places<'_>) {
    match boot {
        Boot::Iso { path, firmware, medium } => {
            if *firmware == Firmware::Uefi {
                line.pair("-drive", format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}"));
                line.pair(
                    "-drive",
                    format!("if=pflash,format=raw,file={}", escaped(places.variables)),
                );
            }
            let path = escaped(path);
            let (media, device) = match medium {
                Medium::Cd => ("cdrom", "ide-cd"),
                Medium::Stick => ("disk,snapshot=on", "ide-hd"),
            };
            let locked = if *medium == Medium::Cd { ",readonly=on" } else { "" };
            line.pair(
                "-drive",
                format!("if=none,id=medium,format=raw,media={media}{locked},file={path}"),
            );
            line.pair("-device", format!("{device},drive=medium,bootindex=0"));
        }
        Boot::Direct {
            kernel,
            initramfs,
            command_line,
        } => {
            line.pair("-kernel", kernel.display().to_string());
            line.pair("-initrd", initramfs.display().to_string());
            line.pair("-append", command_line.clone());
        }
    }
}

fn attach(line: &mut Line, disk: &Disk, index: usize) {
    let source = match &disk.source {
        DiskSource::File(path) => escaped(path),
        DiskSource::Nbd(url) => url.replace(',', ",,"),
    };
    line.pair(
        "-drive",
        format!("if=none,id=disk{index},format=raw,discard=unmap,file={source}"),
    );
    let device = match disk.bus {
        Bus::Virtio => "virtio-blk-pci".to_owned(),
        Bus::Nvme => "nvme".to_owned(),
        // Each port takes one disk; the boot medium has the first. A rate of one means that nothing rotates.
        Bus::Sata => format!("ide-hd,bus=ide.{},rotation_rate=1", index + 1),
    };
    line.pair("-device", format!("{device},drive=disk{index},serial={}", disk.serial));
}

fn forward(forward: &Forward) -> String {
    let protocol = match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!(",hostfwd={protocol}:127.0.0.1:{}-:{}", forward.host, forward.machine)
}

/// A path as QEMU takes it in a list: commas are doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Acceleration;

    fn line_of(config: &Config) -> String {
        let places = Places {
            qmp: Path::new("/tmp/q"),
            faults: Path::new("/tmp/f"),
            variables: Path::new("/tmp/v,1"),
        };
        arguments(
            &Config {
                acceleration: Acceleration::Translator,
                ..config.clone()
            },
            places,
        )
        .join(" ")
    }

    #[test]
    fn machine_has_what_was_asked_for() {
        let config = Config::iso("/tmp/zos.iso", Firmware::Uefi)
            .memory_mib(1024)
            .disk(Disk::file("/tmp/a,b", "one"))
            .disk(Disk {
                bus: Bus::Nvme,
                ..Disk::nbd("nbd://127.0.0.1:1/x", "two")
            })
            .forward(Protocol::Udp, 5000, 7000);
        assert_eq!(
            line_of(&config),
            "-M q35 -nodefaults -no-user-config -display none -serial stdio -accel tcg,thread=multi -cpu max -m 1024 \
             -smp 2 -qmp unix:/tmp/q -device virtio-rng-pci -device i6300esb,id=watchdog -drive \
             if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd -drive \
             if=pflash,format=raw,file=/tmp/v,,1 -drive \
             if=none,id=medium,format=raw,media=cdrom,readonly=on,file=/tmp/zos.iso -device \
             ide-cd,drive=medium,bootindex=0 -drive if=none,id=disk0,format=raw,discard=unmap,file=/tmp/a,,b -device \
             virtio-blk-pci,drive=disk0,serial=one -drive \
             if=none,id=disk1,format=raw,discard=unmap,file=nbd://127.0.0.1:1/x -device nvme,drive=disk1,serial=two \
             -netdev user,id=network,hostfwd=udp:127.0.0.1:5000-:7000 -device virtio-net-pci,netdev=network"
        );
    }

    #[test]
    fn direct_boot_needs_no_firmware() {
        let boot = Boot::Direct {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            command_line: "quiet a=b".into(),
        };
        let line = line_of(&Config {
            network: false,
            on_reset: OnReset::End,
            faults: true,
            ..Config::new(boot)
        });
        assert!(
            line.ends_with("-serial unix:/tmp/f -no-reboot -kernel /k -initrd /i -append quiet a=b"),
            "{line}"
        );
    }
}
