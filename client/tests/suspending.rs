//! An application that stands still, comes back, changes its network, and has another token when it is asked for one.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;
mod wire;

use client::{
    ClientEvent, Config, Content, DeviceId, DisconnectReason, EndReason, ErrorCode, Input, Link, UserId, limits,
};
use proto_spec::{ClientFrame, ClientKind, ServerFrame};
use welcome::welcome;
use wire::Wire;

impl Wire {
    fn ready() -> Self {
        let mut wire = Self::new("", "token");
        wire.connect();
        wire
    }

    fn connect(&mut self) -> Vec<ClientFrame> {
        self.open();
        self.hear(&welcome(ClientKind::ALL, 600_000)).1
    }

    fn suspended() -> Self {
        let mut wire = Self::ready();
        wire.client.suspend();
        let (effects, frames) = wire.turn(Input::Tick);
        assert_eq!((effects.link, effects.events), (Some(Link::Close), vec![ClientEvent::Suspended]));
        assert_eq!(frames, [ClientFrame::Bye]);
        wire
    }
}

fn bye(code: ErrorCode, retry_after_ms: u64) -> ServerFrame {
    ServerFrame::Bye { code, retry_after_ms, detail: "because".into(), devices: Vec::new() }
}

#[test]
fn who_is_suspended_says_bye_and_is_not_woken_until_it_is_resumed() {
    let mut wire = Wire::suspended();
    assert_eq!(wire.client.deadline(wire.now), None);
    wire.client.send(UserId(8), Content::text("later")).unwrap();
    wire.client.network_changed();
    wire.client.suspend();
    let (effects, frames) = wire.turn(Input::Tick);
    assert_eq!((effects.link, effects.events, frames), (None, vec![], vec![]));
    wire.client.resume();
    let sent = wire.connect();
    assert!(matches!(sent[..], [ClientFrame::Send { .. }]), "{sent:?}");
}

#[test]
fn who_is_resumed_does_not_wait_for_what_failed_before_but_for_what_the_server_wants() {
    let mut wire = Wire::new("", "token");
    wire.random = u64::MAX;
    for _ in 0..10 {
        wire.open();
        wire.turn(Input::Disconnected("no network".into()));
    }
    for what in [Wire::pause, Wire::blink, |wire: &mut Wire| wire.client.network_changed()] {
        let mut wire = Wire { client: wire.client.clone(), ..wire };
        assert!(wire.client.deadline(wire.now).unwrap().since(wire.now) > 1_000);
        what(&mut wire);
        assert_eq!(wire.turn(Input::Tick).0.link, Some(Link::Open));
        wire.turn(Input::Connected);
        wire.hear(&bye(ErrorCode::Overloaded, 5_000));
        what(&mut wire);
        assert_eq!(wire.turn(Input::Tick).0.link, None);
        assert_eq!(wire.client.deadline(wire.now).unwrap().since(wire.now), 5_000);
    }
}

impl Wire {
    /// Suspended and resumed.
    fn pause(&mut self) {
        self.client.suspend();
        self.turn(Input::Tick);
        self.client.resume();
    }

    /// The same, before anything came of it.
    fn blink(&mut self) {
        self.client.suspend();
        self.client.resume();
    }
}

#[test]
fn a_connection_is_asked_for_and_soon_given_up_when_the_network_has_changed() {
    let mut wire = Wire::ready();
    wire.client.network_changed();
    assert_eq!(wire.turn(Input::Tick).1, [ClientFrame::Ping { nonce: 1 }]);
    wire.hear(&ServerFrame::Pong { nonce: 1 });
    assert!(wire.client.deadline(wire.now).unwrap().since(wire.now) > limits::PONG_TIMEOUT_MS, "it leads there");
    wire.client.network_changed();
    wire.turn(Input::Tick);
    wire.now = wire.client.deadline(wire.now).unwrap();
    let (effects, _) = wire.turn(Input::Tick);
    assert!(matches!(effects.events[..], [ClientEvent::Disconnected { reason: DisconnectReason::Silent, .. }]));
    assert_eq!(wire.now.since(client::MonotonicMs(1_000)), limits::PROBE_TIMEOUT_MS);
}

#[test]
fn an_attempt_over_the_network_that_is_gone_is_not_waited_for() {
    let mut wire = Wire::new("", "token");
    wire.open();
    wire.client.network_changed();
    let (effects, _) = wire.turn(Input::Tick);
    let reason = DisconnectReason::NetworkChanged;
    assert_eq!(effects.link, Some(Link::Close));
    assert_eq!(effects.events, [ClientEvent::Disconnected { reason, retry_in_ms: 0 }]);
    assert_eq!(wire.turn(Input::Tick).0.link, Some(Link::Open));
}

#[test]
fn an_application_that_has_another_token_is_asked_for_it_and_one_that_has_none_is_stopped() {
    for (asks_for_tokens, code) in
        [(true, ErrorCode::TokenExpired), (true, ErrorCode::Revoked), (false, ErrorCode::TokenExpired)]
    {
        let mut wire = Wire::with(Config { asks_for_tokens, ..Config::new("", "old", DeviceId(3)) });
        wire.open();
        let (events, _) = wire.hear(&bye(code, 0));
        let detail = "because".to_owned();
        if !asks_for_tokens {
            assert_eq!(events, [ClientEvent::Ended(EndReason::Refused { code, detail })]);
            continue;
        }
        assert_eq!(events, [ClientEvent::TokenWanted { code, detail }]);
        assert_eq!(wire.client.deadline(wire.now), None);
        wire.client.network_changed();
        assert_eq!(wire.turn(Input::Tick).0.link, None, "it would be refused again");
        wire.client.set_token("new".into()).unwrap();
        let hello = wire.open();
        assert!(matches!(&hello[..], [ClientFrame::Hello { token, .. }] if token == "new"), "{hello:?}");
    }
}

#[test]
fn who_is_suspended_can_be_closed() {
    let mut wire = Wire::suspended();
    wire.client.close();
    wire.client.resume();
    assert_eq!(wire.turn(Input::Tick).0.events, [ClientEvent::Ended(EndReason::Closed)]);
}
