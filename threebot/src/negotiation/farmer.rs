//! The farmer's side.

use std::collections::VecDeque;

use ledger::{
    Agreement, Hash, Id, PublicKey, Signature, SigningKey, Timestamp, Tokens, agreement::SignedAgreement,
    body::SettlementRule, key::Purpose, text::Text,
};

use super::{
    Clock, Input, MAX_OFFERS, Message, Outcome, Output, Progress,
    message::{Reason, Request},
};
use crate::policy::Concession;

/// What a farmer asks, after it looked at chain and policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Asking price of one period.
    pub price: Tokens,
    /// How far it goes down.
    pub concession: Concession,
    /// The rule of the terms.
    pub rule: SettlementRule,
    /// Time after which the offer is void.
    pub valid_until: Timestamp,
    /// The customer's signing key, as it stands on the chain.
    pub customer_key: PublicKey,
}

/// The farmer's core.
#[derive(Debug)]
pub struct Farmer {
    chain: Hash,
    id: Id,
    key: SigningKey,
    state: State,
    clock: Clock,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    /// A request is to come.
    Listening,
    /// Chain and policy are looked at.
    Checking(Request),
    /// An offer is out.
    Offered(Offered),
    /// Accepted; the chain is looked at once more.
    Confirming {
        offered: Offered,
        customer: Signature,
    },
    Ended,
}

#[derive(Debug, Clone)]
struct Offered {
    request: Request,
    ask: Ask,
    agreement: Agreement,
    offers: u32,
}

impl Farmer {
    /// Begins by listening.
    #[must_use]
    pub fn start(chain: Hash, id: Id, key: SigningKey, now: Timestamp) -> Self {
        Self {
            chain,
            id,
            key,
            state: State::Listening,
            clock: Clock::start(now),
            outputs: VecDeque::new(),
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
        match (&self.state, input) {
            (_, Input::Garbage) => self.violated("not a message"),
            (_, Input::Closed) => self.end(Outcome::Closed),
            (_, Input::Tick) => {}
            (_, Input::Message(Message::Reject { reason })) => self.end(Outcome::Refused(reason)),
            (State::Checking(request), Input::Checked(checked)) => {
                let request = request.clone();
                self.clock.restart_step(now);
                self.checked(request, checked);
            }
            (State::Confirming { offered, customer }, Input::Confirmed(confirmed)) => {
                let (offered, customer) = (offered.clone(), *customer);
                self.confirmed(offered, customer, confirmed);
            }
            (_, Input::Message(message)) => {
                self.clock.restart_step(now);
                self.message(message, now);
            }
            (_, Input::Checked(_) | Input::Confirmed(_)) => self.violated("an answer to no question"),
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
            (State::Listening, Message::Request(request)) => {
                self.outputs.push_back(Output::Check(request.clone()));
                self.state = State::Checking(request);
            }
            (State::Offered(offered), Message::Counter { price }) => {
                let offered = offered.clone();
                self.counter(offered, price);
            }
            (State::Offered(offered), Message::Accept { signature }) => {
                let offered = offered.clone();
                self.accept(offered, signature, now);
            }
            _ => self.violated("a message out of turn"),
        }
    }

    fn checked(&mut self, request: Request, checked: Result<Ask, Reason>) {
        match checked {
            Ok(ask) => self.offer(request, ask, ask.price, 1),
            Err(reason) => self.decline(reason.clone(), Outcome::Declined(reason)),
        }
    }

    fn offer(&mut self, request: Request, ask: Ask, price: Tokens, offers: u32) {
        let agreement = request.agreement(self.id, ask.rule, price, ask.valid_until);
        let last = price <= ask.concession.floor || ask.concession.step == Tokens::ZERO || offers >= MAX_OFFERS;
        self.outputs.push_back(Output::Progress(Progress::Offer(price)));
        let message = Message::Offer {
            agreement: agreement.clone(),
            last,
        };
        self.outputs.push_back(Output::Send(message));
        self.state = State::Offered(Offered {
            request,
            ask,
            agreement,
            offers,
        });
    }

    fn counter(&mut self, offered: Offered, bid: Tokens) {
        self.outputs.push_back(Output::Progress(Progress::Counter(bid)));
        if offered.offers >= MAX_OFFERS {
            let reason = Reason::lossy("too many counter-offers");
            return self.decline(reason.clone(), Outcome::Declined(reason));
        }
        let price = offered.ask.concession.answer(offered.agreement.price, bid);
        self.offer(offered.request, offered.ask, price, offered.offers + 1);
    }

    fn accept(&mut self, offered: Offered, customer: Signature, now: Timestamp) {
        let agreement = &offered.agreement;
        if agreement.valid_until < now {
            let reason = Reason::lossy("the offer is no longer valid");
            return self.decline(reason.clone(), Outcome::Declined(reason));
        }
        let key = &offered.ask.customer_key;
        if !key.verifies(Purpose::Agreement, self.chain, agreement, &customer) {
            return self.violated("the customer's signature does not verify");
        }
        self.outputs.push_back(Output::Confirm(offered.request.clone()));
        self.state = State::Confirming { offered, customer };
    }

    fn confirmed(&mut self, offered: Offered, customer: Signature, confirmed: Result<(), Reason>) {
        if let Err(reason) = confirmed {
            return self.decline(reason.clone(), Outcome::Declined(reason));
        }
        let agreement = offered.agreement;
        let farmer = agreement.sign(self.chain, &self.key);
        self.outputs
            .push_back(Output::Send(Message::Signed { signature: farmer }));
        self.end(Outcome::Agreed(SignedAgreement {
            agreement,
            customer,
            farmer,
        }));
    }

    fn violated(&mut self, what: &'static str) {
        self.decline(Text::lossy(what), Outcome::Violated(what));
    }

    fn decline(&mut self, reason: Reason, outcome: Outcome) {
        self.outputs.push_back(Output::Send(Message::Reject { reason }));
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.outputs.push_back(Output::Done(outcome));
    }
}
