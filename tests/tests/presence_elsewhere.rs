//! Who is there, told from node to node: the shards of two nodes, each with a store of its own, and a link that loses whatever the test
//! wants. What a core makes of what comes through a link is tested there (`server/src/core/tests/links.rs`), and all of it together with
//! real processes (`cluster/main.rs`).
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{collections::VecDeque, mem, ops::ControlFlow, sync::Arc};

use proto_spec::{
    ClientFrame, Content, ConversationId, Decoder, DeviceId, ErrorCode, Presence, Recipient, RequestId, Resume,
    SendNumber, ServerFrame, Settings as Bits, Status, TimestampMs, UserId, Visibility, limits::SERVER_FRAME_BYTES_MAX,
};
use server::{
    access::handshake::Resumption,
    cluster::map::{Map, Slot},
    limits::{LOOK_MS, PRESENCE_NODE_USERS_MAX, TICK_MS, TYPING_EVERY_MS},
    shard::{
        ConnId, Connected, Effects, Envelope, Grant, Input, Now, PresenceMail, PresenceSettings, Shard,
        directory::Directory,
        presence::{Answer, Ask, Asked, Change, CoreAddress, LookId, PresenceNews, Sight, To, Verdict, Version},
        topology::{CoreId, NodeId},
    },
};
use storage::{LaneId, Query, Record};
use tests::{model::Model, pair};

const HOLD_MS: u64 = PresenceSettings::DEFAULT.hold_ms;
const GRACE_MS: u64 = PresenceSettings::DEFAULT.grace_ms;
/// Until a change has been told.
const TOLD_MS: u64 = PresenceSettings::DEFAULT.tick_ms + 2 * TICK_MS;

fn users(of: usize) -> impl Iterator<Item = UserId> {
    pair::users(NodeId(of as u16))
}

/// A shard, a store, and one user who is connected.
struct Node {
    shard: Shard,
    directory: Directory,
    effects: Effects,
    store: Model,
    me: UserId,
    conn: ConnId,
    decoder: Decoder,
    frames: Vec<ServerFrame>,
    last_number: u64,
    mesh: VecDeque<Envelope>,
    presence: VecDeque<Box<PresenceMail>>,
    /// Of how many users who is there has been read.
    reads: usize,
}

impl Node {
    fn new(own: usize) -> Self {
        Self {
            shard: shard(own),
            directory: Directory::default(),
            effects: Effects::default(),
            store: Model::default(),
            me: users(own).next().unwrap(),
            conn: ConnId { slot: 0, generation: 0 },
            decoder: Decoder::new(SERVER_FRAME_BYTES_MAX as u32),
            frames: Vec::new(),
            last_number: 0,
            mesh: VecDeque::new(),
            presence: VecDeque::new(),
            reads: 0,
        }
    }

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.shard.handle(now, input, &self.directory, &mut self.effects);
    }

    /// Ends a turn, and all that it asks for is done. Whether that was anything.
    fn turn(&mut self, now: Now) -> bool {
        self.shard.end_turn(now, &self.directory, &mut self.effects);
        let mut effects = mem::take(&mut self.effects);
        let mut is_any = false;
        for (_, id, batch) in effects.batches() {
            let records: Vec<Record> = storage::records(batch.bytes()).map(Result::unwrap).collect();
            records.iter().for_each(|record| self.store.apply(record));
            let lane = LaneId(0);
            self.shard.handle(now, Input::Released { lane, up_to: id }, &self.directory, &mut self.effects);
            self.shard.handle(now, Input::Stored { lane, up_to: id }, &self.directory, &mut self.effects);
            is_any = true;
        }
        for (user, registration) in effects.directory.drain(..) {
            self.directory.set(user, registration);
        }
        self.mesh.extend(effects.mesh.drain(..).map(|(_, envelope)| envelope));
        self.presence.append(&mut effects.presence.drain(..).collect());
        for (conn, range) in effects.sends.drain(..) {
            let bytes = &effects.bytes[range];
            let frames = &mut self.frames;
            self.decoder
                .decode(bytes, |raw| {
                    frames.push(ServerFrame::decode(raw).unwrap());
                    ControlFlow::Continue(())
                })
                .unwrap();
            let sent = bytes.len();
            self.feed(now, Input::Sent { conn, bytes: sent });
            is_any = true;
        }
        for (query, what) in effects.queries.drain(..) {
            if let Query::Presence { users, .. } = &what {
                self.reads += users.len();
            }
            let answer = self.store.answer(&what);
            self.feed(now, Input::Answer { query, answer: Some(answer) });
            is_any = true;
        }
        is_any || !self.mesh.is_empty() || !self.presence.is_empty()
    }
}

fn shard(own: usize) -> Shard {
    pair::shard(NodeId(own as u16))
}

/// See the head of this file. Alice is the user of node 0, Bob that of node 1.
struct Two {
    nodes: [Node; 2],
    now: Now,
    serial: u64,
    is_linked: bool,
    /// What is said of presence is lost until this is cleared.
    is_lost: bool,
}

/// A core of Alice's node beside hers.
const SPY: CoreAddress = CoreAddress { node: NodeId(0), core: CoreId(7) };

const ALICE: usize = 0;
const BOB: usize = 1;

impl Two {
    /// Both are there for long, know each other, and each watches the other.
    fn new() -> Self {
        let mut two = Self::strangers();
        for at in [ALICE, BOB] {
            two.say(at);
        }
        for at in [ALICE, BOB] {
            assert_eq!(two.watch(at), Presence::Online);
            two.nodes[at].frames.clear();
        }
        two
    }

    /// Both are there for long.
    fn strangers() -> Self {
        let now = Now { monotonic_ms: 100_000, wall: TimestampMs(1_760_000_000_000) };
        let mut two = Self { nodes: [0, 1].map(Node::new), now, serial: 0, is_linked: false, is_lost: false };
        two.link(true);
        [ALICE, BOB].iter().for_each(|at| two.connect(*at));
        two.wait(2 * GRACE_MS);
        two
    }

    fn user(&self, at: usize) -> UserId {
        self.nodes[at].me
    }

    /// The other one.
    fn whom(&self, at: usize) -> UserId {
        self.nodes[1 - at].me
    }

    fn feed(&mut self, at: usize, input: Input<'_>) {
        self.nodes[at].feed(self.now, input);
        self.run();
    }

    fn run(&mut self) {
        loop {
            let mut is_any = false;
            for at in [0, 1] {
                is_any |= self.nodes[at].turn(self.now);
                let [mesh, presence] = [!self.is_linked, !self.is_linked || self.is_lost];
                let envelopes = mem::take(&mut self.nodes[at].mesh);
                for envelope in envelopes.into_iter().filter(|_| !mesh) {
                    self.nodes[1 - at].feed(self.now, Input::Envelope(envelope));
                }
                let mails = mem::take(&mut self.nodes[at].presence);
                for mail in mails.into_iter().filter(|_| !presence) {
                    assert_eq!((mail.from.node, mail.to.node()), (NodeId(at as u16), Some(NodeId(1 - at as u16))));
                    let PresenceMail { from, news, .. } = *mail;
                    let mail = PresenceMail { from, to: To::Core(CoreId(0)), news };
                    self.nodes[1 - at].feed(self.now, Input::Presence(Box::new(mail)));
                }
            }
            if !is_any {
                return;
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..=ms / TICK_MS {
            self.now.monotonic_ms += TICK_MS;
            self.now.wall.0 += TICK_MS;
            [0, 1].iter().for_each(|at| self.nodes[*at].feed(self.now, Input::Tick));
            self.run();
        }
    }

    fn link(&mut self, is_up: bool) {
        self.serial += u64::from(is_up);
        self.is_linked = is_up;
        for at in [0, 1] {
            self.feed(at, Input::Link { node: NodeId(1 - at as u16), serial: self.serial, is_up });
        }
    }

    fn connect(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.conn.generation += 1;
        node.decoder = Decoder::new(SERVER_FRAME_BYTES_MAX as u32);
        let (conn, user) = (node.conn, node.me);
        let resumption = Resumption::whole(Resume::Stored);
        let grant = Grant { expires: TimestampMs(u64::MAX), issued: TimestampMs(0) };
        let connected = Connected { conn, user, device: DeviceId(1), version: 1, resumption, grant, follows: None };
        self.feed(at, Input::Connected(connected));
    }

    /// A node is killed and starts anew.
    fn restart(&mut self, at: usize) {
        self.link(false);
        self.nodes[at].shard = shard(at);
        self.nodes[at].directory = Directory::default();
        self.connect(at);
        self.link(true);
    }

    fn frame(&mut self, at: usize, frame: &ClientFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.feed(at, Input::Bytes { conn: self.nodes[at].conn, bytes: &bytes });
    }

    /// Writes to the other one, and is told whether they are there.
    fn say(&mut self, at: usize) -> Option<Recipient> {
        self.nodes[at].last_number += 1;
        let (number, content) = (SendNumber(self.nodes[at].last_number), Content::text("hello"));
        let to = self.whom(at).into();
        self.frame(at, &ClientFrame::Send { number, to, content });
        self.nodes[at].frames.iter().rev().find_map(|frame| match frame {
            ServerFrame::Accepted { recipient, .. } => Some(*recipient),
            _ => None,
        })
    }

    fn block(&mut self, at: usize, is_blocked: bool) {
        let (bits, none) = (Bits::default().changed(Bits::BLOCKED, Bits::default()), Bits::default());
        let (set, cleared) = if is_blocked { (bits, none) } else { (none, bits) };
        let conversation = ConversationId::from(self.whom(at));
        self.frame(at, &ClientFrame::SetConversation { request: RequestId(4), conversation, set, cleared });
    }

    fn hide(&mut self, at: usize, is_hidden: bool) {
        let (bits, none) = (Visibility::INVISIBLE, Visibility::default());
        let (set, cleared) = if is_hidden { (bits, none) } else { (none, bits) };
        self.frame(at, &ClientFrame::SetVisibility { request: RequestId(3), set, cleared });
    }

    /// Watches the other one.
    fn watch(&mut self, at: usize) -> Presence {
        let users = vec![self.whom(at)];
        self.frame(at, &ClientFrame::Watch { request: RequestId(1), users });
        self.answer(at, 1).unwrap()
    }

    /// Somebody asks (2) and watches (1), and has not been answered.
    fn asks_and_watches(&mut self, at: usize, whom: UserId) {
        self.frame(at, &ClientFrame::FetchPresence { request: RequestId(2), users: vec![whom] });
        self.frame(at, &ClientFrame::Watch { request: RequestId(1), users: vec![whom] });
    }

    fn pull(&mut self, at: usize, whom: UserId) -> Presence {
        self.frame(at, &ClientFrame::FetchPresence { request: RequestId(2), users: vec![whom] });
        self.answer(at, 2).unwrap()
    }

    /// The answer to a request, if there is one.
    fn answer(&mut self, at: usize, request: u64) -> Option<Presence> {
        let is_it = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { request: of, .. } if of.0 == request);
        let place = self.nodes[at].frames.iter().position(is_it)?;
        match self.nodes[at].frames.remove(place) {
            ServerFrame::Presence { states, .. } => Some(states[0].state),
            _ => None,
        }
    }

    /// What was pushed of the other one since.
    fn pushed(&mut self, at: usize) -> Vec<Presence> {
        let whom = self.whom(at);
        let frames = mem::take(&mut self.nodes[at].frames);
        let states = frames.into_iter().filter_map(|frame| match frame {
            ServerFrame::Presence { request: RequestId(0), states, .. } => Some(states),
            _ => None,
        });
        states.flatten().filter(|state| state.user == whom).map(|state| state.state).collect()
    }

    /// Another core of Alice's node, which somebody has taken over, asks about Bob as somebody who watches. What it is told.
    fn asked_by_a_spy(&mut self, looks: UserId, verdict: Option<Verdict>) -> Vec<PresenceNews> {
        let asked = Asked { user: self.user(BOB), verdict, count: 1, blocks: Some(false) };
        let asks = vec![Ask { look: LookId(1), looks, users: vec![asked] }];
        let news = PresenceNews { asks, ..PresenceNews::default() };
        let mail = PresenceMail { from: SPY, to: To::Core(CoreId(0)), news };
        self.nodes[BOB].feed(self.now, Input::Presence(Box::new(mail)));
        self.told_the_spy()
    }

    /// What Bob's node has to say by now, as far as it is for the spy. The rest is lost.
    fn told_the_spy(&mut self) -> Vec<PresenceNews> {
        let mut said = Vec::new();
        while self.nodes[BOB].turn(self.now) {
            self.nodes[BOB].mesh.clear();
            said.extend(mem::take(&mut self.nodes[BOB].presence));
        }
        said.into_iter().filter(|mail| mail.to == To::Viewer(SPY)).map(|mail| mail.news).collect()
    }

    /// Types to the other one; whether that is told.
    fn types(&mut self, at: usize) -> bool {
        self.wait(TYPING_EVERY_MS);
        self.nodes[1 - at].frames.clear();
        let conversation = self.whom(at).into();
        self.frame(at, &ClientFrame::Typing { conversation });
        self.nodes[1 - at].frames.iter().any(|frame| matches!(frame, ServerFrame::Typing { .. }))
    }
}

#[test]
fn who_may_know_is_told_of_users_of_other_nodes_and_of_each_change() {
    let mut two = Two::new();
    assert_eq!(two.pull(ALICE, two.user(BOB)), Presence::Online);
    two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
    two.wait(HOLD_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Away]);
    assert_eq!(two.say(ALICE), Some(Recipient::Online));
    let conn = two.nodes[BOB].conn;
    two.feed(BOB, Input::Disconnected { conn });
    two.wait(HOLD_MS);
    assert_eq!(two.pushed(ALICE), [], "they may come back");
    two.wait(GRACE_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Offline]);
    assert_eq!(two.say(ALICE), Some(Recipient::Offline));
    two.connect(BOB);
    two.wait(HOLD_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Online]);
    two.frame(BOB, &ClientFrame::Bye);
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Offline]);
}

#[test]
fn who_writes_for_the_first_time_is_told_at_once_whether_the_other_is_there() {
    for who in [ALICE, BOB] {
        let mut two = Two::strangers();
        assert_eq!(two.watch(ALICE), Presence::Unknown);
        two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
        two.wait(HOLD_MS + TOLD_MS);
        assert_eq!(two.pushed(ALICE), []);
        two.say(who);
        two.wait(TOLD_MS);
        assert_eq!(two.pushed(ALICE), [Presence::Away]);
    }
}

#[test]
fn who_hides_or_blocks_or_is_blocked_is_nobody_for_users_of_other_nodes() {
    for (what, by) in [(Two::hide as fn(&mut Two, usize, bool), BOB), (Two::block, BOB), (Two::block, ALICE)] {
        let mut two = Two::new();
        what(&mut two, by, true);
        two.wait(TOLD_MS);
        assert_eq!(two.pushed(ALICE), [Presence::Unknown]);
        assert_eq!(two.say(ALICE), Some(Recipient::Offline));
        assert!(!two.types(ALICE) && !two.types(BOB), "each has to see the other");
        assert_eq!(two.pull(ALICE, two.user(BOB)), Presence::Unknown);
        what(&mut two, by, false);
        two.wait(2 * TOLD_MS);
        assert_eq!(two.pushed(ALICE), [Presence::Online]);
        assert!(two.types(ALICE) && two.types(BOB));
    }
}

#[test]
fn a_change_that_is_lost_makes_a_view_old_and_lets_nobody_type_who_hides() {
    let mut two = Two::new();
    two.is_lost = true;
    two.hide(BOB, true);
    two.is_lost = false;
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), [], "it is not known");
    assert!(!two.types(BOB), "the home of who types knows it");
    assert!(!two.types(ALICE), "so does that of who would be told");
    assert_eq!(two.watch(ALICE), Presence::Unknown);
}

#[test]
fn whom_somebody_blocks_is_known_after_a_start_though_the_other_store_has_it_not() {
    let mut two = Two::new();
    two.block(ALICE, true);
    two.restart(ALICE);
    assert_eq!(two.pull(ALICE, two.user(BOB)), Presence::Unknown);
    assert_eq!(two.watch(ALICE), Presence::Unknown);
    two.block(ALICE, false);
    two.restart(ALICE);
    assert_eq!(two.watch(ALICE), Presence::Online);
}

#[test]
fn of_a_node_that_is_away_nothing_is_known_with_the_next_question_and_all_when_it_is_back() {
    let mut two = Two::new();
    two.link(false);
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), [], "it may be back soon");
    assert_eq!(two.watch(ALICE), Presence::Unknown);
    assert_eq!(two.say(ALICE), Some(Recipient::Offline));
    assert!(!two.types(ALICE));
    two.nodes[ALICE].frames.clear();
    for _ in 0..5 {
        two.wait(10 * TICK_MS);
        assert!(!two.nodes[ALICE].shard.has_due(two.now), "it would be asked again and again");
    }
    two.link(true);
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Online]);
    // Whoever did not ask meanwhile is told nothing else.
    two.link(false);
    two.link(true);
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), []);
    two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
    two.wait(HOLD_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Away], "the home knows again who watches");
    two.frame(BOB, &ClientFrame::Bye);
    two.wait(TOLD_MS);
    let people = |two: &Two| two.nodes[BOB].shard.counters().presence_people;
    assert_eq!(people(&two), 1, "Bob is watched");
    two.link(false);
    assert_eq!(people(&two), 0);
}

#[test]
fn a_node_that_starts_anew_knows_again_who_watches() {
    let mut two = Two::new();
    two.restart(BOB);
    two.wait(HOLD_MS + TOLD_MS);
    two.pushed(ALICE);
    assert_eq!(two.pull(ALICE, two.user(BOB)), Presence::Online);
    two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
    two.wait(HOLD_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Away]);
    assert_eq!(two.watch(BOB), Presence::Online);
    assert!(two.types(BOB) && two.types(ALICE));
}

#[test]
fn a_question_that_another_node_does_not_answer_leaves_the_others_answered() {
    let mut two = Two::new();
    two.is_lost = true;
    let users = vec![two.user(BOB), two.user(ALICE)];
    two.frame(ALICE, &ClientFrame::FetchPresence { request: RequestId(7), users: users.clone() });
    two.frame(ALICE, &ClientFrame::Watch { request: RequestId(8), users });
    two.wait(LOOK_MS / 2);
    assert!(two.nodes[ALICE].frames.is_empty());
    two.wait(LOOK_MS);
    let states = |request: u64, two: &Two| {
        let of = |frame: &ServerFrame| match frame {
            ServerFrame::Presence { request: of, states, .. } if of.0 == request => {
                Some(states.iter().map(|state| state.state).collect::<Vec<_>>())
            }
            _ => None,
        };
        two.nodes[ALICE].frames.iter().find_map(of)
    };
    for request in [7, 8] {
        assert_eq!(states(request, &two), Some(vec![Presence::Unknown, Presence::Online]));
    }
    let is_error = |frame: &ServerFrame| matches!(frame, ServerFrame::Error { code: ErrorCode::Overloaded, .. });
    assert!(!two.nodes[ALICE].frames.iter().any(is_error));
    two.is_lost = false;
    assert_eq!(two.watch(ALICE), Presence::Online);
}

#[test]
fn a_node_that_can_not_say_spoils_no_question() {
    let mut two = Two::new();
    let from = CoreAddress { node: NodeId(1), core: CoreId(0) };
    let answers = (1..=100).map(|look| Answer { look: LookId(look), told: None }).collect();
    let news = PresenceNews { answers, ..PresenceNews::default() };
    let (me, to) = (two.user(ALICE), To::Core(CoreId(0)));
    let frame = ClientFrame::FetchPresence { request: RequestId(7), users: vec![two.user(BOB), me] };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let conn = two.nodes[ALICE].conn;
    // It comes while the question is under way.
    two.nodes[ALICE].feed(two.now, Input::Bytes { conn, bytes: &bytes });
    two.nodes[ALICE].feed(two.now, Input::Presence(Box::new(PresenceMail { from, to, news })));
    two.run();
    assert_eq!(two.answer(ALICE, 7), Some(Presence::Online), "{:?}", two.nodes[ALICE].frames);
}

#[test]
fn a_node_that_asks_very_much_is_told_that_it_is_too_much() {
    let mut two = Two::new();
    let to = To::Core(CoreId(0));
    let asked = |user| Asked { user, verdict: None, count: 0, blocks: Some(false) };
    let all: Vec<_> = users(BOB).take(PRESENCE_NODE_USERS_MAX + 500).collect();
    let ask_by = |node: u16, look: u64, two: &mut Two, of: &[UserId]| {
        let from = CoreAddress { node: NodeId(node), core: CoreId(0) };
        let users = of.iter().copied().map(asked).collect();
        let asks = vec![Ask { look: LookId(look), looks: two.user(ALICE), users }];
        let news = PresenceNews { asks, ..PresenceNews::default() };
        two.nodes[BOB].feed(two.now, Input::Presence(Box::new(PresenceMail { from, to, news })));
    };
    let ask = |look, two: &mut Two, of: &[UserId]| ask_by(0, look, two, of);
    // All of them before the store has answered one.
    for (look, of) in (1_000..).zip(all.chunks(500)) {
        ask(look, &mut two, of);
    }
    let told = |two: &mut Two| {
        let mut said = Vec::new();
        while two.nodes[BOB].turn(two.now) {
            let mail = mem::take(&mut two.nodes[BOB].presence);
            let answers = mail.iter().flat_map(|mail| &mail.news.answers);
            said.extend(answers.map(|answer| (answer.look.0, answer.told.is_some())));
        }
        said.sort_unstable();
        said
    };
    // Another one has room of its own.
    ask_by(2, 999, &mut two, &all[..500]);
    let mut answered: Vec<_> = told(&mut two);
    assert_eq!(answered.remove(0), (999, true));
    assert_eq!(answered.iter().filter(|(_, is_told)| *is_told).count(), PRESENCE_NODE_USERS_MAX / 500);
    assert_eq!(answered.last(), Some(&(1_000 + PRESENCE_NODE_USERS_MAX as u64 / 500, false)));
    ask(2_000, &mut two, &all[..500]);
    assert_eq!(told(&mut two), [(2_000, true)], "when they have been answered there is room again");
}

#[test]
fn it_costs_the_same_to_ask_about_somebody_and_about_nobody() {
    let mut two = Two::new();
    let strangers: Vec<_> = users(BOB).skip(1).take(2).collect();
    let nobody = users(BOB).nth(1_000).unwrap();
    two.block(BOB, true);
    let mut costs = Vec::new();
    for whom in [two.user(BOB), strangers[0], strangers[1], nobody] {
        let before = [ALICE, BOB].map(|at| two.nodes[at].reads);
        assert_eq!(two.pull(ALICE, whom), Presence::Unknown);
        costs.push([ALICE, BOB].map(|at| two.nodes[at].reads - before[at]));
    }
    // Where nodes have stores of their own, one read at who looks for whom they block, unless that is in memory.
    assert!(costs.iter().all(|cost| cost[1] == 1), "{costs:?}");
    assert!(costs[1..].iter().all(|cost| cost[0] == 1), "{costs:?}");
    // A watch that is renewed reads nothing.
    let mut two = Two::new();
    let before = [ALICE, BOB].map(|at| two.nodes[at].reads);
    assert_eq!(two.watch(ALICE), Presence::Online);
    assert_eq!([ALICE, BOB].map(|at| two.nodes[at].reads), before);
}

#[test]
fn a_node_is_not_believed_what_its_users_may_see() {
    let mut two = Two::new();
    let stranger = users(ALICE).nth(5).unwrap();
    let version = two.nodes[BOB].directory.version(two.user(BOB)).unwrap();
    let said = two.asked_by_a_spy(stranger, Some(Verdict { version, may: true }));
    let answers: Vec<_> = said.iter().flat_map(|mail| &mail.answers).collect();
    let told = answers[0].told.as_ref().unwrap()[0];
    assert_eq!((told.verdict.may, told.sight), (false, Sight::NONE));
    // Nor is it told that Bob comes and goes.
    two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
    let mut said = Vec::new();
    for _ in 0..2 * HOLD_MS / TICK_MS {
        two.now.monotonic_ms += TICK_MS;
        two.nodes[BOB].feed(two.now, Input::Tick);
        two.nodes[BOB].turn(two.now);
        said.extend(mem::take(&mut two.nodes[BOB].presence));
    }
    let to: Vec<_> = said.iter().map(|mail| mail.to).collect();
    assert_eq!(to, [To::Viewer(CoreAddress { node: NodeId(0), core: CoreId(0) })], "Alice's core alone");
}

#[test]
fn what_a_node_is_told_of_whom_it_may_not_see_is_the_same_whether_they_are_there_or_not() {
    let ways = [(Two::hide as fn(&mut Two, usize, bool), true), (Two::block, true), (Two::block, false)];
    for (what, is_done) in ways {
        let is_stranger = !is_done;
        let [there, gone] = [true, false].map(|is_there| {
            let mut two = if is_stranger { Two::strangers() } else { Two::new() };
            let version = two.nodes[BOB].directory.version(two.user(BOB)).unwrap();
            what(&mut two, BOB, is_done);
            if !is_there {
                two.frame(BOB, &ClientFrame::Bye);
                two.frame(ALICE, &ClientFrame::Watch { request: RequestId(1), users: Vec::new() });
            }
            two.wait(GRACE_MS);
            // Whoever was told a version while there was something to see may go on saying so.
            let verdict = Some(Verdict { version, may: true });
            let before = two.nodes[BOB].reads;
            let alice = two.user(ALICE);
            let said: Vec<_> = (0..2).flat_map(|_| two.asked_by_a_spy(alice, verdict)).collect();
            assert_eq!(two.nodes[BOB].reads - before, 2, "nothing is answered without the store");
            said
        });
        assert_eq!(there, gone);
        let told = there[0].answers[0].told.as_ref().unwrap()[0];
        assert_eq!((told.verdict.version, told.sight), (Version::UNTOLD, Sight::NONE));
    }
}

#[test]
fn a_node_that_may_see_nothing_is_told_of_its_own_users_alone_that_they_may_see_something_now() {
    let mut two = Two::new();
    two.hide(BOB, true);
    let (alice, stranger) = (two.user(ALICE), users(ALICE).nth(5).unwrap());
    two.asked_by_a_spy(alice, None);
    let block = |two: &mut Two, whom: UserId| {
        let set = Bits::default().changed(Bits::BLOCKED, Bits::default());
        let frame = ClientFrame::SetConversation {
            request: RequestId(4),
            conversation: whom.into(),
            set,
            cleared: Bits::default(),
        };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let conn = two.nodes[BOB].conn;
        two.nodes[BOB].feed(two.now, Input::Bytes { conn, bytes: &bytes });
        two.told_the_spy()
    };
    assert_eq!(block(&mut two, users(BOB).nth(1).unwrap()), [], "of others it would hear that Bob is there");
    let said = block(&mut two, stranger);
    let [PresenceNews { changes, .. }] = &said[..] else { panic!("{said:?}") };
    let (version, before) = (Version::UNTOLD, Version::UNTOLD);
    let change = Change { user: two.user(BOB), sight: Sight::NONE, version, before, only: Some(stranger) };
    assert_eq!(changes[..], [change]);
}

#[test]
fn who_may_not_see_is_not_asked_for_again_and_sees_when_they_may_in_whichever_version() {
    let mut two = Two::new();
    two.block(BOB, true);
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Unknown]);
    let before = two.nodes[BOB].reads;
    two.wait(10 * TOLD_MS);
    assert_eq!(two.nodes[BOB].reads, before);
    // Bob's node starts anew with a clock that is behind.
    two.now.wall.0 -= 1_000_000;
    two.restart(BOB);
    two.wait(HOLD_MS);
    two.block(BOB, false);
    two.wait(2 * TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Online]);
}

#[test]
fn what_was_asked_through_a_link_that_has_ended_is_asked_again_through_the_next_one() {
    let mut two = Two::new();
    two.is_lost = true;
    two.asks_and_watches(ALICE, two.user(BOB));
    two.link(false);
    two.is_lost = false;
    two.wait(LOOK_MS / 2);
    assert_eq!((two.answer(ALICE, 2), two.answer(ALICE, 1)), (None, None));
    two.link(true);
    assert_eq!(two.answer(ALICE, 2), Some(Presence::Online));
    assert_eq!(two.answer(ALICE, 1), Some(Presence::Online), "what was told stands");
    two.wait(LOOK_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [], "and it is so");
    two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
    two.wait(HOLD_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Away], "the home knows again who watches");
}

#[test]
fn what_was_asked_of_a_node_that_has_lost_the_user_is_asked_of_who_has_them_now() {
    let mut two = Two::new();
    two.is_lost = true;
    two.asks_and_watches(ALICE, two.user(BOB));
    let reads = two.nodes[ALICE].reads;
    let (mut nodes, moved) = (pair::nodes(), Slot::of(two.user(BOB)));
    let before = nodes.map.clone();
    nodes.map = Map::of(|slot| Some(if slot == moved { NodeId(0) } else { before.owner(slot) })).unwrap();
    two.feed(ALICE, Input::Owners(Arc::new(nodes)));
    assert_eq!(two.answer(ALICE, 2), Some(Presence::Unknown), "nobody knows of Bob here");
    assert_eq!(two.answer(ALICE, 1), Some(Presence::Online), "what was told stands");
    two.wait(TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Unknown], "until it is known better");
    assert_eq!(two.nodes[ALICE].reads - reads, 2);
}

#[test]
fn what_a_node_is_too_busy_to_say_is_asked_again_by_who_watches() {
    let mut two = Two::new();
    let (from, bob) = (CoreAddress { node: NodeId(1), core: CoreId(0) }, two.user(BOB));
    two.is_lost = true;
    two.frame(ALICE, &ClientFrame::Watch { request: RequestId(1), users: vec![bob] });
    let answers = (1..=100).map(|look| Answer { look: LookId(look), told: None }).collect();
    let news = PresenceNews { answers, ..PresenceNews::default() };
    let to = To::Core(CoreId(0));
    two.feed(ALICE, Input::Presence(Box::new(PresenceMail { from, to, news })));
    two.is_lost = false;
    assert_eq!(two.answer(ALICE, 1), Some(Presence::Online), "what was told stands");
    two.wait(LOOK_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), []);
    two.frame(BOB, &ClientFrame::SetStatus { status: Status::Away });
    two.wait(HOLD_MS + TOLD_MS);
    assert_eq!(two.pushed(ALICE), [Presence::Away]);
}
