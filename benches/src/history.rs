//! A history as shards hand it to the journal: for each message one batch, of the records that a turn with this message
//! alone decides. Who writes to whom is the same in every run.
//!
//! Left out, because they come once for many messages: receipts, and first connections.

use proto_spec::{Content, DeviceId, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use storage::{Batch, Marks, Record};

use crate::TEXT;

const DEVICE: DeviceId = DeviceId(1);

/// Every so many messages of a user to others are followed by what is written lazily: a cursor and marks.
const GATHERED: u64 = 4;

/// See the head of this file.
#[derive(Debug)]
pub struct History {
    heads: Vec<Head>,
    random: Random,
    time: TimestampMs,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    seq: Seq,
    number: SendNumber,
}

impl History {
    /// Nobody has written yet; users are 1 to `users`.
    ///
    /// # Panics
    /// There is nobody to write to: fewer than two users.
    #[must_use]
    pub fn new(users: usize) -> Self {
        assert!(users >= 2, "{users} users cannot write to each other");
        Self { heads: vec![Head::default(); users], random: Random(1), time: TimestampMs(1_760_000_000_000) }
    }

    /// A user of this history, and somebody to whom this user writes.
    #[must_use]
    pub fn pair(&self, random: &mut Random) -> (UserId, UserId) {
        let users = self.heads.len() as u64;
        let user = random.below(users);
        // Everybody has up to eight correspondents.
        let peer = (user + 1 + random.below(8.min(users - 1))) % users;
        (UserId(user + 1), UserId(peer + 1))
    }

    /// Puts the records of the next message into `batch`.
    pub fn message(&mut self, batch: &mut Batch) {
        let mut random = Random(self.random.number());
        let (from, to) = self.pair(&mut random);
        self.time.0 += 1;
        let content = Content::text(TEXT);
        let number = self.head(from).number.next();
        self.head(from).number = number;
        let origin =
            self.append(batch, from, Event::Sent { to: to.into(), device: DEVICE, number, content: content.clone() });
        let received_as = self.append(batch, to, Event::Received { from, origin, content });
        if number.0.is_multiple_of(GATHERED) {
            batch.push(&Record::Cursor { user: to, device: DEVICE, seq: received_as });
            let marks = Marks { forwarded: origin, receipted: Seq::ZERO };
            batch.push(&Record::Marks { user: from, marks, idle: true });
        }
    }

    fn append(&mut self, batch: &mut Batch, user: UserId, event: Event) -> Seq {
        let seq = self.head(user).seq.next();
        self.head(user).seq = seq;
        batch.push(&Record::Append { user, entry: Entry { seq, time: self.time, event }, replaces: None, count: 0 });
        seq
    }

    fn head(&mut self, user: UserId) -> &mut Head {
        &mut self.heads[user.0 as usize - 1]
    }
}

/// splitmix64: the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// The next number below `bound`, evenly enough.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}
