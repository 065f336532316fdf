//! Waiting for work to be done or for somebody to end it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What was heard.
#[derive(Debug)]
pub(crate) enum Heard<T> {
    /// The work is done.
    Done(T),
    /// Somebody wants an end.
    Interrupt,
}

/// Hears of the end of work, and of interrupts.
#[derive(Debug)]
pub(crate) struct Listener<T> {
    sender: Sender<Heard<T>>,
    heard: Receiver<Heard<T>>,
}

impl<T: Send + 'static> Listener<T> {
    /// From now on interrupts no longer end the process by themselves.
    pub(crate) fn new() -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listen for interrupts")?;
        let (sender, heard) = channel();
        let interrupted = sender.clone();
        thread::Builder::new()
            .name("interrupts".into())
            .spawn(move || {
                for _ in signals.forever() {
                    // Without a listener the process is at its end anyway.
                    if interrupted.send(Heard::Interrupt).is_err() {
                        return;
                    }
                }
            })
            .context("start the thread that listens for interrupts")?;
        Ok(Self { sender, heard })
    }

    /// Does work beside, so that an interrupt is heard meanwhile.
    pub(crate) fn work(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<()> {
        let done = self.sender.clone();
        thread::Builder::new()
            .name("work".into())
            .spawn(move || {
                let result = work();
                // As above.
                let _ = done.send(Heard::Done(result));
            })
            .context("start the thread that does the work")?;
        Ok(())
    }

    /// Waits for the next thing to be heard.
    pub(crate) fn wait(&self) -> Result<Heard<T>> {
        self.heard.recv().context("wait for the work's end")
    }
}
