//! Telling whoever waits how far a deployment is.

use std::time::Instant;

use tokio::sync::mpsc;
use tracing::info;

use crate::control::{DeploymentView, Event, Failure, Reply, Stage};

/// Names stages with their times, in the log and to whoever listens.
#[derive(Debug)]
pub struct Stages {
    name: String,
    listener: Option<mpsc::Sender<Event>>,
    started: Instant,
    last: Instant,
}

impl Stages {
    /// Stages of the deployment `name`, told to `listener` if there is one.
    #[must_use]
    pub fn new(name: &str, listener: Option<mpsc::Sender<Event>>) -> Self {
        let started = Instant::now();
        Self {
            name: name.to_owned(),
            listener,
            started,
            last: started,
        }
    }

    /// Whether somebody waits for the end of it.
    #[must_use]
    pub fn is_listened(&self) -> bool {
        self.listener.is_some()
    }

    /// A stage was reached.
    pub fn reached(&mut self, stage: &str, detail: &str) {
        let now = Instant::now();
        let event = Stage {
            stage: stage.to_owned(),
            seconds: now.duration_since(self.last).as_secs_f64(),
            at: now.duration_since(self.started).as_secs_f64(),
            detail: detail.to_owned(),
        };
        self.last = now;
        info!(deployment = self.name, "{stage}: {detail}");
        self.tell(Event::Stage(event));
    }

    /// As [`Self::reached`] the `first` time, a note afterwards.
    pub fn once(&mut self, stage: &str, first: bool, detail: &str) {
        if first {
            self.reached(stage, detail);
        } else {
            self.note(&format!("{stage}: {detail}"));
        }
    }

    /// Something worth knowing.
    pub fn note(&mut self, text: &str) {
        info!(deployment = self.name, "{text}");
        self.tell(Event::Note { text: text.to_owned() });
    }

    /// It runs; nobody listens afterwards.
    pub fn done(&mut self, view: DeploymentView) {
        let reply = Reply::Deployed(view);
        self.tell(Event::Done { reply });
        self.listener = None;
    }

    /// It does not run; nobody listens afterwards.
    pub fn failed(&mut self, failure: Failure) {
        self.tell(Event::Failed(failure));
        self.listener = None;
    }

    fn tell(&self, event: Event) {
        if let Some(listener) = &self.listener {
            // A listener that went away or does not read misses events; the deployment goes on.
            let _ = listener.try_send(event);
        }
    }
}
