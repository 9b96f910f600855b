//! Durable rows of Ringpost: what is written, in which order, under which keys. Knows records, rows and files; knows
//! nothing of sockets, sessions or shards.

pub mod query;
pub mod record;
pub mod schema;

pub use query::{Answer, ConversationSnapshot, DeviceSnapshot, Entries, Query, Span, UserSnapshot};
pub use record::{Batch, BatchId, CoreId, Marks, Record};
pub use schema::partition_of;
