//! Driving the customer's side over a link.

use std::time::{Duration, Instant};

use ledger::Timestamp;
use peer_link::{PeerAddress, Stream, protocol};
use tokio::time::timeout;

use super::{Bot, BotError, Stages};
use crate::negotiation::{Brief, Customer, Input, MAX_MESSAGE, Outcome, Output, Progress};

/// The chain's time in one negotiation: told once and running steadily, so that no block in between moves a deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Timestamp,
    at: Instant,
}

impl Clock {
    pub(super) fn start(start: Timestamp) -> Self {
        let at = Instant::now();
        Self { start, at }
    }

    pub(super) fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start.plus(passed)
    }
}

/// What happens next on a link, or that the deadline has passed.
pub(super) async fn next_input(stream: &mut Stream, deadline: Option<Timestamp>, clock: Clock) -> Input {
    let wait = deadline.map_or(0, |deadline| deadline.since(clock.now()).saturating_add(1));
    match timeout(Duration::from_millis(wait), stream.receive(MAX_MESSAGE)).await {
        Err(_) => Input::Tick,
        Ok(Ok(Some(message))) => Input::Message(message),
        Ok(Err(error)) if error.is_violation() => Input::Garbage,
        Ok(Ok(None) | Err(_)) => Input::Closed,
    }
}

impl Bot {
    /// Negotiates with the bot at `address`.
    pub(super) async fn negotiate(
        &self,
        address: &PeerAddress,
        brief: Brief,
        stages: &mut Stages,
    ) -> Result<Outcome, BotError> {
        let connection = self.shared.endpoint.dial(address, protocol::BOT).await?;
        let mut stream = connection.open().await?;
        let clock = Clock::start(self.chain().time().await?);
        let mut core = Customer::start(brief, clock.now());
        let (mut offers, mut counters) = (0_u32, 0_u32);
        loop {
            while let Some(output) = core.poll_output() {
                match output {
                    Output::Send(message) => {
                        if stream.send(&message, MAX_MESSAGE).await.is_err() {
                            core.handle(Input::Closed, clock.now());
                        }
                    }
                    Output::Progress(Progress::Offer(price)) => {
                        offers += 1;
                        stages.once("offer", offers == 1, &format!("{price} for a period"));
                    }
                    Output::Progress(Progress::Counter(price)) => {
                        counters += 1;
                        stages.once("counter-offer", counters == 1, &format!("{price} for a period"));
                    }
                    Output::Done(outcome) => {
                        stream.finish();
                        connection.close();
                        return Ok(outcome);
                    }
                    // The customer's core checks nothing on the way.
                    Output::Check(_) | Output::Confirm(_) => core.handle(Input::Closed, clock.now()),
                }
            }
            let input = next_input(&mut stream, core.next_deadline(), clock).await;
            core.handle(input, clock.now());
        }
    }
}
