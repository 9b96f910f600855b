mod groups;

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use proto_spec::{ConversationId, Entry, Event};

use super::*;
use crate::{
    group::StandingRow,
    record::{Batch, Record},
    run::Change,
    schema::SendsBlockNumber,
    testing::{any_record, any_rewriting, history},
};

type Rows = BTreeMap<Key, Vec<u8>>;

fn sorted(records: &[Record]) -> Sorted {
    let mut batch = Batch::default();
    records.iter().for_each(|record| batch.push(record));
    let mut fold = Fold::default();
    fold.add(batch.bytes()).unwrap();
    assert_eq!(fold.records(), records.len() as u64);
    fold.sort()
}

fn apply(rows: &mut Rows, records: &[Record]) {
    let sorted = sorted(records);
    let base: Vec<_> =
        sorted.needed().iter().map(|key| rows.get(key).map(|value| codec::sends_block(value).unwrap())).collect();
    for (key, change) in sorted.finish(base).iter() {
        match change {
            Change::Put(value) => drop(rows.insert(*key, value.to_vec())),
            Change::Delete => drop(rows.remove(key)),
        }
    }
}

fn folded(records: &[Record]) -> Rows {
    let mut rows = Rows::new();
    apply(&mut rows, records);
    rows
}

/// What the records change, by the plainest means: a map in which the last change of each row stays.
fn reference(records: &[Record], base: &SendsBlock) -> BTreeMap<Key, Option<Vec<u8>>> {
    let mut changes = BTreeMap::new();
    let mut sends: BTreeMap<Key, (SendsBlock, bool)> = BTreeMap::new();
    let mut begun: BTreeMap<(u64, u64), SendsBlockNumber> = BTreeMap::new();
    for record in records {
        let mut begin = |user: UserId, device: DeviceId, number| {
            let (block, place) = SendsBlock::place(number);
            if place == 0 || number == SendNumber(1) {
                let last = begun.entry((user.0, device.0)).or_default();
                *last = block.max(*last);
            }
        };
        let mut set = |row: RowKey, put: &dyn Fn(&mut Vec<u8>)| {
            let mut value = Vec::new();
            put(&mut value);
            changes.insert(row.encode(), Some(value));
        };
        match record {
            Record::Rewrite { user, entry, of } => {
                let (user, seq) = (*user, entry.seq);
                set(RowKey::Timeline { user, seq }, &|out| codec::put_timeline_entry(out, entry));
                let deletes = match entry.event {
                    Event::Deleted { conversation: ConversationId::Person(peer), of, .. } => Some((peer, of)),
                    _ => None,
                };
                if let Some((peer, of)) = deletes.filter(|(with, of)| *with == of.author) {
                    let row = RowKey::Deleted { user, conversation: peer.into(), name: of.seq };
                    set(row, &|out| codec::put_seq(out, seq));
                }
                if let Some(peer) = peer_of(&entry.event).or(deletes.map(|(peer, _)| peer)) {
                    let about = match &entry.event {
                        Event::Received { content, .. } | Event::Sent { content, .. } => {
                            content.about().map(|(name, _)| name)
                        }
                        _ => deletes.map(|(_, name)| name),
                    };
                    let name = about.filter(|name| peer == name.author).map(|name| name.seq);
                    set(RowKey::Conversation { user, peer, seq: of.place }, &|out| {
                        codec::put_changed_index(out, &of.now, name)
                    });
                    if let Some(row) = of.received {
                        set(RowKey::Received { user, peer }, &|out| codec::put_received(out, row));
                    }
                    if let Some(place) = of.last {
                        let row = LastRow { place, at: seq };
                        set(RowKey::Last { user, peer }, &|out| codec::put_last(out, row));
                    }
                }
                for (seq, first) in of.replaces.iter().filter_map(|of| Some((of.seq, of.first?))) {
                    set(RowKey::First { user, seq }, &|out| codec::put_first(out, first));
                }
                if let Event::Sent { device, number, .. } = entry.event {
                    set(RowKey::Unfinished { user }, &|_| ());
                    let (block, place) = SendsBlock::place(number);
                    let (block, from_the_first) =
                        sends.entry(RowKey::Sends { user, device, block }.encode()).or_default();
                    block.seqs[place] = seq;
                    *from_the_first |= place == 0 || number == SendNumber(1);
                    begin(user, device, number);
                }
                groups::reference_of_user(&mut changes, user, entry, 0);
                for Replaced { seq, .. } in &of.replaces {
                    changes.insert(RowKey::Timeline { user, seq: *seq }.encode(), None);
                }
            }
            Record::Append { user, entry, replaces, count } => {
                let (user, seq) = (*user, entry.seq);
                set(RowKey::Timeline { user, seq }, &|out| codec::put_timeline_entry(out, entry));
                if let Some(peer) = peer_of(&entry.event) {
                    let came = match entry.event {
                        Event::Received { origin, .. } => Some(origin),
                        _ => None,
                    };
                    set(RowKey::Conversation { user, peer, seq }, &|out| codec::put_index(out, came));
                }
                match entry.event {
                    Event::Received { from, origin, ref content } => {
                        if let Some((of, _)) = content.about().filter(|(of, _)| of.author == from) {
                            set(RowKey::Displaced { user, peer: from, origin: of.seq }, &|out| {
                                codec::put_displaced(out, DisplacedRow { place: seq, came: origin })
                            });
                        }
                        let row = ReceivedRow { up_to: origin, at: seq, count: *count };
                        set(RowKey::Received { user, peer: from }, &|out| codec::put_received(out, row));
                    }
                    Event::Sent { to, device, number, .. } => {
                        set(RowKey::Unfinished { user }, &|_| ());
                        if let ConversationId::Person(peer) = to {
                            set(RowKey::Sent { user, peer }, &|out| codec::put_seq(out, seq));
                        }
                        let (block, place) = SendsBlock::place(number);
                        let (block, from_the_first) =
                            sends.entry(RowKey::Sends { user, device, block }.encode()).or_default();
                        block.seqs[place] = seq;
                        *from_the_first |= place == 0 || number == SendNumber(1);
                        begin(user, device, number);
                    }
                    Event::Delivered { peer, up_to } => {
                        let row = MarkRow { up_to, at: seq };
                        set(RowKey::Delivered { user, peer }, &|out| codec::put_mark(out, row));
                    }
                    Event::Read { conversation: conversation @ ConversationId::Person(_), up_to, told, .. } => {
                        let row = ReadRow { up_to, at: seq, count: *count };
                        set(RowKey::Read { user, conversation }, &|out| codec::put_read(out, row));
                        if told != Seq::ZERO {
                            set(RowKey::Unfinished { user }, &|_| ());
                        }
                    }
                    Event::Seen { peer, up_to } => {
                        let row = MarkRow { up_to, at: seq };
                        set(RowKey::Seen { user, peer }, &|out| codec::put_mark(out, row));
                    }
                    Event::Settings { conversation: conversation @ ConversationId::Person(_), settings } => {
                        let row = SettingsRow { settings, at: seq };
                        set(RowKey::Settings { user, conversation }, &|out| codec::put_settings(out, row));
                    }
                    Event::Visibility { visibility } => {
                        let row = VisibilityRow { visibility, at: seq };
                        set(RowKey::Visibility { user }, &|out| codec::put_visibility(out, row));
                    }
                    Event::Group { .. } | Event::Read { .. } | Event::Settings { .. } | Event::Deleted { .. } => {
                        groups::reference_of_user(&mut changes, user, entry, *count);
                    }
                    Event::Devices { .. } | Event::GroupRefused { .. } | Event::Unknown { .. } => {}
                }
                if let Some(seq) = *replaces {
                    changes.insert(RowKey::Timeline { user, seq }.encode(), None);
                }
            }
            Record::Cursor { user, device, seq } => {
                set(RowKey::Device { user: *user, device: *device }, &|out| codec::put_seq(out, *seq));
                set(RowKey::Unfinished { user: *user }, &|_| ());
            }
            Record::Marks { user, marks, idle } => {
                set(RowKey::Marks { user: *user }, &|out| codec::put_marks(out, *marks));
                if *idle {
                    changes.insert(RowKey::Unfinished { user: *user }.encode(), None);
                }
            }
            Record::Epoch { user, first, epoch, forgotten } => {
                set(RowKey::Epoch { user: *user, first: *first }, &|out| codec::put_epoch(out, *epoch));
                if let Some(first) = *forgotten {
                    changes.insert(RowKey::Epoch { user: *user, first }.encode(), None);
                }
            }
            Record::Devices { user, notes } => {
                set(RowKey::DeviceNotes { user: *user }, &|out| codec::put_device_notes(out, notes));
            }
            Record::Removed { user, device } => {
                let (user, device) = (*user, *device);
                set(RowKey::Unfinished { user }, &|_| ());
                set(RowKey::Removed { user, device }, &|_| ());
                changes.insert(RowKey::Device { user, device }.encode(), None);
                changes.insert(RowKey::Subscription { user, device }.encode(), None);
            }
            Record::Subscribed { user, device, subscription } => {
                let row = RowKey::Subscription { user: *user, device: *device };
                match subscription {
                    Some(of) => set(row, &|out| codec::put_subscription(out, of)),
                    None => drop(changes.insert(row.encode(), None)),
                }
            }
            Record::Due { user } => set(RowKey::Unfinished { user: *user }, &|_| ()),
            Record::Notified { user, notified } => {
                set(RowKey::Notified { user: *user }, &|out| codec::put_notified(out, notified));
            }
            Record::GivenUp { user, device, number } => {
                let (block, place) = SendsBlock::place(*number);
                let key = RowKey::Sends { user: *user, device: *device, block }.encode();
                let (block, from_the_first) = sends.entry(key).or_default();
                block.seqs[place] = SendsBlock::GIVEN_UP;
                *from_the_first |= place == 0 || *number == SendNumber(1);
                begin(*user, *device, *number);
            }
            Record::LastSeen { user, at } => {
                set(RowKey::LastSeen { user: *user }, &|out| codec::put_last_seen(out, *at));
            }
            Record::GroupAppend { .. }
            | Record::GroupState { .. }
            | Record::GroupMember { .. }
            | Record::GroupCame { .. }
            | Record::GroupWants { .. }
            | Record::GroupMarks { .. } => groups::reference(&mut changes, record),
        }
    }
    for ((user, device), block) in begun {
        let key = RowKey::LastSends { user: UserId(user), device: DeviceId(device) }.encode();
        let mut value = Vec::new();
        codec::put_last_sends(&mut value, block);
        changes.insert(key, Some(value));
    }
    let gone = changes.iter().filter(|(_, change)| change.is_none()).filter_map(|(key, _)| RowKey::decode(key).ok());
    let gone = gone.filter_map(|row| match row {
        RowKey::Device { user, device } => Some(RowKey::LastSends { user, device }.encode()),
        _ => None,
    });
    changes.extend(gone.map(|key| (key, None)).collect::<Vec<_>>());
    for (key, (mut block, from_the_first)) in sends {
        if !from_the_first {
            block.fill_from(base);
        }
        let mut value = Vec::new();
        codec::put_sends_block(&mut value, &block);
        changes.insert(key, Some(value));
    }
    changes
}

/// With whom a conversation is that has this message.
fn peer_of(event: &Event) -> Option<UserId> {
    match event.conversation()? {
        ConversationId::Person(peer) => Some(peer),
        ConversationId::Group(_) => None,
    }
}

/// A conversation of the same kind.
fn with(conversation: ConversationId, id: u64) -> ConversationId {
    match conversation {
        ConversationId::Person(_) => UserId(id).into(),
        ConversationId::Group(_) => GroupId(id).into(),
    }
}

/// Records with numbers from so small a range that rows are written, deleted and written again, in any order.
fn colliding_record() -> impl Strategy<Value = Record> {
    let numbers = (1..4u64, 1..6u64, 1..4u64, 0..200u64, proptest::option::of(1..6u64));
    (any_record(), numbers).prop_map(|(mut record, (id, small, peer_id, large, replaced))| {
        match &mut record {
            Record::Append { user, entry, .. } | Record::Rewrite { user, entry, .. } => {
                *user = UserId(id);
                entry.seq = Seq(small);
                match &mut entry.event {
                    Event::Received { from: peer, .. } | Event::Delivered { peer, .. } | Event::Seen { peer, .. } => {
                        *peer = UserId(peer_id);
                    }
                    Event::Read { conversation, .. } | Event::Settings { conversation, .. } => {
                        *conversation = with(*conversation, peer_id);
                    }
                    Event::Sent { to, device, number, .. } => {
                        (*to, *device, *number) = (with(*to, peer_id), DeviceId(peer_id), SendNumber(large));
                    }
                    Event::Deleted { conversation, place, .. } => {
                        (*conversation, *place) = (with(*conversation, peer_id), Seq(small));
                    }
                    Event::Group { group, .. } | Event::GroupRefused { group, .. } => *group = GroupId(peer_id),
                    Event::Devices { .. } | Event::Visibility { .. } | Event::Unknown { .. } => {}
                }
            }
            Record::Removed { user, device }
            | Record::Cursor { user, device, .. }
            | Record::Subscribed { user, device, .. } => (*user, *device) = (UserId(id), DeviceId(peer_id)),
            Record::Marks { user, .. }
            | Record::Devices { user, .. }
            | Record::Due { user }
            | Record::Notified { user, .. }
            | Record::LastSeen { user, .. } => {
                *user = UserId(id);
            }
            Record::Epoch { user, first, forgotten, .. } => {
                (*user, *first, *forgotten) = (UserId(id), Seq(small), replaced.map(Seq));
            }
            Record::GivenUp { user, device, number } => {
                (*user, *device, *number) = (UserId(id), DeviceId(peer_id), SendNumber(large));
            }
            Record::GroupAppend { .. }
            | Record::GroupState { .. }
            | Record::GroupMember { .. }
            | Record::GroupCame { .. }
            | Record::GroupWants { .. }
            | Record::GroupMarks { .. } => groups::collide(&mut record, (id, small, peer_id, replaced)),
        }
        match &mut record {
            Record::Append { replaces, .. } => *replaces = replaced.map(Seq),
            Record::Rewrite { of, .. } => {
                of.place = Seq(peer_id);
                of.replaces.iter_mut().zip(replaced.unwrap_or(small)..).for_each(|(of, seq)| of.seq = Seq(seq));
            }
            _ => {}
        }
        record
    })
}

proptest! {
    #[test]
    fn of_each_row_the_last_change_stays_in_any_history(
        records in vec(colliding_record(), 0..100), base in vec(0..50u64, SendsBlock::LEN)
    ) {
        let mut older = SendsBlock::default();
        older.seqs.iter_mut().zip(base).for_each(|(seq, base)| *seq = Seq(base));
        let sorted = sorted(&records);
        let base = vec![Some(older); sorted.needed().len()];
        prop_assert!(sorted.needed().is_sorted());
        let run = sorted.finish(base);
        let changes: Vec<_> = run
            .iter()
            .map(|(key, change)| match change {
                Change::Put(value) => (*key, Some(value.to_vec())),
                Change::Delete => (*key, None),
            })
            .collect();
        prop_assert_eq!(changes, reference(&records, &older).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_fold_takes_the_bytes_that_are_records_and_no_others(
        records in vec(prop_oneof![colliding_record(), any_rewriting()], 1..4),
        at in any::<proptest::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut batch = Batch::default();
        records.iter().for_each(|record| batch.push(record));
        let mut bytes = batch.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let read = crate::records(&bytes).try_for_each(|record| record.map(drop));
        prop_assert_eq!(Fold::default().add(&bytes), read);
    }

    #[test]
    fn folding_in_parts_equals_folding_at_once(records in history(200), cuts in vec(0..200usize, 0..4)) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(records.len())).collect();
        cuts.extend([0, records.len()]);
        cuts.sort_unstable();
        let mut rows = Rows::new();
        cuts.windows(2).for_each(|part| apply(&mut rows, &records[part[0]..part[1]]));
        prop_assert_eq!(rows, folded(&records));
    }

    #[test]
    fn folding_again_from_any_earlier_place_changes_nothing(
        records in history(200), from in 0..200usize, to in 0..200usize
    ) {
        let (from, to) = (from.min(records.len()), to.min(records.len()));
        let mut rows = folded(&records);
        // A crash between ingestion and the end of a journal: the runs from some place on are applied again.
        apply(&mut rows, &records[from..to.max(from)]);
        apply(&mut rows, &records[to.max(from)..]);
        prop_assert_eq!(rows, folded(&records));
    }
}

#[test]
fn a_superseded_entry_leaves_no_row() {
    let user = UserId(1);
    let delivered = |seq, up_to, replaces| Record::Append {
        user,
        entry: Entry {
            seq: Seq(seq),
            time: TimestampMs(1),
            event: Event::Delivered { peer: UserId(2), up_to: Seq(up_to) },
        },
        replaces,
        count: 0,
    };
    let rows = folded(&[delivered(5, 1, None), delivered(6, 2, Some(Seq(5)))]);
    assert!(!rows.contains_key(&RowKey::Timeline { user, seq: Seq(5) }.encode()));
    assert!(rows.contains_key(&RowKey::Timeline { user, seq: Seq(6) }.encode()));
    let row = codec::mark("a delivered row", &rows[&RowKey::Delivered { user, peer: UserId(2) }.encode()]);
    assert_eq!(row, Ok(MarkRow { up_to: Seq(2), at: Seq(6) }));
}

#[test]
fn a_user_is_unfinished_from_a_cursor_to_idle_marks() {
    let user = UserId(1);
    let key = RowKey::Unfinished { user }.encode();
    let cursor = Record::Cursor { user, device: DeviceId(1), seq: Seq::ZERO };
    let marks = |idle| Record::Marks { user, marks: Marks::default(), idle };
    assert!(folded(std::slice::from_ref(&cursor)).contains_key(&key));
    assert!(folded(&[cursor.clone(), marks(false)]).contains_key(&key));
    assert!(!folded(&[cursor.clone(), marks(true)]).contains_key(&key));
    assert!(folded(&[cursor.clone(), marks(true), cursor]).contains_key(&key));
}

#[test]
fn a_block_begun_in_this_run_needs_no_read() {
    let sent = |number| Record::Append {
        user: UserId(1),
        entry: Entry {
            seq: Seq(number),
            time: TimestampMs(1),
            event: Event::Sent {
                to: UserId(2).into(),
                device: DeviceId(3),
                number: SendNumber(number),
                content: proto_spec::Content::text(""),
            },
        },
        replaces: None,
        count: 0,
    };
    let needed = |numbers: std::ops::RangeInclusive<u64>| sorted(&numbers.map(sent).collect::<Vec<_>>()).needed().len();
    assert_eq!(needed(1..=130), 0);
    assert_eq!(needed(2..=65), 1);
}
