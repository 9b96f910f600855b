//! Who is there, told to those who may know (SPEC 8.10), step by step in a world.

use std::collections::BTreeMap;

use proto_spec::{
    ClientFrame, Content, ConversationId, ErrorCode, MessageName, Presence, PresenceState, Recipient, RequestId,
    Resume, SendNumber, Seq, ServerFrame, Settings, Status, UserId, Visibility,
};
use server::{
    access::rate::Rate,
    shard::{Admission, Limits, PresenceSettings, presence::ShownTo},
};
use tests::{
    frames::delivered_up_to,
    world::{Link, World},
};

const ALICE: u64 = 1;
/// Not on Alice's core, where there are three.
const BOB: u64 = 6;
const CAROL: u64 = 3;
/// Nobody.
const NOBODY: u64 = 4_000_000;

const HOLD_MS: u64 = PresenceSettings::DEFAULT.hold_ms;
const GRACE_MS: u64 = PresenceSettings::DEFAULT.grace_ms;
const TICK_MS: u64 = PresenceSettings::DEFAULT.tick_ms;
/// Shorter than silence that is noticed.
const LIFETIME_MS: u64 = 20_000;

/// What was told of presence, frame by frame: the request, and of each user the state and whether a last seen came with it.
fn told(frames: &[ServerFrame]) -> Vec<(u64, Vec<(u64, Presence)>)> {
    let of = |frame: &ServerFrame| match frame {
        ServerFrame::Presence { request, states, .. } => {
            Some((request.0, states.iter().map(|state| (state.user.0, state.state)).collect()))
        }
        _ => None,
    };
    frames.iter().filter_map(of).collect()
}

fn states(frames: &[ServerFrame]) -> Vec<PresenceState> {
    let of = |frame: &ServerFrame| match frame {
        ServerFrame::Presence { states, .. } => Some(states.clone()),
        _ => None,
    };
    frames.iter().filter_map(of).flatten().collect()
}

fn watch(world: &mut World, link: Link, users: &[u64]) -> Vec<(u64, Presence)> {
    world.frame(link, &ClientFrame::Watch { request: RequestId(1), users: ids(users) });
    world.settle();
    let mut told = told(&world.take(link));
    assert_eq!(told.len(), 1, "one answer: {told:?}");
    told.remove(0).1
}

fn pull(world: &mut World, link: Link, users: &[u64]) -> Vec<(u64, Presence)> {
    world.frame(link, &ClientFrame::FetchPresence { request: RequestId(2), users: ids(users) });
    world.settle();
    let mut told = told(&world.take(link));
    assert_eq!(told.len(), 1, "one answer: {told:?}");
    told.remove(0).1
}

fn ids(users: &[u64]) -> Vec<UserId> {
    users.iter().copied().map(UserId).collect()
}

/// Alice and Bob know each other, and both have been there for long. Carol knows nobody.
fn three(mut world: World) -> (World, [Link; 3]) {
    let [a, b, c] = [ALICE, BOB, CAROL].map(|user| world.connect(user, 1, Resume::Stored));
    world.send(a, 1, BOB, "hello");
    world.settle();
    world.send(b, 1, ALICE, "hello yourself");
    world.settle();
    world.advance(2 * HOLD_MS);
    [a, b, c].iter().for_each(|link| drop(world.take(*link)));
    (world, [a, b, c])
}

fn set(world: &mut World, link: Link, bits: Visibility, is_set: bool) {
    let (set, cleared) = if is_set { (bits, Visibility::default()) } else { (Visibility::default(), bits) };
    world.frame(link, &ClientFrame::SetVisibility { request: RequestId(3), set, cleared });
    world.settle();
    assert!(world.take(link).iter().any(|frame| matches!(frame, ServerFrame::Marked { request: RequestId(3) })));
}

fn block(world: &mut World, link: Link, whom: u64, is_blocked: bool) {
    let bits = Settings::default().changed(Settings::BLOCKED, Settings::default());
    let (set, cleared) = if is_blocked { (bits, Settings::default()) } else { (Settings::default(), bits) };
    let conversation = ConversationId::from(UserId(whom));
    world.frame(link, &ClientFrame::SetConversation { request: RequestId(4), conversation, set, cleared });
    world.settle();
}

#[test]
fn who_may_know_is_told_at_once_and_of_each_change() {
    for cores in [1, 3] {
        let (mut world, [a, b, _]) = three(World::new(cores));
        assert_eq!(pull(&mut world, a, &[BOB]), [(BOB, Presence::Online)]);
        assert_eq!(watch(&mut world, a, &[BOB]), [(BOB, Presence::Online)]);
        world.frame(b, &ClientFrame::SetStatus { status: Status::Away });
        world.advance(HOLD_MS - 200);
        assert_eq!(told(&world.take(a)), [], "it has not held yet");
        world.advance(400);
        assert_eq!(told(&world.take(a)), [(0, vec![(BOB, Presence::Away)])]);
        let phone = world.connect(BOB, 2, Resume::Stored);
        world.advance(HOLD_MS + 100);
        assert_eq!(told(&world.take(a)), [(0, vec![(BOB, Presence::Online)])], "the most present device counts");
        world.frame(phone, &ClientFrame::Bye);
        world.frame(b, &ClientFrame::Bye);
        world.advance(TICK_MS + 100);
        let told = states(&world.take(a));
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (told[0].user, told[0].state),
            (UserId(BOB), Presence::Offline),
            "a goodbye is told with the next tick"
        );
        assert_eq!(told[0].last_seen.0 % 60_000, 0, "to the minute");
        assert!(world.now.wall.0 - told[0].last_seen.0 < 60_000 + 2 * TICK_MS);
    }
}

#[test]
fn a_link_that_flaps_announces_nothing() {
    let (mut world, [a, mut b, _]) = three(World::new(2));
    watch(&mut world, a, &[BOB]);
    for _ in 0..5 {
        world.disconnect(b);
        world.advance(GRACE_MS - 1_000);
        b = world.connect(BOB, 1, Resume::Stored);
        world.advance(500);
    }
    world.advance(2 * GRACE_MS);
    assert_eq!(told(&world.take(a)), []);
    world.frame(b, &ClientFrame::Bye);
    world.advance(TICK_MS + 100);
    world.take(a);
    for _ in 0..5 {
        let b = world.connect(BOB, 1, Resume::Stored);
        world.advance(HOLD_MS - 500);
        world.disconnect(b);
        world.advance(500);
    }
    world.advance(2 * GRACE_MS);
    assert_eq!(told(&world.take(a)), [], "nobody was there for long enough");
}

#[test]
fn who_is_gone_without_a_word_is_told_when_that_is_sure() {
    let (mut world, [a, b, _]) = three(World::new(2));
    watch(&mut world, a, &[BOB]);
    world.disconnect(b);
    world.advance(GRACE_MS - 200);
    assert_eq!(told(&world.take(a)), []);
    assert_eq!(pull(&mut world, a, &[BOB]), [(BOB, Presence::Online)], "what is asked is answered as it was announced");
    world.advance(400);
    assert_eq!(told(&world.take(a)), [(0, vec![(BOB, Presence::Offline)])]);
}

#[test]
fn changes_are_merged_into_one_frame_a_tick() {
    let mut world = World::new(2);
    let a = world.connect(ALICE, 1, Resume::Stored);
    let others: Vec<u64> = (10..30).collect();
    let links: Vec<_> = others.iter().map(|user| world.connect(*user, 1, Resume::Stored)).collect();
    for (number, user) in others.iter().enumerate() {
        world.send(a, number as u64 + 1, *user, "hello");
    }
    world.settle();
    world.advance(2 * HOLD_MS);
    world.take(a);
    let first = watch(&mut world, a, &others);
    assert!(first.iter().all(|(_, state)| *state == Presence::Online) && first.len() == others.len(), "{first:?}");
    world.advance(TICK_MS);
    let mails = world.presence_mails;
    links.iter().for_each(|link| world.frame(*link, &ClientFrame::Bye));
    world.advance(TICK_MS + 100);
    let told = told(&world.take(a));
    let all: usize = told.iter().map(|(_, states)| states.len()).sum();
    assert!(told.len() <= 2 && all == others.len(), "{told:?}");
    assert!(world.presence_mails - mails <= 2, "one message a core and tick, not one for each who is watched");
}

#[test]
fn what_came_and_went_between_two_ticks_is_not_told() {
    let (mut world, [a, b, _]) = three(World::showing(1, PresenceSettings { hold_ms: 0, ..PresenceSettings::DEFAULT }));
    watch(&mut world, a, &[BOB]);
    for status in [Status::Away, Status::Here] {
        world.frame(b, &ClientFrame::SetStatus { status });
        world.advance(200);
    }
    world.advance(2 * TICK_MS);
    assert_eq!(told(&world.take(a)), []);
    assert!(world.total(|core| core.presence_merged) > 0);
}

#[test]
fn a_watch_ends_by_itself_and_is_replaced_as_a_whole() {
    let presence = PresenceSettings { lifetime_ms: LIFETIME_MS, ..PresenceSettings::DEFAULT };
    let (mut world, [a, b, _]) = three(World::showing(2, presence));
    watch(&mut world, a, &[BOB]);
    assert_eq!(world.total(|core| core.presence_watches), 1);
    world.advance(LIFETIME_MS / 2);
    watch(&mut world, a, &[BOB]);
    world.advance(LIFETIME_MS - 1_000);
    world.frame(b, &ClientFrame::SetStatus { status: Status::Away });
    world.take(a);
    world.advance(LIFETIME_MS);
    assert_eq!(told(&world.take(a)), [], "it was not renewed in time");
    assert_eq!(world.total(|core| core.presence_watches), 0);
    watch(&mut world, a, &[BOB]);
    assert_eq!(watch(&mut world, a, &[ALICE]), [(ALICE, Presence::Online)]);
    world.frame(b, &ClientFrame::SetStatus { status: Status::Here });
    world.advance(2 * HOLD_MS);
    assert_eq!(told(&world.take(a)), [], "Bob is not watched any more");
    assert_eq!(watch(&mut world, a, &[]), []);
    assert_eq!(world.total(|core| core.presence_watches), 0, "who watches nobody has no watch");
    world.advance(LIFETIME_MS + 20_000);
    assert_eq!(world.total(|core| core.presence_watches), 0);
}

#[test]
fn a_forgotten_watch_leaves_nothing_in_memory() {
    let presence = PresenceSettings { lifetime_ms: LIFETIME_MS, ..PresenceSettings::DEFAULT };
    let (mut world, links) = three(World::showing(2, presence));
    watch(&mut world, links[0], &[BOB, CAROL, NOBODY]);
    links.iter().for_each(|link| world.disconnect(*link));
    world.ingest();
    world.advance(LIFETIME_MS + GRACE_MS + 20_000);
    world.ingest();
    world.advance(LIFETIME_MS);
    let left = world.total(|core| core.presence_watches + core.presence_people + core.users - core.cache_users);
    assert_eq!(left, 0);
}

#[test]
fn unknown_is_what_nobody_is_and_what_takes_as_many_steps() {
    // Whoever may not see gets the same frames after the same number of turns of anything as of who does not exist.
    let (mut world, [a, b, c]) = three(World::new(1));
    block(&mut world, a, BOB, true);
    set(&mut world, c, Visibility::INVISIBLE, true);
    world.take(b);
    world.ingest();
    world.settle();
    let mut steps: Vec<(u64, Vec<u8>, u64)> = Vec::new();
    for (is_there, asked) in
        [(true, ALICE), (true, CAROL), (true, NOBODY), (false, ALICE), (false, CAROL), (false, NOBODY)]
    {
        if !is_there {
            world.frame(a, &ClientFrame::Bye);
            world.frame(c, &ClientFrame::Bye);
            world.advance(2 * GRACE_MS);
            world.ingest();
            world.advance(1_000);
        }
        for is_watch in [false, true] {
            let (request, users) = (RequestId(9), ids(&[asked]));
            let queries = world.total(|core| core.queries);
            let frame = if is_watch {
                ClientFrame::Watch { request, users }
            } else {
                ClientFrame::FetchPresence { request, users }
            };
            world.take(b);
            world.frame(b, &frame);
            let mut count = 0;
            while world.deliver_one() || world.answer_one() || world.drain(b, usize::MAX) {
                count += 1;
            }
            world.settle();
            let frames = world.take(b);
            assert_eq!(told(&frames), [(9, vec![(asked, Presence::Unknown)])]);
            let mut bytes = Vec::new();
            let ServerFrame::Presence { request, lifetime_ms, mut states } = frames[0].clone() else { panic!() };
            states[0].user = UserId(7);
            ServerFrame::Presence { request, lifetime_ms, states }.encode(&mut bytes);
            steps.push((count, bytes, world.total(|core| core.queries) - queries));
        }
    }
    for is_watch in [0, 1] {
        let same: Vec<_> = steps.iter().skip(is_watch).step_by(2).collect();
        assert!(same.windows(2).all(|two| two[0] == two[1]), "{same:?}");
    }
}

#[test]
fn who_may_not_see_is_never_pushed_anything() {
    for cores in [1, 3] {
        let (mut world, [a, b, c]) = three(World::new(cores));
        assert_eq!(
            watch(&mut world, c, &[ALICE, BOB, NOBODY]),
            [ALICE, BOB, NOBODY].map(|user| (user, Presence::Unknown))
        );
        assert_eq!(watch(&mut world, b, &[ALICE]), [(ALICE, Presence::Online)]);
        block(&mut world, a, BOB, true);
        world.advance(TICK_MS + 100);
        assert_eq!(told(&world.take(b)), [(0, vec![(ALICE, Presence::Unknown)])], "what was shown is taken back");
        world.frame(a, &ClientFrame::SetStatus { status: Status::Away });
        world.advance(2 * HOLD_MS);
        world.frame(a, &ClientFrame::SetStatus { status: Status::Here });
        world.advance(2 * HOLD_MS);
        assert_eq!(told(&world.take(b)), []);
        block(&mut world, a, BOB, false);
        world.advance(TICK_MS + 100);
        assert_eq!(told(&world.take(b)), [(0, vec![(ALICE, Presence::Online)])]);
        set(&mut world, a, Visibility::INVISIBLE, true);
        world.advance(TICK_MS + 100);
        assert_eq!(told(&world.take(b)), [(0, vec![(ALICE, Presence::Unknown)])]);
        world.frame(a, &ClientFrame::Bye);
        world.advance(2 * GRACE_MS);
        let a = world.connect(ALICE, 1, Resume::Stored);
        world.advance(2 * HOLD_MS);
        assert_eq!(told(&world.take(b)), [], "nobody sees an invisible user come and go");
        assert_eq!(pull(&mut world, b, &[ALICE]), [(ALICE, Presence::Unknown)]);
        set(&mut world, a, Visibility::INVISIBLE, false);
        world.advance(TICK_MS + 100);
        assert_eq!(told(&world.take(b)), [(0, vec![(ALICE, Presence::Online)])]);
        assert_eq!(told(&world.take(c)), []);
    }
}

#[test]
fn who_watches_sees_as_soon_as_they_know_each_other() {
    for cores in [1, 3] {
        for first in [ALICE, BOB] {
            let mut world = World::new(cores);
            let [a, b] = [ALICE, BOB].map(|user| world.connect(user, 1, Resume::Stored));
            world.advance(2 * HOLD_MS);
            world.take(a);
            assert_eq!(watch(&mut world, a, &[BOB]), [(BOB, Presence::Unknown)]);
            if first == ALICE {
                world.send(a, 1, BOB, "hello");
            } else {
                world.send(b, 1, ALICE, "hello");
            }
            world.settle();
            world.advance(TICK_MS + 100);
            assert_eq!(told(&world.take(a)), [(0, vec![(BOB, Presence::Online)])], "{first} wrote first");
        }
    }
}

#[test]
fn who_blocks_sees_as_little_as_who_is_blocked() {
    for cores in [1, 3] {
        let (mut world, [a, b, _]) = three(World::new(cores));
        assert_eq!(watch(&mut world, a, &[BOB]), [(BOB, Presence::Online)]);
        assert_eq!(watch(&mut world, b, &[ALICE]), [(ALICE, Presence::Online)]);
        for is_ingested in [false, true] {
            block(&mut world, a, BOB, true);
            if is_ingested {
                world.ingest();
            }
            world.advance(2 * TICK_MS);
            for (link, other) in [(a, BOB), (b, ALICE)] {
                assert_eq!(told(&world.take(link)), [(0, vec![(other, Presence::Unknown)])]);
                assert_eq!(pull(&mut world, link, &[other]), [(other, Presence::Unknown)]);
                assert_eq!(watch(&mut world, link, &[other]), [(other, Presence::Unknown)]);
            }
            block(&mut world, a, BOB, false);
            if is_ingested {
                world.ingest();
            }
            world.advance(2 * TICK_MS);
            for (link, other) in [(a, BOB), (b, ALICE)] {
                assert_eq!(told(&world.take(link)), [(0, vec![(other, Presence::Online)])]);
                assert_eq!(pull(&mut world, link, &[other]), [(other, Presence::Online)]);
            }
        }
    }
}

#[test]
fn a_view_that_was_taken_back_stays_so_though_every_word_of_it_is_lost() {
    let (mut world, [a, b, _]) = three(World::new(3));
    assert_ne!(world.home_of(UserId(ALICE)), world.home_of(UserId(BOB)), "else nothing can be lost");
    watch(&mut world, b, &[ALICE]);
    world.presence_lost = true;
    block(&mut world, a, BOB, true);
    world.advance(TICK_MS);
    world.presence_lost = false;
    world.frame(a, &ClientFrame::SetStatus { status: Status::Away });
    world.advance(2 * HOLD_MS);
    let told_since = told(&world.take(b));
    assert!(
        told_since.iter().flat_map(|(_, states)| states).all(|(_, state)| *state == Presence::Unknown),
        "nothing new is told by an old verdict: {told_since:?}"
    );
    assert_eq!(watch(&mut world, b, &[ALICE]), [(ALICE, Presence::Unknown)]);
}

#[test]
fn what_is_lost_is_repaired_by_the_next_renewal() {
    let (mut world, [a, b, _]) = three(World::new(3));
    watch(&mut world, b, &[ALICE]);
    world.presence_lost = true;
    world.frame(a, &ClientFrame::Bye);
    world.advance(2 * GRACE_MS);
    assert_eq!(told(&world.take(b)), []);
    world.frame(b, &ClientFrame::Watch { request: RequestId(5), users: ids(&[ALICE]) });
    world.advance(3_000);
    let frames = world.take(b);
    assert!(
        matches!(frames[..], [ServerFrame::Error { code: ErrorCode::Overloaded, request: RequestId(5), .. }]),
        "a question whose answer is lost ends too: {frames:?}"
    );
    world.presence_lost = false;
    assert_eq!(watch(&mut world, b, &[ALICE]), [(ALICE, Presence::Offline)]);
}

#[test]
fn an_answer_to_a_message_says_who_is_there_to_those_who_may_know_alone() {
    let (mut world, [a, b, c]) = three(World::new(2));
    let mut number = 1;
    let mut recipient = |world: &mut World, link: Link, to: u64| {
        number += 1;
        world.take(link);
        world.send(link, if link == c { number - 1 } else { number }, to, "are you there?");
        world.settle();
        let frames = world.take(link);
        let of = |frame: &ServerFrame| match frame {
            ServerFrame::Accepted { recipient, .. } => Some(*recipient),
            _ => None,
        };
        frames.iter().find_map(of).unwrap_or_else(|| panic!("{frames:?}"))
    };
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Offline, "Alice does not look");
    watch(&mut world, a, &[BOB]);
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Online);
    set(&mut world, b, Visibility::INVISIBLE, true);
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Offline);
    set(&mut world, b, Visibility::INVISIBLE, false);
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Online);
    block(&mut world, b, ALICE, true);
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Offline);
    block(&mut world, b, ALICE, false);
    world.advance(2 * TICK_MS);
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Online);
    world.disconnect(b);
    assert_eq!(recipient(&mut world, a, BOB), Recipient::Offline, "the connection is lost, and nobody was told yet");
    // That has corrected Alice's view, so it has to be set right again though nothing was announced.
    let _ = world.connect(BOB, 1, Resume::Stored);
    world.advance(2 * HOLD_MS);
    assert_eq!(told(&world.take(a)), [(0, vec![(BOB, Presence::Online)])]);
}

#[test]
fn a_receipt_does_not_tell_that_an_invisible_user_is_there() {
    let (mut world, [a, b, _]) = three(World::new(2));
    set(&mut world, b, Visibility::INVISIBLE, true);
    world.send(a, 2, BOB, "there?");
    world.settle();
    world.acknowledge(b, 6);
    world.advance(2_000);
    assert_eq!(delivered_up_to(&world.take(a)), []);
    set(&mut world, b, Visibility::INVISIBLE, false);
    world.send(a, 3, BOB, "there!");
    world.settle();
    let head = world.take(b).into_iter().filter_map(|frame| match frame {
        ServerFrame::Deliver { entry } => Some(entry.seq.0),
        _ => None,
    });
    let head = head.max().unwrap();
    world.acknowledge(b, head);
    world.advance(2_000);
    assert_eq!(delivered_up_to(&world.take(a)).len(), 1, "the next one covers it");
}

#[test]
fn a_user_may_hide_when_they_were_last_seen() {
    let (mut world, [a, b, _]) = three(World::new(1));
    set(&mut world, b, Visibility::HIDE_LAST_SEEN, true);
    world.frame(b, &ClientFrame::Bye);
    world.advance(2 * TICK_MS);
    world.frame(a, &ClientFrame::FetchPresence { request: RequestId(2), users: ids(&[BOB]) });
    world.settle();
    let told = states(&world.take(a));
    assert_eq!((told[0].state, told[0].last_seen.0), (Presence::Offline, 0));
}

#[test]
fn what_was_last_seen_and_what_is_hidden_outlive_a_crash() {
    let (mut world, [_, b, c]) = three(World::new(2));
    set(&mut world, c, Visibility::INVISIBLE, true);
    let before = world.now.wall.0;
    world.frame(b, &ClientFrame::Bye);
    world.advance(2 * GRACE_MS);
    world.sync_all();
    world.crash(3);
    let a = world.connect(ALICE, 1, Resume::Stored);
    world.connect(CAROL, 1, Resume::Stored);
    world.advance(2 * HOLD_MS);
    world.take(a);
    world.send(a, 2, CAROL, "hello");
    world.settle();
    world.take(a);
    world.frame(a, &ClientFrame::FetchPresence { request: RequestId(2), users: ids(&[BOB, CAROL]) });
    world.settle();
    let told = states(&world.take(a));
    assert_eq!((told[0].state, told[0].last_seen.0), (Presence::Offline, before / 60_000 * 60_000));
    assert_eq!(told[1].state, Presence::Unknown);
}

#[test]
fn who_comes_right_after_a_start_was_there_before() {
    let (mut world, _) = three(World::new(2));
    world.sync_all();
    world.crash(2);
    let [a, _b] = [ALICE, BOB].map(|user| world.connect(user, 1, Resume::Stored));
    world.advance(100);
    world.take(a);
    assert_eq!(watch(&mut world, a, &[BOB]), [(BOB, Presence::Online)], "it needs not hold");
}

#[test]
fn the_operator_says_who_sees_whom() {
    for (shown_to, expected) in [
        (ShownTo::Conversation, Presence::Online),
        (ShownTo::Written, Presence::Unknown),
        (ShownTo::Nobody, Presence::Unknown),
    ] {
        let (mut world, [_, b, c]) =
            three(World::showing(2, PresenceSettings { shown_to, ..PresenceSettings::DEFAULT }));
        // Carol writes to Bob, who does not answer.
        world.send(c, 1, BOB, "who are you?");
        world.settle();
        world.take(c);
        assert_eq!(pull(&mut world, c, &[BOB]), [(BOB, expected)], "{shown_to:?}");
        world.send(b, 2, CAROL, "Bob");
        world.settle();
        world.take(c);
        let expected = if shown_to == ShownTo::Nobody { Presence::Unknown } else { Presence::Online };
        assert_eq!(pull(&mut world, c, &[BOB]), [(BOB, expected)], "{shown_to:?}");
    }
}

#[test]
fn a_reaction_is_no_message_by_which_a_user_shows_themselves() {
    let presence = PresenceSettings { shown_to: ShownTo::Written, ..PresenceSettings::DEFAULT };
    let (mut world, [_, b, c]) = three(World::showing(2, presence));
    assert_eq!(watch(&mut world, c, &[BOB]), [(BOB, Presence::Unknown)]);
    world.send(c, 1, BOB, "who are you?");
    world.settle();
    world.take(c);
    let name = MessageName { author: UserId(CAROL), seq: Seq(1) };
    let content = Content::reaction(name, "+", None);
    world.frame(b, &ClientFrame::Send { number: SendNumber(2), to: UserId(CAROL).into(), content });
    world.settle();
    world.advance(2 * TICK_MS);
    assert_eq!(told(&world.take(c)), []);
    assert_eq!(pull(&mut world, c, &[BOB]), [(BOB, Presence::Unknown)]);
}

#[test]
fn who_has_changed_what_they_have_written_has_written_all_the_same() {
    let name = MessageName { author: UserId(BOB), seq: Seq(3) };
    for shown_to in [ShownTo::Conversation, ShownTo::Written] {
        let number = SendNumber(3);
        let (conversation, request) = (UserId(CAROL).into(), RequestId(9));
        let send = |content| ClientFrame::Send { number, to: conversation, content };
        let changes = [
            send(Content::edit(name, &Content::text("Robert"), None)),
            send(Content::unsend(name, None)),
            ClientFrame::DeleteMessage { request, conversation, place: name.seq },
        ];
        for change in changes {
            let (mut world, [_, b, c]) =
                three(World::showing(2, PresenceSettings { shown_to, ..PresenceSettings::DEFAULT }));
            world.send(b, 2, CAROL, "Bob");
            world.settle();
            let of = world.take(b).iter().find_map(|frame| match frame {
                ServerFrame::Accepted { seq, .. } => Some(MessageName { author: UserId(BOB), seq: *seq }),
                _ => None,
            });
            assert_eq!(of, Some(name));
            // Before the store has anything of it.
            world.frame(b, &change);
            world.settle();
            world.take(c);
            assert_eq!(pull(&mut world, c, &[BOB]), [(BOB, Presence::Online)], "{shown_to:?}: {change:?}");
            world.ingest();
            assert_eq!(pull(&mut world, c, &[BOB]), [(BOB, Presence::Online)], "{shown_to:?}: {change:?}");
        }
    }
}

#[test]
fn where_nobody_is_shown_a_receipt_still_tells_nothing_of_who_hides() {
    let presence = PresenceSettings { shown_to: ShownTo::Nobody, ..PresenceSettings::DEFAULT };
    let (mut world, [a, b, _]) = three(World::showing(2, presence));
    world.acknowledge(b, 1);
    world.advance(1_000);
    assert_eq!(delivered_up_to(&world.take(a)).len(), 1, "receipts go on");
    set(&mut world, b, Visibility::INVISIBLE, true);
    world.send(a, 2, BOB, "there?");
    world.settle();
    let head = world.take(b).into_iter().filter_map(|frame| match frame {
        ServerFrame::Deliver { entry } => Some(entry.seq.0),
        _ => None,
    });
    world.acknowledge(b, head.max().unwrap());
    world.advance(1_000);
    assert_eq!(delivered_up_to(&world.take(a)), []);
}

#[test]
fn the_answer_to_a_repeated_send_takes_back_nothing() {
    let (mut world, [a, _, _]) = three(World::new(2));
    let recipients = |frames: Vec<ServerFrame>| -> Vec<Recipient> {
        let of = |frame: &ServerFrame| match frame {
            ServerFrame::Accepted { recipient, .. } => Some(*recipient),
            _ => None,
        };
        frames.iter().filter_map(of).collect()
    };
    world.send(a, 1, BOB, "hello");
    world.settle();
    assert_eq!(recipients(world.take(a)), [Recipient::Offline], "nothing was told");
    watch(&mut world, a, &[BOB]);
    for ingested in [false, true] {
        if ingested {
            world.ingest();
        }
        world.send(a, 1, BOB, "hello");
        world.settle();
        assert_eq!(recipients(world.take(a)), [Recipient::Online]);
    }
}

#[test]
fn a_welcome_tells_what_its_user_hides() {
    let (mut world, [a, ..]) = three(World::new(1));
    set(&mut world, a, Visibility::INVISIBLE, true);
    world.disconnect(a);
    let a = world.connect(ALICE, 1, Resume::Stored);
    let hides = world.take(a).into_iter().find_map(|frame| match frame {
        ServerFrame::Welcome { visibility, .. } => Some(visibility),
        _ => None,
    });
    assert_eq!(hides, Some(Visibility::INVISIBLE));
}

#[test]
fn many_users_in_a_question_count_as_several_fetches() {
    let limits = Limits { fetches: Rate::per_second(4), ..Limits::OFF };
    let (mut world, [a, ..]) = three(World::limited(1, limits));
    let many: Vec<_> = (1_000..1_500).map(UserId).collect();
    let mut refused = 0;
    for request in 1..=20 {
        world.frame(a, &ClientFrame::FetchPresence { request: RequestId(request), users: many.clone() });
        world.settle();
        let is_refused = |frame: &ServerFrame| matches!(frame, ServerFrame::Error { code: ErrorCode::RateLimited, .. });
        refused += world.take(a).iter().filter(|frame| is_refused(frame)).count();
    }
    // Each costs four: of twenty, some ten seconds of what may be fetched.
    assert!((5..15).contains(&refused), "{refused}");
}

#[test]
fn a_user_with_too_many_watchers_is_asked_again() {
    let presence = PresenceSettings { watchers_max: 2, ..PresenceSettings::DEFAULT };
    let mut world = World::showing(2, presence);
    let star = world.connect(ALICE, 1, Resume::Stored);
    let fans: Vec<_> = (10..14).map(|user| world.connect(user, 1, Resume::Stored)).collect();
    for fan in &fans {
        world.send(*fan, 1, ALICE, "hello");
    }
    world.settle();
    world.advance(2 * HOLD_MS);
    let mut crowded = 0;
    for fan in &fans {
        world.take(*fan);
        world.frame(*fan, &ClientFrame::Watch { request: RequestId(1), users: ids(&[ALICE]) });
        world.settle();
        let told = states(&world.take(*fan));
        assert_eq!(told[0].state, Presence::Online);
        crowded += u64::from(told[0].ask_again_ms > 0);
    }
    assert_eq!(crowded, 2);
    world.frame(star, &ClientFrame::Bye);
    world.advance(2 * TICK_MS);
    let pushed = fans.iter().filter(|fan| !told(&world.take(**fan)).is_empty()).count();
    assert_eq!(pushed, 2, "no more than the bound");
    world.frame(fans[0], &ClientFrame::Bye);
    world.frame(fans[1], &ClientFrame::Bye);
    world.settle();
    assert_eq!(watch(&mut world, fans[3], &[ALICE]), [(ALICE, Presence::Offline)]);
    world.connect(ALICE, 1, Resume::Stored);
    world.advance(2 * HOLD_MS);
    assert_eq!(told(&world.take(fans[3])).len(), 1, "there is room again");
}

#[test]
fn a_crowd_that_is_cut_and_comes_back_announces_nobody() {
    let mut world = World::new(2);
    let users: Vec<u64> = (100..200).collect();
    let a = world.connect(ALICE, 1, Resume::Stored);
    let mut links: Vec<_> = users.iter().map(|user| world.connect(*user, 1, Resume::Stored)).collect();
    for (link, user) in links.iter().zip(&users) {
        world.send(*link, 1, ALICE, "hello");
        world.send(*link, 2, if *user == 199 { 100 } else { user + 1 }, "hello");
    }
    world.settle();
    world.advance(2 * HOLD_MS);
    watch(&mut world, a, &users);
    let announced = world.total(|core| core.presence_announced);
    let pushed = world.total(|core| core.presence_pushed);
    links.iter().for_each(|link| world.disconnect(*link));
    world.advance(GRACE_MS - 2_000);
    links = users.iter().map(|user| world.connect(*user, 1, Resume::Stored)).collect();
    for (link, user) in links.iter().zip(&users) {
        let next = if *user == 199 { 100 } else { user + 1 };
        assert_eq!(watch(&mut world, *link, &[next]), [(next, Presence::Online)]);
    }
    world.advance(3 * GRACE_MS);
    assert_eq!(world.total(|core| core.presence_announced), announced);
    assert_eq!(world.total(|core| core.presence_pushed), pushed);
    assert_eq!(told(&world.take(a)), []);
}

#[test]
fn who_comes_back_is_not_judged_anew() {
    let (mut world, [a, b, _]) = three(World::new(2));
    watch(&mut world, a, &[BOB]);
    world.ingest();
    world.disconnect(a);
    let a = world.connect(ALICE, 1, Resume::Stored);
    world.take(a);
    let queries = world.total(|core| core.queries);
    assert_eq!(watch(&mut world, a, &[BOB]), [(BOB, Presence::Online)]);
    assert_eq!(world.total(|core| core.queries), queries, "neither the renewal nor the reconnect reads the store");
    block(&mut world, b, ALICE, true);
    world.disconnect(a);
    let a = world.connect(ALICE, 1, Resume::Stored);
    world.take(a);
    assert_eq!(watch(&mut world, a, &[BOB]), [(BOB, Presence::Unknown)], "but by what is so now");
}

#[test]
fn presence_that_finds_no_room_delays_no_message() {
    let (mut world, [a, b, _]) = three(World::new(3));
    watch(&mut world, a, &[BOB]);
    world.presence_lost = true;
    world.send(a, 2, BOB, "still");
    world.settle();
    assert!(tests::frames::offered(&world.take(b)).iter().any(|(_, text)| text == "still"));
    world.frame(a, &ClientFrame::Typing { conversation: UserId(BOB).into() });
    world.settle();
    assert!(
        !world.take(b).iter().any(|frame| matches!(frame, ServerFrame::Typing { .. })),
        "it was lost, without harm"
    );
}

#[test]
fn typing_is_passed_on_to_whom_one_may_see() {
    for cores in [1, 3] {
        let (mut world, [a, b, c]) = three(World::new(cores));
        let typing = |world: &mut World, from: Link, to: u64, at: Link| {
            world.take(at);
            world.frame(from, &ClientFrame::Typing { conversation: UserId(to).into() });
            world.settle();
            let frames = world.take(at);
            frames.iter().filter(|frame| matches!(frame, ServerFrame::Typing { .. })).count()
        };
        watch(&mut world, b, &[ALICE]);
        assert_eq!(typing(&mut world, a, BOB, b), 0, "Alice does not look at Bob");
        world.advance(3_000);
        watch(&mut world, a, &[BOB]);
        watch(&mut world, b, &[]);
        assert_eq!(typing(&mut world, a, BOB, b), 0, "Bob does not look at Alice");
        world.advance(3_000);
        watch(&mut world, b, &[ALICE]);
        assert_eq!(typing(&mut world, a, BOB, b), 1);
        assert_eq!(typing(&mut world, a, BOB, b), 0, "more often than once in three seconds");
        world.advance(3_000);
        assert_eq!(typing(&mut world, a, BOB, b), 1);
        world.advance(3_000);
        set(&mut world, a, Visibility::INVISIBLE, true);
        assert_eq!(typing(&mut world, a, BOB, b), 0, "who is invisible does not type either");
        set(&mut world, a, Visibility::INVISIBLE, false);
        world.advance(3_000);
        block(&mut world, b, ALICE, true);
        assert_eq!(typing(&mut world, a, BOB, b), 0);
        world.advance(3_000);
        assert_eq!(typing(&mut world, b, ALICE, a), 0, "nor the other way");
        watch(&mut world, c, &[BOB]);
        assert_eq!(typing(&mut world, c, BOB, b), 0, "a stranger");
    }
}

#[test]
fn a_busy_core_leaves_presence_undone_first() {
    let (mut world, [a, b, _]) = three(World::new(1));
    watch(&mut world, a, &[BOB]);
    world.lag(server::limits::BUSY_TICK_MS);
    world.take(a);
    world.frame(a, &ClientFrame::FetchPresence { request: RequestId(7), users: ids(&[BOB]) });
    world.settle();
    let frames = world.take(a);
    assert!(
        frames.iter().any(|frame| matches!(
            frame,
            ServerFrame::Error { code: ErrorCode::Overloaded, request: RequestId(7), .. }
        )),
        "{frames:?}"
    );
    world.send(a, 2, BOB, "goes on");
    world.settle();
    assert!(tests::frames::offered(&world.take(b)).iter().any(|(_, text)| text == "goes on"));
}

#[test]
fn a_connection_has_so_many_unanswered_questions_about_presence() {
    let (mut world, [a, ..]) = three(World::new(1));
    world.store_stalled = true;
    for request in 1..=6 {
        world.frame(a, &ClientFrame::FetchPresence { request: RequestId(request), users: ids(&[BOB]) });
    }
    world.settle();
    let refused = |frame: &ServerFrame| match frame {
        ServerFrame::Error { code: ErrorCode::TooManyFetches, request, .. } => Some(request.0),
        _ => None,
    };
    let frames = world.take(a);
    assert_eq!(frames.iter().filter_map(refused).collect::<Vec<_>>(), [5, 6]);
    world.store_stalled = false;
    world.settle();
    let answered: Vec<u64> = told(&world.take(a)).into_iter().map(|(request, _)| request).collect();
    assert_eq!(answered, [1, 2, 3, 4]);
    assert_eq!(pull(&mut world, a, &[BOB]), [(BOB, Presence::Online)], "there is room again");
}

#[test]
fn nothing_is_set_that_can_not_be_kept() {
    let (mut world, [a, ..]) = three(World::new(1));
    world.admission(Admission::Full);
    let (set, cleared) = (Visibility::INVISIBLE, Visibility::default());
    world.frame(a, &ClientFrame::SetVisibility { request: RequestId(6), set, cleared });
    world.settle();
    let frames = world.take(a);
    assert!(
        matches!(frames[..], [ServerFrame::Error { code: ErrorCode::StorageFull, request: RequestId(6), .. }]),
        "{frames:?}"
    );
}

#[test]
fn every_user_of_a_pull_is_answered_once_in_the_order_asked_for() {
    let (mut world, [a, ..]) = three(World::new(4));
    let asked = [NOBODY, BOB, CAROL, BOB, NOBODY, ALICE];
    let told = pull(&mut world, a, &asked);
    let expected =
        [(NOBODY, Presence::Unknown), (BOB, Presence::Online), (CAROL, Presence::Unknown), (ALICE, Presence::Online)];
    assert_eq!(told, expected);
    let counted: BTreeMap<_, _> = told.into_iter().collect();
    assert_eq!(counted.len(), 4);
}
