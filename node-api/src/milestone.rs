//! Lines on the console that people read and tests and benches wait for: `[zos +SECONDS.mmm] program: text`.

use std::time::Duration;

/// One line, without its end. `uptime` is the time since the kernel started.
#[must_use]
pub fn line(uptime: Duration, program: &str, text: &str) -> String {
    format!(
        "[zos +{}.{:03}] {program}: {text}",
        uptime.as_secs(),
        uptime.subsec_millis()
    )
}

/// Takes a line apart: uptime, program, text. `None` for whatever is no such line.
#[must_use]
pub fn parse(line: &str) -> Option<(Duration, &str, &str)> {
    let (stamp, rest) = line.strip_prefix("[zos +")?.split_once("] ")?;
    let (program, text) = rest.split_once(": ")?;
    let (seconds, millis) = stamp.split_once('.').filter(|(_, millis)| millis.len() == 3)?;
    let uptime = Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(millis.parse().ok()?);
    Some((uptime, program, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_other_lines_are_not() {
        let uptime = Duration::from_millis(61_007);
        let written = line(uptime, "init", "ready: all up");
        assert_eq!(written, "[zos +61.007] init: ready: all up");
        assert_eq!(parse(&written), Some((uptime, "init", "ready: all up")));
        for other in ["", "[    1.2] kernel", "[zos +1.2] init: x", "[zos +1.200] init"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
