//! Threads beside the event loop.

/// Bytes of stack, which suit a small machine; none of the threads recurses deeply.
const STACK: usize = 256 * 1024;

/// Starts a thread. It lives as long as its work; nobody waits for it.
///
/// # Errors
/// When the kernel has no room for a thread.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
}
