//! The rim: sockets, rings, threads, clocks. Decides nothing about messages.

pub mod token;
mod buffers;
pub mod ring;
pub mod mailbox;
pub mod clock;
