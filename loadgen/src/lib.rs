//! `ringpost-loadgen`: puts load on a Ringpost server, verifies every message, and reports what it measured.
//!
//! ```text
//! scenario -> engine (phases, lanes, coordinator) -> devices -> session (the protocol, pure)
//!                                                        |  \-> verify  (ledger and histories, pure)
//!                                                        \----> links   (the server's ring, the only I/O)
//! ```
//!
//! A scenario is one file in `scenario/`: it says who takes part and gives each lane a script. A lane is a thread with an io_uring of
//! its own; an idle connection costs it a few hundred bytes and no wake-up. A run that lost, doubled or disordered anything, or met an error that it can
//! not explain, names the messages and exits with 1.
#![forbid(unsafe_code)]

pub mod cli;
pub mod devices;
pub mod draw;
pub mod engine;
pub mod homes;
pub mod limits;
pub mod links;
pub mod live;
pub mod place;
pub mod report;
pub mod sample;
pub mod scenario;
pub mod schedule;
pub mod session;
pub mod stats;
pub mod tls;
pub mod token;
pub mod verify;
pub mod web;
pub mod world;
