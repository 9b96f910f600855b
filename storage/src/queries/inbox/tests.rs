use std::{cmp::Reverse, collections::BTreeMap};

use proptest::{collection::vec, prelude::*};
use proto_spec::{Content, DeviceId, Event, MessageName, SendNumber, TimestampMs};

use crate::{
    contract::block_on,
    fold::Fold,
    memory::MemoryStore,
    query::{Answer, InboxSnapshot, Query},
    record::{Batch, Record, Replaced, Rewrite, Shown},
    schema::ReceivedRow,
    store::Store,
};

use super::*;

const USER: UserId = UserId(1);

/// What happens in the log of a user.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The user writes to this one, or they to the user, so many times.
    Messages { peer: u64, is_sent: bool, count: u64 },
    /// A message of the user, the how manieth from the last, is edited.
    Edit(usize),
    /// Any message is deleted.
    Delete(usize),
}

/// A log, and its messages by the plainest means.
#[derive(Default)]
struct World {
    batch: Batch,
    head: Seq,
    number: SendNumber,
    /// By ascending place: with whom, and which entry says what it says.
    messages: Vec<(Seq, ConversationId, Seq)>,
    /// Where those of the user are among them.
    own: Vec<Seq>,
    received: BTreeMap<UserId, ReceivedRow>,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Messages { peer, is_sent, count } => (0..count).for_each(|_| self.message(UserId(peer), is_sent)),
            Step::Edit(back) => {
                let at = self.own.len().checked_sub(back + 1);
                let Some(place) = at.map(|at| self.own[at]) else { return };
                let Some(message) = self.messages.iter().position(|(of, ..)| *of == place) else { return };
                let (_, conversation, before) = self.messages[message];
                let name = MessageName { author: USER, seq: place };
                let entry = self.sent(conversation, Content::edit(name, &Content::text("edited"), None));
                self.messages[message].2 = entry.seq;
                let now = Shown { says: entry.seq, reactions: Vec::new() };
                let replaces = vec![Replaced { seq: before, first: None }];
                let of = Rewrite { place, now, replaces, received: None, last: None };
                self.batch.push(&Record::Rewrite { user: USER, entry, of });
            }
            Step::Delete(back) => {
                let Some(at) = self.messages.len().checked_sub(back + 1) else { return };
                let (place, conversation, before) = self.messages.remove(at);
                let ConversationId::Person(peer) = conversation else { unreachable!("there are no others") };
                let newest = self.last_of(conversation);
                let last = (newest < place).then_some(newest);
                let row = self.received.entry(peer).or_default();
                row.at = last.unwrap_or(row.at);
                let received = Some(*row);
                let of = MessageName { author: USER, seq: place };
                let entry = self.entry(Event::Deleted { conversation, of, place, unread: 0 });
                let replaces = vec![Replaced { seq: before, first: None }];
                let of = Rewrite { place, now: Shown::default(), replaces, received, last };
                self.batch.push(&Record::Rewrite { user: USER, entry, of });
            }
        }
    }

    fn message(&mut self, peer: UserId, is_sent: bool) {
        let entry = if is_sent {
            self.own.push(self.head.next());
            self.sent(peer.into(), Content::text("mine"))
        } else {
            let origin = self.head.next();
            self.received.insert(peer, ReceivedRow { up_to: origin, at: origin, count: 1 });
            self.entry(Event::Received { from: peer, origin, content: Content::text("theirs") })
        };
        self.messages.push((entry.seq, peer.into(), entry.seq));
        self.batch.push(&Record::Append { user: USER, entry, replaces: None, count: 1 });
    }

    fn sent(&mut self, to: ConversationId, content: Content) -> Entry {
        self.number = self.number.next();
        self.entry(Event::Sent { to, device: DeviceId(1), number: self.number, content })
    }

    fn entry(&mut self, event: Event) -> Entry {
        self.head = self.head.next();
        Entry { seq: self.head, time: TimestampMs(1), event }
    }

    fn last_of(&self, conversation: ConversationId) -> Seq {
        self.messages.iter().rev().find(|(_, with, _)| *with == conversation).map_or(Seq::ZERO, |(place, ..)| *place)
    }

    fn store(&self) -> MemoryStore {
        let mut fold = Fold::default();
        fold.add(self.batch.bytes()).unwrap();
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        block_on(store.advance(fence, &[], fold.sort())).unwrap();
        store
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let messages = |count| {
        let peer = (2..10u64, any::<bool>(), count);
        peer.prop_map(|(peer, is_sent, count)| Step::Messages { peer, is_sent, count })
    };
    prop_oneof![
        8 => messages(1..3u64),
        1 => messages(1..40u64),
        3 => (0..30usize).prop_map(Step::Edit),
        3 => (0..6usize).prop_map(Step::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_page_is_that_of_whoever_looks_at_every_message(
        steps in vec(any_step(), 0..50), rows_max in 1..6usize, before in 0..120u64, is_first in any::<bool>(),
        named in vec(2..10u64, 0..2), moved in vec((2..10u64, 0..8usize), 0..6),
    ) {
        let mut world = World::default();
        steps.iter().for_each(|step| world.step(*step));
        let before = if is_first { LAST_SEQ } else { Seq(before) };
        let named: Vec<ConversationId> = named.into_iter().map(|peer| UserId(peer).into()).collect();
        let mut lasts: BTreeMap<u64, Seq> =
            (2..10).map(|peer| (peer, world.last_of(UserId(peer).into()))).collect();
        let newest = lasts.values().copied().max().unwrap_or_default();
        // The last messages are gone, as the tail has it: an earlier one is the last now, or none.
        let mut elsewhere = BTreeMap::new();
        for (peer, back) in moved {
            let of = world.messages.iter().rev().filter(|(_, with, _)| *with == UserId(peer).into());
            elsewhere.insert(peer, of.skip(back).map(|(place, ..)| *place).next().unwrap_or_default());
        }
        lasts.extend(&elsewhere);
        let mut wanted: Vec<(ConversationId, Seq)> =
            lasts.into_iter().map(|(peer, last)| (UserId(peer).into(), last)).collect();
        wanted.retain(|(with, last)| Seq::ZERO < *last && *last < before && !named.contains(with));
        wanted.sort_unstable_by_key(|(_, last)| Reverse(*last));
        let complete = wanted.len() <= rows_max;
        wanted.truncate(rows_max);

        let moved = elsewhere.into_iter().map(|(peer, last)| (UserId(peer).into(), last)).collect();
        let query = Query::Inbox { user: USER, before, rows_max, named: named.into(), moved };
        let Answer::Inbox(InboxSnapshot { rows, complete: is_complete, newest: found, .. }) =
            block_on(crate::answer(&world.store(), &query)).unwrap() else { panic!("another kind of answer") };
        let rows: Vec<_> = rows.into_iter().map(|row| (row.conversation, row.last.place().unwrap())).collect();
        prop_assert_eq!((rows, is_complete, found), (wanted, complete, newest));
    }
}
