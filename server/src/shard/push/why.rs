//! Why: what was decided lately, and what the operator is told of one message (`ringpost push why`). In memory alone, so a restart knows
//! no more than how things stand now.

use std::collections::VecDeque;

use proto_spec::{
    Content, ConversationId, DeviceId, Direction, Entry, ErrorCode, Event, GroupId, Seq, Settings, TimestampMs, UserId,
};
use push::Outcome;
use storage::{Query, Span};

use crate::{
    limits::PUSH_DECISIONS_KEPT,
    shard::{
        Shard, Ticket, Turn,
        loading::{ConversationWaiting, UserWaiting},
        question::Question,
    },
};

/// What was decided of the messages of a conversation up to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushDecision {
    /// Who was to be notified.
    pub user: UserId,
    /// Of which messages.
    pub conversation: ConversationId,
    /// The last of them: where it stands in the user's log, or the group's.
    pub up_to: Seq,
    /// When.
    pub at: TimestampMs,
    /// What.
    pub verdict: PushVerdict,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushVerdict {
    /// Notices were handed on, one for each device that is subscribed.
    Offered,
    /// The notice for this device has ended.
    Ended(DeviceId, Outcome),
    /// No device is subscribed.
    NotSubscribed,
    /// A device had acknowledged them.
    Acknowledged,
    /// The conversation is muted.
    Muted,
    /// Who wrote is blocked.
    Blocked,
    /// They had been read, or taken back, or the user had written after them.
    Read,
    /// Of a group: the user was no member any more.
    Left,
    /// Of a group of which the user is notified of nothing else: none of them named the user.
    NotNamed,
    /// Of a group: the user was told of them before.
    Told,
}

/// A message of which an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushQuestion {
    /// Who was to be notified.
    pub user: UserId,
    /// Of which group's message; none: of one that the user has received from a person.
    pub group: Option<GroupId>,
    /// Its number in the user's log, or the group's.
    pub seq: Seq,
}

/// How things stand with a message, and what was decided of it lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushWhy {
    /// Whose conversation it is of.
    pub conversation: ConversationId,
    /// When it came; none: that stands in the log of the group.
    pub at: Option<TimestampMs>,
    /// Whether the user's home knows of it. Of a group it is told when the user is to be notified, or when a device connects.
    pub is_known: bool,
    /// The devices that are subscribed now.
    pub subscribed: Vec<DeviceId>,
    /// Whether a device is connected now.
    pub is_connected: bool,
    /// Whether a device has acknowledged it.
    pub is_acknowledged: bool,
    /// Whether it has been read.
    pub is_read: bool,
    /// Whether the conversation is muted.
    pub is_muted: bool,
    /// Whether the user is notified of those messages of it alone that name the user.
    pub is_named_only: bool,
    /// Whether it is due: it waits for its time, for room, or for the provider.
    pub is_due: bool,
    /// What was decided lately, in order.
    pub decisions: Vec<PushDecision>,
}

/// The answer, or why there is none: [`ErrorCode::NoSuchMessage`] if the log has no received message there, [`ErrorCode::NoSuchGroup`] if
/// the user is no member.
pub type PushTold = Result<Box<PushWhy>, ErrorCode>;

/// What an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Asked {
    pub(in crate::shard) ticket: Ticket,
    /// In the log of which group the message stands; none: in the user's.
    pub(in crate::shard) group: Option<GroupId>,
    /// Where.
    pub(in crate::shard) seq: Seq,
}

/// The last decisions, at most [`PUSH_DECISIONS_KEPT`].
#[derive(Debug, Default)]
pub(super) struct Decisions(VecDeque<PushDecision>);

impl Decisions {
    pub(super) fn push(&mut self, decision: PushDecision) {
        if self.0.len() >= PUSH_DECISIONS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(decision);
    }

    /// Those that were about a message of a conversation at `seq`.
    fn about(&self, user: UserId, conversation: ConversationId, seq: Seq) -> Vec<PushDecision> {
        let is_about = |of: &&PushDecision| of.user == user && of.conversation == conversation && of.up_to >= seq;
        self.0.iter().filter(is_about).cloned().collect()
    }
}

impl Shard {
    /// The operator asks why a user was or was not notified of a message.
    pub(in crate::shard) fn why(&mut self, user_id: UserId, asked: Asked, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else {
            return self.wait_for_user(user_id, UserWaiting::Why(asked), cx);
        };
        let Asked { ticket, group, seq } = asked;
        if let Some(group) = group {
            return match user.group(group) {
                Some(row) if row.standing.is_member() => self.why_told(user_id, (group.into(), None), asked, cx),
                _ => cx.effects.push_told.push((ticket, Err(ErrorCode::NoSuchGroup))),
            };
        }
        if seq > user.released {
            return cx.effects.push_told.push((ticket, Err(ErrorCode::NoSuchMessage)));
        }
        if seq > user.stored {
            let entry = user.tail.get(seq).map(|tail| tail.entry.clone());
            return self.why_of(user_id, asked, entry.as_ref(), cx);
        }
        user.loading += 1;
        let span =
            Span { first: seq, last: seq, direction: Direction::Forwards, entries_max: 1, bytes_max: usize::MAX };
        self.ask(Query::Log { user: user_id, span }, Question::Why { user: user_id, asked }, cx);
    }

    /// The store has told what stands there; none: it could not be read.
    pub(in crate::shard) fn why_read(
        &mut self,
        user_id: UserId,
        asked: Asked,
        read: Option<Option<Entry>>,
        cx: &mut Turn<'_>,
    ) {
        match read {
            Some(entry) => self.why_of(user_id, asked, entry.as_ref(), cx),
            None => cx.effects.push_told.push((asked.ticket, Err(ErrorCode::StorageFailed))),
        }
        self.loading_ended(user_id);
    }

    fn why_of(&mut self, user_id: UserId, asked: Asked, entry: Option<&Entry>, cx: &mut Turn<'_>) {
        let received = entry.and_then(|entry| match &entry.event {
            Event::Received { from, content, .. } if !matches!(content, Content::Reaction(_)) => {
                Some((*from, entry.time))
            }
            _ => None,
        });
        match received {
            Some((from, at)) => self.why_told(user_id, (from.into(), Some(at)), asked, cx),
            None => cx.effects.push_told.push((asked.ticket, Err(ErrorCode::NoSuchMessage))),
        }
    }

    /// Tells it, once the conversation is known.
    pub(in crate::shard) fn why_told(
        &mut self,
        user_id: UserId,
        (conversation, at): (ConversationId, Option<TimestampMs>),
        asked: Asked,
        cx: &mut Turn<'_>,
    ) {
        let Asked { ticket, group, seq } = asked;
        let Some(known) = self.conversations.resident((user_id, conversation)) else {
            return self.wait_for_conversation(user_id, conversation, ConversationWaiting::Why(asked, at), cx);
        };
        let (settings, read_up_to) = (known.numbered.settings.settings, known.released.read_up_to);
        let Some(user) = self.users.resident(user_id) else { return };
        let subscribed = user.devices.iter().filter(|device| device.subscription.is_some() && !device.is_leaving);
        let subscribed = subscribed.map(|device| device.id).collect();
        // What a device acknowledges is the own log.
        let own = match group.and_then(|group| user.group(group)) {
            Some(pointer) if pointer.up_to >= seq => Some(pointer.at),
            Some(_) => None,
            None => Some(seq),
        };
        let is_connected = user.is_connected();
        let is_acknowledged = own.is_some_and(|own| own <= user.delivered());
        let is_due = user.dues.as_mut().and_then(|dues| dues.get(conversation)).is_some_and(|due| due.last >= seq);
        let why = PushWhy {
            conversation,
            at,
            is_known: own.is_some(),
            subscribed,
            is_connected,
            is_acknowledged,
            is_read: seq <= read_up_to,
            is_muted: settings.has(Settings::MUTED),
            is_named_only: settings.has(Settings::MENTIONS_ONLY),
            is_due,
            decisions: self.notifying.decisions.about(user_id, conversation, seq),
        };
        cx.effects.push_told.push((ticket, Ok(Box::new(why))));
    }
}
