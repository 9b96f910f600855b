//! Ringpost for Kotlin, Swift and Python: one small, synchronous face over the `client` crate, whose bindings UniFFI writes.
//!
//! An application has one [`Client`], on which any thread may call, and one thread of its own that takes what happens:
//!
//! 1. [`Client::next_events`] waits for a [`Batch`];
//! 2. the application stores what the batch says, with its [`Cursor`], in one transaction;
//! 3. [`Client::stored`] says that it has. Only then the server is told that this device has these messages, and messages of its own whose
//!    numbers were in the batch may leave.
//!
//! What holds, over any loss of connection and any end of the process, as long as step 3 follows step 2:
//!
//! - Each entry of the user's log comes in batches that were stored **once**, in order.
//! - Each message that was given to [`Client::send`], and is handed to the next run in [`Config::unanswered`] while it has no answer, is in the log
//!   **once**, or its refusal is an event.
//!
//! Every call returns at once but [`Client::next_events`] and [`Client::catch_up`], which take how long they may wait, and [`Client::stop`], which waits
//! for the goodbye to be said. Bad arguments are errors in words; a fault of this library ends the client with an error too.

mod calls;
mod client;
mod config;
mod content;
mod entry;
mod errors;
mod event;
mod limits;
mod list;
mod push;
mod receiving;
mod waiting;

pub use self::{
    calls::{Invitation, NewGroup, Waiting},
    client::{CaughtUp, Client},
    config::{Batch, Begin, Config, Cursor, Store, Tls, TokenProvider, Unanswered},
    content::{Act, Attachment, AttachmentKind, Content, Conversation, MessageName, Role, Rule, Stands},
    entry::{ConversationRow, Device, GroupEntry, GroupRow, Happened, LogEntry, Member, Setting},
    errors::RingpostError,
    event::{Event, Page, Presence, Status},
    limits::EVENTS_BATCH_MAX,
    push::{PushProvider, PushShow, PushSubscription},
};

uniffi::setup_scaffolding!("ringpost");
