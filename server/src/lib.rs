//! The Ringpost server: pure cores with their shards, and the io_uring rim around them. The journey of a message is told in README.md.
//!
//! Nothing here prints: standard error is the log's (see [`operator::logging`]), and a write there may block, fail, and then panic.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod access;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod core;
pub mod durability;
pub mod files;
pub mod group;
pub mod host;
pub mod io;
pub mod limits;
pub mod mesh;
pub mod operator;
pub mod pages;
pub mod shard;
