//! The Ringpost server: pure shards, and the io_uring rim around them. The journey of a message is told in README.md.

pub mod auth;
pub mod directory;
pub mod handshake;
pub mod io;
pub mod limits;
pub mod shard;
pub mod topology;
