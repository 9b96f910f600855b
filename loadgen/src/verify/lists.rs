//! The list of a user's conversations and their pages, read back, against the history that was compared before. Pure.
//!
//! Pages of a conversation have the entries that the log has of it; the last of them is the last message of its row, and the received ones
//! behind the read mark are the unread ones. What the marks must be the run knows.

use std::collections::HashMap;

use proto_spec::{
    Body, Content, ConversationId, Entry, Event, Inbox, InboxRow, MessageName, Page, Seq, UserId,
    limits::{INBOX_TEXT_BYTES, UNREAD_MAX},
};

use super::{Digest, Ledger, changes::what_is_said, text::beginning};

/// What the history of a user says of one conversation.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    digest: Digest,
    delivered_up_to: Seq,
}

/// What the history of a user says of each conversation.
#[derive(Clone, Debug, Default)]
pub struct Standings(HashMap<UserId, Standing>);

impl Standings {
    /// An entry of the history, and what it adds to what the devices were told.
    pub(super) fn take(&mut self, entry: &Entry, mark: u64) {
        if let Some(ConversationId::Person(peer)) = entry.event.conversation() {
            self.0.entry(peer).or_default().digest.add(mark);
        }
    }

    pub(super) fn delivered(&mut self, peer: UserId, up_to: Seq) {
        self.0.entry(peer).or_default().delivered_up_to = up_to;
    }
}

/// The reading of a list, and of each conversation in it, from the newest on.
#[derive(Debug)]
pub struct ListCheck {
    /// Whose: a seat of the crew.
    seat: u32,
    /// Where the log stood at the start of the run.
    start: Seq,
    standings: Standings,
    /// Where the last message of the last row stands.
    reached: Seq,
    /// Rows whose conversations are still to be read.
    /// By whom they are with.
    rows: Vec<(UserId, InboxRow)>,
    talk: Option<Talk>,
}

/// The reading of one conversation.
#[derive(Debug)]
struct Talk {
    row: InboxRow,
    peer: UserId,
    digest: Digest,
    newest: Option<Entry>,
    unread: u64,
}

impl ListCheck {
    /// Nothing has been read but the history.
    #[must_use]
    pub fn new(seat: u32, start: Seq, standings: Standings) -> Self {
        Self { seat, start, standings, reached: Seq(u64::MAX), rows: Vec::new(), talk: None }
    }

    /// The next page of the list. Gives what the page after it must be before, if there is one.
    pub fn take_inbox(&mut self, ledger: &mut Ledger, inbox: Inbox) -> Option<Seq> {
        let me = ledger.crew().member(self.seat).user;
        let more = inbox.more;
        for row in inbox.rows {
            let place = row.last.place().unwrap_or_default();
            // What follows is of earlier runs.
            if place <= self.start {
                return self.all_listed(ledger, me);
            }
            let ConversationId::Person(peer) = row.conversation else {
                ledger.faults.add(format!("user {me}: the inbox has group {}", row.conversation));
                continue;
            };
            let standing = self.standings.0.get(&peer).copied().unwrap_or_default();
            let (read, seen) = ledger.marks.wanted(me, peer);
            let kept = ledger.marks.kept(me, peer);
            let mut wrong = |what: String| ledger.faults.add(format!("user {me}: the row of user {peer} says {what}"));
            if place >= self.reached || place > inbox.at {
                wrong(format!("that the last message stands at {place}, after {} and at {}", self.reached, inbox.at));
            }
            if row.delivered_up_to < standing.delivered_up_to {
                wrong(format!("delivered up to {}, not {}", row.delivered_up_to, standing.delivered_up_to));
            }
            if read > Seq::ZERO && row.read_up_to != read {
                wrong(format!("read up to {}, not {read}", row.read_up_to));
            }
            if seen > Seq::ZERO && row.seen_up_to != seen {
                wrong(format!("seen up to {}, not {seen}", row.seen_up_to));
            }
            if let Some(kept) = kept.filter(|kept| *kept != row.settings) {
                wrong(format!("settings {}, not {}", row.settings.bits(), kept.bits()));
            }
            self.reached = place;
            self.rows.push((peer, row));
        }
        if more { Some(self.reached) } else { self.all_listed(ledger, me) }
    }

    /// All rows are here: no conversation may be missing.
    fn all_listed(&self, ledger: &mut Ledger, me: UserId) -> Option<Seq> {
        let is_listed = |peer: UserId| self.rows.iter().any(|(listed, _)| *listed == peer);
        for (peer, _) in
            self.standings.0.iter().filter(|(peer, standing)| standing.digest.count > 0 && !is_listed(**peer))
        {
            ledger.faults.add(format!("user {me}: the conversation with user {peer} is not listed"));
        }
        None
    }

    /// The next conversation to read.
    pub fn next_talk(&mut self) -> Option<UserId> {
        let (peer, row) = self.rows.pop()?;
        self.talk = Some(Talk { row, peer, digest: Digest::default(), newest: None, unread: 0 });
        Some(peer)
    }

    /// The next page of the conversation, which are read backwards. Whether there may be more of this run.
    pub fn take_page(&mut self, ledger: &mut Ledger, page: &Page) -> bool {
        let Some(talk) = &mut self.talk else { return false };
        let me = ledger.crew().member(self.seat).user;
        if talk.newest.is_none() {
            talk.newest = page.entries.iter().rfind(|entry| !entry.is_reaction()).cloned();
        }
        // Whose reactions have come to the message at hand.
        let mut reacted: Vec<UserId> = Vec::new();
        for entry in page.entries.iter().filter(|entry| entry.seq > self.start) {
            let (by, origin, content) = match &entry.event {
                Event::Received { from, origin, content } => (*from, *origin, content),
                Event::Sent { content, .. } => (me, entry.seq, content),
                _ => {
                    ledger.faults.add(format!("user {me}: the page of user {} has {entry:?}", talk.peer));
                    continue;
                }
            };
            let name = content.about().map_or(MessageName { author: by, seq: origin }, |(name, _)| name);
            let (kind, fingerprint) = what_is_said(content);
            talk.digest.add(Digest::mark(entry.seq, name, kind, fingerprint));
            let MessageName { author, seq } = name;
            if entry.is_reaction() {
                if reacted.contains(&by) {
                    ledger
                        .faults
                        .add(format!("user {me}: message {seq} of user {author} has two reactions of user {by}"));
                }
                reacted.push(by);
                continue;
            }
            reacted.clear();
            if let Some(why) = ledger.shown_wrong(self.seat, name, content) {
                ledger.faults.add(format!("user {me}: {why}, as entry {}", entry.seq));
            }
            let is_unread =
                by != me && entry.place() > Some(talk.row.read_up_to) && !matches!(content, Content::Unsend(_));
            talk.unread += u64::from(is_unread);
        }
        page.more && page.first > self.start.next()
    }

    /// The conversation has been read.
    pub fn finish(&mut self, ledger: &mut Ledger) {
        let Some(Talk { row, peer, digest, newest, unread }) = self.talk.take() else { return };
        let me = ledger.crew().member(self.seat).user;
        let wanted = self.standings.0.get(&peer).copied().unwrap_or_default().digest;
        let mut wrong =
            |what: String| ledger.faults.add(format!("user {me}: the conversation with user {peer} {what}"));
        if digest != wanted {
            let (has, wanted) = (digest.count, wanted.count);
            let what = if has == wanted { "others are in the log" } else { "as many as the log has not" };
            wrong(format!("has {has} entries of this run in its pages, of {wanted} in the log: {what}"));
        }
        let last = newest.map(shortened);
        if last.as_ref() != Some(&(row.last.clone(), row.left_out)) {
            wrong(format!("ends with {last:?}, but is listed with {:?}", row.last));
        }
        // What earlier runs have left unread is not in the pages that were read.
        let is_whole = self.start == Seq::ZERO || row.read_up_to > self.start;
        let counted = unread.min(UNREAD_MAX + 1);
        if row.unread < counted || (is_whole && row.unread != counted) {
            wrong(format!("has {unread} unread messages in its pages, but is listed with {}", row.unread));
        }
    }
}

/// A message as a list has it, and how many bytes of its text are left out.
fn shortened(mut entry: Entry) -> (Entry, u64) {
    let (Event::Received { content, .. } | Event::Sent { content, .. }) = &mut entry.event else { return (entry, 0) };
    let short = |text: &str| {
        let beginning = beginning(text, INBOX_TEXT_BYTES);
        (Content::text(beginning), (text.len() - beginning.len()) as u64)
    };
    let shortened = match content.body() {
        Ok(Body::Text(text)) => Some(short(text)),
        Ok(Body::Edit(edit)) => edit.content().as_text().map(|text| {
            let (says, left_out) = short(text);
            (Content::edit(edit.of, &says, edit.stands), left_out)
        }),
        _ => None,
    };
    let Some((says, left_out)) = shortened else { return (entry, 0) };
    *content = says;
    (entry, left_out)
}
