//! The values of rows, to bytes and back: one function each way for a kind of row, in the order of the tables.

use bytes::Bytes;
use proto_spec::{Entry, EpochId, Seq, Settings, TimestampMs, Visibility};

use super::*;

/// Appends the value of a timeline row: what [`take_entry`] has found in a record. The seq is in the key.
#[inline]
pub(crate) fn put_stored_entry(out: &mut Vec<u8>, stored: &[u8]) {
    out.push(VALUE_VERSION);
    out.extend_from_slice(stored);
}

/// Appends the value of the timeline row of an entry.
#[cfg(test)]
pub(crate) fn put_timeline_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_value(out, &StoredEntry::from(entry));
}

/// Reads the value of the timeline row of `seq`.
pub(crate) fn timeline_entry(seq: Seq, bytes: &[u8]) -> Result<Entry, CodecError> {
    Ok(read_value::<StoredEntry<'_>>("a timeline row", bytes)?.into_entry(seq))
}

/// Reads no more of a timeline row than its time.
pub(crate) fn timeline_time(bytes: &[u8]) -> Result<TimestampMs, CodecError> {
    let body = value_body("the time of a timeline row", bytes)?;
    Ok(TimestampMs(take::<u64>("the time of a timeline row", body)?.0))
}

/// Appends the value of a `sends` row.
pub(crate) fn put_sends_block(out: &mut Vec<u8>, block: &SendsBlock) {
    // Seqs of 64 sends of one device lie close together: offsets from the lowest take a byte or three each, not nine.
    let base = block.seqs.iter().copied().filter(|&seq| seq != Seq::ZERO).min().unwrap_or_default();
    let offsets = block.seqs.map(|seq| if seq == Seq::ZERO { 0 } else { seq.0 - base.0 + 1 });
    put_value(out, &StoredSends { base: base.0, offsets });
}

/// Reads the values of `sends` rows, of those that are there.
pub(crate) fn sends_blocks(values: Vec<Option<Bytes>>) -> Result<Vec<Option<SendsBlock>>, CodecError> {
    values.into_iter().map(|value| value.map(|value| sends_block(&value)).transpose()).collect()
}

/// Reads the value of a `sends` row.
pub(crate) fn sends_block(bytes: &[u8]) -> Result<SendsBlock, CodecError> {
    let StoredSends { base, offsets } = read_value("a sends row", bytes)?;
    let mut block = SendsBlock::default();
    for (seq, offset) in block.seqs.iter_mut().zip(offsets) {
        *seq = match offset.checked_sub(1) {
            None => Seq::ZERO,
            Some(offset) => Seq(base.checked_add(offset).ok_or_else(|| CodecError::Malformed {
                what: "a sends row",
                reason: format!("offset {offset} from {base} is beyond the last seq"),
            })?),
        };
    }
    Ok(block)
}

/// Appends the value of a device row, of a `sent` or of a `deleted` row.
pub(crate) fn put_seq(out: &mut Vec<u8>, seq: Seq) {
    put_value(out, &seq.0);
}

/// Reads the value of a device row, of a `sent` or of a `deleted` row.
pub(crate) fn seq(what: &'static str, bytes: &[u8]) -> Result<Seq, CodecError> {
    read_value(what, bytes).map(Seq)
}

/// Appends the value of a row of a device's last sends.
pub(crate) fn put_last_sends(out: &mut Vec<u8>, block: SendsBlockNumber) {
    put_value(out, &block.0);
}

/// Reads the value of a row of a device's last sends.
pub(crate) fn last_sends(bytes: &[u8]) -> Result<SendsBlockNumber, CodecError> {
    read_value("a row of last sends", bytes).map(SendsBlockNumber)
}

/// Appends the value of a `received` row.
pub(crate) fn put_received(out: &mut Vec<u8>, row: ReceivedRow) {
    put_value(out, &(row.up_to.0, row.at.0, row.count));
}

/// Reads the value of a `received` row. One of before there were counts has its first number alone.
pub(crate) fn received(bytes: &[u8]) -> Result<ReceivedRow, CodecError> {
    const WHAT: &str = "a received row";
    if let Ok(up_to) = read_value(WHAT, bytes) {
        return Ok(ReceivedRow { up_to: Seq(up_to), ..ReceivedRow::default() });
    }
    let (up_to, at, count) = read_value(WHAT, bytes)?;
    Ok(ReceivedRow { up_to: Seq(up_to), at: Seq(at), count })
}

/// Appends the value of a `delivered` or a `seen` row.
pub(crate) fn put_mark(out: &mut Vec<u8>, row: MarkRow) {
    put_value(out, &(row.up_to.0, row.at.0));
}

/// Reads the value of a `delivered` or a `seen` row.
pub(crate) fn mark(what: &'static str, bytes: &[u8]) -> Result<MarkRow, CodecError> {
    let (up_to, at) = read_value(what, bytes)?;
    Ok(MarkRow { up_to: Seq(up_to), at: Seq(at) })
}

/// Appends the value of a `read` row.
pub(crate) fn put_read(out: &mut Vec<u8>, row: ReadRow) {
    put_value(out, &(row.up_to.0, row.at.0, row.count));
}

/// Reads the value of a `read` row.
pub(crate) fn read(bytes: &[u8]) -> Result<ReadRow, CodecError> {
    let (up_to, at, count) = read_value("a read row", bytes)?;
    Ok(ReadRow { up_to: Seq(up_to), at: Seq(at), count })
}

/// Appends the value of a `settings` row.
pub(crate) fn put_settings(out: &mut Vec<u8>, row: SettingsRow) {
    put_value(out, &(row.settings.bits(), row.at.0));
}

/// Reads the value of a `settings` row.
pub(crate) fn settings(bytes: &[u8]) -> Result<SettingsRow, CodecError> {
    let (settings, at) = read_value("a settings row", bytes)?;
    Ok(SettingsRow { settings: Settings::from_bits(settings), at: Seq(at) })
}

/// Appends the value of a `visibility` row.
pub(crate) fn put_visibility(out: &mut Vec<u8>, row: VisibilityRow) {
    put_value(out, &(row.visibility.bits(), row.at.0));
}

/// Reads the value of a `visibility` row.
pub(crate) fn visibility(bytes: &[u8]) -> Result<VisibilityRow, CodecError> {
    let (visibility, at) = read_value("a visibility row", bytes)?;
    Ok(VisibilityRow { visibility: Visibility::from_bits(visibility), at: Seq(at) })
}

/// Appends the value of a `last seen` row.
pub(crate) fn put_last_seen(out: &mut Vec<u8>, at: TimestampMs) {
    put_value(out, &at.0);
}

/// Reads the value of a `last seen` row.
pub(crate) fn last_seen(bytes: &[u8]) -> Result<TimestampMs, CodecError> {
    read_value("a last seen row", bytes).map(TimestampMs)
}

/// Appends the value of a `last` row.
pub(crate) fn put_last(out: &mut Vec<u8>, row: LastRow) {
    put_value(out, &(row.place.0, row.at.0));
}

/// Reads the value of a `last` row.
pub(crate) fn last(bytes: &[u8]) -> Result<LastRow, CodecError> {
    let (place, at) = read_value("a last row", bytes)?;
    Ok(LastRow { place: Seq(place), at: Seq(at) })
}

/// Appends the value of a marks row.
pub(crate) fn put_marks(out: &mut Vec<u8>, marks: Marks) {
    put_value(out, &(marks.forwarded.0, marks.receipted.0));
}

/// Reads the value of a marks row.
pub(crate) fn marks(bytes: &[u8]) -> Result<Marks, CodecError> {
    let (forwarded, receipted) = read_value("a marks row", bytes)?;
    Ok(Marks { forwarded: Seq(forwarded), receipted: Seq(receipted) })
}

/// Appends the value of a `first` row.
pub(crate) fn put_first(out: &mut Vec<u8>, first: FirstResult) {
    put_value(out, &StoredFirst { time: first.time.0, said: first.said });
}

/// Reads the value of a `first` row.
pub(crate) fn first(bytes: &[u8]) -> Result<FirstResult, CodecError> {
    read_value::<StoredFirst>("a first row", bytes).map(FirstResult::from)
}

/// Appends the value of a row of the conversation index, of a message that has just been appended: whose it is, if it came from the
/// other side the seq that it has there.
pub(crate) fn put_index(out: &mut Vec<u8>, came: Option<Seq>) {
    put_version(out, INDEX_VERSION, &came.map_or(StoredIndex::Own, |came| StoredIndex::Came(came.0)));
}

/// Appends the value of a row of the conversation index, of a message that was changed or reacted to; its name, if it came from the
/// other side.
pub(crate) fn put_changed_index(out: &mut Vec<u8>, now: &Shown, name: Option<Seq>) {
    let reactions = lists::reactions(now);
    let shown = StoredShown { says: now.says.0, reactions: StoredReactions::of(&reactions) };
    let stored = match name {
        None => StoredIndex::OwnChanged(shown),
        Some(name) => StoredIndex::Named(name.0, shown),
    };
    put_version(out, INDEX_VERSION, &stored);
}

/// As it was before it was kept whose a message is.
#[cfg(test)]
pub(crate) fn put_earlier_index(out: &mut Vec<u8>, place: Seq, now: &Shown) {
    if now.says != place || !now.reactions.is_empty() {
        put_value(out, &StoredShown { says: now.says.0, reactions: StoredReactions::of(&lists::reactions(now)) });
    }
}

/// Reads the value of a row of the conversation index, of the message that stands at `place`. One of before it was kept whose the
/// message is has no bytes, or is of the version of other values if the message was changed.
pub(crate) fn index(place: Seq, bytes: &[u8]) -> Result<IndexRow, CodecError> {
    const WHAT: &str = "a row of the conversation index";
    let unchanged = |whose| IndexRow { shown: Shown { says: place, reactions: Vec::new() }, whose };
    if bytes.is_empty() {
        return Ok(unchanged(Whose::Unsaid));
    }
    if bytes[0] == VALUE_VERSION {
        let shown: StoredShown<'_> = read_value(WHAT, bytes)?;
        return Ok(IndexRow { shown: shown.into(), whose: Whose::Unsaid });
    }
    Ok(match read_version(WHAT, INDEX_VERSION, bytes)? {
        StoredIndex::Own => unchanged(Whose::Own),
        StoredIndex::Came(origin) => unchanged(Whose::Came(Seq(origin))),
        StoredIndex::OwnChanged(shown) => IndexRow { shown: shown.into(), whose: Whose::Own },
        StoredIndex::Named(name, shown) => IndexRow { shown: shown.into(), whose: Whose::Named(Seq(name)) },
    })
}

/// Appends the value of a `displaced` row.
pub(crate) fn put_displaced(out: &mut Vec<u8>, row: DisplacedRow) {
    put_value(out, &(row.place.0, row.came.0));
}

/// Reads the value of a `displaced` row.
pub(crate) fn displaced(bytes: &[u8]) -> Result<DisplacedRow, CodecError> {
    let (place, came) = read_value("a displaced row", bytes)?;
    Ok(DisplacedRow { place: Seq(place), came: Seq(came) })
}

/// Appends the value of an epoch row.
pub(crate) fn put_epoch(out: &mut Vec<u8>, epoch: EpochId) {
    put_value(out, &epoch.0);
}

/// Reads the value of an epoch row.
pub(crate) fn epoch(bytes: &[u8]) -> Result<EpochId, CodecError> {
    read_value("an epoch row", bytes).map(EpochId)
}

/// Appends the value of a row of a subscription: what a record has of it.
pub(crate) fn put_stored_subscription(out: &mut Vec<u8>, subscription: &StoredSubscription<'_>) {
    put_value(out, subscription);
}

/// Reads the value of a row of a subscription.
pub(crate) fn subscription(bytes: &[u8]) -> Result<Subscription, CodecError> {
    read_value::<StoredSubscription<'_>>("a row of a subscription", bytes).map(Subscription::from)
}

/// Appends the value of a row of what a user was notified of: what a record has of it.
pub(crate) fn put_stored_notified(out: &mut Vec<u8>, notified: &StoredNotified<'_>) {
    put_value(out, notified);
}

/// Reads the value of a row of what a user was notified of.
pub(crate) fn notified(bytes: &[u8]) -> Result<Notified, CodecError> {
    read_value::<StoredNotified<'_>>("a row of what a user was notified of", bytes).map(Notified::from)
}

/// Appends the value of a row of a subscription.
#[cfg(test)]
pub(crate) fn put_subscription(out: &mut Vec<u8>, subscription: &Subscription) {
    put_value(out, &StoredSubscription::from(subscription));
}

/// Appends the value of a row of what a user was notified of.
#[cfg(test)]
pub(crate) fn put_notified(out: &mut Vec<u8>, notified: &Notified) {
    put_value(out, &StoredNotified::of(notified, &lists::told(&notified.told)));
}

/// Appends the value of a row of device notes: what a record has of them.
pub(crate) fn put_stored_notes(out: &mut Vec<u8>, notes: &StoredNotes<'_>) {
    put_value(out, notes);
}

/// Reads the value of a row of device notes.
pub(crate) fn device_notes(bytes: &[u8]) -> Result<DeviceNotes, CodecError> {
    read_value::<StoredNotes<'_>>("a row of device notes", bytes).map(DeviceNotes::from)
}

/// Appends the value of a row of device notes.
#[cfg(test)]
pub(crate) fn put_device_notes(out: &mut Vec<u8>, notes: &DeviceNotes) {
    put_value(out, &StoredNotes::of(notes, &lists::notes(&notes.devices)));
}
