//! A model of the store: plain maps, written from the meaning of records and not from the schema, so that it can
//! disagree with it.

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{ConversationId, DeviceId, Direction, Entry, EpochId, Event, SendNumber, Seq, UserId};
use storage::{
    Answer, ConversationSnapshot, DeviceNotes, DeviceSnapshot, Entries, InboxEntry, InboxSnapshot, MarkRow, Marks,
    Query, ReadRow, ReceivedRow, Record, SettingsRow, Span, UserSnapshot,
};

/// One user's part of the model.
#[derive(Clone, Debug, Default)]
pub struct UserRows {
    /// The log, without what has been superseded.
    pub log: BTreeMap<Seq, Entry>,
    /// Acknowledgements.
    pub cursors: BTreeMap<DeviceId, Seq>,
    marks: Marks,
    conversations: BTreeMap<ConversationId, ConversationSnapshot>,
    epochs: BTreeMap<Seq, EpochId>,
    notes: DeviceNotes,
    /// Devices that were removed.
    pub removed: BTreeSet<DeviceId>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By user.
    pub users: BTreeMap<UserId, UserRows>,
    /// Users whose duties are open.
    pub unfinished: BTreeSet<UserId>,
}

impl Model {
    /// Applies one record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Append { user, entry, replaces, count } => {
                let rows = self.users.entry(*user).or_default();
                if let Some(old) = replaces {
                    rows.log.remove(old);
                }
                match &entry.event {
                    Event::Sent { .. } => {
                        self.unfinished.insert(*user);
                    }
                    Event::Received { from, origin, .. } => {
                        let received = &mut rows.conversations.entry((*from).into()).or_default().received;
                        let known =
                            std::mem::replace(received, ReceivedRow { up_to: *origin, at: entry.seq, count: *count });
                        assert!(known.up_to < *origin, "{user} received {origin} of {from} after {known:?}");
                        assert_eq!(known.count + 1, *count, "{user} received {origin} of {from}");
                    }
                    Event::Delivered { peer, up_to } => {
                        rows.conversations.entry((*peer).into()).or_default().delivered =
                            MarkRow { up_to: *up_to, at: entry.seq };
                    }
                    Event::Seen { peer, up_to } => {
                        rows.conversations.entry((*peer).into()).or_default().seen =
                            MarkRow { up_to: *up_to, at: entry.seq };
                    }
                    Event::Read { conversation, up_to, told, unread } => {
                        let of = rows.conversations.entry(*conversation).or_default();
                        assert!(of.read.up_to < *up_to, "{user} reads up to {up_to} after {:?}", of.read);
                        assert_eq!(of.received.count - count, *unread, "{user} has read up to {up_to}");
                        of.read = ReadRow { up_to: *up_to, at: entry.seq, count: *count };
                        if *told > Seq::ZERO {
                            self.unfinished.insert(*user);
                        }
                    }
                    Event::Settings { conversation, settings } => {
                        rows.conversations.entry(*conversation).or_default().settings =
                            SettingsRow { settings: *settings, at: entry.seq };
                    }
                    Event::Devices { .. } => {}
                    Event::Unknown { .. } => panic!("a shard does not write what it does not know"),
                }
                if let Some((head, _)) = rows.log.last_key_value() {
                    assert!(*head < entry.seq, "{user}: {} is appended after {head}", entry.seq);
                }
                rows.log.insert(entry.seq, entry.clone());
            }
            Record::Cursor { user, device, seq } => {
                let rows = self.users.entry(*user).or_default();
                assert!(!rows.removed.contains(device), "{user}: {device} was removed and is back");
                let old = rows.cursors.insert(*device, *seq);
                assert!(old <= Some(*seq), "a cursor went back");
                self.unfinished.insert(*user);
            }
            Record::Marks { user, marks, idle } => {
                let rows = self.users.entry(*user).or_default();
                assert!(marks.forwarded >= rows.marks.forwarded && marks.receipted >= rows.marks.receipted);
                rows.marks = *marks;
                if *idle {
                    self.unfinished.remove(user);
                }
            }
            Record::Epoch { user, first, epoch, forgotten } => {
                let rows = self.users.entry(*user).or_default();
                forgotten.map(|first| rows.epochs.remove(&first));
                let last = rows.epochs.last_key_value();
                assert!(last.is_none_or(|(seq, last)| seq < first && last != epoch), "{user}: {epoch} begins twice");
                rows.epochs.insert(*first, *epoch);
            }
            Record::Devices { user, notes } => {
                let rows = self.users.entry(*user).or_default();
                assert!(notes.acknowledged >= rows.notes.acknowledged && notes.told_at >= rows.notes.told_at);
                rows.notes = notes.clone();
            }
            Record::Removed { user, device } => {
                let rows = self.users.entry(*user).or_default();
                assert!(rows.removed.insert(*device), "{user}: {device} is removed twice");
                rows.cursors.remove(device);
                self.unfinished.insert(*user);
            }
        }
    }

    /// Answers a query.
    pub fn answer(&self, query: &Query) -> Answer {
        let none = UserRows::default();
        let rows = |user: &UserId| self.users.get(user).unwrap_or(&none);
        match query {
            Query::User(user) => {
                let rows = rows(user);
                let last = rows.log.last_key_value();
                Answer::User(UserSnapshot {
                    head: last.map(|(seq, _)| *seq).unwrap_or_default(),
                    head_time: last.map(|(_, entry)| entry.time).unwrap_or_default(),
                    devices: rows
                        .cursors
                        .iter()
                        .map(|(device, cursor)| DeviceSnapshot {
                            device: *device,
                            cursor: *cursor,
                            last_number: rows.sends_of(*device).map(|(number, _)| number).max().unwrap_or_default(),
                        })
                        .collect(),
                    notes: rows.notes.clone(),
                    marks: rows.marks,
                    unfinished: self.unfinished.contains(user),
                    epochs: rows.epochs.iter().map(|(first, epoch)| (*first, *epoch)).collect(),
                })
            }
            Query::Conversation { user, conversation } => Answer::Conversation(rows(user).conversation(*conversation)),
            Query::Inbox { user, before, rows_max, named } => {
                let rows = rows(user);
                let mut inbox = rows.inbox();
                inbox.retain(|row| row.last.seq < *before && !named.contains(&row.conversation));
                let complete = inbox.len() <= *rows_max;
                inbox.truncate(*rows_max);
                let named = named.iter().map(|conversation| rows.conversation(*conversation)).collect();
                Answer::Inbox(InboxSnapshot { named, rows: inbox, complete })
            }
            Query::Log { user, span } => Answer::Entries(rows(user).read(span, |_| true)),
            Query::ConversationLog { user, conversation, span } => {
                Answer::Entries(rows(user).read(span, |entry| entry.event.conversation() == Some(*conversation)))
            }
            Query::IsRemoved { user, device } => Answer::IsRemoved(rows(user).removed.contains(device)),
            Query::Send { user, device, number } => {
                let rows = rows(user);
                let found = rows.sends_of(*device).find(|(n, _)| n == number);
                Answer::Send(found.map(|(_, entry)| entry.clone()))
            }
        }
    }
}

impl UserRows {
    fn conversation(&self, conversation: ConversationId) -> ConversationSnapshot {
        self.conversations.get(&conversation).copied().unwrap_or_default()
    }

    /// All conversations, from the one with the newest message on.
    fn inbox(&self) -> Vec<InboxEntry> {
        let mut seen = BTreeSet::new();
        let messages = self.log.values().rev().filter_map(|entry| Some((entry.event.conversation()?, entry)));
        let newest = messages.filter(|(conversation, _)| seen.insert(*conversation));
        newest
            .map(|(conversation, last)| {
                let snapshot = self.conversation(conversation);
                InboxEntry { conversation, snapshot, last: last.clone() }
            })
            .collect()
    }

    fn sends_of(&self, of: DeviceId) -> impl Iterator<Item = (SendNumber, &Entry)> {
        self.log.values().filter_map(move |entry| match entry.event {
            Event::Sent { device, number, .. } if device == of => Some((number, entry)),
            _ => None,
        })
    }

    fn read(&self, span: &Span, wanted: impl Fn(&&Entry) -> bool) -> Entries {
        let range = self.log.range(span.first..=span.last).map(|(_, entry)| entry).filter(wanted);
        let mut entries: Vec<Entry> = match span.direction {
            Direction::Forwards => range.cloned().collect(),
            Direction::Backwards => range.rev().cloned().collect(),
        };
        let mut bytes = 0;
        let mut scratch = Vec::new();
        let fitting = entries.iter().take(span.entries_max).take_while(|entry| {
            scratch.clear();
            entry.encode(&mut scratch);
            bytes += scratch.len() + 3;
            bytes <= span.bytes_max
        });
        let count = fitting.count().max(1).min(entries.len());
        let complete = count == entries.len();
        entries.truncate(count);
        entries.sort_by_key(|entry| entry.seq);
        Entries { entries, complete }
    }
}

/// Whose rows a query reads.
#[must_use]
pub const fn user_of(query: &Query) -> UserId {
    match query {
        Query::User(user)
        | Query::Conversation { user, .. }
        | Query::Inbox { user, .. }
        | Query::Log { user, .. }
        | Query::ConversationLog { user, .. }
        | Query::Send { user, .. }
        | Query::IsRemoved { user, .. } => *user,
    }
}
