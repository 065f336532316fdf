//! Which interfaces have an uplink. Cards come late, and adapters are pulled out and put in again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::links::Interface;

/// How long the first interface may take to come before its absence is said: drivers are loaded while the agent starts.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The running uplinks by the name of their interface.
#[derive(Debug, Default)]
pub struct Roster {
    uplinks: BTreeMap<String, Uplink>,
}

#[derive(Debug)]
struct Uplink {
    interface: Interface,
    task: AbortHandle,
}

impl Roster {
    /// Makes the uplinks match the interfaces that are there: those of vanished ones end, and `start` starts those of new ones.
    /// An interface that came back under its old name is a new one. Names of the vanished are returned.
    pub fn follow(&mut self, found: Vec<Interface>, start: impl Fn(Interface) -> AbortHandle) -> Vec<String> {
        let gone: Vec<String> = self
            .uplinks
            .extract_if(.., |_, uplink| !found.contains(&uplink.interface))
            .map(|(name, uplink)| {
                uplink.task.abort();
                name
            })
            .collect();
        for interface in found {
            self.uplinks.entry(interface.name.clone()).or_insert_with(|| Uplink {
                task: start(interface.clone()),
                interface,
            });
        }
        gone
    }

    /// Whether the uplink of this very interface runs.
    #[must_use]
    pub fn has(&self, interface: &Interface) -> bool {
        self.uplinks
            .get(&interface.name)
            .is_some_and(|uplink| uplink.interface == *interface)
    }

    /// Names of the interfaces.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.uplinks.keys().cloned().collect()
    }
}

/// Whether the machine's first interface is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It may come until then.
    Until(Instant),
    /// It came, or its absence was said.
    Over,
}

impl Absence {
    /// What is known after a look, and whether the absence is to be said now.
    #[must_use]
    pub fn seen(self, roster: &Roster, now: Instant) -> (Self, bool) {
        match self {
            Self::Until(_) if !roster.uplinks.is_empty() => (Self::Over, false),
            Self::Until(then) if now >= then => (Self::Over, true),
            other => (other, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32) -> Interface {
        Interface {
            name: name.to_owned(),
            index,
            mac: [2; 6],
        }
    }

    /// An uplink that goes on for as long as nobody ends it.
    fn start(_: Interface) -> AbortHandle {
        tokio::spawn(std::future::pending::<()>()).abort_handle()
    }

    async fn ended(task: &AbortHandle) {
        let finished = async {
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), finished).await.unwrap();
    }

    #[tokio::test]
    async fn late_interface_gets_an_uplink_and_a_vanished_one_loses_it() {
        let mut roster = Roster::default();
        assert!(roster.follow(vec![], start).is_empty());
        assert!(roster.follow(vec![interface("eth0", 2)], start).is_empty());
        let adapter = interface("eth1", 3);
        assert!(!roster.has(&adapter));
        roster.follow(vec![interface("eth0", 2), adapter.clone()], start);
        assert!(roster.has(&adapter));
        let tasks = ["eth0", "eth1"].map(|name| roster.uplinks[name].task.clone());

        assert_eq!(roster.follow(vec![interface("eth0", 2)], start), ["eth1"]);
        ended(&tasks[1]).await;
        assert!(!roster.has(&adapter));
        assert_eq!(roster.names(), ["eth0".to_owned()].into());
        assert!(!tasks[0].is_finished(), "the other one goes on");
    }

    #[tokio::test]
    async fn adapter_that_was_put_in_again_is_a_new_one() {
        let (first, second) = (interface("eth1", 3), interface("eth1", 7));
        let mut roster = Roster::default();
        roster.follow(vec![first.clone()], start);
        let task = roster.uplinks["eth1"].task.clone();
        assert_eq!(roster.follow(vec![second.clone()], start), ["eth1"]);
        ended(&task).await;
        assert!(roster.has(&second));
        assert!(!roster.has(&first), "what its uplink still says is not believed");
    }

    #[tokio::test]
    async fn absence_is_said_once_and_only_after_a_while() {
        let mut roster = Roster::default();
        let began = Instant::now();
        let waiting = Absence::Until(began + PATIENCE);
        assert_eq!(waiting.seen(&roster, began), (waiting, false));
        assert_eq!(waiting.seen(&roster, began + PATIENCE), (Absence::Over, true));
        assert_eq!(
            Absence::Over.seen(&roster, began + 2 * PATIENCE),
            (Absence::Over, false)
        );
        roster.follow(vec![interface("eth0", 2)], start);
        assert_eq!(waiting.seen(&roster, began + PATIENCE), (Absence::Over, false));
    }
}
