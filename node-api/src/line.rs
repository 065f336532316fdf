//! Framing of the local sockets: one JSON object a line, with a bound on the line.

use std::io::{self, BufRead, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The longest line a peer may send, newline included, in bytes. A longer one ends the connection.
pub const MAX_LINE: usize = 256 * 1024;

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The peer sent more than [`MAX_LINE`] bytes without a newline.
    #[error("line longer than {MAX_LINE} bytes")]
    TooLong,
    /// The line is not the JSON object that was expected.
    #[error("line is not the expected message")]
    Malformed(#[source] serde_json::Error),
    /// The socket itself failed.
    #[error("socket")]
    Io(#[source] io::Error),
}

/// Reads one message. `None` means that the peer closed the connection between two messages.
///
/// # Errors
/// [`LineError`] when the line is over-long, malformed or the socket fails.
pub fn read<T: DeserializeOwned>(reader: &mut impl BufRead) -> Result<Option<T>, LineError> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    reader.take(limit).read_until(b'\n', &mut line).map_err(LineError::Io)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() >= MAX_LINE {
        return Err(LineError::TooLong);
    }
    serde_json::from_slice(&line).map(Some).map_err(LineError::Malformed)
}

/// Writes one message and flushes it.
///
/// # Errors
/// [`LineError::Malformed`] when `message` cannot be represented as JSON, [`LineError::Io`] when the socket fails.
pub fn write(writer: &mut impl Write, message: &impl Serialize) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(message).map_err(LineError::Malformed)?;
    line.push(b'\n');
    writer
        .write_all(&line)
        .and_then(|()| writer.flush())
        .map_err(LineError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_end_of_stream_is_none() {
        let mut bytes = Vec::new();
        write(&mut bytes, &vec![1, 2]).unwrap();
        write(&mut bytes, &vec![3]).unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(read::<Vec<u8>>(&mut reader).unwrap(), Some(vec![1, 2]));
        assert_eq!(read::<Vec<u8>>(&mut reader).unwrap(), Some(vec![3]));
        assert_eq!(read::<Vec<u8>>(&mut reader).unwrap(), None);
    }

    #[test]
    fn endless_line_is_cut_off() {
        let mut endless = io::BufReader::new(io::repeat(b' '));
        assert!(matches!(read::<u8>(&mut endless), Err(LineError::TooLong)));
    }
}
