//! Any bytes where records, keys, rows and journal pages should be: what cannot be read is an error and no panic, and what can be read
//! encodes to something that reads alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto_spec::{DeviceId, Direction, GroupId, SendNumber, Seq, UserId};
use storage::{
    Batch, MemoryStore, Query, Record, Span, Store as _, answer,
    contract::block_on,
    fold::Fold,
    journal::format::{self, Salt, SegmentHeader},
    records,
    run::RunBuilder,
    schema::{RowKey, SendsBlockNumber},
};

const USER: UserId = UserId(7);
const PEER: UserId = UserId(8);
const GROUP: GroupId = GroupId(9);
const DEVICE: DeviceId = DeviceId(1);

fn batch(bytes: &[u8]) {
    let read: Vec<Record> = records(bytes).map_while(Result::ok).collect();
    let is_whole = records(bytes).all(|record| record.is_ok());
    let mut batch = Batch::default();
    read.iter().for_each(|record| batch.push(record));
    assert_eq!(records(batch.bytes()).collect::<Result<Vec<_>, _>>().as_ref(), Ok(&read));
    // The fold reads the bytes by itself: it must agree.
    let mut fold = Fold::default();
    assert_eq!(fold.add(bytes).is_ok(), is_whole);
    if is_whole {
        let sorted = fold.sort();
        let base = vec![None; sorted.needed().len()];
        drop(sorted.finish(base));
    }
}

fn pages(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
    if let Some((seed, rest)) = bytes.split_first_chunk()
        && let Some((header, payload)) = format::verify(rest, Salt(u64::from_le_bytes(*seed)))
    {
        assert_eq!(header.len, payload.len());
    }
}

/// Rows with values of anybody's making, and every question that is asked of them.
fn rows(bytes: &[u8]) {
    let mut run = RunBuilder::default();
    let mut rest = bytes;
    let seqs = (1..=8).map(Seq);
    let keys = [
        RowKey::LastSeen { user: USER },
        RowKey::Visibility { user: USER },
        RowKey::Device { user: USER, device: DEVICE },
        RowKey::LastSends { user: USER, device: DEVICE },
        RowKey::Marks { user: USER },
        RowKey::Received { user: USER, peer: PEER },
        RowKey::Delivered { user: USER, peer: PEER },
        RowKey::Sends { user: USER, device: DEVICE, block: SendsBlockNumber(0) },
        RowKey::Sent { user: USER, peer: PEER },
        RowKey::Last { user: USER, peer: PEER },
        RowKey::Read { user: USER, conversation: PEER.into() },
        RowKey::Seen { user: USER, peer: PEER },
        RowKey::Settings { user: USER, conversation: PEER.into() },
        RowKey::Epoch { user: USER, first: Seq(2) },
        RowKey::DeviceNotes { user: USER },
        RowKey::Removed { user: USER, device: DEVICE },
        RowKey::First { user: USER, seq: Seq(3) },
        RowKey::Displaced { user: USER, peer: PEER, origin: Seq(1) },
        RowKey::Deleted { user: USER, conversation: PEER.into(), name: Seq(2) },
    ];
    let of_group = [
        RowKey::Standing { user: USER, group: GROUP },
        RowKey::Read { user: USER, conversation: GROUP.into() },
        RowKey::Settings { user: USER, conversation: GROUP.into() },
        RowKey::GroupState { group: GROUP },
        RowKey::GroupMarks { group: GROUP },
        RowKey::GroupMember { group: GROUP, user: USER },
        RowKey::GroupCame { group: GROUP, user: USER },
        RowKey::GroupShown { group: GROUP, place: Seq(1) },
    ];
    let timeline = seqs.clone().map(|seq| RowKey::Timeline { user: USER, seq });
    let group_log = seqs.clone().map(|seq| RowKey::GroupLog { group: GROUP, seq });
    let index = seqs.map(|seq| RowKey::Conversation { user: USER, peer: PEER, seq });
    for key in keys.into_iter().chain(timeline).chain(index).chain(of_group).chain(group_log) {
        let Some((&len, after)) = rest.split_first() else { break };
        let (value, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        if len != 255 {
            run.put(key.encode(), |out| out.extend_from_slice(value));
        }
    }
    let store = MemoryStore::default();
    let fence = block_on(store.take_over()).expect("a store in memory");
    block_on(store.commit(fence, &run.finish())).expect("a store in memory");
    let (first, last) = (Seq(1), Seq(100));
    for direction in [Direction::Forwards, Direction::Backwards] {
        let span = Span { first, last, direction, entries_max: 5, bytes_max: 1_000 };
        let _ = block_on(answer(&store, &Query::Log { user: USER, span }));
        let _ = block_on(answer(&store, &Query::ConversationLog { user: USER, conversation: PEER.into(), span }));
        let _ = block_on(answer(&store, &Query::GroupLog { group: GROUP, span }));
    }
    let one = [
        Query::User(USER),
        Query::Conversation { user: USER, conversation: PEER.into() },
        Query::Conversation { user: USER, conversation: GROUP.into() },
        Query::Conversations { user: USER, conversations: [PEER.into(), GROUP.into()].into() },
        Query::Group(GROUP),
        Query::Inbox {
            user: USER,
            before: Seq(100),
            rows_max: 5,
            named: [PEER.into(), GROUP.into()].into(),
            moved: [].into(),
        },
        Query::IsRemoved { user: USER, device: DEVICE },
        Query::Presence { looks: UserId(8), users: vec![USER, UserId(9)] },
    ];
    let sends = [1, 2, 63, 64].map(|number| Query::Send { user: USER, device: DEVICE, number: SendNumber(number) });
    let places = [1, 2, 3].map(|place| Query::Message { user: USER, conversation: PEER.into(), place: Seq(place) });
    let group_places = [1, 2, 3].map(|place| Query::GroupMessage { group: GROUP, place: Seq(place) });
    let origins = [1, 2, 3].map(|origin| Query::Origin { user: USER, conversation: PEER.into(), origin: Seq(origin) });
    for query in one.iter().chain(&sends).chain(&places).chain(&group_places).chain(&origins) {
        let _ = block_on(answer(&store, query));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => batch(bytes),
        1 => pages(bytes),
        2 => rows(bytes),
        _ => {
            if let Ok(key) = RowKey::decode(bytes) {
                assert_eq!(key.encode().as_ref(), bytes);
            }
        }
    }
});
