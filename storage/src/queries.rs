//! Answers to [`Query`], from the rows of a [`Store`].
//!
//! Owns which rows a question reads. Knows nothing of records that have not been ingested.

use proto_spec::{ConversationId, Direction, Entry, EpochId, Seq, TimestampMs, UserId};

use crate::{
    codec,
    query::{Answer, ConversationSnapshot, DeviceSnapshot, Entries, Query, Span, UserSnapshot},
    record::Marks,
    schema::{Key, RowKey, SendsBlock, SendsBlockNumber},
    store::{Range, Rows, Store, StoreError},
};

/// Rows that a table scan asks for at once: keeps the memory of a scan small.
const SCAN_ROWS: usize = 256;

/// Messages of a conversation that are read at once behind its index: a page is a few of these.
const CONVERSATION_ROWS: usize = 64;

const FIRST_SEQ: Seq = Seq::ZERO;
const LAST_SEQ: Seq = Seq(u64::MAX);

/// Answers a question.
///
/// # Errors
/// The store failed, or holds something that cannot be read.
pub async fn answer<S: Store>(store: &S, query: &Query) -> Result<Answer, StoreError> {
    match *query {
        Query::User(user) => user_snapshot(store, user).await.map(Answer::User),
        Query::Conversation { user, conversation } => {
            watermarks(store, user, conversation).await.map(Answer::Conversation)
        }
        Query::Log { user, span } => log(store, user, &span).await.map(Answer::Entries),
        Query::ConversationLog { user, conversation, span } => {
            conversation_log(store, user, conversation, &span).await.map(Answer::Entries)
        }
        Query::Send { user, device, number } => {
            let (block, place) = SendsBlock::place(number);
            let Some(value) = store.get(&RowKey::Sends { user, device, block }.encode()).await? else {
                return Ok(Answer::Send(None));
            };
            let seq = codec::sends_block(&value)?.seqs[place];
            if seq == Seq::ZERO {
                return Ok(Answer::Send(None));
            }
            entry(store, user, seq).await.map(|entry| Answer::Send(Some(entry)))
        }
    }
}

/// Users who may have duties left, by ascending id, from the one after `after` on.
///
/// # Errors
/// The store failed, or holds something that cannot be read.
pub async fn unfinished<S: Store>(store: &S, after: Option<UserId>, max: usize) -> Result<Vec<UserId>, StoreError> {
    let Some(first) = after.map_or(Some(0), |user| user.0.checked_add(1)) else { return Ok(Vec::new()) };
    let key = |user| RowKey::Unfinished { user: UserId(user) }.encode();
    let rows = scan(store, key(first), key(u64::MAX), max).await?.rows;
    rows.iter()
        .map(|(key, _)| match RowKey::decode(key)? {
            RowKey::Unfinished { user } => Ok(user),
            other => Err(misplaced(other)),
        })
        .collect()
}

async fn user_snapshot<S: Store>(store: &S, user: UserId) -> Result<UserSnapshot, StoreError> {
    let (head, head_time) = head(store, user).await?;
    let marks = match store.get(&RowKey::Marks { user }.encode()).await? {
        Some(value) => codec::marks(&value)?,
        None => Marks::default(),
    };
    let unfinished = store.get(&RowKey::Unfinished { user }.encode()).await?.is_some();
    let (devices, epochs) = (devices(store, user).await?, epochs(store, user).await?);
    Ok(UserSnapshot { head, head_time, devices, marks, unfinished, epochs })
}

async fn head<S: Store>(store: &S, user: UserId) -> Result<(Seq, TimestampMs), StoreError> {
    let key = |seq| RowKey::Timeline { user, seq }.encode();
    match last(store, key(FIRST_SEQ), key(LAST_SEQ)).await? {
        Some((RowKey::Timeline { seq, .. }, value)) => Ok((seq, codec::timeline_time(&value)?)),
        Some((other, _)) => Err(misplaced(other)),
        None => Ok((Seq::ZERO, TimestampMs(0))),
    }
}

async fn devices<S: Store>(store: &S, user: UserId) -> Result<Vec<DeviceSnapshot>, StoreError> {
    let mut devices = Vec::new();
    let mut next = Some(0);
    while let Some(first) = next {
        let key = |device| RowKey::Device { user, device: proto_spec::DeviceId(device) }.encode();
        let Rows { rows, complete } = scan(store, key(first), key(u64::MAX), SCAN_ROWS).await?;
        next = None;
        for (key, value) in rows {
            let RowKey::Device { device, .. } = RowKey::decode(&key)? else { return Err(unexpected(&key)) };
            let cursor = codec::seq("a device row", &value)?;
            let last_number = last_number(store, user, device).await?;
            devices.push(DeviceSnapshot { device, cursor, last_number });
            next = if complete { None } else { device.0.checked_add(1) };
        }
    }
    Ok(devices)
}

async fn epochs<S: Store>(store: &S, user: UserId) -> Result<Vec<(Seq, EpochId)>, StoreError> {
    let key = |first| RowKey::Epoch { user, first }.encode();
    let rows = scan(store, key(FIRST_SEQ), key(LAST_SEQ), usize::MAX).await?.rows;
    rows.iter()
        .map(|(key, value)| match RowKey::decode(key)? {
            RowKey::Epoch { first, .. } => Ok((first, codec::epoch(value)?)),
            other => Err(misplaced(other)),
        })
        .collect()
}

async fn last_number<S: Store>(
    store: &S,
    user: UserId,
    device: proto_spec::DeviceId,
) -> Result<proto_spec::SendNumber, StoreError> {
    let key = |block| RowKey::Sends { user, device, block: SendsBlockNumber(block) }.encode();
    match last(store, key(0), key(u64::MAX)).await? {
        Some((RowKey::Sends { block, .. }, value)) => {
            Ok(codec::sends_block(&value)?.last_number(block).unwrap_or_default())
        }
        Some((other, _)) => Err(misplaced(other)),
        None => Ok(proto_spec::SendNumber::default()),
    }
}

async fn watermarks<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
) -> Result<ConversationSnapshot, StoreError> {
    let mut snapshot = ConversationSnapshot::default();
    if let Some(value) = store.get(&RowKey::Received { user, conversation }.encode()).await? {
        snapshot.received_up_to = codec::seq("a received row", &value)?;
    }
    if let Some(value) = store.get(&RowKey::Delivered { user, conversation }.encode()).await? {
        let row = codec::delivered(&value)?;
        snapshot.delivered_up_to = row.up_to;
        snapshot.delivered_at = row.at;
    }
    Ok(snapshot)
}

async fn log<S: Store>(store: &S, user: UserId, span: &Span) -> Result<Entries, StoreError> {
    let key = |seq| RowKey::Timeline { user, seq }.encode();
    let range = Range {
        first: key(span.first),
        last: key(span.last),
        direction: span.direction,
        rows_max: span.entries_max,
        // A row is never smaller than its entry on the wire: see `a_row_bounds_its_entry_on_the_wire`.
        bytes_max: span.bytes_max,
    };
    let Rows { rows, complete } = store.range(&range).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let RowKey::Timeline { seq, .. } = RowKey::decode(&key)? else { return Err(unexpected(&key)) };
        entries.push(codec::timeline_entry(seq, &value)?);
    }
    Ok(ascending(entries, span.direction, complete))
}

async fn conversation_log<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
    span: &Span,
) -> Result<Entries, StoreError> {
    let key = |seq| RowKey::Conversation { user, conversation, seq }.encode();
    let range = Range {
        first: key(span.first),
        last: key(span.last),
        direction: span.direction,
        rows_max: span.entries_max,
        bytes_max: usize::MAX,
    };
    let Rows { rows: index, complete } = store.range(&range).await?;
    let mut entries: Vec<Entry> = Vec::with_capacity(index.len());
    let mut bytes = 0;
    for part in index.chunks(CONVERSATION_ROWS) {
        let mut keys = Vec::with_capacity(part.len());
        for (key, _) in part {
            let RowKey::Conversation { seq, .. } = RowKey::decode(key)? else { return Err(unexpected(key)) };
            keys.push((seq, RowKey::Timeline { user, seq }.encode()));
        }
        let asked: Vec<_> = keys.iter().map(|(_, key)| *key).collect();
        for ((seq, key), value) in keys.into_iter().zip(store.get_many(&asked).await?) {
            let value = value.ok_or_else(|| missing(&key))?;
            bytes += key.len() + value.len();
            if bytes > span.bytes_max && !entries.is_empty() {
                return Ok(ascending(entries, span.direction, false));
            }
            entries.push(codec::timeline_entry(seq, &value)?);
        }
    }
    Ok(ascending(entries, span.direction, complete))
}

async fn entry<S: Store>(store: &S, user: UserId, seq: Seq) -> Result<Entry, StoreError> {
    let key = RowKey::Timeline { user, seq }.encode();
    let value = store.get(&key).await?.ok_or_else(|| missing(&key))?;
    Ok(codec::timeline_entry(seq, &value)?)
}

async fn last<S: Store>(store: &S, first: Key, last: Key) -> Result<Option<(RowKey, bytes::Bytes)>, StoreError> {
    let range = Range { first, last, direction: Direction::Backwards, rows_max: 1, bytes_max: usize::MAX };
    match store.range(&range).await?.rows.pop() {
        Some((key, value)) => Ok(Some((RowKey::decode(&key)?, value))),
        None => Ok(None),
    }
}

async fn scan<S: Store>(store: &S, first: Key, last: Key, rows_max: usize) -> Result<Rows, StoreError> {
    let range = Range { first, last, direction: Direction::Forwards, rows_max, bytes_max: usize::MAX };
    store.range(&range).await
}

fn ascending(mut entries: Vec<Entry>, read: Direction, complete: bool) -> Entries {
    match read {
        Direction::Forwards => {}
        Direction::Backwards => entries.reverse(),
    }
    Entries { entries, complete }
}

fn missing(key: &Key) -> StoreError {
    StoreError::Damaged { what: format!("the row {key:?} is missing") }
}

fn unexpected(key: &Key) -> StoreError {
    StoreError::Damaged { what: format!("the row {key:?} is in the range of another table") }
}

fn misplaced(row: RowKey) -> StoreError {
    unexpected(&row.encode())
}

#[cfg(test)]
mod tests;
