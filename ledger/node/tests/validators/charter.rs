//! Validators that come, go and change their keys while blocks go on.

use ledger::{Kind, RecordKey, body::Charter};

use crate::{ALL, four};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_added_learns_where_all_are_and_votes_and_one_that_is_removed_follows() {
    let mut network = four().await;
    let newcomer = network.introduce_another();
    network.start(4);
    let height = network.height(0).await;
    network.reach(&[4], height + 2).await;
    let newcomer = newcomer.display().to_string();
    network.decree(&["--add", &newcomer], &[0, 1, 2]);

    // Four of five are needed: no block is made unless the newcomer and each of the others hear one another.
    network.kill(3);
    let height = network.height(0).await;
    network.reach(&[0, 1, 2, 4], height + 5).await;

    let removed = network.voting_key(3).to_string();
    network.decree(&["--remove", &removed], &[0, 1, 2, 4]);
    network.kill(2);
    let height = network.height(0).await;
    network.reach(&[0, 1, 4], height + 5).await;
    network.start(2);
    network.start(3);
    let height = network.height(0).await;
    network.reach(&[0, 1, 2, 3, 4], height + 3).await;
    assert!(network.said(3).contains("the chain is followed"), "{}", network.said(3));

    // It may come back, under the same key.
    let former = network.introduction(3).display().to_string();
    network.decree(&["--add", &former], &[0, 1, 2, 4]);
    network.kill(1);
    let height = network.height(0).await;
    network.reach(&[0, 2, 3, 4], height + 5).await;
    network.start(1);

    // A reader that knows the genesis alone.
    network.forget_client(0);
    let client = network.client(0).await;
    let charter = client.require::<Charter>(Charter::ID).await.unwrap().body;
    let keys: Vec<_> = charter
        .validators
        .validators()
        .iter()
        .map(|validator| validator.key)
        .collect();
    let mut expected: Vec<_> = [0, 1, 2, 3, 4].map(|number| network.voting_key(number)).into();
    expected.sort();
    assert_eq!(keys, expected);
    let history = client
        .history(RecordKey::new(Kind::Charter, Charter::ID))
        .await
        .unwrap();
    assert_eq!(history.len(), 4);
    network.agree();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_changes_its_keys_votes_by_the_new_ones() {
    let mut network = four().await;
    let successor = network.introduce_another();
    network.start(4);
    let (former, successor) = (network.voting_key(1).to_string(), successor.display().to_string());
    network.decree(&["--remove", &former, "--add", &successor], &[1, 2, 3]);
    network.kill(1);
    network.kill(0);
    let height = network.height(2).await;
    network.reach(&[2, 3, 4], height + 5).await;
    for number in [0, 1] {
        network.start(number);
    }
    let height = network.height(2).await;
    network.reach(&ALL, height + 3).await;
    network.agree();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decree_without_enough_approvals_is_refused_with_the_reason() {
    let network = four().await;
    let removed = network.voting_key(3).to_string();
    let refused = network.try_decree(&["--remove", &removed], &[0, 1]).unwrap_err();
    assert!(refused.contains("2 of 4 voting power"), "{refused}");
    let unknown = network.try_decree(&["--remove", &"00".repeat(32)], &[0]).unwrap_err();
    assert!(unknown.contains("is no validator"), "{unknown}");
}
