//! The rim: sockets, rings, files, threads, clocks. Decides nothing about messages.
//!
//! A message's way through it: `socket` (bytes come in through the ring, and through TLS if they are encrypted: both are the package `rim`'s), `reactor` (feeds the shard and
//! carries out what it asks for), `commit` (the journal), `mailbox` (other cores), and `socket` again (one send for each
//! connection and turn).

mod background;
pub mod commit;
mod links;
pub mod listeners;
pub mod mailbox;
pub mod node;
mod pages;
mod push;
pub mod query;
mod reactor;
pub mod recovery;
mod shared;
pub mod socket;
mod start_error;
mod steward;
pub mod tasks;
mod thread;
mod tidy;

pub use node::{ClusterConfig, DatabaseConfig, Node, NodeConfig, Part};
pub use shared::Controls;
pub use start_error::StartError;

#[cfg(test)]
mod tests;
