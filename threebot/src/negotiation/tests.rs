//! Both cores against each other and against peers that do anything.

use ledger::{
    Hash, Id, Resources, SigningKey, Timestamp, Tokens,
    body::{Blob, SettlementRule},
    encoding::{decode, encode},
    key::Purpose,
    text::Text,
};

use super::{
    Ask, Bidding, Brief, Customer, Farmer, Input, MAX_MESSAGE, MAX_OFFERS, Message, Outcome, Output, Progress, Request,
    STEP_MS,
};
use crate::policy::Concession;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const RULE: SettlementRule = SettlementRule {
    period_ms: 60_000,
    grace_ms: 10_000,
    acknowledge_ms: 10_000,
    deploy_ms: 60_000,
    suspend_ms: 60_000,
    tolerance_permille: 50,
    unconfirmed_permille: 900,
    missed_limit: 2,
    dispute_limit: 24,
};

/// What the terms ask for a period.
const ADVERTISED: u64 = 1_000_000;

fn chain() -> Hash {
    Hash::from_bytes([9; 32])
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn id(seed: u8) -> Id {
    Id::from_hash(Hash::from_bytes([seed; 32]))
}

fn request() -> Request {
    Request {
        customer: id(1),
        terms: (id(3), Hash::from_bytes([4; 32])),
        node: id(5),
        resources: Resources {
            cru: 1,
            mru: 1 << 28,
            sru: 1 << 30,
            hru: 0,
        },
        periods: 10,
        deposit: 10,
        image: (id(6), Hash::from_bytes([7; 32])),
        sealed: Blob {
            hash: Hash::from_bytes([8; 32]),
            size: 500,
        },
        salt: [3; 16],
    }
}

fn brief(limit: u64) -> Brief {
    Brief {
        chain: chain(),
        request: request(),
        farmer: id(2),
        farmer_key: key(2).public(),
        rule: RULE,
        advertised: Tokens::from_micro(ADVERTISED),
        bidding: Bidding::up_to(Tokens::from_micro(limit.min(ADVERTISED))),
        key: key(1),
    }
}

fn ask(price: u64, floor: u64, step: u64) -> Ask {
    Ask {
        price: Tokens::from_micro(price),
        concession: Concession {
            floor: Tokens::from_micro(floor),
            step: Tokens::from_micro(step),
        },
        rule: RULE,
        valid_until: NOW.plus(300_000),
        customer_key: key(1).public(),
    }
}

fn farmer() -> Farmer {
    Farmer::start(chain(), id(2), key(2), NOW)
}

/// What one run of two cores came to.
struct Run {
    customer: Outcome,
    farmer: Outcome,
    offers: u32,
    counters: u32,
}

/// Lets both talk until both are done.
fn run(limit: u64, ask: Ask) -> Run {
    let (mut customer, mut farmer) = (Customer::start(brief(limit), NOW), farmer());
    let (mut ends, mut offers, mut counters) = ((None, None), 0, 0);
    for _ in 0..100 {
        while let Some(output) = customer.poll_output() {
            match output {
                Output::Send(message) => farmer.handle(Input::Message(message), NOW),
                Output::Progress(Progress::Offer(_)) => offers += 1,
                Output::Progress(Progress::Counter(_)) => counters += 1,
                Output::Done(outcome) => ends.0 = Some(outcome),
                Output::Check(_) | Output::Confirm(_) => panic!("the customer checks nothing here"),
            }
        }
        while let Some(output) = farmer.poll_output() {
            match output {
                Output::Send(message) => {
                    let bytes = encode(&message);
                    assert!(bytes.len() <= MAX_MESSAGE);
                    customer.handle(Input::Message(decode(&bytes, MAX_MESSAGE).unwrap()), NOW);
                }
                Output::Check(asked) => {
                    assert_eq!(asked, request());
                    farmer.handle(Input::Checked(Ok(ask)), NOW);
                }
                Output::Confirm(_) => farmer.handle(Input::Confirmed(Ok(())), NOW),
                Output::Progress(_) => {}
                Output::Done(outcome) => ends.1 = Some(outcome),
            }
        }
        if let (Some(customer), Some(farmer)) = (&ends.0, &ends.1) {
            let (customer, farmer) = (customer.clone(), farmer.clone());
            return Run {
                customer,
                farmer,
                offers,
                counters,
            };
        }
    }
    panic!("the two never ended: {ends:?}");
}

/// A small deterministic generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }
}

#[test]
fn both_sign_the_same_bytes_after_at_least_one_counter_offer() {
    let run = run(2_000, ask(1_000, 800, 50));
    let (Outcome::Agreed(customer), Outcome::Agreed(farmer)) = (&run.customer, &run.farmer) else {
        panic!("{:?} {:?}", run.customer, run.farmer);
    };
    assert_eq!(customer, farmer);
    let price = customer.agreement.price.micro();
    assert!((800..1_000).contains(&price), "{price}");
    assert!(run.counters >= 1);
    for (seed, signature) in [(1, &customer.customer), (2, &customer.farmer)] {
        let public = key(seed).public();
        assert!(public.verifies(Purpose::Agreement, chain(), &customer.agreement, signature));
    }
}

#[test]
fn a_budget_below_the_floor_ends_without_agreement() {
    let run = run(500, ask(1_000, 800, 50));
    assert!(matches!(run.customer, Outcome::Declined(_)), "{:?}", run.customer);
    assert!(matches!(run.farmer, Outcome::Refused(_)), "{:?}", run.farmer);
}

#[test]
fn a_farmer_who_concedes_nothing_is_countered_once_and_taken() {
    let run = run(2_000, ask(1_000, 1_000, 0));
    assert!(matches!(run.customer, Outcome::Agreed(_)), "{:?}", run.customer);
    assert_eq!((run.offers, run.counters), (2, 1));
}

#[test]
fn any_prices_end_in_equal_agreements_or_in_none() {
    for seed in 1..2_000 {
        let mut random = Random(seed);
        let price = random.below(1_000_000);
        let (floor, step) = (random.below(price + 1), random.below(price / 4 + 1));
        let limit = random.below(2_000_000);
        let run = run(limit, ask(price, floor, step));
        assert!(run.offers <= MAX_OFFERS, "seed {seed}");
        match (&run.customer, &run.farmer) {
            (Outcome::Agreed(customer), Outcome::Agreed(farmer)) => {
                let agreed = customer.agreement.price.micro();
                assert_eq!(customer, farmer, "seed {seed}");
                assert!((floor..=limit).contains(&agreed) && run.counters >= 1, "seed {seed}");
            }
            (Outcome::Declined(_), Outcome::Refused(_)) => assert!(limit < price, "seed {seed}"),
            (Outcome::Refused(_), Outcome::Declined(_)) => {}
            ends => panic!("seed {seed}: {ends:?}"),
        }
    }
}

/// Anything that a hostile or confused peer could send, often something that was valid elsewhere.
fn any_input(random: &mut Random) -> Input {
    let signature = key(2).sign(Purpose::Agreement, chain(), &random.below(10));
    let price = Tokens::from_micro(random.below(2_000));
    let valid_until = NOW.plus(random.below(10_000_000));
    let mut agreement = request().agreement(id(2), RULE, price, valid_until);
    if random.below(4) == 0 {
        agreement.periods += 1;
    }
    match random.below(12) {
        0 => Input::Message(Message::Request(request())),
        1..4 => Input::Message(Message::Offer {
            agreement,
            last: random.below(2) == 0,
        }),
        4..6 => Input::Message(Message::Counter { price }),
        6 => Input::Message(Message::Accept { signature }),
        7 => Input::Message(Message::Signed { signature }),
        8 => Input::Message(Message::Reject {
            reason: Text::lossy("no"),
        }),
        9 => Input::Garbage,
        10 => Input::Closed,
        _ => Input::Tick,
    }
}

#[test]
fn nothing_that_a_peer_sends_makes_either_side_sign_or_go_on_for_ever() {
    for seed in 1..500 {
        let mut random = Random(seed);
        let mut customer = Customer::start(brief(1_500), NOW);
        let mut farmer = farmer();
        let (mut dones, mut signed) = ((0, 0), 0);
        for step in 0..64 {
            let now = NOW.plus(step * random.below(2_000));
            customer.handle(any_input(&mut random), now);
            farmer.handle(any_input(&mut random), now);
            while let Some(output) = customer.poll_output() {
                match output {
                    Output::Done(Outcome::Agreed(_)) => panic!("seed {seed}: agreed by a forged signature"),
                    Output::Done(_) => dones.0 += 1,
                    Output::Send(Message::Accept { .. }) => signed += 1,
                    _ => {}
                }
            }
            while let Some(output) = farmer.poll_output() {
                match output {
                    Output::Check(_) => farmer.handle(Input::Checked(Ok(ask(1_000, 800, 50))), now),
                    Output::Confirm(_) => panic!("seed {seed}: confirmed a forged acceptance"),
                    Output::Send(Message::Signed { .. }) => panic!("seed {seed}: signed"),
                    Output::Done(Outcome::Agreed(_)) => panic!("seed {seed}: agreed"),
                    Output::Done(_) => dones.1 += 1,
                    _ => {}
                }
            }
        }
        assert!(dones.0 <= 1 && dones.1 <= 1 && signed <= 1, "seed {seed}");
    }
}

#[test]
fn silence_ends_each_side_at_its_deadline() {
    let mut customer = Customer::start(brief(1_000), NOW);
    let mut farmer = farmer();
    assert_eq!(customer.next_deadline(), Some(NOW.plus(STEP_MS)));
    customer.handle(Input::Tick, NOW.plus(STEP_MS - 1));
    farmer.handle(Input::Tick, NOW.plus(STEP_MS - 1));
    assert!(customer.next_deadline().is_some());
    customer.handle(Input::Tick, NOW.plus(STEP_MS));
    farmer.handle(Input::Tick, NOW.plus(STEP_MS));
    let last = |outputs: Vec<Output>| outputs.last().cloned();
    let drain_customer: Vec<_> = std::iter::from_fn(|| customer.poll_output()).collect();
    let drain_farmer: Vec<_> = std::iter::from_fn(|| farmer.poll_output()).collect();
    assert_eq!(last(drain_customer), Some(Output::Done(Outcome::Expired)));
    assert_eq!(last(drain_farmer), Some(Output::Done(Outcome::Expired)));
    assert_eq!(customer.next_deadline(), None);
}

#[test]
fn a_draft_that_differs_in_anything_is_not_signed() {
    let honest = || request().agreement(id(2), RULE, Tokens::from_micro(10), NOW.plus(1_000));
    let changes: [fn(&mut ledger::Agreement); 6] = [
        |a| a.customer = id(7),
        |a| a.farmer = id(7),
        |a| a.node = id(7),
        |a| a.periods = 9,
        |a| a.rule.grace_ms += 1,
        |a| a.valid_until = NOW,
    ];
    for change in changes {
        let mut customer = Customer::start(brief(1_000), NOW);
        let mut agreement = honest();
        change(&mut agreement);
        customer.handle(Input::Message(Message::Offer { agreement, last: true }), NOW);
        let outputs: Vec<_> = std::iter::from_fn(|| customer.poll_output()).collect();
        assert!(
            matches!(outputs.last(), Some(Output::Done(Outcome::Violated(_)))),
            "{outputs:?}"
        );
    }
}

#[test]
fn an_offer_above_the_price_of_the_terms_is_no_offer_whatever_the_budget() {
    let run = run(ADVERTISED * 100, ask(ADVERTISED + 1, ADVERTISED + 1, 0));
    assert!(
        matches!(run.customer, Outcome::Violated(what) if what.contains("price of the terms")),
        "{:?}",
        run.customer
    );
    assert_eq!(run.counters, 0);
}

#[test]
fn what_the_terms_ask_is_paid_where_the_farmer_concedes_nothing() {
    let run = run(ADVERTISED * 100, ask(ADVERTISED, ADVERTISED, 0));
    let Outcome::Agreed(signed) = run.customer else {
        panic!("{:?}", run.customer);
    };
    assert_eq!(signed.agreement.price, Tokens::from_micro(ADVERTISED));
}
