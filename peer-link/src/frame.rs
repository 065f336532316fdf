//! Frames on a stream: the length of the body as a little-endian `u32`, then the body in borsh.

use std::{io, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What went wrong on a link that was up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection is gone.
    #[error("connection to peer is closed: {0}")]
    Closed(String),
    /// A stream failed.
    #[error("stream to peer")]
    Stream(#[source] io::Error),
    /// A frame is longer than the protocol allows.
    #[error("frame of {length} bytes where {maximum} are allowed")]
    TooLarge {
        /// Announced length in bytes.
        length: usize,
        /// Allowed length in bytes.
        maximum: usize,
    },
    /// A frame's body is not the expected message.
    #[error("frame is not the expected message")]
    Malformed(#[source] io::Error),
    /// The stream ended inside a frame, or where a frame was expected.
    #[error("stream ended where a frame was expected")]
    Truncated,
    /// The peer took too long.
    #[error("peer did not finish within {0:?}")]
    Deadline(Duration),
}

impl LinkError {
    /// Whether the peer broke the protocol, rather than the link breaking.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Malformed(_))
    }
}

/// Reads one frame. `None` means that the stream ended cleanly before it.
///
/// Memory grows with what arrives, not with the length that the peer announces.
///
/// # Errors
/// [`LinkError`] when the frame is over-long, cut off, not a `T`, or the stream fails.
pub async fn read_frame<T: BorshDeserialize>(
    reader: &mut (impl AsyncRead + Unpin),
    maximum: usize,
) -> Result<Option<T>, LinkError> {
    let mut prefix = [0_u8; 4];
    let mut filled = 0;
    while filled < prefix.len() {
        match reader.read(&mut prefix[filled..]).await.map_err(LinkError::Stream)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(LinkError::Truncated),
            read => filled += read,
        }
    }
    let announced = u32::from_le_bytes(prefix);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > maximum {
        return Err(LinkError::TooLarge { length, maximum });
    }
    let mut body = Vec::new();
    reader
        .take(u64::from(announced))
        .read_to_end(&mut body)
        .await
        .map_err(LinkError::Stream)?;
    if body.len() < length {
        return Err(LinkError::Truncated);
    }
    borsh::from_slice(&body).map(Some).map_err(LinkError::Malformed)
}

/// Writes one frame.
///
/// # Errors
/// [`LinkError::TooLarge`] when the message is longer than `maximum`, [`LinkError::Stream`] when the stream fails.
pub async fn write_frame<T: BorshSerialize + ?Sized>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &T,
    maximum: usize,
) -> Result<(), LinkError> {
    let mut bytes = vec![0_u8; 4];
    message.serialize(&mut bytes).map_err(LinkError::Malformed)?;
    let length = bytes.len() - 4;
    let announced = u32::try_from(length).ok().filter(|_| length <= maximum);
    let announced = announced.ok_or(LinkError::TooLarge { length, maximum })?;
    bytes[..4].copy_from_slice(&announced.to_le_bytes());
    writer.write_all(&bytes).await.map_err(LinkError::Stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<Vec<u8>>, LinkError> {
        read_frame(&mut &*bytes, 16).await
    }

    #[tokio::test]
    async fn frame_round_trips() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &vec![1_u8, 2, 3], 16).await.unwrap();
        assert_eq!(bytes, [7, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3]);
        assert_eq!(read(&bytes).await.unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(read(&[]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn over_long_frame_is_refused_before_its_body_is_read() {
        assert!(matches!(
            read(&[17, 0, 0, 0]).await,
            Err(LinkError::TooLarge {
                length: 17,
                maximum: 16
            })
        ));
        assert!(matches!(read(&[255; 4]).await, Err(LinkError::TooLarge { .. })));
        let long = write_frame(&mut Vec::new(), &vec![0_u8; 13], 16).await;
        assert!(matches!(long, Err(LinkError::TooLarge { length: 17, .. })));
    }

    #[tokio::test]
    async fn cut_off_and_malformed_frames_are_told_apart() {
        assert!(matches!(read(&[7, 0]).await, Err(LinkError::Truncated)));
        assert!(matches!(read(&[7, 0, 0, 0, 3]).await, Err(LinkError::Truncated)));
        assert!(matches!(
            read(&[4, 0, 0, 0, 1, 0, 0, 0]).await,
            Err(LinkError::Malformed(_))
        ));
        // A byte too many after the message.
        assert!(matches!(
            read(&[5, 0, 0, 0, 0, 0, 0, 0, 9]).await,
            Err(LinkError::Malformed(_))
        ));
    }
}
