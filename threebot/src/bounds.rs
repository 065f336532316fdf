//! Which settlement rules a customer's bot signs.
//!
//! The rule is the farmer's, and the chain takes any that is well formed. What a customer can lose by it is bounded here: terms
//! beyond a bound are withheld from every search, by name.

use ledger::body::SettlementRule;

const HOUR_MS: u64 = 3_600_000;

/// Longest time for which a node may fall silent before the chain gives the escrow back: periods times the limit of missed ones.
pub const MAX_SILENCE_MS: u64 = 24 * HOUR_MS;
/// Longest wait for report and receipt after a period.
pub const MAX_GRACE_MS: u64 = HOUR_MS;
/// Longest time in which a node may acknowledge; the escrow lies still meanwhile.
pub const MAX_ACKNOWLEDGE_MS: u64 = HOUR_MS;
/// Longest time in which a workload may be brought up; the escrow lies still meanwhile.
pub const MAX_DEPLOY_MS: u64 = 2 * HOUR_MS;
/// Least tolerance between report and receipt, in thousandths of a period. Looks at a workload lie some thousandths of a period
/// apart, so a narrower one would make a dispute of every period.
pub const MIN_TOLERANCE_PERMILLE: u16 = 10;

/// The first bound that a rule exceeds, in words; `None` for a rule that is signed.
#[must_use]
pub fn exceeded(rule: &SettlementRule) -> Option<&'static str> {
    let silence = rule.period_ms.saturating_mul(u64::from(rule.missed_limit));
    let bounds = [
        (
            silence > MAX_SILENCE_MS,
            "its rule lets a node be silent for more than a day",
        ),
        (rule.grace_ms > MAX_GRACE_MS, "its rule has a grace of more than 1 hour"),
        (
            rule.acknowledge_ms > MAX_ACKNOWLEDGE_MS,
            "its rule gives a node more than 1 hour to acknowledge",
        ),
        (
            rule.deploy_ms > MAX_DEPLOY_MS,
            "its rule gives a node more than 2 hours to run the workload",
        ),
        (
            rule.tolerance_permille < MIN_TOLERANCE_PERMILLE,
            "its rule tolerates less than 10 thousandths between report and receipt",
        ),
    ];
    bounds
        .into_iter()
        .find_map(|(exceeded, words)| exceeded.then_some(words))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The rule that `threebot farm terms` offers if nothing else is said.
    pub(crate) const USUAL: SettlementRule = SettlementRule {
        period_ms: HOUR_MS,
        grace_ms: 300_000,
        acknowledge_ms: 120_000,
        deploy_ms: 900_000,
        suspend_ms: 86_400_000,
        tolerance_permille: 50,
        unconfirmed_permille: 900,
        missed_limit: 2,
        dispute_limit: 24,
    };

    #[test]
    fn the_usual_rule_is_signed_and_each_excess_is_named() {
        assert_eq!(exceeded(&USUAL), None);
        let year = 366 * 24 * HOUR_MS;
        type Change = fn(&mut SettlementRule, u64);
        let cases: [(Change, &str); 6] = [
            (|rule, year| rule.period_ms = year, "silent"),
            (|rule, _| rule.missed_limit = 25, "silent"),
            (|rule, year| rule.grace_ms = year, "grace"),
            (|rule, year| rule.acknowledge_ms = year, "acknowledge"),
            (|rule, year| rule.deploy_ms = year, "run the workload"),
            (|rule, _| rule.tolerance_permille = 0, "tolerates"),
        ];
        for (change, word) in cases {
            let mut rule = USUAL;
            change(&mut rule, year);
            let words = exceeded(&rule).unwrap();
            assert!(words.contains(word), "{words} for {word}");
        }
    }
}
