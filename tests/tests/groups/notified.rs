//! Notifications of what comes in groups: who is told, once, of the last word and no other; over restarts, and of names alone for who wants
//! that.

use std::time::Duration;

use proto_spec::{
    Act, ClientFrame, Content, ConversationId, RequestId, Resume, Rules, Seq, Settings, Show, Subscription, UserId,
};
use push::{Kind, Notice, Outcome};
use server::{
    limits::{ASK_AGAIN_MS, GROUP_RECEIPTS_EVERY_MS, LOOK_BACK_ENTRIES, TICK_MS},
    shard::{PushQuestion, PushVerdict, PushWhy},
};
use tests::{
    spec,
    world::{PUSH_DELAY_MS, World},
};

use crate::people::{GROUP, People};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const CARL: u64 = 3;

/// A group of Alice, Bob and Carl on two cores, in which Bob's device is subscribed. Its first message stands at 4.
fn bob_is_there(show: Show) -> People {
    let mut people = People::on(World::notifying(2), 3);
    people.found(3, Rules::default());
    subscribe(&mut people, BOB, Some(show));
    people
}

/// The same, and Bob is away.
fn bob_is_away(show: Show) -> People {
    let mut people = bob_is_there(show);
    people.disconnect(BOB);
    people
}

fn subscribe(people: &mut People, user: u64, show: Option<Show>) {
    let (request, address) = (RequestId(7), format!("phone-of-{user}"));
    let frame = match show {
        Some(show) => {
            let subscription = Subscription { provider: 2, show, address, key: Vec::new(), secret: Vec::new() };
            ClientFrame::Subscribe { request, subscription }
        }
        None => ClientFrame::Unsubscribe { request },
    };
    people.world.frame(people.link(user), &frame);
    people.world.settle();
}

fn keep(people: &mut People, user: u64, set: Settings, cleared: Settings) {
    let (request, conversation) = (RequestId(9), GROUP.into());
    people.world.frame(people.link(user), &ClientFrame::SetConversation { request, conversation, set, cleared });
    people.world.settle();
}

/// A device says that it has the group up to there, and its home hears of it.
fn has(people: &mut People, user: u64, up_to: u64) {
    people.world.frame(people.link(user), &ClientFrame::AcknowledgeGroup { group: GROUP, up_to: Seq(up_to) });
    people.world.advance(GROUP_RECEIPTS_EVERY_MS + 100);
}

/// Says something, and lets a tick pass: then who is away is told.
fn say(people: &mut People, user: u64, text: &str) {
    people.say(user, text);
    people.world.advance(2 * TICK_MS);
}

fn leaves(people: &mut People, user: u64) {
    people.disconnect(user);
    people.world.advance(2 * TICK_MS);
}

/// Whom a notice is for, and who wrote, what, and how many are unread; none: it clears a screen.
type Shown = (u64, Option<(u64, Option<String>, u64)>);

/// What the push service has been given and not answered.
fn waiting(people: &World) -> Vec<Shown> {
    people.notices.iter().map(|(_, notice)| shown(notice)).collect()
}

fn shown(notice: &Notice) -> Shown {
    assert_eq!(notice.conversation, ConversationId::Group(GROUP));
    let told = match &notice.kind {
        Kind::Message { from, text, count } => Some((from.0, text.clone(), *count)),
        Kind::Clear => None,
    };
    (notice.user.0, told)
}

fn to_bob(from: u64, text: &str, count: u64) -> Shown {
    (BOB, Some((from, Some(text.to_owned()), count)))
}

fn delivered(people: &mut People) {
    people.world.end_notice(Outcome::Delivered);
    people.world.settle();
}

fn why(people: &mut People, user: u64, seq: u64) -> PushWhy {
    people.world.ask_why(1, PushQuestion { user: UserId(user), group: Some(GROUP), seq: Seq(seq) });
    people.world.settle();
    *people.world.push_told.pop().expect("an answer").1.expect("they are a member")
}

#[test]
fn a_member_who_is_away_is_notified_at_once_and_once_in_a_while() {
    spec::says("Of a group they are notified as of a person");
    let mut people = bob_is_away(Show::Text);
    say(&mut people, ALICE, "one");
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "one", 1)], "and Carl has not subscribed");
    say(&mut people, CARL, "two");
    say(&mut people, ALICE, "three");
    delivered(&mut people);
    people.world.advance(PUSH_DELAY_MS / 2);
    assert_eq!(waiting(&people.world), []);
    people.world.advance(2 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "three", 3)]);
    delivered(&mut people);
    people.world.advance(4 * PUSH_DELAY_MS);
    people.world.seal();
    people.world.ingest();
    people.world.settle();
    assert_eq!(waiting(&people.world), []);
    assert!(people.world.store.unfinished.is_empty(), "{:?}", people.world.store.unfinished);
    assert!(people.world.store.unfinished_groups.is_empty(), "nobody is left to tell");
}

#[test]
fn what_is_unread_is_told_whatever_stands_behind_it_that_is_no_message_of_others() {
    let mut people = bob_is_there(Show::Text);
    people.say(ALICE, "one");
    for number in 0..LOOK_BACK_ENTRIES {
        let reaction = if number % 2 == 0 { "+" } else { "-" };
        people.say_only(CARL, Content::reaction(crate::people::name(ALICE, 4), reaction, None));
        people.say_only(ALICE, Content::reaction(crate::people::name(ALICE, 4), reaction, None));
        people.world.settle();
    }
    leaves(&mut people, BOB);
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "one", 1)]);

    let mut people = bob_is_there(Show::Text);
    people.say(ALICE, "one");
    // More than is looked through at once.
    (0..=LOOK_BACK_ENTRIES).for_each(|_| people.say(BOB, "mine"));
    leaves(&mut people, BOB);
    let told = waiting(&people.world);
    assert!(matches!(&told[..], [(BOB, Some((ALICE, Some(text), _)))] if text == "one"), "{told:?}");
}

#[test]
fn after_a_start_without_a_provider_no_group_is_kept_for_whom_it_would_tell() {
    let mut people = bob_is_away(Show::Text);
    say(&mut people, ALICE, "one");
    people.world.advance(5_000);
    people.world.seal();
    people.world.ingest();
    people.world.settle();
    people.world.forget_push();
    people.world.crash(2);
    for user in [ALICE, CARL] {
        people.connect(user, Resume::Stored);
        people.say(user, "and on");
    }
    people.world.advance(10_000);
    people.world.seal();
    people.world.ingest();
    people.world.settle();
    assert!(people.world.store.unfinished_groups.is_empty(), "{:?}", people.world.store.unfinished_groups);
    assert_eq!(waiting(&people.world), []);
}

#[test]
fn a_device_for_which_there_was_no_room_is_told_though_another_one_was() {
    let mut people = bob_is_there(Show::Text);
    let laptop = people.world.connect(BOB, 2, Resume::Stored);
    let subscription = Subscription {
        provider: 2,
        show: Show::Text,
        address: "laptop".to_owned(),
        key: Vec::new(),
        secret: Vec::new(),
    };
    people.world.frame(laptop, &ClientFrame::Subscribe { request: RequestId(7), subscription });
    people.world.settle();
    people.world.disconnect(laptop);
    people.disconnect(BOB);
    say(&mut people, ALICE, "one");
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "one", 1), to_bob(ALICE, "one", 1)]);
    let last = people.world.notices[1].1.device;
    delivered(&mut people);
    people.world.end_notice(Outcome::Later(Duration::from_millis(700)));
    people.world.settle();
    assert_eq!(waiting(&people.world), []);
    people.world.advance(1_000);
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "one", 1)]);
    assert_eq!(people.world.notices[0].1.device, last);
}

#[test]
fn a_notification_says_what_its_device_allows_and_the_message_says_now() {
    let mut people = bob_is_away(Show::Sender);
    say(&mut people, ALICE, "one");
    assert_eq!(waiting(&people.world), [(BOB, Some((ALICE, None, 1)))]);
    let mut people = bob_is_there(Show::Text);
    say(&mut people, ALICE, "wrong");
    let edit = Content::edit(crate::people::name(ALICE, 4), &Content::text("right"), None);
    people.say_only(ALICE, edit);
    people.world.settle();
    leaves(&mut people, BOB);
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "right", 1)]);
}

#[test]
fn a_member_who_is_there_is_notified_of_what_no_device_says_that_it_has() {
    let mut people = bob_is_there(Show::Text);
    say(&mut people, ALICE, "one");
    has(&mut people, BOB, 4);
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), [], "a device has it");
    say(&mut people, ALICE, "two");
    people.world.advance(PUSH_DELAY_MS / 2);
    assert_eq!(waiting(&people.world), []);
    people.world.advance(3 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "two", 2)]);
}

#[test]
fn who_goes_without_having_it_is_notified_at_once() {
    let mut people = bob_is_there(Show::Text);
    say(&mut people, ALICE, "one");
    assert_eq!(waiting(&people.world), []);
    leaves(&mut people, BOB);
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "one", 1)]);
}

#[test]
fn nobody_is_notified_of_what_is_their_own_muted_read_or_no_message() {
    let mut people = bob_is_there(Show::Text);
    say(&mut people, BOB, "my own");
    people.disconnect(BOB);
    people.act(ALICE, &Act::Describe { name: "lake", picture: "" });
    people.say_only(CARL, Content::reaction(crate::people::name(BOB, 4), "+", None));
    people.world.settle();
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), []);

    let mut people = bob_is_there(Show::Text);
    keep(&mut people, BOB, Settings::MUTED, Settings::default());
    people.disconnect(BOB);
    say(&mut people, ALICE, "one");
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), []);
    people.connect(BOB, Resume::Stored);
    keep(&mut people, BOB, Settings::default(), Settings::MUTED);
    people.disconnect(BOB);
    say(&mut people, ALICE, "two");
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "two", 2)]);
}

#[test]
fn a_member_who_has_muted_the_group_costs_their_home_nothing_after_the_first_time() {
    let mut people = bob_is_there(Show::Text);
    keep(&mut people, BOB, Settings::MUTED, Settings::default());
    // Connected anew, the home of the group is told that there is a subscription, and not of which messages.
    people.disconnect(BOB);
    people.connect(BOB, Resume::Stored);
    people.disconnect(BOB);
    let before = people.world.log(BOB).last().map(|entry| entry.seq);
    say(&mut people, ALICE, "one");
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(people.world.log(BOB).last().map(|entry| entry.seq), before);
    assert!(people.world.store.unfinished_groups.is_empty());
}

#[test]
fn who_wants_to_hear_of_their_name_alone_is_notified_of_that() {
    let mut people = bob_is_there(Show::Text);
    keep(&mut people, BOB, Settings::MENTIONS_ONLY, Settings::default());
    people.disconnect(BOB);
    say(&mut people, ALICE, "one");
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), []);
    people.say_only(CARL, Content::mention(&[UserId(BOB)], "@Bob, look"));
    people.say_only(CARL, Content::text("never mind"));
    people.world.settle();
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), [to_bob(CARL, "@Bob, look", 3)]);
    delivered(&mut people);
    say(&mut people, ALICE, "something else");
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), []);
    // Muted as well: names are still announced.
    people.connect(BOB, Resume::Stored);
    keep(&mut people, BOB, Settings::MUTED, Settings::default());
    people.disconnect(BOB);
    people.say_only(CARL, Content::mention(&[UserId(BOB)], "@Bob?"));
    people.world.settle();
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), [to_bob(CARL, "@Bob?", 5)]);
    let told = why(&mut people, BOB, 5);
    assert!(told.is_named_only && told.is_known, "{told:?}");
}

#[test]
fn what_was_shown_and_is_read_on_another_device_is_taken_off_the_screen() {
    let mut people = bob_is_away(Show::Text);
    say(&mut people, ALICE, "one");
    delivered(&mut people);
    let laptop = people.world.connect(BOB, 2, Resume::Stored);
    people.world.settle();
    let (request, conversation, up_to) = (RequestId(5), GROUP.into(), Seq(4));
    people.world.frame(laptop, &ClientFrame::MarkRead { request, conversation, up_to, tell: false });
    people.world.settle();
    people.world.advance(1_000);
    assert_eq!(waiting(&people.world), [(BOB, None)]);
}

#[test]
fn a_crash_at_any_step_neither_loses_a_notification_nor_tells_of_what_is_not_durable() {
    for steps in 0..14 {
        let mut people = bob_is_away(Show::Text);
        people.world.advance(5_000);
        people.world.seal();
        people.world.ingest();
        people.world.settle();
        people.world.disk_stalled = true;
        people.say_only(ALICE, Content::text("one"));
        for _ in 0..steps {
            people.world.settle();
            assert!(people.world.notices.is_empty() || steps > 1, "nothing leaves of what is not durable");
            people.world.sync_one();
        }
        people.world.settle();
        people.world.notices.clear();
        people.world.crash(2);
        people.world.disk_stalled = false;
        people.world.settle();
        people.world.advance(3 * ASK_AGAIN_MS + 3 * PUSH_DELAY_MS);
        people.connect(ALICE, Resume::Stored);
        if people.history(ALICE).iter().all(|entry| entry.content.as_text() != Some("one")) {
            assert_eq!(waiting(&people.world), [], "after {steps} steps: it was not kept");
            people.numbers[0] -= 1;
            say(&mut people, ALICE, "one");
        }
        people.world.advance(3 * ASK_AGAIN_MS + 3 * PUSH_DELAY_MS);
        assert_eq!(waiting(&people.world), [to_bob(ALICE, "one", 1)], "after {steps} steps");
    }
}

#[test]
fn who_is_added_while_away_is_notified_of_what_comes_then() {
    let mut people = People::on(World::notifying(2), 2);
    subscribe(&mut people, BOB, Some(Show::Text));
    people.disconnect(BOB);
    people.found(2, Rules::default());
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), [], "to be added is no message");
    say(&mut people, ALICE, "welcome");
    assert_eq!(waiting(&people.world), [to_bob(ALICE, "welcome", 1)]);
}

#[test]
fn who_has_left_or_subscribes_no_more_is_not_told() {
    let mut people = bob_is_there(Show::Text);
    people.act(BOB, &Act::Remove { user: UserId(BOB) });
    people.disconnect(BOB);
    say(&mut people, ALICE, "one");
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!(waiting(&people.world), []);

    let mut people = bob_is_there(Show::Text);
    subscribe(&mut people, BOB, None);
    people.disconnect(BOB);
    let before = people.world.log(BOB).last().map(|entry| entry.seq);
    say(&mut people, ALICE, "one");
    people.world.advance(4 * PUSH_DELAY_MS);
    assert_eq!((waiting(&people.world), people.world.log(BOB).last().map(|entry| entry.seq)), (vec![], before));
    assert!(people.world.store.unfinished_groups.is_empty(), "the home of the group knows by now");
}

#[test]
fn the_operator_is_told_why_a_member_was_notified_or_was_not() {
    let mut people = bob_is_away(Show::Text);
    say(&mut people, ALICE, "one");
    let told = why(&mut people, BOB, 4);
    assert!(told.is_known && told.is_due && !told.is_connected && !told.is_acknowledged, "{told:?}");
    delivered(&mut people);
    let verdicts: Vec<_> = why(&mut people, BOB, 4).decisions.into_iter().map(|decision| decision.verdict).collect();
    let device = proto_spec::DeviceId(1);
    assert_eq!(verdicts, [PushVerdict::Offered, PushVerdict::Ended(device, Outcome::Delivered)]);
    assert!(!why(&mut people, BOB, 9).is_known);
}
