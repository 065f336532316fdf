//! The command line.

mod arguments;
mod commands;
pub(crate) mod log;

pub(crate) use arguments::Arguments;
pub(crate) use commands::perform;
pub(crate) use log::LogFormat;
