//! Saying why a peer was no help: one line for each peer and check, not one for each answer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use peer_link::{DialError, PeerId};
use tracing::{debug, info, warn};

use crate::{PeerFailure, Reason};

/// Pause before the same is said of the same peer again. Peers and checks are few, so this bounds the lines of an hour,
/// whatever a peer does.
const REPEAT: Duration = Duration::from_secs(3600);

/// Where it is said why a peer was no help. Clones share what was said.
#[derive(Clone)]
pub struct Complaints {
    said: Arc<Mutex<Said>>,
    say: Arc<dyn Fn(&str) + Send + Sync>,
}

/// When what was said of whom.
#[derive(Debug, Default)]
struct Said(BTreeMap<(PeerId, &'static str), Instant>);

impl Said {
    /// Notes that something is to be said now, unless it was said not long ago.
    fn is_due(&mut self, peer: PeerId, check: &'static str, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < REPEAT;
        if self.0.get(&(peer, check)).is_some_and(recent) {
            return false;
        }
        self.0.insert((peer, check), now);
        true
    }
}

impl Complaints {
    /// Into the program's log.
    #[must_use]
    pub fn to_log() -> Self {
        Self::to(|line| warn!("{line}"))
    }

    /// To whoever wants each line.
    #[must_use]
    pub fn to(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            said: Arc::default(),
            say: Arc::new(say),
        }
    }

    pub(crate) fn complain(&self, failure: &PeerFailure) {
        match &failure.reason {
            // The dial before it was said.
            Reason::Dial(DialError::BackingOff { .. }) => return,
            // It does not know this one thing and has said so; that is no trouble of the node's.
            Reason::Unable(_) => return info!("{failure}"),
            _ => {}
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.is_due(failure.peer, failure.reason.check(), Instant::now());
        drop(said);
        if due {
            (self.say)(&failure.to_string());
        } else {
            debug!("{failure}");
        }
    }
}

impl fmt::Debug for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Complaints").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use peer_link::LinkKey;

    use super::*;

    #[test]
    fn the_same_is_said_once_an_hour_of_each_peer_and_another_check_at_once() {
        let [liar, other] = [1, 2].map(|seed| LinkKey::from_seed(&[seed; 32]).id());
        let (mut said, start) = (Said::default(), Instant::now());
        assert!(said.is_due(liar, "forged certificate", start));
        for second in 0..3599 {
            assert!(!said.is_due(liar, "forged certificate", start + Duration::from_secs(second)));
        }
        assert!(said.is_due(liar, "stale head", start));
        assert!(said.is_due(other, "stale head", start));
        assert!(said.is_due(liar, "forged certificate", start + REPEAT));
    }
}
