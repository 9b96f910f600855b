//! What the benches share: sample frames, a conversation in one shard, and a history as the journal has it. Measures
//! nothing itself.
//!
//! The benches are in `benches/`, one file for each part; every file begins with what it measures and what it does not.
//! `cargo bench -p benches` measures, `cargo test -p benches --benches` runs each once.
#![forbid(unsafe_code)]

pub mod conversation;
pub mod frames;
pub mod history;

/// How many messages a turn has, or batches a group: alone, a busy moment, a full send window.
pub const SIZES: [usize; 3] = [1, 16, 256];

/// A text of 100 bytes: the mean of what people write.
pub const TEXT: &str =
    "A message of one hundred bytes, which is what people write to each other on an ordinary working day.";

const _: () = assert!(TEXT.len() == 100);
