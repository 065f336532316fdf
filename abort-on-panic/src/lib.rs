//! A panic in any task ends the process, whatever the profile says: nothing goes on with half of its parts.
//!
//! Runtimes catch what panics in a task, and the other tasks would never learn that one is missing.
#![forbid(unsafe_code)]

/// From now on a panic on any thread is reported as before and then aborts the process.
pub fn install() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |bug| {
        report(bug);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::process::ExitStatusExt,
        process::{self, Command, Stdio},
        thread,
    };

    /// Source: signal(7).
    const SIGABRT: i32 = 6;

    #[test]
    fn panic_on_another_thread_ends_the_process() {
        const INNER: &str = "ABORT_ON_PANIC_INNER";
        if env::var_os(INNER).is_some() {
            super::install();
            let _caught = thread::spawn(|| panic!("as asked")).join();
            process::exit(0);
        }
        let ended = Command::new(env::current_exe().unwrap())
            .args(["--exact", "tests::panic_on_another_thread_ends_the_process"])
            .env(INNER, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.signal(), Some(SIGABRT), "{ended}");
    }
}
