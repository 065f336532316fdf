//! PID 1 of a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::node::run()
    }
    // The kernel starts this program again when it wants a module, with what it is to be told about it.
    init::node::modprobe::run(std::env::args().skip(1))
}
