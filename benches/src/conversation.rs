//! A conversation: two users whose home is one shard, and the least of a rim around it. What is written is released in
//! the same turn, what is sent is taken by the kernel at once, and what is ingested is forgotten; or, with a store, kept there.
//!
//! Invariant: after a turn nothing waits, neither for a commit nor in an outbox.

use std::mem;

use proto_spec::{ClientFrame, Content, DeviceId, EpochId, Resume, SendNumber, Seq, TimestampMs, UserId};
use server::{
    access::handshake::Resumption,
    limits::RECEIVE_BUFFER_BYTES,
    shard::{
        CacheLimits, ConnId, Connected, Effects, Grant, Input, Limits, Now, PresenceSettings, Promise, Settings, Shard,
        ShardCounters,
        directory::Directory,
        topology::{CoreId, Topology},
    },
};
use storage::{
    Answer, BatchId, ConversationSnapshot, EmbeddedStore, LaneId, Query, ReceivedRow, Store as _, UserSnapshot, answer,
    contract::block_on, fold::Fold,
};

use crate::TEXT;

/// Who writes.
pub const WRITER: UserId = UserId(81_234_567);
/// Who is written to.
pub const READER: UserId = UserId(76_543_210);
const DEVICE: DeviceId = DeviceId(1);

/// A connection's slot is its index in [`USERS`].
const USERS: [UserId; 2] = [WRITER, READER];

/// Messages after which the tail is forgotten: a megabyte or two, so that memory stays flat.
pub const INGESTED_AFTER: usize = 4096;

const FOREVER: Grant = Grant { expires: TimestampMs(u64::MAX), issued: TimestampMs(0) };

const SETTINGS: Settings = Settings {
    ping_after_ms: 60_000,
    idle_timeout_ms: 150_000,
    expiry_warning_ms: 60_000,
    token_leeway_ms: 0,
    promise: Promise::Disk,
    limits: Limits::OFF,
    cache: CacheLimits::DEFAULT,
    presence: PresenceSettings::DEFAULT,
    moves_per_s: 1_000,
    push: None,
};

/// See the head of this file.
#[derive(Debug)]
pub struct Conversation {
    shard: Shard,
    /// The reader's connection.
    reader: ConnId,
    directory: Directory,
    effects: Effects,
    now: Now,
    released: BatchId,
    /// Messages since the tail was last forgotten.
    in_tail: usize,
    stored: Option<Stored>,
}

/// A store, and what was released since it was filled.
#[derive(Debug)]
struct Stored {
    store: EmbeddedStore,
    fold: Fold,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Both are connected; nothing has been written.
    ///
    /// # Panics
    /// The shard does not welcome them.
    #[must_use]
    pub fn new() -> Self {
        Self::over(None, CacheLimits::DEFAULT)
    }

    /// The same with a store, which answers what the shard asks and gets what is written, and with so much kept for apps that open.
    ///
    /// # Panics
    /// The shard does not welcome them.
    #[must_use]
    pub fn with_store(store: EmbeddedStore, cache: CacheLimits) -> Self {
        Self::over(Some(Stored { store, fold: Fold::default() }), cache)
    }

    fn over(stored: Option<Stored>, cache: CacheLimits) -> Self {
        let settings = Settings { cache, ..SETTINGS };
        let topology = Topology::new(1).expect("one is not zero");
        let mut conversation = Self {
            shard: Shard::new(CoreId(0), topology.into(), settings, EpochId(1)),
            reader: conn(1),
            directory: Directory::default(),
            effects: Effects::default(),
            now: Now { monotonic_ms: 1_000, wall: TimestampMs(1_760_000_000_000) },
            released: BatchId(0),
            in_tail: 0,
            stored,
        };
        for (slot, &user) in USERS.iter().enumerate() {
            conversation.connect(conn(slot), user, Resume::Stored);
        }
        conversation.settle();
        assert_eq!(conversation.counters().logins, USERS.len() as u64);
        conversation
    }

    /// The bytes of `messages` sends arrive, in receive buffers as the rim has them; everything follows that follows.
    pub fn turn(&mut self, received: &[u8], messages: usize) {
        self.now.monotonic_ms += 1;
        self.now.wall.0 += 1;
        for bytes in received.chunks(RECEIVE_BUFFER_BYTES) {
            self.feed(Input::Bytes { conn: conn(0), bytes });
        }
        self.settle();
        self.in_tail += messages;
        if self.in_tail >= INGESTED_AFTER && self.stored.is_none() {
            self.ingest();
        }
    }

    /// Everything that was written goes into the store, if there is one, and out of the tail. With a store: once.
    ///
    /// # Panics
    /// The store does not take it, or has rows already that it must be merged with.
    pub fn ingest(&mut self) {
        if let Some(Stored { store, fold }) = &mut self.stored {
            let sorted = mem::take(fold).sort();
            assert!(sorted.needed().is_empty(), "ingested once");
            let fence = block_on(store.take_over()).expect("a fence");
            block_on(store.commit(fence, &sorted.finish(Vec::new()))).expect("the store takes it");
        }
        self.in_tail = 0;
        self.feed(Input::Stored { lane: LaneId(0), up_to: self.released });
    }

    /// The reader sends these bytes, and everything follows that follows. Says how many bytes the reader gets.
    pub fn ask(&mut self, received: &[u8]) -> usize {
        self.feed(Input::Bytes { conn: self.reader, bytes: received });
        self.settle()[1]
    }

    /// The reader's connection has ended, and the next one begins with a hello that resumes there and these bytes behind it. Says how many
    /// bytes the reader gets, the welcome's included.
    pub fn come_back(&mut self, resume: Resume, received: &[u8]) -> usize {
        self.feed(Input::Disconnected { conn: self.reader });
        self.settle();
        self.reader.generation += 1;
        self.connect(self.reader, READER, resume);
        self.ask(received)
    }

    fn connect(&mut self, conn: ConnId, user: UserId, resume: Resume) {
        let resumption = Resumption::whole(resume);
        self.feed(Input::Connected(Connected {
            conn,
            user,
            device: DEVICE,
            version: 1,
            resumption,
            grant: FOREVER,
            follows: None,
        }));
    }

    /// What the shard has done and holds.
    #[must_use]
    pub fn counters(&self) -> ShardCounters {
        self.shard.counters()
    }

    fn feed(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &self.directory, &mut self.effects);
    }

    /// Ends turns and carries out what they ask for, until they ask for nothing. Says how many bytes each connection was sent.
    fn settle(&mut self) -> [usize; USERS.len()] {
        let mut total = [0; USERS.len()];
        loop {
            self.shard.end_turn(self.now, &self.directory, &mut self.effects);
            let sent = self.take_effects();
            let queries = mem::take(&mut self.effects.queries);
            let mut last = None;
            for (lane, id, batch) in self.effects.batches() {
                last = Some((lane, id));
                if let Some(Stored { fold, .. }) = &mut self.stored {
                    fold.add(batch.bytes()).expect("what a shard wrote can be read");
                }
            }
            self.effects.clear();
            if last.is_none() && queries.is_empty() && sent == [0; USERS.len()] {
                return total;
            }
            total.iter_mut().zip(sent).for_each(|(total, sent)| *total += sent);
            for (conn, bytes) in [conn(0), self.reader].into_iter().zip(sent).filter(|&(_, bytes)| bytes > 0) {
                self.feed(Input::Sent { conn, bytes });
            }
            for (query, asked) in queries {
                let answer = Some(self.answer(&asked));
                self.feed(Input::Answer { query, answer });
            }
            if let Some((lane, up_to)) = last {
                self.released = up_to;
                self.feed(Input::Released { lane, up_to });
            }
        }
    }

    /// Says how many bytes each connection has been sent.
    fn take_effects(&mut self) -> [usize; USERS.len()] {
        assert!(self.effects.closes.is_empty(), "nobody is sent away: {:?}", self.effects.closes);
        for (user, registration) in self.effects.directory.drain(..) {
            self.directory.set(user, registration);
        }
        let mut sent = [0; USERS.len()];
        for (conn, range) in &self.effects.sends {
            sent[conn.slot as usize] += range.len();
        }
        sent
    }

    /// What the store answers, or one would that has everything which was written.
    fn answer(&self, query: &Query) -> Answer {
        if let Some(Stored { store, .. }) = &self.stored {
            return block_on(answer(store, query)).expect("the store can be read");
        }
        match query {
            Query::User(_) => Answer::User(UserSnapshot::default()),
            // A conversation is forgotten with the tail, and asked for again by the next message.
            Query::Conversation { .. } => Answer::Conversation(ConversationSnapshot {
                received: ReceivedRow { up_to: Seq(self.counters().accepted), ..ReceivedRow::default() },
                ..ConversationSnapshot::default()
            }),
            Query::Conversations { .. }
            | Query::Inbox { .. }
            | Query::Log { .. }
            | Query::ConversationLog { .. }
            | Query::Message { .. }
            | Query::Origin { .. }
            | Query::ToDelete { .. }
            | Query::Send { .. }
            | Query::IsRemoved { .. }
            | Query::Term { .. }
            | Query::Group(_)
            | Query::GroupLog { .. }
            | Query::GroupMessage { .. }
            | Query::Presence { .. } => {
                unreachable!("nobody reads: {query:?}")
            }
        }
    }
}

/// What the writer sends, turn by turn.
#[derive(Debug, Default)]
pub struct Sends {
    last: u64,
}

impl Sends {
    /// The bytes of the next messages, to be handed to [`Conversation::turn`] in the order in which they were made.
    pub fn next(&mut self, messages: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..messages {
            self.last += 1;
            let number = SendNumber(self.last);
            ClientFrame::Send { number, to: READER.into(), content: Content::text(TEXT) }.encode(&mut bytes);
        }
        bytes
    }

    /// How many messages there have been.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last
    }
}

fn conn(slot: usize) -> ConnId {
    ConnId { slot: slot as u32, generation: 1 }
}
