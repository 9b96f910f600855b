//! The list of a user's conversations, kept right by what is pushed (SPEC 8.6).
//!
//! Pages of the inbox are laid under the entries of the log: each row knows up to where it says what the log says, and takes the entries
//! above that.

use proto_spec::{Content, ConversationId, Entry, Event, Inbox, InboxRow, Seq, limits::UNREAD_MAX};

/// See the head of this file. Begins with nothing known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversations {
    /// By where the last message stands, the newest first.
    rows: Vec<Row>,
    /// Conversations whose last message stands here or later have been in a page. None: there was no page yet.
    reached: Option<Seq>,
    /// The oldest conversation is among them.
    is_whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    row: InboxRow,
    /// The row says what the log says up to here.
    at: Seq,
    /// What was received up to here is counted by a page of the inbox or by a read mark, as it was then.
    counted_up_to: Seq,
    /// Where the messages stand that were counted one by one since then. As long as they are not "many".
    counted: Vec<Seq>,
}

/// An entry was of a conversation that is not known. It is the first one of the page of the inbox before this place, unless more of it
/// follows, of which the same will be said. If its last message was deleted, it may stand further behind, where [`Conversations::older`]
/// comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKnown {
    /// Ask for the page before this.
    pub before: Seq,
}

impl Conversations {
    /// The conversations that are known, from the one with the newest message on.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &InboxRow> {
        self.rows.iter().map(|row| &row.row)
    }

    /// Where to ask for the next page, unless the oldest conversation is known.
    #[must_use]
    pub fn older(&self) -> Option<Seq> {
        self.reached.filter(|_| !self.is_whole)
    }

    /// Takes the page before a place, as it was asked for and came on the connection. What was pushed before it is in it.
    pub fn page(&mut self, before: Seq, inbox: Inbox) {
        let Inbox { at, more, rows, .. } = inbox;
        let oldest = rows.last().and_then(|row| row.last.place());
        for row in rows {
            self.rows.retain(|known| known.row.conversation != row.conversation);
            self.rows.push(Row { row, at, counted_up_to: at, counted: Vec::new() });
        }
        self.sort();
        // Only the page that reaches furthest knows whether there are more, and it must leave no gap.
        let joins = before == Seq::ZERO || self.reached.is_none_or(|reached| before >= reached);
        if joins && oldest.is_none_or(|oldest| self.reached.is_none_or(|reached| oldest <= reached)) {
            self.reached = oldest.or(self.reached).or(Some(at));
            self.is_whole = !more;
        }
    }

    /// Takes an entry of the log, in its order.
    ///
    /// # Errors
    /// It is a message of a conversation that was in no page. How that is kept, for instance, may have been said long ago.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), NotKnown> {
        let conversation = match &entry.event {
            Event::Delivered { peer, .. } | Event::Seen { peer, .. } => ConversationId::Person(*peer),
            Event::Read { conversation, .. }
            | Event::Settings { conversation, .. }
            | Event::Deleted { conversation, .. } => *conversation,
            event => match event.conversation() {
                Some(conversation) => conversation,
                None => return Ok(()),
            },
        };
        if let Event::Deleted { place, .. } = entry.event
            && self.rows.iter().any(|row| row.row.conversation == conversation && row.place() == Some(place))
        {
            // What was written before it is the last message now, if anything was: it stands anywhere below.
            self.rows.retain(|row| row.row.conversation != conversation);
            (self.reached, self.is_whole) = (self.reached.max(Some(place)), false);
            return Err(NotKnown { before: place });
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.row.conversation == conversation) {
            if entry.seq > row.at && row.take(entry) {
                self.sort();
            }
            return Ok(());
        }
        // What is said of an old message changes nothing for who has not looked so far back.
        match entry.place() {
            Some(place) if self.older().is_none_or(|oldest| place > oldest) => Err(NotKnown { before: place.next() }),
            Some(_) | None => Ok(()),
        }
    }

    fn sort(&mut self) {
        self.rows.sort_by_key(|row| std::cmp::Reverse(row.place()));
    }
}

impl Row {
    /// Where the last message stands.
    fn place(&self) -> Option<Seq> {
        self.row.last.place()
    }

    /// Takes the next entry of the conversation. Whether the last message is another one now, or says something else.
    fn take(&mut self, entry: &Entry) -> bool {
        self.at = entry.seq;
        let row = &mut self.row;
        match &entry.event {
            Event::Received { content, .. } => self.count(entry.place(), matches!(content, Content::Unsend(_))),
            Event::Delivered { up_to, .. } => row.delivered_up_to = *up_to,
            Event::Seen { up_to, .. } => row.seen_up_to = *up_to,
            Event::Read { up_to, unread, .. } => {
                (row.read_up_to, row.unread) = (*up_to, *unread);
                self.counted_up_to = entry.seq;
                self.counted.clear();
            }
            Event::Deleted { unread, .. } => {
                row.unread = *unread;
                self.counted_up_to = entry.seq;
                self.counted.clear();
            }
            Event::Settings { settings, .. } => row.settings = *settings,
            _ => {}
        }
        let is_last = entry.place().is_some() && entry.place() >= self.place();
        if is_last {
            (self.row.last, self.row.left_out) = (entry.clone(), 0);
        }
        is_last
    }

    /// A message was received, or changed. One that was changed before it was pushed comes as its change alone, and is counted then.
    fn count(&mut self, place: Option<Seq>, is_taken_back: bool) {
        let Some(place) = place.filter(|place| *place > self.row.read_up_to) else { return };
        if self.row.unread > UNREAD_MAX {
            // Whether it is one of them, and how many are left, only the next read mark or page can tell.
            return self.counted.clear();
        }
        let counted = self.counted.binary_search(&place);
        let is_counted = place <= self.counted_up_to || counted.is_ok();
        match (is_taken_back, is_counted) {
            (true, true) => self.row.unread = self.row.unread.saturating_sub(1),
            (false, false) => {
                self.row.unread += 1;
                self.counted.insert(counted.unwrap_or_else(|at| at), place);
            }
            (true, false) | (false, true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use proto_spec::{DeviceId, MessageName, RequestId, SendNumber, Settings, Stands, TimestampMs, UserId};

    use super::*;

    /// A log as a server may make it, of so many conversations; nothing is taken out of it yet.
    fn log() -> impl Strategy<Value = Vec<Entry>> {
        prop::collection::vec((0..11u8, 1..5u64, 0..4u64), 0..60).prop_map(|steps| {
            // Of each conversation where the messages stand that can be changed, and what is unread.
            let mut messages = BTreeMap::<u64, Vec<(Seq, bool)>>::new();
            let mut unread = BTreeMap::<u64, BTreeSet<Seq>>::new();
            let mut read = BTreeMap::<u64, Seq>::new();
            let mut log: Vec<Entry> = Vec::new();
            for (kind, peer, some) in steps {
                let seq = Seq(log.len() as u64 + 1);
                let (user, content) = (UserId(peer), Content::text("hello"));
                let (messages, unread) = (messages.entry(peer).or_default(), unread.entry(peer).or_default());
                let event = match kind {
                    0 | 1 => {
                        messages.push((seq, true));
                        unread.insert(seq);
                        Event::Received { from: user, origin: seq, content }
                    }
                    2 => {
                        messages.push((seq, false));
                        Event::Sent { to: user.into(), device: DeviceId(1), number: SendNumber(seq.0), content }
                    }
                    3 => Event::Delivered { peer: user, up_to: Seq(some) },
                    4 => Event::Seen { peer: user, up_to: Seq(some) },
                    5 => {
                        let up_to = Seq(seq.0.saturating_sub(some * some));
                        if up_to
                            <= read
                                .insert(peer, up_to.max(read.get(&peer).copied().unwrap_or_default()))
                                .unwrap_or_default()
                        {
                            continue;
                        }
                        unread.retain(|place| *place > up_to);
                        let unread = unread.len() as u64;
                        Event::Read { conversation: user.into(), up_to, unread, told: Seq(0) }
                    }
                    6 => Event::Settings { conversation: user.into(), settings: Settings::from_bits(some) },
                    _ => {
                        let Some(at) = messages.len().checked_sub(1 + some as usize) else { continue };
                        let (place, is_received) = messages[at];
                        let (of, stands) = (
                            MessageName { author: user, seq: place },
                            Some(Stands { place, time: TimestampMs(place.0) }),
                        );
                        if kind == 10 {
                            messages.remove(at);
                            unread.remove(&place);
                            let unread = unread.len() as u64;
                            let event = Event::Deleted { conversation: user.into(), of, place, unread };
                            log.push(Entry { seq, time: TimestampMs(seq.0), event });
                            continue;
                        }
                        let content = if kind == 9 {
                            messages.remove(at);
                            unread.remove(&place);
                            Content::unsend(of, stands)
                        } else {
                            Content::edit(of, &Content::text("another"), stands)
                        };
                        match is_received {
                            true => Event::Received { from: user, origin: seq, content },
                            false => {
                                Event::Sent { to: user.into(), device: DeviceId(1), number: SendNumber(seq.0), content }
                            }
                        }
                    }
                };
                log.push(Entry { seq, time: TimestampMs(seq.0), event });
            }
            log
        })
    }

    /// What is left of a log: of each message the last that was said of it, if only that it is gone, and of each mark the last.
    fn kept(log: &[Entry]) -> Vec<Entry> {
        let mut last = BTreeMap::new();
        for entry in log {
            let what = match &entry.event {
                Event::Delivered { peer, .. } => (1, peer.0),
                Event::Seen { peer, .. } => (2, peer.0),
                Event::Read { conversation: ConversationId::Person(peer), .. } => (3, peer.0),
                Event::Settings { conversation: ConversationId::Person(peer), .. } => (4, peer.0),
                Event::Deleted { place, .. } => (0, place.0),
                _ => (0, entry.place().unwrap().0),
            };
            last.insert(what, entry.seq);
        }
        log.iter().filter(|entry| last.values().any(|seq| *seq == entry.seq)).cloned().collect()
    }

    /// A conversation of which nothing has been said yet.
    fn new(conversation: ConversationId, first: &Entry) -> InboxRow {
        InboxRow {
            conversation,
            settings: Settings::default(),
            unread: 0,
            read_up_to: Seq::ZERO,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
            left_out: 0,
            last: Entry { seq: Seq::ZERO, ..first.clone() },
        }
    }

    /// What a server answers when its log ends there.
    fn inbox(log: &[Entry], before: Seq, limit: usize) -> Inbox {
        let mut rows: Vec<InboxRow> = Vec::new();
        for (at, entry) in log.iter().enumerate() {
            let about = match &entry.event {
                Event::Delivered { peer, .. } | Event::Seen { peer, .. } => (*peer).into(),
                Event::Read { conversation, .. }
                | Event::Settings { conversation, .. }
                | Event::Deleted { conversation, .. } => *conversation,
                event => event.conversation().unwrap(),
            };
            let known = rows.iter().position(|row| row.conversation == about).unwrap_or_else(|| {
                rows.push(new(about, entry));
                rows.len() - 1
            });
            let row = &mut rows[known];
            if entry.place() >= row.last.place().max(Some(Seq(1))) {
                row.last = entry.clone();
            }
            let is_new = entry.place() == Some(entry.seq);
            match &entry.event {
                Event::Received { content: Content::Unsend(_), .. } => {
                    row.unread -= u64::from(entry.place() > Some(row.read_up_to));
                }
                Event::Received { .. } => row.unread += u64::from(is_new),
                Event::Delivered { up_to, .. } => row.delivered_up_to = *up_to,
                Event::Seen { up_to, .. } => row.seen_up_to = *up_to,
                Event::Read { up_to, unread, .. } => (row.read_up_to, row.unread) = (*up_to, *unread),
                Event::Settings { settings, .. } => row.settings = *settings,
                Event::Deleted { place, unread, .. } => {
                    row.unread = *unread;
                    if row.last.place() == Some(*place) {
                        let gone = log[..=at].iter().filter_map(|entry| match entry.event {
                            Event::Deleted { place, .. } => Some(place),
                            _ => None,
                        });
                        let gone: BTreeSet<Seq> = gone.collect();
                        let left = log[..at].iter().filter(|entry| {
                            entry.event.conversation() == Some(about)
                                && entry.place().is_some_and(|place| !gone.contains(&place))
                        });
                        let last = left.max_by_key(|entry| (entry.place(), entry.seq));
                        row.last = last.unwrap_or(&new(about, entry).last).clone();
                    }
                }
                _ => {}
            }
        }
        let place = |row: &InboxRow| row.last.place();
        rows.retain(|row| place(row).is_some_and(|place| place > Seq::ZERO && place < before));
        rows.sort_by_key(|row| std::cmp::Reverse(place(row)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        Inbox { request: RequestId(1), at: log.last().map_or(Seq::ZERO, |entry| entry.seq), more, rows }
    }

    const ALL: Seq = Seq(u64::MAX);

    fn check(list: &Conversations, log: &[Entry]) {
        // Those below the last one that is known have not been asked for.
        let is_reached = |row: &InboxRow| list.older().is_none_or(|oldest| row.last.place() >= Some(oldest));
        let all = inbox(log, ALL, usize::MAX).rows;
        let known: Vec<_> = list.iter().filter(|row| is_reached(row)).cloned().collect();
        let wanted: Vec<_> = all.iter().filter(|row| is_reached(row)).cloned().collect();
        assert_eq!(known, wanted);
        // What was known and was reached once says what the log says too.
        list.iter().for_each(|row| assert!(all.contains(row), "{row:?}"));
    }

    proptest! {
        /// Pages and the rest are what the whole log is, wherever the pages were asked for.
        #[test]
        fn pages_and_what_is_pushed_make_the_list_of_the_whole_log(
            log in log(), first in 0..60usize, second in 0..60usize, limit in 1..5usize
        ) {
            let (first, second) = (first.min(log.len()), second.min(log.len()));
            let (first, second) = (first.min(second), first.max(second));
            let mut list = Conversations::default();
            list.page(Seq::ZERO, inbox(&log[..first], ALL, limit));
            let older = list.older();
            for (at, entry) in log.iter().enumerate().skip(first) {
                if at == second && let Some(before) = older {
                    list.page(before, inbox(&log[..at], before, 10));
                }
                if let Err(NotKnown { before }) = list.entry(entry) {
                    list.page(before, inbox(&log[..=at], before, 1));
                }
            }
            check(&list, &log);
        }

        /// The same for a device that was away: what was changed meanwhile comes as its change alone.
        #[test]
        fn what_is_left_of_a_log_makes_the_list_of_the_whole_log(
            log in log(), first in 0..60usize, late in 0..5usize, limit in 1..5usize
        ) {
            let first = first.min(log.len());
            let mut list = Conversations::default();
            list.page(Seq::ZERO, inbox(&log[..first], ALL, limit));
            let mut answers = std::collections::VecDeque::new();
            for entry in kept(&log).iter().filter(|entry| entry.seq.0 > first as u64) {
                if let Err(NotKnown { before }) = list.entry(entry) {
                    answers.push_back((before, inbox(&log, before, 1)));
                }
                if answers.len() > late {
                    answers.pop_front().into_iter().for_each(|(before, inbox)| list.page(before, inbox));
                }
            }
            answers.into_iter().for_each(|(before, inbox)| list.page(before, inbox));
            check(&list, &log);
        }
    }

    #[test]
    fn an_edit_is_no_new_message_and_what_is_taken_back_is_not_unread() {
        let (peer, stands) = (UserId(1), Some(Stands { place: Seq(1), time: TimestampMs(1) }));
        let of = MessageName { author: peer, seq: Seq(7) };
        let entry = |seq, content| {
            let event = Event::Received { from: peer, origin: Seq(seq + 6), content };
            Entry { seq: Seq(seq), time: TimestampMs(1), event }
        };
        let first = entry(1, Content::text("first"));
        let mut list = Conversations::default();
        list.page(Seq::ZERO, inbox(std::slice::from_ref(&first), ALL, 9));
        let shown = |list: &Conversations| list.iter().map(|row| (row.unread, row.last.seq.0)).collect::<Vec<_>>();
        assert_eq!(shown(&list), [(1, 1)]);
        list.entry(&entry(2, Content::text("second"))).unwrap();
        list.entry(&entry(3, Content::edit(of, &Content::text("1st"), stands))).unwrap();
        assert_eq!(shown(&list), [(2, 2)], "the last one says what it said");
        list.entry(&entry(4, Content::unsend(of, stands))).unwrap();
        assert_eq!(shown(&list), [(1, 2)]);
    }
}
