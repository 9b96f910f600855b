//! Whatever is lost, refused and changed, the application is told in the end what the server knows of whom it watches, and each thing once.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use client::{
    ClientEvent, ClientState, Config, DeviceId, Effects, ErrorCode, Input, Link, MonotonicMs, Presence, TimestampMs,
    UserId,
};
use proptest::prelude::*;
use proto_spec::{ClientFrame, ClientKind, Decoder, PresenceState, RequestId, ServerFrame};

use welcome::welcome;

const USERS: u64 = 4;

const LIFETIME_MS: u64 = 12_000;

/// One client, its application and a server that is obviously right.
struct World {
    client: ClientState,
    now: MonotonicMs,
    /// As the application has been told; nobody who is unknown.
    shown: BTreeMap<UserId, Presence>,
    wanted: BTreeSet<UserId>,
    states: BTreeMap<UserId, Presence>,
    watched: BTreeSet<UserId>,
    /// Bytes on their way to the client.
    out: Vec<u8>,
    /// The answer to a watch is among them.
    is_answering: bool,
    /// How many of the next watches are refused.
    refusals: u8,
}

impl World {
    fn new() -> Self {
        Self {
            client: ClientState::new(Config::new("", "token", DeviceId(3))).unwrap(),
            now: MonotonicMs(1_000),
            shown: BTreeMap::new(),
            wanted: BTreeSet::new(),
            states: BTreeMap::new(),
            watched: BTreeSet::new(),
            out: Vec::new(),
            is_answering: false,
            refusals: 0,
        }
    }

    fn turn(&mut self, input: Input<'_>) {
        let mut effects = Effects::default();
        self.client.handle(self.now, 0, input, &mut effects);
        let mut frames = Vec::new();
        Decoder::new(u32::MAX)
            .decode(&effects.bytes, |raw| {
                frames.push(ClientFrame::decode(raw).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        frames.into_iter().for_each(|frame| self.on_frame(frame));
        for event in effects.events {
            if let ClientEvent::Presence(of) = event {
                let before = match of.state {
                    Presence::Unknown => self.shown.remove(&of.user),
                    state => self.shown.insert(of.user, state),
                };
                assert_ne!(before.unwrap_or_default(), of.state, "told twice");
            }
        }
        if effects.link == Some(Link::Open) {
            self.turn(Input::Connected);
        }
    }

    fn on_frame(&mut self, frame: ClientFrame) {
        match frame {
            ClientFrame::Hello { .. } => {
                welcome(ClientKind::ALL, 600_000).encode(&mut self.out);
            }
            ClientFrame::Watch { request, users } => {
                assert!(!self.is_answering, "the one before has no answer yet");
                self.is_answering = true;
                if self.refusals > 0 {
                    self.refusals -= 1;
                    let (code, kind, detail) = (ErrorCode::Overloaded, ClientKind::Watch.byte(), String::new());
                    let error = ServerFrame::Error { code, kind, request, retry_after_ms: 500, detail };
                    return error.encode(&mut self.out);
                }
                self.watched = users.iter().copied().collect();
                let states = users.iter().map(|user| self.state(*user)).collect();
                ServerFrame::Presence { request, lifetime_ms: LIFETIME_MS, states }.encode(&mut self.out);
            }
            ClientFrame::Ping { nonce } => ServerFrame::Pong { nonce }.encode(&mut self.out),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self, user: UserId) -> PresenceState {
        let state = self.states.get(&user).copied().unwrap_or_default();
        PresenceState { user, state, last_seen: TimestampMs(0), ask_again_ms: 0 }
    }

    fn arrive(&mut self) {
        self.is_answering = false;
        let bytes = std::mem::take(&mut self.out);
        self.turn(Input::Bytes(&bytes));
    }

    fn cut(&mut self) {
        self.is_answering = false;
        self.out.clear();
        self.watched.clear();
        self.turn(Input::Disconnected("cut".to_owned()));
        assert!(self.shown.is_empty(), "nothing is known without a connection");
    }

    fn step(&mut self, kind: u8, some: u64) {
        let user = UserId(1 + some % USERS);
        match kind {
            0 | 1 => {
                self.wanted = (1..=USERS).filter(|user| some >> user & 1 == 1).map(UserId).collect();
                let users: Vec<UserId> = self.wanted.iter().copied().collect();
                self.client.watch(&users).unwrap();
                self.turn(Input::Tick);
                assert!(self.shown.keys().all(|user| self.wanted.contains(user)));
            }
            2 | 3 => {
                self.states.insert(user, Presence::from_byte((some >> 8) as u8 % 4).unwrap());
                // One in four is lost on its way between cores.
                if self.watched.contains(&user) && some >> 16 & 3 > 0 {
                    let states = vec![self.state(user)];
                    let pushed = ServerFrame::Presence { request: RequestId(0), lifetime_ms: 0, states };
                    pushed.encode(&mut self.out);
                }
            }
            4 | 5 => self.arrive(),
            6 => self.cut(),
            7 => self.refusals += 1,
            _ => {
                self.now = self.now.after(some % 4_000);
                self.turn(Input::Tick);
            }
        }
    }

    /// Nothing fails any more, until what the server has was renewed twice.
    fn settle(&mut self) {
        self.refusals = 0;
        let end = self.now.after(120_000);
        while self.now < end {
            self.arrive();
            // What that has led to.
            while !self.out.is_empty() {
                self.arrive();
            }
            let at = self.client.deadline(self.now).unwrap_or(end);
            self.now = at.max(self.now.after(1));
            self.turn(Input::Tick);
        }
        self.arrive();
    }
}

proptest! {
    #[test]
    fn in_the_end_the_application_knows_what_the_server_knows_of_whom_it_watches(
        steps in prop::collection::vec((0..10u8, any::<u64>()), 0..80)
    ) {
        let mut world = World::new();
        world.turn(Input::Tick);
        steps.into_iter().for_each(|(kind, some)| world.step(kind, some));
        world.settle();
        let is_known = |user: &UserId| world.states.get(user).copied().filter(|state| *state > Presence::Unknown);
        let known: BTreeMap<_, _> =
            world.wanted.iter().filter_map(|user| Some((*user, is_known(user)?))).collect();
        prop_assert_eq!(&world.shown, &known);
    }
}
