//! A server of several nodes (SPEC 8.11): where redirects lead, and what happens where they lead nowhere. Values only.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;
mod wire;

use client::{
    ClientEvent, Config, Content, DeviceId, DisconnectReason, Durability, EndReason, ErrorCode, Input, Link,
    MonotonicMs, Recipient, RedirectReason, SendNumber, Seq, TimestampMs, UserId, limits,
};
use proto_spec::{ClientFrame, ServerFrame, limits::REDIRECTS_MAX};
use welcome::welcome;
use wire::Wire;

const FIRST: &str = "first:1";
const OTHER: &str = "other:2";
const THIRD: &str = "third:3";

fn redirect(address: &str, after_ms: u64, map_version: u64) -> ServerFrame {
    ServerFrame::Redirect { address: address.into(), reason: RedirectReason::Elsewhere, after_ms, map_version }
}

fn bye(code: ErrorCode, retry_after_ms: u64) -> ServerFrame {
    ServerFrame::Bye { code, retry_after_ms, detail: String::new(), devices: Vec::new() }
}

fn wire() -> Wire {
    Wire::new(FIRST, "token")
}

/// Waits as long as the client does. How long that was, where it connects then, and the hops of its hello.
fn open(wire: &mut Wire) -> (u64, String, u64) {
    let from = wire.now;
    match wire.open()[..] {
        [ClientFrame::Hello { hops, .. }] => (wire.now.since(from), wire.client.address().to_owned(), hops),
        ref other => panic!("{other:?}"),
    }
}

fn serve(wire: &mut Wire) -> Option<String> {
    match wire.hear(&welcome(&[], 60_000)).0.as_slice() {
        [.., ClientEvent::Welcome(welcome), ClientEvent::CaughtUp] => welcome.elsewhere.clone(),
        other => panic!("{other:?}"),
    }
}

/// Why the connection ended.
fn ended(events: &[ClientEvent]) -> &DisconnectReason {
    match events {
        [ClientEvent::Disconnected { reason, .. }] => reason,
        other => panic!("{other:?}"),
    }
}

fn at(ms: u64, address: &str, hops: u64) -> (u64, String, u64) {
    (ms, address.to_owned(), hops)
}

#[test]
fn a_redirect_in_place_of_the_welcome_is_followed_when_it_says_so_and_without_another_wait() {
    let mut wire = wire();
    wire.random = u64::MAX;
    assert_eq!(open(&mut wire), at(0, FIRST, 1));
    let (effects, _) = wire.turn(Input::Bytes(&bytes(&[redirect(OTHER, 1_500, 7), welcome(&[], 60_000)])));
    assert_eq!(effects.link, Some(Link::Close), "what follows it is not read");
    let reason = DisconnectReason::Redirected { address: OTHER.into(), reason: RedirectReason::Elsewhere };
    assert_eq!(effects.events, [ClientEvent::Disconnected { reason, retry_in_ms: 1_500 }]);
    assert_eq!(open(&mut wire), at(1_500, OTHER, 2));
    assert_eq!(serve(&mut wire), Some(OTHER.to_owned()));
}

fn bytes(frames: &[ServerFrame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

#[test]
fn who_follows_none_says_so_and_stays_where_it_is() {
    let config = Config { follows_redirects: false, ..Config::new(FIRST, "token", DeviceId(3)) };
    let mut wire = Wire::with(config);
    assert_eq!(open(&mut wire), at(0, FIRST, 0));
    let (events, _) = wire.hear(&bye(ErrorCode::Elsewhere, 300));
    assert!(matches!(ended(&events), DisconnectReason::Bye { code: ErrorCode::Elsewhere, .. }), "{events:?}");
    let (waited_ms, address, hops) = open(&mut wire);
    assert!(waited_ms >= 300);
    assert_eq!((&*address, hops), (FIRST, 0));
    assert_eq!(serve(&mut wire), None);
    // No server does this.
    let (events, _) = wire.hear(&redirect(OTHER, 0, 7));
    assert!(matches!(ended(&events), DisconnectReason::Protocol(_)), "{events:?}");
    wire.random = 0;
    let (_, address, hops) = open(&mut wire);
    assert_eq!((&*address, hops), (FIRST, 0));
    let (events, _) = wire.hear(&redirect(OTHER, 0, 7));
    assert!(matches!(ended(&events), DisconnectReason::Protocol(_)), "{events:?}");
}

#[test]
fn where_the_last_welcome_was_a_lost_connection_is_made_again() {
    let mut wire = wire();
    open(&mut wire);
    wire.hear(&redirect(OTHER, 0, 1));
    assert_eq!(open(&mut wire), at(0, OTHER, 2));
    wire.hear(&redirect(THIRD, 0, 1));
    assert_eq!(open(&mut wire), at(0, THIRD, 3));
    serve(&mut wire);
    for _ in 0..3 {
        wire.turn(Input::Disconnected("cut".into()));
        assert_eq!(open(&mut wire), at(0, THIRD, 1));
        serve(&mut wire);
    }
}

#[test]
fn who_cannot_be_reached_where_they_were_is_looked_for_at_the_first_address() {
    let mut wire = wire();
    open(&mut wire);
    wire.hear(&redirect(OTHER, 0, 1));
    open(&mut wire);
    serve(&mut wire);
    wire.turn(Input::Disconnected("cut".into()));
    assert_eq!(open_link(&mut wire), OTHER);
    let (effects, _) = wire.turn(Input::Disconnected("nobody listens".into()));
    let why = Box::new(DisconnectReason::Link("nobody listens".into()));
    assert_eq!(ended(&effects.events), &DisconnectReason::Elsewhere { address: OTHER.into(), why });
    assert_eq!(open(&mut wire), at(0, FIRST, 1));
    assert_eq!(serve(&mut wire), None);
}

/// Asks for the link only. Where it leads.
fn open_link(wire: &mut Wire) -> String {
    while wire.turn(Input::Tick).0.link != Some(Link::Open) {
        wire.now = wire.client.deadline(wire.now).unwrap();
    }
    wire.client.address().to_owned()
}

#[test]
fn a_redirect_to_nobody_leads_back_to_the_first_address_with_backoff() {
    let mut wire = wire();
    wire.random = u64::MAX;
    let mut waits = Vec::new();
    open(&mut wire);
    for _ in 0..4 {
        wire.hear(&redirect(OTHER, 0, 1));
        assert_eq!(open_link(&mut wire), OTHER);
        wire.turn(Input::Disconnected("nobody listens".into()));
        let (waited, address, hops) = open(&mut wire);
        assert_eq!((&address[..], hops), (FIRST, 1));
        waits.push(waited);
    }
    let ceilings = [0, 1, 2, 3].map(|failures| u64::MAX % ((limits::BACKOFF_FIRST_MS << failures) + 1));
    assert_eq!(waits, ceilings);
}

#[test]
fn who_is_sent_to_a_node_that_says_nothing_waits_as_long_as_ever_and_goes_back() {
    let mut wire = wire();
    open(&mut wire);
    wire.hear(&redirect(OTHER, 0, 1));
    open(&mut wire);
    wire.now = wire.now.after(limits::WELCOME_TIMEOUT_MS);
    let (effects, _) = wire.turn(Input::Tick);
    let why = Box::new(DisconnectReason::WelcomeTimeout);
    assert_eq!(ended(&effects.events), &DisconnectReason::Elsewhere { address: OTHER.into(), why });
    assert_eq!(open(&mut wire), at(0, FIRST, 1));
}

#[test]
fn nodes_that_do_not_agree_send_nobody_on_for_ever() {
    let mut wire = wire();
    wire.random = u64::MAX;
    let mut waits = Vec::new();
    for round in 0..3 {
        let (waited, address, hops) = open(&mut wire);
        assert_eq!((&address[..], hops), (FIRST, 1));
        waits.push(waited);
        let nodes = [OTHER, FIRST].iter().cycle();
        for (to, hops) in nodes.zip(2..=REDIRECTS_MAX + 1) {
            wire.hear(&redirect(to, 0, 5));
            assert_eq!(open(&mut wire), at(0, to, hops), "round {round}");
        }
        let (events, _) = wire.hear(&redirect(OTHER, 0, 5));
        assert_eq!(ended(&events), &DisconnectReason::Circle { address: OTHER.into() });
    }
    let ceilings = [0, 1].map(|failures| u64::MAX % ((limits::BACKOFF_FIRST_MS << failures) + 1));
    assert_eq!(waits[1..], ceilings);
}

#[test]
fn a_node_with_an_older_map_than_the_one_before_is_not_followed() {
    let mut wire = wire();
    open(&mut wire);
    wire.hear(&redirect(OTHER, 0, 5));
    open(&mut wire);
    let (events, _) = wire.hear(&redirect(FIRST, 0, 4));
    assert_eq!(ended(&events), &DisconnectReason::Circle { address: FIRST.into() });
    assert_eq!(open(&mut wire), at(0, FIRST, 1));
    wire.hear(&redirect(OTHER, 0, 4));
    assert_eq!(open(&mut wire), at(0, OTHER, 2), "it is not held against a later row");
}

#[test]
fn bye_elsewhere_leads_to_the_first_address_and_another_bye_back_to_where_it_was_said() {
    let mut wire = wire();
    open(&mut wire);
    wire.hear(&redirect(OTHER, 0, 1));
    open(&mut wire);
    wire.hear(&bye(ErrorCode::Overloaded, 2_000));
    assert_eq!(open(&mut wire), at(2_000, OTHER, 2));
    wire.hear(&bye(ErrorCode::Elsewhere, 3_000));
    assert_eq!(open(&mut wire), at(3_000, FIRST, 1));
    wire.hear(&redirect(OTHER, 0, 1));
    open(&mut wire);
    serve(&mut wire);
    wire.hear(&bye(ErrorCode::Elsewhere, 0));
    assert_eq!(open(&mut wire), at(0, FIRST, 1), "also from a node that has served it");
}

#[test]
fn in_ready_the_client_is_served_until_the_time_has_come_and_what_is_unanswered_is_sent_again() {
    let mut wire = wire();
    open(&mut wire);
    serve(&mut wire);
    let (events, _) = wire.hear(&redirect(OTHER, 5_000, 1));
    assert_eq!(events, []);
    let sent = wire.now;
    wire.client.send(UserId(8), Content::text("answered")).unwrap();
    wire.client.send(UserId(8), Content::text("not answered")).unwrap();
    let (_, frames) = wire.turn(Input::Tick);
    assert!(matches!(frames[..], [ClientFrame::Send { number: SendNumber(1), .. }]), "{frames:?}");
    let (events, frames) = wire.hear(&accepted(1));
    assert!(matches!(events[0], ClientEvent::MessageAccepted { number: SendNumber(1), .. }), "{events:?}");
    assert!(matches!(frames[..], [ClientFrame::Send { number: SendNumber(2), .. }]), "{frames:?}");
    // The acknowledgement of it has left by then.
    wire.now = sent.after(4_999);
    assert_eq!(wire.turn(Input::Tick).0.link, None);
    assert_eq!(wire.client.deadline(wire.now), Some(sent.after(5_000)));
    wire.now = sent.after(5_000);
    let (effects, frames) = wire.turn(Input::Tick);
    assert_eq!((effects.link, &frames[..]), (Some(Link::Close), &[ClientFrame::Bye][..]));
    let reason = DisconnectReason::Redirected { address: OTHER.into(), reason: RedirectReason::Elsewhere };
    assert_eq!(ended(&effects.events), &reason);
    assert_eq!(open(&mut wire), at(0, OTHER, 2));
    let mut there = welcome(&[], 60_000);
    if let ServerFrame::Welcome { last_number, head, cursor, .. } = &mut there {
        (*last_number, *head, *cursor) = (SendNumber(1), Seq(1), Seq(1));
    }
    let (_, frames) = wire.hear(&there);
    let again = |frame: &ClientFrame| matches!(frame, ClientFrame::Send { number: SendNumber(2), .. });
    assert!(frames.len() == 1 && again(&frames[0]), "{frames:?}");
}

fn accepted(number: u64) -> ServerFrame {
    let (number, seq, time) = (SendNumber(number), Seq(number), TimestampMs(1));
    ServerFrame::Accepted { number, seq, time, durability: Durability::Committed, recipient: Recipient::Offline }
}

#[test]
fn of_several_redirects_in_ready_the_last_one_counts() {
    let mut wire = wire();
    open(&mut wire);
    serve(&mut wire);
    wire.hear(&redirect(OTHER, 5_000, 1));
    wire.hear(&redirect(THIRD, 20_000, 2));
    for (passes_ms, link) in [(5_000, None), (14_999, None), (1, Some(Link::Close))] {
        wire.now = wire.now.after(passes_ms);
        assert_eq!(wire.turn(Input::Tick).0.link, link, "after {passes_ms} ms");
    }
    assert_eq!(open(&mut wire), at(0, THIRD, 2));
}

#[test]
fn a_connection_that_ends_before_the_time_of_its_redirect_is_followed_by_one_there_at_that_time() {
    for end in [None, Some(bye(ErrorCode::Stopping, 60_000)), Some(bye(ErrorCode::Elsewhere, 0))] {
        let mut wire = wire();
        open(&mut wire);
        serve(&mut wire);
        wire.hear(&redirect(OTHER, 15_000, 1));
        wire.now = wire.now.after(11_000);
        match &end {
            Some(bye) => drop(wire.hear(bye)),
            None => drop(wire.turn(Input::Disconnected("cut".into()))),
        }
        assert_eq!(open(&mut wire), at(4_000, OTHER, 2), "{end:?}");
    }
}

#[test]
fn a_bye_that_ends_the_client_ends_it_whatever_redirect_waits() {
    let mut wire = wire();
    open(&mut wire);
    serve(&mut wire);
    wire.hear(&redirect(OTHER, 15_000, 1));
    let (events, _) = wire.hear(&bye(ErrorCode::Revoked, 0));
    assert!(matches!(events[..], [ClientEvent::Ended(EndReason::Refused { code: ErrorCode::Revoked, .. })]));
    assert_eq!(wire.client.deadline(wire.now), None);
}

#[test]
fn nodes_that_welcome_and_send_on_at_once_make_no_loop_at_the_speed_of_the_network() {
    let mut wire = wire();
    wire.random = u64::MAX;
    open(&mut wire);
    let mut waits = Vec::new();
    for to in [OTHER, FIRST, OTHER] {
        serve(&mut wire);
        wire.hear(&redirect(to, 0, 1));
        let (waited, address, hops) = open(&mut wire);
        assert_eq!((&address[..], hops), (to, 2));
        waits.push(waited);
    }
    let ceilings = [0, 1, 2].map(|failures| u64::MAX % ((limits::BACKOFF_FIRST_MS << failures) + 1));
    assert_eq!(waits, ceilings);
}

/// No time that a server says switches a client off for ever.
#[test]
fn a_redirect_to_the_end_of_time_is_followed_within_the_hour() {
    let mut wire = wire();
    open(&mut wire);
    wire.hear(&redirect(OTHER, u64::MAX, 1));
    assert_eq!(open(&mut wire), at(limits::RETRY_AFTER_MAX_MS, OTHER, 2));
    assert!(wire.now > MonotonicMs(limits::RETRY_AFTER_MAX_MS));
}
