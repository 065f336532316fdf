//! What the fuzz targets share: an input read as choices, and a small chain to try things on.
#![forbid(unsafe_code)]

pub mod input;
pub mod world;
