//! Who a peer is and where it is reached.

use std::{fmt, net::SocketAddr, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use data_encoding::HEXLOWER_PERMISSIVE;
use zeroize::Zeroizing;

/// Most socket addresses in one [`PeerAddress`].
pub const MAX_ADDRESSES: usize = 8;

/// Why a peer's id or address is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The id is not 64 hexadecimal digits.
    #[error("peer id is not 64 hexadecimal digits")]
    NotHex,
    /// The id is not an ed25519 public key.
    #[error("peer id is not an ed25519 public key")]
    NotAKey,
    /// The `@` between id and addresses is missing.
    #[error("peer address lacks the @ between id and ip:port")]
    NoAt,
    /// An address is not `ip:port`.
    #[error("{0:?} is not ip:port")]
    NotAnAddress(String),
    /// There are none or more than [`MAX_ADDRESSES`] addresses.
    #[error("peer address has {0} socket addresses, 1 to {MAX_ADDRESSES} are allowed")]
    Count(usize),
}

/// The secret ed25519 key of a link. Wiped from memory when dropped; shows nothing of itself in `Debug`.
#[derive(Clone)]
pub struct LinkKey(iroh::SecretKey);

impl LinkKey {
    /// The key with this seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(iroh::SecretKey::from_bytes(seed))
    }

    /// A fresh key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(&seed))
    }

    /// The seed, to be kept secret.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId(self.0.public())
    }

    pub(crate) fn inner(&self) -> &iroh::SecretKey {
        &self.0
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LinkKey(of {})", self.id())
    }
}

/// A peer: its public ed25519 link key. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(iroh::PublicKey);

impl PeerId {
    /// The peer with this public key.
    ///
    /// # Errors
    /// [`AddressError::NotAKey`] when the bytes are not a point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, AddressError> {
        iroh::PublicKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| AddressError::NotAKey)
    }

    /// The public key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub(crate) fn inner(self) -> iroh::PublicKey {
        self.0
    }
}

impl From<iroh::PublicKey> for PeerId {
    fn from(key: iroh::PublicKey) -> Self {
        Self(key)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER_PERMISSIVE.encode(self.as_bytes()))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for PeerId {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| AddressError::NotHex)?;
        Self::from_bytes(&<[u8; 32]>::try_from(bytes).map_err(|_| AddressError::NotHex)?)
    }
}

impl BorshSerialize for PeerId {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        self.as_bytes().serialize(writer)
    }
}

impl BorshDeserialize for PeerId {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        Self::from_bytes(&<[u8; 32]>::deserialize_reader(reader)?).map_err(invalid)
    }
}

impl serde::Serialize for PeerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PeerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A peer and where it is reached. Written `<id>@ip:port[,ip:port…]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    id: PeerId,
    addresses: Vec<SocketAddr>,
}

impl PeerAddress {
    /// A peer at one to [`MAX_ADDRESSES`] addresses.
    ///
    /// # Errors
    /// [`AddressError::Count`] when there are none or too many.
    pub fn new(id: PeerId, addresses: Vec<SocketAddr>) -> Result<Self, AddressError> {
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(AddressError::Count(addresses.len()));
        }
        Ok(Self { id, addresses })
    }

    /// The peer.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Where it is reached, at least one address.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@", self.id)?;
        for (index, address) in self.addresses.iter().enumerate() {
            write!(formatter, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (id, addresses) = text.split_once('@').ok_or(AddressError::NoAt)?;
        let addresses = addresses
            .split(',')
            .take(MAX_ADDRESSES + 1)
            .map(|one| {
                one.parse()
                    .map_err(|_| AddressError::NotAnAddress(one.chars().take(64).collect()))
            })
            .collect::<Result<Vec<SocketAddr>, _>>()?;
        Self::new(id.parse()?, addresses)
    }
}

impl BorshSerialize for PeerAddress {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        self.id.serialize(writer)?;
        self.addresses.serialize(writer)
    }
}

impl BorshDeserialize for PeerAddress {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let id = PeerId::deserialize_reader(reader)?;
        let count = usize::try_from(u32::deserialize_reader(reader)?).unwrap_or(usize::MAX);
        if count > MAX_ADDRESSES {
            return Err(invalid(AddressError::Count(count)));
        }
        let addresses = (0..count)
            .map(|_| SocketAddr::deserialize_reader(reader))
            .collect::<Result<_, _>>()?;
        Self::new(id, addresses).map_err(invalid)
    }
}

impl serde::Serialize for PeerAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PeerAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

fn invalid(error: AddressError) -> borsh::io::Error {
    borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> PeerAddress {
        let id = LinkKey::from_seed(&[7; 32]).id();
        PeerAddress::new(
            id,
            vec!["10.0.0.1:4000".parse().unwrap(), "[::1]:4001".parse().unwrap()],
        )
        .unwrap()
    }

    #[test]
    fn address_survives_text_and_borsh() {
        let text = address().to_string();
        assert!(text.ends_with("@10.0.0.1:4000,[::1]:4001"), "{text}");
        assert_eq!(text.parse::<PeerAddress>(), Ok(address()));
        let bytes = borsh::to_vec(&address()).unwrap();
        assert_eq!(borsh::from_slice::<PeerAddress>(&bytes).unwrap(), address());
    }

    #[test]
    fn malformed_addresses_are_refused_by_name() {
        let id = address().id();
        assert_eq!("x@1.2.3.4:5".parse::<PeerAddress>(), Err(AddressError::NotHex));
        assert_eq!(id.to_string().parse::<PeerAddress>(), Err(AddressError::NoAt));
        assert_eq!(
            format!("{id}@host").parse::<PeerAddress>(),
            Err(AddressError::NotAnAddress("host".into()))
        );
        let many = ["1.2.3.4:5"; 50].join(",");
        assert_eq!(
            format!("{id}@{many}").parse::<PeerAddress>(),
            Err(AddressError::Count(MAX_ADDRESSES + 1))
        );
        let mut bytes = borsh::to_vec(&id).unwrap();
        bytes.extend(u32::MAX.to_le_bytes());
        assert!(borsh::from_slice::<PeerAddress>(&bytes).is_err());
    }

    #[test]
    fn secret_does_not_show_in_debug() {
        let key = LinkKey::from_seed(&[0xab; 32]);
        assert!(!format!("{key:?}").contains("abab"));
        assert_eq!(*key.seed(), [0xab; 32]);
    }
}
