//! What a farmer's bot may agree to with nobody present.

use std::collections::BTreeSet;

use ledger::{Id, Tokens};
use serde::{Deserialize, Serialize};

/// A farmer's policy, in `policy.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether requests are answered with offers at all.
    pub accept: bool,
    /// Least price that is agreed to, in thousandths of the asking price.
    pub minimum_permille: u16,
    /// Largest discount in answer to one counter-offer, in thousandths of the asking price.
    pub step_permille: u16,
    /// Most live contracts on all nodes of the farmer together.
    pub max_contracts: u32,
    /// How long an offer may be put on the chain, in seconds, 10 to 3600.
    pub offer_valid_seconds: u32,
    /// Customers with whom nothing is agreed.
    pub blocked: BTreeSet<Id>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            accept: true,
            minimum_permille: 800,
            step_permille: 50,
            max_contracts: 1_000,
            offer_valid_seconds: 300,
            blocked: BTreeSet::new(),
        }
    }
}

/// A policy that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not the expected TOML.
    #[error("{0}")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A part above the whole.
    #[error("{0} must be at most 1000")]
    Permille(&'static str),
    /// The validity is out of its bounds.
    #[error("offer_valid_seconds must be 10 to 3600")]
    Validity,
}

impl Policy {
    /// Reads a policy file's text.
    ///
    /// # Errors
    /// [`PolicyError`] when it is no policy.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text).map_err(|error| PolicyError::Syntax(Box::new(error)))?;
        for (name, permille) in [
            ("minimum_permille", policy.minimum_permille),
            ("step_permille", policy.step_permille),
        ] {
            if permille > 1_000 {
                return Err(PolicyError::Permille(name));
            }
        }
        if !(10..=3_600).contains(&policy.offer_valid_seconds) {
            return Err(PolicyError::Validity);
        }
        Ok(policy)
    }

    /// How far prices go down from `asking`.
    #[must_use]
    pub fn concession(&self, asking: Tokens) -> Concession {
        Concession {
            floor: asking.portion(u64::from(self.minimum_permille), 1_000),
            step: asking.portion(u64::from(self.step_permille), 1_000),
        }
    }
}

/// How far a price goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concession {
    /// Never below this.
    pub floor: Tokens,
    /// At most by so much in answer to one counter-offer.
    pub step: Tokens,
}

impl Concession {
    /// The price that answers a counter-offer of `bid` to an offer of `current`: the bid itself where it is within reach,
    /// otherwise as near to it as one step and the floor allow. Never above `current`.
    #[must_use]
    pub fn answer(&self, current: Tokens, bid: Tokens) -> Tokens {
        let step_down = current.checked_sub(self.step).unwrap_or(Tokens::ZERO);
        bid.max(step_down).max(self.floor).min(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(micro: u64) -> Tokens {
        Tokens::from_micro(micro)
    }

    #[test]
    fn prices_go_down_by_steps_and_stop_at_the_floor() {
        let concession = Policy::default().concession(t(1_000));
        assert_eq!(
            concession,
            Concession {
                floor: t(800),
                step: t(50)
            }
        );
        assert_eq!(concession.answer(t(1_000), t(970)), t(970));
        assert_eq!(concession.answer(t(1_000), t(100)), t(950));
        assert_eq!(concession.answer(t(820), t(0)), t(800));
        assert_eq!(concession.answer(t(800), t(0)), t(800));
        assert_eq!(concession.answer(t(900), t(2_000)), t(900));
    }

    #[test]
    fn an_empty_file_is_the_default_and_bad_ones_are_named() {
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
        let id = Id::from_hash(ledger::Hash::from_bytes([1; 32]));
        let policy = Policy::parse(&format!("accept = false\nblocked = [\"{id}\"]")).unwrap();
        assert!(!policy.accept && policy.blocked.contains(&id));
        assert!(matches!(
            Policy::parse("minimum_permille = 1001"),
            Err(PolicyError::Permille(_))
        ));
        assert!(matches!(
            Policy::parse("offer_valid_seconds = 1"),
            Err(PolicyError::Validity)
        ));
        assert!(matches!(Policy::parse("discount = 3"), Err(PolicyError::Syntax(_))));
    }
}
