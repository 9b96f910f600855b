//! The list of conversations: which one is chosen, and what is asked for.

use std::collections::BTreeSet;

use client::{ConversationId, Conversations, Entry, FetchHandle, Inbox, InboxRow, NotKnown, Seq, Settings};

/// Conversations asked for at once, at least; a high screen asks for as many as it shows.
const ROWS_MIN: u64 = 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    known: Conversations,
    /// It has been told by the server.
    pub(crate) is_here: bool,
    /// It is shown in place of a conversation.
    pub(crate) is_open: bool,
    /// Counted from the first one.
    pub(crate) chosen: usize,
    /// A page that is asked for, and before which place.
    fetching: Option<(FetchHandle, Seq)>,
    /// Conversations of which something came and that are in no page yet: each is in the one before such a place.
    missing: BTreeSet<Seq>,
}

/// What to ask the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) before: Seq,
    pub(crate) limit: u64,
}

impl List {
    pub(crate) fn new(is_open: bool) -> Self {
        Self { is_open, ..Self::default() }
    }

    /// What is known is of a log that is no more.
    pub(crate) fn discard(&mut self) {
        *self = Self { fetching: self.fetching, ..Self::new(self.is_open) };
    }

    /// What was known may be of long ago. A page that is on its way is not waited for: it may be one that has others above it.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { is_open: self.is_open, ..Self::default() };
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &InboxRow> {
        self.known.iter()
    }

    /// The newest of them; what is on its way already is asked for again after a lost connection by itself.
    pub(crate) fn newest(&self, rows: u16) -> Option<Ask> {
        self.fetching.is_none().then_some(Ask { before: Seq::ZERO, limit: ROWS_MIN.max(rows.into()) })
    }

    /// Older ones, if the chosen one is the last that is known.
    fn older(&self, rows: u16) -> Option<Ask> {
        let before = self.known.older().filter(|_| self.chosen + 1 >= self.known.iter().len())?;
        self.fetching.is_none().then_some(Ask { before, limit: ROWS_MIN.max(rows.into()) })
    }

    /// The client has asked for the page before there.
    pub(crate) fn fetching(&mut self, fetch: FetchHandle, before: Seq) {
        self.fetching = Some((fetch, before));
    }

    /// A page has come, of which one is on its way at a time. False: nobody has asked for it here.
    pub(crate) fn page(&mut self, fetch: FetchHandle, inbox: Inbox) -> bool {
        let Some((_, before)) = self.fetching.take_if(|(fetching, _)| *fetching == fetch) else { return false };
        let oldest = inbox.rows.last().filter(|_| inbox.more).and_then(|row| row.last.place());
        let is_behind = |place: &Seq| before != Seq::ZERO && *place > before;
        // Who is not in the page has written more since, of which the next entries tell.
        self.missing.retain(|place| is_behind(place) || oldest.is_some_and(|oldest| *place <= oldest));
        self.known.page(before, inbox);
        self.is_here = true;
        true
    }

    /// What is to be asked for, so that the list is right.
    pub(crate) fn missing(&self, rows: u16) -> Option<Ask> {
        let before = *self.missing.last()?;
        self.fetching.is_none().then_some(Ask { before, limit: ROWS_MIN.max(rows.into()) })
    }

    /// The server does not give it. False: nobody has asked for it here.
    pub(crate) fn refused(&mut self, fetch: FetchHandle) -> bool {
        self.fetching.take_if(|(fetching, _)| *fetching == fetch).is_some()
    }

    /// Takes an entry. Some: what has to be asked for, so that the list is right.
    pub(crate) fn entry(&mut self, entry: &Entry, rows: u16) -> Option<Ask> {
        let chosen = self.chosen();
        let known = self.known.entry(entry);
        // Who was chosen stays so when somebody else moves to the top.
        if let Some(chosen) = chosen {
            self.chosen = self.known.iter().position(|row| row.conversation == chosen).unwrap_or(0);
        }
        if let Err(NotKnown { before }) = known
            && self.is_here
        {
            self.missing.insert(before);
            return self.missing(rows);
        }
        None
    }

    /// Its messages are not to be announced.
    pub(crate) fn is_muted(&self, conversation: ConversationId) -> bool {
        let mut rows = self.known.iter();
        rows.any(|row| row.conversation == conversation && row.settings.has(Settings::MUTED))
    }

    pub(crate) fn chosen(&self) -> Option<ConversationId> {
        self.known.iter().nth(self.chosen).map(|row| row.conversation)
    }

    pub(crate) fn up(&mut self, rows: usize) {
        self.chosen = self.chosen.saturating_sub(rows);
    }

    /// Some: what has to be asked for, because there may be more.
    pub(crate) fn down(&mut self, rows: usize, shown: u16) -> Option<Ask> {
        self.chosen = (self.chosen + rows).min(self.known.iter().len().saturating_sub(1));
        self.older(shown)
    }
}
