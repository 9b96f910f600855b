//! The list of a user's conversations, kept right by what is pushed (SPEC 8.6).
//!
//! Pages of the inbox are laid under the entries of the log: each row knows up to where it says what the log says, and takes the entries
//! above that.

use proto_spec::{ConversationId, Entry, Event, Inbox, InboxRow, Seq, limits::UNREAD_MAX};

/// See the head of this file. Begins with nothing known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversations {
    /// By descending seq of the last message.
    rows: Vec<Row>,
    /// The oldest conversation is among them.
    is_whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    row: InboxRow,
    /// The row says what the log says up to here.
    at: Seq,
}

/// An entry was of a conversation that is not known: ask for the newest page of the inbox, where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKnown;

impl Conversations {
    /// The conversations that are known, from the one with the newest message on.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &InboxRow> {
        self.rows.iter().map(|row| &row.row)
    }

    /// The seq to ask for the next page with, unless the oldest conversation is known.
    #[must_use]
    pub fn older(&self) -> Option<Seq> {
        self.rows.last().filter(|_| !self.is_whole).map(|row| row.row.last.seq)
    }

    /// Takes a page, as it came on the connection. What was pushed before it is in it.
    pub fn page(&mut self, inbox: Inbox) {
        let Inbox { at, more, rows, .. } = inbox;
        let oldest = rows.last().map(|row| row.last.seq);
        for row in rows {
            self.rows.retain(|known| known.row.conversation != row.conversation);
            self.rows.push(Row { row, at });
        }
        self.sort();
        // Only the page that reaches furthest knows whether there are more.
        if self.rows.last().map(|row| row.row.last.seq) == oldest {
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
            Event::Read { conversation, .. } | Event::Settings { conversation, .. } => *conversation,
            event => match event.conversation() {
                Some(conversation) => conversation,
                None => return Ok(()),
            },
        };
        let known = self.rows.iter_mut().find(|row| row.row.conversation == conversation);
        let is_message = entry.event.conversation().is_some();
        let Some(Row { row, at }) = known else { return if is_message { Err(NotKnown) } else { Ok(()) } };
        if entry.seq <= *at {
            return Ok(());
        }
        *at = entry.seq;
        match &entry.event {
            Event::Received { .. } => row.unread = (row.unread + 1).min(UNREAD_MAX + 1),
            Event::Delivered { up_to, .. } => row.delivered_up_to = *up_to,
            Event::Seen { up_to, .. } => row.seen_up_to = *up_to,
            Event::Read { up_to, unread, .. } => (row.read_up_to, row.unread) = (*up_to, *unread),
            Event::Settings { settings, .. } => row.settings = *settings,
            _ => {}
        }
        if is_message {
            (row.last, row.left_out) = (entry.clone(), 0);
            self.sort();
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.rows.sort_by_key(|row| std::cmp::Reverse(row.row.last.seq));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_spec::{Content, DeviceId, RequestId, SendNumber, Settings, TimestampMs, UserId};

    use super::*;

    /// A log as a server may make it, of so many conversations.
    fn log() -> impl Strategy<Value = Vec<Entry>> {
        prop::collection::vec((0..7u8, 1..5u64, 0..4u64), 0..60).prop_map(|steps| {
            let mut unread = std::collections::BTreeMap::<u64, u64>::new();
            let entries = (1..).zip(steps).map(|(seq, (kind, peer, some))| {
                let (user, content) = (UserId(peer), Content::text("hello"));
                let count = unread.entry(peer).or_default();
                let event = match kind {
                    0 | 1 => {
                        *count += 1;
                        Event::Received { from: user, origin: Seq(seq), content }
                    }
                    2 => Event::Sent { to: user.into(), device: DeviceId(1), number: SendNumber(seq), content },
                    3 => Event::Delivered { peer: user, up_to: Seq(some) },
                    4 => Event::Seen { peer: user, up_to: Seq(some) },
                    5 => {
                        *count = (*count).min(some);
                        Event::Read { conversation: user.into(), up_to: Seq(seq), unread: *count, told: Seq(0) }
                    }
                    _ => Event::Settings { conversation: user.into(), settings: Settings::from_bits(some) },
                };
                Entry { seq: Seq(seq), time: TimestampMs(seq), event }
            });
            entries.collect()
        })
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
        for entry in log {
            let about = match &entry.event {
                Event::Delivered { peer, .. } | Event::Seen { peer, .. } => (*peer).into(),
                Event::Read { conversation, .. } | Event::Settings { conversation, .. } => *conversation,
                event => event.conversation().unwrap(),
            };
            let at = rows.iter().position(|row| row.conversation == about).unwrap_or_else(|| {
                rows.push(new(about, entry));
                rows.len() - 1
            });
            let row = &mut rows[at];
            match &entry.event {
                Event::Received { .. } => (row.unread, row.last) = (row.unread + 1, entry.clone()),
                Event::Sent { .. } => row.last = entry.clone(),
                Event::Delivered { up_to, .. } => row.delivered_up_to = *up_to,
                Event::Seen { up_to, .. } => row.seen_up_to = *up_to,
                Event::Read { up_to, unread, .. } => (row.read_up_to, row.unread) = (*up_to, *unread),
                Event::Settings { settings, .. } => row.settings = *settings,
                _ => {}
            }
        }
        rows.retain(|row| row.last.seq > Seq::ZERO && row.last.seq < before);
        rows.sort_by_key(|row| std::cmp::Reverse(row.last.seq));
        let more = rows.len() > limit;
        rows.truncate(limit);
        Inbox { request: RequestId(1), at: log.last().map_or(Seq::ZERO, |entry| entry.seq), more, rows }
    }

    const ALL: Seq = Seq(u64::MAX);

    proptest! {
        /// A snapshot and the rest are what the whole log is, wherever the pages were asked for.
        #[test]
        fn pages_and_what_is_pushed_make_the_list_of_the_whole_log(
            log in log(), first in 0..60usize, second in 0..60usize, limit in 1..5usize
        ) {
            let (first, second) = (first.min(log.len()), second.min(log.len()));
            let (first, second) = (first.min(second), first.max(second));
            let mut list = Conversations::default();
            list.page(inbox(&log[..first], ALL, limit));
            let older = list.older();
            for (at, entry) in log.iter().enumerate().skip(first) {
                if at == second && let Some(before) = older {
                    list.page(inbox(&log[..at], before, 10));
                }
                if list.entry(entry).is_err() {
                    // Asked again, it is the first one.
                    list.page(inbox(&log[..=at], ALL, 1));
                }
            }
            let wanted = inbox(&log, ALL, usize::MAX).rows;
            let known: Vec<_> = list.iter().cloned().collect();
            let wanted: Vec<_> = wanted.into_iter().filter(|row| {
                // One that is in no page and got no message is not known.
                known.iter().any(|known| known.conversation == row.conversation) || list.older().is_none()
            }).collect();
            prop_assert_eq!(known, wanted);
        }
    }
}
