//! Numbers as people read them on the console.

/// A size in binary units with at most one decimal, rounded down: `2 GiB`, `1.5 TiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} bytes");
    };
    let whole = bytes >> shift;
    let tenths = ((bytes >> (shift - 10)) & 1023) * 10 / 1024;
    match tenths {
        0 => format!("{whole} {unit}"),
        tenths => format!("{whole}.{tenths} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_rounded_down_to_one_decimal() {
        assert_eq!(size(2 << 30), "2 GiB");
        assert_eq!(size((3 << 39) + 5), "1.5 TiB");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size((2 << 20) - 1), "1.9 MiB");
    }
}
