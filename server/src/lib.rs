//! The Ringpost server: pure shards, and the io_uring rim around them. The journey of a message is told in README.md.

pub mod admin;
pub mod audit;
pub mod auth;
pub mod certificate;
pub mod committer;
pub mod config;
pub mod credentials;
pub mod datadir;
pub mod directory;
pub mod handshake;
pub mod io;
pub mod journal_command;
pub mod jwks;
pub mod keyfile;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod operator;
pub mod process;
pub mod rate;
pub mod revocation;
pub mod revocation_file;
pub mod shard;
pub mod topology;
pub mod utc;
