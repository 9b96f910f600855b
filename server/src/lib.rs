//! The Ringpost server: pure shards, and the io_uring rim around them. The journey of a message is told in README.md.

pub mod directory;
pub mod io;
pub mod limits;
pub mod shard;
pub mod topology;
