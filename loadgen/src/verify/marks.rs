//! Marks: how far people have read what others write to them, which all their devices and the other side must learn, and how they keep
//! their conversations. Pure.
//!
//! A mark moves up only and is superseded by the next one; so of each conversation the last one is all that is kept.

use std::collections::HashMap;

use proto_spec::{EntryKind, MessageName, Seq, Settings, UserId};

use super::{Crew, Digest};

/// What the devices of a user were told last.
type Told = Box<[(Seq, u64)]>;

/// How far somebody has read what somebody else writes.
#[derive(Debug)]
struct Reading {
    reader: u32,
    author: u32,
    /// The furthest that was asked for, in the reader's log.
    asked: Seq,
    /// Marks that were asked for and have no answer.
    open: u32,
    /// The furthest that the other side is to be told of, in its log.
    told: Seq,
    /// By device of the reader, and of the author.
    read: Told,
    seen: Told,
    is_counted: bool,
}

impl Reading {
    fn is_settled(&self) -> bool {
        let is = |told: &Told, wanted| told.iter().all(|(up_to, _)| *up_to == wanted);
        self.open == 0 && is(&self.read, self.asked) && is(&self.seen, self.told)
    }
}

/// How somebody keeps a conversation.
#[derive(Clone, Copy, Debug, Default)]
struct Keeping {
    settings: Settings,
    is_open: bool,
}

/// The marks of a ledger's people.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// By reader and author.
    readings: HashMap<(UserId, UserId), Reading>,
    /// By whose it is and with whom.
    keepings: HashMap<(UserId, UserId), Keeping>,
    unsettled: u64,
}

impl Marks {
    /// Conversations whose marks are not with everybody.
    pub(super) const fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// The user of one seat wants to have read what that of another one wrote, up to here.
    pub(super) fn read_asked(&mut self, crew: &Crew, reader: u32, author: u32, up_to: Seq) {
        let key = (crew.member(reader).user, crew.member(author).user);
        let (readers, authors) = (crew.devices(reader), crew.devices(author));
        let nothing = |devices: &std::ops::Range<u32>| vec![(Seq::ZERO, 0); devices.len()].into();
        let reading = self.readings.entry(key).or_insert_with(|| Reading {
            reader: readers.start,
            author: authors.start,
            asked: Seq::ZERO,
            open: 0,
            told: Seq::ZERO,
            read: nothing(&readers),
            seen: nothing(&authors),
            is_counted: false,
        });
        reading.asked = reading.asked.max(up_to);
        reading.open += 1;
        self.settle(key);
    }

    /// It is done.
    pub(super) fn read_answered(&mut self, reader: UserId, author: UserId) {
        if let Some(reading) = self.readings.get_mut(&(reader, author)) {
            reading.open = reading.open.saturating_sub(1);
        }
        self.settle((reader, author));
    }

    /// A device of the reader is told how far they have read, and how far the other side is told so.
    ///
    /// # Errors
    /// What is wrong with that, in words.
    pub(super) fn read_told(
        &mut self,
        (seat, reader): (u32, UserId),
        (seq, author): (Seq, UserId),
        (up_to, unread, told): (Seq, u64, Seq),
        digest: &mut Digest,
    ) -> Result<(), String> {
        let mark = read_mark(seq, author, up_to, unread, told);
        let reading = self.readings.get_mut(&(reader, author)).ok_or("though nobody has asked for that")?;
        let device = (seat - reading.reader) as usize;
        reading.told = reading.told.max(told);
        let before = replace(&mut reading.read, device, up_to, mark, digest);
        let asked = reading.asked;
        self.settle((reader, author));
        match before {
            _ if up_to > asked => Err(format!("though only {asked} was asked for")),
            before if before >= up_to => Err(format!("after {before}")),
            _ => Ok(()),
        }
    }

    /// A device of the author is told how far the reader has read.
    ///
    /// # Errors
    /// What is wrong with that, in words.
    pub(super) fn seen_told(
        &mut self,
        (seat, author): (u32, UserId),
        (seq, reader): (Seq, UserId),
        up_to: Seq,
        digest: &mut Digest,
    ) -> Result<(), String> {
        let mark = seen_mark(seq, reader, up_to);
        let reading = self.readings.get_mut(&(reader, author)).ok_or("though nobody has asked for that")?;
        let device = (seat - reading.author) as usize;
        let before = replace(&mut reading.seen, device, up_to, mark, digest);
        self.settle((reader, author));
        if before >= up_to { Err(format!("after {before}")) } else { Ok(()) }
    }

    /// Somebody wants to keep a conversation so; false if there is no answer yet for what they wanted before.
    pub(super) fn keep_asked(&mut self, user: UserId, peer: UserId, settings: Settings) -> bool {
        let keeping = self.keepings.entry((user, peer)).or_default();
        let was_open = std::mem::replace(&mut keeping.is_open, true);
        if !was_open {
            keeping.settings = settings;
            self.unsettled += 1;
        }
        !was_open
    }

    /// It is done.
    pub(super) fn keep_answered(&mut self, user: UserId, peer: UserId) {
        if let Some(keeping) = self.keepings.get_mut(&(user, peer)) {
            self.unsettled -= u64::from(std::mem::take(&mut keeping.is_open));
        }
    }

    /// How somebody keeps a conversation, if the run has said so.
    pub(super) fn kept(&self, user: UserId, peer: UserId) -> Option<Settings> {
        self.keepings.get(&(user, peer)).map(|keeping| keeping.settings)
    }

    /// Up to where somebody has read, and the other side has read what they wrote: what the run has asked for.
    pub(super) fn wanted(&self, user: UserId, peer: UserId) -> (Seq, Seq) {
        let read = self.readings.get(&(user, peer)).map_or(Seq::ZERO, |reading| reading.asked);
        (read, self.readings.get(&(peer, user)).map_or(Seq::ZERO, |reading| reading.told))
    }

    /// What is missing, in words.
    pub(super) fn what_is_missing(&self) -> Vec<String> {
        let open = self.readings.iter().filter(|(_, reading)| !reading.is_settled());
        let words = |told: &Told| told.iter().map(|(up_to, _)| up_to.to_string()).collect::<Vec<_>>().join(", ");
        let readings = open.map(|((reader, author), reading)| {
            let Reading { asked, open, told, read, seen, .. } = reading;
            format!(
                "user {reader} has read what user {author} wrote up to {asked} ({open} marks not answered): the devices were told {}; \
                 those of user {author} were told {}, not {told}",
                words(read),
                words(seen)
            )
        });
        let keepings = self.keepings.iter().filter(|(_, keeping)| keeping.is_open);
        let keepings =
            keepings.map(|((user, peer), _)| format!("settings of user {user} for user {peer}: never answered"));
        readings.chain(keepings).collect()
    }

    fn settle(&mut self, key: (UserId, UserId)) {
        if let Some(reading) = self.readings.get_mut(&key) {
            let is_open = !reading.is_settled();
            self.unsettled += u64::from(is_open);
            self.unsettled -= u64::from(std::mem::replace(&mut reading.is_counted, is_open));
        }
    }
}

/// A device is told of a mark that supersedes the one before; gives that.
fn replace(told: &mut Told, device: usize, up_to: Seq, mark: u64, digest: &mut Digest) -> Seq {
    let Some(known) = told.get_mut(device) else { return Seq::ZERO };
    let (before, old) = std::mem::replace(known, (up_to, mark));
    if before > Seq::ZERO {
        digest.take(old);
    }
    digest.add(mark);
    before
}

/// What a `read` entry adds to what a device was told.
pub(super) const fn read_mark(seq: Seq, author: UserId, up_to: Seq, unread: u64, told: Seq) -> u64 {
    let name = MessageName { author, seq: Seq(up_to.0 ^ told.0.rotate_left(32)) };
    Digest::mark(seq, name, EntryKind::Read.byte() | 0x80, unread as u32)
}

/// What a `seen` entry adds to what a device was told.
pub(super) const fn seen_mark(seq: Seq, reader: UserId, up_to: Seq) -> u64 {
    Digest::mark(seq, MessageName { author: reader, seq: up_to }, EntryKind::Seen.byte() | 0x80, 0)
}
