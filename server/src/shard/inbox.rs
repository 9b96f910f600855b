//! Inbox: the newest conversations of a user, as they stand at one place of the log (SPEC 4.20, 4.21).
//!
//! Which conversations there are, and what is known of those that are not in memory, is read from the store. What is newer is in the tail
//! and in the conversations of this shard, which are laid over it when the answer has come.
//!
//! Invariant: a row says what the log says up to [`Inbox::at`], and nothing of what follows, so that a client counts what is pushed
//! afterwards onto it.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use proto_spec::{
    Body, ClientKind, Content, ConversationId, Entry, ErrorCode, Event, Inbox, InboxRow, RequestId, Seq, ServerFrame,
    limits::{INBOX_ROWS_MAX, INBOX_TEXT_BYTES, PAGE_BYTES_MAX, UNREAD_MAX},
};
use storage::{InboxEntry, InboxSnapshot, Query};

use super::{
    ConnId, Shard, Turn,
    fetch::Fetch,
    opened::Shown,
    question::Question,
    tail::TailEntry,
    user::{Conversation, Standing, User},
};
use crate::limits::{INBOX_TRIES_MAX, RETRY_BUSY_MS};

/// A place behind all that there are.
const EVERYTHING: Seq = Seq(u64::MAX);

/// A page of the inbox in the making.
#[derive(Clone, Debug)]
pub(super) struct InboxFetch {
    /// Conversations whose last message is before this.
    before: Seq,
    rows_max: usize,
    /// Most messages of the first conversation.
    messages: u64,
    tries: u8,
    /// Everything up to here was in the store when it was asked.
    stored: Seq,
    /// So many conversations had messages that were not there yet.
    in_tail: usize,
    /// Conversations that the store was asked for by name.
    named: Arc<[ConversationId]>,
    /// Where the last messages of conversations stand, as it was told.
    moved: Arc<[(ConversationId, Seq)]>,
}

impl Shard {
    /// A client asks for its inbox.
    pub(super) fn fetch_inbox(
        &mut self,
        conn: ConnId,
        request: RequestId,
        before: Seq,
        (limit, messages): (u64, u64),
        cx: &mut Turn<'_>,
    ) {
        if !self.may_fetch(conn, ClientKind::FetchInbox, request, cx) {
            return;
        }
        let before = if before == Seq::ZERO { EVERYTHING } else { before };
        let rows_max = limit.clamp(1, INBOX_ROWS_MAX) as usize;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        if let Some(shown) = user.opened().and_then(|opened| opened.inbox(before, rows_max)) {
            self.cache.used(user_id, user);
            self.counters.cache_hits += 1;
            return self.answer_inbox(conn, request, shown, messages, cx);
        }
        self.counters.cache_misses += 1;
        let fetch = InboxFetch {
            before,
            rows_max,
            messages,
            tries: 0,
            stored: Seq::ZERO,
            in_tail: 0,
            named: [].into(),
            moved: [].into(),
        };
        self.ask_inbox(conn, request, fetch, cx);
    }

    fn ask_inbox(&mut self, conn: ConnId, request: RequestId, mut fetch: InboxFetch, cx: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        fetch.stored = user.stored;
        let newest = user.newest_messages();
        fetch.in_tail = newest.len();
        let named = newest.iter().filter_map(|entry| entry.event.conversation());
        fetch.named = named.filter(|&conversation| !self.conversations.is_resident((user_id, conversation))).collect();
        fetch.moved = user.rewrites.moved(user.stored, user.released).into();
        let (before, named, moved) = (fetch.before, Arc::clone(&fetch.named), Arc::clone(&fetch.moved));
        // Those of the store that have newer messages in the tail are not counted.
        let rows_max = fetch.rows_max + newest.len();
        let query = Query::Inbox { user: user_id, before, rows_max, named, moved };
        self.ask(query, Question::Inbox { conn, request, fetch }, cx);
    }

    /// The store has said what it knows.
    pub(super) fn inbox_read(
        &mut self,
        conn: ConnId,
        request: RequestId,
        mut fetch: InboxFetch,
        read: Option<InboxSnapshot>,
        cx: &mut Turn<'_>,
    ) {
        let Some(read) = read else {
            return self.fetch_failed(conn, ClientKind::FetchInbox, request, cx);
        };
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user_id = session.user;
        let Some(user) = self.users.resident(user_id) else { return };
        let newest = user.newest_messages();
        let at = user.released;
        let is_known = |conversation| {
            fetch.named.contains(&conversation) || self.conversations.is_resident((user_id, conversation))
        };
        // What has moved from the tail to the store meanwhile may be in neither answer.
        let is_whole = user.stored == fetch.stored
            && user.rewrites.moved(user.stored, at)[..] == fetch.moved[..]
            && newest.iter().filter_map(|entry| entry.event.conversation()).all(is_known)
            && read.rows.iter().all(|row| row.last.seq <= at)
            // A conversation that has moved above the page by what is not released yet would be in no page.
            && read.newest <= at
            // Of those that the store was asked for, more have newer messages than there is room for.
            && newest.len() <= fetch.in_tail;
        if !is_whole {
            fetch.tries += 1;
            if fetch.tries < INBOX_TRIES_MAX {
                return self.ask_inbox(conn, request, fetch, cx);
            }
            let Some(mut session) = self.sessions.get_mut(conn) else { return };
            session.fetches -= 1;
            let (code, kind) = (ErrorCode::Overloaded, ClientKind::FetchInbox.byte());
            let detail = "the conversations change faster than they are read";
            return self.send_error(conn, code, kind, request, RETRY_BUSY_MS, detail, cx);
        }
        let in_tail: HashSet<_> = newest.iter().filter_map(|entry| entry.event.conversation()).collect();
        let of_store = read.rows.into_iter().filter(|row| !in_tail.contains(&row.conversation));
        let mut rows = Vec::new();
        for last in newest.into_iter().filter(|last| last.place() < Some(fetch.before)) {
            let Some(conversation) = last.event.conversation() else { continue };
            let named = fetch.named.iter().position(|named| *named == conversation);
            let snapshot = named.and_then(|place| read.named.get(place)).copied().unwrap_or_default();
            rows.push(InboxEntry { conversation, snapshot, last });
        }
        rows.extend(of_store);
        rows.sort_unstable_by_key(|row| Reverse(row.last.place()));
        let more = !read.complete || rows.len() > fetch.rows_max;
        let mut shown = Vec::with_capacity(rows.len().min(fetch.rows_max));
        for InboxEntry { conversation, snapshot, last } in rows.into_iter().take(fetch.rows_max) {
            let loaded = Conversation::load(snapshot);
            let known = self.conversations.resident((user_id, conversation)).map_or(loaded, |known| *known);
            let Some(user) = self.users.resident(user_id) else { return };
            let received = user.received(conversation, &known);
            shown.push(Shown { conversation, standing: known.released, received, last: user.said_since(last) });
        }
        if fetch.before == EVERYTHING
            && let Some(user) = self.users.resident(user_id)
        {
            self.cache.open(user_id, user, &shown, !more);
            self.make_room();
        }
        self.answer_inbox(conn, request, (shown, more), fetch.messages, cx);
    }

    /// Sends a page of the inbox, and then the newest messages of its first conversation.
    fn answer_inbox(
        &mut self,
        conn: ConnId,
        request: RequestId,
        (shown, mut more): (Vec<Shown>, bool),
        messages: u64,
        cx: &mut Turn<'_>,
    ) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let Some(user) = self.users.resident(session.user) else { return };
        let at = user.released;
        let (mut bytes, mut rows) = (0, Vec::with_capacity(shown.len()));
        for row in shown.into_iter().map(row_of) {
            bytes += row.frame_bytes();
            if bytes > PAGE_BYTES_MAX && !rows.is_empty() {
                more = true;
                break;
            }
            rows.push(row);
        }
        let first = rows.first().map(|row| row.conversation).filter(|_| messages > 0);
        if first.is_none() {
            session.fetches -= 1;
        }
        self.counters.inboxes += 1;
        self.send(conn, &ServerFrame::Inbox(Inbox { request, at, more, rows }), cx);
        if let Some(conversation) = first {
            self.fetch_loaded(conn, request, Fetch::newest(conversation, at, messages), cx);
        }
    }
}

impl User {
    /// How many messages were received in a conversation, as far as they are released; those that were taken back unread left out.
    pub(super) fn received(&self, conversation: ConversationId, known: &Conversation) -> u64 {
        let mut received = known.numbered.received.count;
        let mut read = known.released.read_up_to;
        for TailEntry { entry, count, .. } in self.tail.range(self.released.next(), self.head) {
            match &entry.event {
                Event::Deleted { conversation: of, .. } if *of == conversation => received += count,
                Event::Read { conversation: of, up_to, .. } if *of == conversation => read = *up_to,
                Event::Received { from, content, .. } if conversation == (*from).into() => match content {
                    Content::Unsend(_) => {
                        received += u64::from(entry.place() < Some(entry.seq) && entry.place() > Some(read));
                    }
                    _ => received = received.saturating_sub(u64::from(entry.place() == Some(entry.seq))),
                },
                _ => {}
            }
        }
        received
    }
}

fn row_of(Shown { conversation, standing, received, last }: Shown) -> InboxRow {
    let Standing { delivered_up_to, seen_up_to, read_up_to, read, settings } = standing;
    let unread = received.saturating_sub(read).min(UNREAD_MAX + 1);
    let (last, left_out) = shortened(last);
    InboxRow { conversation, settings, unread, read_up_to, delivered_up_to, seen_up_to, left_out, last }
}

/// An entry with as much of its text as a list shows, and how many bytes that leaves out.
fn shortened(mut entry: Entry) -> (Entry, u64) {
    let mut left_out = 0;
    if let Event::Received { content, .. } | Event::Sent { content, .. } = &mut entry.event {
        left_out = shorten(content);
    }
    (entry, left_out)
}

/// Leaves of a text as much as a list shows; how many bytes it leaves out.
pub(super) fn shorten(content: &mut Content) -> u64 {
    let said = match content.body() {
        Ok(Body::Edit(edit)) => Some((edit.said(), Some((edit.of, edit.stands)))),
        said => Some((said, None)),
    };
    let Some((Ok(Body::Text(text)), edited)) = said else { return 0 };
    let mut end = text.len().min(INBOX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let shown = &text[..end];
    let left_out = (text.len() - shown.len()) as u64;
    if left_out > 0 {
        let shown = Content::text(shown);
        *content = match edited {
            Some((of, stands)) => Content::edit(of, &shown, stands),
            None => shown,
        };
    }
    left_out
}

#[cfg(test)]
mod tests {
    use proto_spec::{TimestampMs, UserId};

    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character_and_says_what_is_left_out() {
        let entry = |text: &str| Entry {
            seq: Seq(1),
            time: TimestampMs(1),
            event: Event::Received { from: UserId(2), origin: Seq(3), content: Content::text(text) },
        };
        let fits = "x".repeat(INBOX_TEXT_BYTES);
        assert_eq!(shortened(entry(&fits)), (entry(&fits), 0));
        let long = format!("{}äöü", &fits[1..]);
        assert_eq!(shortened(entry(&long)), (entry(&fits[1..]), 6));
    }
}
