//! What is said about messages later, as the ledger knows it: edits, that they are taken back, reactions, and that somebody has deleted
//! them; read marks and settings. Pure.
//!
//! Of a run that changes messages the ledger keeps the newest ones ([`KEPT_MAX`]): only these are changed. One that is kept makes room
//! for a newer one when all that was said about it is with everybody.

use std::collections::HashMap;

use proto_spec::{Body, Content, ErrorCode, Event, MessageName, Reaction, Seq, Settings, UserId};

use super::{
    Answered, Change, Digest, Ledger, StreamId, Written,
    kept::{Excuse, Kept, Side},
    text::{answer, edit_text, fingerprint},
};
use crate::{draw::Draw, limits::KEPT_MAX};

/// Places that are tried before a message is not kept.
const TRIED_MAX: usize = 8;

/// A message that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptId(u32);

/// Those who write to each other in a conversation with a message that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Seat of the author's first device.
    pub author: u32,
    /// Seat of the first device of the other side.
    pub other: u32,
}

/// The messages that are kept.
#[derive(Debug, Default)]
pub(super) struct Keep {
    /// How many there may be; 0: the run changes nothing.
    max: usize,
    kept: Vec<Kept>,
    by_name: HashMap<MessageName, u32>,
    next: usize,
    unsettled: u64,
}

impl Keep {
    pub(super) const fn unsettled(&self) -> u64 {
        self.unsettled
    }

    fn get(&self, kept: Option<u32>) -> Option<&Kept> {
        self.kept.get(kept? as usize)
    }

    /// What is missing, in words.
    pub(super) fn what_is_missing(&self) -> impl Iterator<Item = String> {
        let open = self.kept.iter().filter(|kept| kept.is_changed() && !kept.is_settled());
        open.map(|kept| format!("message {}: {}", words(kept), kept.what_is_missing()))
    }

    fn settle(&mut self, at: u32) {
        let kept = &mut self.kept[at as usize];
        let is_open = kept.is_changed() && !kept.is_settled();
        self.unsettled += u64::from(is_open);
        self.unsettled -= u64::from(std::mem::replace(&mut kept.is_counted, is_open));
    }

    /// A place for a further message, if there is one.
    fn place(&mut self, kept: Kept) -> Option<u32> {
        if self.kept.len() < self.max {
            self.kept.push(kept);
            return Some(self.kept.len() as u32 - 1);
        }
        for _ in 0..TRIED_MAX.min(self.max) {
            self.next = (self.next + 1) % self.max;
            if self.kept[self.next].is_settled() {
                let old = std::mem::replace(&mut self.kept[self.next], kept);
                if let Some(name) = old.name() {
                    self.by_name.remove(&name);
                }
                return Some(self.next as u32);
            }
        }
        None
    }
}

fn words(kept: &Kept) -> String {
    let [author, other] = [&kept.sides[0], &kept.sides[1]];
    format!("{} of user {} to user {} ({})", kept.index, author.user, other.user, author.place)
}

impl Ledger {
    /// The run will change messages.
    pub fn change_messages(&mut self) {
        self.keep.max = KEPT_MAX;
    }

    /// Whether the run changes messages: then histories may lack what was superseded.
    #[must_use]
    pub const fn changes_messages(&self) -> bool {
        self.keep.max > 0
    }

    /// What a message carries.
    #[must_use]
    pub fn content(&self, stream: StreamId, index: u64, written: &Written) -> Content {
        self.edited(stream, index, written, None)
    }

    fn edited(&self, stream: StreamId, index: u64, written: &Written, edit: Option<usize>) -> Content {
        let mut text = String::new();
        self.write_text(stream, index, written.text, &mut text);
        if let Some(number) = edit {
            edit_text(&mut text, number);
        }
        let Some(answers) = &written.answers else { return Content::text(&text) };
        let mut answered = String::new();
        self.write_text(answers.stream, answers.index, answers.text, &mut answered);
        answer(answers.name, &answered, &text)
    }

    /// To whom a change goes that this side has said.
    #[must_use]
    pub fn changes_to(&self, id: KeptId, side: u8) -> UserId {
        self.keep.kept[id.0 as usize].sides[usize::from(1 - side)].user
    }

    /// What a change carries.
    #[must_use]
    pub fn change_content(&self, id: KeptId, which: u8) -> Content {
        let kept = &self.keep.kept[id.0 as usize];
        let name = kept.name().unwrap_or(MessageName { author: UserId(0), seq: Seq::ZERO });
        let (change, edits) = kept.change(which);
        match change {
            Change::Edit => {
                let says = self.edited(kept.stream, kept.index, &kept.written, Some(edits + 1));
                Content::edit(name, &says, None)
            }
            Change::Unsend => Content::unsend(name, None),
            Change::React(reaction) => Content::reaction(name, reaction, None),
        }
    }

    pub(super) fn keep_message(
        &mut self,
        stream: StreamId,
        index: u64,
        (written, sent_us): (&Written, u64),
        content: &Content,
    ) -> Option<u32> {
        let (from, to, to_seat) = {
            let stream = self.stream(stream);
            (stream.from, stream.to, stream.to_seat)
        };
        let author = self.crew.member(from);
        // Notes to self have no other side.
        if self.keep.max == 0 || author.user == to {
            return None;
        }
        let other = self.crew.member(to_seat);
        let sides = [author, other].map(|member| Side::new(member.user, member.first, member.devices.into()));
        self.keep.place(Kept::new(stream, index, (written.clone(), sent_us), content, sides))
    }

    pub(super) fn excuse(&self, kept: Option<u32>, seat: u32) -> Excuse {
        self.keep.get(kept).map_or(Excuse::None, |kept| kept.excuse(seat))
    }

    /// A device has a message, which has this seq in the log of its user and that one in its author's. Whether that is news to it.
    pub(super) fn came(&mut self, kept: Option<u32>, seat: u32, seq: Seq, origin: Seq) -> bool {
        let Some(at) = kept else { return true };
        let kept = &mut self.keep.kept[at as usize];
        if kept.sides[0].place == Seq::ZERO {
            kept.sides[0].place = origin;
        }
        let is_news = kept.came(seat, seq);
        if let Some(name) = kept.name() {
            self.keep.by_name.insert(name, at);
        }
        self.keep.settle(at);
        is_news
    }

    // ---- for scenarios

    /// One of the messages that are kept and have a name, if the draw meets one.
    #[must_use]
    pub fn some_kept(&self, draw: &mut Draw) -> Option<KeptId> {
        let at = draw.below(self.keep.kept.len() as u64) as u32;
        self.keep.get(Some(at)).filter(|kept| kept.name().is_some()).map(|_| KeptId(at))
    }

    /// The last message of a trace from one user to another, if it is kept and has a name.
    #[must_use]
    pub fn last_of_trace(&self, from: UserId, to: UserId) -> Option<KeptId> {
        let (stream, last) = self.last_of(from, to)?;
        let kept = self.keep.get(Some(last)).filter(|kept| kept.stream == stream && kept.name().is_some());
        kept.map(|_| KeptId(last))
    }

    /// Who writes to whom.
    #[must_use]
    pub fn parties(&self, id: KeptId) -> Parties {
        let [author, other] = [0, 1].map(|side: usize| self.keep.kept[id.0 as usize].sides[side].first);
        Parties { author, other }
    }

    /// The message, as somebody answers it; none if the device at a seat does not have it.
    #[must_use]
    pub fn answered(&self, id: KeptId, seat: u32) -> Option<Answered> {
        let kept = &self.keep.kept[id.0 as usize];
        let (stream, index, text) = (kept.stream, kept.index, kept.written.text);
        kept.name().filter(|_| kept.has_come(seat)).map(|name| Answered { name, stream, index, text })
    }

    /// The device at a seat changes a message; gives which side it is of and which change it is, if there may be one.
    pub fn change(&mut self, id: KeptId, seat: u32, change: Change) -> Option<(u8, u8)> {
        let kept = &self.keep.kept[id.0 as usize];
        let side = kept.side(self.crew.member(seat).user).filter(|_| kept.may(seat, change))?;
        let fingerprint = match change {
            Change::Edit => {
                let edit = Some(kept.edits() + 1);
                fingerprint(self.edited(kept.stream, kept.index, &kept.written, edit).parts().1)
            }
            Change::Unsend => 0,
            Change::React(reaction) => fingerprint(reaction.as_bytes()),
        };
        let which = self.keep.kept[id.0 as usize].say(side, change, fingerprint);
        self.keep.settle(id.0);
        Some((side as u8, which))
    }

    /// The user of a seat deletes a message for themselves, if they have it; gives where it stands.
    pub fn delete(&mut self, id: KeptId, seat: u32) -> Option<Seq> {
        let place = self.keep.kept[id.0 as usize].may_delete(seat)?;
        self.keep.kept[id.0 as usize].delete(seat);
        self.keep.settle(id.0);
        Some(place)
    }

    /// The user of one seat wants to have read what that of another one wrote, up to here.
    pub fn read(&mut self, seat: u32, author: u32, up_to: Seq) {
        self.marks.read_asked(&self.crew, seat, author, up_to);
    }

    /// The user of a seat wants to keep a conversation so; false if there is no answer yet for what they wanted before.
    pub fn set(&mut self, seat: u32, peer: UserId, settings: Settings) -> bool {
        self.marks.keep_asked(self.crew.member(seat).user, peer, settings)
    }

    // ---- for sessions

    /// A change was accepted for the device that sent it.
    pub fn change_accepted(&mut self, seat: u32, id: KeptId, which: u8, seq: Seq, digest: &mut Digest) {
        let outcome = self.keep.kept[id.0 as usize].accepted(seat, which, seq, digest);
        self.judge(id.0, which, &format!("was accepted as {seq} and"), outcome);
    }

    /// A change was refused for good, at this time in microseconds.
    pub fn change_refused(&mut self, id: KeptId, which: u8, code: ErrorCode, now_us: u64) {
        let kept = &mut self.keep.kept[id.0 as usize];
        let within_s = self.within_s[usize::from(kept.change(which).0 == Change::Unsend)];
        // The message was written after it should have been sent, and the change was judged before now.
        let may_be_late = now_us.saturating_sub(kept.sent_us) >= within_s.saturating_mul(1_000_000);
        let outcome = kept.refused(which, code, may_be_late);
        self.judge(id.0, which, "", outcome);
    }

    /// A deletion is done.
    pub fn delete_answered(&mut self, seat: u32, id: KeptId) {
        self.keep.kept[id.0 as usize].delete_answered(seat);
        self.keep.settle(id.0);
    }

    /// A read mark is done.
    pub fn read_answered(&mut self, seat: u32, author: UserId) {
        self.marks.read_answered(self.crew.member(seat).user, author);
    }

    /// Settings are done.
    pub fn set_answered(&mut self, seat: u32, peer: UserId) {
        self.marks.keep_answered(self.crew.member(seat).user, peer);
    }

    /// A device got an entry in which `by` says something about a message. `origin`: its seq in that user's log.
    pub fn changed(
        &mut self,
        seat: u32,
        (seq, origin): (Seq, Seq),
        by: UserId,
        content: &Content,
        digest: &mut Digest,
    ) {
        let me = self.crew.member(seat);
        let Some((name, stands)) = content.about() else { return };
        let (kind, fingerprint) = what_is_said(content);
        let at = self.keep.by_name.get(&name).copied();
        let found = at.and_then(|at| {
            let kept = &mut self.keep.kept[at as usize];
            let which = kept.find(kept.side(by)?, kind, fingerprint, origin)?;
            Some((at, which))
        });
        let Some((at, which)) = found else {
            let MessageName { author, seq: named } = name;
            return self.faults.add(format!(
                "user {} device {}: entry {seq} says of message {named} of user {author} what user {by} has not said as {origin}",
                me.user,
                me.device()
            ));
        };
        // Whoever changes a message of their own names it by its place.
        let place = stands.map_or(if name.author == me.user { name.seq } else { Seq::ZERO }, |stands| stands.place);
        let had = self.keep.kept[at as usize].has_come(seat);
        let outcome = self.keep.kept[at as usize].told(seat, which, seq, place, digest);
        let kept = &self.keep.kept[at as usize];
        let (stream, index) = (kept.stream, kept.index);
        if !had && kept.has_come(seat) {
            self.superseded(stream, index, seat);
        }
        self.judge(at, which, &format!("came to user {} device {} as entry {seq} and", me.user, me.device()), outcome);
    }

    /// A device got an entry that says how far somebody has read, or what was deleted.
    pub fn marked(&mut self, seat: u32, seq: Seq, event: &Event, digest: &mut Digest) {
        let member = self.crew.member(seat);
        let me = member.user;
        let outcome = match event {
            Event::Read { conversation: proto_spec::ConversationId::Person(peer), up_to, unread, told } => {
                self.marks.read_told((seat, me), (seq, *peer), (*up_to, *unread, *told), digest)
            }
            Event::Seen { peer, up_to } => self.marks.seen_told((seat, me), (seq, *peer), *up_to, digest),
            Event::Deleted { conversation: proto_spec::ConversationId::Person(_), of, place, unread } => {
                self.deleted(seat, seq, (*of, *place, *unread), digest)
            }
            _ => Ok(()),
        };
        if let Err(words) = outcome {
            self.faults.add(format!("user {me} device {}: entry {seq}, {event:?}, {words}", member.device()));
        }
    }

    /// What is wrong with what is shown of a message to the user of a seat, if it is kept, in words.
    pub(super) fn shown_wrong(&self, seat: u32, name: MessageName, content: &Content) -> Option<String> {
        let at = *self.keep.by_name.get(&name)?;
        let kept = &self.keep.kept[at as usize];
        let why = kept.shown_wrong(kept.side(self.crew.member(seat).user)?, what_is_said(content))?;
        Some(format!("message {} is shown {why}", words(kept)))
    }

    fn deleted(
        &mut self,
        seat: u32,
        seq: Seq,
        (of, place, unread): (MessageName, Seq, u64),
        digest: &mut Digest,
    ) -> Result<(), String> {
        let at = *self.keep.by_name.get(&of).ok_or("of which this run knows nothing")?;
        let kept = &mut self.keep.kept[at as usize];
        let had = kept.has_come(seat);
        let outcome = kept.told_deleted(seat, seq, deleted_mark(seq, of, unread), digest);
        let side = kept.side(self.crew.member(seat).user).unwrap_or_default();
        let stood = kept.sides[side].place;
        let (stream, index) = (kept.stream, kept.index);
        if !had {
            self.superseded(stream, index, seat);
        }
        self.keep.settle(at);
        outcome?;
        if stood == place { Ok(()) } else { Err(format!("where it stood at {stood}")) }
    }

    fn judge(&mut self, at: u32, which: u8, how: &str, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            let kept = &self.keep.kept[at as usize];
            let (what, words) = (kept.change_words(which), words(kept));
            self.faults.add(format!("message {words}: {what} {how} {why}").replace("  ", " "));
        }
        self.keep.settle(at);
    }
}

/// The kind of a message or a change, and a fingerprint of what it says.
pub(super) fn what_is_said(content: &Content) -> (u8, u32) {
    let (kind, body) = content.parts();
    match content.body() {
        Ok(Body::Edit(edit)) => (kind, fingerprint(edit.body)),
        Ok(Body::Reaction(Reaction { reaction, .. })) => (kind, fingerprint(reaction.as_bytes())),
        Ok(Body::Unsend(_)) => (kind, 0),
        _ => (kind, fingerprint(body)),
    }
}

/// What a `deleted` entry adds to what a device was told.
pub(super) const fn deleted_mark(seq: Seq, of: MessageName, unread: u64) -> u64 {
    Digest::mark(seq, of, proto_spec::EntryKind::Deleted.byte() | 0x80, unread as u32)
}

#[cfg(test)]
mod tests;
