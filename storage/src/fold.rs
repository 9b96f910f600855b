//! PURE: records, in the order of the journal, to the rows that they leave behind.
//!
//! Owns what a record means as rows. Does no I/O: `sends` rows are merged with the rows that are already in the store,
//! so the fold, once it is sorted, first says which of those it needs ([`Sorted::needed`]) and then takes them ([`Sorted::finish`]).
//!
//! Invariants: one change for each key, the one of the last record; folding twice, or folding the parts of a sequence of
//! records one after the other, leaves the same rows as folding the sequence once.

mod devices;
mod groups;

use std::collections::HashMap;

use devices::{blocks, needs_base, put_devices};
use foldhash::fast::RandomState;
use groups::{Groups, Kept, SortedGroups};
use proto_spec::{DeviceId, EpochId, GroupId, MessageName, SendNumber, Seq, Settings, TimestampMs, UserId, Visibility};

use crate::{
    changes::{ByUser, Changes, UserAt},
    codec::{self, CodecError, StoredEvent, StoredRecord},
    group::GroupMarks,
    record::{Marks, Replaced, Rewrite},
    run::{Run, Value},
    schema::{
        DisplacedRow, Key, LastRow, MarkRow, ReadRow, ReceivedRow, RowKey, SendsBlock, SettingsRow, VisibilityRow,
        partition_of,
    },
};

/// A run that is being gathered. Keeps, for each table, what the records change in their order; a change is a few numbers, and the
/// key is made of them when the rows are.
#[derive(Debug, Default)]
pub struct Fold {
    /// Where in `users` each user is.
    places: HashMap<UserId, UserAt, RandomState>,
    users: Vec<User>,
    timeline: Changes<Seq, Value>,
    conversation: Changes<(UserId, Seq), Value>,
    sends: Changes<(DeviceId, SendNumber), Seq>,
    /// None: the row goes.
    devices: Changes<DeviceId, Option<Seq>>,
    /// None: the row goes.
    subscriptions: Changes<DeviceId, Option<Value>>,
    received: Changes<UserId, ReceivedRow>,
    delivered: Changes<UserId, MarkRow>,
    sent: Changes<UserId, Seq>,
    last: Changes<UserId, LastRow>,
    read: Changes<UserId, ReadRow>,
    seen: Changes<UserId, MarkRow>,
    settings: Changes<UserId, SettingsRow>,
    /// None: the row goes.
    epochs: Changes<Seq, Option<EpochId>>,
    firsts: Changes<Seq, Value>,
    removed: Changes<DeviceId, ()>,
    /// Where the entry is that says so.
    deleted: Changes<(UserId, Seq), Seq>,
    displaced: Changes<(UserId, Seq), DisplacedRow>,
    standings: Changes<GroupId, Value>,
    kept: Changes<(GroupId, Kept), Value>,
    groups: Groups,
    /// Has the values of rows whose changes are kept as such, and no rows yet.
    run: Run,
    records: u64,
}

/// A user, and the changes of rows of which a user has one.
#[derive(Debug)]
struct User {
    id: UserId,
    marks: Option<Marks>,
    unfinished: Option<bool>,
    notes: Option<Value>,
    last_seen: Option<TimestampMs>,
    visibility: Option<VisibilityRow>,
    notified: Option<Value>,
}

impl User {
    const fn new(id: UserId) -> Self {
        Self { id, marks: None, unfinished: None, notes: None, last_seen: None, visibility: None, notified: None }
    }
}

impl Fold {
    /// Takes the records of the next batch, encoded.
    ///
    /// # Errors
    /// The bytes are not what [`crate::Batch::bytes`] gave. The fold may have taken a part of them and is of no use any more.
    pub fn add(&mut self, batch: &[u8]) -> Result<(), CodecError> {
        let mut rest = batch;
        while !rest.is_empty() {
            self.records += 1;
            match codec::take_record(&mut rest)? {
                StoredRecord::Append { user, replaces, seq } => {
                    let (entry, stored) = codec::take_entry(&mut rest)?;
                    let at = self.user(UserId(user));
                    let value = self.run.value(|out| codec::put_stored_entry(out, stored));
                    self.append(at, Seq(seq), &entry.event, value, replaces, 0);
                }
                StoredRecord::Counted { user, replaces, seq, count } => {
                    let (entry, stored) = codec::take_entry(&mut rest)?;
                    let at = self.user(UserId(user));
                    let value = self.run.value(|out| codec::put_stored_entry(out, stored));
                    self.append(at, Seq(seq), &entry.event, value, replaces, count);
                }
                StoredRecord::Rewrite { user, seq, of } => {
                    let (entry, stored) = codec::take_entry(&mut rest)?;
                    let at = self.user(UserId(user));
                    let value = self.run.value(|out| codec::put_stored_entry(out, stored));
                    self.rewrite(at, Seq(seq), &entry.event, value, &of.into());
                }
                StoredRecord::Cursor { user, device, seq } => {
                    let at = self.user(UserId(user));
                    self.devices.push(at, DeviceId(device), Some(Seq(seq)));
                    self.users[at as usize].unfinished = Some(true);
                }
                StoredRecord::Marks { user, forwarded, receipted, idle } => {
                    let at = self.user(UserId(user));
                    let user = &mut self.users[at as usize];
                    user.marks = Some(Marks { forwarded: Seq(forwarded), receipted: Seq(receipted) });
                    if idle {
                        user.unfinished = Some(false);
                    }
                }
                StoredRecord::Epoch { user, first, epoch, forgotten } => {
                    let at = self.user(UserId(user));
                    self.epochs.push(at, Seq(first), Some(EpochId(epoch)));
                    if let Some(forgotten) = forgotten {
                        self.epochs.push(at, Seq(forgotten), None);
                    }
                }
                StoredRecord::Devices { user, notes } => {
                    let at = self.user(UserId(user));
                    let value = self.run.value(|out| codec::put_stored_notes(out, &notes));
                    self.users[at as usize].notes = Some(value);
                }
                StoredRecord::Removed { user, device } => {
                    let at = self.user(UserId(user));
                    self.devices.push(at, DeviceId(device), None);
                    self.removed.push(at, DeviceId(device), ());
                    self.subscriptions.push(at, DeviceId(device), None);
                    // What it acknowledged may not have been reported.
                    self.users[at as usize].unfinished = Some(true);
                }
                StoredRecord::GivenUp { user, device, number } => {
                    let at = self.user(UserId(user));
                    self.sends.push(at, (DeviceId(device), SendNumber(number)), SendsBlock::GIVEN_UP);
                }
                StoredRecord::Subscribed { user, device, subscription } => {
                    let at = self.user(UserId(user));
                    let put = |of| self.run.value(|out| codec::put_stored_subscription(out, &of));
                    let value = subscription.map(put);
                    self.subscriptions.push(at, DeviceId(device), value);
                }
                StoredRecord::Due { user } => {
                    let at = self.user(UserId(user));
                    self.users[at as usize].unfinished = Some(true);
                }
                StoredRecord::Notified { user, notified } => {
                    let at = self.user(UserId(user));
                    let value = self.run.value(|out| codec::put_stored_notified(out, &notified));
                    self.users[at as usize].notified = Some(value);
                }
                StoredRecord::LastSeen { user, at: last_seen } => {
                    let at = self.user(UserId(user));
                    self.users[at as usize].last_seen = Some(TimestampMs(last_seen));
                }
                StoredRecord::GroupAppend { group, seq, of } => {
                    let (entry, stored) = codec::take_group_entry(&mut rest)?;
                    let value = self.run.value(|out| codec::put_stored_entry(out, stored));
                    let of = of.map(Into::into);
                    self.groups.append(&mut self.run, (GroupId(group), Seq(seq)), &entry, value, of.as_ref());
                }
                StoredRecord::GroupState { group, state } => {
                    self.groups.state(&mut self.run, GroupId(group), &state);
                }
                StoredRecord::GroupMember { group, user, row } => {
                    self.groups.member(&mut self.run, GroupId(group), UserId(user), &row);
                }
                StoredRecord::GroupCame { group, from, row } => {
                    self.groups.came(&mut self.run, GroupId(group), UserId(from), &row);
                }
                StoredRecord::GroupWants { group, user, wants } => {
                    self.groups.wants(&mut self.run, GroupId(group), UserId(user), wants);
                }
                StoredRecord::GroupMarks { group, told, idle } => {
                    self.groups.marks(GroupId(group), GroupMarks { told: Seq(told) }, idle);
                }
            }
        }
        Ok(())
    }

    /// A message is shown where it stood first, with this entry.
    fn rewrite(&mut self, at: UserAt, seq: Seq, event: &StoredEvent<'_>, value: Value, of: &Rewrite) {
        let Rewrite { place, now, replaces, received, last } = of;
        self.timeline.push(at, seq, value);
        for &Replaced { seq, first } in replaces {
            self.timeline.push(at, seq, Value::DELETED);
            if let Some(first) = first {
                let value = self.run.value(|out| codec::put_first(out, first));
                self.firsts.push(at, seq, value);
            }
        }
        let (peer, about) = match *event {
            StoredEvent::Received { from, ref content, .. } => (UserId(from), content.about()),
            StoredEvent::Sent { to, device, number, ref content } => {
                self.sends.push(at, (DeviceId(device), SendNumber(number)), seq);
                self.users[at as usize].unfinished = Some(true);
                (UserId(to), content.about())
            }
            StoredEvent::Deleted { peer, author, author_seq, .. } => {
                if author == peer {
                    self.deleted.push(at, (UserId(peer), Seq(author_seq)), seq);
                }
                (UserId(peer), Some(MessageName { author: UserId(author), seq: Seq(author_seq) }))
            }
            // Nothing else is in a conversation.
            _ => return self.of_group(at, seq, event, 0),
        };
        let index = match now.says {
            Seq::ZERO => Value::DELETED,
            _ => {
                let name = about.filter(|name| name.author == peer).map(|name| name.seq);
                self.run.value(|out| codec::put_changed_index(out, now, name))
            }
        };
        self.conversation.push(at, (peer, *place), index);
        if let Some(received) = *received {
            self.received.push(at, peer, received);
        }
        if let Some(place) = *last {
            self.last.push(at, peer, LastRow { place, at: seq });
        }
    }

    fn append(
        &mut self,
        at: UserAt,
        seq: Seq,
        event: &StoredEvent<'_>,
        value: Value,
        replaces: Option<u64>,
        count: u64,
    ) {
        self.timeline.push(at, seq, value);
        match *event {
            StoredEvent::Received { from, origin, ref content } => {
                let value = self.run.value(|out| codec::put_index(out, Some(Seq(origin))));
                self.conversation.push(at, (UserId(from), seq), value);
                if let Some(of) = content.about().filter(|of| of.author == UserId(from)) {
                    let row = DisplacedRow { place: seq, came: Seq(origin) };
                    self.displaced.push(at, (UserId(from), of.seq), row);
                }
                self.received.push(at, UserId(from), ReceivedRow { up_to: Seq(origin), at: seq, count });
            }
            StoredEvent::Sent { to, device, number, .. } => {
                let value = self.run.value(|out| codec::put_index(out, None));
                self.conversation.push(at, (UserId(to), seq), value);
                self.sent.push(at, UserId(to), seq);
                self.sends.push(at, (DeviceId(device), SendNumber(number)), seq);
                self.users[at as usize].unfinished = Some(true);
            }
            StoredEvent::Delivered { peer, up_to } => {
                self.delivered.push(at, UserId(peer), MarkRow { up_to: Seq(up_to), at: seq });
            }
            StoredEvent::Read { peer, up_to, told, .. } => {
                self.read.push(at, UserId(peer), ReadRow { up_to: Seq(up_to), at: seq, count });
                if told != 0 {
                    self.users[at as usize].unfinished = Some(true);
                }
            }
            StoredEvent::Seen { peer, up_to } => {
                self.seen.push(at, UserId(peer), MarkRow { up_to: Seq(up_to), at: seq });
            }
            StoredEvent::Settings { peer, settings } => {
                let settings = Settings::from_bits(settings);
                self.settings.push(at, UserId(peer), SettingsRow { settings, at: seq });
            }
            StoredEvent::Visibility { visibility } => {
                let visibility = Visibility::from_bits(visibility);
                self.users[at as usize].visibility = Some(VisibilityRow { visibility, at: seq });
            }
            StoredEvent::SentToGroup { .. }
            | StoredEvent::Group { .. }
            | StoredEvent::GroupRefused { .. }
            | StoredEvent::GroupRead { .. }
            | StoredEvent::GroupSettings { .. }
            | StoredEvent::GroupDeleted { .. } => self.of_group(at, seq, event, count),
            StoredEvent::Devices { .. } | StoredEvent::Deleted { .. } | StoredEvent::Unknown { .. } => {}
        }
        if let Some(replaced) = replaces {
            self.timeline.push(at, Seq(replaced), Value::DELETED);
        }
    }

    fn user(&mut self, id: UserId) -> UserAt {
        *self.places.entry(id).or_insert_with(|| {
            self.users.push(User::new(id));
            UserAt::try_from(self.users.len() - 1).expect("a run has fewer than 4 billion users")
        })
    }

    /// How many records were taken.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// All changes, sorted. There is no more to come.
    #[must_use]
    pub fn sort(self) -> Sorted {
        let users = self.users.len();
        let mut order: Vec<_> = (0..).zip(&self.users).map(|(at, user)| (partition_of(user.id), user.id, at)).collect();
        order.sort_unstable();
        Sorted {
            order: order.into_iter().map(|(_, id, at)| (id, at)).collect(),
            users: self.users,
            timeline: self.timeline.sort(users),
            conversation: self.conversation.sort(users),
            sends: self.sends.sort(users),
            devices: self.devices.sort(users),
            subscriptions: self.subscriptions.sort(users),
            received: self.received.sort(users),
            delivered: self.delivered.sort(users),
            sent: self.sent.sort(users),
            last: self.last.sort(users),
            read: self.read.sort(users),
            seen: self.seen.sort(users),
            settings: self.settings.sort(users),
            epochs: self.epochs.sort(users),
            removed: self.removed.sort(users),
            deleted: self.deleted.sort(users),
            displaced: self.displaced.sort(users),
            standings: self.standings.sort(users),
            kept: self.kept.sort(users),
            groups: self.groups.sort(),
            firsts: self.firsts.sort(users),
            run: self.run,
        }
    }
}

/// The changes of a run by ascending key.
#[derive(Debug)]
pub struct Sorted {
    /// By partition and id: the order of the keys of all tables but one.
    order: Vec<(UserId, UserAt)>,
    users: Vec<User>,
    timeline: ByUser<Seq, Value>,
    conversation: ByUser<(UserId, Seq), Value>,
    sends: ByUser<(DeviceId, SendNumber), Seq>,
    devices: ByUser<DeviceId, Option<Seq>>,
    subscriptions: ByUser<DeviceId, Option<Value>>,
    received: ByUser<UserId, ReceivedRow>,
    delivered: ByUser<UserId, MarkRow>,
    sent: ByUser<UserId, Seq>,
    last: ByUser<UserId, LastRow>,
    read: ByUser<UserId, ReadRow>,
    seen: ByUser<UserId, MarkRow>,
    settings: ByUser<UserId, SettingsRow>,
    epochs: ByUser<Seq, Option<EpochId>>,
    firsts: ByUser<Seq, Value>,
    removed: ByUser<DeviceId, ()>,
    deleted: ByUser<(UserId, Seq), Seq>,
    displaced: ByUser<(UserId, Seq), DisplacedRow>,
    standings: ByUser<GroupId, Value>,
    kept: ByUser<(GroupId, Kept), Value>,
    groups: SortedGroups,
    /// Has the values of rows whose changes are kept as such, and no rows yet.
    run: Run,
}

impl Sorted {
    /// The rows of the store that [`Sorted::finish`] must be given, by ascending key.
    #[must_use]
    pub fn needed(&self) -> Vec<Key> {
        let blocks = self.order.iter().flat_map(|&(user, at)| blocks(user, self.sends.of(at)));
        blocks.filter(|(_, sends)| needs_base(sends)).map(|(key, _)| key).collect()
    }

    /// The rows. `base` holds, for each of the needed keys in their order, what the store has.
    ///
    /// # Panics
    /// `base` has not as many items as there are needed keys.
    #[must_use]
    pub fn finish(self, base: Vec<Option<SendsBlock>>) -> Run {
        let Self { order, mut run, users, .. } = self;
        // Rows of which a user has few are not counted.
        run.reserve(
            self.timeline.len() + self.conversation.len() + self.received.len() + self.sent.len() + self.groups.len(),
        );
        for &(user, at) in &order {
            for &(seq, value) in self.timeline.of(at) {
                run.push(RowKey::Timeline { user, seq }.encode(), value);
            }
        }
        for &(user, at) in &order {
            for &((peer, seq), value) in self.conversation.of(at) {
                run.push(RowKey::Conversation { user, peer, seq }.encode(), value);
            }
        }
        let mut base = base.into_iter();
        for (key, sends) in order.iter().flat_map(|&(user, at)| blocks(user, self.sends.of(at))) {
            let mut block = SendsBlock::default();
            for &((_, number), seq) in sends {
                block.seqs[SendsBlock::place(number).1] = seq;
            }
            if needs_base(sends) {
                let older = base.next().expect("a base row for each needed key");
                block.fill_from(&older.unwrap_or_default());
            }
            run.put(key, |out| codec::put_sends_block(out, &block));
        }
        assert!(base.next().is_none(), "a base row for each needed key");
        for &(user, at) in &order {
            let User { last_seen, visibility, notified, .. } = users[at as usize];
            if let Some(last_seen) = last_seen {
                run.put(RowKey::LastSeen { user }.encode(), |out| codec::put_last_seen(out, last_seen));
            }
            if let Some(row) = visibility {
                run.put(RowKey::Visibility { user }.encode(), |out| codec::put_visibility(out, row));
            }
            if let Some(notified) = notified {
                run.push(RowKey::Notified { user }.encode(), notified);
            }
            let (subscriptions, standings) = (self.subscriptions.of(at), self.standings.of(at));
            put_devices(&mut run, user, self.devices.of(at), self.sends.of(at), standings, subscriptions);
            for &(first, epoch) in self.epochs.of(at) {
                let key = RowKey::Epoch { user, first }.encode();
                match epoch {
                    Some(epoch) => run.put(key, |out| codec::put_epoch(out, epoch)),
                    None => run.push(key, Value::DELETED),
                }
            }
        }
        for &(user, at) in &order {
            put_last_messages(&mut run, user, self.received.of(at), self.sent.of(at));
            for &(peer, row) in self.last.of(at) {
                run.put(RowKey::Last { user, peer }.encode(), |out| codec::put_last(out, row));
            }
        }
        for &(user, at) in &order {
            for &(peer, row) in self.delivered.of(at) {
                run.put(RowKey::Delivered { user, peer }.encode(), |out| codec::put_mark(out, row));
            }
        }
        for &(user, at) in &order {
            if let Some(marks) = users[at as usize].marks {
                run.put(RowKey::Marks { user }.encode(), |out| codec::put_marks(out, marks));
            }
        }
        let unfinished = users.iter().filter_map(|user| Some((user.id, user.unfinished?)));
        let mut unfinished: Vec<_> = unfinished.collect();
        // This table has no partition in its keys.
        unfinished.sort_unstable_by_key(|(user, _)| *user);
        for (user, unfinished) in unfinished {
            let value = if unfinished { Value::EMPTY } else { Value::DELETED };
            run.push(RowKey::Unfinished { user }.encode(), value);
        }
        // Few runs have many of the others.
        for &(user, at) in if self.read.len() == 0 { &[][..] } else { &order } {
            for &(peer, row) in self.read.of(at) {
                run.put(RowKey::Read { user, conversation: peer.into() }.encode(), |out| codec::put_read(out, row));
            }
        }
        for &(user, at) in if self.seen.len() == 0 { &[][..] } else { &order } {
            for &(peer, row) in self.seen.of(at) {
                run.put(RowKey::Seen { user, peer }.encode(), |out| codec::put_mark(out, row));
            }
        }
        for &(user, at) in if self.settings.len() == 0 { &[][..] } else { &order } {
            for &(peer, row) in self.settings.of(at) {
                let conversation = peer.into();
                run.put(RowKey::Settings { user, conversation }.encode(), |out| codec::put_settings(out, row));
            }
        }
        for &(user, at) in &order {
            if let Some(notes) = users[at as usize].notes {
                run.push(RowKey::DeviceNotes { user }.encode(), notes);
            }
        }
        let with_removed = if self.removed.len() == 0 { &[][..] } else { &order };
        for &(user, at) in with_removed {
            for &(device, ()) in self.removed.of(at) {
                run.push(RowKey::Removed { user, device }.encode(), Value::EMPTY);
            }
        }
        let with_firsts = if self.firsts.len() == 0 { &[][..] } else { &order };
        for &(user, at) in with_firsts {
            for &(seq, value) in self.firsts.of(at) {
                run.push(RowKey::First { user, seq }.encode(), value);
            }
        }
        let with_deleted = if self.deleted.len() == 0 { &[][..] } else { &order };
        for &(user, at) in with_deleted {
            for &((peer, name), seq) in self.deleted.of(at) {
                let key = RowKey::Deleted { user, conversation: peer.into(), name }.encode();
                run.put(key, |out| codec::put_seq(out, seq));
            }
        }
        for &(user, at) in if self.displaced.len() == 0 { &[][..] } else { &order } {
            for &((peer, origin), row) in self.displaced.of(at) {
                let key = RowKey::Displaced { user, peer, origin }.encode();
                run.put(key, |out| codec::put_displaced(out, row));
            }
        }
        for &(user, at) in if self.kept.len() == 0 { &[][..] } else { &order } {
            for &((group, kept), value) in self.kept.of(at) {
                run.push(kept.row(user, group).encode(), value);
            }
        }
        self.groups.put(&mut run);
        run
    }
}

/// Where the last messages are, by conversation: of the other side, then of the user.
fn put_last_messages(run: &mut Run, user: UserId, received: &[(UserId, ReceivedRow)], sent: &[(UserId, Seq)]) {
    let mut sent = sent.iter().copied().peekable();
    let put_sent = |run: &mut Run, (peer, seq): (UserId, _)| {
        run.put(RowKey::Sent { user, peer }.encode(), |out| codec::put_seq(out, seq));
    };
    for &(peer, row) in received {
        while let Some(before) = sent.next_if(|(of, _)| *of < peer) {
            put_sent(run, before);
        }
        run.put(RowKey::Received { user, peer }.encode(), |out| codec::put_received(out, row));
    }
    sent.for_each(|sent| put_sent(run, sent));
}

#[cfg(test)]
mod tests;
