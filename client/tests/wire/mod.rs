//! A client and the frames that it says and hears, for tests that are its server. Values only.

use std::ops::ControlFlow;

use client::{
    ClientEvent, ClientState, Config, DeviceId, Effects, EpochId, Input, Link, MonotonicMs, SendNumber, Seq,
    TimestampMs, UserId, Visibility,
};
use proto_spec::{Capabilities, ClientFrame, ClientKind, Decoder, ServerFrame};

/// See the head of this file.
pub(crate) struct Wire {
    pub(crate) client: ClientState,
    pub(crate) now: MonotonicMs,
    /// What delays are drawn with.
    pub(crate) random: u64,
}

impl Wire {
    /// To a server at this address.
    pub(crate) fn new(address: &str, token: &str) -> Self {
        let client = ClientState::new(Config::new(address, token, DeviceId(3))).unwrap();
        Self { client, now: MonotonicMs(1_000), random: 0 }
    }

    /// A connection is made. What leaves first: the hello.
    pub(crate) fn open(&mut self) -> Vec<ClientFrame> {
        while self.turn(Input::Tick).0.link != Some(Link::Open) {
            self.now = self.client.deadline(self.now).unwrap();
        }
        self.turn(Input::Connected).1
    }

    pub(crate) fn turn(&mut self, input: Input<'_>) -> (Effects, Vec<ClientFrame>) {
        let mut effects = Effects::default();
        self.client.handle(self.now, self.random, input, &mut effects);
        let mut frames = Vec::new();
        Decoder::new(u32::MAX)
            .decode(&effects.bytes, |raw| {
                frames.push(ClientFrame::decode(raw).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        (effects, frames)
    }

    /// What the application hears of a frame, and what leaves then.
    pub(crate) fn hear(&mut self, frame: &ServerFrame) -> (Vec<ClientEvent>, Vec<ClientFrame>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let (effects, frames) = self.turn(Input::Bytes(&bytes));
        (effects.events, frames)
    }
}

/// The welcome of a server that has these kinds of frames, and an empty log.
pub(crate) fn welcome(kinds: &[ClientKind], idle_timeout_ms: u64) -> ServerFrame {
    ServerFrame::Welcome {
        version: 1,
        user: UserId(7),
        server_time: TimestampMs(5),
        head: Seq(0),
        cursor: Seq(0),
        last_number: SendNumber(0),
        send_window: 4,
        text_bytes_max: 20,
        page_entries_max: 50,
        idle_timeout_ms,
        committed: Seq(0),
        epoch: EpochId(0),
        capabilities: Capabilities {
            frame_kinds: kinds.iter().map(|kind| kind.byte()).collect(),
            ..Capabilities::first()
        },
        skipped: 0,
        visibility: Visibility::default(),
    }
}
