//! `zos-agent`: the agent of a node.

use std::process::ExitCode;

use tracing::error;
use tracing_subscriber::EnvFilter;

/// Exit code when something without which the agent cannot go on has failed.
const FAILED: u8 = 1;
/// How long what still blocks may take when the agent ends.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);

fn main() -> ExitCode {
    let filter = EnvFilter::new("warn,zos_agent=info,chain_client=info,peer_link=info");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .without_time()
        .with_writer(std::io::stderr)
        .init();
    abort_on_panic::install();
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(source) => {
            error!("start: {source}");
            return ExitCode::from(FAILED);
        }
    };
    let ended = runtime.block_on(zos_agent::agent::run());
    // A full read of a disk or a disk that does not answer keeps no agent from ending.
    runtime.shutdown_timeout(FAREWELL);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            error!("{}", error_line::with_causes(&failed));
            ExitCode::from(FAILED)
        }
    }
}

/// Every tunnel and every monitor takes descriptors of the agent: it may have as many as the kernel lets it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    if let Err(source) = setrlimit(Resource::Nofile, limit) {
        error!("raise the limit of open files: {source}");
    }
}
