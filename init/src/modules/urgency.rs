//! Which devices the node needs to become ready, and which can wait until it is.

/// Kinds of devices that neither are nor lead to a disk or a network interface: the beginning of what they say of
/// themselves and, for PCI, their class. Whatever is not in this list may be one.
const CAN_WAIT: [(&str, &str); 8] = [
    // Bridges to the chipset's old devices, whose own drivers are for sensors and watchdogs; the system management bus;
    // base peripherals such as watchdogs.
    ("pci:", "bc06sc01"),
    ("pci:", "bc0Csc05"),
    ("pci:", "bc08sc80"),
    // Processors, which want drivers for their speed and their extensions. The power button is urgent.
    ("acpi:LNXCPU", ""),
    ("acpi:ACPI0007", ""),
    ("cpu:", ""),
    ("dmi:", ""),
    // A source of entropy.
    ("virtio:d00000004", ""),
];

/// Whether the device that says this of itself may be, or lead to, a disk or a network interface, or is the power button.
#[must_use]
pub fn is_urgent(modalias: &str) -> bool {
    !CAN_WAIT
        .iter()
        .any(|(beginning, class)| modalias.starts_with(beginning) && modalias.contains(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_network_are_urgent_and_so_is_what_may_lead_to_them() {
        for urgent in [
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
            "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
            "pci:v00008086d0000A282sv00001849sd0000A282bc0Csc03i30",
            "pci:v00008086d0000201Dsv00000000sd00000000bc01sc04i00",
            "pci:v00001180d0000E823sv00001028sd000004CCbc08sc05i01",
            "virtio:d00000002v00001AF4",
            "acpi:80860F14:INT33BB:",
            "acpi:PNP0C0C:",
            "acpi:LNXPWRBN:",
            "usb:v0BDAp8153d3000dc00dsc00dp00icFFiscFFip00in00",
            "scsi:t-0x00",
            "platform:something",
        ] {
            assert!(is_urgent(urgent), "{urgent}");
        }
        for other in [
            "pci:v00008086d00002918sv00001AF4sd00001100bc06sc01i00",
            "pci:v00008086d00002930sv00001AF4sd00001100bc0Csc05i00",
            "pci:v00008086d000025ABsv00001AF4sd00001100bc08sc80i00",
            "acpi:LNXCPU:",
            "virtio:d00000004v00001AF4",
        ] {
            assert!(!is_urgent(other), "{other}");
        }
    }
}
