//! Ledger: the messages under way of all who write to each other, from their send until everybody has them. Usually these are the
//! people of one lane; those of a trace may be in several, which share a ledger.
//!
//! A stream's messages are numbered; each device that must get them, an observer, has a place in that order. So a loss, a
//! duplicate and a disorder show at once and with their numbers. A message is forgotten when it was accepted and no observer
//! lacks it: `flights` holds messages `base .. base + flights.len()`. What is said about it later is the matter of `changes`.

use std::collections::{HashMap, VecDeque};

use proto_spec::{Content, DeviceId, MessageName, SendNumber, Seq, UserId};

use super::{
    Crew, Digest, Faults, Label, StreamId, Written,
    changes::Keep,
    groups::Groups,
    kept::Excuse,
    marks::Marks,
    text::{INDEX_MAX, Lines, RUN_BITS, Text, fingerprint, text_of},
};
use crate::homes::{Between, Homes};

/// Streams of one ledger: what a label has room for beside the lane.
const STREAM_BITS: u32 = 24;

/// A device that must get the messages of a stream, and the one that it must get next.
#[derive(Clone, Copy, Debug)]
struct Observer {
    seat: u32,
    next: u64,
}

/// A message that is under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// In the sender's log; zero: nobody has said yet.
    seq: Seq,
    intended_us: u64,
    fingerprint: u32,
    kind: u8,
    is_accepted: bool,
    /// Observers that do not have it.
    lacking: u8,
    /// Where it is kept, for it may be changed.
    kept: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) from: u32,
    pub(super) to: UserId,
    /// Seat of the recipient's first device.
    pub(super) to_seat: u32,
    base: u64,
    flights: VecDeque<Flight>,
    observers: Vec<Observer>,
    /// Of the last message that was forgotten.
    last_seq: Seq,
    /// Where the last message was kept, if any was.
    last_kept: Option<u32>,
}

/// A message of the run that an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Of which stream.
    pub stream: StreamId,
    /// When it should have been sent.
    pub intended_us: u64,
}

/// The messages of those who write to each other.
#[derive(Debug)]
pub struct Ledger {
    run: u32,
    lane: u32,
    pub(super) crew: Crew,
    streams: Vec<Stream>,
    /// Messages without labels are recognised by who writes to whom.
    lines: Option<Lines>,
    between: HashMap<(UserId, UserId), StreamId>,
    /// By device, and author of several devices whose messages it gets: the last seq in the author's log.
    origins: HashMap<(u32, UserId), Seq>,
    /// What has gone wrong.
    pub faults: Faults,
    under_way: u64,
    foreign: u64,
    /// For how long a message can be edited, and taken back, in seconds, as the server says.
    pub within_s: [u64; 2],
    /// Latencies by the homes of authors and recipients, if they are wanted.
    pub homes: Option<Homes>,
    pub(super) keep: Keep,
    pub(super) marks: Marks,
    /// What is sent to groups, and who has it.
    pub groups: Groups,
}

impl Ledger {
    /// Before the first message. `lane` is the first of those who share it. With `lines` the messages are those of a trace and have no labels; then everybody has one device.
    #[must_use]
    pub fn new(run: u32, lane: u32, crew: Crew, lines: Option<Lines>) -> Self {
        let run = run & ((1 << RUN_BITS) - 1);
        // The last stream that a label has room for.
        let to_groups = StreamId(lane << STREAM_BITS | ((1 << STREAM_BITS) - 1));
        Self {
            run,
            lane,
            crew,
            streams: Vec::new(),
            groups: Groups::new(run, to_groups, lines.clone()),
            lines,
            between: HashMap::new(),
            origins: HashMap::new(),
            faults: Faults::default(),
            under_way: 0,
            foreign: 0,
            within_s: [0; 2],
            homes: None,
            keep: Keep::default(),
            marks: Marks::default(),
        }
    }

    /// Who is at which seat.
    #[must_use]
    pub const fn crew(&self) -> &Crew {
        &self.crew
    }

    /// Whether texts say which message they are. The lines of a trace do not.
    #[must_use]
    pub const fn has_labels(&self) -> bool {
        self.lines.is_none()
    }

    /// Messages that were sent and are not yet accepted and with everybody, and those of which that is true for a change; conversations
    /// whose marks are not with everybody.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.under_way + self.keep.unsettled() + self.marks.unsettled() + self.groups.under_way()
    }

    /// Entries of other runs.
    #[must_use]
    pub const fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Messages of a stream that were sent.
    #[must_use]
    pub fn sent(&self, stream: StreamId) -> u64 {
        let stream = self.stream(stream);
        stream.base + stream.flights.len() as u64
    }

    /// The device that sends a stream.
    #[must_use]
    pub fn sender(&self, stream: StreamId) -> u32 {
        self.stream(stream).from
    }

    /// To whom a stream goes.
    #[must_use]
    pub fn recipient(&self, stream: StreamId) -> UserId {
        self.stream(stream).to
    }

    /// What is measured between the homes of both sides of a stream, if that is wanted.
    pub fn by_home(&mut self, stream: StreamId) -> Option<&mut Between> {
        self.homes.as_ref()?;
        let Stream { from, to_seat, .. } = *self.stream(stream);
        let author = self.crew.member(from).first;
        self.homes.as_mut()?.between(author, to_seat)
    }

    /// A stream from a device to the user who has another. To oneself: a note.
    ///
    /// # Panics
    /// There are 16 million streams.
    pub fn open(&mut self, from: u32, to: u32) -> StreamId {
        let (sender, recipient) = (self.crew.member(from), self.crew.member(to));
        let id = StreamId(self.lane << STREAM_BITS | self.streams.len() as u32);
        assert!(self.streams.len() < (1 << STREAM_BITS) - 1, "a ledger has room for 2^24 - 1 streams");
        let own = self.crew.devices(from);
        let theirs = if sender.user == recipient.user { 0..0 } else { self.crew.devices(to) };
        let observers = theirs.chain(own.filter(|seat| *seat != from)).map(|seat| Observer { seat, next: 0 }).collect();
        if self.lines.is_some() {
            self.between.insert((sender.user, recipient.user), id);
        }
        let (flights, last_seq, last_kept) = (VecDeque::new(), Seq::ZERO, None);
        let to_seat = recipient.first;
        self.streams.push(Stream {
            from,
            to: recipient.user,
            to_seat,
            base: 0,
            flights,
            observers,
            last_seq,
            last_kept,
        });
        id
    }

    /// The next message of a stream is about to be sent; gives its index.
    ///
    /// # Panics
    /// A stream has room for 2^30 messages.
    pub fn send(&mut self, id: StreamId, intended_us: u64, written: &Written) -> u64 {
        let index = self.sent(id);
        assert!(index < INDEX_MAX, "a stream has room for 2^30 messages");
        let content = self.content(id, index, written);
        let (kind, fingerprint) = (content.parts().0, fingerprint(content.parts().1));
        let kept = self.keep_message(id, index, (written, intended_us), &content);
        let stream = self.stream_mut(id);
        stream.last_kept = kept.or(stream.last_kept);
        let lacking = stream.observers.len() as u8;
        let (seq, is_accepted) = (Seq::ZERO, false);
        stream.flights.push_back(Flight { seq, intended_us, fingerprint, kind, is_accepted, lacking, kept });
        self.under_way += 1;
        index
    }

    /// Appends the text of a message.
    pub fn write_text(&self, stream: StreamId, index: u64, text: Text, out: &mut String) {
        text.write(&Label { run: self.run, stream, index }, self.lines.as_ref(), out);
    }

    /// Bytes of a line of the trace.
    #[must_use]
    pub fn line_bytes(&self, line: u32) -> usize {
        self.lines.as_ref().and_then(|lines| lines.get(line as usize)).map_or(0, |line| line.len())
    }

    /// A message was accepted; gives its intended time.
    pub fn accepted(&mut self, id: StreamId, index: u64, seq: Seq, digest: &mut Digest) -> Option<u64> {
        let stream = self.stream_mut(id);
        let at = index.checked_sub(stream.base).map_or(usize::MAX, |at| at as usize);
        let before =
            at.checked_sub(1).map_or(stream.last_seq, |at| stream.flights.get(at).map_or(Seq::ZERO, |f| f.seq));
        let after = stream.flights.get(at.saturating_add(1)).map_or(Seq::ZERO, |flight| flight.seq);
        let from = stream.from;
        let Some(flight) = stream.flights.get_mut(at).filter(|flight| !flight.is_accepted) else {
            self.fault(id, index, &format!("was accepted again, as {seq}"));
            return None;
        };
        let told = std::mem::replace(&mut flight.seq, seq);
        flight.is_accepted = true;
        let Flight { intended_us, fingerprint, kind, kept, .. } = *flight;
        let name = MessageName { author: self.crew.member(from).user, seq };
        // Another device may have changed it before this one learned that it was accepted.
        if self.came(kept, from, seq, seq) {
            digest.add(Digest::mark(seq, name, kind, fingerprint));
        }
        if told != Seq::ZERO && told != seq {
            self.fault(id, index, &format!("was accepted as {seq}, but delivered as {told}"));
        }
        if (before != Seq::ZERO && seq <= before) || (after != Seq::ZERO && seq >= after) {
            self.fault(id, index, &format!("was accepted as {seq}, between its neighbours {before} and {after}"));
        }
        self.settle(id);
        Some(intended_us)
    }

    /// A device got a message that somebody wrote. None if it is not of this run.
    pub fn received(
        &mut self,
        seat: u32,
        seq: Seq,
        from: UserId,
        origin: Seq,
        content: &Content,
        digest: &mut Digest,
    ) -> Option<Arrival> {
        let me = self.crew.member(seat).user;
        let (id, index) = self.recognise((seat, origin), from, me, text_of(content))?;
        if self.crew.member(self.stream(id).from).user != from || self.stream(id).to != me {
            self.fault(id, index, &format!("came to user {me} as entry {seq} from user {from}"));
            return None;
        }
        let arrival = self.observed(seat, id, index, (seq, origin), content, digest)?;
        // Within a stream the order is that of the indices; the devices of one author have a stream each.
        if self.crew.devices(self.stream(id).from).len() > 1 {
            let last = self.origins.entry((seat, from)).or_default();
            let before = std::mem::replace(last, origin);
            if origin <= before {
                self.fault(
                    id,
                    index,
                    &format!("came as entry {seq}: it is seq {origin} of its author, after {before}"),
                );
            }
        }
        Some(arrival)
    }

    /// A device got a message that another device of its user sent. None if it is not of this run.
    pub fn copied(
        &mut self,
        seat: u32,
        seq: Seq,
        to: UserId,
        number: (DeviceId, SendNumber),
        content: &Content,
        digest: &mut Digest,
    ) -> Option<Arrival> {
        let me = self.crew.member(seat);
        let (id, index) = self.recognise((seat, seq), me.user, to, text_of(content))?;
        let sender = self.crew.member(self.stream(id).from);
        if sender.user != me.user || self.stream(id).to != to || sender.device() != number.0 {
            let words = format!("is entry {seq} of user {}: sent by device {} to user {to}", me.user, number.0);
            self.fault(id, index, &words);
            return None;
        }
        // What this device sent itself it knows by `accepted`; the server may say it again in a page.
        if sender == me { None } else { self.observed(seat, id, index, (seq, seq), content, digest) }
    }

    /// Which message a text is that its author has at `origin`. Without labels: by that, or the one that the device must get next from there.
    pub(super) fn recognise(
        &mut self,
        (seat, origin): (u32, Seq),
        from: UserId,
        to: UserId,
        text: &[u8],
    ) -> Option<(StreamId, u64)> {
        let found = if self.lines.is_some() {
            self.between.get(&(from, to)).map(|id| {
                let stream = self.stream(*id);
                let observer = stream.observers.iter().find(|observer| observer.seat == seat);
                let next = observer.map_or(0, |observer| observer.next);
                let later = stream.flights.iter().skip(next.saturating_sub(stream.base) as usize);
                let is_passed = |flight: &&Flight| {
                    (Seq(1)..origin).contains(&flight.seq) && self.excuse(flight.kept, seat) != Excuse::None
                };
                (*id, next.max(stream.base) + later.take_while(is_passed).count() as u64)
            })
        } else {
            let ours = Label::parse(text).filter(|label| label.run == self.run);
            ours.filter(|label| self.knows(label.stream)).map(|label| (label.stream, label.index))
        };
        self.foreign += u64::from(found.is_none());
        found
    }

    fn observed(
        &mut self,
        seat: u32,
        id: StreamId,
        index: u64,
        (seq, origin): (Seq, Seq),
        content: &Content,
        digest: &mut Digest,
    ) -> Option<Arrival> {
        let stream = self.stream(id);
        let (base, end) = (stream.base, stream.base + stream.flights.len() as u64);
        let Some(observer) = stream.observers.iter().find(|observer| observer.seat == seat) else {
            self.fault(id, index, &format!("came as entry {seq} to a device that it is not for"));
            return None;
        };
        let wanted = observer.next;
        let excuse = |index: u64| self.excuse(stream.flights[(index - base) as usize].kept, seat);
        if index < wanted.max(base) || index >= end || excuse(index) == Excuse::HasCome {
            let what = if index < end { "came twice or out of order" } else { "came before it was sent" };
            self.fault(id, index, &format!("{what}, as entry {seq}"));
            return None;
        }
        // What was left out and not superseded will not come any more; the run goes on with a fault.
        let left_out: Vec<u64> = (wanted.max(base)..index).filter(|at| excuse(*at) == Excuse::None).collect();
        let stream = self.stream_mut(id);
        stream.observers.iter_mut().filter(|observer| observer.seat == seat).for_each(|one| one.next = index + 1);
        left_out.iter().for_each(|at| stream.flights[(at - base) as usize].lacking -= 1);
        let flight = &mut stream.flights[(index - base) as usize];
        flight.lacking -= 1;
        let told = flight.seq;
        if told == Seq::ZERO {
            flight.seq = origin;
        }
        let Flight { intended_us, fingerprint: sent, kind, kept, .. } = *flight;
        let author = self.crew.member(self.stream(id).from).user;
        self.came(kept, seat, seq, origin);
        if let Some(first) = left_out.first() {
            let to = self.crew.member(seat);
            let words =
                format!("came to device {} of user {} as entry {seq}, but message {first}", to.device(), to.user);
            self.fault(id, index, &format!("{words} and {} more before it did not", left_out.len() - 1));
        }
        if told != Seq::ZERO && told != origin {
            self.fault(id, index, &format!("is seq {told} for its sender, but entry {seq} names {origin}"));
        }
        if (kind, sent) != (content.parts().0, fingerprint(content.parts().1)) {
            self.fault(id, index, &format!("came as entry {seq} with another text than was sent"));
        }
        digest.add(Digest::mark(seq, MessageName { author, seq: origin }, kind, sent));
        self.settle(id);
        Some(Arrival { stream: id, intended_us })
    }

    /// A device got a change of a message, or its deletion, and not the message itself, which that superseded.
    pub(super) fn superseded(&mut self, id: StreamId, index: u64, seat: u32) {
        let stream = self.stream_mut(id);
        let is_observer = stream.observers.iter().any(|observer| observer.seat == seat);
        let flight = index.checked_sub(stream.base).and_then(|at| stream.flights.get_mut(at as usize));
        if let Some(flight) = flight.filter(|_| is_observer) {
            flight.lacking -= 1;
            self.settle(id);
        }
    }

    /// Names what never arrived or was never answered. For the end of a run.
    pub fn check_finished(&mut self) {
        let mut faults = std::mem::take(&mut self.faults);
        faults.append(self.groups.check_finished(self.within_s));
        self.keep.what_is_missing().chain(self.marks.what_is_missing()).for_each(|words| faults.add(words));
        for stream in self.streams.iter().filter(|stream| !stream.flights.is_empty()) {
            let sender = self.crew.member(stream.from);
            for (index, flight) in (stream.base..).zip(&stream.flights) {
                let accepted = match (flight.is_accepted, flight.seq) {
                    (true, seq) => format!("accepted as {seq}"),
                    (false, _) => "never answered".to_owned(),
                };
                let lacks = |observer: &&Observer| match flight.kept {
                    Some(_) => self.excuse(flight.kept, observer.seat) != Excuse::HasCome,
                    None => observer.next <= index,
                };
                let lacking = stream.observers.iter().filter(lacks).map(|observer| {
                    let member = self.crew.member(observer.seat);
                    format!("user {} device {}", member.user, member.device())
                });
                let lacking = lacking.collect::<Vec<_>>().join(", ");
                let lacking = if lacking.is_empty() { String::new() } else { format!(", never reached {lacking}") };
                let (from, device, to) = (sender.user, sender.device(), stream.to);
                faults.add(format!("message {index} of user {from} device {device} to user {to}: {accepted}{lacking}"));
            }
        }
        self.faults = faults;
    }

    /// The messages of a trace from one user to another, and where the last one was kept.
    pub(super) fn last_of(&self, from: UserId, to: UserId) -> Option<(StreamId, u32)> {
        let id = *self.between.get(&(from, to))?;
        Some((id, self.stream(id).last_kept?))
    }

    /// Forgets what everybody has.
    fn settle(&mut self, id: StreamId) {
        let stream = self.stream_mut(id);
        let mut settled = 0;
        while let Some(flight) = stream.flights.front().filter(|flight| flight.is_accepted && flight.lacking == 0) {
            stream.last_seq = flight.seq;
            stream.flights.pop_front();
            stream.base += 1;
            settled += 1;
        }
        // A stream that is quiet owns no memory beyond itself.
        if stream.flights.is_empty() && stream.flights.capacity() > 16 {
            stream.flights = VecDeque::new();
        }
        self.under_way -= settled;
    }

    pub(super) fn fault(&mut self, id: StreamId, index: u64, what: &str) {
        let stream = self.stream(id);
        let (sender, to) = (self.crew.member(stream.from), stream.to);
        let (user, device) = (sender.user, sender.device());
        self.faults.add(format!("message {index} of user {user} device {device} to user {to} {what}"));
    }

    fn knows(&self, id: StreamId) -> bool {
        id.0 >> STREAM_BITS == self.lane && ((id.0 & ((1 << STREAM_BITS) - 1)) as usize) < self.streams.len()
    }

    pub(super) fn stream(&self, id: StreamId) -> &Stream {
        debug_assert!(self.knows(id), "streams are made here");
        &self.streams[(id.0 & ((1 << STREAM_BITS) - 1)) as usize]
    }

    fn stream_mut(&mut self, id: StreamId) -> &mut Stream {
        &mut self.streams[(id.0 & ((1 << STREAM_BITS) - 1)) as usize]
    }
}

#[cfg(test)]
mod tests;
