//! Checking the signatures of a whole block on all processors, before its transactions are applied one after another.

use std::collections::BTreeMap;

use crate::{
    body::{Entity, Node},
    hash::Hash,
    key::{PublicKey, Purpose, Signature},
    record::{BodyOf, Id, RecordKey},
    signatures::{Claim, Signatures},
    store::Store,
    transaction::{Operation, SignedTransaction},
};

/// Checks the signatures of `transactions` by the keys that stand in the store or that they found themselves. Applying them
/// finds these checked; whatever is left, or is signed by a key that they replace, is checked then.
pub fn check_signatures<S: Store + Sync + ?Sized>(
    (store, signatures): (&S, &Signatures),
    chain: Hash,
    transactions: &[SignedTransaction],
) {
    let founded = transactions
        .iter()
        .filter_map(|signed| founded(&signed.transaction.operation));
    let keys = Keys {
        store,
        founded: founded.collect(),
    };
    signatures.check_ahead(transactions, |signed| claims(&keys, chain, signed));
}

/// The id and the key of an author that the operation itself names: what it founds, or a recovery key.
pub(super) fn founded(operation: &Operation) -> Option<(Id, PublicKey)> {
    match operation {
        Operation::CreateEntity(entity) => Some((entity.founding_id(), entity.keys.signing)),
        Operation::JoinNode(join) => Some((Node::founding_id(&join.keys), join.keys.signing)),
        Operation::Recover { by, .. } => Some((Entity::recovery_author(by), *by)),
        _ => None,
    }
}

struct Keys<'a, S: ?Sized> {
    store: &'a S,
    founded: BTreeMap<Id, PublicKey>,
}

impl<S: Store + ?Sized> Keys<'_, S> {
    fn read<B: BodyOf>(&self, id: Id) -> Option<B> {
        let record = self.store.latest(&RecordKey::new(B::KIND, id)).ok().flatten()?;
        B::of(&record.body).cloned()
    }

    /// The key by which `id` signs, where that can be known; a store that fails fails again when the block is applied.
    fn of(&self, id: Id) -> Option<PublicKey> {
        let founded = self.founded.get(&id).copied();
        founded
            .or_else(|| Some(self.read::<Entity>(id)?.keys.signing))
            .or_else(|| Some(self.read::<Node>(id)?.keys.signing))
    }
}

fn claims<S: Store + ?Sized>(keys: &Keys<'_, S>, chain: Hash, signed: &SignedTransaction) -> Vec<Claim> {
    let transaction = &signed.transaction;
    let author = keys.of(transaction.author);
    let claim = author.map(|key| Claim::new(key, (Purpose::Transaction, chain), transaction, signed.signature));
    let mut claims: Vec<Claim> = claim.into_iter().collect();
    let mut add = |id: Id, claim: &dyn Fn(PublicKey, Signature) -> Claim, signature| {
        claims.extend(keys.of(id).map(|key| claim(key, signature)));
    };
    match &transaction.operation {
        Operation::Agree(signed) => {
            let claim = |key, signature| Claim::new(key, (Purpose::Agreement, chain), &signed.agreement, signature);
            add(signed.agreement.customer, &claim, signed.customer);
            add(signed.agreement.farmer, &claim, signed.farmer);
        }
        Operation::Amend(signed) => {
            let agreement = &signed.amendment.agreement;
            let claim = |key, signature| Claim::new(key, (Purpose::Amendment, chain), &signed.amendment, signature);
            add(agreement.customer, &claim, signed.customer);
            add(agreement.farmer, &claim, signed.farmer);
        }
        _ => {}
    }
    claims
}
