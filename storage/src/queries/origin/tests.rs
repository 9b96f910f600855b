use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use proto_spec::{Content, DeviceId, MessageName, SendNumber, Stands, TimestampMs};

use super::*;
use crate::{
    contract::block_on,
    fold::Fold,
    memory::MemoryStore,
    record::{Batch, Record, Replaced, Rewrite},
    run::RunBuilder,
};

const USER: UserId = UserId(1);
const PEER: UserId = UserId(2);

/// What happens in a conversation, as the log of one side has it.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The user writes so many messages.
    Write(u64),
    /// So many come.
    Come(u64),
    /// One comes that has been edited on its way.
    ComeEdited,
    /// Something happens elsewhere, so many times.
    Elsewhere(u64),
    /// Their message, the how manieth from the last, is edited.
    Edit(usize),
    /// As before, of any message: somebody reacts to it.
    React(usize),
    /// As before: it is deleted.
    Delete(usize),
}

/// A conversation and the plainest index of it.
#[derive(Default)]
struct World {
    records: Vec<Record>,
    head: Seq,
    /// In their log.
    theirs: Seq,
    number: SendNumber,
    /// By ascending place: the name, if it is theirs, and what says now what it says.
    messages: Vec<(Seq, Option<Seq>, Shown)>,
    /// The names of what came as something else, or not at all.
    names: BTreeSet<Seq>,
}

impl World {
    fn of(steps: &[Step]) -> Self {
        let mut world = Self::default();
        steps.iter().for_each(|step| world.step(*step));
        world
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(count) => (0..count).for_each(|_| {
                let event = self.sent(Content::text("mine"));
                self.append(event, None);
            }),
            Step::Come(count) => (0..count).for_each(|_| {
                let origin = self.their_next();
                self.append(Event::Received { from: PEER, origin, content: Content::text("theirs") }, Some(origin));
            }),
            Step::ComeEdited => {
                let name = self.their_next();
                // Others that were written before the edit come before it.
                self.step(Step::Come(2));
                let content = self.edit(name, self.head.next());
                let origin = self.their_next();
                self.append(Event::Received { from: PEER, origin, content }, Some(name));
            }
            Step::Elsewhere(count) => {
                (self.head.0, self.theirs.0) = (self.head.0 + count, self.theirs.0 + 2 * count);
            }
            Step::Edit(back) => {
                let Some(at) = self.messages.iter().rposition(|(_, name, _)| name.is_some()) else { return };
                let at = at.saturating_sub(back);
                let (place, Some(name), shown) = self.messages[at].clone() else { return };
                let (content, origin) = (self.edit(name, place), self.their_next());
                let now = Shown { says: self.head.next(), ..shown.clone() };
                self.rewrite(at, Event::Received { from: PEER, origin, content }, now, &[shown.says]);
            }
            Step::React(back) => {
                let Some(at) = self.messages.len().checked_sub(back + 1) else { return };
                let (place, name, shown) = self.messages[at].clone();
                let stands = Some(Stands { place, time: TimestampMs(1) });
                let of = name.map_or(MessageName { author: USER, seq: place }, named);
                let event = self.sent(Content::reaction(of, "+", stands));
                let now = Shown { says: shown.says, reactions: vec![self.head.next()] };
                self.rewrite(at, event, now, &shown.reactions);
            }
            Step::Delete(back) => {
                let Some(at) = self.messages.len().checked_sub(back + 1) else { return };
                let (place, name, shown) = self.messages[at].clone();
                let of = name.map_or(MessageName { author: USER, seq: place }, named);
                let event = Event::Deleted { conversation: PEER.into(), of, place, unread: 0 };
                self.rewrite(at, event, Shown::default(), &shown.seqs().collect::<Vec<_>>());
                self.messages.remove(at);
            }
        }
    }

    fn sent(&mut self, content: Content) -> Event {
        self.number = self.number.next();
        Event::Sent { to: PEER.into(), device: DeviceId(1), number: self.number, content }
    }

    fn edit(&self, name: Seq, place: Seq) -> Content {
        Content::edit(named(name), &Content::text("edited"), Some(Stands { place, time: TimestampMs(1) }))
    }

    fn their_next(&mut self) -> Seq {
        self.theirs = self.theirs.next();
        self.names.insert(self.theirs);
        self.theirs
    }

    fn entry(&mut self, event: Event) -> Entry {
        self.head = self.head.next();
        Entry { seq: self.head, time: TimestampMs(1), event }
    }

    fn append(&mut self, event: Event, name: Option<Seq>) {
        let entry = self.entry(event);
        self.messages.push((entry.seq, name, Shown { says: entry.seq, reactions: Vec::new() }));
        self.records.push(Record::Append { user: USER, entry, replaces: None, count: 1 });
    }

    fn rewrite(&mut self, at: usize, event: Event, now: Shown, gone: &[Seq]) {
        let entry = self.entry(event);
        let place = self.messages[at].0;
        self.messages[at].2 = now.clone();
        let replaces = gone.iter().map(|&seq| Replaced { seq, first: None }).collect();
        let of = Rewrite { place, now, replaces, received: None, last: None };
        self.records.push(Record::Rewrite { user: USER, entry, of });
    }

    fn store(&self) -> MemoryStore {
        let mut batch = Batch::default();
        self.records.iter().for_each(|record| batch.push(record));
        let mut fold = Fold::default();
        fold.add(batch.bytes()).unwrap();
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        block_on(store.advance(fence, &[], fold.sort())).unwrap();
        store
    }

    /// The plain walk: one message after the other.
    fn place_of(&self, origin: Seq) -> Option<Seq> {
        self.messages.iter().find(|(_, name, _)| *name == Some(origin)).map(|(place, ..)| *place)
    }
}

fn named(seq: Seq) -> MessageName {
    MessageName { author: PEER, seq }
}

/// As it is in a store of before index rows said whose a message is.
fn forget_whose(store: &MemoryStore) {
    let fence = block_on(store.take_over()).unwrap();
    let mut run = RunBuilder::default();
    for (key, value) in store.rows() {
        let RowKey::Conversation { seq, .. } = RowKey::decode(&key).unwrap() else { continue };
        let shown = codec::index(seq, &value).unwrap().shown;
        run.put(key, |out| codec::put_earlier_index(out, seq, &shown));
    }
    block_on(store.commit(fence, &run.finish())).unwrap();
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..40u64).prop_map(Step::Write),
        (1..12u64).prop_map(Step::Come),
        Just(Step::ComeEdited),
        (1..200u64).prop_map(Step::Elsewhere),
        (0..30usize).prop_map(Step::Edit),
        (0..60usize).prop_map(Step::React),
        (0..30usize).prop_map(Step::Delete),
    ]
}

proptest! {
    #[test]
    fn a_message_is_found_where_a_plain_walk_finds_it(
        steps in vec(any_step(), 0..60), rows_max in 1..9usize, is_old in any::<bool>(),
    ) {
        let world = World::of(&steps);
        let store = world.store();
        if is_old {
            forget_whose(&store);
        }
        for origin in world.names.iter().copied().chain([Seq(0), world.theirs.next(), Seq(u64::MAX)]) {
            let found = block_on(message_of(&store, USER, PEER.into(), origin)).unwrap();
            let (deleted, there): (Vec<_>, Vec<_>) =
                found.iter().partition(|found| matches!(found.entry.event, Event::Deleted { .. }));
            prop_assert_eq!(there.first().map(|found| found.place), world.place_of(origin));
            let is_deleted = world.records.iter().any(|record| matches!(record,
                Record::Rewrite { entry: Entry { event: Event::Deleted { of, .. }, .. }, .. } if *of == named(origin)));
            prop_assert_eq!(deleted.len(), usize::from(is_deleted));
            // The same, with so few rows at a time that it is halved often.
            let search = Search { store: &store, user: USER, peer: PEER, origin };
            if block_on(search.displaced(origin)).unwrap().is_none() {
                let place = block_on(search.place(rows_max, ROWS_MAX)).unwrap();
                let is_it = |place| world.place_of(origin) == Some(place);
                prop_assert!(place.is_none_or(is_it) || world.place_of(origin).is_none());
                prop_assert!(place.is_some() || world.place_of(origin).is_none());
            }
        }
    }
}

/// Of 10,000 messages in a log four times as long: whoever wrote them and whatever has been said of them since.
#[test]
fn a_message_of_ten_thousand_is_found_with_a_few_reads() {
    let edit_all = |world: &mut World| (0..5_000).for_each(|back| world.step(Step::Edit(back)));
    let some = |step: &[Step]| World::of(&std::iter::repeat_n(step, 2_500).flatten().copied().collect::<Vec<_>>());
    let mixed = [Step::Come(1), Step::Elsewhere(6), Step::Write(2), Step::Elsewhere(6), Step::Come(1)];
    let mut edited = some(&mixed);
    edit_all(&mut edited);
    let worlds = [
        ("mixed", some(&mixed)),
        ("edited", edited),
        ("edited on their way", some(&[Step::ComeEdited, Step::Elsewhere(12), Step::Write(1)])),
        ("one answer", World::of(&[Step::Come(3), Step::Write(9_990), Step::Come(7)])),
        ("theirs", World::of(&[Step::Come(10_000)])),
    ];
    for (what, world) in worlds {
        let store = world.store();
        let mut most = (0, 0);
        for origin in world.names.iter().step_by(7).copied().chain([Seq(1), world.theirs]) {
            let before = (store.ranges_read(), store.rows_got());
            let found = block_on(message_of(&store, USER, PEER.into(), origin)).unwrap();
            assert_eq!(found.map(|found| found.place), world.place_of(origin), "{what}: {origin:?}");
            let read = (store.ranges_read() - before.0, store.rows_got() - before.1);
            most = (most.0.max(read.0), most.1.max(read.1));
        }
        // 2 log2(10,000) is 26.6.
        assert!(most.0 <= 20 && most.1 <= 20, "{what}: {most:?} ranges and single rows");
    }
}

#[test]
fn no_more_is_read_in_search_of_a_message_than_a_bound() {
    let world = World::of(&[Step::Come(1), Step::Write(1_000), Step::Come(1)]);
    let store = world.store();
    let origin = *world.names.first().unwrap();
    let search = Search { store: &store, user: USER, peer: PEER, origin };
    let place = |rows_left| block_on(search.place(CONVERSATION_ROWS, rows_left)).unwrap();
    assert_eq!((place(500), place(1_200)), (None, world.place_of(origin)));
}
