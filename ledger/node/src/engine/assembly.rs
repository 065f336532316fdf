//! Puts the pieces of proposed blocks together.
//!
//! Pieces come from peers, in any order, through whichever neighbour: a stream is known by who published it and its id, and
//! put together by sequence numbers. What a publisher may leave unfinished here is bounded; its oldest stream goes first.

use std::collections::BTreeMap;

use arc_malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use bytes::Bytes;
use ledger::encoding::MAX_BLOCK;

use super::types::{Head, Part};

/// Bytes in one piece.
const PIECE: usize = 64 << 10;
/// Unfinished streams of one publisher.
const MAX_STREAMS: usize = 4;
/// Publishers with unfinished streams.
const MAX_PUBLISHERS: usize = 128;

/// Why a piece is refused; its stream is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AssemblyError {
    /// The first message is not the head, or a later one is.
    #[error("a proposal's parts are not head, pieces, end")]
    Order,
    /// A piece is larger or a block longer than allowed, or the block is not as long as announced.
    #[error("a proposal's parts are not as long as announced")]
    Size,
}

/// Streams that are not complete yet.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    streams: BTreeMap<Vec<u8>, Vec<Stream>>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    head: Option<Head>,
    pieces: BTreeMap<u64, Vec<u8>>,
    end: Option<u64>,
    bytes: usize,
}

impl Assembly {
    /// Takes one message of a stream. Returns the block when it is complete.
    pub(super) fn insert(
        &mut self,
        publisher: Vec<u8>,
        message: StreamMessage<Part>,
    ) -> Result<Option<(Head, Vec<u8>)>, AssemblyError> {
        if !self.streams.contains_key(&publisher) && self.streams.len() >= MAX_PUBLISHERS {
            self.streams.pop_first();
        }
        let streams = self.streams.entry(publisher).or_default();
        let place = streams
            .iter()
            .position(|stream| stream.id == message.stream_id)
            .unwrap_or_else(|| {
                if streams.len() >= MAX_STREAMS {
                    streams.remove(0);
                }
                streams.push(Stream::new(message.stream_id.clone()));
                streams.len() - 1
            });
        match streams[place].insert(message.sequence, message.content) {
            Ok(false) => Ok(None),
            Ok(true) => streams.remove(place).finish().map(Some),
            Err(error) => {
                streams.remove(place);
                Err(error)
            }
        }
    }

    /// Drops what was announced for heights up to and including `height`.
    pub(super) fn forget(&mut self, height: u64) {
        self.streams.retain(|_, streams| {
            streams.retain(|stream| stream.head.is_none_or(|head| head.height > height));
            !streams.is_empty()
        });
    }
}

impl Stream {
    fn new(id: StreamId) -> Self {
        Self {
            id,
            head: None,
            pieces: BTreeMap::new(),
            end: None,
            bytes: 0,
        }
    }

    /// Whether the stream is complete with this message.
    fn insert(&mut self, sequence: u64, content: StreamContent<Part>) -> Result<bool, AssemblyError> {
        match (sequence, content) {
            (0, StreamContent::Data(Part::Head(head))) => {
                if usize::try_from(head.size).unwrap_or(usize::MAX) > MAX_BLOCK {
                    return Err(AssemblyError::Size);
                }
                self.head = Some(head);
            }
            (1.., StreamContent::Data(Part::Piece(piece))) => {
                if piece.is_empty() || piece.len() > PIECE || self.bytes + piece.len() > MAX_BLOCK {
                    return Err(AssemblyError::Size);
                }
                if let std::collections::btree_map::Entry::Vacant(place) = self.pieces.entry(sequence) {
                    self.bytes += piece.len();
                    place.insert(piece);
                }
            }
            (1.., StreamContent::Fin) => self.end = Some(sequence),
            _ => return Err(AssemblyError::Order),
        }
        let pieces = u64::try_from(self.pieces.len()).unwrap_or(u64::MAX);
        // Pieces are numbered from 1 and the end follows the last one.
        let complete = self.end.is_some_and(|end| pieces + 1 >= end);
        Ok(self.head.is_some() && complete)
    }

    fn finish(self) -> Result<(Head, Vec<u8>), AssemblyError> {
        let head = self.head.ok_or(AssemblyError::Order)?;
        let pieces = u64::try_from(self.pieces.len()).unwrap_or(u64::MAX);
        let gapless = self.end == Some(pieces + 1) && self.pieces.keys().copied().eq(1..=pieces);
        if !gapless {
            return Err(AssemblyError::Order);
        }
        if Ok(self.bytes) != usize::try_from(head.size) {
            return Err(AssemblyError::Size);
        }
        Ok((head, self.pieces.into_values().flatten().collect()))
    }
}

/// The messages of a stream that carries a block.
pub(super) fn stream_of(id: Vec<u8>, head: Head, block: &[u8]) -> impl Iterator<Item = StreamMessage<Part>> {
    let id = StreamId::new(Bytes::from(id));
    let pieces = block
        .chunks(PIECE)
        .map(|piece| StreamContent::Data(Part::Piece(piece.to_vec())));
    std::iter::once(StreamContent::Data(Part::Head(head)))
        .chain(pieces)
        .chain(std::iter::once(StreamContent::Fin))
        .zip(0_u64..)
        .map(move |(content, sequence)| StreamMessage::new(id.clone(), sequence, content))
}

#[cfg(test)]
mod tests {
    use ledger::{Hash, PublicKey};

    use super::*;

    fn head(height: u64, size: usize) -> Head {
        Head {
            height,
            round: 0,
            valid_round: None,
            proposer: PublicKey::from_bytes([1; 32]),
            block: Hash::from_bytes([2; 32]),
            size: u32::try_from(size).unwrap(),
        }
    }

    #[test]
    fn pieces_are_put_together_in_whichever_order_they_come() {
        let block: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let messages: Vec<_> = stream_of(vec![1], head(5, block.len()), &block).collect();
        for rotation in 0..messages.len() {
            let mut order = messages.clone();
            order.rotate_left(rotation);
            let mut assembly = Assembly::default();
            let last = order.pop().unwrap();
            for message in order {
                assert_eq!(assembly.insert(vec![9], message), Ok(None));
            }
            assert_eq!(
                assembly.insert(vec![9], last),
                Ok(Some((head(5, block.len()), block.clone())))
            );
        }
    }

    #[test]
    fn streams_of_the_same_id_by_two_publishers_do_not_mix() {
        let mut assembly = Assembly::default();
        let ours: Vec<_> = stream_of(vec![1], head(5, 3), b"abc").collect();
        let theirs: Vec<_> = stream_of(vec![1], head(5, 3), b"xyz").collect();
        for message in &theirs[..2] {
            assert_eq!(assembly.insert(vec![2], message.clone()), Ok(None));
        }
        for message in &ours[..2] {
            assert_eq!(assembly.insert(vec![1], message.clone()), Ok(None));
        }
        assert_eq!(
            assembly.insert(vec![1], ours[2].clone()),
            Ok(Some((head(5, 3), b"abc".to_vec())))
        );
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut assembly = Assembly::default();
        let mut refused = |head, block: &[u8]| {
            stream_of(vec![1], head, block).find_map(|message| assembly.insert(vec![1], message).err())
        };
        assert_eq!(refused(head(1, 4), b"abc"), Some(AssemblyError::Size));
        assert_eq!(refused(head(1, MAX_BLOCK + 1), b"abc"), Some(AssemblyError::Size));
        assert_eq!(
            refused(head(1, 10), &vec![0; MAX_BLOCK + PIECE]),
            Some(AssemblyError::Size)
        );
    }

    #[test]
    fn one_publisher_cannot_hoard() {
        let mut assembly = Assembly::default();
        for id in 0..100_u8 {
            for message in stream_of(vec![id], head(u64::from(id), 3), b"abc").take(2) {
                assembly.insert(vec![1], message).unwrap();
            }
        }
        assert_eq!(assembly.streams[&vec![1]].len(), MAX_STREAMS);
        assembly.forget(98);
        assert_eq!(assembly.streams[&vec![1]].len(), 1);
        assembly.forget(99);
        assert!(assembly.streams.is_empty());
    }
}
