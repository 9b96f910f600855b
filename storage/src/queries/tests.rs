use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use proto_spec::{
    Content, DeviceId, EpochId, Event, GroupId, MessageName, SendNumber, Subscription, limits::TEXT_BYTES_MAX,
};

use super::{groups::tests::GroupModel, *};
use crate::{
    contract::block_on,
    embedded::{EmbeddedConfig, EmbeddedStore},
    fold::Fold,
    memory::MemoryStore,
    query::{InboxEntry, InboxSnapshot},
    record::{Batch, DeviceNotes, FirstResult, Marks, Notified, Record, Replaced, Rewrite, Shown},
    run::Run,
    schema::{MarkRow, ReadRow, ReceivedRow, SettingsRow, VisibilityRow},
    testing::{any_entry, history},
};

/// What a store should answer, by the plainest means: all entries in a map.
#[derive(Default)]
struct Model {
    logs: BTreeMap<u64, BTreeMap<u64, Entry>>,
    cursors: BTreeMap<(u64, u64), Seq>,
    marks: BTreeMap<u64, Marks>,
    unfinished: BTreeMap<u64, bool>,
    /// Where the entry of a send is, or was.
    results: BTreeMap<(u64, u64, u64), Seq>,
    firsts: BTreeMap<(u64, Seq), FirstResult>,
    /// Which entries tell of the message that stands there.
    places: BTreeMap<(u64, u64), Shown>,
    /// By the name of the message of the other side.
    deleted: BTreeMap<(u64, u64, Seq), Entry>,
    conversations: BTreeMap<(u64, u64), ConversationSnapshot>,
    epochs: BTreeMap<(u64, u64), EpochId>,
    notes: BTreeMap<u64, DeviceNotes>,
    removed: BTreeSet<(u64, u64)>,
    visibility: BTreeMap<u64, VisibilityRow>,
    last_seen: BTreeMap<u64, TimestampMs>,
    subscriptions: BTreeMap<(u64, u64), Subscription>,
    notified: BTreeMap<u64, Notified>,
    /// What users keep of groups.
    kept: BTreeMap<(u64, u64), ConversationSnapshot>,
    groups: GroupModel,
}

impl Model {
    fn of(records: &[Record]) -> Self {
        let mut model = Self::default();
        records.iter().for_each(|record| model.add(record));
        model
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::Rewrite { user, entry, of: Rewrite { place, now, replaces, received, .. } } => {
                let log = self.logs.entry(user.0).or_default();
                log.insert(entry.seq.0, entry.clone());
                for Replaced { seq, first } in replaces {
                    log.remove(&seq.0);
                    first.map(|first| self.firsts.insert((user.0, *seq), first));
                }
                match now.says {
                    Seq::ZERO => drop(self.places.remove(&(user.0, place.0))),
                    _ => drop(self.places.insert((user.0, place.0), now.clone())),
                }
                match (&entry.event, received) {
                    (Event::Sent { device, number, .. }, None) => {
                        self.results.insert((user.0, device.0, number.0), entry.seq);
                        self.unfinished.insert(user.0, true);
                    }
                    (Event::Group { .. } | Event::GroupRefused { .. }, None) => self.groups.add_standing(*user, entry),
                    (Event::Received { from, .. }, Some(received)) => {
                        self.conversations.entry((user.0, from.0)).or_default().received = *received;
                    }
                    (Event::Deleted { conversation: ConversationId::Person(peer), of, .. }, Some(received)) => {
                        self.conversations.entry((user.0, peer.0)).or_default().received = *received;
                        if of.author == *peer {
                            self.deleted.insert((user.0, peer.0, of.seq), entry.clone());
                        }
                    }
                    _ => panic!("{entry:?} changes no message"),
                }
            }
            Record::Append { user, entry, replaces, count } => {
                let log = self.logs.entry(user.0).or_default();
                log.insert(entry.seq.0, entry.clone());
                replaces.map(|seq| log.remove(&seq.0));
                if entry.event.conversation().is_some() {
                    let now = Shown { says: entry.seq, reactions: Vec::new() };
                    self.places.insert((user.0, entry.seq.0), now);
                }
                match &entry.event {
                    Event::Sent { to, device, number, .. } => {
                        self.results.insert((user.0, device.0, number.0), entry.seq);
                        self.unfinished.insert(user.0, true);
                        if let ConversationId::Person(to) = to {
                            self.conversation(*user, *to).sent = entry.seq;
                        }
                    }
                    Event::Received { from, origin, .. } => {
                        self.conversation(*user, *from).received =
                            ReceivedRow { up_to: *origin, at: entry.seq, count: *count };
                    }
                    Event::Delivered { peer, up_to } => {
                        self.conversation(*user, *peer).delivered = MarkRow { up_to: *up_to, at: entry.seq };
                    }
                    Event::Seen { peer, up_to } => {
                        self.conversation(*user, *peer).seen = MarkRow { up_to: *up_to, at: entry.seq };
                    }
                    Event::Read { conversation: ConversationId::Person(peer), up_to, told, .. } => {
                        self.conversation(*user, *peer).read = ReadRow { up_to: *up_to, at: entry.seq, count: *count };
                        if *told > Seq::ZERO {
                            self.unfinished.insert(user.0, true);
                        }
                    }
                    Event::Settings { conversation: ConversationId::Person(peer), settings } => {
                        self.conversation(*user, *peer).settings = SettingsRow { settings: *settings, at: entry.seq };
                    }
                    Event::Visibility { visibility } => {
                        let row = VisibilityRow { visibility: *visibility, at: entry.seq };
                        self.visibility.insert(user.0, row);
                    }
                    Event::Read { conversation: ConversationId::Group(group), up_to, .. } => {
                        let row = ReadRow { up_to: *up_to, at: entry.seq, count: *count };
                        self.kept.entry((user.0, group.0)).or_default().read = row;
                    }
                    Event::Settings { conversation: ConversationId::Group(group), settings } => {
                        let row = SettingsRow { settings: *settings, at: entry.seq };
                        self.kept.entry((user.0, group.0)).or_default().settings = row;
                    }
                    Event::Group { .. } => self.groups.add_standing(*user, entry),
                    Event::Devices { .. }
                    | Event::Deleted { .. }
                    | Event::GroupRefused { .. }
                    | Event::Unknown { .. } => {}
                }
            }
            Record::Cursor { user, device, seq } => {
                self.cursors.insert((user.0, device.0), *seq);
                self.unfinished.insert(user.0, true);
            }
            Record::Marks { user, marks, idle } => {
                self.marks.insert(user.0, *marks);
                if *idle {
                    self.unfinished.insert(user.0, false);
                }
            }
            Record::Epoch { user, first, epoch, forgotten } => {
                forgotten.map(|first| self.epochs.remove(&(user.0, first.0)));
                self.epochs.insert((user.0, first.0), *epoch);
            }
            Record::Devices { user, notes } => drop(self.notes.insert(user.0, notes.clone())),
            Record::Removed { user, device } => {
                self.cursors.remove(&(user.0, device.0));
                self.removed.insert((user.0, device.0));
                self.subscriptions.remove(&(user.0, device.0));
                self.unfinished.insert(user.0, true);
            }
            Record::GivenUp { user, device, number } => {
                self.results.insert((user.0, device.0, number.0), SendsBlock::GIVEN_UP);
            }
            Record::LastSeen { user, at } => drop(self.last_seen.insert(user.0, *at)),
            Record::Subscribed { user, device, subscription } => {
                self.subscriptions.remove(&(user.0, device.0));
                let new = subscription.clone().map(|of| ((user.0, device.0), of));
                self.subscriptions.extend(new);
            }
            Record::Due { user } => drop(self.unfinished.insert(user.0, true)),
            Record::Notified { user, notified } => drop(self.notified.insert(user.0, notified.clone())),
            Record::GroupAppend { .. }
            | Record::GroupState { .. }
            | Record::GroupMember { .. }
            | Record::GroupCame { .. }
            | Record::GroupWants { .. }
            | Record::GroupMarks { .. } => self.groups.add(record),
        }
    }

    fn conversation(&mut self, user: UserId, peer: UserId) -> &mut ConversationSnapshot {
        self.conversations.entry((user.0, peer.0)).or_default()
    }

    /// The conversations of a user, from the one with the newest message on.
    fn inbox(&self, user: u64) -> Vec<InboxEntry> {
        let mut rows: Vec<InboxEntry> = Vec::new();
        for (_, shown) in self.places.range((user, 0)..=(user, u64::MAX)).rev() {
            let last = &self.logs[&user][&shown.says.0];
            let Some(conversation) = last.event.conversation() else { continue };
            let ConversationId::Person(peer) = conversation else { panic!("{last:?} is of no conversation") };
            if rows.iter().all(|row| row.conversation != conversation) {
                let snapshot = self.conversations.get(&(user, peer.0)).copied().unwrap_or_default();
                rows.push(InboxEntry { conversation, snapshot, last: last.clone() });
            }
        }
        rows
    }

    fn user(&self, user: u64) -> UserSnapshot {
        let last = self.logs.get(&user).and_then(|log| log.values().next_back());
        let last_number = |device| self.results.range((user, device, 0)..=(user, device, u64::MAX)).next_back();
        UserSnapshot {
            head: last.map_or(Seq::ZERO, |entry| entry.seq),
            head_time: last.map_or(TimestampMs(0), |entry| entry.time),
            devices: self
                .cursors
                .range((user, 0)..=(user, u64::MAX))
                .map(|(&(_, device), &cursor)| DeviceSnapshot {
                    device: DeviceId(device),
                    cursor,
                    last_number: SendNumber(last_number(device).map_or(0, |(&(.., number), _)| number)),
                    subscription: self.subscriptions.get(&(user, device)).cloned().map(Box::new),
                })
                .collect(),
            notified: self.notified.get(&user).cloned().unwrap_or_default(),
            notes: self.notes.get(&user).cloned().unwrap_or_default(),
            marks: self.marks.get(&user).copied().unwrap_or_default(),
            unfinished: self.unfinished.get(&user).copied().unwrap_or_default(),
            epochs: self
                .epochs
                .range((user, 0)..=(user, u64::MAX))
                .map(|(&(_, first), &epoch)| (Seq(first), epoch))
                .collect(),
            visibility: self.visibility.get(&user).copied().unwrap_or_default(),
            last_seen: self.last_seen.get(&user).copied().unwrap_or_default(),
            groups: self.groups.standings(user),
        }
    }

    fn presence(&self, looks: u64, user: u64) -> PresenceRows {
        let of = self.conversations.get(&(user, looks)).copied().unwrap_or_default();
        let UserSnapshot { visibility, last_seen, .. } = self.user(user);
        let of_looks = self.conversations.get(&(looks, user)).copied().unwrap_or_default().settings;
        let (sent, received, settings) = (of.sent, of.received.up_to, of.settings);
        PresenceRows { visibility, last_seen, sent, received, settings, of_looks }
    }

    fn entries(&self, user: u64, span: &Span, peer: Option<u64>) -> Vec<Entry> {
        if let Some(peer) = peer {
            let told = |message: Message| std::iter::once(message.entry).chain(message.reactions);
            return self.messages(user, peer, span).into_iter().flat_map(told).collect();
        }
        let log = self.logs.get(&user).cloned().unwrap_or_default();
        log.into_values().filter(|entry| span.first <= entry.seq && entry.seq <= span.last).collect()
    }

    fn messages(&self, user: u64, peer: u64, span: &Span) -> Vec<Message> {
        if span.first > span.last {
            return Vec::new();
        }
        let places = self.places.range((user, span.first.0)..=(user, span.last.0));
        let entry = |seq: &Seq| self.logs[&user][&seq.0].clone();
        let messages = places.map(|(&(_, place), shown)| Message {
            place: Seq(place),
            entry: entry(&shown.says),
            reactions: shown.reactions.iter().map(entry).collect(),
        });
        messages.filter(|message| message.entry.event.conversation() == Some(UserId(peer).into())).collect()
    }
}

fn wire_len(entry: &Entry) -> usize {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes.len() + proto_spec::wire::varint_len(bytes.len() as u64)
}

pub(super) fn store_of(parts: &[&[Record]]) -> MemoryStore {
    let store = MemoryStore::default();
    parts.iter().for_each(|records| commit(&store, records));
    store
}

pub(super) fn commit<S: Store>(store: &S, records: &[Record]) {
    let fence = block_on(store.take_over()).unwrap();
    let run = run_of(store, records);
    block_on(store.commit(fence, &run)).unwrap();
}

/// What an ingestion of these records would commit.
pub(super) fn run_of<S: Store>(store: &S, records: &[Record]) -> Run {
    let mut batch = Batch::default();
    records.iter().for_each(|record| batch.push(record));
    let mut fold = Fold::default();
    fold.add(batch.bytes()).unwrap();
    let sorted = fold.sort();
    let needed = sorted.needed();
    let base = block_on(store.get_many(&needed)).unwrap();
    let base = base.into_iter().map(|value| value.map(|value| codec::sends_block(&value).unwrap()));
    sorted.finish(base.collect())
}

fn check_all<S: Store>(store: &S, model: &Model) {
    let ask = |query| block_on(answer(store, &query)).unwrap();
    for user in 1..5 {
        assert_eq!(ask(Query::User(UserId(user))), Answer::User(model.user(user)));
        let users = [3, user, 99, 1, 2, 3];
        let presence = users.iter().map(|of| model.presence(user, *of)).collect();
        let query = Query::Presence { looks: UserId(user), users: users.map(UserId).to_vec() };
        assert_eq!(ask(query), Answer::Presence(presence));
        let several = [UserId(3).into(), GroupId(2).into(), UserId(99).into()];
        let kept = [model.conversations.get(&(user, 3)), model.kept.get(&(user, 2)), None];
        let query = Query::Conversations { user: UserId(user), conversations: several.into() };
        let kept = kept.map(Option::<&_>::copied).map(Option::unwrap_or_default).to_vec();
        assert_eq!(ask(query), Answer::Conversations(kept));
        for peer in 1..5 {
            let expected = model.conversations.get(&(user, peer)).copied().unwrap_or_default();
            let query = Query::Conversation { user: UserId(user), conversation: UserId(peer).into() };
            assert_eq!(ask(query), Answer::Conversation(expected));
            let expected = model.kept.get(&(user, peer)).copied().unwrap_or_default();
            let query = Query::Conversation { user: UserId(user), conversation: GroupId(peer).into() };
            assert_eq!(ask(query), Answer::Conversation(expected));
            let (user_id, conversation) = (UserId(user), UserId(peer).into());
            let messages = model.messages(user, peer, &WHOLE);
            for seq in (0..60).map(Seq) {
                let expected = messages.iter().find(|message| message.place == seq).cloned();
                let query = Query::Message { user: user_id, conversation, place: seq };
                assert_eq!(ask(query), Answer::Message(expected));
                let deleted = model.deleted.get(&(user, peer, seq)).map(|entry| Message {
                    place: entry.concerns().unwrap(),
                    entry: entry.clone(),
                    reactions: Vec::new(),
                });
                let expected = messages.iter().find(|message| name_of(message) == Some(seq)).cloned().or(deleted);
                // With themselves a user has no other side.
                if user != peer {
                    let query = Query::Origin { user: user_id, conversation, origin: seq };
                    assert_eq!(ask(query), Answer::Message(expected));
                }
                let message = messages.iter().find(|message| message.place == seq).cloned();
                let newest = messages.iter().rev().take(2).map(|message| message.place).collect();
                let query = Query::ToDelete { user: user_id, conversation, place: seq, newest_max: 2 };
                assert_eq!(ask(query), Answer::ToDelete(ToDelete { message, newest }));
            }
        }
        let all = model.inbox(user);
        for (named, before, rows_max) in [(0, u64::MAX, 9), (0, 30, 2), (2, u64::MAX, 1), (4, 50, 9)] {
            let both = |id| [UserId(id).into(), GroupId(id).into()];
            let named: Arc<[ConversationId]> = (1..=named).flat_map(both).collect();
            let inside = |row: &&InboxEntry| row.last.place() < Some(Seq(before)) && !named.contains(&row.conversation);
            let expected: Vec<_> = all.iter().filter(inside).cloned().collect();
            let of = |conversation: &ConversationId| match conversation {
                ConversationId::Person(peer) => model.conversations.get(&(user, peer.0)).copied().unwrap_or_default(),
                ConversationId::Group(group) => model.kept.get(&(user, group.0)).copied().unwrap_or_default(),
            };
            let expected = InboxSnapshot {
                named: named.iter().map(of).collect(),
                complete: expected.len() <= rows_max,
                rows: expected.into_iter().take(rows_max).collect(),
                newest: all.iter().filter_map(|row| row.last.place()).max().unwrap_or_default(),
            };
            let (user, before, moved) = (UserId(user), Seq(before), [].into());
            let query = Query::Inbox { user, before, rows_max, named, moved };
            assert_eq!(ask(query), Answer::Inbox(expected));
        }
        for device in 1..40 {
            let query = Query::IsRemoved { user: UserId(user), device: DeviceId(device) };
            assert_eq!(ask(query), Answer::IsRemoved(model.removed.contains(&(user, device))));
        }
        for device in 1..3 {
            for number in 0..70 {
                let expected = model.results.get(&(user, device, number)).map(|seq| {
                    match model.logs.get(&user).and_then(|log| log.get(&seq.0)) {
                        Some(entry) => Sent::Entry(entry.clone()),
                        None if *seq == SendsBlock::GIVEN_UP => Sent::GivenUp,
                        None => Sent::Superseded { seq: *seq, first: model.firsts[&(user, *seq)] },
                    }
                });
                let (user, device, number) = (UserId(user), DeviceId(device), SendNumber(number));
                assert_eq!(ask(Query::Send { user, device, number }), Answer::Send(expected));
            }
        }
    }
    model.groups.check(store);
    let expected: Vec<_> = model.unfinished.iter().filter(|(_, on)| **on).map(|(&user, _)| UserId(user)).collect();
    assert_eq!(block_on(unfinished(store, None, 100)).unwrap(), expected);
    if let Some(first) = expected.first() {
        assert_eq!(block_on(unfinished(store, Some(*first), 100)).unwrap(), expected[1..]);
        assert_eq!(block_on(unfinished(store, None, 1)).unwrap(), expected[..1]);
    }
}

pub(super) const WHOLE: Span = Span {
    first: FIRST_SEQ,
    last: LAST_SEQ,
    direction: Direction::Forwards,
    entries_max: usize::MAX,
    bytes_max: usize::MAX,
};

/// What the other side calls a message, if it is one of theirs.
fn name_of(message: &Message) -> Option<Seq> {
    match &message.entry.event {
        Event::Received { origin, content, .. } => Some(content.about().map_or(*origin, |(of, _)| of.seq)),
        _ => None,
    }
}

fn check_span<S: Store>(store: &S, model: &Model, user: u64, peer: Option<u64>, span: Span) {
    let query = match peer {
        None => Query::Log { user: UserId(user), span },
        Some(peer) => Query::ConversationLog { user: UserId(user), conversation: UserId(peer).into(), span },
    };
    let Answer::Entries(Entries { entries, complete }) = block_on(answer(store, &query)).unwrap() else {
        panic!("another kind of answer");
    };
    let all = model.entries(user, &span, peer);
    let part = match span.direction {
        Direction::Forwards => &all[..entries.len()],
        Direction::Backwards => &all[all.len() - entries.len()..],
    };
    assert_eq!(entries, part);
    assert_eq!(complete, entries.len() == all.len());
    // What belongs to the first message comes with it.
    let first = entries.iter().filter(|entry| entry.concerns() == entries[0].concerns()).count();
    let counted = entries.iter().filter(|entry| peer.is_none() || !entry.is_reaction()).count();
    assert!(counted <= span.entries_max);
    let bytes: usize = entries.iter().map(wire_len).sum();
    assert!(bytes <= span.bytes_max || entries.len() == if peer.is_some() { first } else { 1 });
    assert!(complete || !entries.is_empty(), "an incomplete answer makes progress");
}

pub(super) fn any_span() -> impl Strategy<Value = Span> {
    (0..60u64, 0..60u64, any::<bool>(), 1..30usize, prop_oneof![0..400usize, Just(usize::MAX)]).prop_map(
        |(first, last, forwards, entries_max, bytes_max)| Span {
            first: Seq(first),
            last: Seq(last),
            direction: if forwards { Direction::Forwards } else { Direction::Backwards },
            entries_max,
            bytes_max,
        },
    )
}

proptest! {
    #[test]
    fn answers_are_those_of_a_plain_model(records in history(300), cut in 0..300usize) {
        let (first, second) = records.split_at(cut.min(records.len()));
        check_all(&store_of(&[first, second]), &Model::of(&records));
    }

    #[test]
    fn a_span_is_read_from_the_asked_end_and_says_whether_it_is_whole(
        records in history(200), user in 1..4u64, peer in proptest::option::of(1..4u64), span in any_span(),
    ) {
        check_span(&store_of(&[&records]), &Model::of(&records), user, peer, span);
    }

    /// The bound of a range in the store is a bound of a page on the wire.
    #[test]
    fn a_row_bounds_its_entry_on_the_wire(entry in any_entry(), text in 0..TEXT_BYTES_MAX) {
        let large = Event::Received {
            from: UserId(u64::MAX),
            origin: Seq(u64::MAX),
            content: Content::Text(vec![b'x'; text].into()),
        };
        for entry in [Entry { event: large, ..entry.clone() }, entry] {
            let mut value = Vec::new();
            codec::put_timeline_entry(&mut value, &entry);
            let key = RowKey::Timeline { user: UserId(1), seq: entry.seq }.encode();
            prop_assert!(wire_len(&entry) <= key.len() + value.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_ingestion_between_two_reads_of_a_question_is_no_damage(
        records in history(160), cut in 0..160usize, user in (1..4u64).prop_map(UserId), seq in (0..60u64).prop_map(Seq),
    ) {
        let (first, second) = records.split_at(cut.min(records.len()));
        let (before, after) = (store_of(&[first]), store_of(&[first, second]));
        let run = run_of(&before, second);
        let ask = |store: &MemoryStore, query: &Query| block_on(answer(store, query));
        for peer in 1..4 {
            let conversation = UserId(peer).into();
            let inbox = Query::Inbox { user, before: LAST_SEQ, rows_max: 9, named: [].into(), moved: [].into() };
            let parts = [
                inbox,
                Query::ConversationLog { user, conversation, span: WHOLE },
                Query::ToDelete { user, conversation, place: seq, newest_max: 3 },
                Query::Message { user, conversation, place: seq },
                Query::Origin { user, conversation, origin: seq },
                Query::Send { user, device: DeviceId(peer), number: SendNumber(seq.0) },
            ];
            for query in &parts {
                for reads in 0..8 {
                    let store = store_of(&[first]);
                    store.commit_after_reads(reads, run.clone());
                    let found = ask(&store, query);
                    prop_assert!(found.is_ok(), "{query:?} after {reads} reads: {found:?}");
                    // What is one message is as it was at one time.
                    if let Ok(found @ (Answer::Message(_) | Answer::Send(_))) = found {
                        let is_at_once = found == ask(&before, query).unwrap() || found == ask(&after, query).unwrap();
                        prop_assert!(is_at_once, "{query:?} after {reads} reads: {found:?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_embedded_store_answers_the_same(records in history(300), cut in 0..300usize, span in any_span()) {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedConfig { cache_bytes: 1024 * 1024, ..EmbeddedConfig::default() }).unwrap();
        let (first, second) = records.split_at(cut.min(records.len()));
        commit(&store, first);
        commit(&store, second);
        // As after a crash between ingestion and the end of the journal.
        commit(&store, second);
        let model = Model::of(&records);
        check_all(&store, &model);
        for user in 1..4 {
            check_span(&store, &model, user, None, span);
            check_span(&store, &model, user, Some(user % 3 + 1), span);
        }
    }
}

#[test]
fn a_user_of_many_devices_is_read_whole() {
    let user = UserId(1);
    let cursor = |device| Record::Cursor { user, device: DeviceId(device), seq: Seq(device) };
    let given_up = |device| Record::GivenUp { user, device: DeviceId(device), number: SendNumber(1) };
    let records: Vec<_> = (1..=600).map(cursor).chain((1..=600).step_by(2).map(given_up)).collect();
    let store = store_of(&[&records]);
    let Answer::User(snapshot) = block_on(answer(&store, &Query::User(user))).unwrap() else {
        panic!("another kind of answer");
    };
    let found = snapshot.devices.iter().map(|device| (device.device.0, device.last_number.0));
    assert!(found.eq((1..=600).map(|device| (device, device % 2))));
    assert_eq!(store.ranges_read(), 2, "the head, and the devices");
}

#[test]
fn whether_a_user_exists_cannot_be_told_from_what_is_read() {
    let (looks, user) = (UserId(1), UserId(2));
    let content = Content::text("hello");
    let sent = Event::Sent { to: looks.into(), device: DeviceId(1), number: SendNumber(1), content };
    let entry = Entry { seq: Seq(1), time: TimestampMs(1), event: sent };
    let records = [
        Record::Append { user, entry, replaces: None, count: 0 },
        Record::LastSeen { user, at: TimestampMs(7) },
        Record::Cursor { user, device: DeviceId(1), seq: Seq(1) },
    ];
    let store = store_of(&[&records]);
    let reads = [vec![user; 500], vec![UserId(99); 500]].map(|users| {
        let before = store.rows_got();
        let Answer::Presence(rows) = block_on(answer(&store, &Query::Presence { looks, users })).unwrap() else {
            panic!("another kind of answer");
        };
        assert_eq!(rows.len(), 500);
        (rows[0] == PresenceRows::default(), store.rows_got() - before, store.ranges_read())
    });
    assert_eq!(reads, [(false, 3_000, 0), (true, 3_000, 0)]);

    let before = store.rows_got();
    let Answer::User(known) = block_on(answer(&store, &Query::User(user))).unwrap() else { panic!("no user") };
    assert_eq!(known.last_seen, TimestampMs(7));
    let reads = (store.ranges_read(), store.rows_got() - before);
    assert_eq!(reads, (2, 4), "marks, duties, notes, and what the device has sent last: presence costs no read");
}

#[test]
fn a_message_that_was_deleted_was_written_all_the_same() {
    let (user, conversation) = (UserId(1), UserId(2).into());
    let content = Content::text("hello");
    let sent = Event::Sent { to: conversation, device: DeviceId(1), number: SendNumber(1), content };
    let append = |seq, event| Record::Append {
        user,
        entry: Entry { seq: Seq(seq), time: TimestampMs(1), event },
        replaces: None,
        count: 0,
    };
    let deleted = |seq, place: u64, last| {
        let of = MessageName { author: user, seq: Seq(place) };
        let event = Event::Deleted { conversation, of, place: Seq(place), unread: 0 };
        let replaces = vec![Replaced { seq: Seq(place), first: None }];
        let received = Some(ReceivedRow { at: Seq(last), ..ReceivedRow::default() });
        let (place, now, last) = (Seq(place), Shown::default(), Some(Seq(last)));
        let entry = Entry { seq: Seq(seq), time: TimestampMs(1), event };
        Record::Rewrite { user, entry, of: Rewrite { place, now, replaces, received, last } }
    };
    let known = |records: &[Record]| {
        let query = Query::Conversation { user, conversation };
        match block_on(answer(&store_of(&[records]), &query)).unwrap() {
            Answer::Conversation(known) => known.sent,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(known(&[append(1, sent.clone()), deleted(2, 1, 0)]), Seq(1));
    // What the other side wrote does not become the user's by being the last that is left.
    let came = |origin| Event::Received { from: UserId(2), origin: Seq(origin), content: Content::text("hello") };
    assert_eq!(known(&[append(1, came(1)), append(2, came(2)), deleted(3, 2, 1)]), Seq::ZERO);
    assert_eq!(known(&[append(1, came(1)), append(2, sent), deleted(3, 2, 1)]), Seq(2));
}

#[test]
fn a_store_that_is_away_is_an_error_and_not_an_empty_answer() {
    let store = store_of(&[]);
    store.fail_next_reads(1);
    let refused = block_on(answer(&store, &Query::User(UserId(1))));
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
}

#[test]
fn a_message_without_its_row_is_damage() {
    let store = MemoryStore::default();
    let fence = block_on(store.take_over()).unwrap();
    let mut builder = crate::run::RunBuilder::default();
    builder.put(RowKey::Conversation { user: UserId(1), peer: UserId(2), seq: Seq(3) }.encode(), |_| ());
    block_on(store.commit(fence, &builder.finish())).unwrap();
    let span =
        Span { first: Seq(1), last: Seq(9), direction: Direction::Forwards, entries_max: 9, bytes_max: usize::MAX };
    let query = Query::ConversationLog { user: UserId(1), conversation: UserId(2).into(), span };
    let refused = block_on(answer(&store, &query)).unwrap_err().to_string();
    assert!(refused.contains("Timeline { user: UserId(1), seq: Seq(3) } is missing"), "{refused}");
}

#[test]
fn a_store_that_changes_faster_than_it_is_read_is_busy_and_not_damaged() {
    let (user, conversation) = (UserId(1), UserId(2).into());
    let index = |says| {
        let mut run = crate::run::RunBuilder::default();
        let now = Shown { says: Seq(says), reactions: Vec::new() };
        let key = RowKey::Conversation { user, peer: UserId(2), seq: Seq(3) };
        run.put(key.encode(), |out| codec::put_changed_index(out, &now, None));
        run.finish()
    };
    let store = MemoryStore::default();
    // The index row and the entry are a read each.
    for says in 4..20 {
        store.commit_after_reads(if says == 4 { 0 } else { 2 }, index(says));
    }
    let query = Query::Message { user, conversation, place: Seq(3) };
    let refused = block_on(answer(&store, &query)).unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable { .. }) && refused.is_retryable(), "{refused}");
}

/// A user with a device that has sent something, and so many conversations of so many messages, every other one sent; then as many as
/// `busy` more come in one of them.
fn with_conversations(conversations: u64, messages: u64, busy: u64) -> MemoryStore {
    const USER: UserId = UserId(1);
    let mut batch = Batch::default();
    batch.push(&Record::Epoch { user: USER, first: Seq(1), epoch: EpochId(7), forgotten: None });
    batch.push(&Record::Cursor { user: USER, device: DeviceId(1), seq: Seq(1) });
    let (mut seq, mut number) = (Seq(0), SendNumber(0));
    let mut append = |peer, count, is_sent| {
        let content = Content::text("hello");
        let event = if is_sent {
            number = number.next();
            Event::Sent { to: UserId(peer).into(), device: DeviceId(1), number, content }
        } else {
            Event::Received { from: UserId(peer), origin: Seq(count), content }
        };
        seq = seq.next();
        batch.append(USER, &Entry { seq, time: TimestampMs(1), event }, None, count);
    };
    for count in 1..=messages {
        (2..2 + conversations).for_each(|peer| append(peer, count, count % 2 == 0));
    }
    (0..busy).for_each(|count| append(2, messages + count, false));
    let mut fold = Fold::default();
    fold.add(batch.bytes()).unwrap();
    let store = MemoryStore::default();
    let fence = block_on(store.take_over()).unwrap();
    block_on(store.advance(fence, &[], fold.sort())).unwrap();
    store
}

#[test]
fn an_app_opens_with_five_ranges_at_most_however_many_conversations_there_are() {
    // The head; devices and epochs; the newest entries; the page.
    let few = 4;
    // The last messages of all conversations, if the newest entries are of too few.
    for (conversations, busy, ranges) in [(1, 0, few), (20, 0, few), (2_000, 0, few), (5, 300, 5), (2_000, 300, 5)] {
        let (store, user) = (with_conversations(conversations, 2, busy), UserId(1));
        let Answer::User(found) = block_on(answer(&store, &Query::User(user))).unwrap() else { panic!("no user") };
        assert_eq!((found.devices.len(), found.epochs.len()), (1, 1));
        assert_eq!(found.devices[0].last_number, SendNumber(conversations));
        let query = Query::Inbox { user, before: LAST_SEQ, rows_max: 20, named: [].into(), moved: [].into() };
        let Answer::Inbox(inbox) = block_on(answer(&store, &query)).unwrap() else { panic!("no inbox") };
        assert_eq!((inbox.rows.len() as u64, inbox.complete), (conversations.min(20), conversations <= 20));
        let span = Span {
            first: Seq(1),
            last: found.head,
            direction: Direction::Backwards,
            entries_max: 15,
            bytes_max: 60_000,
        };
        let query = Query::ConversationLog { user, conversation: inbox.rows[0].conversation, span };
        let Answer::Entries(page) = block_on(answer(&store, &query)).unwrap() else { panic!("no page") };
        assert_eq!(page.entries.len() as u64, (2 + busy).min(15));
        assert_eq!(store.ranges_read(), ranges, "{conversations} conversations and {busy} messages in one");
    }
}

#[test]
fn what_a_device_has_missed_is_one_range_however_long_the_log_is() {
    for entries in [100, 20_000] {
        let store = with_conversations(entries / 10, 10, 0);
        let span = Span {
            first: Seq(entries - 9),
            last: Seq(entries),
            direction: Direction::Forwards,
            entries_max: 500,
            bytes_max: 60_000,
        };
        let Answer::Entries(missed) = block_on(answer(&store, &Query::Log { user: UserId(1), span })).unwrap() else {
            panic!("no entries")
        };
        assert_eq!((missed.entries.len(), missed.complete, store.ranges_read()), (10, true, 1));
    }
}
