//! The conversations of a user, by their last messages.
//!
//! Nothing is written for this order. The log has it: whoever reads so many of its newest entries knows all conversations whose last
//! message stands there, and has these messages at hand. That is nearly always enough for the first page, however many conversations
//! there are. If it is not, the last message of each conversation is read, which are two rows beside each other.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, Direction, Entry, Seq, UserId};

use super::{A_SENT_ROW, FIRST_SEQ, LAST_SEQ, conversations, message_at, missing, scan, unexpected};
use crate::{
    codec,
    query::{InboxEntry, InboxSnapshot},
    schema::{LastRow, RowKey},
    store::{Range, Rows, Store, StoreError},
};

/// Entries of the log that are read for each conversation that is asked for. People write several messages in a conversation before they
/// turn to the next; more would cost those for nothing who have few conversations.
const ENTRIES_A_ROW: usize = 8;

/// Most bytes of entries that are read in the hope that they are enough: as long to read as the last messages of a thousand
/// conversations.
const ENTRIES_BYTES_MAX: usize = 128 * 1024;

/// Where the last messages of conversations stand, in any order.
struct Lasts {
    of: Vec<(ConversationId, Seq)>,
    /// Entries that were read on the way, by where they are shown.
    entries: HashMap<Seq, Entry, RandomState>,
    /// Last messages below this are not among them.
    down_to: Seq,
}

pub(super) async fn inbox<S: Store>(
    store: &S,
    user: UserId,
    before: Seq,
    rows_max: usize,
    (named, moved): (&[ConversationId], &[(ConversationId, Seq)]),
) -> Result<InboxSnapshot, StoreError> {
    let is_wanted = |&(last, conversation): &(Seq, ConversationId)| {
        Seq::ZERO < last && last < before && !named.contains(&conversation)
    };
    let mut lasts = newest(store, user, rows_max).await?;
    let mut order = lasts.order(moved);
    let is_enough = order.iter().filter(|row| is_wanted(row)).count() > rows_max;
    if lasts.down_to > FIRST_SEQ && !is_enough {
        let entries = lasts.entries;
        lasts = Lasts { entries, ..all(store, user).await? };
        order = lasts.order(moved);
    }
    let newest = lasts.of.iter().map(|(_, last)| *last).max().unwrap_or_default();
    order.retain(is_wanted);
    let complete = order.len() <= rows_max;
    if !complete {
        order.select_nth_unstable_by(rows_max, |a, b| b.cmp(a));
        order.truncate(rows_max);
    }
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut entries = lasts.entries;
    let unread: Vec<_> = order.iter().map(|(seq, _)| *seq).filter(|seq| !entries.contains_key(seq)).collect();
    let keys: Vec<_> = unread.iter().map(|&seq| RowKey::Timeline { user, seq }.encode()).collect();
    for (seq, value) in unread.into_iter().zip(store.get_many(&keys).await?) {
        // None: something else is said of it.
        if let Some(value) = value {
            entries.insert(seq, codec::timeline_entry(seq, &value)?);
        }
    }
    let asked: Vec<_> = named.iter().copied().chain(order.iter().map(|(_, conversation)| *conversation)).collect();
    let mut snapshots = conversations(store, user, &asked).await?.into_iter();
    let named = snapshots.by_ref().take(named.len()).collect();
    let mut rows = Vec::with_capacity(order.len());
    for ((seq, conversation), snapshot) in order.into_iter().zip(snapshots) {
        let last = match entries.remove(&seq) {
            Some(entry) => entry,
            None => {
                let message = message_at(store, user, conversation, seq).await?;
                message.ok_or_else(|| missing(&RowKey::Timeline { user, seq }.encode()))?.entry
            }
        };
        rows.push(InboxEntry { conversation, snapshot, last });
    }
    Ok(InboxSnapshot { named, rows, complete, newest })
}

/// As far as the newest entries of the log say it.
async fn newest<S: Store>(store: &S, user: UserId, rows_max: usize) -> Result<Lasts, StoreError> {
    let key = |seq| RowKey::Timeline { user, seq }.encode();
    let range = Range {
        first: key(FIRST_SEQ),
        last: key(LAST_SEQ),
        direction: Direction::Backwards,
        rows_max: (rows_max + 1).saturating_mul(ENTRIES_A_ROW),
        bytes_max: ENTRIES_BYTES_MAX,
    };
    let Rows { rows, complete } = store.range(&range).await?;
    let mut read = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let RowKey::Timeline { seq, .. } = RowKey::decode(&key)? else { return Err(unexpected(&key)) };
        read.push(codec::timeline_entry(seq, &value)?);
    }
    let lowest = read.last().filter(|_| !complete);
    let down_to = lowest.map_or(FIRST_SEQ, |lowest| lowest.seq);
    let mut of: HashMap<_, Seq, RandomState> = HashMap::default();
    let mut entries: HashMap<_, _, RandomState> = HashMap::default();
    for entry in read {
        let (Some(conversation), Some(place)) = (entry.event.conversation(), entry.place()) else { continue };
        let last = of.entry(conversation).or_default();
        if place > *last {
            entries.remove(last);
            entries.insert(place, entry);
            *last = place;
        }
    }
    Ok(Lasts { of: of.into_iter().collect(), entries, down_to })
}

/// Of all conversations.
async fn all<S: Store>(store: &S, user: UserId) -> Result<Lasts, StoreError> {
    let first = RowKey::Received { user, peer: UserId(0) }.encode();
    let last = RowKey::Last { user, peer: UserId(u64::MAX) }.encode();
    let rows = scan(store, first, last, usize::MAX).await?.rows;
    let mut of: Vec<(ConversationId, Seq)> = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let (peer, at) = match RowKey::decode(&key)? {
            RowKey::Received { peer, .. } => (peer, codec::received(&value)?.at),
            RowKey::Sent { peer, .. } => (peer, codec::seq(A_SENT_ROW, &value)?),
            // Behind all others. What these name that is not later is gone, or not the last.
            RowKey::Last { peer, .. } => {
                let LastRow { place, at } = codec::last(&value)?;
                if let Ok(found) = of.binary_search_by_key(&ConversationId::Person(peer), |(of, _)| *of) {
                    let last = &mut of[found].1;
                    *last = if *last > at { *last } else { place };
                }
                continue;
            }
            _ => return Err(unexpected(&key)),
        };
        let conversation = peer.into();
        match of.last_mut().filter(|(of, _)| *of == conversation) {
            Some((_, last)) => *last = at.max(*last),
            None => of.push((conversation, at)),
        }
    }
    Ok(Lasts { of, entries: HashMap::default(), down_to: FIRST_SEQ })
}

impl Lasts {
    /// With those that stand elsewhere than the store has it. What is said, or stands, further down than all are known says nothing of what
    /// else is there.
    fn order(&self, moved: &[(ConversationId, Seq)]) -> Vec<(Seq, ConversationId)> {
        let elsewhere: HashMap<_, _, RandomState> = moved.iter().copied().collect();
        let here = self.of.iter().filter(|(conversation, _)| !elsewhere.contains_key(conversation));
        let all = here.copied().chain(elsewhere.iter().map(|(conversation, last)| (*conversation, *last)));
        all.map(|(conversation, last)| (last, conversation)).filter(|(last, _)| *last >= self.down_to).collect()
    }
}

#[cfg(test)]
mod tests;
