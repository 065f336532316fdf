//! The customer's side.

use std::collections::VecDeque;

use ledger::{
    Agreement, Hash, Id, PublicKey, Signature, SigningKey, Timestamp, Tokens, agreement::SignedAgreement,
    body::SettlementRule, key::Purpose, text::Text,
};

use super::{
    Clock, Input, MAX_OFFERS, MAX_VALIDITY_MS, Message, Outcome, Output, Progress,
    message::Request,
    price::{Bidding, Reply},
};

/// What a customer knows before it asks.
#[derive(Debug, Clone)]
pub struct Brief {
    /// The chain for which both sign.
    pub chain: Hash,
    /// What it asks for.
    pub request: Request,
    /// The owner of the farm.
    pub farmer: Id,
    /// The farmer's signing key, as it stands on the chain.
    pub farmer_key: PublicKey,
    /// The rule of the terms that it saw.
    pub rule: SettlementRule,
    /// What the terms ask for one period of what is requested. Nothing above it is bid or taken.
    pub advertised: Tokens,
    /// How it bids.
    pub bidding: Bidding,
    /// Its own signing key.
    pub key: SigningKey,
}

/// The customer's core.
#[derive(Debug)]
pub struct Customer {
    brief: Brief,
    state: State,
    clock: Clock,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one value a negotiation")]
enum State {
    /// Asked or countered; an offer is to come.
    Bidding {
        bid: Option<Tokens>,
        offers: u32,
        best: Option<Tokens>,
    },
    /// Signed; the farmer's signature is to come.
    Signed {
        agreement: Agreement,
        own: Signature,
    },
    Ended,
}

impl Customer {
    /// Begins by asking.
    #[must_use]
    pub fn start(brief: Brief, now: Timestamp) -> Self {
        let outputs = VecDeque::from([Output::Send(Message::Request(brief.request.clone()))]);
        Self {
            brief,
            state: State::Bidding {
                bid: None,
                offers: 0,
                best: None,
            },
            clock: Clock::start(now),
            outputs,
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        if matches!(self.state, State::Ended) {
            return;
        }
        if now >= self.clock.deadline() {
            return self.decline(Text::lossy("no answer in time"), Outcome::Expired);
        }
        match input {
            Input::Message(message) => {
                self.clock.restart_step(now);
                self.message(message, now);
            }
            Input::Garbage => self.violated("not a message"),
            Input::Closed => self.end(Outcome::Closed),
            Input::Tick => {}
            Input::Checked(_) | Input::Confirmed(_) => self.violated("an answer of the farmer's side alone"),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`], unless something happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        (!matches!(self.state, State::Ended)).then(|| self.clock.deadline())
    }

    fn message(&mut self, message: Message, now: Timestamp) {
        match (&self.state, message) {
            (_, Message::Reject { reason }) => self.end(Outcome::Refused(reason)),
            (&State::Bidding { bid, offers, best }, Message::Offer { agreement, last }) => {
                self.offer(bid, offers + 1, best, agreement, last, now);
            }
            (State::Signed { agreement, own }, Message::Signed { signature }) => {
                let (agreement, own) = (agreement.clone(), *own);
                self.signed(agreement, own, signature);
            }
            (State::Bidding { .. } | State::Signed { .. }, _) => self.violated("a message out of turn"),
            (State::Ended, _) => {}
        }
    }

    fn offer(
        &mut self,
        bid: Option<Tokens>,
        offers: u32,
        best: Option<Tokens>,
        agreement: Agreement,
        last: bool,
        now: Timestamp,
    ) {
        let price = agreement.price;
        let brief = &self.brief;
        let expected = brief
            .request
            .agreement(brief.farmer, brief.rule, price, agreement.valid_until);
        if agreement != expected {
            return self.violated("the offer is for something else than was asked");
        }
        if agreement.valid_until <= now || agreement.valid_until.since(now) > MAX_VALIDITY_MS {
            return self.violated("the offer's validity is over or too long");
        }
        if offers > MAX_OFFERS {
            return self.violated("more offers than the protocol allows");
        }
        if price > brief.advertised {
            return self.violated("the offer is above the price of the terms");
        }
        if best.is_some_and(|best| price > best) {
            return self.violated("the offer rose");
        }
        self.outputs.push_back(Output::Progress(Progress::Offer(price)));
        match brief.bidding.answer(bid, price, last || offers == MAX_OFFERS) {
            Reply::Counter(counter) => {
                self.outputs.push_back(Output::Progress(Progress::Counter(counter)));
                self.outputs
                    .push_back(Output::Send(Message::Counter { price: counter }));
                self.state = State::Bidding {
                    bid: Some(counter),
                    offers,
                    best: Some(price),
                };
            }
            Reply::Accept => {
                let own = agreement.sign(brief.chain, &brief.key);
                self.outputs.push_back(Output::Send(Message::Accept { signature: own }));
                self.state = State::Signed { agreement, own };
            }
            Reply::Decline => {
                let reason = Text::lossy("the last price is above what the customer pays");
                self.decline(reason.clone(), Outcome::Declined(reason));
            }
        }
    }

    fn signed(&mut self, agreement: Agreement, own: Signature, farmer: Signature) {
        let brief = &self.brief;
        if !brief
            .farmer_key
            .verifies(Purpose::Agreement, brief.chain, &agreement, &farmer)
        {
            return self.violated("the farmer's signature does not verify");
        }
        self.end(Outcome::Agreed(SignedAgreement {
            agreement,
            customer: own,
            farmer,
        }));
    }

    fn violated(&mut self, what: &'static str) {
        self.decline(Text::lossy(what), Outcome::Violated(what));
    }

    fn decline(&mut self, reason: super::Reason, outcome: Outcome) {
        self.outputs.push_back(Output::Send(Message::Reject { reason }));
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.outputs.push_back(Output::Done(outcome));
    }
}
