//! Groups, as a person sees them.

use client::{
    Act, Direction, ErrorCode, FetchHandle, GroupEntry, GroupId, GroupPage, GroupRow, MemberInfo, Role, Rules, Standing,
};

use super::*;

const GROUP: GroupId = GroupId(42);

/// Something that happens in the group, at this seq of its log.
fn entry(seq: u64, from: u64, content: Content) -> GroupEntry {
    let (time, origin) = (TimestampMs(NOON + seq * 60_000), Seq(seq));
    GroupEntry { seq: Seq(seq), time, from: UserId(from), origin, messages: seq, content }
}

fn says(seq: u64, from: u64, text: &str) -> ClientEvent {
    ClientEvent::GroupEntry { group: GROUP, entry: entry(seq, from, Content::text(text)) }
}

fn does(seq: u64, from: u64, act: &Act<'_>) -> ClientEvent {
    ClientEvent::GroupEntry { group: GROUP, entry: entry(seq, from, Content::act(act)) }
}

fn pointer(seq: u64, up_to: u64, sent_up_to: u64) -> ClientEvent {
    let (standing, first) = (Standing::Member, Seq(1));
    let (up_to, sent_up_to) = (Seq(up_to), Seq(sent_up_to));
    super::entry(seq, Event::Group { group: GROUP, standing, first, up_to, sent_up_to })
}

/// Handles of fetches, each another one.
fn fetches() -> impl Iterator<Item = FetchHandle> {
    let mut asked = ClientState::new(Config::new("x:1", "token".to_owned(), DeviceId(1))).unwrap();
    std::iter::from_fn(move || asked.fetch_devices().ok())
}

fn page(first: u64, last: u64, head: u64, entries: Vec<GroupEntry>) -> GroupPage {
    let (first, last, head) = (Seq(first), Seq(last), Seq(head));
    GroupPage { request: Default::default(), group: GROUP, first, last, more: first > Seq(1), head, entries }
}

/// Somebody who looks at the group, of which this page is here.
fn looking(of: GroupPage) -> Person {
    looking_at(10, of)
}

fn looking_at(height: u16, of: GroupPage) -> Person {
    let mut person = Person::connected(80, height);
    let effects = person.send("/to #42");
    assert!(matches!(effects[..], [Effect::Fetch { from: Seq::ZERO, .. }, ..]), "{effects:?}");
    let fetch = fetches().next().unwrap();
    person.model.fetching(fetch);
    person.event(ClientEvent::GroupPage { fetch, direction: Direction::Backwards, page: of });
    person
}

fn is_fill(effects: &[Effect]) -> Option<(GroupId, Seq)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Fill { group, from } => Some((*group, *from)),
        _ => None,
    })
}

fn sends(effects: &[Effect]) -> Vec<(ConversationId, Content)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, content, .. } => Some((*to, content.clone())),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_group_is_begun_and_what_is_sent_there_waits_until_the_group_has_numbered_it() {
    let mut person = Person::connected(80, 10);
    let effects = person.send("/group The sea");
    let [Effect::Begin { number, name }, ..] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(name, "The sea");
    person.model.begun(*number, GROUP, SendHandle(90));
    person.shows("The group is #42: /add USER lets somebody in, /to #42 comes back.");
    person.shows("◷  you  (began the group “The sea”)");
    person.event(accepted(90, 1));
    person.shows("◷  you  (began");
    // What begins a group is not pushed: nobody follows it yet.
    assert_eq!(is_fill(&person.event(pointer(2, 1, 1))), Some((GROUP, Seq(1))));
    let create = Act::Create { name: "The sea", picture: "", rules: Rules::default() };
    person.event(does(1, 7, &create));
    person.shows("✓  you  (began the group “The sea”)");
    person.shows("To #42 The sea");
    assert_eq!(person.screen().iter().filter(|row| row.contains("began")).count(), 1);
    // The pointer may be quicker than what is pushed.
    let effects = person.send("/add 8");
    assert_eq!(sends(&effects), [(GROUP.into(), Content::act(&Act::Add { user: PEER }))]);
    person.event(accepted(0, 3));
    person.event(pointer(4, 2, 3));
    assert!(!person.screen().iter().any(|row| row.contains("◷")), "{:#?}", person.screen());
    person.event(does(2, 7, &Act::Add { user: PEER }));
    person.shows("✓  you  (added 8)");
    person.event(does(3, 8, &Act::Remove { user: PEER }));
    person.shows("8  (left)");
}

#[test]
fn messages_of_a_group_stand_behind_the_names_of_their_authors() {
    let entries = vec![
        entry(4, 8, Content::text("Hello, all.")),
        entry(5, 1234, Content::act(&Act::SetRole { user: UserId(8), role: Role::Admin })),
        entry(6, 7, Content::text("Hello.")),
    ];
    let mut person = looking(page(4, 6, 6, entries));
    person.event(says(7, 1234, "At last!"));
    let of = MessageName { author: UserId(8), seq: Seq(4) };
    let stands = Some(Stands { place: Seq(4), time: TimestampMs(NOON + 4 * 60_000) });
    let edit = Content::edit(of, &Content::text("Hello, everybody."), stands);
    person.event(ClientEvent::GroupEntry { group: GROUP, entry: entry(8, 8, edit) });
    let reaction = Content::reaction(of, "👍", None);
    person.event(ClientEvent::GroupEntry { group: GROUP, entry: entry(9, 1234, reaction) });
    assert_eq!(
        person.screen(),
        [
            "To #42                                                     you are 7 · connected",
            "",
            "",
            "                           Saturday, 28 November 2026",
            "12:04       8  Hello, everybody. (edited)  [👍]",
            "12:05    1234  (made 8 an admin)",
            "12:06 ✓   you  Hello.",
            "12:07    1234  At last!",
            "─────────────── Enter sends · Alt-Enter: new line · Tab: conversations · /help ─",
            ">",
        ]
    );
}

#[test]
fn what_a_group_does_not_take_is_a_draft_again() {
    let mut person = looking(page(1, 1, 1, vec![entry(1, 8, Content::text("Only admins write here."))]));
    person.send("May I?");
    person.event(accepted(0, 5));
    let code = ErrorCode::NotAllowed;
    person.event(super::entry(6, Event::GroupRefused { group: GROUP, origin: Seq(5), code }));
    person.shows("✗  you  May I?");
    person.shows("(not sent: you may not do this here)");
    person.shows("The group has not taken it: you may not do this here. Ctrl-P brings the");
    person.event(does(2, 8, &Act::SetRole { user: ME, role: Role::Owner }));
    person.send("/leave");
    person.event(accepted(1, 7));
    person.event(super::entry(8, Event::GroupRefused { group: GROUP, origin: Seq(7), code }));
    person.shows("The group has not taken it: who owns it makes another one the owner: /role");
    // The pointer that follows says nothing else of it.
    person.event(pointer(9, 2, 7));
    person.shows("✗  you  May I?");
}

#[test]
fn what_is_missing_is_asked_for_once_and_shown_in_its_place() {
    let mut person = looking(page(1, 2, 2, vec![entry(2, 8, Content::text("two"))]));
    let mut fetches = fetches().skip(1);
    // The connection was lost, and this was said meanwhile.
    let effects = person.event(pointer(4, 5, 0));
    assert_eq!(is_fill(&effects), Some((GROUP, Seq(3))));
    let fetch = fetches.next().unwrap();
    person.model.filling(fetch);
    assert_eq!(is_fill(&person.event(says(6, 8, "six"))), None, "it is on its way");
    let missing = vec![entry(3, 8, Content::text("three")), entry(4, 9, Content::text("four"))];
    let part = GroupPage { more: true, ..page(3, 4, 5, missing) };
    let effects = person.event(ClientEvent::GroupPage { fetch, direction: Direction::Forwards, page: part });
    assert_eq!(is_fill(&effects), Some((GROUP, Seq(5))));
    let fetch = fetches.next().unwrap();
    person.model.filling(fetch);
    let rest = GroupPage { more: false, ..page(5, 5, 5, vec![entry(5, 8, Content::text("five"))]) };
    let effects = person.event(ClientEvent::GroupPage { fetch, direction: Direction::Forwards, page: rest });
    assert_eq!(is_fill(&effects), None);
    let screen = person.screen().join(" ");
    let at = ["two", "three", "four", "five", "six"].map(|text| screen.find(text).unwrap());
    assert!(at.is_sorted(), "{screen}");
    // After so much that it would fill many screens, what is shown is the newest, as when it is opened.
    let effects = person.event(pointer(8, 1_000, 0));
    let is_newest = |effect: &Effect| matches!(effect, Effect::Fetch { from: Seq::ZERO, .. });
    assert!(effects.iter().any(is_newest) && is_fill(&effects).is_none(), "{effects:?}");
}

#[test]
fn what_is_missing_and_can_not_be_had_is_not_asked_for_again() {
    let mut person = looking(page(1, 2, 2, Vec::new()));
    assert!(is_fill(&person.event(pointer(4, 5, 0))).is_some());
    let fetch = fetches().nth(1).unwrap();
    person.model.filling(fetch);
    let (code, detail) = (ErrorCode::NoSuchGroup, String::new());
    assert_eq!(is_fill(&person.event(ClientEvent::FetchRefused { fetch, code, detail })), None);
    person.shows("What is missing of this group can not be had");
}

#[test]
fn messages_of_a_group_that_is_not_shown_are_counted_unless_it_is_muted() {
    let mut person = Person::connected(80, 10);
    person.event(says(1, 8, "one"));
    person.event(says(2, 9, "two"));
    person.event(says(2, 9, "two"));
    person.event(says(3, 7, "three"));
    person.event(does(4, 9, &Act::End));
    person.shows("2 new from #42 (/to #42)");
    person.send("/to #42");
    assert!(!person.screen()[0].contains("new from"));
    let settings = Settings::MUTED;
    person.event(super::entry(9, Event::Settings { conversation: GROUP.into(), settings }));
    person.send("/to 8");
    person.event(says(5, 8, "five"));
    assert!(!person.screen()[0].contains("new from"));
    // Unless what names one is to be announced.
    let names = |seq| ClientEvent::GroupEntry { group: GROUP, entry: entry(seq, 8, Content::mention(&[ME], "@7")) };
    person.event(names(6));
    assert!(!person.screen()[0].contains("new from"));
    let settings = settings.changed(Settings::MENTIONS_ONLY, Settings::default());
    person.event(super::entry(10, Event::Settings { conversation: GROUP.into(), settings }));
    person.event(says(7, 8, "seven"));
    person.event(names(8));
    person.shows("1 new from #42");
}

#[test]
fn who_types_in_a_group_is_named_and_others_are_told_who_types_here() {
    let mut person = looking(page(1, 1, 1, Vec::new()));
    let types = |user| ClientEvent::Typing { conversation: GROUP.into(), user: UserId(user) };
    person.event(types(9));
    person.shows("To #42 9 types…");
    person.event(types(8));
    person.shows("To #42 2 type…");
    person.event(ClientEvent::TypingEnded { conversation: GROUP.into(), user: UserId(9) });
    person.shows("To #42 8 types…");
    let effects = person.key(KeyCode::Char('H'));
    assert!(effects.contains(&Effect::Typing(GROUP.into())), "{effects:?}");
    assert_eq!(sends(&person.send("i @8")), [(GROUP.into(), Content::mention(&[PEER], "Hi @8"))]);
}

#[test]
fn a_group_that_is_opened_by_its_number_is_asked_for_its_name() {
    let mut person = Person::connected(80, 10);
    assert!(person.send("/to #42").contains(&Effect::Name(GROUP)));
    let fetch = fetches().next().unwrap();
    let row = GroupRow {
        group: GROUP,
        standing: Standing::Member,
        role: Role::Member,
        rules: Rules::default(),
        members: 3,
        head: Seq(1),
        name: "The sea".to_owned(),
        picture: String::new(),
        last: None,
        settings: Settings::default(),
        read_up_to: Seq(0),
        unread: 0,
    };
    person.event(ClientEvent::Groups { fetch, at: Seq(0), more: true, rows: vec![row] });
    person.shows("To #42 The sea");
    person.shows("Nothing here yet.");
    person.send("/to 8");
    assert!(!person.send("/to #42").contains(&Effect::Name(GROUP)), "it is known");
}

#[test]
fn who_is_let_into_a_group_or_out_of_it_is_told_so() {
    let mut person = Person::connected(80, 10);
    person.event(pointer(1, 5, 0));
    person.shows("You are in group #42 now: /to #42 opens it.");
    person.send("/invisible");
    let (set, cleared) = (Visibility::INVISIBLE, Visibility::default());
    let fetch = fetches().next().unwrap();
    person.model.people.asked(fetch, set, cleared);
    person.event(ClientEvent::Marked { fetch });
    person.event(pointer(2, 6, 0));
    person.shows("Nobody sees any more whether you are here");
    let (standing, first, up_to, sent_up_to) = (Standing::Removed, Seq(1), Seq(7), Seq(0));
    person.event(super::entry(3, Event::Group { group: GROUP, standing, first, up_to, sent_up_to }));
    person.shows("You are no member of #42 any more.");
}

#[test]
fn groups_and_members_are_listed_to_their_end() {
    let mut person = looking_at(12, page(1, 1, 1, Vec::new()));
    let mut fetches = fetches().skip(1);
    let mut asks = |person: &mut Person, wanted: Effect, effects: Vec<Effect>| {
        assert!(effects.contains(&wanted), "{effects:?}");
        let fetch = fetches.next().unwrap();
        person.model.asked_list(fetch);
        fetch
    };
    let effects = person.send("/groups");
    let fetch = asks(&mut person, Effect::Groups(GroupId(0)), effects);
    let row = |group, standing, role, name: &str| GroupRow {
        group: GroupId(group),
        standing,
        role,
        rules: Rules::default(),
        members: 3,
        head: Seq(1),
        name: name.to_owned(),
        picture: String::new(),
        last: None,
        settings: Settings::default(),
        read_up_to: Seq(0),
        unread: 0,
    };
    let rows = vec![row(3, Standing::Removed, Role::Member, "")];
    let effects = person.event(ClientEvent::Groups { fetch, at: Seq(0), more: true, rows });
    let fetch = asks(&mut person, Effect::Groups(GroupId(3)), effects);
    let rows = vec![row(42, Standing::Member, Role::Owner, "The\u{1b}[2J sea")];
    person.event(ClientEvent::Groups { fetch, at: Seq(0), more: false, rows });
    person.shows("#3                     removed");
    person.shows("#42                    owner    The\\u{1b}[2J sea");
    person.shows("/to #ID     open one");
    let effects = person.send("/members");
    person.shows("To #42 The\\u{1b}[2J sea");
    let fetch = asks(&mut person, Effect::Members(GROUP, UserId(0)), effects);
    let member = |user: u64, role| MemberInfo {
        user: UserId(user),
        role,
        since: Seq(1),
        read_up_to: Seq(user - 7),
        delivered_up_to: Seq(2 * (user - 7)),
    };
    let (delivered, read) = (1, 0);
    let (group, at) = (GROUP, Seq(9));
    let members = vec![member(7, Role::Admin)];
    let effects = person.event(ClientEvent::Members { fetch, group, more: true, at, members, delivered, read });
    let fetch = asks(&mut person, Effect::Members(GROUP, UserId(7)), effects);
    let members = vec![member(8, Role::Owner)];
    person.event(ClientEvent::Members { fetch, group, more: false, at, members, delivered, read });
    person.shows("7                      admin    (you)");
    person.shows("8                      owner    read up to #1, has #2");
    person.shows("Of the others 1 have #1, and 0 have read it.");
    person.shows("/add USER, /remove USER");
}

#[test]
fn what_is_done_to_a_group_is_done_to_the_one_that_is_shown() {
    let mut person = Person::connected(80, 10);
    for line in ["/add 9", "/leave", "/members"] {
        assert_eq!(sends(&person.send(line)), []);
        person.shows("This is no group: /to #ID opens one, and /group NAME begins one.");
        person.control('u');
    }
    let mut person = looking(page(1, 2, 2, vec![entry(2, 8, Content::text("Go, please."))]));
    let sent = |act: Act<'_>| vec![(GROUP.into(), Content::act(&act))];
    assert_eq!(sends(&person.send("/leave")), sent(Act::Remove { user: ME }));
    let role = Role::Owner;
    assert_eq!(sends(&person.send("/role 8 owner")), sent(Act::SetRole { user: PEER, role }));
    // A message is named by its place in the group, and what was done is none.
    person.event(does(3, 8, &Act::SetRules { rules: Rules::HISTORY }));
    let of = MessageName { author: PEER, seq: Seq(2) };
    let reply = Content::reply(&Reply { to: of, quote: "Go, please.", text: "Soon." });
    assert_eq!(sends(&person.send("/reply Soon.")), [(GROUP.into(), reply)]);
    assert_eq!(sends(&person.send("/react 👍")), [(GROUP.into(), Content::reaction(of, "👍", None))]);
    assert_eq!(sends(&person.send("/edit No.")), []);
    person.shows("Your last message has no answer yet");
    person.control('u');
    person.event(says(4, 7, "I am gone."));
    assert_eq!(sends(&person.send("/reply #3 What?")), []);
    person.shows("There is no message here to answer");
}

#[test]
fn an_invitation_is_shown_to_who_makes_it_and_taken_by_who_is_no_member() {
    let mut person = looking(page(1, 1, 1, Vec::new()));
    let effects = person.send("/invite");
    let [Effect::Invite { number, group: GROUP }, ..] = effects[..] else { panic!("{effects:?}") };
    person.model.invited(number, GROUP, SendHandle(90), "a7a7");
    person.shows("Whoever types this comes in: /join #42 a7a7");
    person.shows("◷  you  (invites whoever has the secret)");
    let sent = |act: Act<'_>| (GROUP.into(), Content::act(&act));
    assert_eq!(sends(&person.send("/rename Lake")), [sent(Act::Describe { name: "Lake", picture: "" })]);
    let mut person = Person::connected(80, 10);
    assert_eq!(sends(&person.send("/join #42 a7a7")), [sent(Act::Join { secret: b"a7a7" })]);
    person.event(accepted(0, 1));
    person.event(pointer(2, 9, 1));
    person.shows("You are in group #42 now: /to #42 opens it.");
}
