//! What the benches share (sample frames, a conversation in one shard, a history as the journal has it), and the floor that the whole
//! server is reported against (`relay`, `floor`).
//!
//! The benches are in `benches/`, one file for each part; every file begins with what it measures and what it does not.
//! `cargo bench -p benches` measures, `cargo test -p benches --benches` runs each once. The program `instructions` counts
//! instead of measuring, `bare-relay` is the floor as a process of its own.
#![forbid(unsafe_code)]

pub mod connection;
pub mod conversation;
pub mod floor;
pub mod frames;
pub mod history;
pub mod past;
pub mod relay;

/// How many messages a turn has, or batches a group: alone, a busy moment, a full send window.
pub const SIZES: [usize; 3] = [1, 16, 256];

/// A text of 100 bytes: the mean of what people write.
pub const TEXT: &str =
    "A message of one hundred bytes, which is what people write to each other on an ordinary working day.";

const _: () = assert!(TEXT.len() == 100);
