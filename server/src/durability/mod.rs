//! Durability: what makes a batch durable, and what to do when a disk or a store does not take it. The journal's decisions and the
//! database's.
//!
//! Never in it: a write, a sync, a thread or a clock. Those are [`crate::io`]'s.

pub mod committer;
pub mod lanes;
