//! Answers to [`Query`], from the rows of a [`Store`].
//!
//! Owns which rows a question reads. Knows nothing of records that have not been ingested.
//!
//! Most questions take several reads, and no store gives one snapshot for all of them: each read of the engine sees what is the newest
//! then, and each of a database is a transaction. An ingestion may come between two, and take away the entry that a row read before it
//! names. What takes an entry away writes in the same commit what is to be read instead, so the question is asked once more; damage is
//! what is found there twice.

mod groups;
mod inbox;
mod origin;

pub use groups::unfinished_groups;
use groups::{group_log, group_message, group_snapshot};
use proto_spec::{ConversationId, Direction, Entry, SendNumber, Seq, TimestampMs, UserId};

use crate::{
    codec::{self, CodecError},
    query::{
        Answer, ConversationSnapshot, DeviceSnapshot, Entries, Message, PresenceRows, Query, Sent, Span, ToDelete,
        UserSnapshot,
    },
    record::Shown,
    schema::{IndexRow, Key, RowKey, SendsBlock},
    store::{Range, Rows, Store, StoreError},
};

/// Messages of a conversation that are read at once behind its index: a page is a few of these.
const CONVERSATION_ROWS: usize = 64;

/// What errors call it.
const A_SENT_ROW: &str = "a sent row";

const FIRST_SEQ: Seq = Seq::ZERO;
const LAST_SEQ: Seq = Seq(u64::MAX);

/// Most times that one question is asked: each time something must have superseded just what it reads, between two of its reads. Once is
/// rare; three times in a row means that reads take seconds.
const ATTEMPTS_MAX: usize = 4;

/// Answers a question.
///
/// # Errors
/// The store failed, or holds something that cannot be read.
pub async fn answer<S: Store>(store: &S, query: &Query) -> Result<Answer, StoreError> {
    let mut found = None;
    for _ in 0..ATTEMPTS_MAX {
        match attempt(store, query).await {
            Err(StoreError::Damaged { what }) if found.as_ref() != Some(&what) => found = Some(what),
            done => return done,
        }
    }
    let reason = || format!("of {ATTEMPTS_MAX} attempts to read {query:?} each found other rows changing");
    Err(StoreError::Unavailable { reason: reason() })
}

async fn attempt<S: Store>(store: &S, query: &Query) -> Result<Answer, StoreError> {
    match *query {
        Query::User(user) => user_snapshot(store, user).await.map(Answer::User),
        Query::Conversation { user, conversation } => {
            let mut of = conversations(store, user, &[conversation]).await?;
            Ok(Answer::Conversation(of.pop().unwrap_or_default()))
        }
        Query::Conversations { user, conversations: ref of } => {
            conversations(store, user, of).await.map(Answer::Conversations)
        }
        Query::Inbox { user, before, rows_max, ref named, ref moved } => {
            inbox::inbox(store, user, before, rows_max, (named, moved)).await.map(Answer::Inbox)
        }
        Query::ToDelete { user, conversation, place, newest_max } => {
            to_delete(store, user, conversation, place, newest_max).await.map(Answer::ToDelete)
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
            if seq == SendsBlock::GIVEN_UP {
                return Ok(Answer::Send(Some(Sent::GivenUp)));
            }
            let key = RowKey::Timeline { user, seq }.encode();
            if let Some(value) = store.get(&key).await? {
                return Ok(Answer::Send(Some(Sent::Entry(codec::timeline_entry(seq, &value)?))));
            }
            // Whatever has superseded the entry has left this in the same commit.
            let first = store.get(&RowKey::First { user, seq }.encode()).await?.ok_or_else(|| missing(&key))?;
            Ok(Answer::Send(Some(Sent::Superseded { seq, first: codec::first(&first)? })))
        }
        Query::Message { user, conversation, place } => {
            message_at(store, user, conversation, place).await.map(Answer::Message)
        }
        Query::Origin { user, conversation, origin } => {
            origin::message_of(store, user, conversation, origin).await.map(Answer::Message)
        }
        Query::IsRemoved { user, device } => {
            Ok(Answer::IsRemoved(store.get(&RowKey::Removed { user, device }.encode()).await?.is_some()))
        }
        Query::Group(group) => Ok(Answer::Group(Box::new(group_snapshot(store, group).await?))),
        Query::GroupLog { group, span } => group_log(store, group, &span).await.map(Answer::GroupEntries),
        Query::GroupMessage { group, place } => group_message(store, group, place).await.map(Answer::GroupMessage),
        Query::Term { lane, .. } => store.term(lane).await.map(Answer::Term),
        Query::Presence { looks, ref users } => presence(store, looks, users).await.map(Answer::Presence),
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
    let single = [RowKey::Marks { user }, RowKey::Unfinished { user }, RowKey::DeviceNotes { user }];
    let [marks, unfinished, notes] = &store.get_many(&single.map(RowKey::encode)).await?[..] else {
        return Err(StoreError::Damaged { what: format!("{single:?} were asked for, and other rows are the answer") });
    };
    let marks = marks.as_ref().map(|value| codec::marks(value)).transpose()?.unwrap_or_default();
    let notes = notes.as_ref().map(|value| codec::device_notes(value)).transpose()?.unwrap_or_default();
    let unfinished = unfinished.is_some();
    let mut snapshot = UserSnapshot { head, head_time, notes, marks, unfinished, ..UserSnapshot::default() };
    read_devices(store, user, &mut snapshot).await?;
    Ok(snapshot)
}

async fn head<S: Store>(store: &S, user: UserId) -> Result<(Seq, TimestampMs), StoreError> {
    let key = |seq| RowKey::Timeline { user, seq }.encode();
    let range = Range {
        first: key(FIRST_SEQ),
        last: key(LAST_SEQ),
        direction: Direction::Backwards,
        rows_max: 1,
        bytes_max: usize::MAX,
    };
    let Some((key, value)) = store.range(&range).await?.rows.pop() else { return Ok((Seq::ZERO, TimestampMs(0))) };
    match RowKey::decode(&key)? {
        RowKey::Timeline { seq, .. } => Ok((seq, codec::timeline_time(&value)?)),
        other => Err(misplaced(other)),
    }
}

/// The devices and the epochs of a user, how they stand to groups, and what is stored of their presence, which are one range.
async fn read_devices<S: Store>(store: &S, user: UserId, of: &mut UserSnapshot) -> Result<(), StoreError> {
    let UserSnapshot { devices, epochs, groups, .. } = of;
    // Of the devices that have sent something: their place among all, and which block they have begun last.
    let (mut last_blocks, mut keys) = (Vec::new(), Vec::new());
    let first = RowKey::LastSeen { user }.encode();
    let last = RowKey::Epoch { user, first: LAST_SEQ }.encode();
    for (key, value) in scan(store, first, last, usize::MAX).await?.rows {
        match RowKey::decode(&key)? {
            RowKey::LastSeen { .. } => of.last_seen = codec::last_seen(&value)?,
            RowKey::Visibility { .. } => of.visibility = codec::visibility(&value)?,
            RowKey::Device { device, .. } => {
                let cursor = codec::seq("a device row", &value)?;
                let (last_number, subscription) = (SendNumber::default(), None);
                devices.push(DeviceSnapshot { device, cursor, last_number, subscription });
            }
            RowKey::LastSends { device, .. } if devices.last().is_some_and(|last| last.device == device) => {
                let block = codec::last_sends(&value)?;
                last_blocks.push((devices.len() - 1, block));
                keys.push(RowKey::Sends { user, device, block }.encode());
            }
            // Has sent, and was never connected.
            RowKey::LastSends { .. } => {}
            RowKey::Notified { .. } => of.notified = codec::notified(&value)?,
            RowKey::Subscription { device, .. } => {
                if let Some(last) = devices.last_mut().filter(|last| last.device == device) {
                    last.subscription = Some(Box::new(codec::subscription(&value)?));
                }
            }
            RowKey::Standing { group, .. } => groups.push((group, codec::standing(&value)?)),
            RowKey::Epoch { first, .. } => epochs.push((first, codec::epoch(&value)?)),
            other => return Err(misplaced(other)),
        }
    }
    for (((at, block), key), value) in last_blocks.into_iter().zip(&keys).zip(store.get_many(&keys).await?) {
        let sends = codec::sends_block(&value.ok_or_else(|| missing(key))?)?;
        devices[at].last_number = sends.last_number(block).unwrap_or_default();
    }
    Ok(())
}

/// Rows that say what is known of a conversation.
const CONVERSATION_PARTS: usize = 6;

/// What is known of conversations, in their order.
async fn conversations<S: Store>(
    store: &S,
    user: UserId,
    conversations: &[ConversationId],
) -> Result<Vec<ConversationSnapshot>, StoreError> {
    let rows = |&conversation: &ConversationId| -> [Option<RowKey>; CONVERSATION_PARTS] {
        let peer = match conversation {
            ConversationId::Person(peer) => Some(peer),
            // Only what the user keeps of it: the rest is in the group's log.
            ConversationId::Group(_) => None,
        };
        [
            peer.map(|peer| RowKey::Received { user, peer }),
            peer.map(|peer| RowKey::Delivered { user, peer }),
            peer.map(|peer| RowKey::Seen { user, peer }),
            Some(RowKey::Read { user, conversation }),
            Some(RowKey::Settings { user, conversation }),
            peer.map(|peer| RowKey::Sent { user, peer }),
        ]
    };
    let rows: Vec<_> = conversations.iter().map(rows).collect();
    let keys: Vec<_> = rows.iter().flatten().flatten().map(|row| row.encode()).collect();
    let mut values = store.get_many(&keys).await?.into_iter();
    rows.into_iter()
        .map(|rows| {
            let parts = rows.map(|row| row.and_then(|_| values.next().flatten()));
            Ok(snapshot(parts.each_ref().map(|part| part.as_deref()))?)
        })
        .collect()
}

fn snapshot(parts: [Option<&[u8]>; CONVERSATION_PARTS]) -> Result<ConversationSnapshot, CodecError> {
    let [received, delivered, seen, read, settings, sent] = parts;
    Ok(ConversationSnapshot {
        received: received.map(codec::received).transpose()?.unwrap_or_default(),
        delivered: delivered.map(|value| codec::mark("a delivered row", value)).transpose()?.unwrap_or_default(),
        seen: seen.map(|value| codec::mark("a seen row", value)).transpose()?.unwrap_or_default(),
        read: read.map(codec::read).transpose()?.unwrap_or_default(),
        settings: settings.map(codec::settings).transpose()?.unwrap_or_default(),
        sent: sent.map(|value| codec::seq(A_SENT_ROW, value)).transpose()?.unwrap_or_default(),
    })
}

/// What says whether `looks` may see each of these, in their order.
async fn presence<S: Store>(store: &S, looks: UserId, users: &[UserId]) -> Result<Vec<PresenceRows>, StoreError> {
    const PARTS: usize = 6;
    let peer = looks;
    let rows = |&user: &UserId| -> [RowKey; PARTS] {
        [
            RowKey::LastSeen { user },
            RowKey::Visibility { user },
            RowKey::Sent { user, peer },
            RowKey::Received { user, peer },
            RowKey::Settings { user, conversation: peer.into() },
            RowKey::Settings { user: looks, conversation: user.into() },
        ]
    };
    let keys: Vec<_> = users.iter().flat_map(rows).map(RowKey::encode).collect();
    let values = store.get_many(&keys).await?;
    let (of_users, _) = values.as_chunks::<PARTS>();
    let of_user = |parts: &[Option<bytes::Bytes>; PARTS]| {
        let [last_seen, visibility, sent, received, settings, of_looks] = parts.each_ref().map(|part| part.as_deref());
        Ok(PresenceRows {
            last_seen: last_seen.map(codec::last_seen).transpose()?.unwrap_or_default(),
            visibility: visibility.map(codec::visibility).transpose()?.unwrap_or_default(),
            sent: sent.map(|value| codec::seq(A_SENT_ROW, value)).transpose()?.unwrap_or_default(),
            received: received.map(codec::received).transpose()?.unwrap_or_default().up_to,
            settings: settings.map(codec::settings).transpose()?.unwrap_or_default(),
            of_looks: of_looks.map(codec::settings).transpose()?.unwrap_or_default(),
        })
    };
    of_users.iter().map(of_user).collect()
}

async fn log<S: Store>(store: &S, user: UserId, span: &Span) -> Result<Entries, StoreError> {
    let row = |seq| RowKey::Timeline { user, seq };
    let entry = |row, value: &[u8]| match row {
        RowKey::Timeline { seq, .. } => Ok(codec::timeline_entry(seq, value)?),
        other => Err(misplaced(other)),
    };
    let (entries, complete) = read_span(store, span, row, entry).await?;
    Ok(Entries { entries, complete })
}

/// The entries of a span of a log with one row for each, by ascending seq; and whether the whole span was read.
async fn read_span<S: Store, E>(
    store: &S,
    span: &Span,
    row: impl Fn(Seq) -> RowKey,
    entry: impl Fn(RowKey, &[u8]) -> Result<E, StoreError>,
) -> Result<(Vec<E>, bool), StoreError> {
    let range = Range {
        first: row(span.first).encode(),
        last: row(span.last).encode(),
        direction: span.direction,
        rows_max: span.entries_max,
        // A row is never smaller than its entry on the wire: see `a_row_bounds_its_entry_on_the_wire`.
        bytes_max: span.bytes_max,
    };
    let Rows { rows, complete } = store.range(&range).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        entries.push(entry(RowKey::decode(&key)?, &value)?);
    }
    Ok((ascending(entries, span.direction), complete))
}

async fn conversation_log<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
    span: &Span,
) -> Result<Entries, StoreError> {
    let ConversationId::Person(peer) = conversation else {
        // The messages of a group are in its log.
        return Ok(Entries { entries: Vec::new(), complete: true });
    };
    let key = |seq| RowKey::Conversation { user, peer, seq }.encode();
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
        let messages = indexed(part)?;
        let seqs: Vec<Seq> = messages.iter().flat_map(|(_, row)| row.shown.seqs()).collect();
        let mut read = entries_at(store, user, &seqs).await?.into_iter();
        for (_, row) in &messages {
            // A message and the reactions to it come together.
            let mut told: Vec<_> = read.by_ref().take(row.shown.seqs().count()).collect();
            bytes += told.iter().map(|(_, bytes)| bytes).sum::<usize>();
            if bytes > span.bytes_max && !entries.is_empty() {
                return Ok(Entries { entries: ascending(entries, span.direction), complete: false });
            }
            if span.direction == Direction::Backwards {
                told.reverse();
            }
            entries.extend(told.into_iter().map(|(entry, _)| entry));
        }
    }
    Ok(Entries { entries: ascending(entries, span.direction), complete })
}

/// Rows of the conversation index, by where each message stands.
fn indexed(rows: &[(Key, bytes::Bytes)]) -> Result<Vec<(Seq, IndexRow)>, StoreError> {
    let message = |(key, value): &(Key, bytes::Bytes)| {
        let RowKey::Conversation { seq: place, .. } = RowKey::decode(key)? else { return Err(unexpected(key)) };
        Ok((place, codec::index(place, value)?))
    };
    rows.iter().map(message).collect()
}

/// These entries, and how many bytes their rows have.
async fn entries_at<S: Store>(store: &S, user: UserId, seqs: &[Seq]) -> Result<Vec<(Entry, usize)>, StoreError> {
    let keys: Vec<_> = seqs.iter().map(|&seq| RowKey::Timeline { user, seq }.encode()).collect();
    let values = store.get_many(&keys).await?;
    let entry = |((&seq, key), value): ((&Seq, &Key), Option<bytes::Bytes>)| {
        let value = value.ok_or_else(|| missing(key))?;
        Ok((codec::timeline_entry(seq, &value)?, key.len() + value.len()))
    };
    seqs.iter().zip(&keys).zip(values).map(entry).collect()
}

/// The message that stands at `place`.
async fn message_at<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
    place: Seq,
) -> Result<Option<Message>, StoreError> {
    let ConversationId::Person(peer) = conversation else { return Ok(None) };
    let index = RowKey::Conversation { user, peer, seq: place }.encode();
    let Some(value) = store.get(&index).await? else { return Ok(None) };
    let shown = codec::index(place, &value)?.shown;
    message(store, user, place, &shown).await.map(Some)
}

/// What has to be known to delete a message.
async fn to_delete<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
    place: Seq,
    newest_max: usize,
) -> Result<ToDelete, StoreError> {
    let ConversationId::Person(peer) = conversation else { return Ok(ToDelete::default()) };
    let key = |seq| RowKey::Conversation { user, peer, seq }.encode();
    let range = Range {
        first: key(FIRST_SEQ),
        last: key(LAST_SEQ),
        direction: Direction::Backwards,
        rows_max: newest_max,
        bytes_max: usize::MAX,
    };
    let newest = indexed(&store.range(&range).await?.rows)?.into_iter().map(|(place, _)| place).collect();
    Ok(ToDelete { message: message_at(store, user, conversation, place).await?, newest })
}

/// The message that these entries tell of.
async fn message<S: Store>(store: &S, user: UserId, place: Seq, shown: &Shown) -> Result<Message, StoreError> {
    let seqs: Vec<_> = shown.seqs().collect();
    let mut told = entries_at(store, user, &seqs).await?.into_iter().map(|(entry, _)| entry);
    let entry = told.next().ok_or_else(|| missing(&RowKey::Timeline { user, seq: shown.says }.encode()))?;
    Ok(Message { place, entry, reactions: told.collect() })
}

async fn scan<S: Store>(store: &S, first: Key, last: Key, rows_max: usize) -> Result<Rows, StoreError> {
    let range = Range { first, last, direction: Direction::Forwards, rows_max, bytes_max: usize::MAX };
    store.range(&range).await
}

fn ascending<E>(mut entries: Vec<E>, read: Direction) -> Vec<E> {
    match read {
        Direction::Forwards => {}
        Direction::Backwards => entries.reverse(),
    }
    entries
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
