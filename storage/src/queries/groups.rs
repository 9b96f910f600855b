//! What is asked of groups: all that their home must know, parts of their logs, and messages.

use proto_spec::{Direction, GroupEntry, GroupId, Seq, UserId};

use super::{FIRST_SEQ, LAST_SEQ, misplaced, missing, read_span, scan};
use crate::{
    codec,
    group::{GroupEntries, GroupMessage, GroupSnapshot},
    query::Span,
    record::Shown,
    schema::{Key, RowKey},
    store::{Rows, Store, StoreError},
};

/// Rows of a roll that are read at once: a few hundred KiB, whatever the size of the group.
const ROLL_ROWS: usize = 4096;

/// Groups that may owe something, by ascending id, from the one after `after` on.
///
/// # Errors
/// The store failed, or holds something that cannot be read.
pub async fn unfinished_groups<S: Store>(
    store: &S,
    after: Option<GroupId>,
    max: usize,
) -> Result<Vec<GroupId>, StoreError> {
    let Some(first) = after.map_or(Some(0), |group| group.0.checked_add(1)) else { return Ok(Vec::new()) };
    let key = |group| RowKey::GroupUnfinished { group: GroupId(group) }.encode();
    let rows = scan(store, key(first), key(u64::MAX), max).await?.rows;
    rows.iter()
        .map(|(key, _)| match RowKey::decode(key)? {
            RowKey::GroupUnfinished { group } => Ok(group),
            other => Err(misplaced(other)),
        })
        .collect()
}

pub(super) async fn group_snapshot<S: Store>(store: &S, group: GroupId) -> Result<GroupSnapshot, StoreError> {
    let (first, last, direction) = (FIRST_SEQ, LAST_SEQ, Direction::Backwards);
    let newest = Span { first, last, direction, entries_max: 1, bytes_max: usize::MAX };
    let last = group_log(store, group, &newest).await?.entries.pop();
    let single = [RowKey::GroupState { group }, RowKey::GroupMarks { group }, RowKey::GroupUnfinished { group }];
    let [state, marks, unfinished] = &store.get_many(&single.map(RowKey::encode)).await?[..] else {
        return Err(StoreError::Damaged { what: format!("{single:?} were asked for, and other rows are the answer") });
    };
    let state = state.as_ref().map(|value| codec::group_state(value)).transpose()?;
    let marks = marks.as_ref().map(|value| codec::group_marks(value)).transpose()?.unwrap_or_default();
    let unfinished = unfinished.is_some();
    let mut snapshot = GroupSnapshot { last, state, marks, unfinished, ..GroupSnapshot::default() };
    read_roll(store, group, &mut snapshot).await?;
    Ok(snapshot)
}

/// The roll, what has come of each of those who are in it, and what they want to be told.
async fn read_roll<S: Store>(store: &S, group: GroupId, of: &mut GroupSnapshot) -> Result<(), StoreError> {
    let mut first = Some(RowKey::GroupMember { group, user: UserId(0) }.encode());
    let last = RowKey::GroupWants { group, user: UserId(u64::MAX) }.encode();
    while let Some(from) = first {
        let Rows { rows, complete } = scan(store, from, last, ROLL_ROWS).await?;
        first = rows.last().filter(|_| !complete).and_then(|(key, _)| key.successor());
        for (key, value) in rows {
            match RowKey::decode(&key)? {
                RowKey::GroupMember { user, .. } => of.roll.push((user, codec::group_member(&value)?)),
                RowKey::GroupWants { user, .. } => of.wants.push((user, codec::group_wants(&value)?)),
                RowKey::GroupCame { user, .. } => of.came.push((user, codec::group_came(&value)?)),
                other => return Err(misplaced(other)),
            }
        }
    }
    Ok(())
}

pub(super) async fn group_log<S: Store>(store: &S, group: GroupId, span: &Span) -> Result<GroupEntries, StoreError> {
    let row = |seq| RowKey::GroupLog { group, seq };
    let entry = |row, value: &[u8]| match row {
        RowKey::GroupLog { seq, .. } => Ok(codec::group_entry(seq, value)?),
        other => Err(misplaced(other)),
    };
    let (entries, complete) = read_span(store, span, row, entry).await?;
    Ok(GroupEntries { entries, complete })
}

/// The message that stands at `place`.
pub(super) async fn group_message<S: Store>(
    store: &S,
    group: GroupId,
    place: Seq,
) -> Result<Option<GroupMessage>, StoreError> {
    // In this order, so that what is unchanged was so when its entry was read: whatever supersedes an entry has left the other row in the
    // same commit.
    let keys = [log_key(group, place), RowKey::GroupShown { group, place }.encode()];
    let [said, shown] = &store.get_many(&keys).await?[..] else {
        return Err(StoreError::Damaged { what: format!("{keys:?} were asked for, and other rows are the answer") });
    };
    if let Some(shown) = shown {
        return message(store, group, place, &codec::group_shown(shown)?).await.map(Some);
    }
    let entry = said.as_ref().map(|value| codec::group_entry(place, value)).transpose()?;
    let said = entry.filter(|entry| entry.content.is_message());
    Ok(said.map(|entry| GroupMessage { place, entry, reactions: Vec::new() }))
}

/// The message that these entries tell of.
async fn message<S: Store>(store: &S, group: GroupId, place: Seq, shown: &Shown) -> Result<GroupMessage, StoreError> {
    let seqs: Vec<_> = shown.seqs().collect();
    let keys: Vec<_> = seqs.iter().map(|seq| log_key(group, *seq)).collect();
    let mut told: Vec<GroupEntry> = Vec::with_capacity(seqs.len());
    for ((seq, key), value) in seqs.into_iter().zip(&keys).zip(store.get_many(&keys).await?) {
        told.push(codec::group_entry(seq, &value.ok_or_else(|| missing(key))?)?);
    }
    let entry = told.remove(0);
    Ok(GroupMessage { place, entry, reactions: told })
}

fn log_key(group: GroupId, seq: Seq) -> Key {
    RowKey::GroupLog { group, seq }.encode()
}

#[cfg(test)]
pub(super) mod tests;
