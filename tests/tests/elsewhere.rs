//! A shard whose users write to users of another node: what leaves for there, when, and what becomes of it when links end. The other node
//! is a model: it takes what comes in its order, and may lose whatever is on its way when a link ends.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{collections::BTreeMap, mem};

use proto_spec::{ClientFrame, Content, DeviceId, RequestId, Resume, SendNumber, Seq, TimestampMs, UserId};
use server::{
    access::handshake::Resumption,
    limits::{ASK_AGAIN_MS, RECEIPT_DELAY_MS, TICK_MS},
    shard::{
        ConnId, Connected, Effects, Envelope, EnvelopeBody, Grant, Input, Now, Parcel, Shard, directory::Directory,
        topology::NodeId,
    },
};
use storage::{BatchId, LaneId, MemoryStore, answer, contract::block_on};
use tests::{
    pair::{shard, users},
    rng::Rng,
};

const HERE: NodeId = NodeId(0);
const THERE: NodeId = NodeId(1);
const CONN: ConnId = ConnId { slot: 0, generation: 1 };
/// A shard of this node, with one user who is connected, and a store that has nothing.
struct Node {
    shard: Shard,
    directory: Directory,
    effects: Effects,
    now: Now,
    store: MemoryStore,
    me: UserId,
    last_number: u64,
    synced: BatchId,
    /// Written and not synced.
    written: BatchId,
    /// On its way to the other node.
    mesh: Vec<Envelope>,
}

impl Node {
    fn new() -> Self {
        let me = users(HERE).next().unwrap();
        let mut node = Self {
            shard: shard(HERE),
            directory: Directory::default(),
            effects: Effects::default(),
            now: Now { monotonic_ms: 1_000, wall: TimestampMs(1_760_000_000_000) },
            store: MemoryStore::default(),
            me,
            last_number: 0,
            synced: BatchId(0),
            written: BatchId(0),
            mesh: Vec::new(),
        };
        let resumption = Resumption::whole(Resume::Stored);
        let grant = Grant { expires: TimestampMs(u64::MAX), issued: TimestampMs(0) };
        let connected =
            Connected { conn: CONN, user: me, device: DeviceId(1), version: 1, resumption, grant, follows: None };
        node.feed(Input::Connected(connected));
        node.run();
        node.sync();
        node
    }

    fn feed(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &self.directory, &mut self.effects);
    }

    /// Ends turns until nothing more follows; what is written is not synced by that.
    fn run(&mut self) {
        loop {
            self.shard.end_turn(self.now, &self.directory, &mut self.effects);
            let written = self.effects.batches().map(|(_, id, _)| id).max();
            self.written = written.unwrap_or(self.written);
            self.mesh.extend(self.effects.mesh.drain(..).map(|(node, envelope)| {
                assert_eq!(node, THERE);
                envelope
            }));
            let queries = mem::take(&mut self.effects.queries);
            let sent: usize = self.effects.sends.iter().map(|(_, range)| range.len()).sum();
            self.effects.clear();
            if queries.is_empty() && sent == 0 && written.is_none() {
                return;
            }
            if sent > 0 {
                self.feed(Input::Sent { conn: CONN, bytes: sent });
            }
            for (query, what) in queries {
                let answer = block_on(answer(&self.store, &what)).ok();
                self.feed(Input::Answer { query, answer });
            }
        }
    }

    /// The disk has everything that was written.
    fn sync(&mut self) {
        while self.synced < self.written {
            self.synced = self.written;
            self.feed(Input::Released { lane: LaneId(0), up_to: self.synced });
            self.run();
        }
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..=ms / TICK_MS {
            self.now.monotonic_ms += TICK_MS;
            self.now.wall.0 += TICK_MS;
            self.feed(Input::Tick);
            self.run();
        }
    }

    fn link(&mut self, serial: u64, is_up: bool) {
        self.feed(Input::Link { node: THERE, serial, is_up });
        self.run();
    }

    fn frame(&mut self, frame: &ClientFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.feed(Input::Bytes { conn: CONN, bytes: &bytes });
        self.run();
    }

    fn say(&mut self, to: UserId) {
        self.last_number += 1;
        let (number, content) = (SendNumber(self.last_number), Content::text("hello"));
        self.frame(&ClientFrame::Send { number, to: to.into(), content });
    }

    fn hear(&mut self, from: UserId, body: EnvelopeBody) {
        self.feed(Input::Envelope(Envelope { to: self.me, from, body }));
        self.run();
    }

    /// The seqs of the messages that are on their way to a user, and what each names as the one before it.
    fn on_the_way(&self, whom: UserId) -> Vec<(u64, u64)> {
        let messages = self.mesh.iter().filter(|envelope| envelope.to == whom).filter_map(|envelope| {
            let EnvelopeBody::Forward { origin, after, parcel: Parcel::Message(_) } = envelope.body else {
                return None;
            };
            Some((origin.0, after.0))
        });
        messages.collect()
    }

    fn confirm(&mut self, from: UserId, origin: u64) {
        self.hear(from, EnvelopeBody::Forwarded { origin: Seq(origin), is_unwanted: false });
    }
}

fn other() -> UserId {
    users(THERE).next().unwrap()
}

#[test]
fn a_message_leaves_for_another_node_when_it_is_durable_here_and_not_before() {
    let (mut node, bob) = (Node::new(), other());
    node.link(1, true);
    node.say(bob);
    node.say(bob);
    assert_eq!(node.on_the_way(bob), [], "a crash could take them back");
    node.sync();
    assert_eq!(node.on_the_way(bob), [(1, 0), (2, 1)]);
    // Inside the node everything is in one order.
    let neighbour = users(HERE).nth(1).unwrap();
    node.say(neighbour);
    assert_eq!(node.mesh.len(), 2);
}

#[test]
fn what_is_written_while_there_is_no_link_goes_out_with_the_next_one_in_its_order() {
    let (mut node, bob) = (Node::new(), other());
    for _ in 0..3 {
        node.say(bob);
        node.sync();
    }
    node.wait(10 * ASK_AGAIN_MS);
    assert_eq!(node.on_the_way(bob), []);
    assert!(node.shard.counters().unreachable > 0);
    node.link(1, true);
    node.wait(2 * ASK_AGAIN_MS);
    assert_eq!(node.on_the_way(bob), [(1, 0)], "one, until it has taken one");
    node.confirm(bob, 1);
    assert_eq!(node.on_the_way(bob), [(1, 0), (2, 0), (3, 2)]);
}

#[test]
fn what_was_on_its_way_when_a_link_ended_goes_out_again_unless_it_was_answered() {
    let (mut node, bob) = (Node::new(), other());
    node.link(1, true);
    node.say(bob);
    node.say(bob);
    node.sync();
    node.confirm(bob, 1);
    node.mesh.clear();
    node.link(1, false);
    node.wait(3 * ASK_AGAIN_MS);
    assert_eq!(node.on_the_way(bob), []);
    node.link(2, true);
    node.wait(2 * ASK_AGAIN_MS);
    assert_eq!(node.on_the_way(bob), [(2, 0)]);
}

#[test]
fn a_newer_link_means_that_the_older_one_is_lost_and_news_of_older_ones_mean_nothing() {
    let (mut node, bob) = (Node::new(), other());
    node.link(1, true);
    node.say(bob);
    node.sync();
    node.mesh.clear();
    // Its end is told later, by another core.
    node.link(2, true);
    node.wait(2 * ASK_AGAIN_MS);
    assert_eq!(node.on_the_way(bob), [(1, 0)]);
    node.link(1, false);
    node.mesh.clear();
    node.confirm(bob, 1);
    node.say(bob);
    node.sync();
    assert_eq!(node.on_the_way(bob), [(2, 0)], "the node can be reached");
}

#[test]
fn an_author_of_another_node_is_told_that_a_message_has_arrived_again_when_the_link_was_lost() {
    let (mut node, bob) = (Node::new(), other());
    node.link(1, true);
    let parcel = Parcel::Message(Content::text("hello"));
    node.hear(bob, EnvelopeBody::Forward { origin: Seq(1), after: Seq::ZERO, parcel });
    assert!(node.mesh.is_empty(), "it is not durable");
    node.sync();
    assert!(matches!(node.mesh[..], [Envelope { body: EnvelopeBody::Forwarded { origin: Seq(1), .. }, .. }]));
    node.mesh.clear();
    node.frame(&ClientFrame::Acknowledge { seq: Seq(1) });
    node.wait(2 * RECEIPT_DELAY_MS);
    let is_report = |node: &Node| {
        node.mesh.iter().any(|envelope| matches!(envelope.body, EnvelopeBody::Receipt { up_to: Seq(1), .. }))
    };
    assert!(is_report(&node));
    node.mesh.clear();
    node.link(1, false);
    node.wait(2 * ASK_AGAIN_MS);
    node.link(2, true);
    node.wait(2 * ASK_AGAIN_MS);
    assert!(is_report(&node), "the first one may have been lost");
    node.mesh.clear();
    node.hear(bob, EnvelopeBody::Receipted { received_as: Seq(1) });
    node.link(2, false);
    node.link(3, true);
    node.wait(2 * ASK_AGAIN_MS);
    assert!(!is_report(&node), "it was answered");
}

#[test]
fn who_watches_somebody_of_a_node_that_says_nothing_does_not_ask_again_and_again() {
    let (mut node, neighbour) = (Node::new(), users(HERE).nth(1).unwrap());
    node.link(1, true);
    node.frame(&ClientFrame::Watch { request: RequestId(1), users: vec![other(), neighbour] });
    for _ in 0..5 {
        node.wait(10 * TICK_MS);
        assert!(!node.shard.has_due(node.now), "it would be asked again and again");
    }
    assert!(node.mesh.is_empty());
}

/// The home of users of the other node: exactly once, in order, or not now.
#[derive(Default)]
struct Model {
    /// By user: the last that has arrived, and all that have.
    received: BTreeMap<UserId, Vec<u64>>,
}

impl Model {
    fn take(&mut self, envelope: &Envelope, puts_off: bool) -> Option<EnvelopeBody> {
        let EnvelopeBody::Forward { origin, after, .. } = envelope.body else { return None };
        let received = self.received.entry(envelope.to).or_default();
        let last = received.last().copied().unwrap_or(0);
        if puts_off || after.0 > last {
            return Some(EnvelopeBody::ForwardPutOff { origin });
        }
        if origin.0 > last {
            received.push(origin.0);
        }
        Some(EnvelopeBody::Forwarded { origin, is_unwanted: false })
    }
}

#[test]
fn whatever_links_do_everything_arrives_once_and_in_its_order() {
    for seed in 0..60 {
        let (mut rng, mut node, mut model) = (Rng::new(seed), Node::new(), Model::default());
        let whom: Vec<_> = users(THERE).take(3).collect();
        let mut said: BTreeMap<UserId, Vec<u64>> = BTreeMap::new();
        let (mut serial, mut is_up, mut seq) = (0, false, 0);
        let mut answers: Vec<Envelope> = Vec::new();
        for step in 0..400 {
            let is_over = step >= 300;
            match rng.within(0, 9) {
                0..=3 if !is_over => {
                    let to = *rng.pick(&whom);
                    node.say(to);
                    seq += 1;
                    said.entry(to).or_default().push(seq);
                }
                4 if !is_over || !is_up => {
                    // Some of what is on its way has arrived, and none of its answers.
                    is_up = is_over || !is_up || rng.chance(50);
                    serial += u64::from(is_up);
                    for envelope in node.mesh.drain(..) {
                        if rng.chance(50) {
                            drop(model.take(&envelope, false));
                        }
                    }
                    answers.clear();
                    node.link(serial, is_up);
                }
                5 | 6 => {
                    for envelope in mem::take(&mut node.mesh) {
                        let body = model.take(&envelope, !is_over && rng.chance(10));
                        let (to, from) = (envelope.from, envelope.to);
                        answers.extend(body.map(|body| Envelope { to, from, body }));
                    }
                }
                7 => {
                    for Envelope { from, body, .. } in mem::take(&mut answers) {
                        node.hear(from, body);
                    }
                }
                8 => node.wait(ASK_AGAIN_MS),
                _ => node.sync(),
            }
        }
        // With the last link up: until nothing moves any more.
        node.sync();
        node.link(serial + 1, true);
        for _ in 0..60 {
            node.wait(ASK_AGAIN_MS);
            node.sync();
            for envelope in mem::take(&mut node.mesh) {
                if let Some(body) = model.take(&envelope, false) {
                    node.hear(envelope.to, body);
                }
            }
        }
        assert_eq!(model.received, said, "seed {seed}");
    }
}
