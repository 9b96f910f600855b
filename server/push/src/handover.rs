//! Handover: what a node says to a push service that is a process of its own, and what that says of how the attempt went. The two are of one
//! release, or of two that follow each other, so what one does not know it passes over. Values alone; requests are signed as those of a
//! webhook are.
//!
//! The process makes one attempt and remembers nothing. Whether there is another one, when, and which notice goes first stays with the
//! node's [`plan`](crate::plan), so it does not matter which process has which notice.

pub mod node;
pub mod process;

#[cfg(test)]
mod tests;

use std::time::Duration;

use proto_spec::{ConversationId, DeviceId, GroupId, TimestampMs, UserId};
use serde::{Deserialize, Serialize};

use crate::notice::{Kind, Notice, Show, Subscription, Urgency};

/// Where a process takes notices.
pub(crate) const PATH: &str = "/v1/notices";

/// A notice on its way to a process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    ticket: u64,
    user: u64,
    device: u64,
    subscription: Subscription,
    conversation: Conversation,
    /// Absent: what is shown of the conversation may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
    at: u64,
    /// For how many seconds it is still worth telling.
    ttl: u64,
    urgency: Urgency,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Conversation {
    Person(u64),
    Group(u64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    count: u64,
}

impl Handed {
    /// A notice that is worth telling for so much longer.
    pub(crate) fn of(notice: &Notice, left: Duration) -> Self {
        let conversation = match notice.conversation {
            ConversationId::Person(user) => Conversation::Person(user.0),
            ConversationId::Group(group) => Conversation::Group(group.0),
        };
        let message = match &notice.kind {
            Kind::Message { from, text, count } => {
                // No further than it is shown.
                let text = text.clone().filter(|_| notice.subscription.show == Show::Text);
                Some(Message { from: from.0, text, count: *count })
            }
            Kind::Clear => None,
        };
        Self {
            ticket: notice.ticket,
            user: notice.user.0,
            device: notice.device.0,
            subscription: notice.subscription.clone(),
            conversation,
            message,
            at: notice.at.0,
            ttl: left.as_secs().max(1),
            urgency: notice.urgency,
        }
    }

    pub(crate) fn into_notice(self) -> Notice {
        let conversation = match self.conversation {
            Conversation::Person(user) => ConversationId::Person(UserId(user)),
            Conversation::Group(group) => ConversationId::Group(GroupId(group)),
        };
        let kind = match self.message {
            Some(Message { from, text, count }) => Kind::Message { from: UserId(from), text, count },
            None => Kind::Clear,
        };
        Notice {
            ticket: self.ticket,
            user: UserId(self.user),
            device: DeviceId(self.device),
            subscription: self.subscription,
            conversation,
            kind,
            at: TimestampMs(self.at),
            ttl: Duration::from_secs(self.ttl),
            urgency: self.urgency,
        }
    }
}
