//! Access: who may come in, how often, and until when. Tokens and their keys, what a balancer says first, the request of a WebSocket, the first frame of a connection, revocations, rates.
//!
//! Never in it: a file, a socket, a clock. Keys and revocations are read and written by [`crate::files`].

pub mod auth;
pub mod handshake;
pub mod jwks;
mod known;
pub mod proxy;
pub mod rate;
pub mod revocation;
pub mod upgrade;
pub mod validity;
