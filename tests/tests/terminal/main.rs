//! `ringpost chat` as a person meets it: in a terminal, with a shell around it, and a server that is killed now and then.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

mod tty;

use std::{fs, path::PathBuf, process::Command};

use proto_spec::{ClientFrame, Content, Entry, Event, RequestId, Resume, SendNumber, Seq, ServerFrame, UserId};
use tests::{
    connection::Connection,
    process::{Installation, Server, signal},
    wait_until,
};

use crate::tty::Tty;

const RINGPOST: &str = env!("CARGO_BIN_EXE_tested-ringpost");

fn world() -> (Installation, Server) {
    let mut installation = Installation::new(RINGPOST);
    let server = installation.start();
    (installation, server)
}

/// A shell command that starts a user's chat with another one and keeps its process id in a file.
fn chat_of(installation: &Installation, user: u64, to: u64, more: &str) -> (String, PathBuf) {
    let folder = installation.folder();
    let file = |name: &str| folder.join(format!("{name}{user}"));
    let (token, pid, script) = (file("t"), file("pid"), file("chat"));
    fs::write(&token, installation.token(user)).unwrap();
    let (pid_file, token, server) = (pid.display(), token.display(), installation.config.listen);
    let line =
        format!("echo $$ > {pid_file}; exec {RINGPOST} chat --token-file {token} --to {to} --server {server} {more}");
    fs::write(&script, line).unwrap();
    (format!("sh {}\r", script.display()), pid)
}

/// That of user 7, with user 8.
fn chat(installation: &Installation, more: &str) -> (String, PathBuf) {
    chat_of(installation, 7, 8, more)
}

fn id_in(file: &PathBuf) -> u32 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// A chat that is connected, in a window of 80 by 24.
fn connected(installation: &Installation) -> (Tty, PathBuf) {
    let tty = Tty::new(80, 24);
    let (command, pid) = chat(installation, "");
    tty.types(&command);
    tty.shows("you are 7 · connected");
    (tty, pid)
}

/// User 8, on a connection of the test's own.
struct Peer {
    connection: Connection,
    number: u64,
}

impl Peer {
    fn new(installation: &Installation) -> Self {
        Self { connection: installation.login(8, 1, Resume::Stored), number: 0 }
    }

    fn says(&mut self, text: &str) {
        self.number += 1;
        let number = SendNumber(self.number);
        self.connection.send(&[ClientFrame::Send { number, to: UserId(7).into(), content: Content::text(text) }]);
        self.connection.until(|frame| matches!(frame, ServerFrame::Accepted { .. }).then_some(()));
    }

    /// The texts that user 7 sent, as soon as there are so many.
    #[track_caller]
    fn hears(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        wait_until("user 8 has heard enough", || {
            let direction = proto_spec::Direction::Forwards;
            let fetch = ClientFrame::FetchLog { request: RequestId(1), from: Seq(1), direction, limit: 500 };
            let page = self.connection.fetch(1, &fetch);
            let text = |entry: Entry| match entry.event {
                Event::Received { content, .. } => content.as_text().map(str::to_owned),
                _ => None,
            };
            texts = page.entries.into_iter().filter_map(text).collect();
            texts.len() >= count
        });
        texts
    }
}

#[test]
fn a_paste_of_many_lines_is_one_draft_and_nothing_of_it_reaches_the_shell() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    let wide = vec!["echo pasted; ".repeat(10)[..120].to_owned(); 30].join("\n");
    tty.pastes(&wide);
    tty.shows("echo pasted;");
    tty.types("\r");
    let narrow: Vec<String> = (0..150).map(|n| format!("short {n}")).collect();
    tty.pastes(&narrow.join("\n"));
    tty.shows("short 149");
    tty.types("\r");
    let mut peer = Peer::new(&installation);
    assert_eq!(peer.hears(2), [wide, narrow.join("\n")]);
    // Beyond what a message can be.
    tty.pastes(&"too much ".repeat(3_000));
    tty.shows("text was left out");
    tty.types("/quit\r");
    tty.is_given_back();
}

#[test]
fn a_chat_that_is_ended_in_the_middle_of_a_paste_leaves_nothing_for_the_shell() {
    let (installation, _server) = world();
    for name in ["TERM", "HUP"] {
        let (tty, pid) = connected(&installation);
        tty.types("\u{1b}[200~");
        tty.types(&"echo pasted\r".repeat(100));
        signal(id_in(&pid), name);
        tty.types(&"echo pasted\r".repeat(100));
        tty.is_given_back();
        assert!(!tty.screen().contains("\npasted"), "{}", tty.screen());
    }
}

#[test]
fn what_waited_is_on_the_screen_wrapped_and_in_order() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    let mut peer = Peer::new(&installation);
    peer.says("old, read");
    tty.shows("old, read");
    tty.types("mine\r");
    tty.shows("✓");
    tty.types("/quit\r");
    tty.is_given_back();
    let long: String = (0..200).map(|n| char::from(b'a' + n % 26)).collect();
    ["new one", long.as_str(), "new three"].iter().for_each(|text| peer.says(text));
    let (tty, _) = connected(&installation);
    tty.shows("new three");
    tty.shows("old, read");
    let screen = tty.screen();
    let places = ["old, read", "mine", "new one", "abcdef", "new three"].map(|text| screen.find(text).unwrap());
    assert!(places.is_sorted(), "{screen}");
    let text: String = screen.lines().filter_map(|line| line.get(14..)).collect();
    assert!(text.contains(&long), "{screen}");
}

#[test]
fn a_draft_in_any_script_stays_while_messages_come() {
    let (installation, _server) = world();
    for draft in ["щ".repeat(44), "漢".repeat(33)] {
        let (tty, _) = connected(&installation);
        tty.types(&draft);
        tty.shows(&draft);
        let mut peer = Peer::new(&installation);
        ["first", "second", "third"].iter().for_each(|text| peer.says(text));
        tty.shows("third");
        for text in ["first", "second", &draft] {
            assert!(tty.screen().contains(text), "{}", tty.screen());
        }
        tty.types("\u{3}\u{3}");
        tty.is_given_back();
    }
}

#[test]
fn the_terminal_keeps_its_own_colours() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    Peer::new(&installation).says("hello");
    tty.types("a draft");
    tty.shows("hello");
    tty.shows("a draft");
    tty.look(|screen| {
        for row in 0..24 {
            for column in 0..80 {
                let cell = screen.cell(row, column).unwrap();
                let colours = (cell.fgcolor(), cell.bgcolor());
                assert_eq!(colours, (vt100::Color::Default, vt100::Color::Default), "{row} {column}");
            }
        }
    });
}

#[test]
fn quitting_leaves_nothing_behind_and_pasted_it_is_a_text() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    tty.pastes("/quit");
    tty.types("\r");
    assert_eq!(Peer::new(&installation).hears(1), ["/quit"]);
    tty.types("/quit\r");
    tty.is_given_back();
}

#[test]
fn texts_that_would_command_the_terminal_do_not() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    Peer::new(&installation).says("first\nsecond \\ \u{1b}]0;title\u{7}\u{202e}end");
    tty.shows("second \\ U+001B]0;titleU+0007U+202Eend");
    assert!(!tty.screen().contains("firstsecond") && !tty.screen().contains("\\n"), "{}", tty.screen());
}

/// The screen of the tests takes a flag for two characters, as tmux does.
#[test]
fn nothing_is_left_of_a_flag_that_has_gone_from_the_screen() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    Peer::new(&installation).says("a flag: \u{1f1e9}\u{1f1ea}");
    tty.shows("\u{1f1e9}\u{1f1ea}");
    tty.types("/help\r");
    tty.shows("Ctrl-Z");
    wait_until("the flag has gone", || !tty.screen().contains('\u{1f1e9}'));
    assert!(!tty.screen().contains('\u{1f1ea}'), "{}", tty.screen());
}

#[test]
fn a_server_that_goes_away_is_one_status_and_what_waits_is_marked_until_it_is_back() {
    let (mut installation, server) = world();
    let (tty, _) = connected(&installation);
    server.kill();
    tty.shows("connecting again");
    tty.shows("Nothing listens on");
    tty.types("said to nobody\r");
    tty.shows("◷  you  said to nobody");
    assert_eq!(tty.screen().matches("Nothing listens on").count(), 1, "{}", tty.screen());
    let _server = installation.start();
    tty.shows("✓  you  said to nobody");
    tty.shows("connected");
    tty.types("/quit\r");
    tty.is_given_back();
}

#[test]
fn a_new_device_shows_what_has_been_delivered_as_delivered() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    tty.types("one\r");
    tty.shows("✓  you  one");
    let mut peer = Peer::new(&installation);
    let seq = peer.connection.until(|frame| match frame {
        ServerFrame::Page(page) => page.entries.last().map(|entry| entry.seq),
        ServerFrame::Deliver { entry } => Some(entry.seq),
        _ => None,
    });
    peer.connection.send(&[ClientFrame::Acknowledge { seq }]);
    tty.shows("✓✓ you  one");
    let second = Tty::new(80, 24);
    second.types(&chat(&installation, "--device 2").0);
    second.shows("✓✓ you  one");
}

#[test]
fn a_server_that_will_not_have_us_ends_the_chat_in_words() {
    let (mut installation, server) = world();
    server.kill();
    tests::tls::certify(&mut installation);
    let _server = installation.start();
    let tty = Tty::new(80, 24);
    tty.types(&chat(&installation, "").0);
    tty.shows("wants TLS: add --tls");
    tty.is_given_back();
}

#[test]
fn the_window_may_be_of_any_size() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    Peer::new(&installation).says(&"many words ".repeat(30));
    for (columns, rows) in [(200, 60), (20, 5), (3, 2), (1, 1), (80, 24)] {
        tty.resizes(columns, rows);
        tty.types("x");
    }
    tty.shows("you are 7 · connected");
    tty.shows("> xxxxx");
    tty.types("\u{15}/quit\r");
    tty.is_given_back();
}

#[test]
fn a_chat_can_be_suspended_and_goes_on_where_it_was() {
    let (installation, _server) = world();
    let (tty, _) = connected(&installation);
    tty.types("half a draft");
    tty.shows("half a draft");
    tty.types("\u{1a}");
    tty.is_given_back();
    tty.types("fg\r");
    tty.shows("> half a draft");
    tty.types("\u{3}\u{3}");
    tty.is_given_back();
}

/// A tmux of the test's own, at this socket. It ends with the test, also with one that fails.
struct Multiplexer(PathBuf);

impl Multiplexer {
    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("PS1", tty::PROMPT).env_remove("ENV");
        command.arg("-S").arg(&self.0).args(["-f", "/dev/null"]);
        command
    }
}

impl Drop for Multiplexer {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

/// A terminal multiplexer is a terminal of its own, with brackets around what is pasted and answers to what it is asked.
#[test]
fn in_tmux_a_paste_is_a_draft_and_quitting_leaves_nothing_behind() {
    if Command::new("tmux").arg("-V").output().is_err() {
        println!("SKIPPED: tmux is not installed");
        return;
    }
    let (installation, _server) = world();
    let multiplexer = Multiplexer(installation.folder().join("tmux"));
    let tmux = |arguments: &[&str]| {
        let output = multiplexer.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let shows = |text: &str| {
        let mut screen = String::new();
        wait_until(text, || {
            screen = tmux(&["capture-pane", "-p"]);
            screen.contains(text)
        });
        screen
    };
    tmux(&["new-session", "-d", "-x", "80", "-y", "24", &format!("env 'PS1={}' sh -i", tty::PROMPT)]);
    shows(tty::PROMPT.trim_end());
    tmux(&["send-keys", "-l", chat(&installation, "").0.trim_end()]);
    tmux(&["send-keys", "Enter"]);
    shows("you are 7 · connected");
    let text = vec!["echo pasted; ".repeat(10)[..120].to_owned(); 30].join("\n");
    tmux(&["set-buffer", &text]);
    tmux(&["paste-buffer", "-p"]);
    shows("echo pasted;");
    tmux(&["send-keys", "Enter"]);
    assert_eq!(Peer::new(&installation).hears(1), [text]);
    tmux(&["send-keys", "/quit", "Enter"]);
    shows(&format!("\n{}", tty::PROMPT.trim_end()));
    tmux(&["send-keys", "echo $((40 + 2))-back", "Enter"]);
    let screen = shows("42-back");
    assert!(screen.contains(&format!("\n{}echo $((40 + 2))-back\n42-back", tty::PROMPT)), "{screen}");
}

#[test]
fn three_people_write_in_a_group_and_see_the_same() {
    let (installation, _server) = world();
    let person = |user, to| {
        let tty = Tty::new(80, 24);
        tty.types(&chat_of(&installation, user, to, "").0);
        tty.shows(&format!("you are {user} · connected"));
        tty
    };
    let (alice, bob, carol) = (person(7, 8), person(8, 7), person(9, 7));
    let says = |tty: &Tty, line: &str, shows: &str| {
        tty.types(&format!("{line}\r"));
        tty.shows(shows);
    };
    says(&alice, "/group The sea", "✓  you  (began the group “The sea”)");
    let screen = alice.screen();
    let id = screen.split_whitespace().find(|word| word.starts_with('#')).unwrap();
    says(&alice, "/add 8", "(added 8)");
    says(&alice, "/add 9", "(added 9)");
    bob.shows(&format!("/to {id} opens it"));
    says(&bob, &format!("/to {id}"), "The sea");
    says(&carol, &format!("/to {id}"), "The sea");
    says(&carol, "Where to, @7?", "✓  you  Where to");
    bob.shows("9  Where to, @7?");
    says(&bob, "/react 👍", "[👍]");
    says(&alice, "/role 8 admin", "(made 8 an admin)");
    [&alice, &carol].iter().for_each(|tty| tty.shows("Where to, @7?  [👍]"));
    says(&alice, "/members", "admin    read up to #");
    alice.types("\u{1b}");
    says(&bob, "/remove 9", "(removed 9)");
    carol.shows("You are no member of");
    says(&bob, "Without them", "✓  you  Without them");
    alice.shows("8  Without them");
    // What is asked now is answered after all that was pushed to them before.
    says(&carol, "/members", "there is no such group");
    assert!(!carol.screen().contains("Without them"), "{}", carol.screen());
}
