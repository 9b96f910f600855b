//! What a message of a run carries, and whether its journey was right.
//!
//! A text begins with `run from index sent_at_us` and is filled up to the wanted size. So each message names itself, its
//! place among those of its sender, and when it left; and what earlier runs left in a log can be told apart.

use std::collections::BTreeMap;

use client::{Entry, Event, Seq, UserId};

/// One message as its text tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) run: u64,
    pub(crate) from: UserId,
    /// 0, 1, 2, ... among the messages of one sender to one recipient.
    pub(crate) index: u64,
    pub(crate) sent_at_us: u64,
}

/// Room for the four numbers of the longest label.
pub(crate) const TEXT_BYTES_MIN: usize = 84;

impl Label {
    pub(crate) fn text(&self, bytes: usize) -> String {
        let Self { run, from, index, sent_at_us } = self;
        format!("{:x<bytes$}", format!("{run} {from} {index} {sent_at_us} "))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(5, ' ').map(|word| word.parse::<u64>().ok());
        let mut next = || words.next().flatten();
        Some(Self { run: next()?, from: UserId(next()?), index: next()?, sent_at_us: next()? })
    }
}

/// What one user sent to one other and has heard of it, and what came back.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) run: u64,
    pub(crate) user: UserId,
    pub(crate) peer: UserId,
    /// Where the user's log stood before the run.
    pub(crate) start: Seq,
    /// Seqs under which own messages were accepted, by index. Answers may overtake each other after a reconnect (SPEC
    /// 2), so their order in time says nothing; that of the seqs does.
    pub(crate) accepted: BTreeMap<u64, Seq>,
    /// Item i is message i of the peer. Seqs of the entries of the peer's messages, with the seq in the peer's log that they name.
    pub(crate) received: Vec<(Seq, Seq)>,
    last_seq: Seq,
    pub(crate) faults: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(run: u64, user: UserId, peer: UserId, start: Seq) -> Self {
        Self {
            run,
            user,
            peer,
            start,
            accepted: BTreeMap::new(),
            received: Vec::new(),
            last_seq: start,
            faults: Vec::new(),
        }
    }

    /// Own message `index` was accepted.
    pub(crate) fn accept(&mut self, index: u64, seq: Seq) {
        if let Some(before) = self.accepted.insert(index, seq) {
            self.fault(format!("message {index} was accepted as {seq} after it was accepted as {before}"));
        }
    }

    /// An entry of the user's log came in. Returns the label of a message of the peer in this run.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Option<Label> {
        if entry.seq <= self.last_seq {
            self.fault(format!("entry {} came after entry {}", entry.seq, self.last_seq));
        }
        self.last_seq = entry.seq;
        let Event::Received { from, origin, content } = &entry.event else { return None };
        let label = Label::parse(content.as_text()?).filter(|label| label.run == self.run)?;
        if *from != self.peer || label.from != self.peer {
            self.fault(format!("entry {} of user {from} says it is from user {}", entry.seq, label.from));
            return None;
        }
        let wanted = self.received.len() as u64;
        if label.index != wanted {
            let what = if label.index < wanted { "twice or out of order" } else { "with others missing before it" };
            self.fault(format!("message {} of user {from} came {what} as entry {}", label.index, entry.seq));
        }
        self.received.push((entry.seq, *origin));
        Some(label)
    }

    /// Compares what was accepted here with what arrived at the other end.
    pub(crate) fn check_against(&mut self, peer: &Self) {
        let mut last = Seq::ZERO;
        for (&index, seq) in &self.accepted {
            if *seq <= last {
                self.faults.push(format!("user {}: message {index} was accepted as {seq}, below {last}", self.user));
            }
            last = *seq;
            match peer.received.get(index as usize) {
                Some((_, origin)) if origin == seq => {}
                Some((at, origin)) => self.faults.push(format!(
                    "user {}: message {index} was accepted as {seq}, but entry {at} of user {} names {origin}",
                    self.user, self.peer
                )),
                None => self.faults.push(format!(
                    "user {}: message {index}, accepted as {seq}, never reached user {}",
                    self.user, self.peer
                )),
            }
        }
    }

    /// Compares the history, read back from `start` on, with what was accepted and received.
    pub(crate) fn check_history(&mut self, history: &[Entry]) {
        let mut wanted: BTreeMap<Seq, (UserId, u64)> = BTreeMap::new();
        for (&index, seq) in &self.accepted {
            wanted.insert(*seq, (self.user, index));
        }
        for (index, (seq, _)) in self.received.iter().enumerate() {
            wanted.insert(*seq, (self.peer, index as u64));
        }
        let mut last = Seq::ZERO;
        for entry in history {
            if entry.seq <= last {
                self.fault(format!("the history has entry {} after entry {last}", entry.seq));
            }
            last = entry.seq;
            let (Event::Received { content, .. } | Event::Sent { content, .. }) = &entry.event else { continue };
            let Some(label) = content.as_text().and_then(Label::parse).filter(|label| label.run == self.run) else {
                continue;
            };
            match wanted.remove(&entry.seq) {
                Some((from, index)) if (from, index) == (label.from, label.index) => {}
                Some((from, index)) => self.fault(format!(
                    "entry {} of the history is message {} of user {}, not message {index} of user {from}",
                    entry.seq, label.index, label.from
                )),
                None => self.fault(format!(
                    "the history has message {} of user {} as entry {}, which nobody was told",
                    label.index, label.from, entry.seq
                )),
            }
        }
        for (seq, (from, index)) in wanted {
            self.fault(format!("the history lacks entry {seq}, message {index} of user {from}"));
        }
    }

    pub(crate) fn fault(&mut self, what: String) {
        self.faults.push(format!("user {}: {what}", self.user));
    }
}

#[cfg(test)]
mod tests {
    use client::{Content, DeviceId, SendNumber, TimestampMs};

    use super::*;

    fn received(seq: u64, index: u64) -> Entry {
        let text = Label { run: 5, from: UserId(8), index, sent_at_us: 0 }.text(100);
        let event = Event::Received { from: UserId(8), origin: Seq(index + 1), content: Content::text(&text) };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    fn sent(seq: u64, index: u64) -> Entry {
        let text = Label { run: 5, from: UserId(7), index, sent_at_us: 0 }.text(100);
        let (to, device, number) = (UserId(8), DeviceId(1), SendNumber(index + 1));
        let event = Event::Sent { to, device, number, content: Content::text(&text) };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    fn ledger(entries: &[Entry]) -> Ledger {
        let mut ledger = Ledger::new(5, UserId(7), UserId(8), Seq::ZERO);
        entries.iter().for_each(|entry| {
            ledger.entry(entry);
        });
        ledger
    }

    #[test]
    fn labels_survive_the_text_and_fit_the_smallest() {
        let label = Label { run: u64::MAX, from: UserId(u64::MAX), index: u64::MAX, sent_at_us: u64::MAX };
        assert_eq!(Label::parse(&label.text(TEXT_BYTES_MIN)), Some(label));
        assert_eq!(label.text(TEXT_BYTES_MIN).len(), TEXT_BYTES_MIN);
        assert_eq!(Label::parse("hello there"), None);
    }

    #[test]
    fn order_is_no_fault_and_anything_else_is() {
        assert!(ledger(&[received(1, 0), received(2, 1)]).faults.is_empty());
        assert_eq!(ledger(&[received(1, 0), received(2, 0)]).faults.len(), 1, "twice");
        assert_eq!(ledger(&[received(1, 0), received(2, 2)]).faults.len(), 1, "a hole");
        assert_eq!(ledger(&[received(2, 0), received(1, 1)]).faults.len(), 1, "disorder of seqs");
    }

    #[test]
    fn what_never_arrived_is_named() {
        let mut sender = Ledger::new(5, UserId(7), UserId(8), Seq::ZERO);
        sender.accept(0, Seq(1));
        sender.accept(1, Seq(2));
        let mut receiver = Ledger::new(5, UserId(8), UserId(7), Seq::ZERO);
        receiver.received.push((Seq(1), Seq(1)));
        sender.check_against(&receiver);
        assert_eq!(sender.faults, ["user 7: message 1, accepted as 2, never reached user 8"]);
    }

    #[test]
    fn answers_may_overtake_each_other_but_seqs_must_ascend() {
        let check = |seqs: [u64; 2]| {
            let mut sender = Ledger::new(5, UserId(7), UserId(8), Seq::ZERO);
            sender.accept(1, Seq(seqs[1]));
            sender.accept(0, Seq(seqs[0]));
            let mut receiver = Ledger::new(5, UserId(8), UserId(7), Seq::ZERO);
            receiver.received = vec![(Seq(1), Seq(seqs[0])), (Seq(2), Seq(seqs[1]))];
            sender.check_against(&receiver);
            sender.faults.len()
        };
        assert_eq!((check([3, 4]), check([4, 3])), (0, 1));
    }

    #[test]
    fn a_history_must_hold_exactly_what_was_told() {
        let check = |history: &[Entry]| {
            let mut ledger = ledger(&[received(2, 0)]);
            ledger.accept(0, Seq(1));
            ledger.check_history(history);
            ledger.faults.len()
        };
        assert_eq!(check(&[sent(1, 0), received(2, 0)]), 0);
        assert_eq!(check(&[sent(1, 0)]), 1, "lacking");
        assert_eq!(check(&[sent(1, 0), received(2, 0), received(3, 1)]), 1, "too much");
        assert_eq!(check(&[sent(1, 1), received(2, 0)]), 1, "another message");
    }
}
