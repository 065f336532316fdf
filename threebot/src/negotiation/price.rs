//! How a customer's bot bids.

use ledger::Tokens;

/// How a customer bids. All prices are for one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bidding {
    /// Most that is paid. Never told to the other side.
    pub limit: Tokens,
    /// The first counter-offer, in thousandths of the first offer.
    pub opening_permille: u16,
    /// An offer this close above the own bid is taken, in thousandths of the offer.
    pub close_permille: u16,
}

impl Bidding {
    /// The usual way to bid, up to `limit`.
    #[must_use]
    pub const fn up_to(limit: Tokens) -> Self {
        Self {
            limit,
            opening_permille: 850,
            close_permille: 20,
        }
    }

    /// Answers an offer. `bid` is the own last counter-offer; without one, there is a counter-offer first. `last` says that
    /// the offer is as low as it gets.
    #[must_use]
    pub fn answer(&self, bid: Option<Tokens>, offer: Tokens, last: bool) -> Reply {
        let Some(bid) = bid else {
            let opening = offer.portion(u64::from(self.opening_permille), 1_000);
            return Reply::Counter(opening.min(self.limit));
        };
        let affordable = offer <= self.limit;
        let gap = offer.micro().saturating_sub(bid.micro());
        let close = offer.portion(u64::from(self.close_permille), 1_000).micro();
        if affordable && (last || gap <= close) {
            return Reply::Accept;
        }
        if last {
            return Reply::Decline;
        }
        let middle = Tokens::from_micro(bid.micro().saturating_add(gap.div_ceil(2)));
        Reply::Counter(middle.min(self.limit))
    }
}

/// A customer's answer to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Another price.
    Counter(Tokens),
    /// The offer is taken.
    Accept,
    /// The offer is out of reach.
    Decline,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(micro: u64) -> Tokens {
        Tokens::from_micro(micro)
    }

    #[test]
    fn even_a_good_first_offer_is_countered() {
        let bidding = Bidding::up_to(t(10_000));
        assert_eq!(bidding.answer(None, t(1_000), true), Reply::Counter(t(850)));
        assert_eq!(bidding.answer(None, t(20_000), false), Reply::Counter(t(10_000)));
    }

    #[test]
    fn bids_meet_in_the_middle_and_never_pass_the_limit() {
        let bidding = Bidding::up_to(t(900));
        assert_eq!(bidding.answer(Some(t(850)), t(1_000), false), Reply::Counter(t(900)));
        assert_eq!(bidding.answer(Some(t(900)), t(950), false), Reply::Counter(t(900)));
        assert_eq!(bidding.answer(Some(t(900)), t(950), true), Reply::Decline);
        assert_eq!(bidding.answer(Some(t(700)), t(880), true), Reply::Accept);
        assert_eq!(bidding.answer(Some(t(880)), t(890), false), Reply::Accept);
        assert_eq!(bidding.answer(Some(t(700)), t(880), false), Reply::Counter(t(790)));
    }
}
