//! A newer token on a live connection. Values only.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;
mod wire;

use client::{ClientEvent, ConfigError, DisconnectReason, EndReason, ErrorCode, Input, TimestampMs};
use proto_spec::{ClientFrame, ClientKind, RequestId, ServerFrame};

use welcome::welcome;
use wire::Wire;

impl Wire {
    fn ready() -> Self {
        let mut wire = Self::new("", "first");
        wire.connect();
        wire
    }

    /// The token of the hello.
    fn connect(&mut self) -> String {
        let frames = self.open();
        self.hear(&welcome(ClientKind::ALL, 60_000));
        match &frames[..] {
            [ClientFrame::Hello { token, .. }] => token.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Frames that leave after the application has set a token.
    fn set(&mut self, token: &str) -> Vec<ClientFrame> {
        self.client.set_token(token.to_owned()).unwrap();
        self.turn(Input::Tick).1
    }
}

fn refresh(token: &str) -> Vec<ClientFrame> {
    vec![ClientFrame::Refresh { token: token.to_owned() }]
}

fn refreshed() -> ServerFrame {
    ServerFrame::Refreshed { expires: TimestampMs(99) }
}

fn refused(code: ErrorCode, retry_after_ms: u64) -> ServerFrame {
    let kind = ClientKind::Refresh.byte();
    ServerFrame::Error { code, kind, request: RequestId(0), retry_after_ms, detail: "because".to_owned() }
}

fn bye(code: ErrorCode) -> ServerFrame {
    ServerFrame::Bye { code, retry_after_ms: 0, detail: "because".to_owned(), devices: Vec::new() }
}

#[test]
fn the_application_is_asked_for_a_token_and_the_connection_goes_on_with_it() {
    let mut wire = Wire::ready();
    let (events, frames) = wire.hear(&ServerFrame::TokenExpiring { expires_in_ms: 60_000 });
    assert_eq!((events, frames), (vec![ClientEvent::TokenExpiring { expires_in_ms: 60_000 }], vec![]));
    assert_eq!(wire.set("second"), refresh("second"));
    let (events, _) = wire.hear(&refreshed());
    assert_eq!(events, [ClientEvent::TokenRefreshed { expires: TimestampMs(99) }]);
    assert_eq!(wire.set("second"), [], "it is known already");
}

#[test]
fn one_token_is_on_its_way_and_the_newest_is_the_last() {
    let mut wire = Wire::ready();
    assert_eq!(wire.set("second"), refresh("second"));
    assert_eq!(wire.set("third"), []);
    assert_eq!(wire.set("fourth"), []);
    assert_eq!(wire.hear(&refreshed()).1, refresh("fourth"));
    assert_eq!(wire.hear(&refreshed()).1, []);
}

#[test]
fn a_token_that_the_server_will_judge_later_is_sent_again_then() {
    let mut wire = Wire::ready();
    wire.set("second");
    assert_eq!(wire.hear(&refused(ErrorCode::Overloaded, 200)), (vec![], vec![]));
    assert_eq!(wire.client.deadline(wire.now), Some(wire.now.after(200)));
    wire.now = wire.now.after(200);
    assert_eq!(wire.turn(Input::Tick).1, refresh("second"));
}

#[test]
fn a_token_that_is_refused_is_not_sent_again() {
    for code in [ErrorCode::TokenInvalid, ErrorCode::Revoked, ErrorCode::UnknownKind] {
        let mut wire = Wire::ready();
        wire.set("second");
        let (events, frames) = wire.hear(&refused(code, 0));
        assert_eq!(events, [ClientEvent::TokenRefused { code, detail: "because".to_owned() }]);
        assert_eq!((frames, wire.set("second")), (vec![], vec![]));
        assert_eq!(wire.set("third"), refresh("third"));
    }
}

#[test]
fn an_answer_that_nothing_had_asked_for_is_passed_over() {
    let mut wire = Wire::ready();
    for frame in [refreshed(), refused(ErrorCode::TokenInvalid, 0), refused(ErrorCode::Overloaded, 200)] {
        assert_eq!(wire.hear(&frame), (vec![], vec![]));
    }
    assert_eq!(wire.client.unasked_answers(), 3);
}

#[test]
fn a_token_that_was_set_without_a_connection_is_the_one_of_the_next_hello() {
    let mut wire = Wire::new("", "first");
    wire.client.set_token("second".to_owned()).unwrap();
    assert_eq!(wire.connect(), "second");
    assert_eq!(wire.turn(Input::Tick).1, []);
}

#[test]
fn after_a_token_that_is_refused_the_next_hello_has_the_last_good_one() {
    let mut wire = Wire::ready();
    wire.set("second");
    wire.hear(&refreshed());
    wire.set("damaged");
    wire.hear(&refused(ErrorCode::TokenInvalid, 0));
    wire.turn(Input::Disconnected("cut".to_owned()));
    assert_eq!(wire.connect(), "second");
    assert_eq!(wire.set("damaged"), []);
    assert_eq!(wire.set("third"), refresh("third"));
}

#[test]
fn a_bye_for_the_token_ends_the_client_unless_there_is_a_newer_one() {
    for code in [ErrorCode::TokenExpired, ErrorCode::TokenInvalid, ErrorCode::Revoked] {
        let mut wire = Wire::ready();
        let (events, _) = wire.hear(&bye(code));
        assert!(matches!(&events[..], [ClientEvent::Ended(EndReason::Refused { .. })]), "{events:?}");

        let mut wire = Wire::ready();
        wire.set("second");
        let (events, _) = wire.hear(&bye(code));
        let [ClientEvent::Disconnected { reason: DisconnectReason::Bye { .. }, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(wire.connect(), "second");
        let (events, _) = wire.hear(&bye(code));
        assert!(matches!(&events[..], [ClientEvent::Ended(_)]), "it was the newer one: {events:?}");

        let mut wire = Wire::ready();
        wire.set("second");
        wire.hear(&refused(code, 0));
        let (events, _) = wire.hear(&bye(code));
        assert!(matches!(&events[..], [ClientEvent::Ended(_)]), "the newer one is of no use: {events:?}");
    }
}

#[test]
fn a_token_that_no_server_takes_is_not_taken_here() {
    let mut wire = Wire::ready();
    let wrong = Err(ConfigError::Token { size: 0, max: 4096 });
    assert_eq!(wire.client.set_token(String::new()), wrong);
    assert!(wire.client.set_token("x".repeat(4097)).is_err());
    assert_eq!(wire.turn(Input::Tick).1, []);
}
