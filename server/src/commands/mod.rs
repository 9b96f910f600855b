//! Commands: what `ringpost` does besides serving, and how it looks at a data folder before it serves. Arguments and screens are the
//! binary's (`bin/ringpost`).
//!
//! Never in it: a ring, a client's connection, or anything that happens while a server runs.

pub mod backend;
pub mod journal;
pub mod migrate;
pub mod preflight;
