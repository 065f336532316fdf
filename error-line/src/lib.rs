//! An error as people read it: what was tried and every cause of its failure, on one line.
#![forbid(unsafe_code)]

use std::{error::Error, io};

/// The error and its causes, from the outermost to the innermost, joined by colons.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some errors of libraries print their cause themselves.
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// Whether the disk is full, or as much of it as may be used.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Self>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| -> &(dyn Error + 'static) { cause })
        }
    }

    fn failed(text: &'static str, cause: Failed) -> Failed {
        Failed(text, Some(Box::new(cause)))
    }

    #[test]
    fn every_cause_is_said_once_on_one_line() {
        let innermost = || Failed("no such\nfile", None);
        let error = failed("start", failed("read a: no such\nfile", innermost()));
        assert_eq!(with_causes(&error), "start: read a: no such file");
        let error = failed("start", failed("read a", innermost()));
        assert_eq!(with_causes(&error), "start: read a: no such file");
        assert_eq!(with_causes(&innermost()), "no such file");
    }
}
