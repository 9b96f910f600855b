//! What a query to the store was asked for.

use proto_spec::{ConversationId, RequestId, SendNumber, Seq, UserId};

use super::{ConnId, fetch::Fetch};

/// The purpose of a query; its answer comes back with the query's id.
#[derive(Debug)]
pub(super) enum Question {
    /// To load a user.
    User(UserId),
    /// To load a conversation.
    Conversation { user: UserId, conversation: ConversationId },
    /// To push the next page, from `first` up to `last`.
    CatchUp { conn: ConnId, first: Seq, last: Seq },
    /// To answer a fetch; `last` is the far end of the span that was asked for.
    Fetch { conn: ConnId, request: RequestId, fetch: Fetch, last: Seq },
    /// To answer a send that was numbered before.
    Repeated { conn: ConnId, number: SendNumber },
    /// To send messages that wait in the log, up to `last`.
    Forward { user: UserId, last: Seq },
    /// To report received messages up to `last` to their senders.
    Receipts { user: UserId, last: Seq },
}
