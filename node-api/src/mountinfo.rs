//! The kernel's table of mounts, `/proc/self/mountinfo`. Source: proc(5).

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// The mount points, in the table's order: the fifth field of each line, with its escapes undone.
pub fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape)
}

/// Undoes the three octal digits behind a backslash that stand for blanks and backslashes.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            .filter(|_| *first == b'\\')
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let table = "36 35 98:0 /mnt1 /mnt\\0402\\134a rw,noatime master:1 - ext3 /dev/root rw\n\
                     short\n\
                     4 1 0:4 / /data\\011disk rw - btrfs /dev/vda rw\n";
        assert_eq!(
            mount_points(table).collect::<Vec<_>>(),
            [r"/mnt 2\a", "/data\tdisk"].map(PathBuf::from)
        );
    }
}
