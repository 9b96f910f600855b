//! Opened: what an app shows when it opens, of one user: the newest conversations as the inbox lists them, and the newest messages of the
//! first few. Pure data; `cache` feeds it, and decides whose is kept.
//!
//! Invariants: it says what the log says up to the last entry that is released, since each is taken in when it is, or all of it is
//! forgotten; its rows are the newest conversations, none left out, by descending place of the last message; the messages of a row are the
//! newest of its conversation, none left out, at least one, whole, by where they stand.

use proto_spec::{
    ConversationId, Direction, Entry, Event, Seq,
    limits::{CONTENT_BYTES_MAX, EDIT_HEADER_BYTES_MAX, INBOX_ROWS_MAX},
};

use super::{
    told::Told,
    user::{Room, Standing, wire_bytes},
};

/// How much of one user is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOfUser {
    /// Conversations of which messages are kept; of the others in the list, the last one. 0: nothing is kept of anybody.
    pub conversations: usize,
    /// Messages of each of them. 0: nothing is kept of anybody.
    pub messages: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Opened {
    rows: Vec<Row>,
    /// There are no other conversations with messages.
    is_all: bool,
}

#[derive(Debug)]
struct Row {
    conversation: ConversationId,
    standing: Standing,
    /// Messages received in it since they are counted, those that were taken back unread left out.
    received: u64,
    /// Where the last message stands.
    last: Seq,
    messages: Messages,
}

/// A conversation as it stands where the log is released: what a row of the inbox is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) conversation: ConversationId,
    pub(super) standing: Standing,
    pub(super) received: u64,
    pub(super) last: Entry,
}

/// The newest messages of a conversation, as many as a page takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Newest {
    /// By ascending place.
    pub(super) entries: Vec<Entry>,
    /// There are no older ones.
    pub(super) complete: bool,
    pub(super) standing: Standing,
}

impl Opened {
    /// What a first page of the inbox shows. Messages that were kept before stay.
    pub(super) fn new(shown: &[Shown], is_all: bool, mut before: Option<Box<Self>>) -> Self {
        let mut rows = Vec::with_capacity(shown.len());
        for Shown { conversation, standing, received, last } in shown {
            let kept = before.as_mut().and_then(|before| before.row(*conversation));
            let messages = kept.map_or_else(|| Messages::one(last, Older::Unknown), |kept| kept.messages.take());
            let last = last.place().unwrap_or(last.seq);
            rows.push(Row { conversation: *conversation, standing: *standing, received: *received, last, messages });
        }
        Self { rows, is_all }
    }

    /// A page of the inbox, and whether there are older conversations. Nothing if it needs more than is kept.
    pub(super) fn inbox(&self, before: Seq, rows_max: usize) -> Option<(Vec<Shown>, bool)> {
        let first = self.rows.iter().position(|row| row.last < before).unwrap_or(self.rows.len());
        let rows = &self.rows[first..];
        if rows.len() < rows_max && !self.is_all {
            return None;
        }
        let shown = rows.iter().take(rows_max).map(|row| Shown {
            conversation: row.conversation,
            standing: row.standing,
            received: row.received,
            last: row.messages.last(),
        });
        Some((shown.collect(), rows.len() > rows_max || !self.is_all))
    }

    /// The messages of a conversation up to `last` for which there is room, from the newest on. Nothing if it needs more than is kept.
    pub(super) fn newest(&self, conversation: ConversationId, last: Seq, room: Room) -> Option<Newest> {
        let row = self.rows.iter().find(|row| row.conversation == conversation)?;
        let mut entries = row.messages.all();
        entries.retain(|entry| entry.concerns() <= Some(last));
        let (entries, is_whole) = Told::of(entries).into_entries(room);
        let complete = is_whole && row.messages.older == Older::None;
        let is_full = count(&entries) == room.entries && row.messages.older == Older::Some;
        (!is_whole || complete || is_full).then_some(Newest { entries, complete, standing: row.standing })
    }

    /// Takes in the entry that was released, and the count of its record. `learn` says what is known of a conversation that is not kept:
    /// how many messages were received, and how it stands. False: that is not known, so nothing of this may be kept.
    #[must_use]
    pub(super) fn take(
        &mut self,
        entry: &Entry,
        count: u64,
        kept: KeptOfUser,
        learn: impl FnOnce(ConversationId) -> Option<(u64, Standing)>,
    ) -> bool {
        match &entry.event {
            Event::Received { .. } | Event::Sent { .. } => self.take_message(entry, kept, learn),
            Event::Delivered { peer, .. } | Event::Seen { peer, .. } => self.mark((*peer).into(), &entry.event, count),
            Event::Read { conversation, .. } | Event::Settings { conversation, .. } => {
                self.mark(*conversation, &entry.event, count)
            }
            // What stands before it may not be here. Few delete anything.
            Event::Deleted { conversation: ConversationId::Person(_), .. } => false,
            Event::Deleted { conversation: ConversationId::Group(_), .. }
            | Event::Devices { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => true,
        }
    }

    fn mark(&mut self, conversation: ConversationId, event: &Event, count: u64) -> bool {
        if let Some(row) = self.row(conversation) {
            row.standing.take(event, count);
        }
        true
    }

    fn take_message(
        &mut self,
        entry: &Entry,
        kept: KeptOfUser,
        learn: impl FnOnce(ConversationId) -> Option<(u64, Standing)>,
    ) -> bool {
        let (Some(conversation), Some(place)) = (entry.event.conversation(), entry.concerns()) else { return true };
        let is_new = entry.place() == Some(entry.seq);
        let at = self.rows.iter().position(|row| row.conversation == conversation);
        match at {
            Some(at) if is_new => {
                let row = &mut self.rows[at];
                row.received += u64::from(is_counted(&entry.event));
                row.last = place;
                row.messages.push(entry, kept.messages);
                self.rows[..=at].rotate_right(1);
            }
            Some(at) => {
                let row = &mut self.rows[at];
                // Whoever takes back what was not read leaves less to read.
                let is_unread = matches!(&entry.event, Event::Received { content, .. } if content.is_unsend())
                    && place > row.standing.read_up_to;
                row.received = row.received.saturating_sub(u64::from(is_unread));
                row.messages.lay_over(entry);
            }
            None if is_new => {
                let Some((received, standing)) = learn(conversation) else { return false };
                let messages = Messages::one(entry, if self.is_all { Older::None } else { Older::Unknown });
                self.rows.insert(0, Row { conversation, standing, received, last: place, messages });
                if !self.is_all || self.rows.len() > INBOX_ROWS_MAX as usize {
                    self.leave_out_last();
                }
            }
            // Older than all that is kept.
            None => {}
        }
        if let Some(row) = self.rows.get_mut(kept.conversations) {
            row.messages.keep_last();
        }
        true
    }

    /// The newest messages of a conversation have been read from elsewhere; `complete`: there are no older ones.
    pub(super) fn fill(&mut self, conversation: ConversationId, newest: &[Entry], complete: bool, kept: KeptOfUser) {
        let rows = self.rows.iter_mut().take(kept.conversations);
        if let Some(row) = rows.into_iter().find(|row| row.conversation == conversation)
            && count(newest).min(kept.messages) >= usize::from(row.messages.count)
        {
            let older = if complete { Older::None } else { Older::Some };
            row.messages = Messages::of(newest, older, kept.messages);
        }
    }

    /// Leaves out so much that the rest fits into `bytes`: old messages first, then the oldest conversations. False: nothing fits.
    #[must_use]
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        while self.bytes() > bytes {
            if let Some(row) = self.rows.iter_mut().rev().find(|row| row.messages.count > 1) {
                row.messages.leave_out_first();
            } else if self.rows.len() > 1 {
                self.leave_out_last();
                self.rows.shrink_to_fit();
            } else {
                return false;
            }
        }
        true
    }

    fn leave_out_last(&mut self) {
        self.rows.pop();
        self.is_all = false;
    }

    fn row(&mut self, conversation: ConversationId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.conversation == conversation)
    }

    /// What it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.capacity() * size_of::<Row>();
        size_of::<Self>() + rows + self.rows.iter().map(|row| row.messages.bytes.capacity()).sum::<usize>()
    }
}

/// How many messages these are; the others are reactions to them.
fn count(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| !entry.is_reaction()).count()
}

/// Whether a message counts as received, where it stands at its own place.
const fn is_counted(event: &Event) -> bool {
    matches!(event, Event::Received { content, .. } if !content.is_unsend())
}

/// Whether a conversation has messages before those that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Older {
    None,
    Some,
    /// Nor is it known whether there are reactions to the first one that is kept.
    Unknown,
}

/// The newest messages of a conversation one behind the other, each with the reactions to it behind it: a fifth of what they take as values.
#[derive(Debug)]
struct Messages {
    bytes: Vec<u8>,
    count: u16,
    older: Older,
}

/// Bytes of the length before each entry.
const LENGTH_BYTES: usize = size_of::<u16>();

/// The bit of a length that says that the entry is a reaction.
const REACTION: u16 = 1 << 15;

// An entry has 64 bytes beside its content at most.
const _: () = assert!(CONTENT_BYTES_MAX + EDIT_HEADER_BYTES_MAX + 64 < REACTION as usize);

impl Messages {
    fn one(entry: &Entry, older: Older) -> Self {
        Self::of(std::slice::from_ref(entry), older, 1)
    }

    /// The newest `most` of these.
    fn of(newest: &[Entry], older: Older, most: usize) -> Self {
        let mut messages = Self { bytes: Vec::new(), count: 0, older };
        newest.iter().for_each(|entry| messages.push(entry, most));
        messages
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self { bytes: Vec::new(), count: 0, older: Older::Unknown })
    }

    /// One more message, of which `most` stay, or a reaction to the last one.
    fn push(&mut self, entry: &Entry, most: usize) {
        let mut encoded = Vec::with_capacity(wire_bytes(entry));
        entry.encode(&mut encoded);
        let mut length = encoded.len() as u16;
        if entry.is_reaction() {
            length |= REACTION;
        } else {
            while usize::from(self.count) >= most {
                self.drop_first();
            }
            self.count += 1;
        }
        // No more than that: a vector that doubles would take half as much again.
        self.bytes.reserve_exact(LENGTH_BYTES + encoded.len());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(encoded);
    }

    /// What is said now of a message, if it is here.
    fn lay_over(&mut self, entry: &Entry) {
        let all = self.all();
        if all.iter().any(|kept| kept.concerns() == entry.concerns()) {
            let mut told = Told::of(all);
            told.lay_over(entry);
            let everything = Room { direction: Direction::Forwards, entries: usize::MAX, bytes: usize::MAX };
            *self = Self::of(&told.into_entries(everything).0, self.older, usize::MAX);
        }
    }

    fn keep_last(&mut self) {
        if self.count > 1 {
            while self.count > 1 {
                self.drop_first();
            }
            self.bytes.shrink_to_fit();
        }
    }

    fn leave_out_first(&mut self) {
        self.drop_first();
        self.bytes.shrink_to_fit();
    }

    /// The first message, with the reactions to it.
    fn drop_first(&mut self) {
        let parts = self.parts();
        let behind = parts.enumerate().skip_while(|(at, (is_reaction, _))| *at == 0 || *is_reaction);
        let rest: usize = behind.map(|(_, (_, part))| LENGTH_BYTES + part.len()).sum();
        self.bytes.drain(..self.bytes.len() - rest);
        self.count -= 1;
        self.older = Older::Some;
    }

    /// Each entry, and whether it is a reaction.
    fn parts(&self) -> impl Iterator<Item = (bool, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk()?;
            let length = u16::from_be_bytes(*length);
            let (part, behind) = behind.split_at(usize::from(length & !REACTION));
            rest = behind;
            Some((length & REACTION != 0, part))
        })
    }

    fn all(&self) -> Vec<Entry> {
        self.parts().map(|(_, part)| decoded(part)).collect()
    }

    fn last(&self) -> Entry {
        let says = self.parts().filter(|(is_reaction, _)| !is_reaction).last();
        decoded(says.expect("there is at least one").1)
    }
}

fn decoded(part: &[u8]) -> Entry {
    Entry::decode(part).expect("it was encoded here")
}
