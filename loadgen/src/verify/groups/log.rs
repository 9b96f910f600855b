//! The log of one group, as all who were told of it say, and what of it later entries have superseded (SPEC 8.12). Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto_spec::{Act, Body, Content, GroupEntry, GroupId, Seq, TimestampMs, UserId};

use super::{SentId, fingerprint};

/// What an entry does, of what a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// The group begins.
    Create,
    /// Somebody becomes a member.
    Add(UserId),
    /// Somebody is a member no more.
    Remove(UserId),
    /// It is a message.
    Write,
    /// The message that stands there says something else.
    Edit(Seq),
    /// It says nothing any more.
    Unsend(Seq),
    /// What its author feels about it.
    React(Seq),
}

impl Does {
    /// What a content does; none: something that no run does.
    fn of(content: &Content) -> Option<Self> {
        match content.body() {
            Ok(Body::Act(Act::Create { .. })) => Some(Self::Create),
            Ok(Body::Act(Act::Add { user })) => Some(Self::Add(user)),
            Ok(Body::Act(Act::Remove { user })) => Some(Self::Remove(user)),
            Ok(Body::Text(_) | Body::Reply(_)) => Some(Self::Write),
            Ok(Body::Edit(edit)) => Some(Self::Edit(edit.of.seq)),
            Ok(Body::Unsend(unsend)) => Some(Self::Unsend(unsend.of.seq)),
            Ok(Body::Reaction(reaction)) => Some(Self::React(reaction.of.seq)),
            _ => None,
        }
    }
}

/// An entry that somebody was told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) from: UserId,
    pub(super) origin: Seq,
    pub(super) kind: u8,
    pub(super) fingerprint: u32,
    pub(super) does: Option<Does>,
    pub(super) sent: Option<SentId>,
    pub(super) time: TimestampMs,
    messages: u64,
    /// Views of members that do not have it. Before it is folded, only those that have it are counted, below zero.
    pub(super) lacking: i64,
    /// A later entry has superseded it: who does not have it need not get it any more.
    pub(super) is_superseded: bool,
    /// When the first and the last member had it who was connected when it was to be sent; zero: nobody.
    pub(super) first_us: u64,
    pub(super) last_us: u64,
}

/// Which entries say now what there is to say of a message that was changed.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The message itself, its last edit, or that it was taken back.
    pub(super) says: u64,
    pub(super) is_taken_back: bool,
    /// Of each user the last reaction.
    reactions: BTreeMap<UserId, u64>,
}

/// The messages that were changed, by where they stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Shows(HashMap<Seq, Shown>);

impl Shows {
    pub(super) fn get(&self, place: Seq) -> Option<&Shown> {
        self.0.get(&place)
    }

    /// Takes the next entry of a log, which stands at `at`. Gives the seqs of those that it supersedes.
    ///
    /// # Errors
    /// It changes what was taken back.
    pub(super) fn take(&mut self, at: u64, known: &Known) -> Result<Vec<u64>, String> {
        let place = match known.does {
            Some(Does::Edit(place) | Does::Unsend(place) | Does::React(place)) => place,
            Some(Does::Create | Does::Add(_) | Does::Remove(_) | Does::Write) | None => return Ok(Vec::new()),
        };
        let new = || Shown { says: place.0, is_taken_back: false, reactions: BTreeMap::new() };
        let shown = self.0.entry(place).or_insert_with(new);
        if shown.is_taken_back {
            return Err(format!("changes entry {place}, which was taken back as entry {}", shown.says));
        }
        if matches!(known.does, Some(Does::React(_))) {
            return Ok(shown.reactions.insert(known.from, at).into_iter().collect());
        }
        let mut gone = vec![std::mem::replace(&mut shown.says, at)];
        if matches!(known.does, Some(Does::Unsend(_))) {
            shown.is_taken_back = true;
            gone.extend(std::mem::take(&mut shown.reactions).into_values());
        }
        Ok(gone)
    }
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
    /// Seqs among these of which nobody was told: they were empty when somebody looked, so a later entry had superseded what was there.
    pub(super) holes: BTreeSet<u64>,
    /// As those that were folded say.
    pub(super) shows: Shows,
    /// Views of those who are members.
    pub(super) here: i64,
    /// One for each device.
    pub(super) views: HashMap<UserId, Vec<u32>>,
    /// What is wrong with what was folded.
    pub(super) wrong: Option<String>,
}

impl Log {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            entries: Vec::new(),
            folded: 0,
            messages: 0,
            holes: BTreeSet::new(),
            shows: Shows::default(),
            here: 0,
            views: HashMap::new(),
            wrong: None,
        }
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
        // A page that does not have it any more may overtake a push that has.
        let is_superseded = self.holes.remove(&entry.seq.0);
        if self.entries.len() <= at {
            self.entries.resize(at + 1, None);
        }
        self.entries[at] = Some(Known {
            from: entry.from,
            origin: entry.origin,
            kind,
            fingerprint,
            does: Does::of(&entry.content),
            sent: None,
            time: entry.time,
            messages: entry.messages,
            lacking: 0,
            is_superseded,
            first_us: 0,
            last_us: 0,
        });
        Ok(true)
    }

    /// The entry behind those that were folded, if it is known; it counts as folded then.
    pub(super) fn next_to_fold(&mut self) -> Option<Known> {
        let known = (*self.entries.get(self.folded)?)?;
        self.folded += 1;
        self.messages += u64::from(known.does == Some(Does::Write));
        if known.messages != self.messages {
            let words = format!("says that it is message {} of group {}", known.messages, self.id);
            self.wrong.get_or_insert(format!("entry {} {words}, where {} are", self.folded, self.messages));
        }
        Some(known)
    }

    /// The seq of the last entry that was folded.
    pub(super) const fn folded(&self) -> u64 {
        self.folded as u64
    }

    /// The seq behind those that were folded, if there are entries behind it: somebody may know that it is empty.
    pub(super) fn hole(&self) -> Option<u64> {
        (self.folded < self.entries.len()).then_some(self.folded as u64 + 1)
    }

    /// It is.
    pub(super) fn pass_hole(&mut self) {
        self.folded += 1;
        self.holes.insert(self.folded as u64);
    }

    pub(super) fn known(&self, seq: Seq) -> Option<&Known> {
        self.entries.get((seq.0 as usize).checked_sub(1)?)?.as_ref()
    }

    /// An entry, if it was noted.
    pub(super) fn known_mut(&mut self, seq: Seq) -> Option<&mut Known> {
        self.entries.get_mut((seq.0 as usize).checked_sub(1)?)?.as_mut()
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
