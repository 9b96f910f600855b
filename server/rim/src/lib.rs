//! Rim: what the server and its load generator both stand on. The ring with its buffers, TLS and WebSocket as functions of bytes, and what
//! the kernel says of a process. So what measures does not depend on what it measures.
//!
//! Knows no connection, message, file or thread of either. `unsafe` is in `allocator`, `ring`, `buffers` and `process`.

pub mod allocator;
mod buffers;
pub mod limits;
pub mod process;
pub mod ring;
pub mod rlimit;
pub mod tls;
pub mod token;
pub mod utc;
pub mod websocket;
