//! The customer's bot knows one peer of the chain, which lies about transactions.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may fail so; other tests use the rest of the market"
)]

#[path = "market/mod.rs"]
mod market;

use ledger::{Id, Tokens, body::Escrow};
use market::{Machine, Market, call, done, eventually, proxy::Proxy, write_app};

/// A market with one machine, in which the customer's bot asks a proxy alone.
async fn behind_a_proxy() -> (Market, Machine, Proxy, std::path::PathBuf) {
    let mut market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(1));
    let machine = Machine::join(&media, 1).await;
    let proxy = Proxy::start(market.ledger.address().clone()).await;
    let (genesis, peer) = (market.ledger.chain().to_string(), proxy.address.to_string());
    tokio::task::block_in_place(|| {
        done(
            &market.customer.home,
            &["chain", "--genesis", &genesis, "--peer", &peer],
        );
        market.customer.restart();
    });
    let (layout, app) = write_app(market.directory.path(), 100, "290");
    let customer = &market.customer;
    customer.done(&["image", "push", layout.to_str().unwrap(), "hello"]);
    (market, machine, proxy, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agreement_that_a_peer_denies_and_the_chain_has_is_not_forgotten() {
    let (market, _machine, proxy, app) = behind_a_proxy().await;
    proxy.deny_agreements();
    market.customer.done(&["deploy", app.to_str().unwrap()]);
    let view = &market.customer.json(&["ps"])[0];
    assert_eq!(view["state"], "active", "{view}");
    let id: Id = view["contract"].as_str().unwrap().parse().unwrap();
    // It is the only one that was paid for.
    let chain = market.client().await;
    let deposited = chain.require::<Escrow>(id).await.unwrap().body.deposited;
    let left = Tokens::from_micro(1_000 * Tokens::PER_TOKEN - deposited.micro());
    assert_eq!(market.customer.done(&["balance"]), left.to_string());
    tokio::task::block_in_place(|| market.customer.done(&["cancel", "web"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_until_its_contract_is_proven_to_have_ended() {
    let (market, _machine, proxy, app) = behind_a_proxy().await;
    let (customer, app) = (&market.customer, app.to_str().unwrap());
    customer.done(&["deploy", app]);
    let id: Id = customer.json(&["ps"])[0]["contract"].as_str().unwrap().parse().unwrap();
    proxy.drop_cancellations(true);
    assert_eq!(call(&customer.home, &["cancel", "web"]).0, 7);
    let (code, _, error) = call(&customer.home, &["deploy", app]);
    assert!(code == 2 && error.contains("is still live"), "{code}: {error}");
    assert_eq!(call(&customer.home, &["forget", "web"]).0, 2);
    let again = customer.json(&["ps"]);
    assert_eq!(again[0]["contract"].as_str().unwrap(), id.to_string());
    // The bot goes on to cancel it by itself; then the name is free.
    proxy.drop_cancellations(false);
    let chain = market.client().await;
    eventually("the end of the contract", async || {
        market::contract(&chain, id).await.ended().map(drop)
    })
    .await;
    tokio::task::block_in_place(|| {
        customer.done(&["deploy", app]);
        customer.done(&["cancel", "web"]);
    });
}
