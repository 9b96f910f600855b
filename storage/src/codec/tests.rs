use proptest::prelude::*;

use super::*;
use crate::testing::{any_entry, any_record};

fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

proptest! {
    #[test]
    fn a_record_survives_the_round_trip(record in any_record()) {
        let mut bytes = Vec::new();
        put_record(&mut bytes, &record);
        let mut rest = &bytes[..];
        prop_assert_eq!(take_owned(&mut rest), Ok(record));
        prop_assert_eq!(rest, b"");
    }

    #[test]
    fn every_prefix_of_a_record_is_refused_by_name(record in any_record()) {
        let mut bytes = Vec::new();
        put_record(&mut bytes, &record);
        for cut in 0..bytes.len() {
            let refused = take_owned(&mut &bytes[..cut]);
            let named = matches!(refused, Err(CodecError::Malformed { what: "a record", .. }));
            prop_assert!(named, "{:?}", refused);
        }
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = take_owned(&mut &bytes[..]);
        let _ = timeline_entry(Seq(1), &bytes);
        let _ = timeline_time(&bytes);
        let _ = sends_block(&bytes);
        let _ = (received(&bytes), mark("a delivered row", &bytes), read(&bytes), settings(&bytes));
        let _ = (visibility(&bytes), last_seen(&bytes), last(&bytes));
        let _ = marks(&bytes);
        let _ = device_notes(&bytes);
        let _ = (group_entry(Seq(1), &bytes), group_state(&bytes), group_marks(&bytes), group_member(&bytes));
        let _ = (group_shown(&bytes), standing(&bytes), group_came(&bytes), group_wants(&bytes));
        let _ = (seq("a device row", &bytes), first(&bytes), index(Seq(1), &bytes), displaced(&bytes), last_sends(&bytes));
    }

    #[test]
    fn a_timeline_value_survives_the_round_trip(entry in any_entry()) {
        let record = written(|out| put_append(out, UserId(1), &entry, None, 0));
        let mut rest = &record[..];
        take_record(&mut rest).unwrap();
        let (_, stored) = take_entry(&mut rest).unwrap();
        let bytes = written(|out| put_stored_entry(out, stored));
        prop_assert_eq!(&bytes, &written(|out| put_timeline_entry(out, &entry)));
        prop_assert_eq!(timeline_time(&bytes), Ok(entry.time));
        prop_assert_eq!(timeline_entry(entry.seq, &bytes), Ok(entry));
    }

    #[test]
    fn a_sends_block_survives_the_round_trip(
        seqs in proptest::array::uniform32(any::<u64>()), given_up in 0..SendsBlock::LEN
    ) {
        let mut block = SendsBlock::default();
        for (slot, seq) in seqs.into_iter().enumerate() {
            block.seqs[slot * 2] = Seq(seq);
        }
        block.seqs[given_up] = SendsBlock::GIVEN_UP;
        prop_assert_eq!(sends_block(&written(|out| put_sends_block(out, &block))), Ok(block));
    }
}

#[test]
fn an_announced_length_is_not_believed() {
    // Append, user 1, no replaces, seq 1, time 1, Sent to 1 by device 1 number 1, a text of 2^64 - 1 bytes.
    let mut bytes = vec![0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 253];
    bytes.extend([0xff; 8]);
    assert!(matches!(take_owned(&mut &bytes[..]), Err(CodecError::Malformed { .. })));
}

#[test]
fn a_value_of_another_version_is_refused_by_its_number() {
    let mut bytes = written(|out| put_seq(out, Seq(7)));
    bytes[0] = 9;
    assert_eq!(seq("a device row", &bytes), Err(CodecError::Version { what: "a device row", found: 9 }));
}

#[test]
fn what_earlier_builds_wrote_in_another_order_reads_as_what_is_written_now() {
    let replaces = [5, 9].map(|seq| Replaced { seq: Seq(seq), first: None }).to_vec();
    let now = Shown { says: Seq(11), reactions: Vec::new() };
    let of = Rewrite { place: Seq(3), now, replaces, received: None, last: None };
    let event = Event::Unknown { kind: 99 };
    let entry = Entry { seq: Seq(11), time: TimestampMs(1), event };
    let mut batch = crate::record::Batch::default();
    batch.push(&Record::Rewrite { user: UserId(1), entry, of });
    let mut earlier = batch.bytes().to_vec();
    let at = earlier.windows(4).position(|window| window == [5, 0, 9, 0]).unwrap();
    earlier[at..at + 4].copy_from_slice(&[9, 0, 5, 0]);
    let read = |bytes: &[u8]| crate::record::records(bytes).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(read(&earlier), read(batch.bytes()));
}

#[test]
fn bytes_after_a_value_are_refused() {
    let mut bytes = written(|out| put_seq(out, Seq(7)));
    bytes.push(0);
    assert_eq!(seq("a device row", &bytes), Err(CodecError::Trailing { what: "a device row", bytes: 1 }));
}
