use proptest::prelude::*;

use super::{key::hex, *};

fn any_key() -> impl Strategy<Value = RowKey> {
    // Some groups and devices have one number.
    let numbers = [prop_oneof![any::<u64>(), Just(u64::MAX)], prop_oneof![any::<u64>(), Just(u64::MAX)]];
    (0..36u8, any::<u64>(), numbers).prop_map(|(table, a, [b, c])| {
        let (user, peer, of, group) = (UserId(a), UserId(b), GroupId(b), GroupId(a));
        match table {
            0 => RowKey::Timeline { user, seq: Seq(b) },
            1 => RowKey::Conversation { user, peer, seq: Seq(c) },
            2 => RowKey::Sends { user, device: DeviceId(b), block: SendsBlockNumber(c) },
            3 => RowKey::Device { user, device: DeviceId(b) },
            4 => RowKey::Received { user, peer },
            5 => RowKey::Delivered { user, peer },
            6 => RowKey::Marks { user },
            7 => RowKey::Unfinished { user },
            8 => RowKey::Epoch { user, first: Seq(b) },
            9 => RowKey::Sent { user, peer },
            10 => RowKey::Read { user, conversation: peer.into() },
            11 => RowKey::Seen { user, peer },
            12 => RowKey::Settings { user, conversation: peer.into() },
            13 => RowKey::DeviceNotes { user },
            14 => RowKey::Removed { user, device: DeviceId(b) },
            15 => RowKey::First { user, seq: Seq(b) },
            16 => RowKey::Deleted { user, conversation: peer.into(), name: Seq(c) },
            18 => RowKey::LastSends { user, device: DeviceId(b) },
            17 => RowKey::Displaced { user, peer, origin: Seq(c) },
            19 => RowKey::LastSeen { user },
            20 => RowKey::Visibility { user },
            33 => RowKey::Notified { user },
            34 => RowKey::Subscription { user, device: DeviceId(b) },
            21 => RowKey::Last { user, peer },
            22 => RowKey::Read { user, conversation: of.into() },
            23 => RowKey::Settings { user, conversation: of.into() },
            24 => RowKey::Deleted { user, conversation: of.into(), name: Seq(c) },
            25 => RowKey::Standing { user, group: of },
            26 => RowKey::GroupLog { group, seq: Seq(b) },
            27 => RowKey::GroupState { group },
            28 => RowKey::GroupMarks { group },
            29 => RowKey::GroupMember { group, user: peer },
            30 => RowKey::GroupCame { group, user: peer },
            35 => RowKey::GroupWants { group, user: peer },
            31 => RowKey::GroupShown { group, place: Seq(b) },
            32 => RowKey::GroupUnfinished { group },
            _ => RowKey::Migration,
        }
    })
}

proptest! {
    #[test]
    fn a_key_parses_back(row in any_key()) {
        prop_assert_eq!(RowKey::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn keys_of_a_log_order_as_user_and_seq(a in 1..5u64, b in 1..5u64, s in any::<u64>(), t in any::<u64>()) {
        let key = |user, seq| RowKey::Timeline { user: UserId(user), seq: Seq(seq) }.encode();
        let place = |user, seq| (partition_of(UserId(user)), user, seq);
        prop_assert_eq!(key(a, s).cmp(&key(b, t)), place(a, s).cmp(&place(b, t)));
    }

    #[test]
    fn keys_order_as_their_bytes(a in any_key(), b in any_key()) {
        prop_assert_eq!(a.encode().cmp(&b.encode()), a.encode().to_vec().cmp(&b.encode().to_vec()));
    }

    #[test]
    fn noise_is_no_key_or_the_same_key(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
        if let Ok(row) = RowKey::decode(&bytes) {
            prop_assert_eq!(row.encode().to_vec(), bytes);
        }
    }
}

#[test]
fn what_is_read_together_stands_together() {
    let (user, group) = (UserId(7), GroupId(7));
    let rows = [
        RowKey::LastSeen { user },
        RowKey::Visibility { user },
        RowKey::Notified { user },
        RowKey::Device { user, device: DeviceId(0) },
        RowKey::LastSends { user, device: DeviceId(0) },
        RowKey::Standing { user, group: GroupId(0) },
        RowKey::Subscription { user, device: DeviceId(0) },
        RowKey::Device { user, device: DeviceId(1) },
        RowKey::Device { user, device: DeviceId(u64::MAX) },
        RowKey::LastSends { user, device: DeviceId(u64::MAX) },
        RowKey::Standing { user, group: GroupId(u64::MAX) },
        RowKey::Subscription { user, device: DeviceId(u64::MAX) },
        RowKey::Epoch { user, first: Seq(0) },
        RowKey::Epoch { user, first: Seq(u64::MAX) },
        RowKey::Received { user, peer: UserId(1) },
        RowKey::Sent { user, peer: UserId(1) },
        RowKey::Received { user, peer: UserId(2) },
        RowKey::Sent { user, peer: UserId(u64::MAX) },
        RowKey::Last { user, peer: UserId(0) },
        RowKey::Last { user, peer: UserId(u64::MAX) },
        RowKey::Read { user, conversation: GroupId(1).into() },
        RowKey::Settings { user, conversation: GroupId(1).into() },
        RowKey::Deleted { user, conversation: GroupId(1).into(), name: Seq(0) },
        RowKey::Deleted { user, conversation: GroupId(1).into(), name: Seq(u64::MAX) },
        RowKey::Read { user, conversation: GroupId(2).into() },
        RowKey::GroupLog { group, seq: Seq(0) },
        RowKey::GroupLog { group, seq: Seq(u64::MAX) },
        RowKey::GroupState { group },
        RowKey::GroupMarks { group },
        RowKey::GroupMember { group, user: UserId(0) },
        RowKey::GroupCame { group, user: UserId(0) },
        RowKey::GroupWants { group, user: UserId(0) },
        RowKey::GroupMember { group, user: UserId(1) },
        RowKey::GroupMember { group, user: UserId(u64::MAX) },
        RowKey::GroupCame { group, user: UserId(u64::MAX) },
        RowKey::GroupWants { group, user: UserId(u64::MAX) },
    ];
    assert!(rows.map(RowKey::encode).is_sorted_by(|a, b| a < b));
}

#[test]
fn a_key_in_the_wrong_partition_is_refused() {
    let mut bytes = RowKey::Marks { user: UserId(7) }.encode().to_vec();
    bytes[1] ^= 1;
    assert_eq!(RowKey::decode(&bytes), Err(KeyError { bytes }));
}

#[test]
fn the_layout_of_a_key_never_changes() {
    let key = RowKey::Timeline { user: UserId(7), seq: Seq(258) }.encode();
    assert_eq!(hex(&key), format!("01{:04x}00000000000000070000000000000102", partition_of(UserId(7))));
    assert_eq!(partition_of(UserId(7)), 0x63cb);
    // A group is in the partition of the user with its number, whatever is in its rows.
    let (user, group) = (UserId(9), GroupId(7));
    let layouts = [
        (RowKey::GroupLog { group, seq: Seq(258) }, "1563cb00000000000000070000000000000102"),
        (RowKey::GroupState { group }, "1663cb0000000000000007"),
        (RowKey::GroupMarks { group }, "1663cb000000000000000700"),
        (RowKey::GroupMember { group, user }, "1763cb00000000000000070000000000000009"),
        (RowKey::GroupCame { group, user }, "1763cb0000000000000007000000000000000900"),
        (RowKey::GroupWants { group, user }, "1763cb000000000000000700000000000000090000"),
        (RowKey::GroupShown { group, place: Seq(258) }, "1863cb00000000000000070000000000000102"),
        (RowKey::GroupUnfinished { group }, "190000000000000007"),
    ];
    for (row, layout) in layouts {
        assert_eq!(hex(&row.encode()), layout, "{row:?}");
    }
    let (user, group) = (UserId(7), GroupId(9));
    let conversation = group.into();
    let layouts = [
        (RowKey::Standing { user, group }, "0463cb000000000000000700000000000000090000"),
        (RowKey::Notified { user }, "0463cb00000000000000070000"),
        (RowKey::Subscription { user, device: DeviceId(9) }, "0463cb00000000000000070000000000000009000000"),
        (RowKey::Read { user, conversation }, "1463cb00000000000000070000000000000009"),
        (RowKey::Settings { user, conversation }, "1463cb0000000000000007000000000000000900"),
        (
            RowKey::Deleted { user, conversation, name: Seq(258) },
            "1463cb000000000000000700000000000000090000000000000102",
        ),
    ];
    for (row, layout) in layouts {
        assert_eq!(hex(&row.encode()), layout, "{row:?}");
    }
}
