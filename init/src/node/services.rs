//! What runs on a node besides PID 1, as a table.

use std::time::Duration;

use node_api::{
    image::{AGENT, TEST_AGENT},
    init::LIVENESS_MS,
};

use crate::supervise::{Backoff, Liveness, Readiness, Restart, Spec};

/// A supervised program.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Name in logs, of its cgroup and of its log file.
    pub name: &'static str,
    /// Absolute path.
    pub program: &'static str,
    /// Arguments after the program's name.
    pub arguments: &'static [&'static str],
    /// Names of the services that must run first.
    pub after: &'static [&'static str],
    /// Name in milestones: `… started`, `… ready`.
    pub milestone: &'static str,
    /// How it is supervised.
    pub spec: Spec,
}

/// Name of the service that may speak on the control socket and whose signs of life feed the watchdog.
pub const AGENT_SERVICE: &str = "agent";

/// The services of a node.
pub const SERVICES: &[Service] = &[Service {
    name: AGENT_SERVICE,
    program: AGENT,
    arguments: &[],
    after: &[],
    milestone: "agent",
    spec: Spec {
        backoff: Backoff {
            first: Duration::from_millis(250),
            most: Duration::from_secs(30),
        },
        healthy: Duration::from_secs(60),
        restart: Restart::Always,
        readiness: Readiness::Said,
        liveness: Some(Liveness {
            grace: Duration::from_secs(120),
            every: Duration::from_millis(LIVENESS_MS),
        }),
        stop: Duration::from_secs(60),
    },
}];

/// Services of images that have their program; the image for farms has none of them.
const OPTIONAL: &[Service] = &[Service {
    name: "test-agent",
    program: TEST_AGENT,
    arguments: &[],
    after: &[],
    milestone: "test agent",
    spec: Spec {
        backoff: Backoff {
            first: Duration::from_secs(1),
            most: Duration::from_secs(30),
        },
        healthy: Duration::from_secs(60),
        restart: Restart::Always,
        readiness: Readiness::Spawned,
        liveness: None,
        stop: Duration::from_secs(1),
    },
}];

/// The services of an image, of which `lists` says whether its manifest lists a path. An optional program that is there
/// without being listed has been refused with the whole image before.
#[must_use]
pub fn of_image(lists: impl Fn(&str) -> bool) -> Vec<Service> {
    let optional = OPTIONAL.iter().filter(|service| lists(service.program));
    SERVICES.iter().chain(optional).copied().collect()
}

/// Why a table has no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two services have the same name.
    #[error("service {0} is declared twice")]
    Twice(&'static str),
    /// A service waits for one that is not declared, for itself, or in a circle.
    #[error("service {0} waits for what never comes")]
    Never(&'static str),
}

/// The order of start: every service after those that it waits for, otherwise as declared. The order of stop is its
/// reverse.
///
/// # Errors
/// [`TableError`] when there is none.
pub fn order(services: &[Service]) -> Result<Vec<Service>, TableError> {
    let mut left: Vec<Service> = services.to_vec();
    let mut ordered: Vec<Service> = Vec::new();
    for (index, service) in services.iter().enumerate() {
        if services.iter().take(index).any(|other| other.name == service.name) {
            return Err(TableError::Twice(service.name));
        }
    }
    while let Some(first) = left.first() {
        let is_next = |service: &Service| {
            service
                .after
                .iter()
                .all(|need| ordered.iter().any(|done| done.name == *need))
        };
        let Some(index) = left.iter().position(is_next) else {
            return Err(TableError::Never(first.name));
        };
        ordered.push(left.remove(index));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &'static str, after: &'static [&'static str]) -> Service {
        Service {
            name,
            after,
            ..SERVICES[0]
        }
    }

    #[test]
    fn the_nodes_table_has_an_order_and_the_agent() {
        let names: Vec<_> = order(SERVICES).unwrap().iter().map(|service| service.name).collect();
        assert_eq!(names, [AGENT_SERVICE]);
    }

    #[test]
    fn optional_service_runs_only_where_the_manifest_lists_its_program() {
        let names = |listed: &[&str]| -> Vec<&str> {
            let services = order(&of_image(|path| listed.contains(&path))).unwrap();
            services.iter().map(|service| service.name).collect()
        };
        assert_eq!(names(&[AGENT]), [AGENT_SERVICE]);
        assert_eq!(names(&[AGENT, TEST_AGENT]), [AGENT_SERVICE, "test-agent"]);
    }

    #[test]
    fn services_come_after_what_they_wait_for() {
        let ordered = order(&[service("c", &["b"]), service("a", &[]), service("b", &["a"])]).unwrap();
        assert_eq!(ordered.iter().map(|service| service.name).collect::<String>(), "abc");
    }

    #[test]
    fn circles_strangers_and_doubles_are_refused() {
        assert_eq!(
            order(&[service("a", &["b"]), service("b", &["a"])]).unwrap_err(),
            TableError::Never("a")
        );
        assert_eq!(order(&[service("a", &["x"])]).unwrap_err(), TableError::Never("a"));
        assert_eq!(
            order(&[service("a", &[]), service("a", &[])]).unwrap_err(),
            TableError::Twice("a")
        );
    }
}
