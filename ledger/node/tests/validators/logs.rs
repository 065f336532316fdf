//! What `ledgerd` says on standard error, as people and programs read it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use ledger::Tokens;
use ledger_node::{Home, InitOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn ledgerd(words: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledgerd"));
    command.args(words).arg("--dir").arg(directory);
    command.stdin(Stdio::null());
    command
}

fn event(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).expect(line);
    for field in ["timestamp", "level", "target"] {
        assert!(event[field].is_string(), "{field}: {line}");
    }
    assert!(event["fields"].is_object(), "{line}");
    event
}

#[test]
fn in_json_every_line_of_a_run_is_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let options = InitOptions {
        name: "test".into(),
        interval_ms: 100,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        entities: vec![],
        validators: vec![],
    };
    Home::init(folder.path(), &options).unwrap();
    let words = [
        "run",
        "--log-format",
        "json",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "off",
    ];
    let mut command = ledgerd(&words, folder.path());
    // With all that the libraries say.
    command.env("LEDGERD_LOG", "debug").stdout(Stdio::null());
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&running);
    let mut lines = BufReader::new(running.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let (mut told, mut messages) = (0, Vec::new());
    for line in lines.by_ref() {
        told += 1;
        let event = event(&line);
        if event["target"].as_str().unwrap().starts_with("ledger_node") {
            let message = event["fields"]["message"].as_str().unwrap().to_owned();
            let starts = message == "consensus starts";
            messages.push(message);
            if starts {
                break;
            }
        }
    }
    kill_process(pid, Signal::TERM).unwrap();
    for line in lines {
        told += 1;
        messages.extend(event(&line)["fields"]["message"].as_str().map(str::to_owned));
    }
    assert!(running.wait().unwrap().success());
    assert!(told > 2, "{messages:?}");
    for message in ["consensus starts", "consensus stopped"] {
        assert!(messages.iter().any(|told| told == message), "{message}: {messages:?}");
    }
}

#[test]
fn an_error_at_the_end_is_one_line_in_either_form() {
    let folder = tempfile::tempdir().unwrap();
    let end = |format: &str| {
        let ended = ledgerd(&["run", "--log-format", format], folder.path())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let told = String::from_utf8(ended.stderr).unwrap();
        let lines: Vec<String> = told.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "{told}");
        lines.into_iter().next().unwrap()
    };
    let text = end("text");
    let text = text.strip_prefix("ledgerd: ").expect("the name of the program");
    assert!(text.contains("genesis.json is missing"), "{text}");
    let event = event(&end("json"));
    assert_eq!(
        (event["level"].as_str(), event["fields"]["message"].as_str()),
        (Some("ERROR"), Some(text))
    );
    let wrong = ledgerd(&["run", "--log-format", "xml"], folder.path())
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}
