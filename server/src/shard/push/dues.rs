//! Dues: the conversations of one user that they are to be notified of, and those that they were told of. Pure data.
//!
//! Invariants: at most [`DUES_MAX`] conversations are due, and what comes for more of them waits in the log; a message that is due is
//! above what was acknowledged when it came to be.

use std::{collections::BTreeMap, mem};

use proto_spec::{Body, Content, ConversationId, DeviceId, Entry, Event, Seq, TimestampMs, UserId};
use storage::{Notified, UserSnapshot};

use crate::limits::{DUES_MAX, NOTICE_TEXT_BYTES_MAX, TOLD_MAX};

/// See the head of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Dues {
    by_conversation: BTreeMap<ConversationId, Due>,
    /// Up to here all is decided, as the row says.
    decided: Seq,
    /// With the last message and when it was told, in milliseconds of the monotonic clock; the last told at the end.
    told: Vec<(ConversationId, Seq, u64)>,
    /// Conversations that are to be taken off the screen, and not before when, in milliseconds of the monotonic clock.
    clears: Vec<ConversationId>,
    clears_from_ms: u64,
    /// The log is to be looked through.
    behind: Option<Behind>,
    /// What the row says has changed.
    is_dirty: bool,
    /// When the shard looks at this user.
    pub(super) wakes_ms: Option<u64>,
    /// The shard looks at this user when there is room for notices.
    pub(super) waits_for_room: bool,
}

/// A conversation that is due.
#[derive(Debug)]
pub(super) struct Due {
    /// Where its last message stands; of a group, up to where its log is told to have come.
    pub(super) last: Seq,
    /// Where the own log says so: a device that has acknowledged that knows of it.
    pub(super) own: Seq,
    /// When that was numbered.
    pub(super) at: TimestampMs,
    /// What it says, if it has words and a device wants to show them. Of a group that is asked for when its time has come.
    pub(super) text: Option<Box<str>>,
    /// The entry that says so: the message itself, or the last one that changes it. A notice leaves once it is released.
    pub(super) by: Seq,
    /// When the user is notified, in milliseconds of the monotonic clock.
    pub(super) due_ms: u64,
    /// Notices under way, up to where all is told by them, and the last message that they tell of. When more has come and its time with it,
    /// others take their place, though some of them wait: a provider that does not answer must not keep what others would take.
    pub(super) tickets: Vec<u64>,
    pub(super) offered: Seq,
    pub(super) tells: Seq,
    /// A provider has taken one of them.
    pub(super) is_told: bool,
    /// Devices for which there was no room: unless more has come, these alone are told of it again, and not before when.
    pub(super) put_off: Vec<DeviceId>,
    pub(super) again_ms: u64,
    /// The conversation is being read, or its group asked.
    pub(super) is_loading: bool,
}

/// Messages that wait in the log.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// What stands before this was decided.
    from: Seq,
    /// The next entry to look at.
    next: Seq,
    is_reading: bool,
}

impl Due {
    /// Whether nothing is under way that tells all of it.
    pub(super) fn may_be_offered(&self) -> bool {
        self.tickets.is_empty() || self.last > self.offered
    }

    /// What has to be read so that nothing is due: as far as is known.
    fn last_message(&self) -> Seq {
        if self.last == self.offered { self.tells } else { self.last }
    }
}

/// What an entry means for notifications.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// There are messages, the last at `last`.
    Come { conversation: ConversationId, last: Seq, text: Option<Box<str>> },
    /// What a message from this user says has changed; none: it says nothing that could be shown.
    Changed { from: UserId, place: Seq, text: Option<Box<str>> },
    /// Nothing.
    Nothing,
}

impl Said {
    /// `with_text`: what it says is of interest.
    pub(super) fn by(entry: &Entry, with_text: bool) -> Self {
        let (from, content) = match &entry.event {
            Event::Received { from, content, .. } => (from, content),
            Event::Group { group, standing, up_to, .. } if standing.is_member() => {
                return Self::Come { conversation: (*group).into(), last: *up_to, text: None };
            }
            _ => return Self::Nothing,
        };
        let Some(place) = entry.place() else { return Self::Nothing };
        let text = if with_text { words(content) } else { None };
        match content {
            Content::Reaction(_) => Self::Nothing,
            _ if content.is_message() => Self::Come { conversation: (*from).into(), last: place, text },
            _ => Self::Changed { from: *from, place, text },
        }
    }
}

/// What a message says in words, as much as a notification shows.
pub(super) fn words(content: &Content) -> Option<Box<str>> {
    let edited;
    let body = match content.body().ok()? {
        Body::Edit(edit) => {
            edited = edit.content();
            edited.body().ok()?
        }
        body => body,
    };
    let text = match body {
        Body::Text(text) => text,
        Body::Reply(reply) => reply.text,
        Body::Attachment(attachment) => attachment.caption,
        Body::Mention(mention) => mention.text,
        Body::Opaque(_) | Body::Edit(_) | Body::Unsend(_) | Body::Reaction(_) | Body::Act(_) | Body::Unknown => "",
    };
    let end = (0..=NOTICE_TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end))?;
    (end > 0).then(|| text[..end].into())
}

impl Dues {
    /// Those of a user who has just subscribed: what is in the log up to here is not due.
    pub(super) fn after(decided: Seq) -> Self {
        Self { decided, ..Self::default() }
    }

    /// Those of a user who is loaded and has a subscription. `delivered`: up to here a device has acknowledged everything.
    pub(in crate::shard) fn load(snapshot: &UserSnapshot, delivered: Seq) -> Self {
        let from = snapshot.notified.up_to.max(delivered).next();
        let may_be_due = snapshot.unfinished && from <= snapshot.head;
        Self {
            decided: snapshot.notified.up_to,
            told: snapshot.notified.told.iter().map(|(conversation, seq)| (*conversation, *seq, 0)).collect(),
            behind: may_be_due.then_some(Behind { from, next: from, is_reading: false }),
            ..Self::default()
        }
    }

    /// Whether something is due, or may be.
    pub(in crate::shard) fn is_open(&self) -> bool {
        !self.by_conversation.is_empty() || self.behind.is_some()
    }

    /// Whether the user need not stay in memory for this.
    pub(in crate::shard) fn is_unused(&self) -> bool {
        !self.is_open() && self.clears.is_empty() && !self.is_dirty
    }

    pub(super) fn get(&mut self, conversation: ConversationId) -> Option<&mut Due> {
        self.by_conversation.get_mut(&conversation)
    }

    /// A message has come, as the own log says at `own`: its conversation is due at `due_ms`, or `delay_ms` after it was last told. Without
    /// room it waits in the log.
    pub(super) fn add(
        &mut self,
        conversation: ConversationId,
        (last, own, at): (Seq, Seq, TimestampMs),
        text: Option<Box<str>>,
        (due_ms, delay_ms): (u64, u64),
    ) {
        if let Some(due) = self.by_conversation.get_mut(&conversation) {
            if last > due.last {
                (due.last, due.own, due.at, due.text, due.by) = (last, own, at, text, own);
            }
            return;
        }
        if self.behind.is_some() {
            return;
        }
        if self.by_conversation.len() >= DUES_MAX {
            self.behind = Some(Behind { from: own, next: own, is_reading: false });
            return;
        }
        let (told, told_ms) =
            self.told.iter().find(|(of, ..)| *of == conversation).map_or((Seq::ZERO, 0), |(_, seq, ms)| (*seq, *ms));
        if last <= told {
            // The log has been looked through from further back than need be.
            return;
        }
        let again_ms = if told_ms > 0 { told_ms + delay_ms } else { 0 };
        let due = Due {
            last,
            own,
            at,
            text,
            by: own,
            due_ms: due_ms.max(again_ms),
            tickets: Vec::new(),
            offered: Seq::ZERO,
            tells: Seq::ZERO,
            is_told: false,
            put_off: Vec::new(),
            again_ms: 0,
            is_loading: false,
        };
        self.by_conversation.insert(conversation, due);
    }

    /// What a message says that may be due has changed, by the entry `by`.
    pub(super) fn change(&mut self, from: UserId, place: Seq, by: Seq, text: Option<Box<str>>) {
        if let Some(due) = self.by_conversation.get_mut(&from.into()).filter(|due| due.last == place) {
            (due.text, due.by) = (text, due.by.max(by));
        }
    }

    /// No device is connected any more: what waits for an acknowledgement waits no longer.
    pub(super) fn all_now(&mut self, now_ms: u64) {
        let told = &self.told;
        let is_new = |conversation: &ConversationId| told.iter().all(|(of, ..)| of != conversation);
        self.by_conversation
            .iter_mut()
            .filter(|(conversation, _)| is_new(conversation))
            .for_each(|(_, due)| due.due_ms = due.due_ms.min(now_ms));
    }

    /// The conversations whose time has come, and that have nothing under way, as far as what they say is released.
    pub(super) fn ready(&self, now_ms: u64, released: Seq) -> Vec<ConversationId> {
        let is_ready =
            |due: &Due| due.due_ms <= now_ms && due.by <= released && due.may_be_offered() && !due.is_loading;
        self.by_conversation.iter().filter(|(_, due)| is_ready(due)).map(|(conversation, _)| *conversation).collect()
    }

    /// When the next one's time comes that has nothing under way and is not ready, or that of what is to be taken off screens.
    pub(super) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let waiting = self.by_conversation.values().filter(|due| due.may_be_offered()).map(|due| due.due_ms);
        let clears = (!self.clears.is_empty()).then_some(self.clears_from_ms);
        waiting.chain(clears).filter(|at_ms| *at_ms > now_ms).min()
    }

    /// A device has acknowledged the log up to here: what is due up to there is not any more. What is under way is taken back.
    pub(super) fn acknowledged(&mut self, up_to: Seq) {
        let mut clears = Vec::new();
        self.by_conversation.retain(|conversation, due| {
            let stays = due.own > up_to;
            clears.extend((!stays && !due.tickets.is_empty()).then_some(*conversation));
            stays
        });
        clears.into_iter().for_each(|conversation| self.clear(conversation));
    }

    /// The user has read a conversation up to here.
    pub(super) fn read(&mut self, conversation: ConversationId, up_to: Seq) {
        let is_due = self.by_conversation.get(&conversation).is_some_and(|due| due.last_message() <= up_to);
        let mut shows = self.told.iter().any(|(of, seq, _)| *of == conversation && *seq <= up_to);
        if is_due && let Some(due) = self.by_conversation.remove(&conversation) {
            shows |= !due.tickets.is_empty();
            self.is_dirty = true;
        }
        if shows {
            self.told.retain(|(of, ..)| *of != conversation);
            self.is_dirty = true;
            // A newer one that is under way takes its place on the screen, and a clear would take the place of that.
            let is_replaced = self.by_conversation.get(&conversation).is_some_and(|due| !due.tickets.is_empty());
            if !is_replaced {
                self.clear(conversation);
            }
        }
    }

    /// Whether the user was told of this message of a conversation, as far as that is remembered.
    pub(super) fn was_told(&self, conversation: ConversationId, last: Seq) -> bool {
        self.told.iter().any(|(of, seq, _)| *of == conversation && *seq >= last)
    }

    /// It has been decided that there is nothing to notify of in a conversation. What is under way is taken back.
    pub(super) fn drop_due(&mut self, conversation: ConversationId) {
        let Some(due) = self.by_conversation.remove(&conversation) else { return };
        self.is_dirty = true;
        if !due.tickets.is_empty() {
            self.clear(conversation);
        }
    }

    fn clear(&mut self, conversation: ConversationId) {
        if !self.clears.contains(&conversation) {
            self.clears.push(conversation);
        }
    }

    /// Notices of a conversation are offered, in place of those that are under way.
    pub(super) fn offers(
        &mut self,
        conversation: ConversationId,
        (up_to, last): (Seq, Seq),
        tickets: Vec<u64>,
        (now_ms, delay_ms): (u64, u64),
    ) {
        self.remember_told(conversation, now_ms);
        let Some(due) = self.by_conversation.get_mut(&conversation) else { return };
        (due.offered, due.tells, due.tickets, due.due_ms) = (up_to, last, tickets, now_ms + delay_ms);
        due.put_off.clear();
    }

    /// If a provider has taken a notice of this conversation, the user has been told.
    fn remember_told(&mut self, conversation: ConversationId, now_ms: u64) {
        let Some(due) = self.by_conversation.get_mut(&conversation) else { return };
        if mem::take(&mut due.is_told) {
            self.told.retain(|(of, ..)| *of != conversation);
            if self.told.len() >= TOLD_MAX {
                self.told.remove(0);
            }
            self.told.push((conversation, due.tells, now_ms));
            self.is_dirty = true;
        }
    }

    /// All notices of a conversation have ended: it is told, or due again.
    pub(super) fn ended(&mut self, conversation: ConversationId, (now_ms, delay_ms): (u64, u64)) {
        self.remember_told(conversation, now_ms);
        let Some(due) = self.by_conversation.get_mut(&conversation) else { return };
        if !due.put_off.is_empty() {
            due.due_ms = due.again_ms;
            return;
        }
        if due.last > due.offered {
            due.due_ms = now_ms + delay_ms;
        } else {
            self.drop_due(conversation);
        }
    }

    /// The conversations that are to be taken off the screen now. Each is told once, unless it is put back.
    pub(super) fn take_clears(&mut self, now_ms: u64) -> Vec<ConversationId> {
        if now_ms < self.clears_from_ms { Vec::new() } else { mem::take(&mut self.clears) }
    }

    /// A conversation could not be taken off the screen: it is tried again, not before then.
    pub(super) fn put_back_clear(&mut self, conversation: ConversationId, from_ms: u64) {
        // Something new may be shown instead by then.
        if !self.by_conversation.contains_key(&conversation) {
            self.clear(conversation);
            self.clears_from_ms = self.clears_from_ms.max(from_ms);
        }
    }

    /// Notices that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.by_conversation.values().map(|due| due.tickets.len()).sum()
    }

    /// The conversations of which something is under way.
    pub(super) fn told_now(&self) -> Vec<ConversationId> {
        let under_way = self.by_conversation.iter().filter(|(_, due)| !due.tickets.is_empty());
        under_way.map(|(conversation, _)| *conversation).collect()
    }

    /// What is under way says what a device does not want to be told any more, or goes where it is not: it is offered anew, and that takes
    /// its place.
    pub(super) fn offer_anew(&mut self, now_ms: u64) {
        for due in self.by_conversation.values_mut().filter(|due| !due.tickets.is_empty()) {
            due.tickets.clear();
            (due.offered, due.due_ms) = (Seq::ZERO, now_ms);
        }
    }

    /// From where on the log is to be looked through now, in a log that ends at `head`.
    pub(super) fn next_look(&mut self, head: Seq) -> Option<Seq> {
        if self.by_conversation.len() >= DUES_MAX {
            return None;
        }
        let behind = self.behind.as_mut().filter(|behind| !behind.is_reading)?;
        if behind.next > head {
            self.behind = None;
            self.is_dirty = true;
            return None;
        }
        Some(behind.next)
    }

    /// The store is asked for what waits in the log, or has answered.
    pub(super) fn set_reading(&mut self, is_reading: bool) {
        if let Some(behind) = &mut self.behind {
            behind.is_reading = is_reading;
        }
    }

    /// Takes what the log has from where it was to be looked through up to `covered`, as much as there is room for.
    pub(super) fn look<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        covered: Seq,
        with_text: bool,
        due_ms: u64,
    ) {
        let Some(Behind { from, .. }) = self.behind else { return };
        for entry in entries {
            match Said::by(entry, with_text) {
                Said::Come { conversation, last, text } if self.has_room_for(conversation) => {
                    self.take(conversation, (last, entry.seq, entry), text, due_ms);
                }
                // What it changed is gone from the log.
                Said::Changed { from: peer, place, text }
                    if place >= from && !entry.is_unsend() && self.has_room_for(peer.into()) =>
                {
                    self.take(peer.into(), (place, place, entry), text.clone(), due_ms);
                    self.change(peer, place, entry.seq, text);
                }
                Said::Changed { from: peer, place, .. } if entry.is_unsend() => {
                    self.change(peer, place, entry.seq, None);
                }
                Said::Come { .. } => return self.go_on_at(entry.seq),
                Said::Changed { place, .. } if place >= from => return self.go_on_at(entry.seq),
                Said::Changed { .. } | Said::Nothing => {}
            }
        }
        self.go_on_at(covered.next());
    }

    fn go_on_at(&mut self, next: Seq) {
        if let Some(behind) = &mut self.behind {
            behind.next = next;
        }
    }

    fn has_room_for(&self, conversation: ConversationId) -> bool {
        self.by_conversation.len() < DUES_MAX || self.by_conversation.contains_key(&conversation)
    }

    fn take(
        &mut self,
        conversation: ConversationId,
        (last, own, entry): (Seq, Seq, &Entry),
        text: Option<Box<str>>,
        due_ms: u64,
    ) {
        let behind = self.behind.take();
        self.add(conversation, (last, own, entry.time), text, (due_ms, 0));
        self.behind = behind;
    }

    /// The row, if it is to be written: nothing is due any more, and not for the acknowledgements alone.
    pub(super) fn take_row(&mut self, head: Seq) -> Option<Notified> {
        if self.is_open() || !mem::take(&mut self.is_dirty) {
            return None;
        }
        self.decided = head;
        let told = self.told.iter().map(|(conversation, seq, _)| (*conversation, *seq));
        Some(Notified { up_to: head, told: told.collect() })
    }

    /// Whether [`Self::take_last_row`] has something to write that [`Self::take_row`] would not.
    pub(super) const fn has_last_row(&self) -> bool {
        self.is_dirty
    }

    /// The row before the server stops, though something is due: the next start tells that, and what was told is not told again. A
    /// conversation that a device still lacks is.
    pub(super) fn take_last_row(&mut self, head: Seq) -> Option<Notified> {
        if !self.is_open() {
            return self.take_row(head);
        }
        if !mem::take(&mut self.is_dirty) {
            return None;
        }
        let has_all = |due: &Due, seq| due.put_off.is_empty() && (due.tickets.is_empty() || due.tells > seq);
        let is_told = |of: &ConversationId, seq: Seq| self.by_conversation.get(of).is_none_or(|due| has_all(due, seq));
        let told = self.told.iter().filter(|(conversation, seq, _)| is_told(conversation, *seq));
        Some(Notified { up_to: self.decided, told: told.map(|(conversation, seq, _)| (*conversation, *seq)).collect() })
    }
}

#[cfg(test)]
mod tests;
