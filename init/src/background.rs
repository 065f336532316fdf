//! Threads beside the event loop.

use std::{
    io,
    thread::{Builder, Scope, ScopedJoinHandle},
};

/// Bytes of stack, which suit a small machine; none of the threads recurses deeply. A usual one of 2 MiB may become a single
/// huge page that stays for good.
const STACK: usize = 256 * 1024;

fn builder(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK)
}

/// Starts a thread. It lives as long as its work; nobody waits for it.
///
/// # Errors
/// When the kernel has no room for a thread.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    builder(name).spawn(work).map(drop)
}

/// Starts at most `count` threads that help with a piece of work; fewer when the kernel has no room for more.
pub fn helpers<'scope, 'env, T: Send + 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    count: usize,
    work: impl Fn() -> T + Copy + Send + 'scope,
) -> Vec<ScopedJoinHandle<'scope, T>> {
    let started = (0..count).map(|_| builder("helper").spawn_scoped(scope, work));
    started.map_while(Result::ok).collect()
}
