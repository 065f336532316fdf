//! The chain as one validator has it, driven by hand.

use ledger::{
    Id, Operation, SigningKey, Timestamp, Tokens, Transaction, Validator,
    body::{Entity, Keys},
    consensus::{CommitSignature, VoteKind, vote_bytes},
    genesis::{GenesisEntity, Issuance},
    text::Text,
};

use super::*;
use crate::{mempool::MAX_WAITING_PER_AUTHOR, metrics::Sample};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn entity(seed: u8) -> Entity {
    let public = key(seed).public();
    let keys = Keys {
        signing: public,
        link: public,
        encryption: public,
    };
    Entity {
        keys,
        name: Text::lossy("somebody"),
        addresses: vec![],
        recovery: None,
    }
}

fn ledger(folder: &tempfile::TempDir) -> Ledger {
    let validator = key(9).public();
    let genesis = Genesis {
        name: Text::lossy("test"),
        time: Timestamp::from_millis(0),
        block_interval_ms: 1_000,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        validators: ValidatorSet::new(vec![Validator {
            key: validator,
            link: validator,
            power: 1,
        }])
        .unwrap(),
        entities: vec![GenesisEntity {
            entity: entity(1),
            balance: Tokens::from_micro(1_000),
        }],
        issuance: Issuance::Fixed,
    };
    let database = Database::open(&folder.path().join("chain.redb"), genesis).unwrap();
    Ledger::new(database, validator, Clock::default()).unwrap()
}

fn signed(ledger: &Ledger, nonce: u64, signer: u8) -> SignedTransaction {
    let author = entity(1).founding_id();
    let operation = Operation::Transfer {
        to: author,
        amount: Tokens::from_micro(1),
    };
    Transaction {
        author,
        nonce,
        operation,
    }
    .sign(ledger.genesis().hash(), &key(signer))
}

#[test]
fn signature_and_room_are_checked_before_what_waits_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder);
    // Replaying would find the nonce wrong.
    let forged = ledger.submit(signed(&ledger, 5, 2)).unwrap();
    assert_eq!(forged, Submission::Refused(Refusal::BadSignature));
    let most = u64::try_from(MAX_WAITING_PER_AUTHOR).unwrap();
    for nonce in 0..most {
        assert_eq!(ledger.submit(signed(&ledger, nonce, 1)).unwrap(), Submission::Taken);
    }
    let full = ledger.submit(signed(&ledger, most + 7, 2)).unwrap();
    assert!(matches!(full, Submission::Full(_)), "{full:?}");
    // What waits already is no second one.
    assert_eq!(ledger.submit(signed(&ledger, 0, 1)).unwrap(), Submission::Waits);
}

/// A block with its certificate, as the others give it to who follows.
fn decided(block: Block) -> (Block, Certificate) {
    decided_in(0, block)
}

fn decided_in(round: u32, block: Block) -> (Block, Certificate) {
    let (height, id) = (block.header.height, block.header.id());
    let bytes = vote_bytes(block.header.chain, VoteKind::Precommit, height, round, Some(id));
    let signature = CommitSignature {
        validator: key(9).public(),
        signature: key(9).sign_bytes(&bytes),
    };
    let certificate = Certificate {
        height,
        round,
        block: id,
        signatures: vec![signature],
    };
    (block, certificate)
}

#[test]
fn a_certified_header_with_other_transactions_is_the_peers_fault() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (proposer, follower) = (ledger(&folder), ledger(&other));
    proposer.submit(signed(&proposer, 0, 1)).unwrap();
    let (block, certificate) = decided(proposer.propose().unwrap());
    assert_eq!(block.transactions.len(), 1);
    let mut emptied = block.clone();
    emptied.transactions.clear();
    let refused = follower.adopt(emptied, certificate.clone());
    assert!(matches!(refused, Err(AdoptError::NotNext)), "{refused:?}");
    let unsigned = Certificate {
        signatures: vec![],
        ..certificate.clone()
    };
    let refused = follower.adopt(block.clone(), unsigned);
    assert!(matches!(refused, Err(AdoptError::Certificate(_))), "{refused:?}");
    follower.adopt(block.clone(), certificate.clone()).unwrap();
    let again = follower.adopt(block, certificate);
    assert!(matches!(again, Err(AdoptError::NotNext)), "{again:?}");
}

#[test]
fn what_a_block_makes_void_waits_no_more_where_nobody_proposes() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (proposer, follower) = (ledger(&folder), ledger(&other));
    let one = signed(&proposer, 0, 1);
    let author = one.transaction.author;
    let twin = Transaction {
        operation: Operation::Transfer {
            to: author,
            amount: Tokens::from_micro(2),
        },
        ..one.transaction.clone()
    };
    follower.submit(twin.sign(follower.genesis().hash(), &key(1))).unwrap();
    follower.submit(signed(&follower, 1, 1)).unwrap();
    proposer.submit(one).unwrap();
    let (block, certificate) = decided(proposer.propose().unwrap());
    follower.adopt(block, certificate).unwrap();
    assert_eq!(follower.waiting().waits_of(author), 1, "what comes after it stays");
}

#[test]
fn what_is_brought_again_is_passed_on_once_a_block() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder);
    let transaction = signed(&ledger, 0, 1);
    ledger.submit(transaction.clone()).unwrap();
    assert!(ledger.pass_again(transaction.hash()) && !ledger.pass_again(transaction.hash()));
    let twin = tempfile::tempdir().unwrap();
    let (block, certificate) = decided(self::ledger(&twin).propose().unwrap());
    ledger.adopt(block, certificate).unwrap();
    assert!(ledger.pass_again(transaction.hash()));
}

#[test]
fn an_author_that_a_waiting_transaction_founds_may_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder);
    let author: Id = entity(3).founding_id();
    let sign = |nonce, operation| {
        Transaction {
            author,
            nonce,
            operation,
        }
        .sign(ledger.genesis().hash(), &key(3))
    };
    let update = sign(
        1,
        Operation::UpdateEntity {
            name: Text::lossy("another"),
            addresses: vec![],
        },
    );
    let early = ledger.submit(update.clone()).unwrap();
    assert_eq!(early, Submission::Refused(Refusal::UnknownAuthor(author)));
    let founded = ledger.submit(sign(0, Operation::CreateEntity(entity(3)))).unwrap();
    assert_eq!(founded, Submission::Taken);
    assert_eq!(ledger.submit(update).unwrap(), Submission::Taken);
}

#[test]
fn rounds_beyond_the_first_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder);
    for round in [0, 3] {
        let (block, certificate) = decided_in(round, ledger.propose().unwrap());
        ledger.adopt(block, certificate).unwrap();
    }
    let text = ledger.metrics().text(&Sample::default()).unwrap();
    for line in [
        "zos_ledger_blocks_total 2\n",
        "zos_ledger_rounds_beyond_first_total 3\n",
        "zos_ledger_block_apply_seconds_count 2\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
