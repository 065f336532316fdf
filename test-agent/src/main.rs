//! Causes faults inside a machine that runs a scenario.
//!
//! It is in the test flavour of the image alone, and hears what to do on the machine's second serial line, which opens
//! nothing to any network. It says `ready` once it listens; then each line gets a line in answer:
//!
//! | line | what is done | answer |
//! |---|---|---|
//! | `agent` | nothing | `process PID START` |
//! | `monitor CONTRACT` | nothing | `process PID START` |
//! | `memory init`, `memory agent` | nothing | `memory BYTES`, what is resident |
//! | `memory monitor CONTRACT BYTES` | nothing | the same without a guest's memory of BYTES |
//! | `sockets` | nothing | `sockets PROTOCOL:PORT …`, those that hear from anyone |
//! | `kill agent` | the node's agent gets SIGKILL | `killed PID START` |
//! | `freeze agent` | it gets SIGSTOP | `frozen PID START` |
//! | `kill monitor CONTRACT` | the monitor gets SIGKILL | `killed PID START` |
//! | `get IP:PORT PATH` | asks a guest for a page by HTTP | `page BODY`, of which the first line |
//! | anything else, or what cannot be done | nothing | `refused: WHY` |
//!
//! CONTRACT is the beginning of a contract's id that no other has; START is when the process began, in ticks since the
//! machine's start.
#![forbid(unsafe_code)]

mod command;
mod memory;
mod page;
mod processes;
mod serial;
mod sockets;

use std::{path::Path, process::ExitCode};

use command::{Command, Refusal};
use processes::{Found, Processes};
use rustix::process::Pid;

/// The second serial line.
const LINE: &str = "/dev/ttyS1";

#[expect(clippy::print_stderr, reason = "what init relays to the console")]
fn main() -> ExitCode {
    let ended = serial::open(Path::new(LINE)).and_then(|port| serial::serve(port, answer));
    match ended {
        Ok(()) => eprintln!("{LINE} has ended"),
        Err(error) => eprintln!("{LINE}: {error}"),
    }
    ExitCode::FAILURE
}

fn answer(line: &str) -> String {
    carry_out(line).unwrap_or_else(|why| format!("refused: {why}"))
}

fn carry_out(line: &str) -> Result<String, Refusal> {
    let processes = Processes::of_the_machine();
    let told = |word: &str, Found { pid, start }: Found| format!("{word} {} {start}", pid.as_raw_pid());
    let memory = |bytes: u64| format!("memory {bytes}");
    Ok(match Command::parse(line)? {
        Command::Agent => told("process", processes.agent()?),
        Command::Monitor(contract) => told("process", processes.monitor(&contract)?),
        Command::InitMemory => memory(processes.resident(Pid::INIT, None)?),
        Command::AgentMemory => memory(processes.resident(processes.agent()?.pid, None)?),
        Command::MonitorMemory(contract, guest) => {
            memory(processes.resident(processes.monitor(&contract)?.pid, Some(guest))?)
        }
        Command::Sockets => format!("sockets {}", sockets::open(Path::new("/proc/net"))?.join(" ")),
        Command::FreezeAgent => told("frozen", processes::freeze(processes.agent()?)?),
        Command::KillAgent => told("killed", processes::kill(processes.agent()?)?),
        Command::KillMonitor(contract) => told("killed", processes::kill(processes.monitor(&contract)?)?),
        Command::Get(address, path) => format!("page {}", page::get(address, &path)?),
    })
}
