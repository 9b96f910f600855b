//! A model of the store: plain maps, written from the meaning of records and not from the schema, so that it can
//! disagree with it.

mod groups;

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{
    Content, ConversationId, DeviceId, Direction, Entry, EpochId, Event, GroupId, SendNumber, Seq, Settings,
    Subscription, TimestampMs, UserId,
};
use storage::{
    Answer, ConversationSnapshot, DeviceNotes, DeviceSnapshot, Entries, FirstResult, InboxEntry, InboxSnapshot,
    MarkRow, Marks, Message, Notified, PresenceRows, Query, ReadRow, ReceivedRow, Record, Replaced, Rewrite, Sent,
    SettingsRow, Shown, Span, StandingRow, ToDelete, UserSnapshot, VisibilityRow,
};

pub use self::groups::GroupRows;

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
    /// Where the entry of each send is, or was.
    sends: BTreeMap<(DeviceId, SendNumber), Seq>,
    firsts: BTreeMap<Seq, FirstResult>,
    /// By the names of messages of others: the entries that delete them.
    deleted: BTreeMap<(ConversationId, Seq), Entry>,
    given_up: BTreeSet<(DeviceId, SendNumber)>,
    visibility: VisibilityRow,
    last_seen: TimestampMs,
    /// Where notifications for devices go.
    pub subscriptions: BTreeMap<DeviceId, Subscription>,
    notified: Notified,
    /// How the user stands to groups.
    pub groups: BTreeMap<GroupId, StandingRow>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By user.
    pub users: BTreeMap<UserId, UserRows>,
    /// Users whose duties are open.
    pub unfinished: BTreeSet<UserId>,
    /// By group.
    pub groups: BTreeMap<GroupId, GroupRows>,
    /// Groups whose duties are open.
    pub unfinished_groups: BTreeSet<GroupId>,
}

impl Model {
    /// A user takes nothing from another.
    pub fn block(&mut self, user: UserId, other: UserId) {
        let conversation = self.users.entry(user).or_default().conversations.entry(other.into()).or_default();
        conversation.settings.settings = Settings::BLOCKED;
    }

    /// Applies one record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Append { user, entry, replaces, count } => {
                let rows = self.users.entry(*user).or_default();
                if let Some(old) = replaces {
                    rows.log.remove(old);
                }
                match &entry.event {
                    Event::Sent { to, device, number, .. } => {
                        rows.sends.insert((*device, *number), entry.seq);
                        if let ConversationId::Person(_) = to {
                            rows.conversations.entry(*to).or_default().sent = entry.seq;
                        }
                        self.unfinished.insert(*user);
                    }
                    Event::Received { from, origin, content } => {
                        let received = &mut rows.conversations.entry((*from).into()).or_default().received;
                        let known =
                            std::mem::replace(received, ReceivedRow { up_to: *origin, at: entry.seq, count: *count });
                        assert!(known.up_to < *origin, "{user} received {origin} of {from} after {known:?}");
                        let is_counted = !matches!(content, Content::Unsend(_));
                        assert_eq!(known.count + u64::from(is_counted), *count, "{user} received {origin} of {from}");
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
                    Event::Visibility { visibility } => {
                        assert_eq!(
                            replaces.unwrap_or_default(),
                            rows.visibility.at,
                            "{user}: {visibility:?} supersedes"
                        );
                        rows.visibility = VisibilityRow { visibility: *visibility, at: entry.seq };
                    }
                    Event::Devices { .. } => {}
                    Event::Group { .. } | Event::GroupRefused { .. } => panic!("it takes the place of others"),
                    Event::Deleted { conversation: conversation @ ConversationId::Group(_), place, .. } => {
                        let none = rows.deleted.insert((*conversation, *place), entry.clone());
                        assert_eq!(none, None, "{user} deletes {place} twice");
                    }
                    Event::Deleted { .. } => panic!("a message is deleted by a rewrite"),
                    Event::Unknown { .. } => panic!("a shard does not write what it does not know"),
                }
                if let Some((head, _)) = rows.log.last_key_value() {
                    assert!(*head < entry.seq, "{user}: {} is appended after {head}", entry.seq);
                }
                rows.log.insert(entry.seq, entry.clone());
            }
            Record::Rewrite { user, entry, of } if of.place == Seq::ZERO => {
                self.users.entry(*user).or_default().supersede(*user, entry, of);
            }
            Record::Rewrite { user, entry, of: Rewrite { place, now, replaces, received, last } } => {
                let rows = self.users.entry(*user).or_default();
                for Replaced { seq, first } in replaces {
                    let old = rows.log.remove(seq).expect("what is superseded is there");
                    assert_eq!(old.concerns(), Some(*place), "{user}: what {seq} tells is not of {place}");
                    let is_sent = matches!(old.event, Event::Sent { .. });
                    assert_eq!(is_sent, first.is_some(), "{user}: {seq} is a send, or is none");
                    first.map(|first| rows.firsts.insert(*seq, first));
                }
                match (&entry.event, received) {
                    (Event::Sent { device, number, .. }, None) => {
                        rows.sends.insert((*device, *number), entry.seq);
                        self.unfinished.insert(*user);
                    }
                    (Event::Deleted { conversation, of: name, unread, .. }, Some(row)) => {
                        let of = rows.conversations.entry(*conversation).or_default();
                        let before = std::mem::replace(&mut of.received, *row);
                        assert!(before.up_to == row.up_to && row.at == last.unwrap_or(before.at));
                        assert!((before.count.saturating_sub(1)..=before.count).contains(&row.count));
                        assert_eq!(row.count - of.read.count, *unread, "{user} has deleted {place}");
                        if *conversation == name.author.into() {
                            let none = rows.deleted.insert((*conversation, name.seq), entry.clone());
                            assert_eq!(none, None, "{user} deletes {name:?} twice");
                        }
                    }
                    (Event::Received { from, origin, .. }, Some(row)) => {
                        let of = rows.conversations.entry((*from).into()).or_default();
                        let before = std::mem::replace(&mut of.received, *row);
                        assert!(before.up_to < *origin && row.up_to == *origin && before.at == row.at);
                        let fewest = before.count.saturating_sub(u64::from(!entry.is_reaction()));
                        assert!((fewest..=before.count).contains(&row.count));
                    }
                    _ => panic!("{entry:?} changes no message"),
                }
                rows.log.insert(entry.seq, entry.clone());
                // What the record says of the message is what the log says.
                let of_log = rows.message(*place).map(|message| Shown {
                    says: message.entry.seq,
                    reactions: message.reactions.iter().map(|reaction| reaction.seq).collect(),
                });
                assert_eq!(of_log.unwrap_or_default(), *now, "{user}: {place}");
                if let (Event::Deleted { conversation, .. }, Some(last)) = (&entry.event, last) {
                    let newest = rows.messages(*conversation).map(|message| message.place).max();
                    assert_eq!(newest.unwrap_or_default(), *last, "{user}: the last message after {place}");
                }
                let by: BTreeSet<_> = rows.reactions(*place).map(|reaction| reaction.event.kind()).collect();
                assert_eq!(by.len(), now.reactions.len(), "{user}: somebody has reacted twice to {place}");
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
                rows.subscriptions.remove(device);
                self.unfinished.insert(*user);
            }
            Record::GivenUp { user, device, number } => {
                let rows = self.users.entry(*user).or_default();
                assert!(rows.last_number(*device) < *number, "{user}: {number} was used before");
                rows.given_up.insert((*device, *number));
            }
            Record::GroupAppend { .. }
            | Record::GroupState { .. }
            | Record::GroupMember { .. }
            | Record::GroupCame { .. }
            | Record::GroupWants { .. }
            | Record::GroupMarks { .. } => self.apply_to_group(record),
            Record::Subscribed { user, device, subscription } => {
                let rows = self.users.entry(*user).or_default();
                assert!(rows.cursors.contains_key(device), "{user}: {device} subscribes and is no device");
                rows.subscriptions.remove(device);
                rows.subscriptions.extend(subscription.clone().map(|of| (*device, of)));
            }
            Record::Due { user } => {
                assert!(self.unfinished.insert(*user), "{user} is unfinished anyway");
            }
            Record::Notified { user, notified } => {
                let rows = self.users.entry(*user).or_default();
                assert!(notified.up_to >= rows.notified.up_to, "{user}: what was decided is open again");
                rows.notified = notified.clone();
            }
            Record::LastSeen { user, at } => self.users.entry(*user).or_default().last_seen = *at,
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
                            last_number: rows.last_number(*device),
                            subscription: rows.subscriptions.get(device).cloned().map(Box::new),
                        })
                        .collect(),
                    notes: rows.notes.clone(),
                    marks: rows.marks,
                    unfinished: self.unfinished.contains(user),
                    epochs: rows.epochs.iter().map(|(first, epoch)| (*first, *epoch)).collect(),
                    visibility: rows.visibility,
                    last_seen: rows.last_seen,
                    notified: rows.notified.clone(),
                    groups: rows.groups.iter().map(|(group, row)| (*group, *row)).collect(),
                })
            }
            Query::Conversation { user, conversation } => Answer::Conversation(rows(user).conversation(*conversation)),
            Query::Conversations { user, conversations } => {
                Answer::Conversations(conversations.iter().map(|of| rows(user).conversation(*of)).collect())
            }
            Query::Inbox { user, before, rows_max, named, moved } => {
                let rows = rows(user);
                let newest = rows.inbox(&[]).iter().filter_map(|row| row.last.place()).max().unwrap_or_default();
                let mut inbox = rows.inbox(moved);
                inbox.retain(|row| row.last.place() < Some(*before) && !named.contains(&row.conversation));
                let complete = inbox.len() <= *rows_max;
                inbox.truncate(*rows_max);
                let named = named.iter().map(|conversation| rows.conversation(*conversation)).collect();
                Answer::Inbox(InboxSnapshot { named, rows: inbox, complete, newest })
            }
            Query::Log { user, span } => Answer::Entries(rows(user).read(span)),
            Query::ConversationLog { user, conversation, span } => {
                Answer::Entries(rows(user).read_places(span, *conversation))
            }
            Query::Presence { looks, users } => {
                let of = |user: &UserId| {
                    let of_looks = rows(looks).conversation((*user).into()).settings;
                    let ConversationSnapshot { sent, received, settings, .. } =
                        rows(user).conversation((*looks).into());
                    let UserRows { visibility, last_seen, .. } = rows(user);
                    PresenceRows {
                        visibility: *visibility,
                        last_seen: *last_seen,
                        sent,
                        received: received.up_to,
                        settings,
                        of_looks,
                    }
                };
                Answer::Presence(users.iter().map(of).collect())
            }
            Query::Group(_) | Query::GroupLog { .. } | Query::GroupMessage { .. } => self.answer_of_group(query),
            // It is no cluster's.
            Query::Term { .. } => Answer::Term(0),
            Query::IsRemoved { user, device } => Answer::IsRemoved(rows(user).removed.contains(device)),
            Query::Send { user, device, number } => {
                let rows = rows(user);
                if rows.given_up.contains(&(*device, *number)) {
                    return Answer::Send(Some(Sent::GivenUp));
                }
                Answer::Send(rows.sends.get(&(*device, *number)).map(|seq| match rows.log.get(seq) {
                    Some(entry) => Sent::Entry(entry.clone()),
                    None => Sent::Superseded { seq: *seq, first: rows.firsts[seq] },
                }))
            }
            Query::Message { user, conversation, place } => {
                let at = |message: &Message| message.place == *place;
                Answer::Message(rows(user).messages(*conversation).find(at))
            }
            Query::ToDelete { user, conversation, place, newest_max } => {
                let mut newest: Vec<_> = rows(user).messages(*conversation).map(|message| message.place).collect();
                newest.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
                newest.truncate(*newest_max);
                let message = rows(user).messages(*conversation).find(|message| message.place == *place);
                Answer::ToDelete(ToDelete { message, newest })
            }
            Query::Origin { user, conversation, origin } => {
                let is_named = |message: &Message| match &message.entry.event {
                    Event::Received { origin: own, content, .. } => {
                        content.about().map_or(*own, |(name, _)| name.seq) == *origin
                    }
                    _ => false,
                };
                let deleted = rows(user).deleted.get(&(*conversation, *origin)).map(|entry| Message {
                    place: entry.concerns().unwrap_or_default(),
                    entry: entry.clone(),
                    reactions: Vec::new(),
                });
                Answer::Message(rows(user).messages(*conversation).find(is_named).or(deleted))
            }
        }
    }
}

impl UserRows {
    fn conversation(&self, conversation: ConversationId) -> ConversationSnapshot {
        self.conversations.get(&conversation).copied().unwrap_or_default()
    }

    /// All conversations, from the one with the newest message on.
    fn inbox(&self, moved: &[(ConversationId, Seq)]) -> Vec<InboxEntry> {
        let mut seen = BTreeSet::new();
        let last = |entry: &Entry| moved.iter().find(|(of, _)| Some(*of) == entry.event.conversation());
        let is_after = |entry: &Entry| last(entry).is_some_and(|(_, last)| entry.place() > Some(*last));
        let mut places: Vec<_> =
            self.log.values().filter(|entry| entry.place().is_some() && !is_after(entry)).collect();
        places.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.place()));
        let messages = places.into_iter().filter_map(|entry| Some((entry.event.conversation()?, entry)));
        let newest = messages.filter(|(conversation, _)| seen.insert(*conversation));
        newest
            .map(|(conversation, last)| {
                let snapshot = self.conversation(conversation);
                InboxEntry { conversation, snapshot, last: last.clone() }
            })
            .collect()
    }

    fn last_number(&self, of: DeviceId) -> SendNumber {
        let all = self.sends.range((of, SendNumber(0))..=(of, SendNumber(u64::MAX)));
        let sent = all.last().map(|((_, number), _)| *number);
        let given_up = self.given_up.range((of, SendNumber(0))..=(of, SendNumber(u64::MAX))).next_back();
        sent.max(given_up.map(|(_, number)| *number)).unwrap_or_default()
    }

    fn messages(&self, conversation: ConversationId) -> impl Iterator<Item = Message> {
        let here = self.log.values().filter(move |entry| entry.event.conversation() == Some(conversation));
        here.filter_map(|entry| self.message(entry.place()?))
    }

    /// The message that stands at `place`.
    fn message(&self, place: Seq) -> Option<Message> {
        let entry = self.log.values().find(|entry| entry.place() == Some(place))?.clone();
        Some(Message { place, entry, reactions: self.reactions(place).cloned().collect() })
    }

    fn reactions(&self, place: Seq) -> impl Iterator<Item = &Entry> {
        self.log.values().filter(move |entry| entry.is_reaction() && entry.concerns() == Some(place))
    }

    fn read_places(&self, span: &Span, conversation: ConversationId) -> Entries {
        let told = |message: Message| std::iter::once(message.entry).chain(message.reactions).collect();
        let messages = self.messages(conversation).map(|message| (message.place, told(message)));
        let by_place: BTreeMap<Seq, Vec<Entry>> = messages.collect();
        read(&by_place, span)
    }

    fn read(&self, span: &Span) -> Entries {
        let log = self.log.iter().map(|(seq, entry)| (*seq, vec![entry.clone()]));
        read(&log.collect(), span)
    }
}

/// Items of one or more entries, each as a whole.
fn read(items: &BTreeMap<Seq, Vec<Entry>>, span: &Span) -> Entries {
    if span.first > span.last {
        return Entries { entries: Vec::new(), complete: true };
    }
    let range = items.range(span.first..=span.last).map(|(_, item)| item);
    let mut items: Vec<Vec<Entry>> = match span.direction {
        Direction::Forwards => range.cloned().collect(),
        Direction::Backwards => range.rev().cloned().collect(),
    };
    let mut bytes = 0;
    let mut scratch = Vec::new();
    let fitting = items.iter().take(span.entries_max).take_while(|item| {
        for entry in *item {
            scratch.clear();
            entry.encode(&mut scratch);
            bytes += scratch.len() + 3;
        }
        bytes <= span.bytes_max
    });
    let count = fitting.count().max(1).min(items.len());
    let complete = count == items.len();
    items.truncate(count);
    if span.direction == Direction::Backwards {
        items.reverse();
    }
    Entries { entries: items.concat(), complete }
}
