//! The command line.

mod arguments;
mod commands;

pub(crate) use arguments::Arguments;
pub(crate) use commands::perform;
