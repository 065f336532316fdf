//! The one-line reports on the console that tests and benches read.
//!
//! # Format
//! `[zos +SECONDS.mmm] PROGRAM: TEXT` and a newline. SECONDS is decimal without padding, `mmm` are three digits; both
//! together are `CLOCK_BOOTTIME` when the line was made. PROGRAM is `init`, `guest-init` or the name of a supervised
//! service, whose output lines are printed in the same form. Control characters in TEXT are shown as `?`, so a line is
//! always one line.
//!
//! | TEXT | moment |
//! |---|---|
//! | `mounts` | the mount table is done |
//! | `image verified (N files)` | what is needed to start matches the manifest |
//! | `modules loaded (N)` | the disks and network interfaces that were there have their modules |
//! | `agent started` | the agent's process exists |
//! | `test agent started` | in the test flavour of the image alone: the process that causes faults exists |
//! | `agent ready` | the agent said that it is ready |
//! | `all modules loaded (N)` | so is what guests and other devices need |
//! | `whole image verified (N files)` | the rest of the image matches as well |
//! | `stopping (…)` | an ordered end has begun; the reason is in the parentheses |
//! | `image damaged: PATH: …` | the image is refused |
//!
//! `guest-init` reports `mounts`, `modules loaded (N)`, `root mounted`, `workload started` and `stopping (…)`.

use crate::monotonic::Monotonic;

/// Longest TEXT in bytes; what is longer is cut at a character's border.
pub const MAX_TEXT: usize = 1024;

/// Makes the line, newline included.
#[must_use]
pub fn line(now: Monotonic, program: &str, text: &str) -> String {
    let mut line = format!("[zos +{now}] {program}: ");
    let limit = line.len() + MAX_TEXT;
    for character in text.chars() {
        if line.len() + character.len_utf8() > limit {
            break;
        }
        line.push(if character.is_control() && character != '\t' {
            '?'
        } else {
            character
        });
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn has_the_documented_form() {
        let now = Monotonic::after_boot(Duration::from_millis(1_002));
        assert_eq!(line(now, "init", "mounts"), "[zos +1.002] init: mounts\n");
    }

    #[test]
    fn is_one_line_of_bounded_length_whatever_is_said() {
        let text = line(Monotonic::default(), "init", &"ä\n\u{1b}[2J".repeat(10_000));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\u{1b}'));
        assert!(text.len() <= MAX_TEXT + 32);
    }
}
