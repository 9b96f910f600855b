//! What a shard keeps of one user: the log's head and tail, the devices, and the duties towards others.
//!
//! Invariants: `stored <= released <= head`; every entry above `stored` that has not been superseded is in `tail`, by
//! ascending seq; everything up to `stored` is in the store.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet, VecDeque},
};

use proto_spec::{
    Content, ConversationId, DeviceId, Direction, Entry, Event, GroupId, SendNumber, Seq, Settings, Subscription,
    TimestampMs, UserId,
    limits::{CONTENT_BYTES_MAX, EDIT_HEADER_BYTES_MAX, PAGE_BYTES_MAX, REACTION_BYTES_MAX, REACTIONS_MAX},
};
use storage::{BatchId, ConversationSnapshot, DeviceNote, Marks, StandingRow, UserSnapshot, VisibilityRow};

use super::{
    cache::Kept,
    devices::Gone,
    epochs::Epochs,
    input::ConnId,
    levels::Levels,
    outgoing::Outgoing,
    push::Dues,
    rates::UserBuckets,
    reports::Reports,
    rewrites::Rewrites,
    tail::{Tail, TailEntry},
    told::Told,
    unwanted::Unwanted,
};
use crate::access::rate::Bucket;

/// One device of a user.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    /// Acknowledged up to here.
    pub(super) cursor: Seq,
    /// The cursor has moved since it was last written.
    pub(super) cursor_dirty: bool,
    /// The last send that was numbered.
    pub(super) last_number: SendNumber,
    /// Sends that are not released: at most the send window.
    pub(super) in_flight: u16,
    /// What the last numbers stand for, up to `last_number` without a gap, as far as the store may not know it.
    pub(super) recent: VecDeque<Recent>,
    /// The connection of this device, if any.
    pub(super) session: Option<ConnId>,
    /// Sends lately.
    pub(super) sends: Bucket,
    /// The day on which it was last connected, as days since 1970; zero: it is not known.
    pub(super) seen_day: u64,
    /// What people call it; empty if it has no name.
    pub(super) name: Box<str>,
    /// It has been removed, and goes when that is durable.
    pub(super) is_leaving: bool,
    /// Where its notifications go; none: nowhere.
    pub(super) subscription: Option<Box<Subscription>>,
}

/// What a number stands for that the store may not know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recent {
    /// A message, whose entry is in the tail.
    Sent(Seq),
    /// Nothing: this batch says that it was given up.
    GivenUp(BatchId),
}

impl Device {
    /// One that has never connected.
    pub(super) fn new(id: DeviceId) -> Self {
        Self {
            id,
            cursor: Seq::ZERO,
            cursor_dirty: false,
            last_number: SendNumber(0),
            in_flight: 0,
            recent: VecDeque::new(),
            session: None,
            sends: Bucket::default(),
            seen_day: 0,
            name: Box::default(),
            is_leaving: false,
            subscription: None,
        }
    }

    /// What a number of this device stands for, if the store may not know it. Numbers count up by one, so this is a place and
    /// not a search: repeats cost the same however long the tail is.
    pub(super) fn recent(&self, number: SendNumber) -> Option<Recent> {
        let back = self.last_number.0.checked_sub(number.0)?;
        let index = (self.recent.len() as u64).checked_sub(back + 1)?;
        self.recent.get(index as usize).copied()
    }
}

/// A user that is loaded.
#[derive(Debug)]
pub(super) struct User {
    pub(super) head: Seq,
    pub(super) head_time: TimestampMs,
    pub(super) released: Seq,
    /// Everything up to here is in the store and nowhere else.
    pub(super) stored: Seq,
    /// Everything up to here is in the store: known with [`super::Promise::Store`] alone.
    pub(super) assured: Seq,
    pub(super) levels: Levels,
    pub(super) tail: Tail,
    pub(super) epochs: Epochs,
    pub(super) rewrites: Rewrites,
    pub(super) devices: Vec<Device>,
    pub(super) gone: Gone,
    /// Everything up to here has been acknowledged by one device or another: by some that were removed since, or that have what comes
    /// behind a gap.
    pub(super) acknowledged: Seq,
    /// How visible the user is, and which entry says so.
    pub(super) visibility: VisibilityRow,
    /// When the last device went, as coarse as it is told.
    pub(super) last_seen: TimestampMs,
    /// That has changed since it was last written.
    pub(super) seen_dirty: bool,
    /// What is remembered of devices has changed since it was last written.
    pub(super) notes_dirty: bool,
    /// Messages that their recipients' homes have not confirmed.
    pub(super) outgoing: Outgoing,
    /// Who takes nothing from this user.
    pub(super) unwanted: Unwanted,
    /// What authors have to be told of their messages.
    pub(super) reports: Reports,
    pub(super) marks: Marks,
    /// The marks as they were last written.
    pub(super) marks_written: Marks,
    /// A restart would look at this user: something was sent or acknowledged since marks last said idle.
    pub(super) unfinished: bool,
    /// What is being loaded: conversations of this user, and the user itself until all who waited are served.
    pub(super) loading: u32,
    /// How the user stands to groups, by ascending group.
    pub(super) groups: Vec<(GroupId, StandingRow)>,
    /// What was done lately.
    pub(super) buckets: UserBuckets,
    /// Where this user wrote to last, the very last at the end.
    pub(super) recent_peers: VecDeque<ConversationId>,
    /// What an app shows when it opens, if that is kept. See [`Cache`](super::cache::Cache).
    pub(super) kept: Option<Box<Kept>>,
    /// What the user is to be notified of, if a device is subscribed.
    pub(super) dues: Option<Box<Dues>>,
    /// Is in the shard's list of users to flush.
    pub(super) dirty: bool,
    /// The last batch with a record of this user.
    pub(super) changed_in: BatchId,
}

impl User {
    pub(super) fn load(snapshot: &UserSnapshot) -> Self {
        let note =
            |device| snapshot.notes.devices.iter().find(|note| note.device == device).cloned().unwrap_or_default();
        let devices = snapshot.devices.iter().map(|device| {
            let DeviceNote { seen_day, name, .. } = note(device.device);
            // A row that says more than the log has must not make the device skip what comes.
            let cursor = device.cursor.min(snapshot.head);
            let (last_number, subscription) = (device.last_number, device.subscription.clone());
            Device { cursor, last_number, seen_day, name, subscription, ..Device::new(device.device) }
        });
        let mut user = Self {
            head: snapshot.head,
            head_time: snapshot.head_time,
            released: snapshot.head,
            stored: snapshot.head,
            assured: snapshot.head,
            levels: Levels::default(),
            tail: Tail::default(),
            epochs: Epochs::of_snapshot(&snapshot.epochs),
            rewrites: Rewrites::default(),
            devices: devices.collect(),
            gone: Gone::of_notes(&snapshot.notes),
            acknowledged: snapshot.notes.acknowledged.min(snapshot.head),
            visibility: snapshot.visibility,
            last_seen: snapshot.last_seen,
            seen_dirty: false,
            notes_dirty: false,
            outgoing: Outgoing::default(),
            unwanted: Unwanted::default(),
            reports: Reports::after(snapshot.marks.receipted),
            marks: snapshot.marks,
            marks_written: snapshot.marks,
            unfinished: snapshot.unfinished,
            loading: 0,
            groups: snapshot.groups.clone(),
            buckets: UserBuckets::default(),
            recent_peers: VecDeque::new(),
            kept: None,
            dues: None,
            dirty: false,
            changed_in: BatchId(0),
        };
        if snapshot.unfinished {
            user.outgoing = Outgoing::from_log(snapshot.marks.forwarded.next());
        } else {
            // Idle when last seen: everything since was received, not sent, and nothing of it acknowledged.
            user.marks.forwarded = user.head;
        }
        if user.is_subscribed() {
            user.dues = Some(Box::new(Dues::load(snapshot, user.delivered())));
        }
        user
    }

    /// Up to here each entry has been acknowledged by a device that got it: what the senders may be told.
    pub(super) fn delivered(&self) -> Seq {
        self.devices.iter().map(|device| device.cursor).fold(self.acknowledged, Seq::max)
    }

    /// Connections have acknowledged these parts of the log, each from after its first seq up to its last. One that begins behind a gap
    /// counts as soon as what others have acknowledged reaches it.
    pub(super) fn join(&mut self, covered: &[(Seq, Seq)]) {
        while let Some((_, up_to)) = covered.iter().find(|(after, up_to)| (*after..*up_to).contains(&self.delivered()))
        {
            self.acknowledged = *up_to;
            self.notes_dirty = true;
            // A cursor is written with it, which has a restart look at this user. Not that of a device whose rows are gone.
            self.devices
                .iter_mut()
                .filter(|device| !device.is_leaving)
                .take(1)
                .for_each(|device| device.cursor_dirty = true);
        }
    }

    /// The device with this id, unless it is leaving.
    pub(super) fn device(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.id == id && !device.is_leaving)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.devices.iter().any(|device| device.session.is_some())
    }

    /// Every duty is fulfilled: a restart need not look at this user.
    pub(super) fn is_idle(&self) -> bool {
        let is_due = self.dues.as_ref().is_some_and(|dues| dues.is_open());
        !self.outgoing.is_open() && !self.reports.is_open() && self.marks.receipted >= self.delivered() && !is_due
    }

    /// Whether it may be forgotten: the store has everything, no connection uses it, nothing is kept for one, and no duty is open.
    pub(super) fn is_unused(&self, ingested: BatchId) -> bool {
        !self.is_connected()
            && self.kept.is_none()
            && self.changed_in <= ingested
            && self.tail.is_empty()
            && !self.dirty
            && !self.unfinished
            && !self.notes_dirty
            && !self.seen_dirty
            && self.loading == 0
            && self.dues.as_ref().is_none_or(|dues| dues.is_unused())
            && self.is_idle()
    }

    /// Whether an entry that may not be in the store yet is a message to `to`, or says what has become of one.
    pub(super) fn has_lately_written(&self, to: UserId) -> bool {
        self.places_lately_written(to).next().is_some()
    }

    /// The place of the last message to `to` among those that may not be in the store yet.
    pub(super) fn lately_written(&self, to: UserId) -> Option<Seq> {
        self.places_lately_written(to).max()
    }

    /// An edit, a message that was taken back and one that the user has deleted stand for the message, whose own entry is gone.
    fn places_lately_written(&self, to: UserId) -> impl Iterator<Item = Seq> {
        self.tail.range(self.stored.next(), self.head).filter_map(move |tail| match &tail.entry.event {
            Event::Sent { to: known, content, .. } if *known == to.into() => match (content, content.about()) {
                (Content::Reaction(_), _) => None,
                (_, Some((_, Some(stands)))) => Some(stands.place),
                (_, Some((_, None)) | None) => Some(tail.entry.seq),
            },
            Event::Deleted { conversation, of, place, .. } if *conversation == to.into() && of.author != to => {
                Some(*place)
            }
            _ => None,
        })
    }

    /// Moves the marks to where what is not confirmed allows.
    pub(super) fn advance_marks(&mut self) {
        self.marks.forwarded = self.marks.forwarded.max(self.outgoing.confirmed_up_to(self.head));
        self.marks.receipted = self.marks.receipted.max(self.reports.confirmed_up_to());
    }

    /// Forgets what is in the store since `ingested`.
    pub(super) fn trim(&mut self, ingested: BatchId) {
        self.stored = self.tail.trim(ingested).unwrap_or(self.stored);
        self.gone.trim(ingested);
        for device in &mut self.devices {
            let is_stored = |recent: &Recent| match *recent {
                Recent::Sent(seq) => seq <= self.stored,
                Recent::GivenUp(batch) => batch <= ingested,
            };
            while device.recent.front().is_some_and(is_stored) {
                device.recent.pop_front();
            }
            if device.recent.is_empty() {
                device.recent.shrink_to(0);
            }
        }
        if self.tail.is_empty() && self.changed_in <= ingested {
            // A superseded entry may have been the last to leave the tail.
            self.stored = self.head;
        }
        self.rewrites.trim(self.stored);
        assert!(
            self.stored <= self.released && self.released <= self.head,
            "a log is released and stored in its order"
        );
    }

    /// Released entries of the tail within `first..=last`, by ascending seq, at most `entries_max` and about
    /// `bytes_max`; and whether the whole range was covered.
    pub(super) fn tail_entries(
        &self,
        conversation: Option<ConversationId>,
        first: Seq,
        last: Seq,
        room: Room,
    ) -> (Vec<Entry>, bool) {
        debug_assert!(first > self.stored && last <= self.released);
        if conversation.is_some() && !self.rewrites.is_empty() {
            let mut told = Told::default();
            let here = self.about(conversation).filter(|entry| is_within(entry.concerns(), first, last));
            here.for_each(|entry| told.add(entry.clone()));
            return told.into_entries(room);
        }
        let matching = |tail: &&TailEntry| match conversation {
            Some(_) => tail.entry.event.conversation() == conversation && tail.entry.place().is_some(),
            None => true,
        };
        let range = self.tail.range(first, last).filter(matching);
        room.take(range.map(|tail| tail.entry.clone()), wire_bytes)
    }
}

impl User {
    /// What the tail says in a conversation and is released.
    fn about(&self, conversation: Option<ConversationId>) -> impl Iterator<Item = &Entry> {
        let released = self.tail.range(self.stored.next(), self.released).map(|tail| &tail.entry);
        released.filter(move |entry| match &entry.event {
            Event::Deleted { conversation: of, .. } => Some(*of) == conversation,
            event => event.conversation() == conversation,
        })
    }

    /// Whether the tail says of the message at `place` that it was taken back or deleted, released or not.
    pub(super) fn is_taken_back(&self, place: Seq) -> bool {
        if self.rewrites.is_deleted(place) {
            return true;
        }
        let now = self.rewrites.now(place).and_then(|now| self.tail.get(now.says));
        now.is_some_and(|tail| tail.entry.is_unsend())
    }

    /// Whether an entry of the tail is where a message is to be counted that stands behind `covered`: each has one such place.
    pub(super) fn is_newly_said(&self, entry: &Entry, covered: Seq) -> bool {
        match entry.place() {
            None => false,
            Some(place) if place == entry.seq => true,
            // What it changes has left the tail for it.
            Some(place) => {
                let is_newest = self.rewrites.now(place).is_some_and(|now| now.says == entry.seq);
                place > covered && self.tail.get(place).is_none() && is_newest
            }
        }
    }

    /// The last released message of each conversation that has one in the tail, by where it stands, from the newest on.
    pub(super) fn newest_messages(&self) -> Vec<Entry> {
        let mut newest: HashMap<ConversationId, &Entry> = HashMap::new();
        for TailEntry { entry, .. } in self.tail.range(self.stored.next(), self.released) {
            if let Some(conversation) = entry.event.conversation()
                && entry.place() > Some(self.stored)
            {
                let of = newest.entry(conversation).or_insert(entry);
                if of.place() <= entry.place() {
                    *of = entry;
                }
            }
        }
        let mut newest: Vec<_> = newest.into_values().cloned().collect();
        newest.sort_unstable_by_key(|entry| Reverse(entry.place()));
        newest
    }

    /// What the tail says of a message of the store, if it says something of it.
    pub(super) fn said_since(&self, entry: Entry) -> Entry {
        let (conversation, room) =
            (entry.event.conversation(), Room { direction: Direction::Forwards, entries: 1, bytes: usize::MAX });
        let (entries, _) = self.changed_since(conversation, vec![entry.clone()], room);
        entries.into_iter().next().unwrap_or(entry)
    }

    /// Takes out what the store has and released entries of the tail have superseded.
    pub(super) fn drop_superseded(&self, entries: &mut Vec<Entry>) {
        let gone: HashSet<Seq> = self.tail.superseded(self.released).chain(self.rewrites.gone()).collect();
        if !gone.is_empty() {
            entries.retain(|entry| !gone.contains(&entry.seq));
        }
    }

    /// What the store has of a conversation, with what the tail has changed of it since. As much as there is room for; false: not all.
    pub(super) fn changed_since(
        &self,
        conversation: Option<ConversationId>,
        entries: Vec<Entry>,
        room: Room,
    ) -> (Vec<Entry>, bool) {
        if conversation.is_none() || self.rewrites.is_empty() {
            return (entries, true);
        }
        let mut told = Told::of(entries);
        self.about(conversation).for_each(|entry| told.lay_over(entry));
        told.into_entries(room)
    }
}

fn is_within(place: Option<Seq>, first: Seq, last: Seq) -> bool {
    place.is_some_and(|place| (first..=last).contains(&place))
}

/// How much a page may still take, and from which end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) direction: Direction,
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Room {
    /// As many of these, which are in ascending order, as there is room for, and one in any case; false: not all.
    pub(super) fn take<T>(
        self,
        items: impl DoubleEndedIterator<Item = T>,
        bytes_of: impl Fn(&T) -> usize,
    ) -> (Vec<T>, bool) {
        let mut left = self.bytes;
        let mut take_from = |items: &mut dyn Iterator<Item = T>| {
            let mut taken = Vec::new();
            for item in items {
                let bytes = bytes_of(&item);
                if !taken.is_empty() && (taken.len() == self.entries || bytes > left) {
                    return (taken, false);
                }
                left = left.saturating_sub(bytes);
                taken.push(item);
            }
            (taken, true)
        };
        match self.direction {
            Direction::Forwards => take_from(&mut { items }),
            Direction::Backwards => {
                let (mut taken, complete) = take_from(&mut items.rev());
                taken.reverse();
                (taken, complete)
            }
        }
    }

    /// Whether an entry of any size may still be added.
    pub(super) const fn fits_any_entry(self) -> bool {
        self.entries > 0 && self.bytes >= ENTRY_BYTES_MAX
    }

    /// What is left after `entries` have been taken, which count as so many.
    pub(super) fn after(self, entries: &[Entry], count: usize) -> Self {
        let bytes = entries.iter().map(wire_bytes).sum::<usize>();
        Self {
            direction: self.direction,
            entries: self.entries.saturating_sub(count),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

/// Upper bound of the size of any entry in a page, with the reactions that come with it.
const ENTRY_BYTES_MAX: usize =
    ENTRY_HEADER_BYTES_MAX + EDIT_HEADER_BYTES_MAX + CONTENT_BYTES_MAX + REACTIONS_MAX * REACTION_ENTRY_BYTES_MAX;

/// Upper bound of the size of a reaction in a page.
const REACTION_ENTRY_BYTES_MAX: usize = ENTRY_HEADER_BYTES_MAX + EDIT_HEADER_BYTES_MAX + REACTION_BYTES_MAX;

const _: () = assert!(ENTRY_BYTES_MAX <= PAGE_BYTES_MAX / 2);

/// Upper bound of an entry's size in a page without its content: its length (3), kind, five varints of
/// at most ten, the content's kind and length (3).
const ENTRY_HEADER_BYTES_MAX: usize = 64;

/// Upper bound of a device id's size in an entry: a varint.
const DEVICE_ID_BYTES_MAX: usize = 10;

/// Upper bound of one entry's size in a page.
pub(super) fn wire_bytes(entry: &Entry) -> usize {
    let content = match &entry.event {
        Event::Devices { devices, .. } => DEVICE_ID_BYTES_MAX * devices.len(),
        event => event.content().map_or(0, |content| content.parts().1.len()),
    };
    ENTRY_HEADER_BYTES_MAX + content
}

/// One side of a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conversation {
    /// Highest origin seq that came from the peer: what is not above it is a duplicate.
    pub(super) received_up_to: Seq,
    /// What was numbered.
    pub(super) numbered: ConversationSnapshot,
    /// The marks and settings as far as they are released: what clients may see.
    pub(super) released: Standing,
    /// Who needs it to stay: questions about it that are under way, whose answers are laid over what is known here, and those who
    /// have waited for it.
    pub(super) held: u32,
    /// The last batch that changed one of these.
    pub(super) changed_in: BatchId,
}

/// How far both sides of a conversation are, and how it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The peer's devices have what was sent up to this own seq.
    pub(super) delivered_up_to: Seq,
    /// The peer has read what was sent up to this own seq.
    pub(super) seen_up_to: Seq,
    /// It has been read up to this own seq.
    pub(super) read_up_to: Seq,
    /// How many of the messages received have been read.
    pub(super) read: u64,
    pub(super) settings: Settings,
}

impl Standing {
    pub(super) const fn of(snapshot: &ConversationSnapshot) -> Self {
        Self {
            delivered_up_to: snapshot.delivered.up_to,
            seen_up_to: snapshot.seen.up_to,
            read_up_to: snapshot.read.up_to,
            read: snapshot.read.count,
            settings: snapshot.settings.settings,
        }
    }

    /// An entry about this conversation is released; `count` is that of its record.
    pub(super) const fn take(&mut self, event: &Event, count: u64) {
        match event {
            Event::Delivered { up_to, .. } => self.delivered_up_to = *up_to,
            Event::Seen { up_to, .. } => self.seen_up_to = *up_to,
            Event::Read { up_to, .. } => (self.read_up_to, self.read) = (*up_to, count),
            Event::Settings { settings, .. } => self.settings = *settings,
            Event::Received { .. }
            | Event::Sent { .. }
            | Event::Deleted { .. }
            | Event::Devices { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => {}
        }
    }
}

impl Conversation {
    pub(super) const fn load(snapshot: ConversationSnapshot) -> Self {
        Self {
            received_up_to: snapshot.received.up_to,
            numbered: snapshot,
            released: Standing::of(&snapshot),
            held: 0,
            changed_in: BatchId(0),
        }
    }

    /// What the peer says is not taken.
    pub(super) const fn is_blocked(&self) -> bool {
        self.numbered.settings.settings.has(Settings::BLOCKED)
    }

    /// Whether it may be forgotten: the store has everything.
    pub(super) fn is_unused(&self, ingested: BatchId) -> bool {
        self.changed_in <= ingested && self.held == 0
    }
}

#[cfg(test)]
mod tests {
    use storage::DeviceSnapshot;

    use super::*;

    const INGESTED: BatchId = BatchId(5);

    /// Somebody who has received, acknowledged and reported everything.
    fn user() -> User {
        let (device, cursor, last_number) = (DeviceId(1), Seq(3), SendNumber(0));
        let device = DeviceSnapshot { device, cursor, last_number, subscription: None };
        let mut user = User::load(&UserSnapshot {
            head: Seq(3),
            devices: vec![device],
            marks: Marks { forwarded: Seq(3), receipted: Seq(3) },
            ..UserSnapshot::default()
        });
        user.changed_in = INGESTED;
        user
    }

    #[test]
    fn a_user_is_forgotten_only_when_nothing_is_left() {
        assert!(user().is_unused(INGESTED));
        type Begin = fn(&mut User);
        let uses: [(&str, Begin); 8] = [
            ("a connection", |user| user.devices[0].session = Some(ConnId { slot: 1, generation: 1 })),
            ("a change that is not in the store", |user| user.changed_in = BatchId(INGESTED.0 + 1)),
            ("an entry that was not looked at since it is in the store", |user| {
                let entry = Entry { seq: Seq(4), time: TimestampMs(1), event: Event::Unknown { kind: 99 } };
                user.tail.push(TailEntry { entry, replaces: None, count: 0, batch: INGESTED });
            }),
            ("a place among those to be flushed", |user| user.dirty = true),
            ("marks that are not written", |user| user.unfinished = true),
            ("a conversation that is being loaded", |user| user.loading = 1),
            ("a message on the way", |user| assert!(user.outgoing.take(Seq(4), UserId(9).into()))),
            ("an author who is to be told", |user| user.devices[0].cursor = Seq(4)),
        ];
        for (what, begin) in uses {
            let mut user = user();
            begin(&mut user);
            assert!(!user.is_unused(INGESTED), "{what} is forgotten");
        }
    }

    #[test]
    fn a_conversation_is_forgotten_once_its_last_change_is_in_the_store() {
        let mut conversation = Conversation::load(ConversationSnapshot::default());
        assert!(conversation.is_unused(BatchId(0)));
        conversation.changed_in = INGESTED;
        assert!(!conversation.is_unused(BatchId(INGESTED.0 - 1)) && conversation.is_unused(INGESTED));
    }
}
