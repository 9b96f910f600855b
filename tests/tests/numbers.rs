//! Numbers of sends that are given up: what a server makes of them, and what the client makes of a server that takes some messages
//! and not others.

use client::{ClientEvent, ClientState, Config, Content, Effects, Input, MonotonicMs, UserId};
use proto_spec::{ClientFrame, Decoder, ErrorCode, Resume, SendNumber, ServerFrame, limits::CLIENT_FRAME_BYTES_MAX};
use server::{access::rate::Rate, limits::RATE_BURST_S, shard::Limits};
use tests::{
    frames::{accepted, refused, two_people},
    spec,
    world::{Link, World},
};

fn give_up(world: &mut World, link: Link, number: u64) {
    world.frame(link, &ClientFrame::GiveUp { number: SendNumber(number) });
    world.settle();
}

/// Numbers that were given up: with zero if they are void, else with the entry that they stand for.
fn given_up(frames: &[ServerFrame]) -> Vec<(u64, u64)> {
    let given_up = |frame: &ServerFrame| match frame {
        ServerFrame::GivenUp { number, seq } => Some((number.0, seq.0)),
        _ => None,
    };
    frames.iter().filter_map(given_up).collect()
}

#[test]
fn a_number_that_is_given_up_is_void_for_ever_and_those_behind_it_go_on() {
    let (mut world, a, _, alice, bob) = two_people();
    give_up(&mut world, a, 1);
    world.send(a, 2, bob, "two");
    world.settle();
    let frames = world.take(a);
    assert_eq!((given_up(&frames), accepted(&frames)), (vec![(1, 0)], vec![(2, 1)]));
    let is_void = |world: &mut World, a: Link| {
        give_up(world, a, 1);
        world.send(a, 1, bob, "one");
        world.settle();
        let frames = world.take(a);
        assert_eq!((given_up(&frames), refused(&frames)), (vec![(1, 0)], vec![(1, ErrorCode::GivenUp, 3)]));
    };
    is_void(&mut world, a);
    // From the store, too, and after a restart.
    world.ingest();
    is_void(&mut world, a);
    world.crash(1);
    let a = world.connect(alice, 1, Resume::Stored);
    world.take(a);
    is_void(&mut world, a);
    assert_eq!(world.messages(bob).len(), 1);
}

#[test]
fn the_last_number_that_was_given_up_counts_in_the_welcome_after_a_restart() {
    let (mut world, a, _, alice, _) = two_people();
    // The first number of the device: nothing else of it is durable.
    give_up(&mut world, a, 1);
    give_up(&mut world, a, 2);
    for _ in 0..2 {
        world.crash(1);
        let again = world.connect(alice, 1, Resume::Stored);
        let frames = world.take(again);
        assert!(matches!(frames[0], ServerFrame::Welcome { last_number: SendNumber(2), .. }), "{frames:?}");
        world.ingest();
    }
}

#[test]
fn only_the_next_number_can_be_given_up() {
    spec::says("any other is refused with `send_gap`");
    let (mut world, a, _, _, bob) = two_people();
    give_up(&mut world, a, 0);
    give_up(&mut world, a, 2);
    assert_eq!(refused(&world.take(a)), [(0, ErrorCode::SendGap, 1), (2, ErrorCode::SendGap, 1)]);
    world.send(a, 1, bob, "one");
    world.settle();
    world.take(a);
    give_up(&mut world, a, 1);
    assert_eq!(given_up(&world.take(a)), [(1, 1)], "it was accepted, and stays so");
    world.ingest();
    give_up(&mut world, a, 1);
    assert_eq!(given_up(&world.take(a)), [(1, 1)]);
}

#[test]
fn nothing_is_void_before_its_commit_and_a_send_that_is_on_its_way_to_be_accepted_needs_no_other_answer() {
    spec::says("if its `accepted` is on the way, that is the only answer");
    let (mut world, a, _, _, bob) = two_people();
    world.disk_stalled = true;
    world.send(a, 1, bob, "one");
    give_up(&mut world, a, 1);
    give_up(&mut world, a, 2);
    give_up(&mut world, a, 2);
    assert!(world.take(a).is_empty());
    world.disk_stalled = false;
    world.settle();
    let frames = world.take(a);
    assert_eq!((accepted(&frames), given_up(&frames)), (vec![(1, 1)], vec![(2, 0)]));
}

#[test]
fn what_was_not_void_before_a_crash_is_the_next_number_after_it() {
    let (mut world, a, _, alice, bob) = two_people();
    world.disk_stalled = true;
    give_up(&mut world, a, 1);
    world.crash(1);
    world.disk_stalled = false;
    let a = world.connect(alice, 1, Resume::Stored);
    world.take(a);
    world.send(a, 1, bob, "one");
    world.settle();
    assert_eq!(accepted(&world.take(a)), [(1, 1)]);
}

/// The client against a world: what it says goes there, what is said to it comes back.
struct Person {
    client: ClientState,
    link: Link,
    events: Vec<ClientEvent>,
    refusals: Vec<(u64, ErrorCode)>,
}

impl Person {
    fn connected(world: &mut World, user: u64) -> Self {
        let config = Config::new("", "token", client::DeviceId(1));
        let link = world.connect(user, 1, Resume::Stored);
        let client = ClientState::new(config).expect("the configuration is good");
        let mut person = Self { client, link, events: Vec::new(), refusals: Vec::new() };
        person.turn(world, Input::Tick);
        person.turn(world, Input::Connected);
        person.hear(world);
        person
    }

    fn turn(&mut self, world: &mut World, input: Input<'_>) {
        let mut effects = Effects::default();
        self.client.handle(MonotonicMs(world.now.monotonic_ms), 0, input, &mut effects);
        self.events.append(&mut effects.events);
        let link = self.link;
        let sent = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32).decode(&effects.bytes, |raw| {
            // The world has taken its hello for granted.
            match ClientFrame::decode(raw).expect("the client's frames can be read") {
                ClientFrame::Hello { .. } => {}
                frame => world.frame(link, &frame),
            }
            std::ops::ControlFlow::Continue(())
        });
        sent.expect("the client's stream can be cut into frames");
    }

    /// Until nobody has anything to say.
    fn hear(&mut self, world: &mut World) {
        loop {
            world.settle();
            let frames = world.take(self.link);
            if frames.is_empty() {
                return;
            }
            let mut bytes = Vec::new();
            for frame in frames {
                if let ServerFrame::Refused { number, code, .. } = frame {
                    self.refusals.push((number.0, code));
                }
                frame.encode(&mut bytes);
            }
            self.turn(world, Input::Bytes(&bytes));
        }
    }

    fn say(&mut self, world: &mut World, messages: impl IntoIterator<Item = u64>) {
        for to in messages {
            let text = format!("{} to {to}", self.client.unanswered_count());
            self.client.send(UserId(to), Content::text(&text)).expect("the queue has room");
        }
        self.turn(world, Input::Tick);
        self.hear(world);
    }

    /// Where messages were accepted since the last call, in the order of the log.
    fn accepted(&mut self) -> usize {
        let is_accepted = |event: &ClientEvent| matches!(event, ClientEvent::MessageAccepted { .. });
        std::mem::take(&mut self.events).iter().filter(|event| is_accepted(event)).count()
    }

    /// As time passes, until all is answered. How many milliseconds that took.
    fn wait(&mut self, world: &mut World) -> u64 {
        let start_ms = world.now.monotonic_ms;
        while self.client.unanswered_count() > 0 {
            assert!(world.now.monotonic_ms < start_ms + 60_000, "{} have no answer", self.client.unanswered_count());
            world.advance(50);
            self.turn(world, Input::Tick);
            self.hear(world);
        }
        world.now.monotonic_ms - start_ms
    }
}

/// One conversation may be opened a second, and so many at once.
fn world() -> (World, u64) {
    (World::limited(1, Limits { opened: Rate::per_second(1), ..Limits::OFF }), RATE_BURST_S)
}

#[test]
fn a_new_conversation_that_is_refused_for_a_time_holds_up_no_message_to_others() {
    let (mut world, at_once) = world();
    let old = || 101..=100 + at_once;
    let stranger = 900;
    let mut person = Person::connected(&mut world, 1);
    person.say(&mut world, old());
    assert_eq!(person.accepted() as u64, at_once);
    // One to somebody new in front of many, and one more in the middle.
    let many = || old().cycle().take(100);
    person.say(&mut world, [stranger].into_iter().chain(many()).chain([stranger]).chain(many()));
    assert_eq!(person.accepted(), 200, "each but those to the stranger, and no time has passed");
    assert_eq!(person.client.unanswered_count(), 2);
    assert_eq!(person.refusals.len(), 1, "one, and no gaps: {:?}", person.refusals);
    let waited_ms = person.wait(&mut world);
    assert_eq!(person.accepted(), 2);
    assert!((500..3_000).contains(&waited_ms), "{waited_ms} ms");
    let messages = world.messages(1);
    let to_stranger: Vec<_> = messages.iter().filter(|(_, _, to, _)| *to == stranger).map(|(.., text)| text).collect();
    assert_eq!(to_stranger, ["0 to 900", "101 to 900"], "in their order, once");
    assert_eq!(messages.len() as u64, at_once + 202);
}

#[test]
fn many_new_conversations_come_one_after_the_other_and_each_message_once() {
    let (mut world, at_once) = world();
    let mut person = Person::connected(&mut world, 1);
    let strangers = 4 * at_once;
    person.say(&mut world, (0..3 * strangers).map(|at| 900 + at % strangers));
    let gaps = |person: &Person| person.refusals.iter().filter(|(_, code)| *code == ErrorCode::SendGap).count();
    assert_eq!((person.accepted() as u64, gaps(&person)), (3 * at_once, 0));
    let waited_ms = person.wait(&mut world);
    assert_eq!(gaps(&person), 0);
    assert!(waited_ms < 1_000 * (strangers + at_once), "{waited_ms} ms");
    let messages = world.messages(1);
    for stranger in 900..900 + strangers {
        let texts: Vec<_> = messages.iter().filter(|(_, _, to, _)| *to == stranger).map(|(.., text)| text).collect();
        let at = stranger - 900;
        let expected = [0, 1, 2].map(|round| format!("{} to {stranger}", at + round * strangers));
        assert_eq!(texts, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_device_that_sends_too_much_waits_and_loses_nothing() {
    let mut world = World::limited(1, Limits { device_sends: Rate::per_second(5), ..Limits::OFF });
    let mut person = Person::connected(&mut world, 1);
    person.say(&mut world, (0..100).map(|at| 900 + at % 7));
    let waited_ms = person.wait(&mut world);
    assert!(waited_ms < 30_000, "{waited_ms} ms");
    assert_eq!((person.accepted(), world.messages(1).len()), (100, 100));
}

#[test]
fn a_message_can_be_taken_back_while_its_conversation_waits() {
    let (mut world, at_once) = world();
    let mut person = Person::connected(&mut world, 1);
    person.say(&mut world, (0..=at_once).map(|at| 900 + at));
    let [(handle, _)] = &person.client.unanswered()[..] else { panic!("one waits for its time") };
    assert!(person.client.cancel(*handle));
    person.turn(&mut world, Input::Tick);
    assert_eq!(person.events.last(), Some(&ClientEvent::MessageCancelled { handle: *handle }));
    person.wait(&mut world);
    world.advance(5_000);
    assert_eq!(world.messages(1).len() as u64, at_once);
    assert_eq!(world.messages(900 + at_once), [], "nobody got it");
}
