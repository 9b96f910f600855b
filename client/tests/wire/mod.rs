//! A client and the frames that it says and hears, for tests that are its server. Values only.

use std::ops::ControlFlow;

use client::{ClientEvent, ClientState, Config, DeviceId, Effects, Input, Link, MonotonicMs};
use proto_spec::{ClientFrame, Decoder, ServerFrame};

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
        Self::with(Config::new(address, token, DeviceId(3)))
    }

    /// Of a client that is set up like this.
    pub(crate) fn with(config: Config) -> Self {
        let client = ClientState::new(config).unwrap();
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
