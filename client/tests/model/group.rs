//! A group of the model server: a log of its own, pushes that may be lost, and one pointer in the user's log.

use client::{Content, ConversationId, Direction, Entry, Event, GroupEntry, GroupId, GroupPage, Seq, Standing};
use proto_spec::{RequestId, ServerFrame};

use super::{PEER, Server};
use client::{TimestampMs, UserId};

pub(crate) const ME: UserId = UserId(7);
pub(crate) const GROUP: GroupId = GroupId(42);
/// What is sent with this text is not taken.
pub(crate) const UNWANTED: &str = "unwanted";

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) log: Vec<GroupEntry>,
    /// Where the user's log has the pointer.
    pointer: Option<usize>,
    /// What the user sent up to this seq of the own log was numbered or refused.
    sent_up_to: u64,
    /// How far the pointer says that the group is.
    told: u64,
}

impl Server {
    /// Somebody else writes to the group.
    pub(crate) fn others_write_to_group(&mut self, text: &str) {
        self.happens(PEER, Seq(1), Content::text(text));
    }

    /// The group takes or refuses what was sent to it, and the user's log says so. All of it is durable at once.
    pub(crate) fn number_group(&mut self) {
        self.commit();
        let sent: Vec<Entry> = self.log[self.group.sent_up_to as usize..].iter().flatten().cloned().collect();
        for Entry { seq, event, .. } in sent {
            let Event::Sent { to: ConversationId::Group(GROUP), content, .. } = event else { continue };
            if content.as_text() == Some(UNWANTED) {
                let code = client::ErrorCode::NotAllowed;
                self.say(Event::GroupRefused { group: GROUP, origin: seq, code });
                self.log[seq.0 as usize - 1] = None;
            } else {
                self.happens(ME, seq, content);
            }
            self.group.sent_up_to = seq.0;
        }
        self.tell_of_group();
    }

    /// The user's home has heard how far the group is: the user's log says so, if that is news.
    pub(crate) fn tell_of_group(&mut self) {
        self.commit();
        let up_to = self.group.log.len() as u64;
        let numbered = self.group.sent_up_to;
        let is_superseded = |entry: &Option<Entry>| {
            let sent = entry.as_ref().filter(|entry| entry.seq.0 <= numbered).map(|entry| &entry.event);
            matches!(sent, Some(Event::Sent { to: ConversationId::Group(GROUP), .. }))
        };
        if up_to == self.group.told && !self.log.iter().any(is_superseded) {
            return;
        }
        let (standing, first) = (Standing::Member, Seq(1));
        let event = Event::Group { group: GROUP, standing, first, up_to: Seq(up_to), sent_up_to: Seq(numbered) };
        self.say(event);
        self.group.told = up_to;
        self.log.iter_mut().filter(|entry| is_superseded(entry)).for_each(|entry| *entry = None);
        if let Some(before) = self.group.pointer.replace(self.log.len() - 1) {
            self.log[before] = None;
        }
    }

    fn say(&mut self, event: Event) {
        self.append(event);
        self.commit();
    }

    /// Something happens in the group, and is pushed to who is connected and has all that was before.
    fn happens(&mut self, from: UserId, origin: Seq, content: Content) {
        let seq = Seq(self.group.log.len() as u64 + 1);
        let entry = GroupEntry { seq, time: TimestampMs(seq.0), from, origin, messages: seq.0, content };
        self.group.log.push(entry.clone());
        if self.connection.as_ref().is_some_and(|connection| connection.is_live) {
            ServerFrame::encode_deliver_group(GROUP, &entry, &mut self.out);
        }
    }

    /// As the group's home answers, with at most so many entries.
    pub(super) fn answer_group(&mut self, request: RequestId, from: Seq, direction: Direction, limit: u64) {
        let head = Seq(self.group.log.len() as u64);
        let limit = limit.clamp(1, 3);
        let (first, last, more) = match direction {
            Direction::Forwards => {
                let last = Seq((from.0 + limit - 1).min(head.0).max(from.0 - 1));
                (from, last, last < head)
            }
            Direction::Backwards => {
                let last = if from == Seq::ZERO || from > head { head } else { from };
                let first = Seq(last.0.saturating_sub(limit - 1).max(1));
                (first, last, first > Seq(1))
            }
        };
        let entries = self.group.log.iter().filter(|entry| first <= entry.seq && entry.seq <= last).cloned().collect();
        ServerFrame::GroupPage(GroupPage { request, group: GROUP, first, last, more, head, entries })
            .encode(&mut self.out);
    }
}
