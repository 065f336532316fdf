//! Two daemons negotiate on a real chain; the node is played by the test.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may fail so; other tests use the rest of the market"
)]

#[path = "market/mod.rs"]
mod market;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use ledger::{Id, Tokens, body::Escrow};
use market::{Machine, Market, call, contract, echo, eventually, states, write_app};
use peer_link::{BlobHash, BlobStore};
use serde_json::Value;

fn stages(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bots_agree_and_the_workload_runs_until_it_is_cancelled() {
    let market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(1));
    let machine = Machine::join(&media, 1).await;
    let (layout, app) = write_app(market.directory.path(), 100, "290");
    let (customer, farmer) = (&market.customer, &market.farmer);

    let nodes = customer.json(&["find", "--country", "be"]);
    assert_eq!(nodes[0]["node"].as_str(), Some(machine.id.to_string().as_str()));
    let image = customer.json(&["image", "push", layout.to_str().unwrap(), "hello"]);
    let output = customer.done(&["--json", "deploy", app.to_str().unwrap()]);
    let mut lines = stages(&output);
    let view = lines.pop().unwrap();
    let names: Vec<_> = lines.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    let expected = [
        "capacity found",
        "offer",
        "counter-offer",
        "agreement signed by both",
        "escrow funded",
        "image fetched and verified",
        "micro-VM up",
    ];
    assert_eq!(names, expected);

    // The price is below what was asked, and the chain holds what both signed.
    let chain = market.client().await;
    let id: Id = view["contract"].as_str().unwrap().parse().unwrap();
    let agreed = contract(&chain, id).await.signed.agreement;
    assert!(agreed.price < Tokens::from_micro(3_000_000), "{}", agreed.price);
    assert_eq!(
        (agreed.customer, agreed.farmer, agreed.node),
        (customer.id, farmer.id, machine.id)
    );
    let sealed = chain.sealed(&agreed.sealed).await.unwrap();
    let workload = workload::open(&sealed, &machine.encryption).unwrap();
    assert_eq!(workload.env, [("TOKEN".to_owned(), "hush".to_owned())]);

    let published = chain.version::<ledger::body::Image>(agreed.image.1).await.unwrap();
    assert_eq!(published.record.id.to_string(), image["id"].as_str().unwrap());
    node_fetches(&market, &machine, &published.body).await;

    assert_eq!(customer.done(&["logs", "web"]), "hello");
    tunnel(&market);

    // Report and receipt agree, so the first periods are paid without dispute.
    eventually("a settled period", async || {
        let escrow = chain.require::<Escrow>(id).await.unwrap().body;
        (escrow.paid.micro() >= agreed.price.micro() * 9 / 10).then_some(())
    })
    .await;
    assert_eq!(contract(&chain, id).await.disputes, 0);

    customer.done(&["cancel", "web"]);
    let escrow = chain.require::<Escrow>(id).await.unwrap().body;
    assert_eq!(escrow.held, Tokens::ZERO);
    assert_eq!(customer.json(&["ps"])[0]["state"], "cancelled");
    customer.done(&["forget", "web"]);
    assert_eq!(customer.json(&["ps"]).as_array().map(Vec::len), Some(0));
    assert!(escrow.returned > Tokens::ZERO);
    assert_eq!(states(&chain, id).await, ["agreed", "deploying", "active", "cancelled"]);
    let left = 1_000 * Tokens::PER_TOKEN - escrow.cost().micro();
    assert_eq!(customer.done(&["balance"]), Tokens::from_micro(left).to_string());
    assert_eq!(farmer.done(&["balance"]), escrow.paid.to_string());
    assert!(!farmer.json(&["history"]).as_array().unwrap().is_empty());
    let Market { farmer, customer, .. } = market;
    customer.terminate();
    farmer.terminate();
}

/// The node fetches the image from the customer's bot, at the address that it names.
async fn node_fetches(market: &Market, machine: &Machine, image: &ledger::body::Image) {
    let status = market.customer.json(&["status"]);
    let provider: peer_link::PeerAddress = status["link"].as_str().unwrap().parse().unwrap();
    // It listens on all addresses and names one that can be dialled.
    let can_be_dialled = provider.addresses().iter().all(|at| !at.ip().is_unspecified());
    assert!(can_be_dialled, "{provider}");
    let place = market.directory.path().join("node-blobs");
    let store = BlobStore::open(&place).await.unwrap();
    let root = BlobHash::from(*image.root.hash.as_bytes());
    let fetched = store
        .fetch(&machine.endpoint, root, 1 << 30, &[provider], &|_, _| ())
        .await
        .unwrap();
    assert_eq!(fetched, image.root.size);
}

fn tunnel(market: &Market) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_threebot"))
        .args(["--json", "tunnel", "web", "0:80", "--home"])
        .arg(&market.customer.home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    let echoed = echo(listening["listening"].as_str().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(echoed, "through the tunnel");
    let (code, _, error) = call(&market.customer.home, &["tunnel", "web", "0:81"]);
    assert_eq!((code, error.contains("names no such port")), (4, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_replaced_by_another_with_nobodys_help() {
    let mut market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(2));
    let machines = [Machine::join(&media, 1).await, Machine::join(&media, 2).await];
    let (layout, app) = write_app(market.directory.path(), 20, "60");
    market
        .customer
        .done(&["image", "push", layout.to_str().unwrap(), "hello"]);
    market.customer.done(&["deploy", app.to_str().unwrap()]);
    let view = &market.customer.json(&["ps"])[0];
    let first: Id = view["contract"].as_str().unwrap().parse().unwrap();
    let node: Id = view["node"].as_str().unwrap().parse().unwrap();
    let silent = machines.iter().find(|machine| machine.id == node).unwrap();
    let other = machines.iter().find(|machine| machine.id != node).unwrap();

    // The customer's bot is killed and started again in between: it goes on where it was.
    tokio::task::block_in_place(|| market.customer.restart());
    silent.fall_silent();
    let customer = &market.customer;
    let second = eventually("a contract with the other node", async || {
        let view = &customer.json(&["ps"])[0];
        let there = view["node"].as_str() == Some(other.id.to_string().as_str()) && view["state"] == "active";
        there.then(|| view["contract"].as_str().unwrap().parse::<Id>().unwrap())
    })
    .await;
    let chain = market.client().await;
    assert_ne!(first, second);
    let escrow = chain.require::<Escrow>(first).await.unwrap().body;
    assert_eq!(escrow.held, Tokens::ZERO);
    assert_eq!(states(&chain, first).await.last(), Some(&"failed"));
    // What the first one settled is not ordered again.
    assert!(contract(&chain, second).await.signed.agreement.periods <= 20);
    tokio::task::block_in_place(|| customer.done(&["cancel", "web"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_workload_answers_nowhere_gets_no_receipt_for_it() {
    let market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(1));
    let _machine = Machine::join(&media, 1).await;
    let (layout, app) = write_app(market.directory.path(), 100, "290");
    // The machine says that it runs, and connects nobody to this port.
    let text = std::fs::read_to_string(&app)
        .unwrap()
        .replace("ports = [80]", "ports = [81]");
    std::fs::write(&app, text).unwrap();
    let customer = &market.customer;
    customer.done(&["image", "push", layout.to_str().unwrap(), "hello"]);
    customer.done(&["deploy", app.to_str().unwrap()]);
    let id: Id = customer.json(&["ps"])[0]["contract"].as_str().unwrap().parse().unwrap();
    let chain = market.client().await;
    let price = contract(&chain, id).await.signed.agreement.price;
    eventually("a disputed period", async || {
        (contract(&chain, id).await.disputes > 0).then_some(())
    })
    .await;
    let (known, escrow) = (
        contract(&chain, id).await,
        chain.require::<Escrow>(id).await.unwrap().body,
    );
    // The node is paid for what the customer saw, which is nothing, and neither has the rest.
    assert_eq!(escrow.paid, Tokens::ZERO, "{known:?}");
    assert_eq!(
        escrow.withheld.micro(),
        u64::from(known.disputes) * price.micro(),
        "{known:?}"
    );
    tokio::task::block_in_place(|| customer.done(&["cancel", "web"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn periods_are_paid_in_as_they_come_and_a_contract_without_them_is_suspended_until_the_bot_is_back() {
    let mut market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(1));
    let _machine = Machine::join(&media, 1).await;
    let (layout, app) = write_app(market.directory.path(), 100, "290");
    let text = std::fs::read_to_string(&app).unwrap();
    std::fs::write(&app, text.replace("periods = 100", "periods = 100\ndeposit = 2")).unwrap();
    let customer = &market.customer;
    customer.done(&["image", "push", layout.to_str().unwrap(), "hello"]);
    customer.done(&["deploy", app.to_str().unwrap()]);
    let id: Id = customer.json(&["ps"])[0]["contract"].as_str().unwrap().parse().unwrap();
    let chain = market.client().await;
    assert_eq!(contract(&chain, id).await.signed.agreement.deposit, 2);
    let settled = async |periods: u32| {
        let known = contract(&chain, id).await;
        (known.settled().unwrap() >= periods).then_some(known)
    };
    let known = eventually("a period beyond the deposit", async || settled(3).await).await;
    assert!((4..=6).contains(&known.funded), "{known:?}");
    assert_eq!(states(&chain, id).await, ["agreed", "deploying", "active"]);

    market.customer.kill();
    let known = eventually("a suspension", async || {
        let known = contract(&chain, id).await;
        (known.state_name() == "suspended").then_some(known)
    })
    .await;
    assert_eq!(chain.require::<Escrow>(id).await.unwrap().body.held, Tokens::ZERO);
    tokio::task::block_in_place(|| market.customer.restart());
    let further = known.funded + 1;
    eventually("a period after the suspension", async || settled(further).await).await;
    tokio::task::block_in_place(|| market.customer.done(&["cancel", "web"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_runs_is_changed_with_its_farmer_and_stays_as_it_is_without() {
    let market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(1));
    let machine = Machine::join(&media, 1).await;
    let (layout, app) = write_app(market.directory.path(), 100, "290");
    let customer = &market.customer;
    customer.done(&["image", "push", layout.to_str().unwrap(), "hello"]);
    customer.done(&["deploy", app.to_str().unwrap()]);
    let id: Id = customer.json(&["ps"])[0]["contract"].as_str().unwrap().parse().unwrap();
    let chain = market.client().await;
    let before = contract(&chain, id).await.signed.agreement;
    let amend = |changes: &[(&str, &str)]| {
        let text = std::fs::read_to_string(&app).unwrap();
        let text = changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
        std::fs::write(&app, text).unwrap();
        market::call(&customer.home, &["--json", "amend", app.to_str().unwrap()])
    };

    let (code, _, error) = amend(&[]);
    assert_eq!(code, 0, "what is there already is no error: {error}");
    assert_eq!(contract(&chain, id).await.amendments, 0);
    let (code, _, error) = amend(&[("periods = 100", "periods = 120"), ("cru = 1", "cru = 2")]);
    assert_eq!((code, error.contains("the budget is 290")), (2, true), "{error}");
    let (code, output, error) = amend(&[("\"290\"", "\"800\""), ("token.txt", "other.txt")]);
    assert_eq!((code, error.contains("other.txt")), (1, true), "{output} {error}");
    std::fs::write(market.directory.path().join("other.txt"), "psst\n").unwrap();
    let (code, output, error) = amend(&[]);
    assert_eq!(code, 0, "{output} {error}");
    let view: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (view["periods"].as_u64(), view["state"].as_str()),
        (Some(120), Some("active"))
    );

    let known = contract(&chain, id).await;
    let after = &known.signed.agreement;
    assert_eq!(known.replaces, Some(before.hash()));
    assert_eq!((after.periods, after.resources.cru, known.funded), (120, 2, 120));
    assert_eq!(after.price.micro(), 2 * before.price.micro());
    let sealed = chain.sealed(&after.sealed).await.unwrap();
    let workload = workload::open(&sealed, &machine.encryption).unwrap();
    assert_eq!(workload.env, [("TOKEN".to_owned(), "psst".to_owned())]);

    std::fs::write(market.farmer.home.join("policy.toml"), "accept = false\n").unwrap();
    let (code, _, error) = amend(&[("periods = 120", "periods = 130")]);
    assert_eq!((code, error.contains("takes no contracts")), (4, true), "{error}");
    assert_eq!(contract(&chain, id).await.signed.agreement.periods, 120);
    customer.done(&["cancel", "web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farm_moves_and_tokens_are_sent_to_a_name_for_whomever_it_stands() {
    let market = Market::open().await;
    let (customer, farmer) = (&market.customer, &market.farmer);
    let call = |bot: &market::Daemon, words: &[&str]| market::call(&bot.home, words);
    market.farm(1);
    let words = ["--country", "NL", "--lat", "52.0", "--lon", "4.9"];
    let id = farmer.done(&[["farm", "update", "shed"].as_slice(), &words].concat());
    let farms = farmer.json(&["farm", "list"]);
    assert_eq!(
        (farms[0]["id"].as_str(), farms[0]["name"].as_str()),
        (Some(&*id), Some("shed"))
    );
    assert_eq!(farms[0]["country"], "NL");
    customer.done(&["name", "claim", "meadow"]);
    assert_eq!(customer.done(&["name", "show", "meadow"]), customer.id.to_string());
    let (code, _, error) = call(farmer, &["name", "pass-on", "meadow", &farmer.id.to_string()]);
    assert_eq!((code, error.contains("another's or nobody's")), (4, true), "{error}");
    customer.done(&["name", "pass-on", "meadow", &farmer.id.to_string()]);
    customer.done(&["send", "meadow", "7"]);
    assert_eq!(farmer.done(&["balance"]), "7.000000");
    farmer.done(&["name", "give-up", "meadow"]);
    assert_eq!(farmer.done(&["balance"]), "7.000005");
    let (code, _, error) = call(customer, &["send", "meadow", "7"]);
    assert_eq!((code, error.contains("stands for nobody")), (5, true), "{error}");
    let (code, _, error) = call(customer, &["name", "claim", "Mea_dow"]);
    assert_eq!((code, error.contains("small letters")), (2, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_over_anothers_link_learns_no_more_than_that() {
    use peer_link::{Endpoint, LinkKey, protocol};
    use threebot::negotiation::{MAX_MESSAGE, Message, Request};
    let market = Market::open().await;
    let farmer = market.farmer.json(&["status"])["link"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let key = LinkKey::from_seed(&[77; 32]);
    let stranger = Endpoint::bind(&key, ([127, 0, 0, 1], 0).into()).await.unwrap();
    let connection = stranger.dial(&farmer, protocol::BOT).await.unwrap();
    let mut stream = connection.open().await.unwrap();
    let nothing = ledger::Hash::from_bytes([5; 32]);
    let request = Request {
        customer: market.customer.id,
        terms: (Id::from_hash(nothing), nothing),
        node: Id::from_hash(nothing),
        resources: ledger::Resources::ZERO,
        periods: 1,
        deposit: 1,
        image: (Id::from_hash(nothing), nothing),
        sealed: ledger::body::Blob { hash: nothing, size: 1 },
        salt: [0; 16],
    };
    stream.send(&Message::Request(request), MAX_MESSAGE).await.unwrap();
    let answer = stream.receive_within(MAX_MESSAGE, market::PATIENCE).await.unwrap();
    // Neither the node nor the terms were looked at: there are none.
    let Message::Reject { reason } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reason.as_str(), "this link is not the customer's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_in_one_line_with_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("nobody");
    let one_line = |(code, _, error): (i32, String, String)| {
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(error.starts_with("error: "), "{error}");
        code
    };
    assert_eq!(one_line(call(&home, &["balance"])), 3);
    assert_eq!(one_line(call(&home, &["serve"])), 6);
    assert_eq!(one_line(call(&home, &["init", "--passphrase-file", "/nonexistent"])), 6);
    let typo = ["chain", "--genesis", &"00".repeat(32), "--peer", "12ab@127.0.0.1:7771"];
    let (code, _, error) = call(&home, &typo);
    assert!(code == 2 && error.contains("'12ab@127.0.0.1:7771'"), "{error}");
    assert!(error.contains("peer id is not 64 hexadecimal digits"), "{error}");
    let market = Market::open().await;
    let customer = &market.customer.home;
    assert_eq!(one_line(call(customer, &["serve"])), 1);
    assert_eq!(one_line(call(customer, &["logs", "web"])), 5);
    assert_eq!(one_line(call(customer, &["farm", "media"])), 5);
    let me = market.farmer.id.to_string();
    assert_eq!(one_line(call(customer, &["send", &me, "1000.000001"])), 4);
    assert_eq!(call(customer, &["send", &me, "1.0000001"]).0, 2);
    market.customer.done(&["send", &me, "0.5"]);
    assert_eq!(market.farmer.done(&["balance"]), "0.500000");
    let (_, app) = write_app(directory.path(), 1, "1");
    assert_eq!(one_line(call(customer, &["deploy", app.to_str().unwrap()])), 5);
}
