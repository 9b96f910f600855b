//! The Ringpost server: pure cores with their shards, and the io_uring rim around them. The journey of a message is told in README.md.
//!
//! Nothing here prints: standard error is the log's (see [`logging`]), and a write there may block, fail, and then panic.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod access;
pub mod admin;
pub mod audit;
pub mod auth;
pub mod backend;
pub mod capacity;
pub mod certificate;
pub mod committer;
pub mod config;
pub mod core;
pub mod counters;
pub mod credentials;
pub mod datadir;
pub mod directory;
pub mod handshake;
pub mod io;
pub mod journal_command;
pub mod jwks;
pub mod keyfile;
pub mod lanes;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod migrate_command;
pub mod operator;
pub mod preflight;
pub mod process;
pub mod rate;
pub mod revocation;
pub mod revocation_file;
pub mod shard;
pub mod shell;
pub mod tenure;
pub mod timekeeper;
pub mod token_file;
pub mod topology;
pub mod utc;
pub mod validity;
