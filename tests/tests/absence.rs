//! Devices that were away for long: what is skipped, who is told what was delivered, and that a device which skips shows what a device
//! shows that was pushed everything (SPEC 8.2, 8.8).
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{collections::BTreeMap, ops::ControlFlow};

use client::{
    ClientEvent, ClientState, Config, Conversations, Effects, FetchHandle, InboxRow, Input, MonotonicMs, NotKnown,
};
use proptest::prelude::*;
use proto_spec::{
    ClientFrame, Content, ConversationId, Decoder, DeviceId, Direction, Entry, Event, MessageName, RequestId, Resume,
    SendNumber, Seq, ServerFrame, Settings, UserId, limits::CLIENT_FRAME_BYTES_MAX,
};
use server::{access::handshake::Resumption, limits};
use tests::{
    frames::{accepted, delivered_up_to, offered, text, two_people},
    world::{Link, World},
};

/// A device that holds what follows `since`, up to `at`.
fn behind_a_gap(since: u64, at: u64) -> Resumption {
    Resumption { since: Seq(since), ..Resumption::whole(Resume::After(Seq(at))) }
}

fn flush(world: &mut World) {
    world.advance(2 * limits::RECEIPT_DELAY_MS);
}

fn cursor(world: &mut World, link: Link) -> (Seq, u64) {
    let frames = world.take(link);
    let [ServerFrame::Welcome { cursor, skipped, .. }, ..] = frames[..] else { panic!("{frames:?}") };
    world.clients[link.0].frames.splice(0..0, frames.into_iter().skip(1));
    (cursor, skipped)
}

#[test]
fn what_nobody_was_pushed_is_delivered_to_nobody() {
    let (mut world, a, b, _, bob) = two_people();
    world.disconnect(b);
    world.send(a, 1, bob, "old");
    world.settle();
    let live = world.connect(bob, 2, Resume::Live);
    world.send(a, 2, bob, "new");
    world.settle();
    world.acknowledge(live, 2);
    flush(&mut world);
    assert_eq!(delivered_up_to(&world.take(a)), [], "the first one is with nobody");
    // Nor when the device comes back, and says where it began.
    world.disconnect(live);
    let live = world.resume(bob, 2, behind_a_gap(1, 2));
    flush(&mut world);
    assert_eq!(delivered_up_to(&world.take(a)), []);
    // A device that is pushed both gets on to what the other one has acknowledged.
    let b = world.connect(bob, 1, Resume::Stored);
    assert_eq!(offered(&world.take(b)), [text(1, "old"), text(2, "new")]);
    world.acknowledge(b, 1);
    flush(&mut world);
    assert_eq!(delivered_up_to(&world.take(a)), [(bob, 2)]);
    world.disconnect(live);
}

#[test]
fn who_began_at_the_head_is_pushed_the_rest_by_its_cursor() {
    let (mut world, a, _, _, bob) = two_people();
    for number in 1..=3 {
        world.send(a, number, bob, "x");
    }
    world.settle();
    let live = world.connect(bob, 2, Resume::Live);
    assert_eq!(cursor(&mut world, live), (Seq(3), 0));
    world.send(a, 4, bob, "new");
    world.settle();
    world.acknowledge(live, 4);
    flush(&mut world);
    world.crash(2);
    let stored = world.connect(bob, 2, Resume::Stored);
    assert_eq!(cursor(&mut world, stored), (Seq(0), 0), "what was never pushed is not lost in silence");
}

#[test]
fn what_devices_have_acknowledged_together_outlives_a_crash_and_their_removal() {
    for removes in [false, true] {
        let (mut world, a, b, _, bob) = two_people();
        world.send(a, 1, bob, "one");
        world.settle();
        world.acknowledge(b, 1);
        flush(&mut world);
        world.disconnect(b);
        let live = world.connect(bob, 2, Resume::Live);
        world.send(a, 2, bob, "two");
        world.settle();
        world.acknowledge(live, 2);
        if removes {
            world.settle();
            world.frame(live, &ClientFrame::RemoveDevice { request: RequestId(9), device: DeviceId(2) });
            world.settle();
        }
        flush(&mut world);
        assert_eq!(delivered_up_to(&world.take(a)).last(), Some(&(bob, 3)), "the receipt of the first is between");
        world.crash(2);
        let (a, other) = (world.connect(1, 1, Resume::Stored), world.connect(bob, 3, Resume::Live));
        world.send(a, 3, bob, "three");
        world.settle();
        let head = offered(&world.take(other)).pop().unwrap().0;
        world.acknowledge(other, head);
        world.take(a);
        flush(&mut world);
        let delivered = delivered_up_to(&world.take(a));
        // The entry that tells of the removal has been acknowledged by nobody.
        assert_eq!(delivered.len(), usize::from(!removes), "{delivered:?}");
    }
}

#[test]
fn a_device_is_pushed_no_more_than_it_wants_and_is_told_what_is_skipped() {
    let (mut world, a, b, _, bob) = two_people();
    world.disconnect(b);
    for number in 1..=5 {
        world.send(a, number, bob, "x");
    }
    world.settle();
    let wish = |resume, skip_above| Resumption { skip_above, ..Resumption::whole(resume) };
    let enough = world.resume(bob, 2, wish(Resume::Stored, 5));
    assert_eq!((cursor(&mut world, enough), offered(&world.take(enough)).len()), ((Seq(0), 0), 5));
    let skips = world.resume(bob, 3, wish(Resume::After(Seq(1)), 3));
    assert_eq!((cursor(&mut world, skips), offered(&world.take(skips)).len()), ((Seq(5), 4), 0));
    world.send(a, 6, bob, "new");
    world.settle();
    assert_eq!(offered(&world.take(skips)), [text(6, "new")]);
    world.acknowledge(skips, 6);
    flush(&mut world);
    let again = world.resume(bob, 3, wish(Resume::Stored, 0));
    assert_eq!(cursor(&mut world, again), (Seq(1), 0), "it has acknowledged what it said it had, and no gap");
}

// ---- a device that skips shows what one shows that does not

const ALICE: u64 = 1;

/// A device of Alice, with the production client.
struct Device {
    id: u64,
    state: ClientState,
    link: Option<Link>,
    list: Conversations,
    /// What messages say, by their places, and what each user feels about them.
    messages: BTreeMap<ConversationId, BTreeMap<(Seq, Option<UserId>), Entry>>,
    since: Seq,
    /// Frames that it is still to get before its connection is lost.
    cut_after: Option<usize>,
    /// Pages of the inbox, and before which place.
    asked: Vec<(FetchHandle, Seq)>,
}

impl Device {
    fn new(id: u64, skip_above: u64, cut_after: Option<usize>) -> Self {
        let config = Config { skip_above, backoff_max_ms: 1, ..Config::new("x:1", "token", DeviceId(id)) };
        let (state, since) = (ClientState::new(config).unwrap(), Seq::ZERO);
        Self {
            id,
            state,
            link: None,
            list: Conversations::default(),
            messages: BTreeMap::new(),
            since,
            cut_after,
            asked: Vec::new(),
        }
    }

    /// Goes on until nothing is left to do.
    fn run(&mut self, world: &mut World) {
        self.input(world, Input::Tick);
        loop {
            world.settle();
            let Some(link) = self.link else { return };
            let frames = world.take(link);
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                if self.cut_after == Some(0) {
                    self.cut_after = None;
                    self.leave(world);
                    world.now.monotonic_ms += 60_000;
                    self.input(world, Input::Tick);
                    break;
                }
                self.cut_after = self.cut_after.map(|left| left - 1);
                let mut bytes = Vec::new();
                frame.encode(&mut bytes);
                self.input(world, Input::Bytes(&bytes));
            }
        }
    }

    fn leave(&mut self, world: &mut World) {
        if let Some(link) = self.link.take() {
            world.disconnect(link);
            self.input(world, Input::Disconnected("cut".to_owned()));
        }
    }

    fn input(&mut self, world: &mut World, input: Input<'_>) {
        let now = MonotonicMs(world.now.monotonic_ms);
        let mut effects = Effects::default();
        self.state.handle(now, 0, input, &mut effects);
        if effects.link == Some(client::Link::Open) {
            self.state.handle(now, 0, Input::Connected, &mut effects);
            return self.hello(world, &effects.bytes);
        }
        let asks = self.take(effects.events);
        if let Some(link) = self.link {
            world.bytes(link, &effects.bytes);
        }
        if asks {
            self.input(world, Input::Tick);
        }
    }

    fn hello(&mut self, world: &mut World, bytes: &[u8]) {
        let decoded = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32).decode(bytes, |raw| {
            if let Ok(ClientFrame::Hello { resume, epoch, since, skip_above, .. }) = ClientFrame::decode(raw) {
                self.link = Some(world.resume(ALICE, self.id, Resumption { resume, epoch, since, skip_above }));
            }
            ControlFlow::Continue(())
        });
        decoded.unwrap();
    }

    /// Asks for the page of the inbox before a place. Whether it could.
    fn ask(&mut self, before: Seq, limit: u64, messages: u64) -> bool {
        let asked = self.state.fetch_inbox(before, limit, messages).map(|fetch| (fetch, before));
        let is_asked = asked.is_ok();
        self.asked.extend(asked);
        is_asked
    }

    /// Whether it has asked for something.
    fn take(&mut self, events: Vec<ClientEvent>) -> bool {
        let mut asks = false;
        for event in events {
            match event {
                ClientEvent::Skipped { up_to, .. } => {
                    (self.list, self.since) = (Conversations::default(), up_to);
                    self.messages.clear();
                    asks |= self.ask(Seq::ZERO, 2, 3);
                }
                ClientEvent::Welcome(welcome) if self.since == Seq::ZERO && welcome.cursor == Seq::ZERO => {
                    asks |= self.ask(Seq::ZERO, 2, 3);
                }
                ClientEvent::Inbox { fetch, inbox } => {
                    let before = self.asked.iter().find(|(handle, _)| *handle == fetch).expect("it was asked for").1;
                    self.list.page(before, inbox);
                }
                ClientEvent::Page { page, .. } => page.entries.into_iter().for_each(|entry| self.hold(entry)),
                ClientEvent::Entry(entry) => {
                    if let Err(NotKnown { before }) = self.list.entry(&entry) {
                        asks |= self.ask(before, 1, 0);
                    }
                    self.hold(entry);
                }
                ClientEvent::Disconnected { reason, .. } => assert_eq!(reason.to_string(), "cut"),
                ClientEvent::Ended(reason) => panic!("{reason}"),
                _ => {}
            }
        }
        asks
    }

    fn hold(&mut self, entry: Entry) {
        let (Some(conversation), Some(place)) = (entry.event.conversation(), entry.concerns()) else { return };
        let messages = self.messages.entry(conversation).or_default();
        let (who, content) = match &entry.event {
            Event::Received { from, content, .. } => (*from, content),
            Event::Sent { content, .. } => (UserId(ALICE), content),
            _ => return,
        };
        if matches!(content, Content::Unsend(_)) {
            messages.retain(|(of, who), _| *of != place || who.is_none());
        }
        let held = messages.entry((place, entry.is_reaction().then_some(who))).or_insert_with(|| entry.clone());
        if held.seq < entry.seq {
            *held = entry;
        }
    }

    /// Somebody scrolls to the end of the list.
    fn see_the_whole_list(&mut self, world: &mut World) -> Vec<InboxRow> {
        while let Some(before) = self.list.older() {
            assert!(self.ask(before, 2, 0));
            self.run(world);
        }
        self.list.iter().cloned().collect()
    }

    /// Somebody looks at all that was ever said.
    fn see_all_messages(&mut self, world: &mut World) {
        let conversations: Vec<_> = self.list.iter().map(|row| row.conversation).collect();
        for conversation in conversations {
            self.state.fetch_conversation(conversation, Seq::ZERO, Direction::Backwards, 500).unwrap();
            self.run(world);
        }
    }
}

/// Alice and those she talks with, each with a device that writes.
struct People {
    world: World,
    links: BTreeMap<u64, Link>,
    numbers: BTreeMap<u64, u64>,
    /// What each has written, and to whom.
    written: BTreeMap<u64, Vec<(Seq, u64)>>,
    requests: u64,
}

impl People {
    fn new() -> Self {
        let mut world = World::new(2);
        let links = (1..=4).map(|user| (user, world.connect(user, 1, Resume::Stored))).collect();
        Self { world, links, numbers: BTreeMap::new(), written: BTreeMap::new(), requests: 0 }
    }

    fn say(&mut self, from: u64, to: u64, content: Content) {
        let number = self.numbers.entry(from).or_default();
        *number += 1;
        let (number, to_user) = (SendNumber(*number), UserId(to).into());
        let link = self.links[&from];
        let is_message = content.is_message();
        self.world.frame(link, &ClientFrame::Send { number, to: to_user, content });
        self.world.settle();
        let frames = self.world.take(link);
        match accepted(&frames).pop() {
            Some((_, seq)) if is_message => self.written.entry(from).or_default().push((Seq(seq), to)),
            Some(_) => {}
            // What was taken back can not be changed, and the number is used again.
            None => *self.numbers.entry(from).or_default() -= 1,
        }
    }

    fn act(&mut self, (what, other, some): (u8, u64, u64)) {
        // Alice is one side of everything.
        let (from, to) = if some % 2 == 0 { (ALICE, other) } else { (other, ALICE) };
        self.requests += 1;
        let (request, conversation) = (RequestId(self.requests), ConversationId::from(UserId(other)));
        match what {
            0..=4 => self.say(from, to, Content::text(&format!("text {}", self.requests))),
            14..=15 => {
                // To what either has written.
                let by = if some < 3 { from } else { to };
                let written = self.written.get(&by).map(Vec::as_slice).unwrap_or_default();
                let Some(at) = written.len().checked_sub(1 + some as usize / 2) else { return };
                let (seq, with) = written[at];
                if by == from && with != to || by == to && with != from {
                    return;
                }
                let name = MessageName { author: UserId(by), seq };
                self.say(from, to, Content::reaction(name, ["+1", "", "-1"][some as usize % 3], None));
            }
            5..=7 => {
                let written = self.written.get(&from).map(Vec::as_slice).unwrap_or_default();
                let Some(at) = written.len().checked_sub(1 + some as usize / 2) else { return };
                let (seq, to) = written[at];
                let name = MessageName { author: UserId(from), seq };
                let content = match what {
                    7 => Content::unsend(name, None),
                    _ => Content::edit(name, &Content::text(&format!("edit {}", self.requests)), None),
                };
                self.say(from, to, content);
            }
            8 => {
                let up_to = Seq(self.requests.saturating_sub(some));
                let frame = ClientFrame::MarkRead { request, conversation, up_to, tell: true };
                self.world.frame(self.links[&ALICE], &frame);
            }
            9 => {
                let conversation = UserId(ALICE).into();
                let frame = ClientFrame::MarkRead { request, conversation, up_to: Seq(u64::MAX), tell: true };
                self.world.frame(self.links[&other], &frame);
            }
            10 => {
                let bit = Settings::from_bits(1 << (some % 4));
                let (set, cleared) =
                    if some % 3 == 0 { (Settings::default(), bit) } else { (bit, Settings::default()) };
                self.world
                    .frame(self.links[&ALICE], &ClientFrame::SetConversation { request, conversation, set, cleared });
            }
            11 => {
                // It acknowledges what it was pushed, by coming back after it.
                let head = self.written.get(&other).and_then(|written| written.last()).map_or(0, |(seq, _)| seq.0);
                self.world.acknowledge(self.links[&other], head);
                flush(&mut self.world);
            }
            12 => self.world.ingest(),
            13 => {
                for _ in 0..some {
                    self.say(other, ALICE, Content::text("one of several"));
                }
            }
            other => unreachable!("{other} is nothing that anybody does"),
        }
        self.world.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Pushed live, pushed what is left of the log, and skipped with the rest, lost connections included: the list of conversations
    /// with all that it says is the same, and so is what is held of messages.
    #[test]
    fn a_device_that_skips_shows_what_one_shows_that_is_pushed_everything(
        acts in prop::collection::vec((0..16u8, 2..=4u64, 0..6u64), 1..60),
        (leaves, comes, later) in (0..60usize, 0..60usize, 0..60usize),
        (above, cut_after, cut_later) in (1..12u64, prop::option::of(0..12usize), prop::option::of(0..12usize)),
    ) {
        let mut people = People::new();
        let mut whole = Device::new(2, 0, None);
        // One is there from the beginning, one comes with the first long absence behind it, one was never there.
        let mut devices = [Device::new(3, above, cut_after), Device::new(4, above, cut_later)];
        let mut stands_by = true;
        for (at, act) in acts.into_iter().enumerate() {
            whole.run(&mut people.world);
            if stands_by && at < leaves || at >= comes.max(leaves) + later {
                devices[0].run(&mut people.world);
            } else {
                stands_by = false;
                devices[0].leave(&mut people.world);
            }
            people.act(act);
        }
        people.world.now.monotonic_ms += 60_000;
        whole.run(&mut people.world);
        let wanted = whole.see_the_whole_list(&mut people.world);
        let mut replayed = Device::new(5, 0, None);
        replayed.run(&mut people.world);
        prop_assert_eq!(&replayed.see_the_whole_list(&mut people.world), &wanted);
        prop_assert_eq!(&replayed.messages, &whole.messages);
        for device in &mut devices {
            device.run(&mut people.world);
            prop_assert_eq!(&device.see_the_whole_list(&mut people.world), &wanted, "device {}", device.id);
            for (conversation, messages) in &whole.messages {
                let held = device.messages.get(conversation).cloned().unwrap_or_default();
                for (place, entry) in messages {
                    match held.get(place) {
                        Some(held) => prop_assert_eq!(held, entry, "device {}", device.id),
                        None => prop_assert!(entry.seq <= device.since, "device {} lacks {:?}", device.id, entry),
                    }
                }
            }
            device.see_all_messages(&mut people.world);
            prop_assert_eq!(&device.messages, &whole.messages, "device {}", device.id);
        }
    }
}
