//! Who is there and who types, as a person sees it, and what others are told of that person.

use client::{Presence, Status, UserPresence, Visibility};

use super::*;

const MINUTE_MS: u64 = 60_000;

fn is(user: u64, state: Presence) -> ClientEvent {
    ClientEvent::Presence(UserPresence { user: UserId(user), state, last_seen: None })
}

/// So long ago.
fn gone(user: u64, ago_ms: u64) -> ClientEvent {
    let last_seen = Some(TimestampMs(NOON - ago_ms));
    ClientEvent::Presence(UserPresence { user: UserId(user), state: Presence::Offline, last_seen })
}

fn typing(user: u64) -> ClientEvent {
    ClientEvent::Typing { conversation: UserId(user).into(), user: UserId(user) }
}

fn typing_ended(user: u64) -> ClientEvent {
    ClientEvent::TypingEnded { conversation: UserId(user).into(), user: UserId(user) }
}

fn of_user(user: u64, settings: Settings) -> InboxRow {
    row(user, 0, settings, received(user, UserId(user), "hello"))
}

impl Person {
    /// So much later, without anything that happens.
    fn wait(&mut self, ms: u64) -> Vec<Effect> {
        self.now = Now { monotonic: self.now.monotonic.after(ms), wall: TimestampMs(self.now.wall.0 + ms) };
        self.step(Input::Tick)
    }

    fn watched(&self) -> Vec<u64> {
        self.model.watched().into_iter().map(|user| user.0).collect()
    }
}

#[track_caller]
fn header(person: &Person, words: &str) {
    let first = person.screen().swap_remove(0);
    assert_eq!(first.split("  ").next(), Some(words), "{first}");
}

#[test]
fn whether_the_other_is_there_stands_in_the_header() {
    let mut person = Person::connected(80, 8);
    header(&person, "To 8");
    for (event, words) in [
        (is(8, Presence::Online), "To 8 ● online"),
        (typing(8), "To 8 ● typing…"),
        (is(8, Presence::Away), "To 8 ◐ typing…"),
        (typing_ended(8), "To 8 ◐ away"),
        (is(8, Presence::Offline), "To 8 ○ offline"),
        (is(8, Presence::Unknown), "To 8"),
        (typing(8), "To 8 typing…"),
        (typing_ended(8), "To 8"),
        (is(9, Presence::Online), "To 8"),
        (typing(9), "To 8"),
    ] {
        person.event(event.clone());
        header(&person, words);
    }
}

#[test]
fn when_somebody_was_seen_last_is_told_in_minutes_and_then_by_the_clock_and_the_day() {
    let mut person = Person::connected(80, 8);
    let day = 24 * 60 * MINUTE_MS;
    for (ago_ms, words) in [
        (59_999, "just now"),
        (MINUTE_MS, "a minute ago"),
        (5 * MINUTE_MS, "5 minutes ago"),
        (60 * MINUTE_MS - 1, "59 minutes ago"),
        (60 * MINUTE_MS, "11:00"),
        (day, "27 Nov"),
        (400 * day, "24 Oct 2025"),
    ] {
        person.event(gone(8, ago_ms));
        header(&person, &format!("To 8 ○ last seen {words}"));
    }
    // The screen is drawn again when the words are others, and not before.
    person.event(gone(8, 58 * MINUTE_MS + 10_000));
    let until_next = |person: &Person| person.model.deadline(person.now).map(|at| at.since(person.now.monotonic));
    assert_eq!(until_next(&person), Some(50_000));
    person.wait(50_000);
    header(&person, "To 8 ○ last seen 59 minutes ago");
    person.wait(MINUTE_MS);
    header(&person, "To 8 ○ last seen 11:01");
    assert_eq!(until_next(&person), Some(190_000), "when nobody sits here any more");
    // The clock of the server is ahead.
    person.now.wall = TimestampMs(NOON - day);
    person.event(gone(8, 0));
    header(&person, "To 8 ○ last seen just now");
}

#[test]
fn in_a_narrow_window_the_dot_is_left_and_what_came_from_others_is_not_hidden() {
    let mut person = Person::connected(64, 8);
    person.event(gone(8, 5 * MINUTE_MS));
    assert_eq!(person.screen()[0], "To 8 ○ last seen 5 minutes ago             you are 7 · connected");
    person.event(received(1, UserId(9), "hello"));
    assert_eq!(person.screen()[0], "To 8 ○   1 new from 9 (/to 9)              you are 7 · connected");
    let mut narrow = Person::connected(40, 8);
    narrow.event(gone(8, 5 * MINUTE_MS));
    assert_eq!(narrow.screen()[0], "To 8 ○             you are 7 · connected");
}

#[test]
fn the_list_has_a_dot_for_whom_it_is_known_of_and_who_types_is_shown_there() {
    let mut person = Person::without_peer(80, 8);
    person.event(welcome(9));
    lists(&mut person, 0, false, [12, 11, 10, 9].map(|user| of_user(user, Settings::default())).into());
    let states = [Presence::Online, Presence::Away, Presence::Offline, Presence::Unknown];
    [12, 11, 10, 9].into_iter().zip(states).for_each(|(user, state)| _ = person.event(is(user, state)));
    person.event(typing(11));
    assert_eq!(
        person.screen()[1..5],
        [
            "▸      ● 12  hello                                                         12:12",
            "       ◐ 11  typing…                                                       12:11",
            "       ○ 10  hello                                                         12:10",
            "         9   hello                                                         12:09",
        ]
    );
}

#[test]
fn who_is_shown_is_watched_unless_they_are_blocked_or_oneself() {
    let mut person = Person::connected(80, 8);
    assert_eq!(person.watched(), [8], "the conversation that is open");
    let blocked = |user| of_user(user, Settings::BLOCKED);
    let mut rows: Vec<_> = (10..40).rev().map(|user| of_user(user, Settings::default())).collect();
    rows[1] = blocked(38);
    rows[2] = row(7, 0, Settings::default(), sent(37, "a note"));
    lists(&mut person, 0, false, rows);
    assert_eq!(person.watched(), [8]);
    person.key(KeyCode::Tab);
    assert_eq!(person.watched(), [8, 35, 36, 39], "five rows are shown");
    person.key(KeyCode::PageDown);
    person.key(KeyCode::Down);
    assert_eq!(person.watched(), [8, 34, 35, 36]);
    let mut alone = Person::without_peer(80, 8);
    alone.event(welcome(9));
    lists(&mut alone, 0, false, vec![blocked(8)]);
    assert_eq!(alone.watched(), [0; 0]);
    alone.key(KeyCode::Enter);
    assert_eq!(alone.watched(), [0; 0], "open and blocked");
    // However high the window is.
    let mut high = Person::without_peer(80, 400);
    high.event(welcome(400));
    lists(&mut high, 0, false, (10..400).rev().map(|user| of_user(user, Settings::default())).collect());
    assert_eq!(high.watched().len(), client::WATCHED_MAX);
}

#[test]
fn that_a_message_is_typed_is_told_and_that_a_command_is_typed_is_not() {
    let mut person = Person::connected(80, 8);
    let types = Effect::Typing(PEER.into());
    assert_eq!(person.key(KeyCode::Char('h')), std::slice::from_ref(&types));
    assert_eq!(person.step(Input::Pasted("i".into())), std::slice::from_ref(&types));
    assert_eq!(person.key(KeyCode::Backspace), [], "what is taken away is not typed");
    assert!(!person.key(KeyCode::Enter).contains(&types));
    for c in "/to 9".chars() {
        assert_eq!(person.key(KeyCode::Char(c)), []);
    }
    person.control('u');
    assert_eq!(person.key(KeyCode::Char(' ')), []);
    person.control('u');
    person.write("/");
    assert_eq!(person.key(KeyCode::Char('/')), std::slice::from_ref(&types), "a message that begins with a slash");
    person.control('u');
    assert_eq!(person.step(Input::Pasted("/etc/hosts".into())), std::slice::from_ref(&types), "which is no command");
    person.control('u');
    person.send("/to 7");
    assert_eq!(person.key(KeyCode::Char('h')), [], "a note to oneself");
    person.control('u');
    person.key(KeyCode::Tab);
    assert_eq!(person.key(KeyCode::Char('h')), [], "to nobody");
}

#[test]
fn who_has_not_touched_a_key_for_five_minutes_is_away_until_the_next_one() {
    let mut person = Person::connected(80, 8);
    assert_eq!(person.wait(4 * MINUTE_MS), []);
    assert_eq!(person.key(KeyCode::Down), []);
    assert_eq!(person.model.deadline(person.now), Some(person.now.monotonic.after(5 * MINUTE_MS)));
    assert_eq!(person.wait(5 * MINUTE_MS - 1), []);
    assert_eq!(person.wait(1), [Effect::Status(Status::Away)]);
    assert_eq!(person.wait(20 * MINUTE_MS), []);
    assert_eq!(person.model.deadline(person.now), None);
    assert_eq!(person.key(KeyCode::Down), [Effect::Status(Status::Here)]);
    assert_eq!(person.key(KeyCode::Down), []);
}

#[test]
fn what_is_hidden_is_said_when_it_is_and_stands_in_the_header() {
    let mut person = Person::connected(80, 8);
    let none = Visibility::default();
    let mut asked = ClientState::new(Config::new("x:1", "token".to_owned(), DeviceId(1))).unwrap();
    let mut ask = |person: &mut Person, command: &str, set, cleared| {
        assert_eq!(person.send(command), [Effect::Hide { set, cleared }]);
        let fetch = asked.set_visibility(set, cleared).unwrap();
        person.model.people.asked(fetch, set, cleared);
        fetch
    };
    let fetch = ask(&mut person, "/invisible", Visibility::INVISIBLE, none);
    person.event(entry(1, Event::Visibility { visibility: Visibility::INVISIBLE }));
    person.shows("you are 7 · invisible · connected");
    person.event(ClientEvent::Marked { fetch });
    person.shows("Nobody sees any more whether you are here; /visible shows it again.");
    let fetch = ask(&mut person, "/visible", none, Visibility::INVISIBLE);
    person.event(entry(2, Event::Visibility { visibility: none }));
    person.event(ClientEvent::Marked { fetch });
    person.shows("Others see again whether you are here.");
    person.shows("you are 7 · connected");
    let fetch = ask(&mut person, "/lastseen off", Visibility::HIDE_LAST_SEEN, none);
    let (code, detail) = (client::ErrorCode::UnknownKind, String::new());
    person.event(ClientEvent::FetchRefused { fetch, code, detail });
    person.shows("Not done: this server is older and can not do that.");
    person.send("/watch 9");
    person.shows("This is for scripts");
}
