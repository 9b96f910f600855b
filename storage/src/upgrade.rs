//! What a store of an earlier format lacks, made of what it has.

use std::mem;

use proto_spec::{ConversationId, DeviceId, Direction, Seq, UserId};

use crate::{
    codec,
    run::RunBuilder,
    schema::{self, RowKey, SendsBlockNumber},
    store::{Fence, Range, Rows, Store, StoreError},
};

/// Rows read at once, and changed at once: a few hundred KiB.
const ROWS_MAX: usize = 4096;

/// Makes the `sent` rows of all conversations, of which stores before the fourth format have none, or under other keys: a conversation without one is in no
/// inbox until its next message. Each names the last message, whoever wrote it, which is all that such a row is for. How many there are.
///
/// May be cut short and done again.
///
/// # Errors
/// The store failed, or holds something that cannot be read.
pub async fn note_last_messages<S: Store>(store: &S, fence: Fence) -> Result<u64, StoreError> {
    let (mut first, last) = schema::conversation_table();
    let mut conversations = 0;
    let mut open: Option<(UserId, ConversationId, Seq)> = None;
    let mut run = RunBuilder::default();
    let mut noted = 0;
    loop {
        let direction = Direction::Forwards;
        let Rows { rows, complete } =
            store.range(&Range { first, last, direction, rows_max: ROWS_MAX, bytes_max: usize::MAX }).await?;
        let mut closed = Vec::new();
        for (key, _) in &rows {
            let RowKey::Conversation { user, conversation, seq } = RowKey::decode(key)? else {
                return Err(StoreError::Damaged { what: format!("the row {key:?} is in the range of another table") });
            };
            let before = open.replace((user, conversation, seq));
            closed.extend(before.filter(|(of, with, _)| (*of, *with) != (user, conversation)));
        }
        if complete {
            closed.extend(open.take());
        }
        for (user, conversation, seq) in closed {
            run.put(RowKey::Sent { user, conversation }.encode(), |out| codec::put_seq(out, seq));
            noted += 1;
            conversations += 1;
        }
        if noted >= ROWS_MAX || (complete && noted > 0) {
            store.commit(fence, &mem::take(&mut run).finish()).await?;
            noted = 0;
        }
        match rows.last().and_then(|(key, _)| key.successor()).filter(|_| !complete) {
            Some(next) => first = next,
            None => return Ok(conversations),
        }
    }
}

/// Makes the rows of the last sends of all devices, of which stores before the fourth format have none, or under other keys: a device without one would be
/// taken for one that has sent nothing. How many there are.
///
/// May be cut short and done again.
///
/// # Errors
/// As [`note_last_messages`].
pub async fn note_last_sends<S: Store>(store: &S, fence: Fence) -> Result<u64, StoreError> {
    let (mut first, last) = schema::sends_table();
    let mut devices = 0;
    let mut open: Option<(UserId, DeviceId, SendsBlockNumber)> = None;
    loop {
        let direction = Direction::Forwards;
        let Rows { rows, complete } =
            store.range(&Range { first, last, direction, rows_max: ROWS_MAX, bytes_max: usize::MAX }).await?;
        let mut closed = Vec::new();
        for (key, _) in &rows {
            let RowKey::Sends { user, device, block } = RowKey::decode(key)? else {
                return Err(StoreError::Damaged { what: format!("the row {key:?} is in the range of another table") });
            };
            let before = open.replace((user, device, block));
            closed.extend(before.filter(|(of, with, _)| (*of, *with) != (user, device)));
        }
        if complete {
            closed.extend(open.take());
        }
        let mut run = RunBuilder::default();
        for &(user, device, block) in &closed {
            run.put(RowKey::LastSends { user, device }.encode(), |out| codec::put_last_sends(out, block));
        }
        if !closed.is_empty() {
            store.commit(fence, &run.finish()).await?;
            devices += closed.len() as u64;
        }
        match rows.last().and_then(|(key, _)| key.successor()).filter(|_| !complete) {
            Some(next) => first = next,
            None => return Ok(devices),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        contract::block_on,
        fold::Fold,
        memory::MemoryStore,
        queries::answer,
        query::{Answer, Query},
        record::Batch,
        testing::history,
    };

    proptest! {
        #[test]
        fn an_inbox_made_of_the_messages_is_that_of_a_store_that_always_had_one(records in history(300)) {
            let store = MemoryStore::default();
            let fence = block_on(store.take_over()).unwrap();
            let mut batch = Batch::default();
            records.iter().for_each(|record| batch.push(record));
            let mut fold = Fold::default();
            fold.add(batch.bytes()).unwrap();
            block_on(store.advance(fence, &[], fold.sort())).unwrap();
            let named: Arc<[ConversationId]> = [].into();
            let inboxes = |store: &MemoryStore| -> BTreeMap<u64, Answer> {
                let query = |user| Query::Inbox { user, before: Seq(u64::MAX), rows_max: 100, named: Arc::clone(&named), moved: [].into() };
                (1..5).map(|user| (user, block_on(answer(store, &query(UserId(user)))).unwrap())).collect()
            };
            let users = |store: &MemoryStore| -> Vec<Answer> {
                (1..5).map(|user| block_on(answer(store, &Query::User(UserId(user)))).unwrap()).collect()
            };
            let wanted_users = users(&store);
            let wanted = inboxes(&store);
            // As it was before: a received row had its first number alone, and there was no sent row.
            let mut old = RunBuilder::default();
            for (key, value) in store.rows() {
                match RowKey::decode(&key).unwrap() {
                    RowKey::Sent { .. } | RowKey::LastSends { .. } => old.delete(key),
                    RowKey::Received { .. } => {
                        let up_to = codec::received(&value).unwrap().up_to;
                        old.put(key, |out| codec::put_seq(out, up_to));
                    }
                    _ => {}
                }
            }
            block_on(store.commit(fence, &old.finish())).unwrap();
            for _ in 0..2 {
                block_on(note_last_messages(&store, fence)).unwrap();
                block_on(note_last_sends(&store, fence)).unwrap();
            }
            prop_assert_eq!(users(&store), wanted_users);
            for (user, wanted) in wanted {
                let (Answer::Inbox(mut wanted), Answer::Inbox(found)) = (wanted, inboxes(&store).remove(&user).unwrap()) else {
                    panic!("another kind of answer");
                };
                for row in &mut wanted.rows {
                    // What was not counted then is read now.
                    (row.snapshot.received.at, row.snapshot.received.count) = (Seq::ZERO, 0);
                }
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
