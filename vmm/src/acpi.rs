//! ACPI tables of the guest: hardware-reduced, so there is neither a legacy timer nor a legacy interrupt controller to
//! probe. Virtio devices are found here alone; distribution kernels take no device from the command line.
//!
//! The power button is a generic event device: a pulse on its interrupt line runs `_EVT`, which notifies the button.

use acpi_tables::{
    Aml, aml,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};

use crate::{bytes, layout};

const OEM: [u8; 6] = *b"ZOS   ";
const TABLE: [u8; 8] = *b"ZOSVMM  ";
const REVISION: u32 = 1;
/// Sleep type of soft-off, as `_S5` gives it and the guest writes it to the sleep control register.
pub const SOFT_OFF: u8 = 5;
/// `IAPC_BOOT_ARCH`: no VGA (bit 2), no CMOS clock (bit 5); no keyboard controller (bit 1 clear).
const BOOT_ARCHITECTURE: u16 = (1 << 2) | (1 << 5);

/// The tables, to be written to [`layout::ACPI`]; the root pointer is their first byte.
#[must_use]
pub fn tables(vcpus: u8, devices: usize) -> Vec<u8> {
    let mut image = vec![0; Rsdp::len()];
    let dsdt = place(&mut image, &dsdt(devices));
    let fadt = place(&mut image, &fadt(dsdt));
    let madt = place(&mut image, &madt(vcpus));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(&mut image, &xsdt);
    let mut root = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut root);
    image[..root.len()].copy_from_slice(&root);
    image
}

/// Appends `table` on an 8-byte boundary and returns its guest address.
fn place(image: &mut Vec<u8>, table: &dyn Aml) -> u64 {
    image.resize(image.len().next_multiple_of(8), 0);
    let address = layout::ACPI + bytes::wide(image.len());
    table.to_aml_bytes(image);
    address
}

fn port(address: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address.into())
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(layout::RESET_PORT);
    fadt.reset_value = layout::RESET_VALUE;
    fadt.sleep_control_reg = port(layout::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port(layout::SLEEP_STATUS_PORT);
    fadt.finalize()
}

fn madt(vcpus: u8) -> impl Aml {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(layout::LAPIC));
    for vcpu in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(vcpu, vcpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

/// An interrupt resource: consumer, edge-triggered, active high.
fn line(number: u32, sharing: Sharing) -> aml::Interrupt {
    aml::Interrupt::new(true, true, false, sharing == Sharing::Shared, number)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    Shared,
}

fn dsdt(devices: usize) -> impl Aml {
    let mut body = Vec::new();
    serial(&mut body);
    power_button(&mut body);
    for index in 0..devices {
        virtio(&mut body, index);
    }
    let mut definitions = aml::Scope::raw("\\_SB_".into(), body);
    let (soft_off, zero) = (SOFT_OFF, 0u8);
    let sleep = aml::Package::new(vec![&soft_off, &zero, &zero, &zero]);
    aml::Name::new("\\_S5_".into(), &sleep).to_aml_bytes(&mut definitions);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    dsdt.append_slice(&definitions);
    dsdt
}

fn serial(body: &mut Vec<u8>) {
    let ports = aml::IO::new(layout::SERIAL_PORT, layout::SERIAL_PORT, 0, 8);
    let interrupt = line(layout::SERIAL_LINE, Sharing::Exclusive);
    aml::Device::new(
        "COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&ports, &interrupt])),
        ],
    )
    .to_aml_bytes(body);
}

fn power_button(body: &mut Vec<u8>) {
    aml::Device::new(
        "PWRB".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0C0C")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
        ],
    )
    .to_aml_bytes(body);
    let interrupt = line(layout::EVENT_LINE, Sharing::Exclusive);
    let pressed = 0x80u8;
    aml::Device::new(
        "GED_".into(),
        vec![
            &aml::Name::new("_HID".into(), &"ACPI0013"),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&interrupt])),
            &aml::Method::new(
                "_EVT".into(),
                1,
                true,
                vec![&aml::Notify::new(&aml::Path::new("\\_SB_.PWRB"), &pressed)],
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn virtio(body: &mut Vec<u8>, index: usize) {
    let window = u32::try_from(layout::device_window(index)).expect("device windows are below 4 GiB");
    let size = u32::try_from(layout::DEVICE_WINDOW).expect("a window is one page");
    let unique = u32::try_from(index).expect("there are few devices");
    let memory = aml::Memory32Fixed::new(true, window, size);
    let interrupt = line(layout::device_line(index), Sharing::Shared);
    aml::Device::new(
        format!("V{index:03}").as_str().into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &unique),
            &aml::Name::new("_CCA".into(), &aml::ONE),
            &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&memory, &interrupt])),
        ],
    )
    .to_aml_bytes(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{size, u32_at, u64_at};

    fn sum(table: &[u8]) -> u8 {
        table.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn table(image: &[u8], address: u64) -> &[u8] {
        let at = size(address - layout::ACPI);
        &image[at..at + size(u32_at(image, at + 4).into())]
    }

    #[test]
    fn tables_are_linked_from_the_root_and_every_checksum_is_zero() {
        let image = tables(3, 5);
        assert_eq!(&image[..8], b"RSD PTR ");
        assert_eq!((sum(&image[..20]), sum(&image[..36])), (0, 0));
        let xsdt = table(&image, u64_at(&image, 24));
        assert_eq!((&xsdt[..4], sum(xsdt), xsdt.len()), (&b"XSDT"[..], 0, 36 + 16));
        let fadt = table(&image, u64_at(xsdt, 36));
        assert_eq!((&fadt[..4], sum(fadt)), (&b"FACP"[..], 0));
        let madt = table(&image, u64_at(xsdt, 44));
        assert_eq!((&madt[..4], sum(madt), madt.len()), (&b"APIC"[..], 0, 44 + 3 * 8 + 12));
        let dsdt = table(&image, u64_at(fadt, 140));
        assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
        let found = dsdt.windows(8).filter(|window| *window == b"LNRO0005").count();
        assert_eq!(found, 5);
    }

    #[test]
    fn largest_configuration_fits_into_its_region() {
        let image = tables(node_api::vmm::MAX_VCPUS, 2 * node_api::vmm::MAX_DEVICES + 2);
        assert!(bytes::wide(image.len()) <= layout::ACPI_SIZE);
    }
}
