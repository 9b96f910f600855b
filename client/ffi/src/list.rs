//! The list of conversations that the client keeps for the application: which pages of the inbox it needs, and what is laid over them.

use std::collections::BTreeSet;

use client::{ClientEvent, Conversations, FetchHandle, Inbox, NotKnown, Seq};

use crate::{entry::ConversationRow, limits::MISSING_MAX};

/// See the head of this file. Empty until it is opened.
#[derive(Debug, Default)]
pub(crate) struct List {
    known: Conversations,
    /// Rows of a page; none: the application shows no list.
    rows: Option<u64>,
    /// A page that is asked for, and before which place.
    fetching: Option<(FetchHandle, Seq)>,
    /// The newest conversations are not known.
    wants_newest: bool,
    /// Conversations that are not known stand right before these places.
    missing: BTreeSet<Seq>,
}

impl List {
    /// The application shows so many rows at once.
    pub(crate) const fn open(&mut self, rows: u64) {
        self.rows = Some(rows);
        self.wants_newest = true;
    }

    /// The application wants to see older ones. Whether there are any, as far as is known.
    pub(crate) fn older(&mut self) -> bool {
        let older = self.known.older();
        self.missing.extend(older);
        older.is_some()
    }

    pub(crate) fn conversations(&self) -> Vec<ConversationRow> {
        self.known.iter().map(Into::into).collect()
    }

    /// What to ask the server for now: the page before there, of so many rows.
    pub(crate) fn ask(&self) -> Option<(Seq, u64)> {
        let rows = self.rows.filter(|_| self.fetching.is_none())?;
        let before = if self.wants_newest { Seq::ZERO } else { *self.missing.last()? };
        Some((before, rows))
    }

    pub(crate) fn asked(&mut self, fetch: FetchHandle, before: Seq) {
        self.fetching = Some((fetch, before));
    }

    /// Takes what happens. Whether the list may be another one.
    pub(crate) fn take(&mut self, event: &ClientEvent) -> bool {
        if self.rows.is_none() {
            return false;
        }
        match event {
            // What comes before the first page is in it.
            ClientEvent::Entry(_) if self.wants_newest => false,
            ClientEvent::Entry(entry) => {
                if let Err(NotKnown { before }) = self.known.entry(entry) {
                    self.missing.insert(before);
                }
                if self.missing.len() > MISSING_MAX {
                    self.begin_anew();
                }
                true
            }
            ClientEvent::Skipped { .. } | ClientEvent::LogReplaced { .. } => {
                self.begin_anew();
                true
            }
            ClientEvent::Inbox { fetch, inbox } => {
                let asked = self.fetching.take_if(|(fetching, _)| fetching == fetch);
                asked.map(|(_, before)| self.page(before, inbox.clone())).is_some()
            }
            ClientEvent::FetchRefused { fetch, .. } => {
                // It would be refused again.
                let refused = self.fetching.take_if(|(fetching, _)| fetching == fetch);
                refused.map(|(_, before)| self.here(before, None)).is_some()
            }
            _ => false,
        }
    }

    fn page(&mut self, before: Seq, inbox: Inbox) {
        let oldest = inbox.rows.last().filter(|_| inbox.more).and_then(|row| row.last.place());
        self.known.page(before, inbox);
        self.here(before, oldest);
    }

    /// The conversations before this place (zero: all) are known as far as the oldest (none: all). Whoever is missing there has written
    /// since, and the next entries tell of it.
    fn here(&mut self, before: Seq, oldest: Option<Seq>) {
        self.wants_newest &= before != Seq::ZERO;
        let is_above = |place: Seq| before != Seq::ZERO && place > before;
        self.missing.retain(|place| is_above(*place) || oldest.is_some_and(|oldest| *place <= oldest));
    }

    /// What is known may be of long ago, or of another log. A page that is on its way is not waited for.
    fn begin_anew(&mut self) {
        *self = Self { rows: self.rows, wants_newest: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use client::{Content, Entry, Event, TimestampMs, UserId};

    use super::*;

    /// A message from a user, where it stands.
    fn from(user: u64, seq: u64) -> Entry {
        let event = Event::Received { from: UserId(user), origin: Seq(seq), content: Content::text("text") };
        Entry { seq: Seq(seq), time: TimestampMs(1), event }
    }

    /// The client, which numbers its fetches; none of them leaves.
    fn ask(list: &mut List, state: &mut client::ClientState) -> Option<(u64, FetchHandle)> {
        let (before, rows) = list.ask()?;
        let fetch = state.fetch_inbox(before, rows, 0).ok()?;
        list.asked(fetch, before);
        Some((before.0, fetch))
    }

    fn page(fetch: FetchHandle, more: bool, last: &[Entry]) -> ClientEvent {
        let row = |last: &Entry| client::InboxRow {
            conversation: last.event.conversation().expect("it is a message"),
            settings: client::Settings::default(),
            unread: 1,
            read_up_to: Seq::ZERO,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
            left_out: 0,
            last: last.clone(),
        };
        let at = last.first().map_or(Seq::ZERO, |last| last.seq);
        let rows = last.iter().map(row).collect();
        // The request of a page is the client's business.
        ClientEvent::Inbox { fetch, inbox: Inbox { request: Default::default(), at, more, rows } }
    }

    fn users(list: &List) -> Vec<u64> {
        let last = list.known.iter().map(|row| &row.last.event);
        last.filter_map(|event| if let Event::Received { from, .. } = event { Some(from.0) } else { None }).collect()
    }

    #[test]
    fn a_list_is_asked_for_when_it_is_opened_and_kept_right_by_what_comes() {
        let mut state =
            client::ClientState::new(client::Config::new("", "token", client::DeviceId(1))).expect("it is good");
        let mut list = List::default();
        assert!(!list.take(&ClientEvent::Entry(from(8, 10))) && ask(&mut list, &mut state).is_none(), "nobody looks");
        list.open(2);
        let (before, fetch) = ask(&mut list, &mut state).expect("the newest");
        assert_eq!((before, ask(&mut list, &mut state)), (0, None), "one at a time");
        assert!(!list.take(&ClientEvent::Entry(from(9, 11))), "it is in the page");
        assert!(list.take(&page(fetch, true, &[from(9, 11), from(8, 10)])));
        assert_eq!(users(&list), [9, 8]);
        assert!(list.take(&ClientEvent::Entry(from(8, 12))));
        assert_eq!((users(&list), ask(&mut list, &mut state)), (vec![8, 9], None));
        // Of a conversation that is in no page nothing is known but where its row is.
        assert!(list.take(&ClientEvent::Entry(from(5, 13))));
        let (before, fetch) = ask(&mut list, &mut state).expect("the one that is missing");
        assert_eq!(before, 14);
        list.take(&page(fetch, true, &[from(5, 13), from(8, 12)]));
        assert_eq!((users(&list), ask(&mut list, &mut state)), (vec![5, 8, 9], None));
        assert!(list.older());
        let (before, fetch) = ask(&mut list, &mut state).expect("older ones");
        assert_eq!(before, 10, "behind the last one of the page that reaches furthest");
        list.take(&page(fetch, false, &[from(4, 3)]));
        assert!(!list.older());
        assert_eq!(users(&list), [5, 8, 9, 4]);
        let replaced = ClientEvent::LogReplaced { detail: String::new(), dropped: Vec::new() };
        assert!(list.take(&replaced) && users(&list).is_empty());
        assert_eq!(ask(&mut list, &mut state).map(|(before, _)| before), Some(0));
    }
}
