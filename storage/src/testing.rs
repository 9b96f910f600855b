//! Generators that the tests of several modules share.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use proto_spec::{Content, DeviceId, Entry, Event, SendNumber, Seq, TimestampMs, UserId};

use crate::record::{Marks, Record};

/// Any record, of any numbers.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (any::<u64>(), any_entry(), option::of(any::<u64>())).prop_map(|(user, entry, replaces)| Record::Append {
            user: UserId(user),
            entry,
            replaces: replaces.map(Seq)
        }),
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
    ]
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
            to: UserId(to),
            device: DeviceId(device),
            number: SendNumber(number),
            content
        }),
        any::<[u64; 2]>().prop_map(|[peer, up_to]| Event::Delivered { peer: UserId(peer), up_to: Seq(up_to) }),
        (4..=u8::MAX).prop_map(|kind| Event::Unknown { kind }),
    ]
}

fn any_content() -> impl Strategy<Value = Content> {
    (1..=u8::MAX, vec(any::<u8>(), 0..64)).prop_map(|(kind, body)| Content::from_parts(kind, Bytes::from(body)))
}
