//! Links that fail: cut, parted into halves, lossy, slow.

use std::time::Duration;

use ledger::{Kind, RecordKey};

use crate::{
    ALL,
    link::Faults,
    network::{Network, author},
    transfer,
};

const CUT: Faults = Faults {
    lost_permille: 0,
    delay: Duration::ZERO,
    cut: true,
};

async fn four_apart() -> Network {
    let mut network = Network::found_apart(4).await;
    network.start_all();
    network.reach(&ALL, 3).await;
    network
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_holds_up_nobody_and_catches_up() {
    let mut network = four_apart().await;
    network.weather(&[2], CUT);
    let alone = network.height(2).await;
    let height = network.height(0).await;
    network.reach(&[0, 1, 3], height + 8).await;
    // What was decided when the link was cut may have been on its way.
    let stuck = network.height(2).await;
    assert!(
        stuck <= alone + 2,
        "block {stuck} without two thirds: the link is not cut"
    );
    network.weather(&[2], Faults::default());
    let height = network.height(0).await;
    network.reach(&ALL, height + 3).await;
    network.agree();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_make_no_block_until_they_are_one_again() {
    let mut network = four_apart().await;
    let between = [(0, 2), (0, 3), (1, 2), (1, 3)];
    for (a, b) in between {
        network.link(a, b).set(CUT);
    }
    // Both halves may still finish the height that they are at.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let halves = (network.height(0).await, network.height(2).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((network.height(0).await, network.height(2).await), halves);
    for (a, b) in between {
        network.link(a, b).set(Faults::default());
    }
    let client = network.client(0).await;
    client.send(&author(1), transfer(1)).await.unwrap();
    network.reach(&ALL, halves.0 + 3).await;
    network.agree();
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_transactions_go_on_over_links_that_lose_delay_and_reorder() {
    let mut network = four_apart().await;
    network.weather(
        &ALL,
        Faults {
            lost_permille: 100,
            delay: Duration::from_millis(60),
            cut: false,
        },
    );
    let passed = network.link(0, 1).passed();
    for amount in 1..=5 {
        let client = network.client(usize::try_from(amount % 4).unwrap()).await;
        let header = client.send(&author(1), transfer(amount)).await.unwrap();
        // Another one may be a block behind.
        network.reach(&ALL, header.height).await;
    }
    let client = network.client(2).await;
    let history = client
        .history(RecordKey::new(Kind::Account, author(2).id))
        .await
        .unwrap();
    assert_eq!(history.len(), 5);
    let height = network.height(0).await;
    network.reach(&ALL, height + 5).await;
    assert!(network.link(0, 1).passed() > passed + 100, "nobody uses the link");
    network.agree();
}
