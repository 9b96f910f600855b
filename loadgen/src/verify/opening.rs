//! What an app must show when it opens, of a user to whom nothing has happened but what the scenario `open` filled in: with the first
//! acquaintance both have written `first` messages each, and before that with each other one a message each. Pure.

use proto_spec::{
    ConversationId, Entry, Event, Inbox, Page, Seq, UserId,
    limits::{INBOX_ROWS_MAX, UNREAD_MAX},
};

use super::Label;
use crate::session::{Opened, Screen};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Acquaintances {
    /// Of the labels: [`RUN_BITS`](super::text::RUN_BITS) bits.
    pub run: u32,
    /// Messages that each of the two has written in the first conversation.
    pub first: u64,
    /// Who was written to, and has written; the first conversation is with the first one.
    pub peers: Vec<UserId>,
}

impl Acquaintances {
    /// Compares what came for a screen.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, screen: Screen, opened: &Opened) -> Result<(), String> {
        let Inbox { at, more, rows, .. } = &opened.inbox;
        let rows_max = (screen.rows.clamp(1, INBOX_ROWS_MAX) as usize).min(self.peers.len());
        if rows.len() != rows_max || *more != (self.peers.len() > rows_max) {
            return Err(format!("the inbox has {} of {} conversations, more: {more}", rows.len(), self.peers.len()));
        }
        let (mut before, mut seen) = (at.next(), Vec::with_capacity(rows_max));
        for row in rows {
            let ConversationId::Person(peer) = row.conversation else {
                return Err(format!("the inbox has group {}", row.conversation));
            };
            let place = row.last.place().unwrap_or_default();
            if !self.peers.contains(&peer) || seen.contains(&peer) || place >= before {
                return Err(format!("the inbox has user {peer} at {place}, behind {seen:?} and before {before}"));
            }
            (before, _) = (place, seen.push(peer));
            let written = if peer == self.peers[0] { self.first } else { 1 };
            if row.unread != written.min(UNREAD_MAX + 1) {
                return Err(format!("the inbox has {} messages of user {peer} unread, not {written}", row.unread));
            }
            if self.message(peer, &row.last)?.1 + 1 != written {
                return Err(format!("the inbox has the last message of user {peer} at {place}, which is not the last"));
            }
        }
        match (seen.first(), screen.messages, &opened.page) {
            (Some(first), _, _) if *first != self.peers[0] => {
                Err(format!("the inbox begins with user {first}, not with user {}", self.peers[0]))
            }
            (_, 0, None) => Ok(()),
            (_, 1.., Some(page)) => self.check_page(screen.messages, page, rows.first().map(|row| row.last.seq)),
            (_, _, page) => Err(format!("{} messages were asked for, and there came {page:?}", screen.messages)),
        }
    }

    /// The page has the newest of both, none left out.
    fn check_page(&self, most: u64, page: &Page, last: Option<Seq>) -> Result<(), String> {
        let wanted = most.min(2 * self.first) as usize;
        // A page that is full need not know that nothing is left.
        let is_right = page.more == (2 * self.first > most) || 2 * self.first == most;
        if page.entries.len() != wanted || !is_right {
            return Err(format!("the page has {} messages of {wanted}, more: {}", page.entries.len(), page.more));
        }
        if page.entries.last().map(|entry| entry.seq) != last {
            return Err(format!("the page does not end with {last:?}, the last message of the inbox"));
        }
        // From the newest to the oldest: of each of the two the next to come.
        let mut next = [self.first; 2];
        for entry in page.entries.iter().rev() {
            let (is_own, index) = self.message(self.peers[0], entry)?;
            let next = &mut next[usize::from(is_own)];
            if index + 1 != *next {
                return Err(format!(
                    "the page has message {index} as entry {}, where {next} less one was due",
                    entry.seq
                ));
            }
            *next = index;
        }
        Ok(())
    }

    /// Whether a message with somebody is the user's own, and which one it is.
    fn message(&self, peer: UserId, entry: &Entry) -> Result<(bool, u64), String> {
        let (is_own, with, content) = match &entry.event {
            Event::Received { from, content, .. } => (false, *from, content),
            Event::Sent { to: ConversationId::Person(to), content, .. } => (true, *to, content),
            event => return Err(format!("entry {} is no message: {event:?}", entry.seq)),
        };
        let label = Label::parse(content.parts().1).filter(|label| label.run == self.run && with == peer);
        let label = label.ok_or_else(|| format!("entry {} with user {with} is no message of this run", entry.seq))?;
        Ok((is_own, label.index))
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{Content, DeviceId, InboxRow, RequestId, SendNumber, Settings, TimestampMs};

    use super::*;
    use crate::verify::StreamId;

    const SCREEN: Screen = Screen { rows: 2, messages: 3 };

    fn known() -> Acquaintances {
        Acquaintances { run: 5, first: 2, peers: vec![UserId(8), UserId(9), UserId(10)] }
    }

    fn entry(seq: u64, peer: u64, is_own: bool, index: u64) -> Entry {
        let mut text = String::new();
        Label { run: 5, stream: StreamId(1), index }.write(30, &mut text);
        let (content, peer) = (Content::text(&text), UserId(peer));
        let event = if is_own {
            Event::Sent { to: peer.into(), device: DeviceId(1), number: SendNumber(seq), content }
        } else {
            Event::Received { from: peer, origin: Seq(seq), content }
        };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    fn row(unread: u64, last: Entry) -> InboxRow {
        InboxRow {
            conversation: last.event.conversation().unwrap(),
            settings: Settings::default(),
            unread,
            read_up_to: Seq::ZERO,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
            left_out: 0,
            last,
        }
    }

    /// What the user 7 sees who has exchanged messages 1 to 4 with users 9 and 10, and then 5 to 8 with user 8.
    fn opened() -> Opened {
        let rows = vec![row(2, entry(8, 8, false, 1)), row(1, entry(4, 10, true, 0))];
        let inbox = Inbox { request: RequestId(1), at: Seq(9), more: true, rows };
        let entries = vec![entry(6, 8, true, 0), entry(7, 8, true, 1), entry(8, 8, false, 1)];
        let (first, last, zero) = (Seq(6), Seq(9), Seq::ZERO);
        let page =
            Page { request: RequestId(1), first, last, more: true, entries, delivered_up_to: zero, seen_up_to: zero };
        Opened { inbox, page: Some(page), since_hello_us: 1 }
    }

    #[test]
    fn what_was_filled_in_is_right() {
        assert_eq!(known().check(SCREEN, &opened()), Ok(()));
        let list = Opened { page: None, ..opened() };
        assert_eq!(known().check(Screen { messages: 0, ..SCREEN }, &list), Ok(()));
    }

    #[track_caller]
    fn wrong(words: &str, change: impl FnOnce(&mut Opened)) {
        let mut changed = opened();
        change(&mut changed);
        let said = known().check(SCREEN, &changed).expect_err(words);
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_list_that_lacks_something_or_counts_otherwise_is_found() {
        wrong("has 1 of 3 conversations", |opened| drop(opened.inbox.rows.pop()));
        wrong("more: false", |opened| opened.inbox.more = false);
        wrong("before", |opened| opened.inbox.rows.swap(0, 1));
        wrong("behind", |opened| opened.inbox.rows[1] = row(1, entry(4, 11, true, 0)));
        wrong("behind", |opened| opened.inbox.rows[1] = row(2, entry(7, 8, true, 1)));
        wrong("begins with user 9", |opened| opened.inbox.rows[0] = row(1, entry(8, 9, false, 0)));
        wrong("has 1 messages of user 8 unread, not 2", |opened| opened.inbox.rows[0].unread = 1);
        wrong("which is not the last", |opened| opened.inbox.rows[0].last = entry(8, 8, false, 0));
    }

    #[test]
    fn a_page_that_is_not_the_newest_of_the_first_conversation_is_found() {
        let page = |opened: &mut Opened, change: fn(&mut Page)| change(opened.page.as_mut().unwrap());
        wrong("there came None", |opened| opened.page = None);
        wrong("has 2 messages of 3", |opened| page(opened, |page| drop(page.entries.remove(0))));
        wrong("does not end with", |opened| page(opened, |page| page.entries[2] = entry(9, 8, false, 1)));
        wrong("has message 0 as entry 7", |opened| page(opened, |page| page.entries[1] = entry(7, 8, true, 0)));
        wrong("no message of this run", |opened| page(opened, |page| page.entries[0] = entry(6, 9, true, 0)));
    }
}
