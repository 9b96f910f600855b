//! The past of the reader of a [`Conversation`](crate::conversation::Conversation), as an ingestion leaves it in a store: so many
//! conversations of two messages each, one of either side, or a log of so many messages of one conversation.

use std::path::Path;

use proto_spec::{Content, ConversationId, DeviceId, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use storage::{Batch, EmbeddedConfig, EmbeddedStore, Record, Store as _, contract::block_on, fold::Fold};

use crate::{
    TEXT,
    conversation::{READER, WRITER},
    history::Random,
};

const DEVICE: DeviceId = DeviceId(1);

/// A past that is being written.
#[derive(Debug)]
pub struct Past {
    fold: Fold,
    head: Seq,
    numbers: SendNumber,
}

impl Past {
    /// So many conversations of two messages each, one of either side. Who wrote when is in no order.
    ///
    /// # Panics
    /// The fold does not take what is written here.
    #[must_use]
    pub fn of_conversations(conversations: u64) -> Self {
        let mut past = Self::empty();
        let mut random = Random(7);
        let peers: Vec<_> = (0..conversations).map(|_| UserId(random.number() >> 1)).collect();
        for round in 0..2 {
            for (at, peer) in peers.iter().enumerate() {
                past.message(*peer, at % 2 == round, 1);
            }
        }
        past
    }

    /// So many messages of one conversation, by turns of either side.
    ///
    /// # Panics
    /// The fold does not take what is written here.
    #[must_use]
    pub fn of_messages(messages: u64) -> Self {
        let mut past = Self::empty();
        for at in 0..messages {
            past.message(WRITER, at % 2 == 0, at / 2 + 1);
        }
        past
    }

    fn empty() -> Self {
        Self { fold: Fold::default(), head: Seq::ZERO, numbers: SendNumber(0) }
    }

    /// Received or sent; `count` messages have been received in the conversation, with this one.
    fn message(&mut self, peer: UserId, is_received: bool, count: u64) {
        self.head = self.head.next();
        let (seq, content) = (self.head, Content::text(TEXT));
        let (event, count) = if is_received {
            (Event::Received { from: peer, origin: seq, content }, count)
        } else {
            self.numbers = self.numbers.next();
            (Event::Sent { to: ConversationId::Person(peer), device: DEVICE, number: self.numbers, content }, 0)
        };
        let entry = Entry { seq, time: TimestampMs(1_760_000_000_000 + seq.0), event };
        let mut batch = Batch::default();
        batch.push(&Record::Append { user: READER, entry, replaces: None, count });
        self.fold.add(batch.bytes()).expect("it was encoded here");
    }

    /// Brings all of it into a new store in this folder. Gives the head of the reader's log, where the reader's device is.
    ///
    /// # Panics
    /// The store does not take it.
    pub fn store_in(mut self, folder: &Path) -> Seq {
        let store = EmbeddedStore::open(folder, EmbeddedConfig::default()).expect("a new store");
        let mut batch = Batch::default();
        batch.push(&Record::Cursor { user: READER, device: DEVICE, seq: self.head });
        self.fold.add(batch.bytes()).expect("it was encoded here");
        let sorted = self.fold.sort();
        let base = vec![None; sorted.needed().len()];
        let fence = block_on(store.take_over()).expect("a fence");
        block_on(store.commit(fence, &sorted.finish(base))).expect("the store takes it");
        self.head
    }
}
