//! The history of a user, read back page by page, against what the user's device was told.

use proto_spec::{ConversationId, Direction, Entry, Event, MessageName, Seq, UserId};

use super::{
    Digest, Ledger, StreamId,
    changes::{deleted_mark, what_is_said},
    lists::Standings,
    marks::{read_mark, seen_mark},
    text::text_of,
};

/// One reading of everything since the start of the run.
#[derive(Debug)]
pub struct HistoryCheck {
    /// Whose: a seat of the crew.
    seat: u32,
    direction: Direction,
    /// The message that must come next, of each stream that the reading has met; going backwards, plus one.
    next: Vec<(StreamId, u64)>,
    /// Seq of the last entry; none before the first.
    last: Option<Seq>,
    digest: Digest,
    /// What the history says of each conversation.
    standings: Standings,
}

impl HistoryCheck {
    /// Nothing has been read.
    #[must_use]
    pub fn new(seat: u32, direction: Direction) -> Self {
        Self {
            seat,
            direction,
            next: Vec::new(),
            last: None,
            digest: Digest::default(),
            standings: Standings::default(),
        }
    }

    /// The entries of the next page, which are ascending whatever the direction.
    pub fn take(&mut self, ledger: &mut Ledger, entries: &[Entry]) {
        let me = ledger.crew().member(self.seat).user;
        for at in 0..entries.len() {
            let entry = match self.direction {
                Direction::Forwards => &entries[at],
                Direction::Backwards => &entries[entries.len() - 1 - at],
            };
            let is_right = self.last.is_none_or(|last| match self.direction {
                Direction::Forwards => last < entry.seq,
                Direction::Backwards => last > entry.seq,
            });
            if !is_right {
                let last = self.last.unwrap_or_default();
                let words = format!("user {me}: the history has entry {} after entry {last}", entry.seq);
                ledger.faults.add(words);
            }
            self.last = Some(entry.seq);
            let Some(mark) = self.mark(ledger, me, entry) else { continue };
            self.digest.add(mark);
            self.standings.take(entry, mark);
        }
    }

    /// What an entry adds to what its user was told; none if it is nothing of this run. A message must come in its turn.
    fn mark(&mut self, ledger: &mut Ledger, me: UserId, entry: &Entry) -> Option<u64> {
        let seq = entry.seq;
        let (from, to, origin, content) = match &entry.event {
            Event::Received { from, content, origin } => (*from, me, *origin, content),
            Event::Sent { to: ConversationId::Person(to), content, .. } => (me, *to, seq, content),
            _ if !ledger.changes_messages() => return None,
            Event::Read { conversation: ConversationId::Person(peer), up_to, unread, told } => {
                return Some(read_mark(seq, *peer, *up_to, *unread, *told));
            }
            Event::Seen { peer, up_to } => return Some(seen_mark(seq, *peer, *up_to)),
            Event::Deleted { conversation: ConversationId::Group(_), .. } => return None,
            Event::Deleted { of, unread, .. } => return Some(deleted_mark(seq, *of, *unread)),
            Event::Delivered { peer, up_to } => {
                self.standings.delivered(*peer, *up_to);
                return None;
            }
            Event::Sent { to: ConversationId::Group(_), .. }
            | Event::Read { conversation: ConversationId::Group(_), .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Devices { .. }
            | Event::Settings { .. }
            | Event::Visibility { .. }
            | Event::Unknown { .. } => return None,
        };
        let (kind, fingerprint) = what_is_said(content);
        if let Some((name, _)) = content.about() {
            return ledger.changes_messages().then(|| Digest::mark(seq, name, kind, fingerprint));
        }
        let (stream, index) = ledger.recognise((self.seat, origin), from, to, text_of(content))?;
        self.in_turn(ledger, entry, (stream, index), (from, to));
        Some(Digest::mark(seq, MessageName { author: from, seq: origin }, kind, fingerprint))
    }

    fn in_turn(
        &mut self,
        ledger: &mut Ledger,
        entry: &Entry,
        (stream, index): (StreamId, u64),
        (from, to): (UserId, UserId),
    ) {
        let me = ledger.crew().member(self.seat).user;
        let next = *self.next_of(ledger, stream);
        let wanted = match self.direction {
            Direction::Forwards => next,
            Direction::Backwards => next.saturating_sub(1),
        };
        // A trace has no labels: order, and with the digest the texts, say which message it is.
        let index = if ledger.has_labels() { index } else { wanted };
        let is_ahead = (index > wanted) == (self.direction == Direction::Forwards);
        // What was changed has left its place in the log.
        if index != wanted && !(is_ahead && ledger.changes_messages()) {
            let what = if is_ahead { "with others missing before it" } else { "again or out of order" };
            ledger.faults.add(format!(
                "user {me}: the history has message {index} of user {from} to user {to} {what}, as entry {}, where \
                 message {wanted} was due",
                entry.seq
            ));
        }
        *self.next_of(ledger, stream) = match self.direction {
            Direction::Forwards => index + 1,
            Direction::Backwards => index,
        };
    }

    /// Everything has been read: compares with what the device was told. Gives what the history says of each conversation.
    pub fn finish(self, ledger: &mut Ledger, told: &Digest) -> Standings {
        if self.digest == *told {
            return self.standings;
        }
        let me = ledger.crew().member(self.seat).user;
        let end = |stream| match self.direction {
            Direction::Forwards => ledger.sent(stream),
            Direction::Backwards => 0,
        };
        let lacking = self.next.iter().filter(|(stream, next)| *next != end(*stream) && !ledger.changes_messages());
        let lacking: Vec<String> = lacking
            .map(|(stream, next)| {
                let from = ledger.crew().member(ledger.sender(*stream)).user;
                let (to, sent) = (ledger.recipient(*stream), ledger.sent(*stream));
                format!("it ends before message {next} of {sent} of user {from} to user {to}")
            })
            .collect();
        let why = match (lacking.is_empty(), self.digest.count == told.count) {
            (false, _) => lacking.join("; "),
            (true, true) => "a seq or a text differs".to_owned(),
            (true, false) => "the numbers differ".to_owned(),
        };
        let (has, told) = (self.digest.count, told.count);
        ledger.faults.add(format!("user {me}: the history has {has} entries of this run, {told} were told: {why}"));
        self.standings
    }

    fn next_of(&mut self, ledger: &Ledger, stream: StreamId) -> &mut u64 {
        let at = self.next.iter().position(|(known, _)| *known == stream).unwrap_or_else(|| {
            let first = match self.direction {
                Direction::Forwards => 0,
                Direction::Backwards => ledger.sent(stream),
            };
            self.next.push((stream, first));
            self.next.len() - 1
        });
        &mut self.next[at].1
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{Content, DeviceId, SendNumber, TimestampMs, UserId};

    use super::*;
    use crate::verify::{Crew, Text, Written};

    const A: UserId = UserId(7);
    const B: UserId = UserId(8);

    /// User 7 has sent two messages to user 8 and got one; the entries of the history are as user 7 should see them.
    fn world() -> (Ledger, Digest, Vec<Entry>) {
        let mut crew = Crew::default();
        let (a, b) = (crew.add(A, 1), crew.add(B, 1));
        let mut ledger = Ledger::new(5, 0, crew, None);
        let (out, back) = (ledger.open(a, b), ledger.open(b, a));
        let (mut told, mut entries) = (Digest::default(), Vec::new());
        for (seq, stream) in [(1, out), (2, back), (4, out)] {
            let written = Written::text(Text::Made(30));
            let index = ledger.send(stream, 0, &written);
            let content = ledger.content(stream, index, &written);
            let event = if stream == out {
                ledger.accepted(stream, index, Seq(seq), &mut told);
                Event::Sent { to: B.into(), device: DeviceId(1), number: SendNumber(index + 1), content }
            } else {
                ledger.received(a, Seq(seq), B, Seq(1), &content, &mut told);
                Event::Received { from: B, origin: Seq(1), content }
            };
            entries.push(Entry { seq: Seq(seq), time: TimestampMs(1), event });
        }
        let event = Event::Delivered { peer: B, up_to: Seq(1) };
        entries.insert(2, Entry { seq: Seq(3), time: TimestampMs(1), event });
        (ledger, told, entries)
    }

    fn faults(change: impl FnOnce(&mut Vec<Entry>)) -> Vec<String> {
        faults_going(Direction::Forwards, change)
    }

    fn faults_going(direction: Direction, change: impl FnOnce(&mut Vec<Entry>)) -> Vec<String> {
        let (mut ledger, told, mut entries) = world();
        change(&mut entries);
        let mut check = HistoryCheck::new(0, direction);
        // Pages of two.
        match direction {
            Direction::Forwards => entries.chunks(2).for_each(|page| check.take(&mut ledger, page)),
            Direction::Backwards => entries.rchunks(2).for_each(|page| check.take(&mut ledger, page)),
        }
        check.finish(&mut ledger, &told);
        ledger.faults.kept().to_vec()
    }

    #[test]
    fn the_history_that_was_told_is_right() {
        assert_eq!(faults(|_| {}), [""; 0]);
        assert_eq!(faults_going(Direction::Backwards, |_| {}), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_found_going_backwards_too() {
        let backwards = |change: fn(&mut Vec<Entry>)| faults_going(Direction::Backwards, change)[0].clone();
        let first = backwards(|entries| drop(entries.remove(0)));
        assert!(first.contains("it ends before message 1 of 2 of user 7 to user 8"), "{first}");
        let last = backwards(|entries| drop(entries.pop()));
        assert!(last.contains("message 0 of user 7 to user 8 with others missing before it"), "{last}");
        let disorder = backwards(|entries| entries.swap(0, 1));
        assert!(disorder.contains("entry 2 after entry 1"), "{disorder}");
    }

    #[test]
    fn a_history_that_lacks_a_message_is_found() {
        let last = faults(|entries| drop(entries.pop()));
        assert!(last[0].contains("it ends before message 1 of 2 of user 7 to user 8"), "{last:?}");
        let first = faults(|entries| drop(entries.remove(0)));
        assert!(
            first[0].contains("message 1 of user 7 to user 8 with others missing before it, as entry 4"),
            "{first:?}"
        );
        let only = faults(|entries| drop(entries.remove(1)));
        assert!(only[0].contains("2 entries of this run, 3 were told"), "{only:?}");
    }

    #[test]
    fn a_history_with_a_message_twice_or_in_disorder_is_found() {
        let twice = faults(|entries| entries.push(Entry { seq: Seq(5), ..entries[0].clone() }));
        assert!(twice[0].contains("message 0 of user 7 to user 8 again or out of order, as entry 5"), "{twice:?}");
        let disorder = faults(|entries| entries.swap(0, 1));
        assert!(disorder[0].contains("entry 1 after entry 2"), "{disorder:?}");
    }

    #[test]
    fn a_history_with_another_seq_or_text_is_found() {
        let seq = faults(|entries| entries[3].seq = Seq(5));
        assert!(seq[0].contains("a seq or a text differs"), "{seq:?}");
        let text = faults(|entries| {
            let Event::Received { content, .. } = &mut entries[1].event else { panic!() };
            *content = Content::text(&content.as_text().unwrap().replace("quick", "quack"));
        });
        assert!(text[0].contains("a seq or a text differs"), "{text:?}");
    }

    #[test]
    fn other_runs_in_the_history_are_nothing() {
        let event = Event::Received { from: B, origin: Seq(9), content: Content::text("hello") };
        let foreign = Entry { seq: Seq(9), time: TimestampMs(1), event };
        assert_eq!(faults(|entries| entries.push(foreign)), [""; 0]);
    }
}
