//! Inboxes and marks: what apps ask for, and what must hold of it at any time.

use std::collections::{BTreeMap, BTreeSet};

use client::Verdict;
use proto_spec::{
    Body, Content, ConversationId, Digests, Entry, Event, Inbox, InboxRow, Seq, Settings, UserId,
    limits::{INBOX_TEXT_BYTES, UNREAD_MAX},
};

use client::Conversations;

use super::{
    Simulation,
    client::Asked,
    faults::Fault,
    oracle::{DeviceKey, Oracle},
};

/// What the log says of a conversation up to some place, by the plainest means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// By where they stand.
    messages: BTreeMap<Seq, Entry>,
    unread: u64,
    read_up_to: Seq,
    delivered_up_to: Seq,
    seen_up_to: Seq,
    settings: Settings,
}

impl Standing {
    fn take(&mut self, entry: &Entry) {
        let place = entry.place();
        let is_message = place == Some(entry.seq);
        if let Some(place) = place
            && (is_message || self.messages.contains_key(&place))
        {
            self.messages.insert(place, entry.clone());
        }
        match &entry.event {
            Event::Received { content: Content::Unsend(_), .. } if is_message => {}
            Event::Received { content: Content::Unsend(_), .. } => {
                self.unread -= u64::from(place > Some(self.read_up_to));
            }
            Event::Received { .. } => self.unread += u64::from(is_message),
            Event::Sent { .. } => {}
            Event::Delivered { up_to, .. } => self.delivered_up_to = *up_to,
            Event::Seen { up_to, .. } => self.seen_up_to = *up_to,
            Event::Read { up_to, unread, .. } => (self.read_up_to, self.unread) = (*up_to, *unread),
            Event::Settings { settings, .. } => self.settings = *settings,
            Event::Deleted { place, unread, .. } => {
                self.messages.remove(place);
                self.unread = *unread;
            }
            Event::Devices { .. }
            | Event::Visibility { .. }
            | Event::Group { .. }
            | Event::GroupRefused { .. }
            | Event::Unknown { .. } => {}
        }
    }
}

/// The conversation that an entry says something about.
fn about(event: &Event) -> Option<ConversationId> {
    match event {
        Event::Delivered { peer, .. } | Event::Seen { peer, .. } => Some((*peer).into()),
        Event::Read { conversation, .. }
        | Event::Settings { conversation, .. }
        | Event::Deleted { conversation, .. } => Some(*conversation),
        Event::Received { .. }
        | Event::Sent { .. }
        | Event::Devices { .. }
        | Event::Visibility { .. }
        | Event::Group { .. }
        | Event::GroupRefused { .. }
        | Event::Unknown { .. } => event.conversation(),
    }
}

impl Oracle {
    /// What the log of a user says of each conversation, up to this place.
    fn standings(&self, user: UserId, at: Seq) -> BTreeMap<ConversationId, Standing> {
        let mut standings: BTreeMap<ConversationId, Standing> = BTreeMap::new();
        for entry in self.durable.range((user, Seq::ZERO)..=(user, at)).map(|(_, entry)| entry) {
            if let Some(conversation) = about(&entry.event) {
                standings.entry(conversation).or_default().take(entry);
            }
        }
        standings
    }

    /// A page of the inbox says exactly what the log says up to its place.
    fn check_inbox(&mut self, user: UserId, before: Seq, limit: u64, inbox: &Inbox) {
        let mut wanted: Vec<_> = self.standings(user, inbox.at).into_iter().collect();
        let before = if before == Seq::ZERO { Seq(u64::MAX) } else { before };
        // All but the last are of no interest any more.
        for (_, standing) in &mut wanted {
            let last = standing.messages.pop_last();
            standing.messages = last.into_iter().collect();
        }
        let last = |standing: &Standing| standing.messages.last_key_value().map(|(place, _)| *place);
        wanted.retain(|(_, standing)| last(standing).is_some_and(|last| last < before));
        wanted.sort_by_key(|(_, standing)| std::cmp::Reverse(last(standing)));
        let more = wanted.len() > inbox.rows.len();
        wanted.truncate(inbox.rows.len());
        let found: Vec<_> = inbox.rows.iter().map(standing_of).collect();
        for last in wanted.iter_mut().flat_map(|(_, standing)| standing.messages.values_mut()) {
            if let Event::Received { content, .. } | Event::Sent { content, .. } = &mut last.event {
                let short = |text: &str| Content::text(&text[..text.len().min(INBOX_TEXT_BYTES)]);
                let shortened = match content.body() {
                    Ok(Body::Text(text)) => Some(short(text)),
                    Ok(Body::Edit(edit)) => {
                        let text = edit.content();
                        text.as_text().map(|text| Content::edit(edit.of, &short(text), edit.stands))
                    }
                    _ => None,
                };
                *content = shortened.unwrap_or_else(|| content.clone());
            }
        }
        // What is so short does not make a frame full before the limit is reached.
        if found != wanted || inbox.more != more || (more && inbox.rows.len() as u64 != limit) {
            self.fail(|| {
                { let (at, is_more) = (inbox.at, inbox.more); format!("user {user}: {limit} of the inbox before {before} at {at} are {found:?} and more: {is_more}, not {wanted:?} and more: {more}") }
            });
        }
    }

    /// Read marks count what lies behind them, and the other side is told of the last one.
    pub(super) fn check_marks(&mut self, logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>) {
        let mut told_of: BTreeMap<(UserId, UserId), Seq> = BTreeMap::new();
        let mut faults = Vec::new();
        for ((user, seq), entry) in &self.durable {
            let Event::Read { conversation: ConversationId::Person(peer), up_to, unread: counted, told } = entry.event
            else {
                continue;
            };
            // By where each stands: its name, and whether it was taken back.
            let mut received: BTreeMap<Seq, (Seq, bool)> = BTreeMap::new();
            for other in self.durable.range((*user, Seq::ZERO)..(*user, *seq)).map(|(_, other)| other) {
                if let Event::Deleted { place, .. } = other.event {
                    received.remove(&place);
                }
                if let (Event::Received { from, origin, content }, Some(place)) = (&other.event, other.place())
                    && *from == peer
                {
                    let name = content.about().map_or(*origin, |(name, _)| name.seq);
                    received.insert(place, (name, matches!(content, Content::Unsend(_))));
                }
            }
            let unread: Vec<_> = received.range(up_to.next()..).filter(|(_, (_, is_back))| !is_back).collect();
            let behind = unread.len() as u64;
            // What was changed before it came stands behind what was written after it: then less is told than is read.
            let is_in_order = received.values().is_sorted();
            let is_told_wrong = told > Seq::ZERO
                && (unread.iter().any(|(_, (name, _))| *name <= told)
                    || is_in_order && received.range(..=up_to).any(|(_, (name, _))| *name > told));
            if behind.min(UNREAD_MAX + 1) != counted || is_told_wrong {
                faults.push(format!("user {user}: {entry:?} behind which {behind} of {received:?} lie"));
            }
            if told > Seq::ZERO {
                told_of.insert((*user, peer), told);
            }
        }
        let seen: BTreeSet<_> = logs
            .iter()
            .flat_map(|(user, log)| log.values().map(move |entry| (user, &entry.event)))
            .filter_map(|(user, event)| match event {
                Event::Seen { peer, up_to } => Some((*peer, *user, *up_to)),
                _ => None,
            })
            .collect();
        for ((reader, author), told) in told_of {
            if reader != author && !self.are_estranged(reader, author) && !seen.contains(&(reader, author, told)) {
                faults.push(format!("user {author} is not told that {reader} has read up to {told}: {seen:?}"));
            }
        }
        if seen.len() != seen.iter().map(|(reader, author, _)| (reader, author)).collect::<BTreeSet<_>>().len() {
            faults.push(format!("somebody is told twice: {seen:?}"));
        }
        faults.into_iter().for_each(|fault| self.fail(|| fault));
    }
}

impl Oracle {
    /// The list that a device has made of pages and of what was pushed says what the whole log says, whatever was skipped.
    pub(super) fn check_list(&mut self, (user, device): DeviceKey, list: &Conversations) {
        let standings = self.standings(user, Seq(u64::MAX));
        for row in list.iter() {
            let (conversation, mut found) = standing_of(row);
            let mut wanted = standings.get(&conversation).cloned().unwrap_or_default();
            // What it says has been compared when it came, and may be shortened.
            let last = |standing: &mut Standing| {
                let (place, last) = std::mem::take(&mut standing.messages).pop_last()?;
                Some((place, last.seq, last.time))
            };
            let is_same = last(&mut found) == last(&mut wanted);
            if !is_same || found != wanted {
                self.fail(|| {
                    format!("user {user} device {device}: {conversation} is listed as {row:?}, not {wanted:?}")
                });
            }
        }
    }
}

fn standing_of(row: &InboxRow) -> (ConversationId, Standing) {
    let InboxRow { conversation, settings, unread, read_up_to, delivered_up_to, seen_up_to, last, .. } = row.clone();
    let messages = last.place().map(|place| (place, last)).into_iter().collect();
    (conversation, Standing { messages, unread, read_up_to, delivered_up_to, seen_up_to, settings })
}

/// Rows that an app asks for at once, so that there is room for what else it asks for.
const ROWS_ASKED_MAX: usize = 16;

impl Simulation {
    /// An app marks a conversation, or asks for its inbox.
    pub(super) fn mark_something(&mut self, index: usize) {
        let people: Vec<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let peer = *self.rng.pick(&people);
        let (what, some, bit) = (self.rng.within(0, 9), self.rng.within(0, 40), self.rng.within(0, 2));
        // To be missed, a deleted message has to be changed by its author later: for that fault many are deleted that just came.
        let aimed = (self.fault == Some(Fault::ForgetDeleted))
            .then(|| self.oracle.received(self.apps[index].key.0, some))
            .flatten();
        let what = if aimed.is_some() { 6 } else { what };
        let check = self.apps[index].history.check();
        let Some(state) = &mut self.apps[index].state else { return };
        let position = state.position().unwrap_or_default();
        let (before, limit, messages) = (Seq(some.saturating_sub(20)), 1 + some % 5, some % 3);
        let asked = match what {
            0..=3 => state
                .mark_read(peer, Seq(position.0.saturating_sub(some / 4)), true)
                .map(|handle| (handle, Asked::Mark)),
            4 => {
                let (set, none) = (Settings::from_bits(1 << bit), Settings::default());
                let (set, cleared) = if some % 2 == 0 { (set, none) } else { (none, set) };
                state.set_conversation(peer, set, cleared).map(|handle| (handle, Asked::Mark))
            }
            5 => match check {
                Some(check) => state.fetch_digest(check.ask()).map(|handle| (handle, Asked::Check(check))),
                None => return,
            },
            6 | 7 => {
                let (peer, place) = aimed.unwrap_or((peer, Seq(position.0.saturating_sub(some / 2))));
                state.delete_message(peer, place).map(|handle| (handle, Asked::Mark))
            }
            _ => state
                .fetch_inbox(before, limit, messages)
                .map(|handle| (handle, Asked::Inbox { before, limit, messages })),
        };
        self.apps[index].fetches.extend(asked);
    }

    /// A conversation is not in the app's list yet. Of what is not asked for, a later entry or nothing tells.
    pub(super) fn ask_for_row(&mut self, index: usize, before: Seq) {
        if self.apps[index].fetches.len() >= ROWS_ASKED_MAX {
            return;
        }
        let Some(state) = &mut self.apps[index].state else { return };
        let asked =
            state.fetch_inbox(before, 1, 0).map(|handle| (handle, Asked::Inbox { before, limit: 1, messages: 0 }));
        self.apps[index].fetches.extend(asked);
    }

    /// Digests have come: what the app was handed is what the log has, if nothing has changed meanwhile.
    pub(super) fn on_digest(&mut self, index: usize, fetch: client::FetchHandle, digests: &Digests) {
        let app = &mut self.apps[index];
        let Some(at) = app.fetches.iter().position(|(handle, _)| *handle == fetch) else {
            let key = app.key;
            return self.oracle.fail(|| format!("{key:?}: digests that nobody asked for"));
        };
        let (_, Asked::Check(check)) = app.fetches.remove(at) else {
            let key = app.key;
            return self.oracle.fail(|| format!("{key:?}: digests instead of something else"));
        };
        let (key, verdict) = (app.key, check.answer(&app.history, digests));
        match verdict {
            Verdict::Goes(on) => {
                let asked = app.state.as_mut().and_then(|state| state.fetch_digest(on.ask()).ok());
                app.fetches.extend(asked.map(|handle| (handle, Asked::Check(on))));
            }
            Verdict::Changed => {}
            Verdict::Same(..) => self.reached("history compared"),
            Verdict::Differs(first, last) => {
                self.oracle
                    .fail(|| format!("{key:?}: what it was handed from {first} to {last} is not what the log has"));
            }
        }
    }

    /// An inbox has come. A page of its first conversation may follow.
    pub(super) fn on_inbox(&mut self, index: usize, fetch: client::FetchHandle, inbox: &Inbox) {
        self.reached("inbox");
        let app = &mut self.apps[index];
        let user = app.key.0;
        let Some(at) = app.fetches.iter().position(|(handle, _)| *handle == fetch) else {
            return self.oracle.fail(|| format!("user {user}: an inbox that nobody asked for"));
        };
        let (_, Asked::Inbox { before, limit, messages }) = app.fetches[at] else {
            return self.oracle.fail(|| format!("user {user}: an inbox instead of something else"));
        };
        match inbox.rows.first() {
            Some(InboxRow { conversation: ConversationId::Person(first), .. }) if messages > 0 => {
                app.fetches[at].1 = Asked::Page(Some(*first));
            }
            _ => drop(app.fetches.remove(at)),
        }
        let mut listed = inbox.clone();
        listed.at.0 += u64::from(self.fault == Some(Fault::InboxTooFar));
        self.apps[index].list.page(before, listed);
        self.oracle.check_inbox(user, before, limit, inbox);
    }
}
