//! Who is there and who types. Values only.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod welcome;
mod wire;

use client::{
    ClientEvent, Content, Durability, Entry, ErrorCode, Event, FetchError, Input, Link, PRESENCE_USERS_MAX, Presence,
    Recipient, SendNumber, Seq, Status, TimestampMs, UserId, UserPresence, Visibility, WATCHED_MAX, limits,
};
use proto_spec::{ClientFrame, ClientKind, PresenceState, RequestId, ServerFrame};

use welcome::welcome;
use wire::Wire;

const ANN: UserId = UserId(8);
const BOB: UserId = UserId(9);

/// A watch lives so long.
const LIFETIME_MS: u64 = 12_000;

impl Wire {
    /// Connected to a server that has all that this client knows.
    fn ready() -> Self {
        let mut wire = Self::new("", "token");
        assert_eq!(wire.connect(ClientKind::ALL), []);
        wire
    }

    /// Ready, and the server watches Ann and Bob, who are online and away.
    fn watching() -> Self {
        let mut wire = Self::ready();
        let request = wire.watch(&[BOB, ANN]);
        wire.hear(&watched(request, &[online(ANN), state(BOB, Presence::Away)]));
        wire
    }

    /// What leaves with the welcome of a server that has these kinds of frames.
    fn connect(&mut self, kinds: &[ClientKind]) -> Vec<ClientFrame> {
        self.open();
        self.hear(&welcome(kinds, 600_000)).1
    }

    /// What leaves now.
    fn tick(&mut self) -> Vec<ClientFrame> {
        self.turn(Input::Tick).1
    }

    /// What the application hears so much later, and what leaves then; nothing was due before.
    fn after(&mut self, ms: u64) -> (Vec<ClientEvent>, Vec<ClientFrame>) {
        assert_eq!(self.client.deadline(self.now), Some(self.now.after(ms)));
        self.now = self.now.after(ms);
        let (effects, frames) = self.turn(Input::Tick);
        (effects.events, frames)
    }

    /// What the application hears when the connection is lost.
    fn cut(&mut self) -> Vec<ClientEvent> {
        let mut events = self.turn(Input::Disconnected("cut".to_owned())).0.events;
        assert!(matches!(events.pop(), Some(ClientEvent::Disconnected { .. })));
        events
    }

    /// The request of the watch that leaves when the application watches these.
    fn watch(&mut self, users: &[UserId]) -> RequestId {
        self.client.watch(users).unwrap();
        match &self.tick()[..] {
            [ClientFrame::Watch { request, .. }] => *request,
            other => panic!("{other:?}"),
        }
    }

    fn types(&mut self, user: UserId) -> Vec<ClientFrame> {
        self.client.typing(user);
        self.tick()
    }
}

fn state(user: UserId, state: Presence) -> PresenceState {
    PresenceState { user, state, last_seen: TimestampMs(0), ask_again_ms: 0 }
}

fn online(user: UserId) -> PresenceState {
    state(user, Presence::Online)
}

fn presence(request: RequestId, lifetime_ms: u64, states: &[PresenceState]) -> ServerFrame {
    ServerFrame::Presence { request, lifetime_ms, states: states.to_vec() }
}

/// The answer to a watch.
fn watched(request: RequestId, states: &[PresenceState]) -> ServerFrame {
    presence(request, LIFETIME_MS, states)
}

fn pushed(states: &[PresenceState]) -> ServerFrame {
    presence(RequestId(0), 0, states)
}

fn refused(kind: ClientKind, request: RequestId, code: ErrorCode, retry_after_ms: u64) -> ServerFrame {
    ServerFrame::Error { code, kind: kind.byte(), request, retry_after_ms, detail: "because".to_owned() }
}

fn is(user: UserId, state: Presence) -> ClientEvent {
    ClientEvent::Presence(UserPresence { user, state, last_seen: None })
}

fn types(user: UserId) -> ClientEvent {
    ClientEvent::Typing { conversation: user.into(), user }
}

fn typing_ended(user: UserId) -> ClientEvent {
    ClientEvent::TypingEnded { conversation: user.into(), user }
}

fn typing(user: UserId, ends_in_ms: u64) -> ServerFrame {
    ServerFrame::Typing { conversation: user.into(), user, ends_in_ms }
}

#[test]
fn changes_of_whom_the_application_watches_are_told_and_nothing_else() {
    let mut wire = Wire::ready();
    wire.client.watch(&[BOB, ANN, BOB]).unwrap();
    let (request, users) = (RequestId(1), vec![ANN, BOB]);
    assert_eq!(wire.tick(), [ClientFrame::Watch { request, users }]);
    let (events, _) = wire.hear(&watched(request, &[online(ANN), state(BOB, Presence::Unknown)]));
    assert_eq!(events, [is(ANN, Presence::Online)], "everybody begins as unknown");
    assert_eq!(wire.hear(&pushed(&[online(ANN), online(UserId(99))])).0, [], "nothing new, and nobody's business");
    let gone = PresenceState { last_seen: TimestampMs(60_000), ..state(ANN, Presence::Offline) };
    let last_seen = Some(TimestampMs(60_000));
    let offline = UserPresence { user: ANN, state: Presence::Offline, last_seen };
    assert_eq!(wire.hear(&pushed(&[gone])).0, [ClientEvent::Presence(offline)]);
    assert_eq!(wire.hear(&pushed(&[state(BOB, Presence::Away)])).0, [is(BOB, Presence::Away)]);
}

#[test]
fn the_same_set_again_costs_nothing_and_another_follows_the_answer_to_the_one_before() {
    let mut wire = Wire::ready();
    let first = wire.watch(&[ANN]);
    wire.client.watch(&[ANN]).unwrap();
    assert_eq!(wire.tick(), []);
    wire.client.watch(&[ANN, BOB]).unwrap();
    wire.client.watch(&[BOB]).unwrap();
    assert_eq!(wire.tick(), [], "one awaits its answer");
    let (events, frames) = wire.hear(&watched(first, &[online(ANN)]));
    assert_eq!((events, frames), (vec![], vec![ClientFrame::Watch { request: RequestId(2), users: vec![BOB] }]));
    wire.hear(&watched(RequestId(2), &[online(BOB)]));
    wire.client.watch(&[BOB]).unwrap();
    assert_eq!(wire.tick(), []);
    wire.client.watch(&[]).unwrap();
    let (effects, frames) = wire.turn(Input::Tick);
    assert_eq!(effects.events, [is(BOB, Presence::Unknown)], "what is not watched is not known");
    let none = RequestId(3);
    assert_eq!(frames, [ClientFrame::Watch { request: none, users: vec![] }]);
    assert_eq!(wire.hear(&watched(none, &[])), (vec![], vec![]));
    assert_eq!(wire.client.deadline(wire.now).unwrap().since(wire.now), 25_000, "the server has not pinged by then");
}

#[test]
fn a_watch_is_renewed_at_half_of_its_lifetime_and_one_that_ends_is_known_to_have_ended() {
    let mut wire = Wire::watching();
    let (request, users) = (RequestId(2), vec![ANN, BOB]);
    let renewal = ClientFrame::Watch { request, users };
    assert_eq!(wire.after(LIFETIME_MS / 2), (vec![], vec![renewal]));
    assert_eq!(wire.hear(&watched(request, &[online(ANN), online(BOB)])).0, [is(BOB, Presence::Online)]);
    wire.after(LIFETIME_MS / 2);
    // Nobody answers.
    let unknown = vec![is(ANN, Presence::Unknown), is(BOB, Presence::Unknown)];
    assert_eq!(wire.after(LIFETIME_MS / 2), (unknown, vec![]));
}

#[test]
fn a_user_with_too_many_watchers_is_asked_for_again_when_the_server_said() {
    let mut wire = Wire::ready();
    let request = wire.watch(&[ANN, BOB]);
    wire.hear(&watched(request, &[PresenceState { ask_again_ms: 2_500, ..online(ANN) }, online(BOB)]));
    let (_, frames) = wire.after(2_500);
    assert_eq!(frames, [ClientFrame::Watch { request: RequestId(2), users: vec![ANN, BOB] }]);
    // However short it is.
    wire.hear(&presence(RequestId(2), 0, &[PresenceState { ask_again_ms: 1, ..online(ANN) }]));
    let (_, frames) = wire.after(limits::WATCH_AGAIN_AFTER_MIN_MS);
    assert!(matches!(frames[..], [ClientFrame::Watch { .. }]), "{frames:?}");
}

#[test]
fn a_watch_that_is_refused_is_sent_again_when_the_server_said_and_the_earlier_one_stays() {
    let mut wire = Wire::watching();
    wire.client.watch(&[ANN, BOB, UserId(10)]).unwrap();
    assert!(matches!(wire.tick()[..], [ClientFrame::Watch { request: RequestId(2), .. }]));
    let error = refused(ClientKind::Watch, RequestId(2), ErrorCode::Overloaded, 700);
    assert_eq!(wire.hear(&error), (vec![], vec![]));
    assert_eq!(wire.hear(&pushed(&[online(BOB)])).0, [is(BOB, Presence::Online)]);
    let (_, frames) = wire.after(700);
    assert!(matches!(frames[..], [ClientFrame::Watch { request: RequestId(3), .. }]), "{frames:?}");
    // One that would be refused again is told to the developer, and not sent again before the set is another.
    let (events, frames) = wire.hear(&refused(ClientKind::Watch, RequestId(0), ErrorCode::UnknownKind, 0));
    assert!(matches!(events[..], [ClientEvent::ServerError { code: ErrorCode::UnknownKind, .. }]), "{events:?}");
    assert_eq!(frames, []);
    wire.watch(&[ANN]);
}

#[test]
fn without_a_connection_nothing_is_known_and_the_next_one_watches_again() {
    let mut wire = Wire::watching();
    wire.hear(&typing(BOB, 5_000));
    assert_eq!(wire.cut(), [typing_ended(BOB), is(ANN, Presence::Unknown), is(BOB, Presence::Unknown)]);
    // What is wanted meanwhile is what the next connection begins with.
    wire.client.watch(&[ANN]).unwrap();
    wire.now = wire.client.deadline(wire.now).unwrap();
    assert_eq!(wire.turn(Input::Tick).0.link, Some(Link::Open));
    assert_eq!(wire.cut(), [], "it was told");
    let frames = wire.connect(ClientKind::ALL);
    assert_eq!(frames, [ClientFrame::Watch { request: RequestId(2), users: vec![ANN] }]);
    let (events, _) = wire.hear(&watched(RequestId(1), &[online(ANN)]));
    assert_eq!((events, wire.client.unasked_answers()), (vec![], 1), "an answer to the last connection");
    assert_eq!(wire.hear(&watched(RequestId(2), &[online(ANN)])).0, [is(ANN, Presence::Online)]);
    wire.client.close();
    let events = wire.turn(Input::Tick).0.events;
    assert!(matches!(events[..], [ClientEvent::Presence(_), ClientEvent::Ended(_)]), "{events:?}");
    assert_eq!(wire.client.watch(&[BOB]), Err(FetchError::Ended));
}

#[test]
fn a_server_that_does_not_tell_the_kinds_gets_none_of_the_frames() {
    let mut wire = Wire::new("", "token");
    wire.client.watch(&[ANN]).unwrap();
    wire.client.set_status(Status::Away);
    let older: Vec<ClientKind> = ClientKind::ALL.iter().copied().filter(|kind| kind.byte() < 0x12).collect();
    assert_eq!(wire.connect(&older), []);
    wire.client.watch(&[ANN, BOB]).unwrap();
    assert_eq!(wire.types(ANN), []);
    let fetch = wire.client.fetch_presence(&[ANN]).unwrap();
    let change = wire.client.set_visibility(Visibility::INVISIBLE, Visibility::default()).unwrap();
    let (effects, frames) = wire.turn(Input::Tick);
    let refused = effects.events.iter().map(|event| match event {
        ClientEvent::FetchRefused { fetch, code: ErrorCode::UnknownKind, .. } => *fetch,
        other => panic!("{other:?}"),
    });
    assert_eq!((refused.collect::<Vec<_>>(), frames), (vec![fetch, change], vec![]));
    assert_eq!(wire.client.deadline(wire.now).unwrap().since(wire.now), 25_000, "the server has not pinged by then");
}

#[test]
fn more_users_than_a_request_may_name_are_refused_and_change_nothing() {
    let mut wire = Wire::watching();
    let users: Vec<UserId> = (1..=PRESENCE_USERS_MAX as u64 + 1).map(UserId).collect();
    let (count, max) = (WATCHED_MAX + 1, WATCHED_MAX);
    assert_eq!(wire.client.watch(&users[..count]), Err(FetchError::TooManyUsers { count, max }));
    assert_eq!(wire.tick(), []);
    wire.client.watch(&users[..max]).unwrap();
    let (count, max) = (PRESENCE_USERS_MAX + 1, PRESENCE_USERS_MAX);
    assert_eq!(wire.client.fetch_presence(&users), Err(FetchError::TooManyUsers { count, max }));
    wire.client.fetch_presence(&users[..max]).unwrap();
    assert_eq!(wire.tick().len(), 2);
}

#[test]
fn a_question_for_presence_is_answered_once_and_asked_again_over_a_lost_connection() {
    let mut wire = Wire::ready();
    let fetch = wire.client.fetch_presence(&[BOB, ANN]).unwrap();
    let asked = ClientFrame::FetchPresence { request: RequestId(1), users: vec![BOB, ANN] };
    assert_eq!(wire.tick(), std::slice::from_ref(&asked));
    wire.cut();
    assert_eq!(wire.connect(ClientKind::ALL), std::slice::from_ref(&asked));
    let later = refused(ClientKind::FetchPresence, RequestId(1), ErrorCode::RateLimited, 300);
    assert_eq!(wire.hear(&later), (vec![], vec![]));
    assert_eq!(wire.after(300).1, [asked]);
    let (events, _) = wire.hear(&presence(RequestId(1), 0, &[online(BOB), state(ANN, Presence::Unknown)]));
    let user = |user, state| UserPresence { user, state, last_seen: None };
    let users = vec![user(BOB, Presence::Online), user(ANN, Presence::Unknown)];
    assert_eq!(events, [ClientEvent::Presences { fetch, users }]);
}

#[test]
fn who_is_not_there_to_take_a_message_is_shown_as_not_there() {
    let mut wire = Wire::watching();
    let accepted = |number: u64, recipient| ServerFrame::Accepted {
        number: SendNumber(number),
        seq: Seq(number),
        time: TimestampMs(1),
        durability: Durability::Committed,
        recipient,
    };
    let send = |wire: &mut Wire, to, recipient| {
        wire.client.send(to, Content::text("hello")).unwrap();
        wire.tick();
        let number = wire.client.unanswered()[0].1.number.unwrap().0;
        let (events, _) = wire.hear(&accepted(number, recipient));
        events.into_iter().filter(|event| matches!(event, ClientEvent::Presence(_))).collect::<Vec<_>>()
    };
    assert_eq!(send(&mut wire, ANN, Recipient::Online), []);
    assert_eq!(send(&mut wire, ANN, Recipient::Offline), [is(ANN, Presence::Offline)]);
    wire.hear(&pushed(&[PresenceState { last_seen: TimestampMs(60_000), ..state(ANN, Presence::Offline) }]));
    assert_eq!(send(&mut wire, ANN, Recipient::Offline), [], "as is shown already, and since when");
    wire.hear(&pushed(&[state(BOB, Presence::Unknown)]));
    assert_eq!(send(&mut wire, BOB, Recipient::Offline), [], "whom one may not see");
    assert_eq!(send(&mut wire, UserId(10), Recipient::Offline), [], "who is not watched");
}

#[test]
fn that_nobody_looks_is_said_once_on_each_connection() {
    let mut wire = Wire::ready();
    let said = |status| vec![ClientFrame::SetStatus { status }];
    wire.client.set_status(Status::Here);
    assert_eq!(wire.tick(), [], "so it begins");
    wire.client.set_status(Status::Away);
    assert_eq!(wire.tick(), said(Status::Away));
    wire.client.set_status(Status::Away);
    assert_eq!(wire.tick(), []);
    wire.cut();
    assert_eq!(wire.connect(ClientKind::ALL), said(Status::Away));
    wire.client.set_status(Status::Here);
    assert_eq!(wire.tick(), said(Status::Here));
    wire.cut();
    assert_eq!(wire.connect(ClientKind::ALL), []);
}

#[test]
fn what_is_hidden_is_asked_for_and_marked_and_refused_like_a_mark() {
    let mut wire = Wire::ready();
    let (set, cleared) = (Visibility::INVISIBLE, Visibility::HIDE_LAST_SEEN);
    let fetch = wire.client.set_visibility(set, cleared).unwrap();
    assert_eq!(wire.tick(), [ClientFrame::SetVisibility { request: RequestId(1), set, cleared }]);
    assert_eq!(wire.hear(&ServerFrame::Marked { request: RequestId(1) }).0, [ClientEvent::Marked { fetch }]);
}

#[test]
fn typing_is_said_at_most_every_three_seconds_for_a_conversation_and_never_later() {
    let mut wire = Wire::new("", "token");
    wire.client.typing(ANN);
    assert_eq!(wire.connect(ClientKind::ALL), [], "there was no connection");
    let said = |user: UserId| vec![ClientFrame::Typing { conversation: user.into() }];
    assert_eq!(wire.types(ANN), said(ANN));
    assert_eq!(wire.types(BOB), said(BOB), "another conversation");
    wire.now = wire.now.after(limits::TYPING_AGAIN_AFTER_MS - 1);
    assert_eq!(wire.types(ANN), []);
    wire.now = wire.now.after(1);
    assert_eq!(wire.tick(), [], "nobody types");
    assert_eq!(wire.types(ANN), said(ANN));
    wire.client.typing(BOB);
    wire.cut();
    assert_eq!(wire.connect(ClientKind::ALL), []);
}

#[test]
fn who_types_is_told_until_the_time_is_over_or_their_message_comes() {
    let mut wire = Wire::ready();
    assert_eq!(wire.hear(&typing(ANN, 5_000)).0, [types(ANN)]);
    wire.now = wire.now.after(3_000);
    assert_eq!(wire.hear(&typing(ANN, 5_000)).0, [], "it is known");
    assert_eq!(wire.after(5_000).0, [typing_ended(ANN)]);
    wire.hear(&typing(ANN, 5_000));
    wire.hear(&typing(BOB, 5_000));
    let message = |seq, from, content| {
        let event = Event::Received { from, origin: Seq(seq), content };
        ServerFrame::Deliver { entry: Entry { seq: Seq(seq), time: TimestampMs(1), event } }
    };
    let (events, _) = wire.hear(&message(1, ANN, Content::text("hello")));
    assert!(matches!(&events[..], [ClientEvent::Entry(_), ended] if *ended == typing_ended(ANN)), "{events:?}");
    let name = client::MessageName { author: ANN, seq: Seq(1) };
    let (events, _) = wire.hear(&message(2, BOB, Content::reaction(name, "!", None)));
    assert!(matches!(&events[..], [ClientEvent::Entry(_)]), "a reaction is not what they type: {events:?}");
    assert!(matches!(wire.after(limits::ACKNOWLEDGE_AFTER_MS).1[..], [ClientFrame::Acknowledge { seq: Seq(2) }]));
    assert_eq!(wire.after(5_000 - limits::ACKNOWLEDGE_AFTER_MS).0, [typing_ended(BOB)]);
    assert_eq!(wire.hear(&typing(ANN, u64::MAX)).0, [types(ANN)]);
    wire.now = wire.now.after(limits::TYPING_SHOWN_MAX_MS);
    assert_eq!(wire.hear(&ServerFrame::Pong { nonce: 1 }).0, [typing_ended(ANN)], "no server is believed for ever");
}
