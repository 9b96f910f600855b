//! Digests of a log, against worlds of cores in one thread: what a device was handed is what the server has (SPEC 8.9).

use client::{Check, History, Verdict};
use proto_spec::{ClientFrame, Digests, Entry, GroupId, RequestId, Resume, Seq, ServerFrame, TimestampMs, UserId};
use server::{
    config::Limits,
    limits::{DIGEST_PIECE_ENTRIES, RATE_BURST_S},
};
use tests::{
    spec,
    world::{Link, World},
};

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// A world in which Bob has as many messages, of which the store has the older part.
fn world_of(limits: Limits, stored: u64, in_tail: u64) -> World {
    let mut world = World::limited(2, limits.of_shards());
    let alice = world.connect(ALICE, 1, Resume::Stored);
    for number in 1..=stored + in_tail {
        world.send(alice, number, BOB, &format!("message {number}"));
        if number % 200 == 0 || number == stored {
            world.settle();
        }
        if number == stored {
            world.seal();
            world.ingest_sealed();
        }
        world.take(alice);
    }
    world.settle();
    world
}

/// A new device of Bob, and all that it is handed.
fn reads_all(world: &mut World) -> (Link, Vec<Entry>) {
    let link = world.connect(BOB, 1, Resume::Stored);
    let mut entries = Vec::new();
    loop {
        world.settle();
        let frames = world.take(link);
        if frames.is_empty() {
            return (link, entries);
        }
        for frame in frames {
            match frame {
                ServerFrame::Deliver { entry } => entries.push(entry),
                ServerFrame::Page(page) => entries.extend(page.entries),
                _ => {}
            }
        }
    }
}

fn history(entries: &[Entry]) -> History {
    let mut history = History::default();
    entries.iter().for_each(|entry| history.entry(entry));
    history
}

fn ask(world: &mut World, link: Link, (first, last, width): (Seq, Seq, u64)) -> Option<Digests> {
    let (request, group) = (RequestId(5), GroupId(0));
    world.frame(link, &ClientFrame::FetchDigest { request, first, last, width, group });
    world.settle();
    world.take(link).into_iter().find_map(|frame| match frame {
        ServerFrame::Digest(digests) => Some(digests),
        _ => None,
    })
}

/// What the comparison comes to, and in how many answers. Waits as long as it must.
fn compare(world: &mut World, link: Link, history: &History) -> (Verdict, u32) {
    let mut check: Check = history.check().expect("something was handed out");
    let mut answers = 0;
    loop {
        let Some(digests) = ask(world, link, check.ask()) else {
            world.advance(1_000);
            continue;
        };
        answers += 1;
        match check.answer(history, &digests) {
            Verdict::Goes(on) => check = on,
            verdict => return (verdict, answers),
        }
    }
}

#[test]
fn what_a_device_was_handed_is_what_store_and_tail_have() {
    let stored = 2 * DIGEST_PIECE_ENTRIES as u64 + 100;
    let mut world = world_of(Limits::off(), stored, 50);
    let (bob, entries) = reads_all(&mut world);
    assert_eq!(entries.len() as u64, stored + 50);
    let whole = history(&entries);
    assert_eq!(compare(&mut world, bob, &whole), (Verdict::Same(Seq(1), Seq(stored + 50)), 1));
    // The newer part alone, as a device has it that resumes.
    let part = history(&entries[1_500..]);
    assert_eq!(compare(&mut world, bob, &part).0, Verdict::Same(Seq(1_501), Seq(stored + 50)));
}

#[test]
fn the_one_entry_that_differs_is_found() {
    spec::says("A million entries need four answers");
    let mut world = world_of(Limits::off(), 1_000, 20);
    let (bob, mut entries) = reads_all(&mut world);
    for at in [0, 700, 1_019] {
        let right = entries[at].clone();
        entries[at].time = TimestampMs(right.time.0 + 1);
        let seq = right.seq;
        // 1,020 by 16, 16 by 1.
        let held = history(&entries);
        assert_eq!(compare(&mut world, bob, &held), (Verdict::Differs(seq, seq), 2));
        entries[at] = right;
    }
}

#[test]
fn who_has_asked_for_much_is_told_of_a_part_and_goes_on() {
    spec::says("or for the sake of the server's work: go on from `last` + 1");
    let limits = Limits { fetches_per_s: 1, ..Limits::off() };
    let mut world = world_of(limits, (RATE_BURST_S + 2) * DIGEST_PIECE_ENTRIES as u64, 0);
    let (bob, entries) = reads_all(&mut world);
    world.advance(60_000);
    let digests = ask(&mut world, bob, (Seq(1), Seq::ZERO, 0)).expect("the first piece is within the rate");
    assert!(digests.last < Seq(entries.len() as u64), "{digests:?}");
    let whole = history(&entries);
    let (verdict, answers) = compare(&mut world, bob, &whole);
    assert_eq!(verdict, Verdict::Same(Seq(1), Seq(entries.len() as u64)));
    assert!(answers > 1, "the rest is asked for");
}

#[test]
fn what_was_deleted_is_no_difference_wherever_it_lies() {
    let mut world = world_of(Limits::off(), 30, 5);
    let (bob, entries) = reads_all(&mut world);
    let mut whole = history(&entries);
    let request = RequestId(6);
    for place in [7, 30, 33].map(Seq) {
        world.frame(bob, &ClientFrame::DeleteMessage { request, conversation: UserId(ALICE).into(), place });
        world.settle();
        let frames = world.take(bob);
        assert!(frames.contains(&ServerFrame::Marked { request }), "{frames:?}");
        let told = frames
            .iter()
            .filter_map(|frame| if let ServerFrame::Deliver { entry } = frame { Some(entry) } else { None });
        told.for_each(|entry| whole.entry(entry));
    }
    assert_eq!(compare(&mut world, bob, &whole).0, Verdict::Same(Seq(1), Seq(38)));
    // A device that reads all of it anew.
    world.disconnect(bob);
    world.ingest();
    let (bob, entries) = reads_all(&mut world);
    assert_eq!(entries.len(), 35, "three are gone, and three say so");
    assert_eq!(compare(&mut world, bob, &history(&entries)).0, Verdict::Same(Seq(1), Seq(38)));
}

#[test]
fn an_empty_part_of_the_log_has_no_digest() {
    let mut world = world_of(Limits::off(), 3, 0);
    let (bob, _) = reads_all(&mut world);
    let beyond = ask(&mut world, bob, (Seq(9), Seq(12), 1)).unwrap();
    assert_eq!((beyond.first, beyond.last, beyond.digests.len()), (Seq(9), Seq(8), 0));
    let all = ask(&mut world, bob, (Seq::ZERO, Seq(u64::MAX), u64::MAX)).unwrap();
    assert_eq!((all.first, all.last, all.digests.len()), (Seq(1), Seq(3), 1));
}
