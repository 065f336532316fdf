//! The serial line: a line in, a line out.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Bits a second.
const SPEED: u32 = 115_200;
/// Longest line in bytes; a longer one is split.
const MAX_LINE: u64 = 1024;

/// Opens a serial line that passes bytes on as they are.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let port = File::options().read(true).write(true).open(path)?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    settings.set_speed(SPEED)?;
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(port)
}

/// Answers lines until there are no more.
pub(crate) fn serve(port: impl Read + Write, mut answer: impl FnMut(&str) -> String) -> io::Result<()> {
    let mut port = BufReader::new(port);
    port.get_mut().write_all(b"ready\n")?;
    loop {
        let mut line = Vec::new();
        if (&mut port).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let mut said = answer(String::from_utf8_lossy(&line).trim_end());
        said.retain(|character| !character.is_control());
        said.push('\n');
        port.get_mut().write_all(said.as_bytes())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Port(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Port {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Port {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.1.write(buffer)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_line_gets_one_line_whatever_is_in_it() {
        let mut port = Port(io::Cursor::new(b"one\ntwo\xff\n".to_vec()), Vec::new());
        let by_reference: &mut Port = &mut port;
        serve(by_reference, |line| format!("<{line}>\nmore")).unwrap();
        assert_eq!(
            String::from_utf8(port.1).unwrap(),
            "ready\n<one>more\n<two\u{fffd}>more\n"
        );
    }
}
