//! Durable rows of Ringpost: what is written, in which order, under which keys. Knows records, rows and files; knows
//! nothing of sockets, sessions or shards.
#![deny(unsafe_code, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(feature = "foundationdb"), forbid(unsafe_code))]

pub mod ahead;
mod changes;
mod codec;
pub mod contract;
pub mod embedded;
#[cfg(feature = "foundationdb")]
pub mod fdb;
pub mod fold;
pub mod group;
pub mod ingest;
pub mod journal;
pub mod memory;
pub mod migrate;
mod own;
pub mod pace;
pub mod queries;
pub mod query;
pub mod record;
pub mod roll;
pub mod run;
pub mod schema;
pub mod store;
mod upgrade;

#[cfg(test)]
mod testing;

pub use ahead::Ahead;
pub use codec::CodecError;
pub use embedded::{EmbeddedConfig, EmbeddedStore, PurgeConfig};
#[cfg(feature = "foundationdb")]
pub use fdb::{FdbConfig, FdbStore, Network};
pub use group::{
    CameRow, GroupEntries, GroupMarks, GroupMessage, GroupRewrite, GroupSnapshot, GroupState, MemberRow, StandingRow,
    Wants,
};
pub use ingest::{IngestError, IngestReport, ingest, ingest_in_runs};
pub use memory::{CommitFault, MemoryStore};
pub use pace::{NICER, Pace, step_back};
pub use queries::{answer, unfinished, unfinished_groups};
pub use query::{
    Answer, ConversationSnapshot, DeviceSnapshot, Entries, InboxEntry, InboxSnapshot, Message, PresenceRows, Query,
    Sent, Span, ToDelete, UserSnapshot,
};
pub use record::{
    Batch, BatchId, DeviceNote, DeviceNotes, FirstResult, LaneId, LaneSpans, Marks, Notified, Record, Replaced,
    Rewrite, Shown, records,
};
pub use roll::{Member, MemberId, Owner, Roll, RollChange};
pub use run::{Change, Run};
pub use schema::{FORMAT_VERSION, MarkRow, ReadRow, ReceivedRow, SettingsRow, VisibilityRow, partition_of};
pub use store::{Advanced, DiskUse, Fence, Holder, Kind, MovedLane, Purged, Step, Store, StoreError, Tenure};
pub use upgrade::{note_last_messages, note_last_sends};
