//! The server's side of the NBD protocol: fixed newstyle negotiation and simple replies.
//!
//! Source: `doc/proto.md` of the Network Block Device project. Numbers are big-endian.

use std::io::{self, Read, Write};

use super::medium::SECTOR;

const INIT_MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flags: fixed newstyle, no padding after the export.
const HANDSHAKE: u16 = 1 | 2;
/// Transmission flags: flags are given, flush and forced writes are understood.
const TRANSMISSION: u16 = 1 | 4 | 8;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) | 1;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Longest option in bytes; names of exports are shorter.
const MAX_OPTION: u32 = 64 * 1024;
/// Longest read or write in bytes.
const MAX_REQUEST: u32 = 32 << 20;
/// What reads best, in bytes.
const PREFERRED: u32 = 4096;
/// Flag of a request: it is on the medium before it is answered.
const FORCED: u16 = 1;

/// How a negotiation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Negotiated {
    /// Requests follow.
    Export,
    /// The client has what it wanted.
    Nothing,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// What its answer is known by.
    pub(super) cookie: u64,
    pub(super) kind: Kind,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Read {
        offset: u64,
        length: usize,
    },
    Write {
        offset: u64,
        data: Vec<u8>,
        forced: bool,
    },
    Flush,
    Disconnect,
    /// Nothing that was offered.
    Unknown,
}

/// An answer's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Error {
    None,
    Io,
    Invalid,
}

impl Error {
    fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Io => 5,
            Self::Invalid => 22,
        }
    }
}

/// Agrees with a client on the one disk, whatever it calls it.
pub(super) fn negotiate(stream: &mut (impl Read + Write), bytes: u64) -> io::Result<Negotiated> {
    stream.write_all(&[&INIT_MAGIC[..], OPTION_MAGIC, &HANDSHAKE.to_be_bytes()].concat())?;
    // The client repeats the flags that it understood.
    take::<4>(stream)?;
    loop {
        if take::<8>(stream)? != *OPTION_MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > MAX_OPTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes_of(stream, length)?;
        match option {
            OPTION_EXPORT_NAME => {
                stream.write_all(&[&bytes.to_be_bytes()[..], &TRANSMISSION.to_be_bytes()].concat())?;
                return Ok(Negotiated::Export);
            }
            OPTION_ABORT => {
                answer_option(stream, option, REPLY_ACK, &[])?;
                return Ok(Negotiated::Nothing);
            }
            OPTION_INFO | OPTION_GO => {
                answer_option(stream, option, REPLY_INFO, &export(bytes))?;
                answer_option(stream, option, REPLY_INFO, &block_size()?)?;
                answer_option(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(Negotiated::Export);
                }
            }
            _ => answer_option(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn export(bytes: u64) -> Vec<u8> {
    [
        &INFO_EXPORT.to_be_bytes()[..],
        &bytes.to_be_bytes(),
        &TRANSMISSION.to_be_bytes(),
    ]
    .concat()
}

fn block_size() -> io::Result<Vec<u8>> {
    let least = u32::try_from(SECTOR).map_err(io::Error::other)?;
    let sizes = [least, PREFERRED, MAX_REQUEST].map(u32::to_be_bytes).concat();
    Ok([&INFO_BLOCK_SIZE.to_be_bytes()[..], &sizes].concat())
}

fn answer_option(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut answer = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for number in [option, kind, length] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(data);
    stream.write_all(&answer)
}

/// Takes the next request.
pub(super) fn request(stream: &mut impl Read) -> io::Result<Request> {
    if u32::from_be_bytes(take(stream)?) != REQUEST_MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let flags = u16::from_be_bytes(take(stream)?);
    let kind = u16::from_be_bytes(take(stream)?);
    let cookie = u64::from_be_bytes(take(stream)?);
    let offset = u64::from_be_bytes(take(stream)?);
    let length = u32::from_be_bytes(take(stream)?);
    if length > MAX_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let kind = match kind {
        0 => Kind::Read {
            offset,
            length: usize::try_from(length).map_err(io::Error::other)?,
        },
        1 => Kind::Write {
            offset,
            data: bytes_of(stream, length)?,
            forced: flags & FORCED != 0,
        },
        2 => Kind::Disconnect,
        3 => Kind::Flush,
        _ => Kind::Unknown,
    };
    Ok(Request { cookie, kind })
}

/// Answers a request.
pub(super) fn answer(stream: &mut impl Write, cookie: u64, error: Error, data: &[u8]) -> io::Result<()> {
    let mut head = REPLY_MAGIC.to_be_bytes().to_vec();
    head.extend(error.code().to_be_bytes());
    head.extend(cookie.to_be_bytes());
    stream.write_all(&head)?;
    stream.write_all(data)
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn bytes_of(stream: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
