//! A kept message: one that may be changed, with what was said about it since, and what of that each device was told. Pure.
//!
//! What it says at last is decided by its author's log: the accepted edit or unsend with the highest seq there. Of each side the accepted
//! reaction with the highest seq counts, unless the message was taken back. Who has deleted the message is told nothing of it any more.
//! A device may be told less on the way, since what was superseded is pushed to nobody; in the end all show the same.

mod words;

use proto_spec::{Content, ContentKind, ErrorCode, MessageName, Seq, UserId};

use super::{Digest, StreamId, Written, text::fingerprint};

/// Changes of one message: more would be no test of anything else, and a byte counts them.
pub(super) const CHANGES_MAX: usize = 8;

/// What somebody does to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It says something else.
    Edit,
    /// It says nothing any more.
    Unsend,
    /// What they feel about it; empty: nothing any more.
    React(&'static str),
}

impl Change {
    /// The kind of its content.
    #[must_use]
    pub const fn kind(self) -> u8 {
        match self {
            Self::Edit => ContentKind::Edit.byte(),
            Self::Unsend => ContentKind::Unsend.byte(),
            Self::React(_) => ContentKind::Reaction.byte(),
        }
    }

    const fn is_reaction(self) -> bool {
        matches!(self, Self::React(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Open,
    Accepted,
    Refused,
}

/// A change that was asked for.
#[derive(Clone, Debug)]
struct Said {
    /// The side whose user said it.
    by: usize,
    change: Change,
    fingerprint: u32,
    /// Where it is in the log of each side; zero: not known.
    seqs: [Seq; 2],
    answer: Answer,
}

/// What a device has of what a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Says {
    #[default]
    Nothing,
    /// What it said at first.
    Written,
    /// What this change says.
    Change(u8),
}

/// What a device has of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    says: Says,
    /// By the side whose user has reacted.
    reactions: [Option<u8>; 2],
    is_deleted: bool,
}

impl Shown {
    fn has_something(&self) -> bool {
        self.says != Says::Nothing || self.is_deleted
    }
}

/// One of the two who write to each other.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) user: UserId,
    /// Seat of the first device.
    pub(super) first: u32,
    pub(super) devices: u32,
    /// Where the message stands in the log; zero: not known.
    pub(super) place: Seq,
    /// Deletions that were asked for, and those of them that were answered.
    deletions: (u32, u32),
    /// Where the deletion is in the log; zero: not known.
    deleted_at: Seq,
}

impl Side {
    pub(super) const fn new(user: UserId, first: u32, devices: u32) -> Self {
        Self { user, first, devices, place: Seq::ZERO, deletions: (0, 0), deleted_at: Seq::ZERO }
    }
}

/// Whether a device may go without a message whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// No.
    None,
    /// It may have been superseded: a change of it will come in its place.
    MayComeLater,
    /// A change of it has come before it.
    HasCome,
}

/// See the head of this file. The side of the author is the first.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) stream: StreamId,
    pub(super) index: u64,
    pub(super) written: Written,
    /// When it should have been sent, in microseconds since the start of the run.
    pub(super) sent_us: u64,
    /// Of the content that was sent.
    pub(super) kind: u8,
    pub(super) fingerprint: u32,
    pub(super) sides: [Side; 2],
    said: Vec<Said>,
    /// By device: the author's, then those of the other side.
    shows: Box<[Shown]>,
    /// It is counted among those that are not settled.
    pub(super) is_counted: bool,
}

impl Kept {
    pub(super) fn new(
        stream: StreamId,
        index: u64,
        (written, sent_us): (Written, u64),
        content: &Content,
        sides: [Side; 2],
    ) -> Self {
        let shows = vec![Shown::default(); (sides[0].devices + sides[1].devices) as usize].into();
        let (kind, body) = content.parts();
        let fingerprint = fingerprint(body);
        let (said, is_counted) = (Vec::new(), false);
        Self { stream, index, written, sent_us, kind, fingerprint, sides, said, shows, is_counted }
    }

    /// The message's name, once its author's log has it.
    pub(super) fn name(&self) -> Option<MessageName> {
        let Side { user, place, .. } = self.sides[0];
        (place > Seq::ZERO).then_some(MessageName { author: user, seq: place })
    }

    /// Which side a seat is of, and which device of `shows`.
    fn at(&self, seat: u32) -> Option<(usize, usize)> {
        let is_of = |side: &Side| (side.first..side.first + side.devices).contains(&seat);
        let side = self.sides.iter().position(is_of)?;
        let before = if side == 0 { 0 } else { self.sides[0].devices };
        Some((side, (before + seat - self.sides[side].first) as usize))
    }

    /// Which side a user is.
    pub(super) fn side(&self, user: UserId) -> Option<usize> {
        self.sides.iter().position(|side| side.user == user)
    }

    /// Whether a device was told of the message, or that it is gone.
    pub(super) fn has_come(&self, seat: u32) -> bool {
        self.at(seat).is_some_and(|(_, device)| self.shows[device].has_something())
    }

    /// Whether a device may go without what the message said at first.
    pub(super) fn excuse(&self, seat: u32) -> Excuse {
        let Some((side, device)) = self.at(seat) else { return Excuse::None };
        let supersedes = |said: &Said| !said.change.is_reaction() && said.answer != Answer::Refused;
        if self.shows[device].has_something() {
            Excuse::HasCome
        } else if self.said.iter().any(supersedes) || self.sides[side].deletions.0 > 0 {
            Excuse::MayComeLater
        } else {
            Excuse::None
        }
    }

    /// A device has what the message said at first. Whether that is news to it.
    pub(super) fn came(&mut self, seat: u32, seq: Seq) -> bool {
        let Some((side, device)) = self.at(seat) else { return true };
        if self.sides[side].place == Seq::ZERO {
            self.sides[side].place = seq;
        }
        let is_news = !self.shows[device].has_something();
        if is_news {
            self.shows[device].says = Says::Written;
        }
        is_news
    }

    /// What is wrong with a page that shows this of it to a user in the end, in words. Reactions are compared elsewhere.
    pub(super) fn shown_wrong(&self, side: usize, (kind, fingerprint): (u8, u32)) -> Option<String> {
        let wanted = self.wanted(side);
        let says = match wanted.says {
            Says::Change(which) => &self.said[usize::from(which)],
            Says::Nothing | Says::Written => {
                let is_it = (kind, fingerprint) == (self.kind, self.fingerprint) && !wanted.is_deleted;
                return (!is_it).then(|| format!("with something else than {}", self.shown_words(wanted)));
            }
        };
        let is_it = (says.change.kind(), says.fingerprint) == (kind, fingerprint);
        (!is_it).then(|| format!("with something else than {}", self.shown_words(wanted)))
    }

    /// Whether who is at a seat may do this to it now; the rest the server judges.
    pub(super) fn may(&self, seat: u32, change: Change) -> bool {
        let Some((side, device)) = self.at(seat) else { return false };
        let shown = &self.shows[device];
        let is_twice = |said: &Said| said.answer == Answer::Open && said.by == side && said.change == change;
        let has_it = matches!(shown.says, Says::Written | Says::Change(_)) && !self.is_taken_back(shown.says);
        let is_allowed = match change {
            Change::Edit | Change::Unsend => side == 0,
            // The reaction to an own message that the other side does not have yet may get lost there (SPEC 5.4.7).
            Change::React(_) => self.sides[1].place > Seq::ZERO,
        };
        let is_free = !self.said.iter().any(|said| is_twice(said) && change != Change::Edit);
        is_allowed && has_it && is_free && self.said.len() < CHANGES_MAX
    }

    /// Somebody changes it; gives which change it is.
    pub(super) fn say(&mut self, side: usize, change: Change, fingerprint: u32) -> u8 {
        let said = Said { by: side, change, fingerprint, seqs: [Seq::ZERO; 2], answer: Answer::Open };
        self.said.push(said);
        (self.said.len() - 1) as u8
    }

    /// What a change is, and how many edits were made before it.
    pub(super) fn change(&self, which: u8) -> (Change, usize) {
        let edits = self.said[..usize::from(which)].iter().filter(|said| said.change == Change::Edit).count();
        (self.said[usize::from(which)].change, edits)
    }

    /// Which edit the next one is.
    pub(super) fn edits(&self) -> usize {
        self.said.iter().filter(|said| said.change == Change::Edit).count()
    }

    /// The change that `by` has made and that an entry of their log at `origin` tells.
    pub(super) fn find(&mut self, by: usize, kind: u8, fingerprint: u32, origin: Seq) -> Option<u8> {
        let is_it = |said: &Said| said.by == by && said.change.kind() == kind && said.fingerprint == fingerprint;
        let is_new = |said: &Said| said.seqs[by] == Seq::ZERO && said.answer == Answer::Open;
        let known = self.said.iter().position(|said| is_it(said) && said.seqs[by] == origin);
        let which = known.or_else(|| self.said.iter().position(|said| is_it(said) && is_new(said)))?;
        self.said[which].seqs[by] = origin;
        Some(which as u8)
    }

    /// A device is told of a change by an entry of its user's log.
    ///
    /// # Errors
    /// What is wrong with that, in words.
    pub(super) fn told(&mut self, seat: u32, which: u8, seq: Seq, place: Seq, told: &mut Digest) -> Result<(), String> {
        let Some((side, device)) = self.at(seat) else { return Err("is not of this conversation".to_owned()) };
        let known = &mut self.said[usize::from(which)].seqs[side];
        let before = if *known == Seq::ZERO { seq } else { *known };
        *known = seq;
        let stands = &mut self.sides[side].place;
        let stood = if *stands == Seq::ZERO { place } else { *stands };
        *stands = stood;
        if self.said[usize::from(which)].answer == Answer::Refused {
            return Err("was refused".to_owned());
        }
        if self.shows[device].is_deleted {
            return Err("is of a message that was deleted there".to_owned());
        }
        let is_reaction = self.said[usize::from(which)].change.is_reaction();
        if is_reaction && self.is_taken_back(self.shows[device].says) {
            return Err("is of a message that was taken back there".to_owned());
        }
        self.learn(side, device, which, told);
        match (before == seq, stood == place) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("was told as entry {before} before")),
            (true, false) => Err(format!("says that the message stands at {place}, where it was {stood}")),
        }
    }

    /// A change was accepted for a device, as this entry of its user's log.
    ///
    /// # Errors
    /// It was told as another entry before.
    pub(super) fn accepted(&mut self, seat: u32, which: u8, seq: Seq, told: &mut Digest) -> Result<(), String> {
        let Some((side, device)) = self.at(seat) else { return Ok(()) };
        let said = &mut self.said[usize::from(which)];
        said.answer = Answer::Accepted;
        let before = std::mem::replace(&mut said.seqs[side], seq);
        self.learn(side, device, which, told);
        if before == Seq::ZERO || before == seq { Ok(()) } else { Err(format!("was told as entry {before}")) }
    }

    /// A change was refused for good.
    ///
    /// # Errors
    /// The specification does not allow it.
    pub(super) fn refused(&mut self, which: u8, code: ErrorCode, may_be_late: bool) -> Result<(), String> {
        self.said[usize::from(which)].answer = Answer::Refused;
        let said = &self.said[usize::from(which)];
        let is_unsent = |said: &Said| said.change == Change::Unsend && said.answer != Answer::Refused;
        let is_allowed = match code {
            ErrorCode::TooLate => may_be_late && !said.change.is_reaction(),
            ErrorCode::TakenBack => self.said.iter().any(is_unsent),
            ErrorCode::NoSuchMessage => self.sides[said.by].deletions.0 > 0,
            _ => false,
        };
        if said.seqs != [Seq::ZERO; 2] {
            return Err(format!("was refused as {}, though it was told", code.name()));
        }
        if is_allowed { Ok(()) } else { Err(format!("was refused as {}, for which there is no reason", code.name())) }
    }

    /// Whether the user of a device may delete it for themselves; gives where it stands.
    pub(super) fn may_delete(&self, seat: u32) -> Option<Seq> {
        let (side, device) = self.at(seat)?;
        let is_there = self.shows[device].says != Says::Nothing && self.sides[side].deletions.0 == 0;
        is_there.then_some(self.sides[side].place)
    }

    pub(super) fn delete(&mut self, seat: u32) {
        if let Some((side, _)) = self.at(seat) {
            self.sides[side].deletions.0 += 1;
        }
    }

    pub(super) fn delete_answered(&mut self, seat: u32) {
        if let Some((side, _)) = self.at(seat) {
            self.sides[side].deletions.1 += 1;
        }
    }

    /// A device is told that its user has deleted it; `mark` is what that entry adds to what it was told.
    ///
    /// # Errors
    /// What is wrong with that, in words.
    pub(super) fn told_deleted(&mut self, seat: u32, seq: Seq, mark: u64, told: &mut Digest) -> Result<(), String> {
        let Some((side, device)) = self.at(seat) else { return Err("is not of this conversation".to_owned()) };
        let shown = std::mem::replace(&mut self.shows[device], Shown { is_deleted: true, ..Shown::default() });
        self.forget(side, shown, told);
        told.add(mark);
        let of = &mut self.sides[side];
        let before = std::mem::replace(&mut of.deleted_at, seq);
        if of.deletions.0 == 0 {
            Err("was deleted, which nobody has asked for".to_owned())
        } else if shown.is_deleted || (before != Seq::ZERO && before != seq) {
            Err(format!("was deleted as entry {before} before"))
        } else {
            Ok(())
        }
    }

    /// Whether something was said about it that must reach everybody.
    pub(super) fn is_changed(&self) -> bool {
        !self.said.is_empty() || self.sides.iter().any(|side| side.deletions.0 > 0)
    }

    /// Whether everything is answered, and all devices show what they should.
    pub(super) fn is_settled(&self) -> bool {
        let is_answered = self.said.iter().all(|said| said.answer != Answer::Open)
            && self.sides.iter().all(|side| side.deletions.0 == side.deletions.1);
        is_answered && self.devices().all(|(_, _, shown, wanted)| shown == wanted)
    }

    /// By device: whose it is, its id, what it shows, and what it should.
    fn devices(&self) -> impl Iterator<Item = (UserId, u32, Shown, Shown)> {
        let mut shows = self.shows.iter();
        let wanted = [self.wanted(0), self.wanted(1)];
        let all = self.sides.iter().zip(wanted);
        let all = all.flat_map(|(side, wanted)| (0..side.devices).map(move |device| (side.user, device + 1, wanted)));
        all.map_while(move |(user, device, wanted)| Some((user, device, *shows.next()?, wanted)))
    }

    /// What the devices of a side must show at last.
    fn wanted(&self, side: usize) -> Shown {
        if self.sides[side].deletions.1 > 0 {
            return Shown { is_deleted: true, ..Shown::default() };
        }
        let last = |by: usize, is_reaction: bool| {
            let accepted = self.said.iter().enumerate().filter(|(_, said)| {
                said.answer == Answer::Accepted && said.by == by && said.change.is_reaction() == is_reaction
            });
            accepted.max_by_key(|(_, said)| said.seqs[by]).map(|(which, _)| which as u8)
        };
        let says = last(0, false).map_or(Says::Written, Says::Change);
        let reactions = if self.is_taken_back(says) { [None; 2] } else { [last(0, true), last(1, true)] };
        Shown { says, reactions, is_deleted: false }
    }

    /// A device has a change, whose place in the log of its user is known. What was superseded is nothing new.
    fn learn(&mut self, side: usize, device: usize, which: u8, told: &mut Digest) {
        let mut shown = self.shows[device];
        let said = &self.said[usize::from(which)];
        let is_newer = |before: Seq| before < said.seqs[side];
        if shown.is_deleted {
            return;
        }
        let superseded = if said.change.is_reaction() {
            let known = shown.reactions[said.by];
            if self.is_taken_back(shown.says)
                || !known.is_none_or(|known| is_newer(self.seq(side, Says::Change(known))))
            {
                return;
            }
            shown.reactions[said.by] = Some(which);
            Shown { reactions: [known, None], ..Shown::default() }
        } else {
            if !is_newer(self.seq(side, shown.says)) {
                return;
            }
            let says = std::mem::replace(&mut shown.says, Says::Change(which));
            let is_unsent = said.change == Change::Unsend;
            let reactions = if is_unsent { std::mem::take(&mut shown.reactions) } else { [None; 2] };
            Shown { says, reactions, ..Shown::default() }
        };
        self.forget(side, superseded, told);
        told.add(self.mark(side, Says::Change(which)));
        self.shows[device] = shown;
    }

    /// Takes what was superseded out of what a device was told.
    fn forget(&self, side: usize, superseded: Shown, told: &mut Digest) {
        if superseded.says != Says::Nothing {
            told.take(self.mark(side, superseded.says));
        }
        superseded.reactions.into_iter().flatten().for_each(|which| told.take(self.mark(side, Says::Change(which))));
    }

    /// What an entry adds to what a device of this side was told.
    fn mark(&self, side: usize, says: Says) -> u64 {
        let name = self.name().unwrap_or(MessageName { author: self.sides[0].user, seq: Seq::ZERO });
        let (kind, fingerprint) = match says {
            Says::Change(which) => {
                let said = &self.said[usize::from(which)];
                (said.change.kind(), said.fingerprint)
            }
            Says::Nothing | Says::Written => (self.kind, self.fingerprint),
        };
        Digest::mark(self.seq(side, says), name, kind, fingerprint)
    }

    fn seq(&self, side: usize, says: Says) -> Seq {
        match says {
            Says::Nothing => Seq::ZERO,
            Says::Written => self.sides[side].place,
            Says::Change(which) => self.said[usize::from(which)].seqs[side],
        }
    }

    fn is_taken_back(&self, says: Says) -> bool {
        matches!(says, Says::Change(which) if self.said[usize::from(which)].change == Change::Unsend)
    }
}
