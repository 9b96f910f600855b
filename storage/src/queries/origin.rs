//! A message of the other side, by its name: the seq that it has in their log. No row says where that is, since every message would
//! pay for it.
//!
//! Messages of the other side came in the order of their seqs there, so the place is found by halving: what the index has around the
//! middle of what is left says in which half to go on. The index says whose a message is and as what it came, so entries are read of
//! the message alone. The exception has a row: what was changed before it came stands where the change came (`displaced`).
//!
//! Invariant: each range that is read leaves at most half of the places, or reads on through messages of the user's own, which say
//! nothing of the order, twice as many rows at a time. So there are at most twice as many as the length of the log has bits, until a user
//! has written [`RUN_ROWS_MAX`] messages without an answer; and no more than [`ROWS_MAX`] rows are read in search of one message.

use std::cmp::Ordering;

use proto_spec::{ConversationId, Direction, Entry, Event, Seq, UserId};

use super::{CONVERSATION_ROWS, entries_at, indexed, message, message_at};
use crate::{
    codec,
    query::Message,
    record::Shown,
    schema::{DisplacedRow, IndexRow, RowKey, Whose},
    store::{Range, Rows, Store, StoreError},
};

/// Most rows that are read at once in search of a message of the other side: less than a megabyte.
const RUN_ROWS_MAX: usize = 8192;

/// Most rows that are read in search of one message, some tenth of a second. Two who have to do with each other could else make a server read
/// all that one of them ever wrote without an answer, with each reaction to something older. Beyond it the message counts as one that
/// never came.
const ROWS_MAX: usize = 262_144;

/// Where a message can stand: the first place of a log to the last, which no log reaches.
const PLACES: (Seq, Seq) = (Seq(1), Seq(u64::MAX - 1));

/// The message that the other side calls `origin`. If it was deleted: the entry that says so.
pub(super) async fn message_of<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
    origin: Seq,
) -> Result<Option<Message>, StoreError> {
    let ConversationId::Person(peer) = conversation else { return deleted(store, user, conversation, origin).await };
    let search = Search { store, user, peer, origin };
    let place = match search.displaced(origin).await? {
        Some(row) => Some(row.place),
        None => search.place(CONVERSATION_ROWS, ROWS_MAX).await?,
    };
    if let Some(place) = place
        && let Some(message) = message_at(store, user, conversation, place).await?
        && name_of(&message.entry) == Some(origin)
    {
        return Ok(Some(message));
    }
    deleted(store, user, conversation, origin).await
}

/// The entry that deletes a message of this name, as the message that it was. Of a group that is all that the user's log says of it.
async fn deleted<S: Store>(
    store: &S,
    user: UserId,
    conversation: ConversationId,
    name: Seq,
) -> Result<Option<Message>, StoreError> {
    let Some(value) = store.get(&RowKey::Deleted { user, conversation, name }.encode()).await? else { return Ok(None) };
    let shown = Shown { says: codec::seq("a deleted row", &value)?, reactions: Vec::new() };
    let mut of = message(store, user, Seq::ZERO, &shown).await?;
    of.place = of.entry.concerns().unwrap_or_default();
    Ok(Some(of))
}

/// What the other side calls a message, if it is one of theirs.
fn name_of(entry: &Entry) -> Option<Seq> {
    match &entry.event {
        Event::Received { origin, content, .. } => Some(content.about().map_or(*origin, |(of, _)| of.seq)),
        _ => None,
    }
}

struct Search<'a, S> {
    store: &'a S,
    user: UserId,
    peer: UserId,
    origin: Seq,
}

/// What rows of the index say of where the message stands.
enum Found {
    /// There.
    At(Seq),
    /// Behind the one and before the other, which are neighbours, as far as is known of them.
    Between(Option<Seq>, Option<Seq>),
}

impl<S: Store> Search<'_, S> {
    /// Where the message stands that came as `origin`, if that is found within so many rows. Begins with `rows_max` of the newest: what is
    /// changed was mostly written lately.
    async fn place(&self, mut rows_max: usize, mut rows_left: usize) -> Result<Option<Seq>, StoreError> {
        let (mut first, mut last) = PLACES;
        // Between `middle` and `from`, downwards from which it is read, nothing is the other side's.
        let (mut middle, mut from) = (last, last);
        while first <= last && rows_left > 0 {
            let Rows { rows, complete } = self.rows(first, from, rows_max).await?;
            let rows = indexed(&rows)?;
            rows_left = rows_left.saturating_sub(rows.len());
            match (self.look(&rows).await?, rows.last()) {
                (Found::At(place), _) => return Ok(Some(place)),
                (Found::Between(None, None), Some((lowest, _))) if !complete => {
                    from = lowest.previous();
                    rows_max = (rows_max * 2).min(RUN_ROWS_MAX);
                    continue;
                }
                (Found::Between(_, None), _) => first = middle.next(),
                (Found::Between(earlier, Some(later)), _) => {
                    first = earlier.map_or(first, Seq::next);
                    last = later.previous();
                }
            }
            middle = Seq(first.0 + last.0.saturating_sub(first.0) / 2);
            from = middle;
        }
        Ok(None)
    }

    async fn rows(&self, first: Seq, last: Seq, rows_max: usize) -> Result<Rows, StoreError> {
        let Self { user, peer, .. } = *self;
        let key = |seq| RowKey::Conversation { user, peer, seq }.encode();
        let direction = Direction::Backwards;
        self.store
            .range(&Range { first: key(first), last: key(last), direction, rows_max, bytes_max: usize::MAX })
            .await
    }

    /// Reads at most one row beside these, unless they are of before the index said whose a message is.
    async fn look(&self, rows: &[(Seq, IndexRow)]) -> Result<Found, StoreError> {
        let mut later = None;
        for (place, row) in rows {
            let came = match row.whose {
                Whose::Own => None,
                Whose::Came(origin) => Some(origin),
                // One of the other side's says in which half to go on.
                Whose::Named(_) | Whose::Unsaid if later.is_some() => None,
                Whose::Named(name) => Some(self.came_as(name).await?),
                Whose::Unsaid => self.came(*place, row.shown.says).await?,
            };
            match came.map(|came| came.cmp(&self.origin)) {
                None => {}
                Some(Ordering::Equal) => return Ok(Found::At(*place)),
                Some(Ordering::Greater) => later = Some(*place),
                Some(Ordering::Less) => return Ok(Found::Between(Some(*place), later)),
            }
        }
        Ok(Found::Between(None, later))
    }

    /// As what the message at `place` came of which the entry at `says` tells, if it is the other side's.
    async fn came(&self, place: Seq, says: Seq) -> Result<Option<Seq>, StoreError> {
        let read = entries_at(self.store, self.user, &[says]).await?;
        let Some((Entry { event: Event::Received { origin, content, .. }, .. }, _)) = read.first() else {
            return Ok(None);
        };
        match content.about() {
            Some((name, _)) if says != place => self.came_as(name.seq).await.map(Some),
            _ => Ok(Some(*origin)),
        }
    }

    /// As what the message of this name came, which was changed since.
    async fn came_as(&self, name: Seq) -> Result<Seq, StoreError> {
        Ok(self.displaced(name).await?.map_or(name, |row| row.came))
    }

    /// Where the message of this name stands, if it was changed before it came.
    async fn displaced(&self, origin: Seq) -> Result<Option<DisplacedRow>, StoreError> {
        let Self { user, peer, .. } = *self;
        let value = self.store.get(&RowKey::Displaced { user, peer, origin }.encode()).await?;
        Ok(value.map(|value| codec::displaced(&value)).transpose()?)
    }
}

#[cfg(test)]
mod tests;
