//! Notifications: who is notified of which messages and when, over restarts, full queues and everything that a provider may say.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::time::Duration;

use proto_spec::{
    ClientFrame, ClientKind, Content, ConversationId, DeviceId, ErrorCode, MessageName, PushState, RequestId, Resume,
    SendNumber, Seq, ServerFrame, Settings, Show, Subscription, UserId,
};
use push::{Kind, Notice, Outcome, Provider, Refusal};
use server::{
    limits::{DUES_MAX, NOTICE_TEXT_BYTES_MAX, NOTICES_STOP_MS, USER_NOTICES_MAX},
    shard::{PushQuestion, PushTold, PushVerdict},
};
use tests::world::{Link, PUSH_DELAY_MS, World};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const CAROL: u64 = 3;

fn subscription(address: &str, show: Show) -> Subscription {
    Subscription { provider: 2, show, address: address.to_owned(), key: Vec::new(), secret: Vec::new() }
}

fn ask(world: &mut World, link: Link, frame: &ClientFrame) -> Result<PushState, ErrorCode> {
    world.take(link);
    world.frame(link, frame);
    world.settle();
    let answers = world.take(link).into_iter().filter_map(|frame| match frame {
        ServerFrame::Subscription { request: RequestId(7), state } => Some(Ok(state)),
        ServerFrame::Error { code, .. } => Some(Err(code)),
        _ => None,
    });
    let [answer] = <[_; 1]>::try_from(answers.collect::<Vec<_>>()).expect("one answer");
    answer
}

fn subscribe(world: &mut World, link: Link, subscription: Subscription) -> Result<PushState, ErrorCode> {
    ask(world, link, &ClientFrame::Subscribe { request: RequestId(7), subscription })
}

/// A node on which Bob has a phone that is subscribed, and is away; and Alice, who is there.
fn bob_is_away(show: Show) -> (World, Link) {
    let mut world = World::notifying(1);
    let bob = world.connect(BOB, 1, Resume::Stored);
    assert_eq!(subscribe(&mut world, bob, subscription("phone", show)).unwrap().address, "phone");
    world.disconnect(bob);
    let alice = world.connect(ALICE, 1, Resume::Stored);
    world.settle();
    (world, alice)
}

/// The same, but Bob is there, on that phone.
fn bob_is_there() -> (World, Link, Link) {
    let (mut world, alice) = bob_is_away(Show::Text);
    let bob = world.connect(BOB, 1, Resume::Stored);
    world.settle();
    (world, alice, bob)
}

fn send(world: &mut World, link: Link, number: u64, text: &str) {
    world.send(link, number, BOB, text);
    world.settle();
}

/// What the service has been given and not answered: to which address, of whom, what of it, and how many are unread.
fn waiting(world: &World) -> Vec<(String, u64, Option<String>, u64)> {
    world.notices.iter().map(|(_, notice)| shown(notice)).collect()
}

fn shown(notice: &Notice) -> (String, u64, Option<String>, u64) {
    let Provider::Webhook { token } = &notice.subscription.provider else { panic!("all subscribe alike: {notice:?}") };
    let ConversationId::Person(peer) = notice.conversation else { panic!("nobody is notified of a group") };
    match &notice.kind {
        Kind::Message { text, count, .. } => (token.clone(), peer.0, text.clone(), *count),
        Kind::Clear => (token.clone(), peer.0, Some("CLEAR".to_owned()), 0),
    }
}

fn of_alice(text: &str, count: u64) -> (String, u64, Option<String>, u64) {
    ("phone".to_owned(), ALICE, Some(text.to_owned()), count)
}

fn end(world: &mut World, outcome: Outcome) {
    world.end_notice(outcome);
    world.settle();
}

fn everything_is_stored(world: &mut World) {
    world.advance(5_000);
    world.seal();
    world.ingest();
    world.settle();
}

#[test]
fn who_is_away_is_notified_at_once_and_once_of_each_conversation() {
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
    // What comes meanwhile goes together, a while after.
    send(&mut world, alice, 2, "two");
    send(&mut world, alice, 3, "three");
    end(&mut world, Outcome::Delivered);
    world.advance(PUSH_DELAY_MS - 100);
    assert_eq!(waiting(&world), []);
    world.advance(200);
    assert_eq!(waiting(&world), [of_alice("three", 3)]);
    end(&mut world, Outcome::Delivered);
    everything_is_stored(&mut world);
    assert!(world.store.unfinished.is_empty(), "nothing is due any more");
    assert_eq!(world.total(|counters| counters.users), 1, "Alice is there, and Bob is forgotten");
    // And again, when they have been loaded anew.
    send(&mut world, alice, 4, "four");
    assert_eq!(waiting(&world), [of_alice("four", 4)]);
}

#[test]
fn who_is_there_is_notified_of_what_no_device_acknowledges_in_time() {
    let (mut world, alice, bob) = bob_is_there();
    send(&mut world, alice, 1, "one");
    world.acknowledge(bob, 1);
    world.advance(2 * PUSH_DELAY_MS);
    assert_eq!(waiting(&world), [], "it was acknowledged");
    send(&mut world, alice, 2, "two");
    world.advance(PUSH_DELAY_MS - 100);
    assert_eq!(waiting(&world), []);
    world.advance(200);
    assert_eq!(waiting(&world), [of_alice("two", 2)]);
}

#[test]
fn when_the_last_connection_goes_what_was_not_acknowledged_is_told_at_once() {
    let (mut world, alice, bob) = bob_is_there();
    let laptop = world.connect(BOB, 2, Resume::Live);
    send(&mut world, alice, 1, "one");
    world.disconnect(bob);
    world.settle();
    assert_eq!(waiting(&world), []);
    world.disconnect(laptop);
    world.settle();
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
}

#[test]
fn nobody_is_notified_of_what_is_muted_blocked_or_read_by_then() {
    for (set, is_told) in [(Settings::MUTED, false), (Settings::BLOCKED, false), (Settings::PINNED, true)] {
        let (mut world, alice, bob) = bob_is_there();
        let keep = |world: &mut World, set, cleared| {
            let (request, conversation) = (RequestId(9), UserId(ALICE).into());
            world.frame(bob, &ClientFrame::SetConversation { request, conversation, set, cleared });
            world.settle();
        };
        // As it stands when its time has come.
        send(&mut world, alice, 1, "one");
        keep(&mut world, set, Settings::default());
        world.advance(2 * PUSH_DELAY_MS);
        assert_eq!(waiting(&world).len(), usize::from(is_told), "{set:?}");
        world.notices.clear();
        // And as it stood when it came.
        world.disconnect(bob);
        send(&mut world, alice, 2, "two");
        world.advance(2 * PUSH_DELAY_MS);
        assert_eq!(waiting(&world).len(), usize::from(is_told), "{set:?}");
    }
    let (mut world, alice, bob) = bob_is_there();
    send(&mut world, alice, 1, "one");
    let (request, conversation) = (RequestId(9), UserId(ALICE).into());
    world.frame(bob, &ClientFrame::MarkRead { request, conversation, up_to: Seq(1), tell: false });
    world.settle();
    world.advance(2 * PUSH_DELAY_MS);
    assert_eq!(waiting(&world), []);
}

#[test]
fn a_notification_shows_no_more_than_its_device_allows_and_what_is_said_now() {
    let (mut world, alice) = bob_is_away(Show::Text);
    let long = "ä".repeat(NOTICE_TEXT_BYTES_MAX);
    send(&mut world, alice, 1, &long);
    let [(_, _, Some(text), 1)] = &waiting(&world)[..] else { panic!("one notice") };
    assert_eq!(text, &"ä".repeat(NOTICE_TEXT_BYTES_MAX / 2));
    // What is due is changed before it leaves.
    send(&mut world, alice, 2, "wrong");
    let of = MessageName { author: UserId(ALICE), seq: Seq(2) };
    let content = Content::edit(of, &Content::text("right"), None);
    world.frame(alice, &ClientFrame::Send { number: SendNumber(3), to: UserId(BOB).into(), content });
    end(&mut world, Outcome::Delivered);
    world.advance(PUSH_DELAY_MS + 100);
    assert_eq!(waiting(&world), [of_alice("right", 2)]);
    // What was taken back is not told.
    send(&mut world, alice, 4, "never said");
    let of = MessageName { author: UserId(ALICE), seq: Seq(4) };
    let unsend =
        ClientFrame::Send { number: SendNumber(5), to: UserId(BOB).into(), content: Content::unsend(of, None) };
    world.frame(alice, &unsend);
    end(&mut world, Outcome::Delivered);
    world.advance(PUSH_DELAY_MS + 100);
    assert!(waiting(&world).iter().all(|(_, _, text, _)| text.is_none()), "{:?}", waiting(&world));

    let (mut world, alice) = bob_is_away(Show::Sender);
    send(&mut world, alice, 1, "secret");
    assert_eq!(waiting(&world), [("phone".to_owned(), ALICE, None, 1)], "the text is not even kept");
}

#[test]
fn what_was_shown_and_is_read_on_another_device_is_taken_off_the_screen() {
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    end(&mut world, Outcome::Delivered);
    everything_is_stored(&mut world);
    world.crash(2);
    let laptop = world.connect(BOB, 2, Resume::Stored);
    world.settle();
    let (request, conversation) = (RequestId(9), UserId(ALICE).into());
    world.frame(laptop, &ClientFrame::MarkRead { request, conversation, up_to: Seq(1), tell: false });
    world.settle();
    assert_eq!(waiting(&world), [of_alice("CLEAR", 0)]);
    // It is tried again until it is taken.
    end(&mut world, Outcome::Later(Duration::from_millis(700)));
    world.advance(600);
    assert_eq!(waiting(&world), []);
    world.advance(200);
    assert_eq!(waiting(&world), [of_alice("CLEAR", 0)]);
    end(&mut world, Outcome::Delivered);
    world.advance(10_000);
    assert_eq!(waiting(&world), []);
}

#[test]
fn a_provider_that_does_not_answer_keeps_nothing_from_other_devices() {
    let (mut world, alice) = bob_is_away(Show::Text);
    let laptop = world.connect(BOB, 2, Resume::Stored);
    subscribe(&mut world, laptop, subscription("laptop", Show::Text)).unwrap();
    world.disconnect(laptop);
    world.settle();
    let to = |device: &str, text: &str, count| (device.to_owned(), ALICE, Some(text.to_owned()), count);
    send(&mut world, alice, 1, "one");
    assert_eq!(waiting(&world), [to("phone", "one", 1), to("laptop", "one", 1)]);
    end(&mut world, Outcome::Delivered);
    send(&mut world, alice, 2, "two");
    world.advance(PUSH_DELAY_MS - 100);
    assert_eq!(waiting(&world), [to("laptop", "one", 1)]);
    world.advance(200);
    assert_eq!(waiting(&world), [to("laptop", "one", 1), to("phone", "two", 2), to("laptop", "two", 2)]);
    // What was waiting has made room for what takes its place.
    end(&mut world, Outcome::Superseded);
    end(&mut world, Outcome::Delivered);
    world.advance(2 * PUSH_DELAY_MS);
    assert_eq!(waiting(&world), [to("laptop", "two", 2)], "nothing more is to be told");
    end(&mut world, Outcome::Delivered);
    everything_is_stored(&mut world);
    assert!(world.store.unfinished.is_empty(), "nothing is due any more");
}

#[test]
fn what_is_read_takes_no_newer_notice_off_the_screen() {
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    end(&mut world, Outcome::Delivered);
    world.advance(2 * PUSH_DELAY_MS);
    send(&mut world, alice, 2, "two");
    assert_eq!(waiting(&world), [of_alice("two", 2)]);
    let laptop = world.connect(BOB, 2, Resume::Stored);
    let (request, conversation) = (RequestId(9), UserId(ALICE).into());
    world.frame(laptop, &ClientFrame::MarkRead { request, conversation, up_to: Seq(1), tell: false });
    world.settle();
    assert_eq!(waiting(&world), [of_alice("two", 2)]);
    end(&mut world, Outcome::Delivered);
    let (request, conversation) = (RequestId(10), UserId(ALICE).into());
    world.frame(laptop, &ClientFrame::MarkRead { request, conversation, up_to: Seq(2), tell: false });
    world.settle();
    assert_eq!(waiting(&world), [of_alice("CLEAR", 0)]);
}

#[test]
fn what_is_acknowledged_while_its_notice_waits_is_taken_back() {
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    let bob = world.connect(BOB, 1, Resume::Stored);
    world.settle();
    world.acknowledge(bob, 1);
    world.advance(1_000);
    assert_eq!(waiting(&world), [of_alice("one", 1), of_alice("CLEAR", 0)]);
    end(&mut world, Outcome::Superseded);
    end(&mut world, Outcome::Delivered);
    everything_is_stored(&mut world);
    assert!(world.store.unfinished.is_empty());
}

#[test]
fn a_crash_at_any_step_neither_loses_what_is_due_nor_tells_what_is_not() {
    // Synced, offered, ended, written: and what has to be told after a crash there.
    for (steps, is_told_again) in [(0, false), (1, true), (2, true), (3, true), (4, false)] {
        let (mut world, alice) = bob_is_away(Show::Text);
        everything_is_stored(&mut world);
        world.disk_stalled = steps == 0;
        world.notices_max = if steps == 1 { 0 } else { usize::MAX };
        world.send(alice, 1, BOB, "one");
        world.settle();
        assert_eq!(world.notices.len(), usize::from(steps >= 2), "nothing leaves before it is durable");
        if steps >= 3 {
            world.end_notice(Outcome::Delivered);
        }
        if steps >= 4 {
            world.advance(1_000);
            world.settle();
        }
        (world.disk_stalled, world.notices_max) = (false, usize::MAX);
        world.crash(2);
        world.settle();
        world.advance(2_000);
        let told: Vec<_> = waiting(&world);
        let wanted = if is_told_again { vec![of_alice("one", 1)] } else { Vec::new() };
        assert_eq!(told, wanted, "after step {steps}");
    }
}

#[test]
fn after_a_restart_each_conversation_with_something_that_is_due_is_told_and_no_other() {
    let (mut world, alice) = bob_is_away(Show::Text);
    world.notices_max = 0;
    let people = 3 + DUES_MAX as u64;
    for user in 10..10 + people {
        let link = world.connect(user, 1, Resume::Stored);
        for number in 1..=2 {
            world.send(link, number, BOB, &format!("{number} of {user}"));
        }
        world.settle();
    }
    // One of them is read, and one takes a message back.
    send(&mut world, alice, 1, "of Alice");
    let bob = world.connect(BOB, 2, Resume::Live);
    world.settle();
    let (request, conversation) = (RequestId(9), UserId(ALICE).into());
    let up_to = Seq(2 * people + 1);
    world.frame(bob, &ClientFrame::MarkRead { request, conversation, up_to, tell: false });
    world.settle();
    world.disconnect(bob);
    everything_is_stored(&mut world);
    world.notices_max = usize::MAX;
    world.crash(1);
    let mut told = Vec::new();
    for _ in 0..40 {
        world.advance(1_000);
        while !world.notices.is_empty() {
            told.extend(waiting(&world).into_iter().take(1));
            end(&mut world, Outcome::Delivered);
        }
    }
    told.sort_unstable();
    let mut wanted: Vec<_> =
        (10..10 + people).map(|user| ("phone".to_owned(), user, Some(format!("2 of {user}")), 2)).collect();
    wanted.sort_unstable();
    assert_eq!(told, wanted);
    everything_is_stored(&mut world);
    assert!(world.store.unfinished.is_empty());
}

#[test]
fn after_a_start_without_a_provider_nobody_is_kept_for_what_they_would_be_told() {
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    everything_is_stored(&mut world);
    assert_eq!(world.store.unfinished.iter().copied().collect::<Vec<_>>(), [UserId(BOB)]);
    world.forget_push();
    world.crash(1);
    everything_is_stored(&mut world);
    assert!(world.store.unfinished.is_empty(), "{:?}", world.store.unfinished);
    assert_eq!(world.total(|counters| counters.users), 0);
}

#[test]
fn what_a_full_service_does_not_take_is_offered_again() {
    let (mut world, alice) = bob_is_away(Show::Text);
    world.notices_max = 0;
    send(&mut world, alice, 1, "one");
    world.advance(10_000);
    assert_eq!(waiting(&world), []);
    world.notices_max = usize::MAX;
    world.advance(1_100);
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
    // Nor is it lost when the service says so later.
    end(&mut world, Outcome::Later(Duration::from_secs(3)));
    world.advance(2_900);
    assert_eq!(waiting(&world), []);
    world.advance(200);
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
}

#[test]
fn a_host_without_room_holds_up_nobody_else() {
    let (mut world, alice) = bob_is_away(Show::Text);
    let carol = world.connect(CAROL, 1, Resume::Stored);
    subscribe(&mut world, carol, subscription("carol's", Show::Text)).unwrap();
    world.disconnect(carol);
    send(&mut world, alice, 1, "one");
    end(&mut world, Outcome::Later(Duration::from_secs(5)));
    world.send(alice, 2, CAROL, "two");
    world.settle();
    let to_carol = ("carol's".to_owned(), ALICE, Some("two".to_owned()), 1);
    assert_eq!(waiting(&world), [to_carol]);
    world.notices.clear();
    world.advance(4_900);
    assert_eq!(waiting(&world), []);
    world.advance(200);
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
}

#[test]
fn nobody_has_more_under_way_than_a_user_may_and_the_rest_follows() {
    let mut world = World::notifying(1);
    for device in 1..=8 {
        let bob = world.connect(BOB, device, Resume::Stored);
        subscribe(&mut world, bob, subscription(&format!("device-{device}"), Show::Text)).unwrap();
        world.disconnect(bob);
    }
    let people = 3..3 + DUES_MAX as u64;
    for person in people.clone() {
        let link = world.connect(person, 1, Resume::Stored);
        send(&mut world, link, 1, "hello");
    }
    assert_eq!(world.notices.len(), USER_NOTICES_MAX);
    let mut told = 0;
    while let Some((_, notice)) = world.notices.front() {
        assert_eq!(notice.user, UserId(BOB));
        told += 1;
        end(&mut world, Outcome::Delivered);
        world.advance(if world.notices.is_empty() { 1_000 } else { 0 });
    }
    assert_eq!(told, 8 * people.count());
}

#[test]
fn what_is_under_way_is_taken_back_from_who_does_not_want_it_any_more() {
    let under_way = || {
        let (mut world, alice) = bob_is_away(Show::Text);
        send(&mut world, alice, 1, "one");
        let bob = world.connect(BOB, 1, Resume::Stored);
        world.settle();
        assert_eq!(waiting(&world), [of_alice("one", 1)]);
        (world, bob)
    };
    let clear = [of_alice("one", 1), of_alice("CLEAR", 0)];
    // No subscription.
    let (mut world, bob) = under_way();
    ask(&mut world, bob, &ClientFrame::Unsubscribe { request: RequestId(7) }).unwrap();
    assert_eq!(waiting(&world), clear);
    // No device, and no room at first.
    let (mut world, bob) = under_way();
    let laptop = world.connect(BOB, 2, Resume::Stored);
    world.disconnect(bob);
    world.notices_max = 0;
    world.frame(laptop, &ClientFrame::RemoveDevice { request: RequestId(7), device: DeviceId(1) });
    world.settle();
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
    world.notices_max = usize::MAX;
    world.advance(2_000);
    assert_eq!(waiting(&world), clear);
    // A subscription that shows less.
    let (mut world, bob) = under_way();
    subscribe(&mut world, bob, subscription("phone", Show::Nothing)).unwrap();
    world.advance(100);
    let shows: Vec<_> = world.notices.iter().map(|(_, notice)| notice.subscription.show).collect();
    assert_eq!(shows, [push::Show::Text, push::Show::Nothing], "the later one takes the place of the earlier one");
    // Another device is no reason.
    let (mut world, _) = under_way();
    let laptop = world.connect(BOB, 2, Resume::Stored);
    subscribe(&mut world, laptop, subscription("laptop", Show::Nothing)).unwrap();
    world.advance(100);
    assert_eq!(waiting(&world), [of_alice("one", 1)]);
    // What is not wanted of this conversation.
    for set in [Settings::MUTED, Settings::BLOCKED] {
        let (mut world, bob) = under_way();
        let (request, conversation) = (RequestId(9), UserId(ALICE).into());
        world.frame(bob, &ClientFrame::SetConversation { request, conversation, set, cleared: Settings::default() });
        world.settle();
        assert_eq!(waiting(&world), clear, "{set:?}");
    }
}

#[test]
fn a_subscription_goes_when_its_provider_does_not_know_it_and_is_replaced_when_it_says_so() {
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    end(&mut world, Outcome::Replaced(Provider::Webhook { token: "new phone".to_owned() }));
    everything_is_stored(&mut world);
    world.crash(1);
    let alice = world.connect(ALICE, 1, Resume::Stored);
    send(&mut world, alice, 2, "two");
    assert_eq!(waiting(&world)[0].0, "new phone");
    end(&mut world, Outcome::Gone);
    send(&mut world, alice, 3, "three");
    everything_is_stored(&mut world);
    world.advance(PUSH_DELAY_MS + 100);
    assert_eq!(waiting(&world), []);
    assert!(world.store.users[&UserId(BOB)].subscriptions.is_empty());
    let bob = world.connect(BOB, 1, Resume::Stored);
    world.settle();
    let asked = ask(&mut world, bob, &ClientFrame::FetchSubscription { request: RequestId(7) }).unwrap();
    assert_eq!((asked.provider, asked.address.as_str(), asked.providers), (0, "", 0b110));
    assert_eq!(asked.server_key, [4; 65]);
}

#[test]
fn what_a_provider_says_of_an_earlier_subscription_does_not_touch_the_one_that_is_there() {
    for outcome in [Outcome::Gone, Outcome::Replaced(Provider::Webhook { token: "other".to_owned() })] {
        let (mut world, alice) = bob_is_away(Show::Text);
        send(&mut world, alice, 1, "one");
        let bob = world.connect(BOB, 1, Resume::Stored);
        subscribe(&mut world, bob, subscription("newer", Show::Nothing)).unwrap();
        end(&mut world, outcome);
        let asked = ask(&mut world, bob, &ClientFrame::FetchSubscription { request: RequestId(7) }).unwrap();
        assert_eq!((asked.address.as_str(), asked.show), ("newer", Show::Nothing));
    }
}

#[test]
fn a_device_has_one_subscription_which_goes_with_it() {
    let (mut world, alice, bob) = bob_is_there();
    let again = subscription("phone", Show::Text);
    for _ in 0..3 {
        subscribe(&mut world, bob, again.clone()).unwrap();
    }
    let laptop = world.connect(BOB, 2, Resume::Live);
    subscribe(&mut world, laptop, subscription("laptop", Show::Sender)).unwrap();
    world.disconnect(laptop);
    world.disconnect(bob);
    send(&mut world, alice, 1, "one");
    let told = waiting(&world);
    let addresses: Vec<_> = told.iter().map(|(address, ..)| address.as_str()).collect();
    assert_eq!(addresses, ["phone", "laptop"], "each once");
    world.notices.clear();
    let bob = world.connect(BOB, 1, Resume::Stored);
    world.settle();
    world.frame(bob, &ClientFrame::RemoveDevice { request: RequestId(8), device: DeviceId(2) });
    world.settle();
    assert_eq!(ask(&mut world, bob, &ClientFrame::Unsubscribe { request: RequestId(7) }).unwrap().provider, 0);
    let taken_back = |device: &str| (device.to_owned(), ALICE, Some("CLEAR".to_owned()), 0);
    assert_eq!(waiting(&world), [taken_back("laptop"), taken_back("phone")]);
    world.notices.clear();
    everything_is_stored(&mut world);
    assert!(world.store.users[&UserId(BOB)].subscriptions.is_empty());
    world.disconnect(bob);
    send(&mut world, alice, 2, "two");
    world.advance(PUSH_DELAY_MS + 100);
    assert_eq!(waiting(&world), []);
    assert!(world.store.unfinished.is_empty(), "without a subscription nothing is due");
}

/// Something of two people is under way to Bob's provider when the node is told to stop.
fn stopping_with_two_under_way() -> World {
    let (mut world, alice) = bob_is_away(Show::Text);
    let carol = world.connect(CAROL, 1, Resume::Stored);
    world.settle();
    send(&mut world, alice, 1, "one");
    send(&mut world, carol, 1, "two");
    assert_eq!(waiting(&world).len(), 2);
    world.stop();
    world.settle();
    assert!(!world.is_stopped(), "the provider has not answered");
    world
}

#[test]
fn a_stop_waits_for_what_is_under_way_and_the_next_start_tells_no_more_of_what_a_provider_took() {
    let mut world = stopping_with_two_under_way();
    end(&mut world, Outcome::Delivered);
    assert!(!world.is_stopped(), "nor of the other one");
    end(&mut world, Outcome::Delivered);
    assert!(world.is_stopped());
    world.crash(2);
    world.advance(2 * PUSH_DELAY_MS);
    assert_eq!(waiting(&world), []);
}

#[test]
fn what_is_given_back_at_a_stop_is_told_by_the_next_start_and_what_was_taken_is_not() {
    let mut world = stopping_with_two_under_way();
    end(&mut world, Outcome::Delivered);
    end(&mut world, Outcome::Later(Duration::ZERO));
    assert!(world.is_stopped());
    world.crash(2);
    world.advance(2_000);
    let carols = ("phone".to_owned(), CAROL, Some("two".to_owned()), 1);
    assert_eq!(waiting(&world), std::slice::from_ref(&carols));
    end(&mut world, Outcome::Delivered);
    everything_is_stored(&mut world);
    assert!(world.store.unfinished.is_empty(), "nothing is due any more");
}

#[test]
fn a_stop_waits_for_a_provider_that_does_not_answer_for_a_while_only() {
    let mut world = stopping_with_two_under_way();
    world.advance(NOTICES_STOP_MS);
    assert!(world.is_stopped());
    // What it says to a core that is about to go changes nothing: the others may have gone.
    end(&mut world, Outcome::Delivered);
    assert!(world.is_stopped());
    world.crash(1);
    world.advance(2_000);
    assert_eq!(waiting(&world).len(), 2, "both are told once more");
}

/// A public key of P-256: its base point.
const BASE_POINT: [u8; 65] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03,
    0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
    0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce,
    0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

#[test]
fn a_subscription_that_nothing_can_be_sent_to_is_refused() {
    let (mut world, _, bob) = bob_is_there();
    let good = subscription("x", Show::Text);
    let web = Subscription {
        provider: 1,
        address: "https://fcm.googleapis.com/fcm/send/x".to_owned(),
        key: BASE_POINT.to_vec(),
        secret: vec![7; 16],
        ..good.clone()
    };
    let at = |endpoint: &str| Subscription { address: endpoint.to_owned(), ..web.clone() };
    for (bad, what) in [
        (Subscription { provider: 3, ..good.clone() }, "a provider that is not offered"),
        (Subscription { provider: 99, ..good.clone() }, "a provider that nobody knows"),
        (Subscription { address: String::new(), ..good.clone() }, "no address"),
        (Subscription { key: vec![4; 65], ..good.clone() }, "keys of another provider"),
        (Subscription { secret: vec![7; 15], ..web.clone() }, "half of a secret"),
        (Subscription { key: vec![4; 65], ..web.clone() }, "a key that is none"),
        (subscription("two words", Show::Text), "a token that is none"),
        (at("http://fcm.googleapis.com/x"), "an endpoint without TLS"),
        (at("https://push.example.org/x"), "a host that is not in the list"),
        (at("https://fcm.googleapis.com.example.org/x"), "one that only begins like it"),
        (at("https://127.0.0.1/x"), "an address"),
        (at("x"), "no URL"),
    ] {
        assert_eq!(subscribe(&mut world, bob, bad), Err(ErrorCode::BadSubscription), "{what}");
    }
    assert_eq!(subscribe(&mut world, bob, web).map(|state| state.provider), Ok(1));
    // What the service finds wrong with it the device learns by asking.
    let (mut world, alice) = bob_is_away(Show::Text);
    send(&mut world, alice, 1, "one");
    let why = push::BadSubscription::Key;
    end(&mut world, Outcome::Refused(Refusal::Subscription(why)));
    let bob = world.connect(BOB, 1, Resume::Stored);
    world.settle();
    let asked = ask(&mut world, bob, &ClientFrame::FetchSubscription { request: RequestId(7) });
    assert_eq!(asked.map(|state| state.provider), Ok(0));
}

#[test]
fn a_server_that_notifies_nobody_does_not_know_the_frames() {
    let mut world = World::new(1);
    let bob = world.connect(BOB, 1, Resume::Stored);
    world.settle();
    let frames = world.take(bob);
    let Some(ServerFrame::Welcome { capabilities, .. }) = frames.first() else { panic!("a welcome: {frames:?}") };
    for kind in [ClientKind::Subscribe, ClientKind::Unsubscribe, ClientKind::FetchSubscription] {
        assert!(!capabilities.takes_frame(kind), "{kind:?}");
    }
    assert_eq!(subscribe(&mut world, bob, subscription("x", Show::Text)), Err(ErrorCode::UnknownKind));
}

#[test]
fn what_came_before_the_first_subscription_is_not_told() {
    let mut world = World::notifying(1);
    let alice = world.connect(ALICE, 1, Resume::Stored);
    send(&mut world, alice, 1, "before");
    let bob = world.connect(BOB, 1, Resume::Live);
    subscribe(&mut world, bob, subscription("phone", Show::Text)).unwrap();
    world.disconnect(bob);
    world.crash(1);
    world.advance(2_000);
    assert_eq!(waiting(&world), []);
    let alice = world.connect(ALICE, 1, Resume::Stored);
    send(&mut world, alice, 2, "after");
    assert_eq!(waiting(&world), [of_alice("after", 2)]);
}

#[test]
fn nothing_is_written_for_a_message_but_that_something_is_due_and_that_nothing_is_any_more() {
    let (mut world, alice) = bob_is_away(Show::Text);
    everything_is_stored(&mut world);
    let before = (world.records, world.push_records);
    for number in 1..=20 {
        send(&mut world, alice, number, "again");
    }
    let of_messages = world.records - before.0;
    end(&mut world, Outcome::Delivered);
    world.advance(PUSH_DELAY_MS + 100);
    end(&mut world, Outcome::Delivered);
    world.advance(1_000);
    assert_eq!(world.push_records - before.1, 2, "due, and notified, of {of_messages} records");
}

#[test]
fn the_operator_is_told_why_somebody_was_notified_or_was_not() {
    let (mut world, alice, bob) = bob_is_there();
    let why = |world: &mut World, seq| -> PushTold {
        world.ask_why(1, PushQuestion { user: UserId(BOB), group: None, seq: Seq(seq) });
        world.settle();
        world.push_told.pop().expect("an answer").1
    };
    send(&mut world, alice, 1, "one");
    let told = why(&mut world, 1).unwrap();
    assert!(told.is_due && told.is_connected && !told.is_acknowledged && told.decisions.is_empty());
    world.acknowledge(bob, 1);
    world.advance(1_000);
    let told = why(&mut world, 1).unwrap();
    assert!(told.is_acknowledged && !told.is_due);
    world.disconnect(bob);
    send(&mut world, alice, 2, "two");
    end(&mut world, Outcome::Gone);
    everything_is_stored(&mut world);
    let told = why(&mut world, 2).unwrap();
    let verdicts: Vec<_> = told.decisions.iter().map(|decision| decision.verdict.clone()).collect();
    assert_eq!(verdicts, [PushVerdict::Offered, PushVerdict::Ended(DeviceId(1), Outcome::Gone)]);
    assert!(told.subscribed.is_empty());
    assert_eq!(why(&mut world, 99), Err(ErrorCode::NoSuchMessage));
    assert_eq!(why(&mut world, 0), Err(ErrorCode::NoSuchMessage));
}
