//! Who has the images: what each contract says of its own, put together.
//!
//! Contracts of different customers may name the same content. None of them can take away what another says: the greatest size
//! holds, for the hash proves what is too large, and everybody who is named is asked.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{Id, body::Blob};
use peer_link::PeerAddress;

use crate::reconcile::ImageHash;

/// Sources of images by the contract that names them.
#[derive(Debug, Default)]
pub struct Sources {
    by_contract: BTreeMap<Id, (Blob, Vec<PeerAddress>)>,
}

impl Sources {
    /// Takes over what a contract says of its image.
    pub fn insert(&mut self, contract: Id, root: Blob, providers: Vec<PeerAddress>) {
        self.by_contract.insert(contract, (root, providers));
    }

    /// Forgets what contracts other than these have said.
    pub fn retain(&mut self, contracts: &BTreeSet<Id>) {
        self.by_contract.retain(|contract, _| contracts.contains(contract));
    }

    /// An image, with the greatest size that is stated, and all who are said to have it, each once.
    #[must_use]
    pub fn of(&self, image: &ImageHash) -> Option<(Blob, Vec<PeerAddress>)> {
        let named = || {
            self.by_contract
                .values()
                .filter(|(root, _)| root.hash.as_bytes() == image)
        };
        let root = named().map(|(root, _)| *root).max_by_key(|root| root.size)?;
        let mut asked = BTreeSet::new();
        let mut providers: Vec<PeerAddress> = named().flat_map(|(_, providers)| providers.clone()).collect();
        providers.retain(|provider| asked.insert(provider.id()));
        Some((root, providers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Hash;
    use peer_link::LinkKey;

    fn contract(n: u8) -> Id {
        Id::from_hash(Hash::from_bytes([n; 32]))
    }

    fn image(n: u8, size: u64) -> Blob {
        Blob {
            hash: Hash::from_bytes([n; 32]),
            size,
        }
    }

    fn peer(n: u8) -> PeerAddress {
        let address = std::net::SocketAddr::from(([192, 0, 2, n], 7770));
        PeerAddress::new(LinkKey::from_seed(&[n; 32]).id(), vec![address]).unwrap()
    }

    #[test]
    fn contract_that_names_anothers_image_takes_nothing_away() {
        let mut sources = Sources::default();
        sources.insert(contract(1), image(7, 1000), vec![peer(1), peer(2)]);
        sources.insert(contract(2), image(7, 1), vec![peer(3), peer(2)]);
        sources.insert(contract(3), image(8, 5), vec![peer(4)]);
        let all = vec![peer(1), peer(2), peer(3)];
        assert_eq!(sources.of(&[7; 32]), Some((image(7, 1000), all)));
        sources.retain(&[contract(2)].into());
        assert_eq!(sources.of(&[7; 32]), Some((image(7, 1), vec![peer(3), peer(2)])));
        assert_eq!(sources.of(&[8; 32]), None);
    }
}
