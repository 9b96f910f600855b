//! Operator: what whoever runs the server is told and may ask: the log, the audit log, metrics, the admin endpoint, and commands to a
//! server that runs.
//!
//! Never in it: a client's connection, or anything that a message waits for.

pub mod admin;
pub mod audit;
pub mod control;
pub mod counters;
mod devices;
pub mod logging;
pub mod metrics;
pub mod moves;
pub mod pulse;
mod push;
pub mod shell;
pub mod survey;
pub mod throttle;
pub mod web_link;
