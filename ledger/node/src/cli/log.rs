//! What is said on standard error, for people or for programs that collect logs.

use std::io::{IsTerminal as _, stderr};

use clap::ValueEnum;
use tracing::{Level, error, info, level_filters::LevelFilter, subscriber::with_default};
use tracing_subscriber::EnvFilter;

/// Which events are told, as `tracing-subscriber` reads it.
const FILTER: &str = "LEDGERD_LOG";
/// Which are told if nothing is said.
const USUAL: &str = "warn,ledger_node=info";

/// How standard error is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line, whatever happens but for wrong usage.
    Json,
}

/// Tells events from now on, and in JSON also a panic.
pub(crate) fn install(format: LogFormat) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(USUAL));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => {
            log.json().init();
            std::panic::set_hook(Box::new(|bug| say(LogFormat::Json, Level::ERROR, &bug.to_string())));
        }
    }
}

/// Says what is no event but belongs to the answer, whatever the filter: in JSON an object like those of events.
#[expect(clippy::print_stderr, reason = "what a person reads beside the answer")]
pub(crate) fn say(format: LogFormat, level: Level, text: &str) {
    match format {
        LogFormat::Text => eprintln!("{text}"),
        LogFormat::Json => {
            let log = tracing_subscriber::fmt().json().with_writer(stderr);
            with_default(log.with_max_level(LevelFilter::TRACE).finish(), || match level {
                Level::ERROR => error!(target: "ledgerd", "{text}"),
                _ => info!(target: "ledgerd", "{text}"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command, thread};

    use serde_json::Value;

    use super::*;

    /// Standard error of this test in a process of its own, which does `work` there.
    fn told(name: &str, work: impl FnOnce()) -> Option<Vec<Value>> {
        const INNER: &str = "LEDGERD_LOG_INNER";
        if env::var_os(INNER).is_some() {
            install(LogFormat::Json);
            work();
            return None;
        }
        let mut inner = Command::new(env::current_exe().unwrap());
        inner.args(["--exact", &format!("cli::log::tests::{name}"), "--nocapture"]);
        let ended = inner.env(INNER, "1").env(FILTER, "off").output().unwrap();
        let text = String::from_utf8(ended.stderr).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).expect(line));
        Some(lines.collect())
    }

    #[test]
    fn a_panic_is_one_object_even_if_no_event_is_told() {
        let told = told("a_panic_is_one_object_even_if_no_event_is_told", || {
            let _caught = thread::spawn(|| panic!("as\nasked")).join();
        });
        let Some(told) = told else { return };
        assert_eq!(told.len(), 1, "{told:?}");
        let message = told[0]["fields"]["message"].as_str().unwrap();
        assert!(message.ends_with("as\nasked"), "{message}");
        assert_eq!(told[0]["level"], "ERROR");
    }

    #[test]
    fn what_belongs_to_the_answer_is_an_object_whatever_the_filter() {
        let told = told("what_belongs_to_the_answer_is_an_object_whatever_the_filter", || {
            tracing::error!("not told");
            say(LogFormat::Json, Level::INFO, "you approve:");
        });
        let Some(told) = told else { return };
        let said: Vec<_> = told
            .iter()
            .map(|line| (&line["level"], &line["fields"]["message"]))
            .collect();
        assert_eq!(said, [(&Value::from("INFO"), &Value::from("you approve:"))]);
    }
}
