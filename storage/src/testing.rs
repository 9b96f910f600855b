//! Generators that the tests of several modules share.

mod groups;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    os::unix::fs::FileExt,
};

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
    sample::select,
};
use proto_spec::{
    Content, ConversationId, DeviceId, Entry, EpochId, Event, GroupId, MessageName, Removal, SendNumber, Seq, Settings,
    Show, Stands, Subscription, TimestampMs, UserId, Visibility,
};

use groups::{Groups, any_event_of_a_group};
pub(crate) use groups::{any_group_entry, any_group_record};
use tempfile::TempDir;

use crate::{
    journal::{JournalConfig, JournalFolder, Position, SealedSegment, Writer},
    record::{
        Batch, BatchId, DeviceNote, DeviceNotes, FirstResult, LaneId, Marks, Notified, Record, Replaced, Rewrite, Shown,
    },
    schema::ReceivedRow,
};

/// Any record, of any numbers.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (any::<[u64; 2]>(), any_entry(), option::of(any::<u64>())).prop_map(|([user, count], entry, replaces)| {
            Record::Append {
                user: UserId(user),
                entry,
                replaces: replaces.map(Seq),
                count: count.saturating_sub(1 << 63),
            }
        }),
        any_rewriting(),
        any::<[u64; 3]>().prop_map(|[user, device, seq]| Record::Cursor {
            user: UserId(user),
            device: DeviceId(device),
            seq: Seq(seq)
        }),
        (any::<[u64; 3]>(), any::<bool>()).prop_map(|([user, forwarded, receipted], idle)| Record::Marks {
            user: UserId(user),
            marks: Marks { forwarded: Seq(forwarded), receipted: Seq(receipted) },
            idle
        }),
        (any::<[u64; 3]>(), option::of(any::<u64>())).prop_map(|([user, first, epoch], forgotten)| Record::Epoch {
            user: UserId(user),
            first: Seq(first),
            epoch: EpochId(epoch),
            forgotten: forgotten.map(Seq)
        }),
        (any::<u64>(), any_notes()).prop_map(|(user, notes)| Record::Devices { user: UserId(user), notes }),
        any::<[u64; 2]>().prop_map(|[user, device]| Record::Removed { user: UserId(user), device: DeviceId(device) }),
        any::<[u64; 3]>().prop_map(|[user, device, number]| Record::GivenUp {
            user: UserId(user),
            device: DeviceId(device),
            number: SendNumber(number)
        }),
        any::<[u64; 2]>().prop_map(|[user, at]| Record::LastSeen { user: UserId(user), at: TimestampMs(at) }),
        any_record_of_push(),
        any_group_record(),
    ]
}

/// Any record about notifications.
fn any_record_of_push() -> impl Strategy<Value = Record> {
    let subscription = (any::<u64>(), select(Show::ALL), any::<String>(), any::<[u8; 4]>(), any::<[u8; 2]>()).prop_map(
        |(provider, show, address, key, secret)| {
            let (key, secret) = (key.to_vec(), secret.to_vec());
            Subscription { provider, show, address, key, secret }
        },
    );
    // People, then groups.
    let told = (vec(any::<[u64; 2]>(), 0..4), vec(any::<[u64; 2]>(), 0..4)).prop_map(|(people, groups)| {
        let people = people.into_iter().map(|[peer, seq]| (ConversationId::from(UserId(peer)), Seq(seq)));
        let groups = groups.into_iter().map(|[group, seq]| (ConversationId::from(GroupId(group)), Seq(seq)));
        people.chain(groups).collect()
    });
    prop_oneof![
        (any::<[u64; 2]>(), option::of(subscription)).prop_map(|([user, device], subscription)| Record::Subscribed {
            user: UserId(user),
            device: DeviceId(device),
            subscription,
        }),
        any::<u64>().prop_map(|user| Record::Due { user: UserId(user) }),
        (any::<[u64; 2]>(), told).prop_map(|([user, up_to], told)| Record::Notified {
            user: UserId(user),
            notified: Notified { up_to: Seq(up_to), told },
        }),
    ]
}

/// Any record of an entry that changes a message.
pub(crate) fn any_rewriting() -> impl Strategy<Value = Record> {
    (any::<u64>(), any_entry(), any_rewrite()).prop_map(|(user, entry, of)| Record::Rewrite {
        user: UserId(user),
        entry,
        of,
    })
}

fn any_notes() -> impl Strategy<Value = DeviceNotes> {
    let note = (any::<[u64; 2]>(), any::<String>()).prop_map(|([device, seen_day], name)| DeviceNote {
        device: DeviceId(device),
        seen_day,
        name: name.into(),
    });
    (vec(note, 0..4), any::<[u64; 2]>()).prop_map(|(devices, [told_at, acknowledged])| DeviceNotes {
        devices,
        told_at: Seq(told_at),
        acknowledged: Seq(acknowledged),
    })
}

fn any_rewrite() -> impl Strategy<Value = Rewrite> {
    let row = |[up_to, at, count]: [u64; 3]| ReceivedRow { up_to: Seq(up_to), at: Seq(at), count };
    let received = option::of(any::<[u64; 3]>().prop_map(row));
    let replaced = |(seq, first): (u64, Option<(u64, [u8; 16])>)| Replaced {
        seq: Seq(seq),
        first: first.map(|(time, said)| FirstResult { time: TimestampMs(time), said }),
    };
    let replaces = btree_map(any::<u64>(), option::of(any::<(u64, [u8; 16])>()), 0..4)
        .prop_map(move |replaces| replaces.into_iter().map(replaced).collect::<Vec<_>>());
    let reactions = btree_set(any::<u64>(), 0..4).prop_map(|seqs| seqs.into_iter().map(Seq).collect::<Vec<_>>());
    let last = option::of(any::<u64>().prop_map(Seq));
    (any::<[u64; 2]>(), reactions, replaces, received, last).prop_map(
        |([place, says], reactions, replaces, received, last)| Rewrite {
            received,
            last,
            place: Seq(place),
            now: Shown { says: Seq(says), reactions },
            replaces,
        },
    )
}

/// Any entry, of any numbers.
pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    (any::<[u64; 2]>(), any_event()).prop_map(|([seq, time], event)| Entry {
        seq: Seq(seq),
        time: TimestampMs(time),
        event,
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any::<[u64; 2]>(), any_content()).prop_map(|([from, origin], content)| Event::Received {
            from: UserId(from),
            origin: Seq(origin),
            content
        }),
        (any::<[u64; 3]>(), any_content()).prop_map(|([to, device, number], content)| Event::Sent {
            to: UserId(to).into(),
            device: DeviceId(device),
            number: SendNumber(number),
            content
        }),
        any::<[u64; 2]>().prop_map(|[peer, up_to]| Event::Delivered { peer: UserId(peer), up_to: Seq(up_to) }),
        any::<[u64; 4]>().prop_map(|[peer, up_to, unread, told]| Event::Read {
            conversation: UserId(peer).into(),
            up_to: Seq(up_to),
            unread,
            told: Seq(told)
        }),
        any::<[u64; 2]>().prop_map(|[peer, up_to]| Event::Seen { peer: UserId(peer), up_to: Seq(up_to) }),
        any::<[u64; 2]>().prop_map(|[peer, bits]| Event::Settings {
            conversation: UserId(peer).into(),
            settings: Settings::from_bits(bits)
        }),
        any::<[u64; 5]>().prop_map(|[peer, author, seq, place, unread]| Event::Deleted {
            conversation: UserId(peer).into(),
            of: MessageName { author: UserId(author), seq: Seq(seq) },
            place: Seq(place),
            unread
        }),
        (any::<u64>(), select(Removal::ALL), vec(any::<u64>().prop_map(DeviceId), 0..40))
            .prop_map(|(removed, why, devices)| Event::Devices { removed: DeviceId(removed), why, devices }),
        any::<u64>().prop_map(|bits| Event::Visibility { visibility: Visibility::from_bits(bits) }),
        (20..=u8::MAX).prop_map(|kind| Event::Unknown { kind }),
        any_event_of_a_group(),
    ]
}

fn any_content() -> impl Strategy<Value = Content> {
    (1..=u8::MAX, vec(any::<u8>(), 0..64)).prop_map(|(kind, body)| Content::from_parts(kind, body.into()))
}

/// Records as a few shards would make them for a few users: seqs and send numbers without gaps, watermarks that only
/// grow, receipts that supersede each other.
pub(crate) fn history(records_max: usize) -> impl Strategy<Value = Vec<Record>> {
    vec((0..39u8, 1..4u64, 1..4u64, 1..3u64, any::<bool>()), 0..records_max).prop_map(|steps| {
        let mut world = World::default();
        steps.into_iter().map(|(kind, user, peer, device, idle)| world.step(kind, user, peer, device, idle)).collect()
    })
}

#[derive(Default)]
struct World {
    heads: BTreeMap<u64, u64>,
    numbers: BTreeMap<(u64, u64), u64>,
    /// Where the entries are that later ones of the same kind and conversation supersede.
    superseded: BTreeMap<(u8, u64, u64), u64>,
    received: BTreeMap<(u64, u64), u64>,
    /// Where the last message is that was received.
    received_at: BTreeMap<(u64, u64), Seq>,
    /// The messages of a user, by where they stand: what says now what they say.
    messages: BTreeMap<(u64, u64), Entry>,
    /// What the messages of others are called by them.
    names: BTreeSet<(u64, u64, u64)>,
    /// The reactions to them, by who reacts: the user, or the other side.
    reactions: BTreeMap<(u64, u64), BTreeMap<bool, Entry>>,
    /// Where the epochs begin that are remembered.
    epochs: BTreeMap<u64, Vec<u64>>,
    /// How many devices were removed under each of the two that a user has. The next one has another id.
    removed: BTreeMap<(u64, u64), u64>,
    groups: Groups,
}

impl World {
    fn step(&mut self, kind: u8, user: u64, peer: u64, device: u64, idle: bool) -> Record {
        let head = self.heads.get(&user).copied().unwrap_or(0);
        let removed = self.removed.entry((user, device)).or_default();
        let device = device + 10 * *removed;
        match kind {
            12..=15 => {
                // Peer and device choose which one.
                let of_user = self.messages.range((user, 0)..=(user, u64::MAX));
                let message = of_user
                    .rev()
                    .nth(peer as usize + 2 * usize::from(idle))
                    .map(|((_, place), entry)| (*place, entry.clone()));
                let Some((place, before)) = message else {
                    return Record::Cursor { user: UserId(user), device: DeviceId(device), seq: Seq(head) };
                };
                self.heads.insert(user, head + 1);
                let name = |author, origin, content: &Content| {
                    content.about().map_or(MessageName { author, seq: origin }, |(of, _)| of)
                };
                let (with, name) = match &before.event {
                    Event::Sent { to: ConversationId::Person(to), content, .. } => {
                        (*to, name(UserId(user), before.seq, content))
                    }
                    Event::Received { from, origin, content } => (*from, name(*from, *origin, content)),
                    _ => unreachable!("it is a message"),
                };
                let stands = Some(Stands { place: Seq(place), time: before.time });
                let content = match kind {
                    12 => Content::edit(name, &Content::text("edited"), stands),
                    13 => Content::unsend(name, stands),
                    _ => Content::reaction(name, "+", stands),
                };
                // Its author changes it, and both react to it.
                let is_own =
                    if kind == 14 { device.is_multiple_of(2) } else { matches!(before.event, Event::Sent { .. }) };
                let mut last = None;
                let (event, received) = if kind == 15 {
                    let of = (user, with.0);
                    self.messages.remove(&(user, place));
                    let here = self.messages.range((user, 0)..=(user, u64::MAX));
                    let mut here = here.filter(|(_, entry)| entry.event.conversation() == Some(with.into()));
                    let newest = here.next_back().map_or(0, |((_, place), _)| *place);
                    last = (newest < place).then_some(Seq(newest));
                    let count = self.received.entry(of).or_default();
                    *count -= u64::from(idle && *count > 0);
                    let at = last.or_else(|| self.received_at.get(&of).copied()).unwrap_or_default();
                    self.received_at.insert(of, at);
                    let row = ReceivedRow { up_to: Seq(head + 6), at, count: *count };
                    let (conversation, place) = (with.into(), Seq(place));
                    (Event::Deleted { conversation, of: name, place, unread: 3 }, Some(row))
                } else if is_own {
                    let number = self.numbers.entry((user, device)).or_default();
                    *number += 1;
                    let (device, number) = (DeviceId(device), SendNumber(*number));
                    (Event::Sent { to: with.into(), device, number, content }, None)
                } else {
                    let (of, up_to) = ((user, with.0), Seq(head + 7));
                    let count = self.received.entry(of).or_default();
                    *count -= u64::from(kind == 13 && idle && *count > 0);
                    let at = self.received_at.get(&of).copied().unwrap_or_default();
                    let row = ReceivedRow { up_to, at, count: *count };
                    (Event::Received { from: with, origin: up_to, content }, Some(row))
                };
                let entry = Entry { seq: Seq(head + 1), time: TimestampMs(1000 + head), event };
                let reactions = self.reactions.entry((user, place)).or_default();
                let gone: Vec<Entry> = match kind {
                    12 => vec![before],
                    13 | 15 => std::iter::once(before).chain(std::mem::take(reactions).into_values()).collect(),
                    _ => reactions.insert(is_own, entry.clone()).into_iter().collect(),
                };
                let replaces = gone.iter().map(|gone| Replaced {
                    seq: gone.seq,
                    first: matches!(gone.event, Event::Sent { .. })
                        .then_some(FirstResult { time: gone.time, said: [7; 16] }),
                });
                let replaces = replaces.collect();
                if kind < 14 {
                    self.messages.insert((user, place), entry.clone());
                }
                let mut reactions: Vec<_> = reactions.values().map(|entry| entry.seq).collect();
                reactions.sort_unstable();
                let says = self.messages.get(&(user, place)).map_or(Seq::ZERO, |entry| entry.seq);
                let (place, now) = (Seq(place), Shown { says, reactions });
                Record::Rewrite { user: UserId(user), entry, of: Rewrite { place, now, replaces, received, last } }
            }
            19..=27 => self.groups.step_of_home(kind - 19, user, peer, device, idle),
            38 => self.groups.step_of_home(9, user, peer, device, idle),
            28..=32 => {
                self.heads.insert(user, head + 1);
                let number = self.numbers.entry((user, device)).or_default();
                *number += u64::from(kind == 28);
                self.groups.step_of_member(kind - 28, (user, head), peer, (device, *number), idle)
            }
            33 | 34 => {
                self.heads.insert(user, head + 1);
                let replaces = self.superseded.insert((kind, user, peer), head + 1).map(Seq);
                let (conversation, up_to, settings) = (GroupId(peer).into(), Seq(head), Settings::from_bits(device));
                let event = match kind {
                    33 => Event::Read { conversation, up_to, unread: 0, told: Seq::ZERO },
                    _ => Event::Settings { conversation, settings },
                };
                let entry = Entry { seq: Seq(head + 1), time: TimestampMs(1000 + head), event };
                Record::Append { user: UserId(user), entry, replaces, count: if kind == 33 { peer } else { 0 } }
            }
            0..=3 | 7..=9 | 18 => {
                let (mut replaces, mut count) = (None, 0);
                if matches!(kind, 3 | 7..=9 | 18) {
                    // How visible a user is is of no conversation.
                    let of = if kind == 18 { 0 } else { peer };
                    replaces = self.superseded.insert((kind, user, of), head + 1).map(Seq);
                }
                let received = self.received.entry((user, peer)).or_default();
                let event = match kind {
                    0 | 1 => {
                        let number = self.numbers.entry((user, device)).or_default();
                        *number += 1;
                        let content = Content::text("sent");
                        let (device, number) = (DeviceId(device), SendNumber(*number));
                        Event::Sent { to: UserId(peer).into(), device, number, content }
                    }
                    2 => {
                        *received += 1;
                        count = *received;
                        self.received_at.insert((user, peer), Seq(head + 1));
                        // Some were changed before they came: under the name before, if that is no other message's.
                        let is_taken = self.names.contains(&(user, peer, head + 6));
                        let name = if idle && !is_taken { head + 6 } else { head + 7 };
                        self.names.insert((user, peer, name));
                        let of = MessageName { author: UserId(peer), seq: Seq(name) };
                        let stands = Some(Stands { place: Seq(head + 1), time: TimestampMs(1000 + head) });
                        let content = match name == head + 7 {
                            true => Content::text("got"),
                            false => Content::edit(of, &Content::text("edited on its way"), stands),
                        };
                        Event::Received { from: UserId(peer), origin: Seq(head + 7), content }
                    }
                    3 => Event::Delivered { peer: UserId(peer), up_to: Seq(head) },
                    7 => {
                        count = *received;
                        let (conversation, told) = (UserId(peer).into(), Seq(device));
                        Event::Read { conversation, up_to: Seq(head), unread: 0, told }
                    }
                    8 => Event::Seen { peer: UserId(peer), up_to: Seq(head) },
                    18 => Event::Visibility { visibility: Visibility::from_bits(peer) },
                    _ => Event::Settings { conversation: UserId(peer).into(), settings: Settings::from_bits(device) },
                };
                self.heads.insert(user, head + 1);
                let entry = Entry { seq: Seq(head + 1), time: TimestampMs(1000 + head), event };
                if kind < 3 {
                    self.messages.insert((user, head + 1), entry.clone());
                }
                Record::Append { user: UserId(user), entry, replaces, count }
            }
            4 => Record::Cursor { user: UserId(user), device: DeviceId(device), seq: Seq(head) },
            5 => {
                let epochs = self.epochs.entry(user).or_default();
                epochs.retain(|first| *first != head + 1);
                let forgotten = (epochs.len() == 2).then(|| Seq(epochs.remove(0)));
                epochs.push(head + 1);
                let epoch = EpochId(1 << 50 | head << 8 | peer);
                Record::Epoch { user: UserId(user), first: Seq(head + 1), epoch, forgotten }
            }
            10 => {
                *removed += 1;
                Record::Removed { user: UserId(user), device: DeviceId(device) }
            }
            11 => {
                let note = DeviceNote { device: DeviceId(device), seen_day: head, name: "one".into() };
                let notes = DeviceNotes { devices: vec![note], told_at: Seq(head), acknowledged: Seq(peer) };
                Record::Devices { user: UserId(user), notes }
            }
            35 => {
                let (address, key, secret) = (format!("to {peer}"), vec![4; 65], vec![7; 16]);
                let subscription = Subscription { provider: peer, show: Show::Text, address, key, secret };
                let (user, device) = (UserId(user), DeviceId(device));
                Record::Subscribed { user, device, subscription: (!idle).then_some(subscription) }
            }
            36 => Record::Due { user: UserId(user) },
            37 => {
                let told = vec![(UserId(peer).into(), Seq(head)), (GroupId(device).into(), Seq(peer))];
                Record::Notified { user: UserId(user), notified: Notified { up_to: Seq(head), told } }
            }
            // Not in order: what was written last counts.
            17 => Record::LastSeen { user: UserId(user), at: TimestampMs((7 * head + 11 * peer) % 50) },
            6 => {
                let number = self.numbers.entry((user, device)).or_default();
                *number += 1;
                Record::GivenUp { user: UserId(user), device: DeviceId(device), number: SendNumber(*number) }
            }
            _ => {
                let marks = Marks { forwarded: Seq(head), receipted: Seq(head) };
                Record::Marks { user: UserId(user), marks, idle }
            }
        }
    }
}

/// The records in batches of so many.
pub(crate) fn encoded(records: &[Record], batch_len: usize) -> Vec<Batch> {
    let encode = |records: &[Record]| {
        let mut batch = Batch::default();
        records.iter().for_each(|record| batch.push(record));
        batch
    };
    records.chunks(batch_len).map(encode).collect()
}

/// A journal of these batches, sealed after each `seal_every` of them.
pub(crate) fn journal_of(config: JournalConfig, batches: &[&[u8]], seal_every: usize) -> (TempDir, Vec<SealedSegment>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::open(dir.path(), config.segment_bytes).unwrap();
    let mut writer = Writer::new(config, Position::default());
    let mut sealed = Vec::new();
    for (at, batch) in batches.iter().enumerate() {
        while let Some(number) = writer.wants_segment() {
            writer.add_segment(number, folder.prepare(number).unwrap().salt);
        }
        writer.push(LaneId(0), BatchId(at as u64 + 1), batch);
        let write = writer.next_write().unwrap();
        let file = OpenOptions::new().write(true).open(folder.segment_path(write.segment)).unwrap();
        file.write_all_at(&write.bytes, write.offset).unwrap();
        sealed.extend(writer.written(write.bytes).sealed);
        if at % seal_every == seal_every - 1 {
            sealed.extend(writer.seal());
        }
    }
    sealed.extend(writer.seal());
    let sealed = sealed.iter().map(|sealed| SealedSegment::new(&folder, sealed)).collect();
    (dir, sealed)
}
