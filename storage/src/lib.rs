//! Durable rows of Ringpost: what is written, in which order, under which keys. Knows records, rows and files; knows
//! nothing of sockets, sessions or shards.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the queries, which come next, read what the fold writes")]
mod codec;
pub mod fold;
pub mod journal;
pub mod query;
pub mod record;
pub mod run;
pub mod schema;

#[cfg(test)]
mod testing;

pub use codec::CodecError;
pub use query::{Answer, ConversationSnapshot, DeviceSnapshot, Entries, Query, Span, UserSnapshot};
pub use record::{Batch, BatchId, CoreId, Marks, Record, records};
pub use run::{Change, Run};
pub use schema::{FORMAT_VERSION, partition_of};
