//! Dues: the conversations of one user that they are to be notified of, and those that they were told of. Pure data.
//!
//! Invariants: at most [`DUES_MAX`] conversations are due, and what comes for more of them waits in the log; a message that is due is
//! above what was acknowledged when it came to be.

use std::{collections::BTreeMap, mem};

use proto_spec::{Body, Content, DeviceId, Entry, Event, Seq, TimestampMs, UserId};
use storage::{Notified, UserSnapshot};

use crate::limits::{DUES_MAX, NOTICE_TEXT_BYTES_MAX, TOLD_MAX};

/// See the head of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Dues {
    by_peer: BTreeMap<UserId, Due>,
    /// With the last message and when it was told, in milliseconds of the monotonic clock; the last told at the end.
    told: Vec<(UserId, Seq, u64)>,
    /// Conversations that are to be taken off the screen.
    clears: Vec<UserId>,
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
    /// Where its last message stands.
    pub(super) last: Seq,
    /// When that was numbered.
    pub(super) at: TimestampMs,
    /// What it says, if it has words and a device wants to show them.
    pub(super) text: Option<Box<str>>,
    /// The entry that says so: the message itself, or the last one that changes it. A notice leaves once it is released.
    pub(super) by: Seq,
    /// When the user is notified, in milliseconds of the monotonic clock.
    pub(super) due_ms: u64,
    /// Notices under way, and the last message that they tell of.
    pub(super) tickets: Vec<u64>,
    pub(super) offered: Seq,
    /// A provider has taken one of them.
    pub(super) is_told: bool,
    /// Devices for which there was no room: unless more has come, these alone are told of it again.
    pub(super) put_off: Vec<DeviceId>,
    /// The conversation is being read.
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

/// What an entry means for notifications.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A message from this user.
    Message { from: UserId, place: Seq, text: Option<Box<str>> },
    /// What a message says has changed; none: it says nothing that could be shown.
    Changed { from: UserId, place: Seq, text: Option<Box<str>> },
    /// Nothing.
    Nothing,
}

impl Said {
    /// `with_text`: what it says is of interest.
    pub(super) fn by(entry: &Entry, with_text: bool) -> Self {
        let Event::Received { from, content, .. } = &entry.event else { return Self::Nothing };
        let Some(place) = entry.place() else { return Self::Nothing };
        let text = if with_text { words(content) } else { None };
        match content {
            Content::Reaction(_) => Self::Nothing,
            _ if content.is_message() => Self::Message { from: *from, place, text },
            _ => Self::Changed { from: *from, place, text },
        }
    }
}

/// What a message says in words, as much as a notification shows.
fn words(content: &Content) -> Option<Box<str>> {
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
    /// Those of a user who is loaded and has a subscription. `delivered`: up to here a device has acknowledged everything.
    pub(in crate::shard) fn load(snapshot: &UserSnapshot, delivered: Seq) -> Self {
        let from = snapshot.notified.up_to.max(delivered).next();
        let may_be_due = snapshot.unfinished && from <= snapshot.head;
        Self {
            told: snapshot.notified.told.iter().map(|(peer, seq)| (*peer, *seq, 0)).collect(),
            behind: may_be_due.then_some(Behind { from, next: from, is_reading: false }),
            ..Self::default()
        }
    }

    /// Whether something is due, or may be.
    pub(in crate::shard) fn is_open(&self) -> bool {
        !self.by_peer.is_empty() || self.behind.is_some()
    }

    /// Whether the user need not stay in memory for this.
    pub(in crate::shard) fn is_unused(&self) -> bool {
        !self.is_open() && self.clears.is_empty() && !self.is_dirty
    }

    pub(super) fn get(&mut self, peer: UserId) -> Option<&mut Due> {
        self.by_peer.get_mut(&peer)
    }

    /// A message has come: its conversation is due at `due_ms`, or `delay_ms` after it was last told. Without room it waits in the log.
    pub(super) fn add(
        &mut self,
        peer: UserId,
        (place, at): (Seq, TimestampMs),
        text: Option<Box<str>>,
        (due_ms, delay_ms): (u64, u64),
    ) {
        if let Some(due) = self.by_peer.get_mut(&peer) {
            if place > due.last {
                (due.last, due.at, due.text, due.by) = (place, at, text, place);
            }
            return;
        }
        if self.behind.is_some() {
            return;
        }
        if self.by_peer.len() >= DUES_MAX {
            self.behind = Some(Behind { from: place, next: place, is_reading: false });
            return;
        }
        let (told, told_ms) =
            self.told.iter().find(|(of, ..)| *of == peer).map_or((Seq::ZERO, 0), |(_, seq, ms)| (*seq, *ms));
        if place <= told {
            // The log has been looked through from further back than need be.
            return;
        }
        let again_ms = if told_ms > 0 { told_ms + delay_ms } else { 0 };
        let due = Due {
            last: place,
            at,
            text,
            by: place,
            due_ms: due_ms.max(again_ms),
            tickets: Vec::new(),
            offered: Seq::ZERO,
            is_told: false,
            put_off: Vec::new(),
            is_loading: false,
        };
        self.by_peer.insert(peer, due);
    }

    /// What a message says that may be due has changed, by the entry `by`.
    pub(super) fn change(&mut self, peer: UserId, place: Seq, by: Seq, text: Option<Box<str>>) {
        if let Some(due) = self.by_peer.get_mut(&peer).filter(|due| due.last == place) {
            (due.text, due.by) = (text, due.by.max(by));
        }
    }

    /// No device is connected any more: what waits for an acknowledgement waits no longer.
    pub(super) fn all_now(&mut self, now_ms: u64) {
        let told = &self.told;
        let is_new = |peer: &UserId| told.iter().all(|(of, ..)| of != peer);
        self.by_peer
            .iter_mut()
            .filter(|(peer, _)| is_new(peer))
            .for_each(|(_, due)| due.due_ms = due.due_ms.min(now_ms));
    }

    /// The conversations whose time has come, and that have nothing under way, as far as what they say is released.
    pub(super) fn ready(&self, now_ms: u64, released: Seq) -> Vec<UserId> {
        let is_ready =
            |due: &Due| due.due_ms <= now_ms && due.by <= released && due.tickets.is_empty() && !due.is_loading;
        self.by_peer.iter().filter(|(_, due)| is_ready(due)).map(|(peer, _)| *peer).collect()
    }

    /// When the next one's time comes that has nothing under way and is not ready.
    pub(super) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let waiting = self.by_peer.values().filter(|due| due.tickets.is_empty() && due.due_ms > now_ms);
        waiting.map(|due| due.due_ms).min()
    }

    /// A device has acknowledged the log up to here: what is due up to there is not any more. What is under way is taken back.
    pub(super) fn acknowledged(&mut self, up_to: Seq) {
        let clears = &mut self.clears;
        self.by_peer.retain(|peer, due| {
            let stays = due.last > up_to;
            if !stays && !due.tickets.is_empty() && !clears.contains(peer) {
                clears.push(*peer);
            }
            stays
        });
    }

    /// The user has read a conversation up to here.
    pub(super) fn read(&mut self, peer: UserId, up_to: Seq) {
        let is_due = self.by_peer.get(&peer).is_some_and(|due| due.last <= up_to);
        let mut shows = self.told.iter().any(|(of, seq, _)| *of == peer && *seq <= up_to);
        if is_due && let Some(due) = self.by_peer.remove(&peer) {
            shows |= !due.tickets.is_empty();
            self.is_dirty = true;
        }
        if shows {
            self.told.retain(|(of, ..)| *of != peer);
            self.is_dirty = true;
            if !self.clears.contains(&peer) {
                self.clears.push(peer);
            }
        }
    }

    /// It has been decided that there is nothing to notify of in a conversation.
    pub(super) fn drop_due(&mut self, peer: UserId) {
        self.is_dirty |= self.by_peer.remove(&peer).is_some();
    }

    /// All notices of a conversation have ended: it is told, or due again.
    pub(super) fn ended(&mut self, peer: UserId, (now_ms, delay_ms): (u64, u64)) {
        let Some(due) = self.by_peer.get_mut(&peer) else { return };
        if mem::take(&mut due.is_told) {
            self.told.retain(|(of, ..)| *of != peer);
            if self.told.len() >= TOLD_MAX {
                self.told.remove(0);
            }
            self.told.push((peer, due.offered, now_ms));
            self.is_dirty = true;
        }
        if !due.put_off.is_empty() {
            return;
        }
        if due.last > due.offered {
            due.due_ms = now_ms + delay_ms;
        } else {
            self.drop_due(peer);
        }
    }

    /// The conversations that are to be taken off the screen. Each is told once, unless it is put back.
    pub(super) fn take_clears(&mut self) -> Vec<UserId> {
        mem::take(&mut self.clears)
    }

    /// A conversation could not be taken off the screen: it is tried again.
    pub(super) fn put_back_clear(&mut self, peer: UserId) {
        // Something new may be shown instead by then.
        if !self.clears.contains(&peer) && !self.by_peer.contains_key(&peer) {
            self.clears.push(peer);
        }
    }

    /// From where on the log is to be looked through now, in a log that ends at `head`.
    pub(super) fn next_look(&mut self, head: Seq) -> Option<Seq> {
        if self.by_peer.len() >= DUES_MAX {
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
                Said::Message { from: peer, place, text } if self.has_room_for(peer) => {
                    self.take(peer, (place, entry), text, due_ms);
                }
                // What it changed is gone from the log.
                Said::Changed { from: peer, place, text }
                    if place >= from && !entry.is_unsend() && self.has_room_for(peer) =>
                {
                    self.take(peer, (place, entry), text, due_ms);
                }
                Said::Changed { from: peer, place, .. } if entry.is_unsend() => {
                    self.change(peer, place, entry.seq, None);
                }
                Said::Message { .. } => return self.go_on_at(entry.seq),
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

    fn has_room_for(&self, peer: UserId) -> bool {
        self.by_peer.len() < DUES_MAX || self.by_peer.contains_key(&peer)
    }

    fn take(&mut self, peer: UserId, (place, entry): (Seq, &Entry), text: Option<Box<str>>, due_ms: u64) {
        let behind = self.behind.take();
        self.add(peer, (place, entry.time), text.clone(), (due_ms, 0));
        self.change(peer, place, entry.seq, text);
        self.behind = behind;
    }

    /// The row, if it is to be written: nothing is due any more, and not for the acknowledgements alone.
    pub(super) fn take_row(&mut self, head: Seq) -> Option<Notified> {
        if self.is_open() || !mem::take(&mut self.is_dirty) {
            return None;
        }
        let told = self.told.iter().map(|(peer, seq, _)| (*peer, *seq));
        Some(Notified { up_to: head, told: told.collect() })
    }
}

#[cfg(test)]
mod tests;
