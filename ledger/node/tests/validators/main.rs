//! Validators as processes: blocks go on while more than two thirds are there, and nothing conflicting is ever committed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod charter;
mod liars;
mod link;
mod links;
mod logs;
mod network;
mod space;

use std::time::Duration;

use ledger::{Operation, Tokens, body::Account};
use network::{Network, author};
use rustix::process::Signal;

const ALL: [usize; 4] = [0, 1, 2, 3];

async fn four() -> Network {
    let mut network = Network::found(4).await;
    network.start_all();
    network.reach(&ALL, 3).await;
    network
}

fn transfer(amount: u64) -> Operation {
    Operation::Transfer {
        to: author(2).id,
        amount: Tokens::from_micro(amount),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_may_be_killed_and_catches_up_and_all_may_be_killed_at_once() {
    let mut network = four().await;
    network.kill(3);
    let height = network.height(0).await;
    network.reach(&[0, 1, 2], height + 5).await;
    network.start(3);
    let height = network.height(0).await;
    network.reach(&ALL, height + 3).await;

    let client = network.client(0).await;
    client.send(&author(1), transfer(7)).await.unwrap();
    let committed = network.height(0).await;
    for number in ALL {
        network.kill(number);
    }
    network.start_all();
    network.reach(&ALL, committed + 3).await;
    for number in ALL {
        let account = network
            .client(number)
            .await
            .require::<Account>(author(2).id)
            .await
            .unwrap();
        assert_eq!(account.body.balance, Tokens::from_micro(7));
    }
    assert!(network.agree() >= committed + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_paused_holds_up_nobody_and_two_do_until_they_go_on() {
    let mut network = four().await;
    network.signal(1, Signal::STOP);
    let height = network.height(0).await;
    network.reach(&[0, 2, 3], height + 5).await;
    network.signal(2, Signal::STOP);
    // The height that is being decided may still have votes enough.
    let stuck = network.height(0).await + 1;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let height = network.height(0).await;
    assert!(height <= stuck, "block {height} without two thirds");
    network.signal(1, Signal::CONT);
    network.signal(2, Signal::CONT);
    network.reach(&ALL, height + 5).await;
    network.agree();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_one_validator_has_taken_is_not_lost_with_it() {
    let mut network = four().await;
    let client = network.client(3).await;
    let before = client.record::<Account>(author(2).id).await.unwrap();
    assert!(before.is_none());
    network.give(3, transfer(9)).await;
    // It has a moment to pass it on, less than a block's time.
    tokio::time::sleep(Duration::from_millis(100)).await;
    network.kill(3);
    let height = network.height(0).await;
    network.reach(&[0, 1, 2], height + 5).await;
    let account = network.client(0).await.require::<Account>(author(2).id).await.unwrap();
    assert_eq!(account.body.balance, Tokens::from_micro(9));
    network.agree();
}
