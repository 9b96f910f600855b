//! Durable rows of Ringpost: what is written, in which order, under which keys. Knows records, rows and files; knows
//! nothing of sockets, sessions or shards.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "stored values are used by the fold and the queries, which come next")]
mod codec;
pub mod journal;
pub mod query;
pub mod record;
pub mod schema;

#[cfg(test)]
mod testing;

pub use codec::CodecError;
pub use query::{Answer, ConversationSnapshot, DeviceSnapshot, Entries, Query, Span, UserSnapshot};
pub use record::{Batch, BatchId, CoreId, Marks, Record, records};
pub use schema::{FORMAT_VERSION, partition_of};
