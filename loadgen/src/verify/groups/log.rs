//! The log of one group, as all who were told of it say. Pure.

use std::collections::HashMap;

use proto_spec::{GroupEntry, GroupId, Seq, TimestampMs, UserId};

use super::{Said, SentId, fingerprint, said};

/// An entry that somebody was told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) from: UserId,
    pub(super) origin: Seq,
    pub(super) kind: u8,
    pub(super) fingerprint: u32,
    pub(super) said: Option<Said>,
    pub(super) sent: Option<SentId>,
    time: TimestampMs,
    messages: u64,
    /// When the first and the last member had it who was connected when it was to be sent; zero: nobody.
    pub(super) first_us: u64,
    pub(super) last_us: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: GroupId,
    /// By seq, from 1 on.
    entries: Vec<Option<Known>>,
    /// So many of them were folded.
    folded: usize,
    /// Messages among these.
    messages: u64,
    /// Views of those who are members.
    pub(super) here: i64,
    /// One for each device.
    pub(super) views: HashMap<UserId, Vec<u32>>,
    /// What is wrong with what was folded.
    pub(super) wrong: Option<String>,
}

impl Log {
    pub(super) fn new(id: GroupId) -> Self {
        Self { id, entries: Vec::new(), folded: 0, messages: 0, here: 0, views: HashMap::new(), wrong: None }
    }

    /// Takes an entry that somebody was told of; true if nobody was before.
    ///
    /// # Errors
    /// Somebody else was told otherwise.
    pub(super) fn note(&mut self, entry: &GroupEntry) -> Result<bool, String> {
        let Some(at) = entry.seq.0.checked_sub(1).map(|at| at as usize) else {
            return Err(format!("group {} has an entry 0", self.id));
        };
        let (kind, body) = entry.content.parts();
        let fingerprint = fingerprint(body);
        if let Some(Some(known)) = self.entries.get(at) {
            let told = (entry.from, entry.origin, entry.time, entry.messages, kind, fingerprint);
            let before = (known.from, known.origin, known.time, known.messages, known.kind, known.fingerprint);
            return if told == before {
                Ok(false)
            } else {
                Err(format!(
                    "entry {} of group {} is {told:?} for one member and {before:?} for another",
                    entry.seq, self.id
                ))
            };
        }
        if self.entries.len() <= at {
            self.entries.resize(at + 1, None);
        }
        self.entries[at] = Some(Known {
            from: entry.from,
            origin: entry.origin,
            kind,
            fingerprint,
            said: said(&entry.content),
            sent: None,
            time: entry.time,
            messages: entry.messages,
            first_us: 0,
            last_us: 0,
        });
        Ok(true)
    }

    /// The entry behind those that were folded, if it is known; it counts as folded then.
    pub(super) fn next_to_fold(&mut self) -> Option<Known> {
        let known = (*self.entries.get(self.folded)?)?;
        self.folded += 1;
        self.messages += u64::from(matches!(known.said, Some(Said::Message(_))));
        if known.messages != self.messages {
            let words = format!("says that it is message {} of group {}", known.messages, self.id);
            self.wrong.get_or_insert(format!("entry {} {words}, where {} are", self.folded, self.messages));
        }
        Some(known)
    }

    pub(super) fn known(&self, seq: Seq) -> Option<&Known> {
        self.entries.get((seq.0 as usize).checked_sub(1)?)?.as_ref()
    }

    /// An entry that was noted.
    pub(super) fn known_mut(&mut self, seq: Seq) -> &mut Known {
        self.entries[seq.0 as usize - 1].as_mut().expect("an entry is noted before it is looked for")
    }

    /// All entries that somebody was told of.
    pub(super) fn known_of_all(&mut self) -> impl Iterator<Item = &mut Known> {
        self.entries.iter_mut().flatten()
    }

    /// The seq of the last entry that anybody was told of.
    pub(super) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, Option<&Known>)> {
        (1..).zip(self.entries.iter().map(Option::as_ref))
    }
}
