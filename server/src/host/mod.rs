//! Host: the machine that a server runs on: its clocks, its memory, and what the kernel lets this process have.
//!
//! Never in it: a socket, a ring, or a file of the server's own.

pub mod capacity;
pub mod clock;
pub mod memory;
pub mod timekeeper;
