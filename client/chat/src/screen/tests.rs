//! What a person sees, by values: events and keys in, the cells of a screen out. In `tests/`: who is there and who types.

mod groups;
mod people;

use client::{
    Attachment, AttachmentKind, Capabilities, ClientEvent, ClientState, Config, Content, ContentKind, ConversationId,
    DeviceId, DeviceInfo, DisconnectReason, Durability, Entry, EpochId, Event, Inbox, InboxRow, MessageName,
    MonotonicMs, Recipient, Removal, Reply, SendError, SendHandle, SendNumber, Seq, Settings, Stands, TimestampMs,
    UNREAD_MAX, UserId, Visibility, WelcomeInfo,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use ratatui_core::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthStr as _;

use super::{
    draw::draw,
    effect::{Described, Effect, Input, Now, Wish},
    list::Ask,
    model::{Model, Setup},
};

/// 2026-11-28T12:00:00Z, a Saturday.
const NOON: u64 = 1_795_867_200_000;

const ME: UserId = UserId(7);
const PEER: UserId = UserId(8);

/// Somebody who writes to user 8.
struct Person {
    model: Model,
    now: Now,
    sent: u64,
}

impl Person {
    fn new(columns: u16, rows: u16) -> Self {
        let setup = Setup {
            peer: Some(PEER.into()),
            history: 20,
            server: "127.0.0.1:7600".into(),
            zone: TimeZone::UTC,
            size: (columns, rows),
        };
        let now = Now { monotonic: MonotonicMs(0), wall: TimestampMs(NOON) };
        Self { model: Model::new(setup), now, sent: 0 }
    }

    /// Nobody has been chosen to write to.
    fn without_peer(columns: u16, rows: u16) -> Self {
        let mut person = Self::new(columns, rows);
        let setup = Setup {
            peer: None,
            history: 20,
            server: "127.0.0.1:7600".into(),
            zone: TimeZone::UTC,
            size: (columns, rows),
        };
        person.model = Model::new(setup);
        person
    }

    /// Connected as a new device.
    fn connected(columns: u16, rows: u16) -> Self {
        let mut person = Self::new(columns, rows);
        person.event(welcome(0));
        person
    }

    fn event(&mut self, event: ClientEvent) -> Vec<Effect> {
        self.step(Input::Client(event))
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.model.handle(self.now, input);
        for effect in &effects {
            if let Effect::Send { number, .. } = effect {
                self.model.taken(*number, SendHandle(self.sent));
                self.sent += 1;
            }
        }
        effects
    }

    fn key(&mut self, code: KeyCode) -> Vec<Effect> {
        self.step(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn control(&mut self, c: char) -> Vec<Effect> {
        self.step(Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)))
    }

    fn write(&mut self, text: &str) {
        text.chars().for_each(|c| _ = self.key(KeyCode::Char(c)));
    }

    fn send(&mut self, text: &str) -> Vec<Effect> {
        self.write(text);
        self.key(KeyCode::Enter)
    }

    fn paste(&mut self, text: &str) {
        self.step(Input::Pasted(text.into()));
    }

    fn hear(&mut self, seq: u64, text: &str) {
        self.event(received(seq, PEER, text));
    }

    fn drawn(&self) -> (Buffer, Option<Position>) {
        let (width, height) = self.model.size;
        let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width, height });
        let cursor = draw(&self.model, self.now, &mut buffer);
        (buffer, cursor)
    }

    /// The rows of the screen, without blanks at their ends.
    fn screen(&self) -> Vec<String> {
        let (buffer, _) = self.drawn();
        let row = |y: u16| {
            let mut row = String::new();
            let mut x = 0;
            while x < buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                row.push_str(symbol);
                x += symbol.width().max(1) as u16;
            }
            row.trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let screen = self.screen();
        assert!(screen.iter().any(|row| row.contains(text)), "{text}: {screen:#?}");
    }
}

fn welcome(cursor: u64) -> ClientEvent {
    welcome_to(cursor, cursor)
}

fn welcome_to(head: u64, cursor: u64) -> ClientEvent {
    ClientEvent::Welcome(WelcomeInfo {
        user: ME,
        device: DeviceId(1),
        server_time: TimestampMs(NOON),
        head: Seq(head),
        cursor: Seq(cursor),
        last_number: SendNumber(0),
        send_window: 256,
        text_bytes_max: 16_384,
        page_entries_max: 500,
        committed: Seq(cursor),
        epoch: EpochId(0),
        capabilities: Capabilities::first(),
        visibility: Visibility::default(),
        elsewhere: None,
    })
}

fn entry(seq: u64, event: Event) -> ClientEvent {
    ClientEvent::Entry(Entry { seq: Seq(seq), time: TimestampMs(NOON + seq * 60_000), event })
}

fn received(seq: u64, from: UserId, text: &str) -> ClientEvent {
    entry(seq, Event::Received { from, origin: Seq(seq), content: Content::text(text) })
}

fn sent(seq: u64, text: &str) -> ClientEvent {
    let (device, number) = (DeviceId(2), SendNumber(seq));
    entry(seq, Event::Sent { to: PEER.into(), device, number, content: Content::text(text) })
}

fn accepted(handle: u64, seq: u64) -> ClientEvent {
    ClientEvent::MessageAccepted {
        handle: SendHandle(handle),
        number: SendNumber(handle + 1),
        seq: Seq(seq),
        time: TimestampMs(NOON + seq * 60_000),
        durability: Durability::Committed,
        recipient: Recipient::Online,
    }
}

fn lost(retry_in_ms: u64) -> ClientEvent {
    let reason = DisconnectReason::Link("nothing listens on 127.0.0.1:7600".into());
    ClientEvent::Disconnected { reason, retry_in_ms }
}

/// A row of the inbox with a message received, or sent, at this seq.
fn row(peer: u64, unread: u64, settings: Settings, last: ClientEvent) -> InboxRow {
    let ClientEvent::Entry(last) = last else { unreachable!() };
    InboxRow {
        conversation: UserId(peer).into(),
        settings,
        unread,
        read_up_to: Seq(0),
        delivered_up_to: Seq(0),
        seen_up_to: Seq(0),
        left_out: 0,
        last,
    }
}

/// The server answers with these.
fn lists(person: &mut Person, before: u64, more: bool, rows: Vec<InboxRow>) {
    let mut asked = ClientState::new(Config::new("x:1", "token".to_owned(), DeviceId(1))).unwrap();
    let fetch = asked.fetch_inbox(Seq(before), 20, 0).unwrap();
    person.model.list.fetching(fetch, Seq(before));
    let at = rows.iter().map(|row| row.last.seq).max().unwrap_or_default();
    let inbox = Inbox { request: Default::default(), at, more, rows };
    person.event(ClientEvent::Inbox { fetch, inbox });
}

#[test]
fn without_somebody_to_write_to_the_conversations_are_listed_and_one_is_opened() {
    let mut person = Person::without_peer(80, 8);
    assert!(person.event(welcome(9)).iter().any(|effect| matches!(effect, Effect::FetchInbox(_))));
    person.shows("Asking for your conversations.");
    person.send("too early");
    person.shows("Choose a conversation first");
    person.control('u');
    let kept = Settings::MUTED.changed(Settings::PINNED, Settings::default());
    let rows = vec![
        row(12, 3, Settings::default(), received(9, UserId(12), "Are you there?\nHello?")),
        row(8, UNREAD_MAX + 1, kept, received(5, PEER, &"word ".repeat(20))),
        row(7, 0, Settings::default(), sent(2, "remember the milk")),
    ];
    lists(&mut person, 0, false, rows);
    assert_eq!(
        person.screen(),
        [
            "Conversations                                              you are 7 · connected",
            "▸    3   12   Are you there? Hello?                                        12:09",
            "  999+   8    [muted, pinned] word word word word word word word word wor  12:05",
            "         you  you: remember the milk                                       12:02",
            "",
            "",
            "─────────────────────────────── Enter opens · Tab goes back · /to USER · /help ─",
            ">",
        ]
    );
    // Somebody writes: the one that was chosen stays so.
    person.key(KeyCode::Down);
    person.event(received(10, UserId(12), "I am waiting."));
    person.shows("     4   12   I am waiting.");
    person.shows("▸ 999+   8");
    let effects = person.event(received(11, UserId(40), "Who is this?"));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::FetchInbox(_))), "{effects:?}");
    let effects = person.key(KeyCode::Enter);
    assert!(matches!(effects[..], [Effect::Fetch { peer: ConversationId::Person(PEER), .. }, ..]), "{effects:?}");
    person.shows("To 8");
    // Back and forth; meanwhile nothing happens to the conversation that is not to be seen.
    person.key(KeyCode::Tab);
    person.shows("Conversations");
    for command in ["/edit Hello", "/unsend", "/cancel"] {
        person.send(command);
        person.shows("Choose a conversation first");
        person.control('u');
    }
    person.key(KeyCode::Tab);
    person.shows("To 8");
}

#[test]
fn after_a_long_absence_what_is_shown_is_asked_for_anew() {
    let mut person = Person::connected(80, 8);
    person.event(received(1, PEER, "of long ago"));
    person.shows("of long ago");
    let skipped = ClientEvent::Skipped { after: Seq(1), up_to: Seq(9_000) };
    let effects = person.event(skipped.clone());
    assert!(matches!(effects[..], [Effect::Fetch { from: Seq::ZERO, .. }]), "{effects:?}");
    assert!(!person.screen().concat().contains("of long ago"), "it may have been changed since");
    let effects = person.event(welcome(9_000));
    assert!(matches!(effects[..], [Effect::FetchInbox(Ask { before: Seq::ZERO, .. })]), "{effects:?}");
    // Who opens this with a long log is asked for no more than the first page of each.
    let mut new = Person::new(80, 8);
    assert_eq!(new.event(skipped), []);
    let effects = new.event(welcome(9_000));
    assert!(matches!(effects[..], [Effect::Fetch { from: Seq(9_000), .. }, Effect::FetchInbox(_)]), "{effects:?}");
}

/// The new log is so long that it is skipped: no entry of it comes, and what is shown of it has to be asked for.
#[test]
fn when_the_history_is_replaced_by_a_long_one_its_newest_messages_are_asked_for() {
    let mut person = Person::connected(80, 10);
    person.event(received(1, PEER, "of the old history"));
    person.event(ClientEvent::LogReplaced { detail: "because".to_owned(), dropped: Vec::new() });
    let effects = person.event(ClientEvent::Skipped { after: Seq(0), up_to: Seq(9_000) });
    assert!(matches!(effects[..], [Effect::Fetch { from: Seq::ZERO, .. }]), "{effects:?}");
    person.event(welcome(9_000));
    let effects = person.event(received(9_001, PEER, "news"));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::MarkRead { .. })),
        "nothing more is waited for: {effects:?}"
    );
}

#[test]
fn what_is_shown_is_marked_as_read_and_what_is_not_is_not() {
    let mut person = Person::connected(80, 8);
    let marks = |effects: Vec<Effect>| -> Vec<Seq> {
        effects
            .into_iter()
            .filter_map(|effect| if let Effect::MarkRead { up_to, .. } = effect { Some(up_to) } else { None })
            .collect()
    };
    assert_eq!(marks(person.event(received(1, PEER, "hello"))), [Seq(1)]);
    assert_eq!(marks(person.event(received(2, UserId(9), "of somebody else"))), []);
    person.key(KeyCode::Tab);
    assert_eq!(marks(person.event(received(3, PEER, "unseen"))), [], "the list is shown");
    assert_eq!(marks(person.key(KeyCode::Tab)), [Seq(3)]);
}

#[test]
fn a_message_that_the_other_has_read_looks_otherwise_than_one_that_has_arrived() {
    let mut person = Person::connected(80, 8);
    person.event(sent(1, "first"));
    person.event(sent(2, "second"));
    person.event(entry(3, Event::Delivered { peer: PEER, up_to: Seq(2) }));
    person.event(entry(4, Event::Seen { peer: PEER, up_to: Seq(1) }));
    person.shows("●  you  first");
    person.shows("✓✓ you  second");
}

#[test]
fn a_conversation_in_a_window_of_80_columns() {
    let mut person = Person::connected(80, 12);
    person.hear(1, "Hello, are you there?");
    person.send("Yes. And you?");
    person.event(accepted(0, 2));
    person.event(entry(3, Event::Delivered { peer: PEER, up_to: Seq(2) }));
    person.hear(4, &"word ".repeat(20));
    person.send("Still on its way");
    person.write("A draft");
    assert_eq!(
        person.screen(),
        [
            "To 8                                                       you are 7 · connected",
            "",
            "",
            "",
            "                           Saturday, 28 November 2026",
            "12:01      8  Hello, are you there?",
            "12:02 ✓✓ you  Yes. And you?",
            "12:04      8  word word word word word word word word word word word word word",
            "              word word word word word word word",
            "12:00 ◷  you  Still on its way",
            "─────────────── Enter sends · Alt-Enter: new line · Tab: conversations · /help ─",
            "> A draft",
        ]
    );
}

#[test]
fn a_large_window_is_filled_from_the_bottom_and_nothing_wraps_early() {
    let mut person = Person::connected(200, 60);
    (1..=100).for_each(|seq| person.hear(seq, &format!("message {seq} {}", "x".repeat(150))));
    let screen = person.screen();
    assert_eq!(screen.len(), 60);
    assert!(screen[1].contains("message 44 x"), "{}", screen[1]);
    assert!(screen[57].contains("message 100 x"), "{}", screen[57]);
}

#[test]
fn every_size_is_drawn_and_the_cursor_is_in_it() {
    for columns in 0..30 {
        for rows in 0..12 {
            let mut person = Person::connected(columns, rows);
            person.hear(1, "中文 \u{202e} and a longer text with\nline breaks\n\n");
            person.hear(2, &"x".repeat(100));
            person.write("a draft of several words 中文");
            person.step(Input::Key(KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT)));
            person.send("/to x");
            person.event(lost(3_000));
            for code in [KeyCode::PageUp, KeyCode::Up, KeyCode::Down, KeyCode::PageDown] {
                person.key(code);
                let (_, cursor) = person.drawn();
                assert!(cursor.is_none_or(|at| at.x < columns && at.y < rows), "{columns} x {rows}");
            }
            person.model.shows_help = true;
            person.drawn();
        }
    }
}

#[test]
fn a_long_text_is_wrapped_and_all_of_it_is_to_be_seen() {
    let mut person = Person::connected(80, 24);
    let text: String = (0..200).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    person.hear(1, &text);
    let shown: String = person.screen().iter().filter_map(|row| row.get(14..)).collect();
    assert!(shown.contains(&text), "{:#?}", person.screen());
}

#[test]
fn what_is_drafted_and_what_comes_do_not_touch_in_any_script() {
    for draft in ["й".repeat(44), "中".repeat(33), "中й".repeat(60)] {
        let mut person = Person::connected(80, 24);
        person.hear(1, "the first");
        person.write(&draft);
        (2..=4).for_each(|seq| person.hear(seq, &format!("number {seq}")));
        person.shows("the first");
        (2..=4).for_each(|seq| person.shows(&format!("number {seq}")));
        let shown: String = person.screen().iter().skip(20).map(|row| row.trim_start_matches(['>', ' '])).collect();
        assert!(shown.ends_with(&draft), "{:#?}", person.screen());
    }
}

#[test]
fn only_colours_that_are_readable_on_light_and_on_dark_are_used() {
    let mut person = Person::connected(80, 24);
    person.hear(1, "a\u{202e}b");
    person.send("mine");
    person.event(ClientEvent::MessageRefused { handle: SendHandle(0), code: client::ErrorCode::Recipient });
    person.write("draft");
    person.event(lost(3_000));
    let (buffer, _) = person.drawn();
    for cell in &buffer.content {
        assert_eq!(cell.bg, Color::Reset);
        assert!([Color::Reset, Color::Red].contains(&cell.fg), "{cell:?}");
        let known = Modifier::BOLD | Modifier::DIM | Modifier::REVERSED;
        assert!(known.contains(cell.modifier), "{cell:?}");
    }
}

#[test]
fn a_message_that_waits_can_be_taken_back_and_its_text_comes_again() {
    let mut person = Person::connected(80, 24);
    person.send("/cancel");
    person.shows("No message here waits for the server: there is nothing to take back.");
    person.control('c');
    person.send("the first");
    person.send("the second");
    assert_eq!(person.send("/cancel"), [Effect::Cancel(SendHandle(1))]);
    person.shows("the second");
    person.event(ClientEvent::MessageCancelled { handle: SendHandle(1) });
    person.shows("Taken back: nobody has it.");
    assert!(!person.screen().iter().any(|row| row.contains("the second")), "{:#?}", person.screen());
    person.control('p');
    person.shows("> the second");
}

#[test]
fn messages_stand_in_the_order_of_the_log_however_they_come() {
    let mut person = Person::new(80, 24);
    let effects = person.event(welcome(4));
    assert!(
        matches!(
            effects[..],
            [Effect::Fetch { peer: ConversationId::Person(PEER), from: Seq(4), limit: 20 }, Effect::FetchInbox(_)]
        ),
        "{effects:?}"
    );
    person.hear(6, "new, second");
    person.hear(5, "new, first");
    let old = [received(2, PEER, "old, first"), sent(4, "old, second")];
    let entries = old.map(|event| if let ClientEvent::Entry(entry) = event { entry } else { unreachable!() }).to_vec();
    person.model.messages.page(&client::Page {
        request: Default::default(),
        first: Seq(1),
        last: Seq(4),
        more: false,
        entries,
        delivered_up_to: Seq(4),
        seen_up_to: Seq(0),
    });
    let screen = person.screen();
    let texts: Vec<_> = screen.iter().filter_map(|row| row.get(6..)).filter(|row| row.contains(", ")).collect();
    let texts: Vec<_> = texts.into_iter().filter(|row| row.contains("old") || row.contains("new")).collect();
    assert_eq!(texts.len(), 4, "{screen:#?}");
    assert!(texts[0].ends_with("old, first") && texts[1].ends_with("✓✓ you  old, second"), "{texts:?}");
    assert!(texts[2].ends_with("new, first") && texts[3].ends_with("new, second"), "{texts:?}");
}

#[test]
fn ticks_say_what_the_log_says_on_a_device_that_sent_nothing() {
    let mut person = Person::connected(80, 24);
    person.event(sent(1, "first"));
    person.event(sent(2, "second"));
    person.event(sent(4, "third"));
    person.event(entry(3, Event::Delivered { peer: PEER, up_to: Seq(2) }));
    person.shows("✓✓ you  first");
    person.shows("✓✓ you  second");
    person.shows("✓  you  third");
}

#[test]
fn a_server_other_than_the_one_that_was_given_is_named_as_far_as_there_is_room() {
    let mut person = Person::new(80, 10);
    let served_by = |address: &str| match welcome(0) {
        ClientEvent::Welcome(info) => ClientEvent::Welcome(WelcomeInfo { elsewhere: Some(address.into()), ..info }),
        other => other,
    };
    person.event(served_by("node2.example.org:7600"));
    person.shows("To 8");
    person.shows("you are 7 · connected to node2.example.org:7600");
    person.event(served_by(&"x".repeat(255)));
    person.shows("To 8");
    person.shows(&format!("you are 7 · connected to {}…", "x".repeat(30)));
    person.event(welcome(0));
    assert!(person.screen()[0].ends_with("you are 7 · connected"));
}

#[test]
fn a_server_that_is_away_is_one_status_and_what_waits_has_a_clock() {
    let mut person = Person::connected(80, 10);
    person.event(lost(2_500));
    person.shows("connecting again in 3 s");
    person.shows("Nothing listens on 127.0.0.1:7600.");
    assert_eq!(person.model.deadline(person.now), Some(MonotonicMs(500)));
    person.now.monotonic = MonotonicMs(500);
    person.step(Input::Tick);
    person.shows("connecting again in 2 s");
    person.send("unsent");
    person.shows("◷  you  unsent");
    let before = person.screen();
    for _ in 0..100 {
        person.event(lost(2_000));
    }
    assert_eq!(person.screen(), before);
    person.event(welcome(0));
    person.event(accepted(0, 1));
    person.shows("✓  you  unsent");
    person.shows("you are 7 · connected");
    assert!(!person.screen().iter().any(|row| row.contains("Nothing listens")));
}

#[test]
fn an_answer_names_and_quotes_the_last_message_of_the_other() {
    let mut person = Person::connected(80, 24);
    person.send("/reply Yes");
    person.shows("There is no message here to answer");
    (0..10).for_each(|_| _ = person.key(KeyCode::Backspace));
    person.event(entry(5, Event::Received { from: PEER, origin: Seq(3), content: Content::text("Shall we?") }));
    let effects = person.send("/reply Yes, at noon");
    let to = MessageName { author: PEER, seq: Seq(3) };
    let reply = Content::reply(&Reply { to, quote: "Shall we?", text: "Yes, at noon" });
    assert!(matches!(&effects[..], [Effect::Send { content, .. }] if *content == reply), "{effects:?}");
    person.shows("↳ “Shall we?”");
    person.shows("you  ↳");
    person.shows("Yes, at noon");
}

#[test]
fn an_edit_changes_what_is_shown_in_its_place_and_what_was_taken_back_says_so() {
    let mut person = Person::connected(80, 24);
    person.event(sent(1, "helo"));
    person.event(entry(2, Event::Received { from: PEER, origin: Seq(9), content: Content::text("Yes?") }));
    let effects = person.send("/edit hello");
    let name = MessageName { author: ME, seq: Seq(1) };
    let edit = Content::edit(name, &Content::text("hello"), None);
    assert!(matches!(&effects[..], [Effect::Send { content, .. }] if *content == edit), "{effects:?}");
    let (number, time) = (SendNumber(1), TimestampMs(NOON + 180_000));
    person.event(ClientEvent::MessageAccepted {
        handle: SendHandle(0),
        number,
        seq: Seq(3),
        time,
        durability: Durability::Committed,
        recipient: Recipient::Online,
    });
    let rows = |person: &Person| {
        let screen = person.screen();
        let at = |text: &str| screen.iter().position(|row| row.contains(text));
        (at("hello (edited)"), at("Yes?"), at("(taken back)"))
    };
    let (Some(edited), Some(answer), None) = rows(&person) else { panic!("{:?}", person.screen()) };
    assert!(edited < answer, "{:?}", person.screen());
    let stands = Stands { place: Seq(2), time };
    let of = MessageName { author: PEER, seq: Seq(9) };
    person.event(entry(4, Event::Received { from: PEER, origin: Seq(10), content: Content::unsend(of, Some(stands)) }));
    let (Some(edited), None, Some(back)) = rows(&person) else { panic!("{:?}", person.screen()) };
    assert!(edited < back, "{:?}", person.screen());
}

#[test]
fn reactions_stand_behind_the_message_counted_and_the_last_of_each_counts() {
    let mut person = Person::connected(80, 24);
    person.event(entry(1, Event::Received { from: PEER, origin: Seq(9), content: Content::text("Shall we?") }));
    let effects = person.send("/react 👍");
    let name = MessageName { author: PEER, seq: Seq(9) };
    let content = Content::reaction(name, "👍", None);
    assert!(matches!(&effects[..], [Effect::Send { content: sent, .. }] if *sent == content), "{effects:?}");
    person.event(accepted(0, 2));
    person.shows("Shall we?  [👍]");
    let stands = Some(Stands { place: Seq(1), time: TimestampMs(NOON) });
    let theirs = |person: &mut Person, seq: u64, reaction: &str| {
        let content = Content::reaction(name, reaction, stands);
        person.event(entry(seq, Event::Received { from: PEER, origin: Seq(seq + 10), content }));
    };
    theirs(&mut person, 3, "!");
    person.shows("Shall we?  [! · 👍]");
    theirs(&mut person, 4, "👍");
    person.shows("Shall we?  [👍 2]");
    theirs(&mut person, 5, "");
    person.shows("Shall we?  [👍]");
    assert!(person.send("/react #99 👍").is_empty());
    person.shows("no message here to react to");
}

#[test]
fn what_is_attached_is_described_and_then_sent_to_whom_it_was_for() {
    let mut person = Person::connected(80, 24);
    let effects = person.send("/attach key file=sea.png type=image/png");
    let [Effect::Describe { to, draft, .. }] = &effects[..] else { panic!("{effects:?}") };
    let (to, draft) = (*to, draft.clone());
    assert!(person.send("/attach key file=other.png").is_empty());
    person.shows("Another file is being read");
    person.control('u');
    person.send("/to 99");
    let content = Content::opaque(b"stands for what was described");
    let described = Described { to, draft: draft.clone(), content: Ok(content.clone()) };
    let effects = person.step(Input::Described(Box::new(described)));
    assert!(
        matches!(&effects[..], [Effect::Send { to: sent_to, content: sent, .. }] if *sent_to == to && *sent == content)
    );
    person.send("/attach key file=sea.png");
    person.step(Input::Described(Box::new(Described { to, draft, content: Err("sea.png is gone".into()) })));
    person.shows("Sea.png is gone.");
}

#[test]
fn the_help_is_shown_whole_in_a_window_of_80_columns() {
    let mut person = Person::connected(80, 24);
    person.send("/help");
    person.shows("Enter               send; Alt-Enter, Ctrl-J: a new line in the message");
    person.shows("/group NAME         begin a group; /groups: yours; in it /members, /add, /leave");
    person.shows("/invisible, /visible   hide that you are here; /lastseen off, on: when you were");
    person.shows("A message that begins with / is typed with // in front. A paste is no command.");
}

#[test]
fn an_attachment_is_shown_as_a_line() {
    let mut person = Person::connected(80, 24);
    let attachment = Attachment {
        kind: AttachmentKind::Image,
        size: 1_000,
        sha256: &[7; 32],
        content_type: "image/png",
        location: "https://files.example/1",
        width: 640,
        height: 480,
        duration_ms: 0,
        thumbnail: "",
        caption: "The sea\u{1b}[2J",
    };
    person.event(entry(5, Event::Received { from: PEER, origin: Seq(3), content: Content::attachment(&attachment) }));
    person.shows("[Image image/png 640×480 1.0 kB]");
    person.shows("seaU+001B[2J");
}

#[test]
fn what_is_pasted_is_one_draft_and_never_a_command() {
    let mut person = Person::connected(80, 24);
    person.paste("/quit");
    let effects = person.key(KeyCode::Enter);
    assert!(
        matches!(&effects[..], [Effect::Send { content, .. }] if content.as_text() == Some("/quit")),
        "{effects:?}"
    );
    let lines: Vec<String> = (0..150).map(|n| format!("line {n}")).collect();
    person.paste(&lines.join("\r"));
    person.shows("line 149");
    person.shows("a draft of 150 rows");
    person.write(" and more");
    let effects = person.key(KeyCode::Enter);
    let text = lines.join("\n") + " and more";
    assert!(matches!(&effects[..], [Effect::Send { content, .. }] if content.as_text() == Some(&text)), "{effects:?}");
    person.event(accepted(0, 1));
    person.event(accepted(1, 2));
    assert!(matches!(person.send("/quit")[..], [Effect::Leave]));
}

#[test]
fn a_paste_that_is_too_long_is_refused_whole_and_said() {
    let mut person = Person::connected(80, 24);
    person.write("before ");
    person.paste(&"x".repeat(20_000));
    person.shows("A message has at most 16384 bytes, with this it would have 20007.");
    person.shows("> before");
    person.write("after");
    person.shows("> before after");
}

#[test]
fn a_wrong_command_is_no_message_and_can_be_corrected() {
    let mut person = Person::connected(80, 24);
    assert!(person.send("/to 3l").is_empty());
    person.shows("/to takes the number of a user, from 1 on, or #ID of a group, not `3l`.");
    person.key(KeyCode::Backspace);
    let effects = person.send("2");
    assert!(matches!(effects[..], [Effect::Fetch { peer: ConversationId::Person(UserId(32)), .. }]), "{effects:?}");
    person.shows("To 32");
}

#[test]
fn what_a_terminal_would_obey_is_shown_and_line_breaks_break_lines() {
    let mut person = Person::connected(80, 24);
    person.hear(1, "one\ntwo \\ \u{1b}[2J\u{202e}three");
    person.shows("8  one");
    person.shows("              two \\ U+001B[2JU+202Ethree");
}

#[test]
fn older_messages_stay_in_place_while_new_ones_come() {
    let mut person = Person::connected(80, 10);
    (1..=50).for_each(|seq| person.hear(seq, &format!("message {seq}.")));
    person.shows("message 50.");
    person.key(KeyCode::PageUp);
    person.shows("message 44.");
    let before: Vec<String> = person.screen()[1..8].to_vec();
    person.hear(51, "message 51.");
    assert_eq!(person.screen()[1..8], before);
    person.shows("1 new below");
    for _ in 0..20 {
        person.key(KeyCode::PageUp);
    }
    person.shows("Saturday");
    person.shows("message 1.");
    (0..60).for_each(|_| _ = person.key(KeyCode::Down));
    person.shows("message 51.");
    assert!(person.model.anchor.is_none());
}

#[test]
fn paging_beyond_the_oldest_message_asks_for_older_ones_once() {
    let mut person = Person::new(80, 10);
    person.event(welcome(90));
    (91..=99).for_each(|seq| person.hear(seq, "new"));
    let first = person.key(KeyCode::PageUp);
    let second = person.key(KeyCode::PageUp);
    let all: Vec<_> = first.iter().chain(&second).collect();
    assert!(all.iter().any(|effect| matches!(effect, Effect::Fetch { from: Seq(90), .. })), "{all:?}");
}

#[test]
fn messages_of_others_are_counted_and_their_conversation_can_be_opened() {
    let mut person = Person::connected(80, 24);
    person.event(received(1, UserId(9), "psst"));
    person.event(received(2, UserId(9), "hey"));
    person.shows("2 new from 9 (/to 9)");
    person.send("/to 9");
    assert!(!person.screen()[0].contains("new from"));
}

#[test]
fn leaving_waits_for_what_is_on_its_way_but_not_for_ever() {
    let mut person = Person::connected(80, 24);
    person.send("important");
    assert!(person.control('c').is_empty());
    person.shows("Waiting at most 5 s");
    assert_eq!(person.event(accepted(0, 1)), [Effect::Leave]);
    let mut person = Person::connected(80, 24);
    person.send("important");
    person.control('d');
    person.now.monotonic = MonotonicMs(5_000);
    assert_eq!(person.step(Input::Tick), [Effect::Leave]);
    assert_eq!(person.model.unsent().0, ["important"]);
}

#[test]
fn a_refused_message_is_marked_and_its_text_can_be_had_again() {
    let mut person = Person::connected(80, 24);
    person.send("to nobody");
    person.event(ClientEvent::MessageRefused { handle: SendHandle(0), code: client::ErrorCode::StorageFull });
    person.shows("✗  you  to nobody");
    person.shows("Not sent: the server has no room.");
    person.control('p');
    person.shows("> to nobody");
}

#[test]
fn devices_are_listed_until_the_next_key_and_a_removal_is_told_at_once() {
    let mut person = Person::new(80, 24);
    person.event(welcome(0));
    assert_eq!(person.send("/devices"), [Effect::Devices(Wish::List)]);
    let mut asked = ClientState::new(Config::new("x:1", "token".to_owned(), DeviceId(1))).unwrap();
    let fetch = asked.fetch_devices().unwrap();
    person.model.asked_list(fetch);
    let name = "old \u{1b}[2J laptop".to_owned();
    let laptop = DeviceInfo { device: DeviceId(5), seen_day: 20_454, is_connected: false, cursor: Seq(0), name };
    person.event(ClientEvent::Devices { fetch, devices: vec![laptop] });
    person.shows("5                     2026-01-01  old \\u{1b}[2J laptop");
    person.shows("/remove-device ID");
    let asked = person.send("/remove-device 5");
    assert_eq!(asked, [Effect::Devices(Wish::Remove(DeviceId(5)))]);
    assert!(!person.screen().iter().any(|row| row.contains("laptop")));
    let event = Event::Devices { removed: DeviceId(5), why: Removal::User, devices: vec![DeviceId(1)] };
    person.event(ClientEvent::Entry(Entry { seq: Seq(1), time: TimestampMs(NOON), event }));
    person.shows("Device 5 of yours was removed from one of your devices; /devices shows");
    person.event(ClientEvent::FetchRefused { fetch, code: client::ErrorCode::NoSuchDevice, detail: String::new() });
}

#[test]
fn what_an_older_server_does_not_take_is_a_draft_again() {
    let mut person = Person::connected(80, 8);
    person.send("hello");
    let why = SendError::ContentKind { kind: ContentKind::Reply.byte() };
    let content = Content::text("hello");
    person.event(ClientEvent::MessageReturned { handle: SendHandle(0), to: PEER.into(), content, why });
    person.shows("Not sent: this server takes no replies. Ctrl-P brings the text back.");
    assert_eq!(person.model.unsent().0, Vec::<String>::new(), "nobody waits for it");
}

#[test]
fn when_the_history_is_replaced_what_was_shown_is_gone_and_the_new_one_is_shown_without_being_news() {
    let mut person = Person::connected(80, 10);
    person.event(received(1, PEER, "of the old history"));
    person.event(received(2, UserId(9), "also of the old one"));
    person.send("not answered yet");
    let replaced = ClientEvent::LogReplaced { detail: "because".to_owned(), dropped: Vec::new() };
    assert!(person.event(replaced).contains(&Effect::Discarded));
    person.shows("The server's history was replaced: this is the one that it has now.");
    assert!(!person.screen().iter().any(|row| row.contains("old history")), "{:#?}", person.screen());
    person.shows("not answered yet");
    person.event(welcome_to(3, 0));
    let is_marked = |effects: Vec<Effect>| effects.iter().any(|effect| matches!(effect, Effect::MarkRead { .. }));
    assert!(!is_marked(person.event(received(1, UserId(9), "from somebody else"))));
    assert!(!is_marked(person.event(received(2, PEER, "what the copy has"))));
    assert!(person.model.unread.is_empty(), "the list says how many are unread");
    assert!(is_marked(person.event(received(3, PEER, "the last one"))), "up to the last one at once");
    person.shows("what the copy has");
    person.event(received(4, UserId(9), "this is news"));
    assert_eq!(person.model.unread.len(), 1);
}
