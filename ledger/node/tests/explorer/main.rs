//! The explorer in a browser: a real validator, and a headless Chromium that clicks through the page.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agreement;
mod bodies;
mod chromium;
mod lies;
mod looks;
mod page;
mod reading;
mod signatures;
mod world;
