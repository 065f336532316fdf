//! One stream between a client on the host and a port of the guest.
//!
//! ```text
//! Requesting --response--> Open --shutdown both ways or reset--> Ended
//!     |  reset, wrong packet         |  wrong packet, credit exceeded
//!     +------------------------------+--> Ended
//! ```
//! Credit (section 5.10.6.3) bounds both directions: the guest never has more than [`WINDOW`] bytes here that the client
//! has not taken, and the guest never gets more than the room it announced.

use std::{collections::VecDeque, num::Wrapping};

use super::packet::{Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// Bytes held for a client that is slower than the guest.
pub const WINDOW: u32 = 64 * 1024;
/// Room that the guest has to learn of at the latest when so many bytes were passed on.
const UPDATE_AFTER: u32 = WINDOW / 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Requesting,
    Open,
    Ended,
}

/// What a packet of the guest led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The stream goes on.
    Continue,
    /// The guest has accepted: the client is told.
    Accepted,
    /// The guest has ended the stream.
    EndedByGuest,
    /// The guest broke the rules; it gets a reset.
    Violation,
}

/// What has to be sent to the guest next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A packet without data.
    Control(Operation, u32),
    /// At most so many bytes of the client's data, if there are any.
    Data(u32),
    /// Nothing until something happens.
    Nothing,
}

/// One stream.
#[derive(Debug)]
pub struct Connection {
    state: State,
    request_sent: bool,
    /// From the guest to the client.
    held: VecDeque<u8>,
    forwarded: Wrapping<u32>,
    announced: Wrapping<u32>,
    update_due: bool,
    guest_sends: bool,
    /// From the client to the guest.
    sent: Wrapping<u32>,
    guest_window: u32,
    guest_forwarded: Wrapping<u32>,
    credit_requested: bool,
    guest_receives: bool,
    client_sends: bool,
    client_receives: bool,
    shutdown_told: u32,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            state: State::Requesting,
            request_sent: false,
            held: VecDeque::new(),
            forwarded: Wrapping(0),
            announced: Wrapping(0),
            update_due: false,
            guest_sends: true,
            sent: Wrapping(0),
            guest_window: 0,
            guest_forwarded: Wrapping(0),
            credit_requested: false,
            guest_receives: true,
            client_sends: true,
            client_receives: true,
            shutdown_told: 0,
        }
    }
}

impl Connection {
    /// Takes a packet of the guest.
    pub fn receive(&mut self, header: &Header, data: &[u8]) -> Outcome {
        self.guest_window = header.window;
        let forwarded = Wrapping(header.forwarded);
        // More than was ever sent cannot have been passed on; such a count is a lie and gives no credit.
        if (forwarded - self.guest_forwarded).0 > (self.sent - self.guest_forwarded).0 {
            return self.violation();
        }
        if forwarded != self.guest_forwarded || header.operation == Some(Operation::CreditUpdate) {
            self.credit_requested = false;
        }
        self.guest_forwarded = forwarded;
        match (self.state, header.operation) {
            (_, Some(Operation::Reset)) => {
                self.state = State::Ended;
                Outcome::EndedByGuest
            }
            (State::Requesting, Some(Operation::Response)) if self.request_sent => {
                self.state = State::Open;
                Outcome::Accepted
            }
            (State::Open, Some(Operation::Data)) => self.take(data),
            (State::Open, Some(Operation::CreditUpdate)) => Outcome::Continue,
            (State::Open, Some(Operation::CreditRequest)) => {
                self.update_due = true;
                Outcome::Continue
            }
            (State::Open, Some(Operation::Shutdown)) => {
                self.guest_sends &= header.flags & SHUTDOWN_SEND == 0;
                self.guest_receives &= header.flags & SHUTDOWN_RECEIVE == 0;
                Outcome::Continue
            }
            _ => self.violation(),
        }
    }

    fn take(&mut self, data: &[u8]) -> Outcome {
        let room = crate::bytes::size(u64::from(WINDOW)) - self.held.len();
        if !self.guest_sends || data.len() > room {
            return self.violation();
        }
        if self.client_receives {
            self.held.extend(data);
        } else {
            self.forwarded += count(data.len());
        }
        Outcome::Continue
    }

    fn violation(&mut self) -> Outcome {
        self.state = State::Ended;
        Outcome::Violation
    }

    /// Bytes that wait for the client.
    pub fn for_client(&mut self) -> &[u8] {
        let (first, second) = self.held.as_slices();
        if first.is_empty() { second } else { first }
    }

    /// The client took `length` bytes of [`Self::for_client`].
    pub fn client_took(&mut self, length: usize) {
        self.held.drain(..length);
        self.forwarded += count(length);
    }

    /// Whether the client has everything that the guest will ever send.
    #[must_use]
    pub fn client_has_all(&self) -> bool {
        !self.guest_sends && self.held.is_empty()
    }

    /// The client sends no more.
    pub fn client_finished(&mut self) {
        self.client_sends = false;
    }

    /// The client is gone: what waits for it is dropped.
    pub fn client_gone(&mut self) {
        (self.client_sends, self.client_receives) = (false, false);
        let left = self.held.len();
        self.client_took(left);
    }

    /// Whether the client's data has anywhere to go.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether nothing more can happen but the reset that ends it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Ended || (self.client_has_all() && (!self.guest_receives || !self.client_sends))
    }

    /// Whether the client is gone and the guest has been told; it has a bounded time to agree.
    #[must_use]
    pub fn is_lingering(&self) -> bool {
        self.shutdown_told == SHUTDOWN_SEND | SHUTDOWN_RECEIVE
    }

    /// What the guest is to be sent next.
    #[must_use]
    pub fn due(&self) -> Due {
        match self.state {
            State::Requesting if !self.request_sent => Due::Control(Operation::Request, 0),
            State::Requesting | State::Ended => Due::Nothing,
            State::Open => self.due_when_open(),
        }
    }

    fn due_when_open(&self) -> Due {
        let shutdown =
            if self.client_sends { 0 } else { SHUTDOWN_SEND } | if self.client_receives { 0 } else { SHUTDOWN_RECEIVE };
        let credit = self.credit();
        if self.update_due || (self.forwarded - self.announced).0 >= UPDATE_AFTER {
            Due::Control(Operation::CreditUpdate, 0)
        } else if shutdown & !self.shutdown_told != 0 {
            Due::Control(Operation::Shutdown, shutdown)
        } else if !self.client_sends || !self.guest_receives {
            Due::Nothing
        } else if credit > 0 {
            Due::Data(credit)
        } else if self.credit_requested {
            Due::Nothing
        } else {
            Due::Control(Operation::CreditRequest, 0)
        }
    }

    /// Room that the guest has.
    fn credit(&self) -> u32 {
        self.guest_window.saturating_sub((self.sent - self.guest_forwarded).0)
    }

    /// The control packet that was due has been put together; returns window and count for its header.
    pub fn sent_control(&mut self, operation: Operation, flags: u32) -> (u32, u32) {
        match operation {
            Operation::Request => self.request_sent = true,
            Operation::Shutdown => self.shutdown_told |= flags,
            Operation::CreditRequest => self.credit_requested = true,
            _ => {}
        }
        self.announce()
    }

    /// `length` bytes, no more than were due, have been put into a packet; returns window and count for its header.
    pub fn sent_data(&mut self, length: usize) -> (u32, u32) {
        self.sent += count(length);
        self.announce()
    }

    fn announce(&mut self) -> (u32, u32) {
        self.announced = self.forwarded;
        self.update_due = false;
        (WINDOW, self.forwarded.0)
    }
}

/// `length` modulo 2^32, in which the protocol counts; packets are far shorter.
fn count(length: usize) -> Wrapping<u32> {
    Wrapping(u32::try_from(length).expect("packets are bounded by the window"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::packet::STREAM, *};

    fn packet(operation: Operation, window: u32, forwarded: u32) -> Header {
        Header {
            source: 3,
            destination: 2,
            source_port: 80,
            destination_port: 1024,
            length: 0,
            kind: STREAM,
            operation: Some(operation),
            flags: 0,
            window,
            forwarded,
        }
    }

    fn open(window: u32) -> Connection {
        let mut connection = Connection::default();
        assert_eq!(connection.due(), Due::Control(Operation::Request, 0));
        connection.sent_control(Operation::Request, 0);
        assert_eq!(connection.due(), Due::Nothing);
        assert_eq!(
            connection.receive(&packet(Operation::Response, window, 0), &[]),
            Outcome::Accepted
        );
        connection
    }

    #[test]
    fn data_stops_at_the_guest_s_room_and_goes_on_when_it_grows() {
        let mut connection = open(100);
        assert_eq!(connection.due(), Due::Data(100));
        connection.sent_data(100);
        assert_eq!(connection.due(), Due::Control(Operation::CreditRequest, 0));
        connection.sent_control(Operation::CreditRequest, 0);
        assert_eq!(connection.due(), Due::Nothing);
        connection.receive(&packet(Operation::CreditUpdate, 100, 60), &[]);
        assert_eq!(connection.due(), Due::Data(60));
    }

    #[test]
    fn guest_that_sends_more_than_its_room_is_reset() {
        let mut connection = open(100);
        let full = vec![0; 65536];
        assert_eq!(
            connection.receive(&packet(Operation::Data, 100, 0), &full),
            Outcome::Continue
        );
        assert_eq!(
            connection.receive(&packet(Operation::Data, 100, 0), &[1]),
            Outcome::Violation
        );
        assert!(connection.is_over());
    }

    #[test]
    fn guest_that_claims_to_have_passed_on_what_was_never_sent_is_reset() {
        let mut connection = open(100);
        connection.sent_data(10);
        assert_eq!(
            connection.receive(&packet(Operation::CreditUpdate, 100, 11), &[]),
            Outcome::Violation
        );
    }

    #[test]
    fn room_is_announced_once_enough_was_passed_on() {
        let mut connection = open(100);
        connection.receive(&packet(Operation::Data, 100, 0), &vec![7; 20_000]);
        assert_eq!(connection.due(), Due::Data(100));
        let length = connection.for_client().len();
        connection.client_took(length);
        while !connection.for_client().is_empty() {
            let length = connection.for_client().len();
            connection.client_took(length);
        }
        assert_eq!(connection.due(), Due::Control(Operation::CreditUpdate, 0));
        assert_eq!(connection.sent_control(Operation::CreditUpdate, 0), (WINDOW, 20_000));
        assert_eq!(connection.due(), Due::Data(100));
    }

    #[test]
    fn half_closed_stream_still_carries_the_answer() {
        let mut connection = open(100);
        connection.client_finished();
        assert_eq!(connection.due(), Due::Control(Operation::Shutdown, SHUTDOWN_SEND));
        connection.sent_control(Operation::Shutdown, SHUTDOWN_SEND);
        assert_eq!(
            connection.receive(&packet(Operation::Data, 100, 0), b"answer"),
            Outcome::Continue
        );
        let mut shutdown = packet(Operation::Shutdown, 100, 0);
        shutdown.flags = SHUTDOWN_SEND | SHUTDOWN_RECEIVE;
        connection.receive(&shutdown, &[]);
        assert!(!connection.is_over());
        connection.client_took(6);
        assert!(connection.is_over());
    }

    #[test]
    fn answer_that_nobody_asked_for_is_a_violation() {
        let mut early = Connection::default();
        assert_eq!(
            early.receive(&packet(Operation::Response, 1, 0), &[]),
            Outcome::Violation
        );
        let mut twice = open(1);
        assert_eq!(
            twice.receive(&packet(Operation::Response, 1, 0), &[]),
            Outcome::Violation
        );
        let mut refused = Connection::default();
        assert_eq!(
            refused.receive(&packet(Operation::Reset, 0, 0), &[]),
            Outcome::EndedByGuest
        );
    }

    #[test]
    fn client_that_is_gone_drops_what_comes_and_lingers() {
        let mut connection = open(100);
        connection.client_gone();
        let both = SHUTDOWN_SEND | SHUTDOWN_RECEIVE;
        assert_eq!(connection.due(), Due::Control(Operation::Shutdown, both));
        connection.sent_control(Operation::Shutdown, both);
        assert!(connection.is_lingering());
        assert_eq!(
            connection.receive(&packet(Operation::Data, 100, 0), b"late"),
            Outcome::Continue
        );
        assert!(connection.for_client().is_empty());
    }

    proptest! {
        #[test]
        fn neither_side_ever_exceeds_its_room(
            steps in prop::collection::vec((0u8..6, any::<u16>(), 0u32..200_000), 1..200),
        ) {
            let mut connection = open(1000);
            let (mut sent, mut passed_on) = (0u32, 0u32);
            for (step, length, window) in steps {
                match (step, connection.due()) {
                    (0, Due::Data(most)) => {
                        prop_assert!(most > 0);
                        let length = most.min(u32::from(length));
                        connection.sent_data(usize::try_from(length).unwrap());
                        sent += length;
                    }
                    (1, Due::Control(operation, flags)) => drop(connection.sent_control(operation, flags)),
                    (2, _) => {
                        passed_on += (sent - passed_on).min(u32::from(length));
                        connection.receive(&packet(Operation::CreditUpdate, window, passed_on), &[]);
                        prop_assert!(connection.credit() <= window);
                    }
                    (3, _) => {
                        let data = vec![0; usize::from(length)];
                        connection.receive(&packet(Operation::Data, window, passed_on), &data);
                    }
                    (4, _) => {
                        let length = connection.for_client().len().min(usize::from(length));
                        connection.client_took(length);
                    }
                    _ => {}
                }
                prop_assert!(connection.held.len() <= usize::try_from(WINDOW).unwrap());
            }
        }
    }
}
