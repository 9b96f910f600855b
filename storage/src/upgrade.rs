//! What a store of an earlier format lacks, made of what it has.

use std::mem;

use bytes::Bytes;
use proto_spec::{DeviceId, Direction, Event, Seq, UserId};

use crate::{
    codec,
    run::RunBuilder,
    schema::{self, Key, LastRow, RowKey, SendsBlockNumber, Whose},
    store::{Fence, Range, Rows, Store, StoreError},
};

/// Rows read at once, and changed at once: a few hundred KiB.
const ROWS_MAX: usize = 4096;

/// Makes the `sent` rows of all conversations, and `last` rows where somebody else wrote last. Stores before the fourth format have no `sent`
/// rows, or under other keys; those of the fourth may say where the last message is, whoever wrote it. What is left of them is dropped: it
/// would show a user's presence to people to whom they have never written. How many conversations there are.
///
/// May be cut short and done again.
///
/// # Errors
/// The store failed, or holds something that cannot be read.
pub async fn note_last_messages<S: Store>(store: &S, fence: Fence) -> Result<u64, StoreError> {
    forget_sent(store, fence).await?;
    let mut pages = Pages::new(store, schema::conversation_table());
    let mut changes = Changes::new(store, fence);
    let mut conversations = 0;
    let mut open: Option<Conversation> = None;
    while let Some(rows) = pages.next().await? {
        let mut closed = Vec::new();
        for (user, peer, place, is_own) in messages(store, &rows).await? {
            let before = open.take_if(|of| (of.user, of.peer) != (user, peer));
            closed.extend(before);
            let of = open.get_or_insert(Conversation { user, peer, sent: Seq::ZERO, last: Seq::ZERO });
            of.last = place;
            if is_own {
                of.sent = place;
            }
        }
        if pages.are_read() {
            closed.extend(open.take());
        }
        conversations += closed.len() as u64;
        closed.iter().for_each(|closed| closed.put(&mut changes));
        changes.commit_if_many().await?;
    }
    changes.commit().await?;
    Ok(conversations)
}

/// Where the last messages of a conversation stand.
struct Conversation {
    user: UserId,
    peer: UserId,
    /// Of the user's own; zero: there is none.
    sent: Seq,
    last: Seq,
}

impl Conversation {
    fn put<S>(&self, changes: &mut Changes<'_, S>) {
        let Self { user, peer, sent, last } = *self;
        if sent > Seq::ZERO {
            changes.put(RowKey::Sent { user, peer }, |out| codec::put_seq(out, sent));
        }
        // The `received` row may be of before it was kept where the last one is.
        if last > sent {
            let row = LastRow { place: last, at: last };
            changes.put(RowKey::Last { user, peer }, |out| codec::put_last(out, row));
        }
    }
}

/// Of rows of the conversation index: each message by where it stands, and whether it is the user's own.
async fn messages<S: Store>(store: &S, rows: &[(Key, Bytes)]) -> Result<Vec<(UserId, UserId, Seq, bool)>, StoreError> {
    let mut messages = Vec::with_capacity(rows.len());
    let (mut unsaid, mut keys) = (Vec::new(), Vec::new());
    for (key, value) in rows {
        let RowKey::Conversation { user, peer, seq } = RowKey::decode(key)? else { return Err(misplaced(key)) };
        let row = codec::index(seq, value)?;
        // Notes to oneself have the user on both sides.
        let is_own = row.whose == Whose::Own || peer == user;
        if row.whose == Whose::Unsaid && !is_own {
            unsaid.push((messages.len(), row.shown.says));
            keys.push(RowKey::Timeline { user, seq: row.shown.says }.encode());
        }
        messages.push((user, peer, seq, is_own));
    }
    for (((at, seq), key), value) in unsaid.into_iter().zip(&keys).zip(store.get_many(&keys).await?) {
        let value = value.ok_or_else(|| StoreError::Damaged { what: format!("the row {key:?} is missing") })?;
        messages[at].3 = matches!(codec::timeline_entry(seq, &value)?.event, Event::Sent { .. });
    }
    Ok(messages)
}

async fn forget_sent<S: Store>(store: &S, fence: Fence) -> Result<(), StoreError> {
    let mut pages = Pages::new(store, schema::received_table());
    let mut changes = Changes::new(store, fence);
    while let Some(rows) = pages.next().await? {
        for (key, _) in rows {
            if matches!(RowKey::decode(&key)?, RowKey::Sent { .. }) {
                changes.delete(key);
            }
        }
        changes.commit_if_many().await?;
    }
    changes.commit().await
}

/// Makes the rows of the last sends of all devices, of which stores before the fourth format have none, or under other keys: a device without one would be
/// taken for one that has sent nothing. How many there are.
///
/// May be cut short and done again.
///
/// # Errors
/// As [`note_last_messages`].
pub async fn note_last_sends<S: Store>(store: &S, fence: Fence) -> Result<u64, StoreError> {
    let mut pages = Pages::new(store, schema::sends_table());
    let mut changes = Changes::new(store, fence);
    let mut devices = 0;
    let mut open: Option<(UserId, DeviceId, SendsBlockNumber)> = None;
    while let Some(rows) = pages.next().await? {
        let mut closed = Vec::new();
        for (key, _) in &rows {
            let RowKey::Sends { user, device, block } = RowKey::decode(key)? else { return Err(misplaced(key)) };
            let before = open.replace((user, device, block));
            closed.extend(before.filter(|(of, with, _)| (*of, *with) != (user, device)));
        }
        if pages.are_read() {
            closed.extend(open.take());
        }
        devices += closed.len() as u64;
        for (user, device, block) in closed {
            changes.put(RowKey::LastSends { user, device }, |out| codec::put_last_sends(out, block));
        }
        changes.commit_if_many().await?;
    }
    changes.commit().await?;
    Ok(devices)
}

/// Changes that are committed together: a commit of one row costs as much as one of many.
struct Changes<'a, S> {
    store: &'a S,
    fence: Fence,
    run: RunBuilder,
    rows: usize,
}

impl<'a, S> Changes<'a, S> {
    fn new(store: &'a S, fence: Fence) -> Self {
        Self { store, fence, run: RunBuilder::default(), rows: 0 }
    }

    fn put(&mut self, row: RowKey, put: impl FnOnce(&mut Vec<u8>)) {
        self.run.put(row.encode(), put);
        self.rows += 1;
    }

    fn delete(&mut self, key: Key) {
        self.run.delete(key);
        self.rows += 1;
    }
}

impl<S: Store> Changes<'_, S> {
    async fn commit_if_many(&mut self) -> Result<(), StoreError> {
        if self.rows >= ROWS_MAX { self.commit().await } else { Ok(()) }
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        self.rows = 0;
        self.store.commit(self.fence, &mem::take(&mut self.run).finish()).await
    }
}

/// The rows of a table, so many at a time.
struct Pages<'a, S> {
    store: &'a S,
    /// None: there are no more.
    first: Option<Key>,
    last: Key,
}

impl<'a, S: Store> Pages<'a, S> {
    const fn new(store: &'a S, (first, last): (Key, Key)) -> Self {
        Self { store, first: Some(first), last }
    }

    async fn next(&mut self) -> Result<Option<Vec<(Key, Bytes)>>, StoreError> {
        let Some(first) = self.first else { return Ok(None) };
        let (last, direction) = (self.last, Direction::Forwards);
        let range = Range { first, last, direction, rows_max: ROWS_MAX, bytes_max: usize::MAX };
        let Rows { rows, complete } = self.store.range(&range).await?;
        self.first = rows.last().and_then(|(key, _)| key.successor()).filter(|_| !complete);
        Ok(Some(rows))
    }

    const fn are_read(&self) -> bool {
        self.first.is_none()
    }
}

fn misplaced(key: &Key) -> StoreError {
    StoreError::Damaged { what: format!("the row {key:?} is in the range of another table") }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;
    use proto_spec::{Content, ConversationId, Entry, TimestampMs};

    use super::*;
    use crate::{
        contract::block_on,
        fold::Fold,
        memory::MemoryStore,
        queries::answer,
        query::{Answer, InboxSnapshot, Query, Span, UserSnapshot},
        record::{Batch, Record},
        testing::history,
    };

    const USERS: std::ops::Range<u64> = 1..5;

    fn store_of(records: &[Record]) -> (MemoryStore, Fence) {
        let store = MemoryStore::default();
        let fence = block_on(store.take_over()).unwrap();
        let mut batch = Batch::default();
        records.iter().for_each(|record| batch.push(record));
        let mut fold = Fold::default();
        fold.add(batch.bytes()).unwrap();
        block_on(store.advance(fence, &[], fold.sort())).unwrap();
        (store, fence)
    }

    fn user(store: &MemoryStore, user: u64) -> UserSnapshot {
        match block_on(answer(store, &Query::User(UserId(user)))).unwrap() {
            Answer::User(user) => user,
            other => panic!("{other:?}"),
        }
    }

    /// Of few rows, so that the last messages of all conversations are looked for.
    fn inbox(store: &MemoryStore, user: u64, before: u64) -> InboxSnapshot {
        let (user, before, rows_max, none) = (UserId(user), Seq(before), 3, Arc::new([]));
        let query = Query::Inbox { user, before, rows_max, named: none, moved: [].into() };
        match block_on(answer(store, &query)).unwrap() {
            Answer::Inbox(inbox) => inbox,
            other => panic!("{other:?}"),
        }
    }

    /// The last message of the user's own that is there.
    fn sent(store: &MemoryStore, user: u64, conversation: ConversationId) -> Seq {
        let (first, last) = (Seq::ZERO, Seq(u64::MAX));
        let span = Span { first, last, direction: Direction::Forwards, entries_max: usize::MAX, bytes_max: usize::MAX };
        let query = Query::ConversationLog { user: UserId(user), conversation, span };
        let Answer::Entries(read) = block_on(answer(store, &query)).unwrap() else { panic!("no entries") };
        let is_own = |entry: &&Entry| matches!(entry.event, Event::Sent { .. }) || conversation == UserId(user).into();
        let own = read.entries.iter().filter(|entry| !entry.is_reaction()).filter(is_own);
        own.filter_map(|entry| entry.place()).max().unwrap_or_default()
    }

    /// As the server of the day before would have left it.
    fn make_of_the_fourth_format(store: &MemoryStore, fence: Fence) {
        let (mut old, mut sent) = (RunBuilder::default(), BTreeMap::new());
        for (key, value) in store.rows() {
            match RowKey::decode(&key).unwrap() {
                RowKey::Sent { user, peer } => {
                    sent.insert((user.0, peer), codec::seq("", &value).unwrap());
                }
                RowKey::Last { user, peer } => {
                    let row = codec::last(&value).unwrap();
                    let sent = sent.entry((user.0, peer)).or_default();
                    if *sent < row.at {
                        *sent = row.place;
                    }
                    old.delete(key);
                }
                _ => {}
            }
        }
        for ((user, peer), sent) in sent {
            let user = UserId(user);
            old.put(RowKey::Sent { user, peer }.encode(), |out| codec::put_seq(out, sent));
        }
        block_on(store.commit(fence, &old.finish())).unwrap();
    }

    /// A received row had its first number alone, the index did not say whose a message is, and there was no sent row.
    fn make_of_the_second_format(store: &MemoryStore, fence: Fence) {
        let mut old = RunBuilder::default();
        for (key, value) in store.rows() {
            match RowKey::decode(&key).unwrap() {
                RowKey::Sent { .. } | RowKey::Last { .. } | RowKey::LastSends { .. } => old.delete(key),
                RowKey::Received { .. } => {
                    let up_to = codec::received(&value).unwrap().up_to;
                    old.put(key, |out| codec::put_seq(out, up_to));
                }
                RowKey::Conversation { seq, .. } => {
                    let shown = codec::index(seq, &value).unwrap().shown;
                    old.put(key, |out| codec::put_earlier_index(out, seq, &shown));
                }
                _ => {}
            }
        }
        block_on(store.commit(fence, &old.finish())).unwrap();
    }

    proptest! {
        #[test]
        fn a_store_of_an_earlier_format_becomes_as_one_that_was_always_of_this(
            records in history(300), is_of_the_fourth in any::<bool>()
        ) {
            let (store, fence) = store_of(&records);
            let (wanted, _) = store_of(&records);
            if is_of_the_fourth {
                make_of_the_fourth_format(&store, fence);
            } else {
                make_of_the_second_format(&store, fence);
            }
            for _ in 0..2 {
                block_on(note_last_messages(&store, fence)).unwrap();
                block_on(note_last_sends(&store, fence)).unwrap();
            }
            for of in USERS {
                prop_assert_eq!(user(&store, of), user(&wanted, of));
                for before in [u64::MAX, 60, 20, 8] {
                    let mut wanted = inbox(&wanted, of, before);
                    for row in &mut wanted.rows {
                        // That they wrote what they have deleted since was not kept.
                        row.snapshot.sent = sent(&store, of, row.conversation);
                        if !is_of_the_fourth {
                            // What was not counted then is read now.
                            (row.snapshot.received.at, row.snapshot.received.count) = (Seq::ZERO, 0);
                        }
                    }
                    prop_assert_eq!(inbox(&store, of, before), wanted, "of {} before {}", of, before);
                }
            }
        }
    }

    #[test]
    fn a_conversation_of_before_in_which_somebody_else_alone_wrote_is_listed_however_long_ago_that_was() {
        let came = |seq, from| {
            let event = Event::Received { from: UserId(from), origin: Seq(seq), content: Content::text("hello") };
            let entry = Entry { seq: Seq(seq), time: TimestampMs(seq), event };
            Record::Append { user: UserId(1), entry, replaces: None, count: seq }
        };
        let records: Vec<_> = std::iter::once(came(1, 3)).chain((2..100).map(|seq| came(seq, 2))).collect();
        let (store, fence) = store_of(&records);
        make_of_the_second_format(&store, fence);
        assert_eq!(inbox(&store, 1, u64::MAX).rows.len(), 0, "nothing says where the last messages are");
        block_on(note_last_messages(&store, fence)).unwrap();
        assert_eq!(inbox(&store, 1, u64::MAX).rows.len(), 2);
    }

    #[test]
    fn whoever_wrote_to_a_user_of_before_does_not_become_one_to_whom_they_have_written() {
        let (reader, writer) = (UserId(1), UserId(2));
        let (store, fence) = store_of(&[]);
        let mut old = RunBuilder::default();
        // A conversation that was deleted as a whole.
        let gone = UserId(3);
        for (peer, seq) in [(writer, 7), (gone, 5)] {
            old.put(RowKey::Sent { user: reader, peer }.encode(), |out| codec::put_seq(out, Seq(seq)));
        }
        let key = RowKey::Conversation { user: reader, peer: writer, seq: Seq(7) }.encode();
        old.put(key, |out| codec::put_index(out, Some(Seq(9))));
        block_on(store.commit(fence, &old.finish())).unwrap();
        assert_eq!(block_on(note_last_messages(&store, fence)).unwrap(), 1);
        for looks in [2, 3] {
            let query = Query::Presence { looks: UserId(looks), users: vec![reader] };
            let found = block_on(answer(&store, &query)).unwrap();
            assert_eq!(found, Answer::Presence(vec![crate::PresenceRows::default()]));
        }
    }
}
