//! `ringpost chat` from end to end, as a script uses it: two people, a server that dies in between.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use proto_spec::{Resume, ServerFrame};
use tests::{
    connection::hello,
    process::{Installation, copy_folder, wall_now},
    tls::certify,
    wait_until,
};

/// One run of the program.
struct Chat {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Chat {
    fn start(installation: &Installation, user: u64, device: u64, to: u64, more: &[&str]) -> Self {
        Self::start_with(installation, user, device, to, more, &installation.token(user))
    }

    fn start_with(
        installation: &Installation,
        user: u64,
        device: u64,
        to: u64,
        more: &[&str],
        token_in_file: &str,
    ) -> Self {
        let token = installation.folder().join(format!("t{user}"));
        fs::write(&token, token_in_file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        command.args(["chat", "--token-file"]).arg(token).args([
            "--to",
            &to.to_string(),
            "--device",
            &device.to_string(),
        ]);
        command.args(["--server", &installation.config.listen.to_string()]).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, seen) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                seen.lock().unwrap().push(line.unwrap());
            }
        });
        Self { stdin: child.stdin.take(), child, lines }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{text}").unwrap();
    }

    /// Lines that begin with these words.
    fn lines(&self, start: &str) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|line| line.starts_with(start)).cloned().collect()
    }

    #[track_caller]
    fn shows(&self, start: &str, count: usize) {
        wait_until(&format!("{count} times: {start}; so far {:?}", self.lines("")), || {
            self.lines(start).len() >= count
        });
        assert_eq!(self.lines(start).len(), count, "{:?}", self.lines(""));
    }

    /// The texts of the lines that begin with these words, without seq and time.
    fn texts(&self, start: &str) -> Vec<String> {
        let text = |line: String| line[start.len()..].splitn(5, ' ').nth(4).unwrap().to_owned();
        self.lines(start).into_iter().map(text).collect()
    }

    /// The end of input, and of the program.
    fn end(&mut self) -> ExitStatus {
        self.stdin = None;
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_answer_from_a_pipe_quotes_what_it_answers() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &["--wait-for", "2"]);
    bob.shows("connected 8", 1);
    alice.say("Shall we?");
    bob.shows("received 7 ", 1);
    bob.say("/reply Yes");
    alice.shows("received 8 ", 1);
    assert!(alice.lines("received 8 ")[0].ends_with(r" ↳ “Shall we?”\nYes"), "{:?}", alice.lines(""));
    alice.say("/reply #1 At noon");
    bob.shows("received 7 ", 2);
    assert!(bob.lines("received 7 ")[1].ends_with(r" ↳ “Shall we?”\nAt noon"), "{:?}", bob.lines(""));
    alice.say("/reply #99 Nobody said this");
    assert!(!alice.end().success());
    assert!(bob.end().success());
    drop(server);
}

#[test]
fn a_device_checks_from_a_pipe_that_it_was_told_what_the_server_has() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    bob.say("/check");
    bob.shows("checked nothing", 1);
    alice.say("one");
    alice.say("two");
    bob.shows("received 7 ", 2);
    alice.say("/edit three");
    bob.shows("edited 7 2 ", 1);
    bob.say("/check");
    bob.shows("checked same 1 3", 1);
    bob.say("/react so true");
    alice.shows("reacted 8 ", 1);
    alice.say("/check");
    wait_until("alice has checked", || !alice.lines("checked same 1 ").is_empty());
    assert!(bob.end().success());
    assert!(alice.end().success());
    drop(server);
}

#[test]
fn what_is_edited_or_taken_back_from_a_pipe_is_told_to_the_other() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    alice.say("helo");
    bob.shows("received 7 1 ", 1);
    alice.say("/edit hello");
    bob.shows("edited 7 1 ", 1);
    assert!(bob.lines("edited 7 1 ")[0].ends_with(" hello"), "{:?}", bob.lines(""));
    alice.say("/unsend #1");
    bob.shows("unsent 7 1 ", 1);
    alice.say("/edit #1 too late");
    alice.shows("refused 4 taken_back", 1);
    assert!(bob.end().success());
    assert!(!alice.end().success(), "one of the messages was refused");
    drop(server);
}

#[test]
fn what_somebody_feels_about_a_message_is_told_to_the_other_and_told_again_with_the_history() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    alice.say("hello");
    bob.shows("received 7 1 ", 1);
    bob.say("/react 👍");
    alice.shows("reacted 8 1 ", 1);
    assert!(alice.lines("reacted 8 1 ")[0].ends_with(" 👍"), "{:?}", alice.lines(""));
    bob.say("/react #1 ❤");
    alice.shows("reacted 8 1 ", 2);
    alice.say("/react #1 !");
    bob.shows("reacted 7 1 ", 1);
    assert!(bob.end().success() && alice.end().success());
    // Another device, to which both are old.
    let mut tablet = Chat::start(&installation, 7, 1, 8, &["--history", "5"]);
    tablet.shows("history reacted ", 2);
    assert!(tablet.lines("history reacted 8 1 ")[0].ends_with(" ❤"), "{:?}", tablet.lines(""));
    assert!(tablet.end().success());
    drop(server);
}

#[test]
fn a_file_that_is_attached_from_a_pipe_is_described_to_the_other() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("the sea.png");
    fs::write(&file, [7; 1_234]).unwrap();
    let file = file.display();
    alice.say(&format!("/attach https://files.example/1 file=\"{file}\" type=image/png caption=The sea"));
    bob.shows("received 7 1 ", 1);
    let line = &bob.lines("received 7 1 ")[0];
    assert!(line.ends_with(" [Image image/png 1.2 kB] https://files.example/1 The sea"), "{line}");
    alice.say("/attach https://files.example/1 file=/nowhere/at/all");
    assert!(!alice.end().success(), "the line is wrong");
    assert!(bob.end().success());
    drop(server);
}

#[test]
fn two_people_see_each_other_come_type_hide_and_go() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    // Told at once: a test does not flap.
    (installation.config.presence.hold_ms, installation.config.presence.tick_ms) = (0, 100);
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    alice.say("Are you there?");
    bob.shows("received 7 ", 1);
    bob.say("I am.");
    alice.shows("received 8 ", 1);

    alice.say("/watch 8");
    alice.shows("presence 8 online -", 1);
    bob.say("/watch 7");
    bob.shows("presence 7 online -", 1);
    alice.say("/away");
    bob.shows("presence 7 away -", 1);
    alice.say("/here");
    bob.shows("presence 7 online -", 2);
    bob.say("/presence 7 99");
    bob.shows("presence 99 unknown -", 1);
    bob.shows("presence 7 online -", 3);

    alice.say("/typing 8");
    bob.shows("typing 7 begins", 1);
    alice.say("Good.");
    bob.shows("received 7 ", 2);
    bob.shows("typing 7 ends", 1);

    alice.say("/invisible");
    alice.shows("visibility invisible", 1);
    bob.shows("presence 7 unknown -", 1);
    alice.say("/visible");
    alice.shows("visibility -", 1);
    bob.shows("presence 7 online -", 4);
    assert!(alice.end().success());
    // Since when, to the minute.
    bob.shows("presence 7 offline 20", 1);

    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    bob.shows("presence 7 online -", 5);
    alice.say("/lastseen off");
    alice.shows("visibility last_seen", 1);
    assert!(alice.end().success());
    bob.shows("presence 7 offline -", 1);
    bob.say("/watch");
    bob.shows("presence 7 unknown -", 2);
    // What the connection told is not known without it.
    bob.say("/watch 7");
    bob.shows("presence 7 offline -", 2);
    server.kill();
    bob.shows("presence 7 unknown -", 3);
    let server = installation.start();
    bob.shows("connected 8", 2);
    bob.shows("presence 7 offline -", 3);
    assert!(bob.end().success());
    drop(server);
}

/// A script does not wait for answers, and neither do its changes.
#[test]
fn an_edit_directly_behind_its_message_waits_for_the_answer_to_it() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let _server = installation.start();
    let token = installation.folder().join("t7");
    fs::write(&token, installation.token(7)).unwrap();
    let server = installation.config.listen.to_string();
    let arguments = ["--token-file", token.to_str().unwrap(), "--to", "8", "--server", &server];
    let input = "one\n/edit 1\ntwo\n/edit 2\n/edit second\nthree\n/unsend\n";
    let (status, stdout, stderr) = run(&arguments, input.as_bytes());
    assert_eq!(status, 0, "{stdout}{stderr}");
    let accepted: Vec<&str> = stdout.lines().filter(|line| line.starts_with("accepted ")).collect();
    assert_eq!(accepted.len(), 7, "{stdout}");
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("edited 7 ", 2);
    bob.shows("unsent 7 ", 1);
    let texts: Vec<String> =
        bob.lines("edited 7 ").iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(texts, ["1", "second"], "{:?}", bob.lines(""));
    assert!(bob.end().success());
}

#[test]
fn two_people_converse_though_one_starts_later_and_the_server_is_killed_in_between() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &["--wait-for", "3", "--wait-delivered"]);
    alice.shows("connected 7", 1);
    alice.say("Is anybody there?");
    alice.shows("accepted 1 1 committed offline", 1);

    server.kill();
    // Once for each reason: closed, and then nothing listens, however often that is tried.
    alice.shows("disconnected nothing listens", 1);
    alice.say("Written while nobody listens.");
    let server = installation.start();
    alice.shows("connected 7", 2);
    alice.shows("accepted 2 ", 1);

    let mut bob = Chat::start(&installation, 8, 1, 7, &["--wait-delivered"]);
    bob.shows("received 7 ", 2);
    alice.shows("delivered 8 ", 1);
    bob.say(r"Yes: \ ✓");
    alice.shows("received 8 ", 1);

    server.kill();
    bob.say("And now?");
    alice.say("Hm?");
    let server = installation.start();
    alice.shows("received 8 ", 2);
    bob.shows("received 7 ", 3);
    bob.say("bye");
    assert!(alice.end().success(), "{:?}", alice.lines(""));
    assert!(bob.end().success(), "{:?}", bob.lines(""));
    assert_eq!(alice.texts("received"), [r"Yes: \\ ✓", "And now?", "bye"]);
    assert_eq!(bob.texts("received"), ["Is anybody there?", "Written while nobody listens.", "Hm?"]);

    // A second device, and a second run of the first, show the same conversation.
    let mut second = Chat::start(&installation, 7, 2, 8, &[]);
    second.shows("received 8 ", 3);
    second.shows("sent 8 ", 3);
    assert_eq!(second.texts("received"), alice.texts("received"));
    assert_eq!(second.texts("sent"), bob.texts("received"));
    assert!(second.end().success());
    let mut again = Chat::start(&installation, 8, 1, 7, &[]);
    again.shows("history ", 6);
    assert_eq!(again.lines("received "), Vec::<String>::new());
    assert!(again.end().success());
    server.stop();
}

#[test]
fn people_write_in_a_group_from_pipes_and_the_server_is_killed_in_between() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    alice.say("/group The sea");
    alice.shows("group #", 1);
    let begins = alice.lines("group #").remove(0);
    let id = begins.split(' ').nth(1).unwrap().to_owned();
    let message = |by: u64| format!("group {id} message {by} ");
    ["/add 8", "/add 9", "Welcome aboard"].into_iter().for_each(|line| alice.say(line));
    bob.shows(&format!("group {id} standing member"), 1);
    bob.shows(&message(7), 1);
    bob.say(&format!("/to {id}"));

    server.kill();
    bob.say("Said while nobody listened");
    let server = installation.start();
    alice.shows(&message(8), 1);
    // What bob's chat has shown he has, and the group is told so now and then.
    let has = format!("group {id} member 8 member 2 0 5");
    wait_until(&format!("{has}; so far {:?}", alice.lines("")), || {
        alice.say("/members");
        thread::sleep(Duration::from_millis(500));
        !alice.lines(&has).is_empty()
    });
    // Who comes later reads what was said since they were added.
    let mut carol = Chat::start(&installation, 9, 1, 7, &[]);
    carol.say(&format!("/to {id}"));
    carol.say("/members");
    carol.shows(&format!("group {id} member "), 3);
    carol.say("/role 9 owner");
    carol.shows(&format!("group {id} refused "), 1);
    alice.say("/remove 9");
    carol.shows(&format!("group {id} standing removed"), 1);
    alice.say("Without them");
    bob.shows(&message(7), 2);
    assert_eq!(carol.texts(&message(7)), Vec::<String>::new(), "nothing that came after");
    assert!(alice.end().success(), "{:?}", alice.lines(""));
    assert!(bob.end().success(), "{:?}", bob.lines(""));
    assert!(carol.end().code().is_some_and(|code| code != 0), "something was refused");
    server.stop();
}

/// The server is set back to a copy of its folder while two people are connected. Each is told so, and then what the copy has, once; what
/// was on its way arrives once.
#[test]
fn when_the_server_is_set_back_each_is_told_the_history_that_it_has_now() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let (data, saved) = (installation.data().to_owned(), installation.folder().join("saved"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &[]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &["--wait-for", "2"]);
    bob.shows("connected 8", 1);
    alice.say("in the copy");
    alice.shows("accepted 1 ", 1);
    bob.shows("received 7 ", 1);
    alice.shows("delivered 8 ", 1);
    server.stop();
    copy_folder(&data, &saved);

    let server = installation.start();
    alice.shows("connected 7", 2);
    bob.shows("connected 8", 2);
    alice.say("lost with what followed the copy");
    alice.shows("accepted 2 ", 1);
    bob.shows("received 7 ", 2);
    alice.shows("delivered 8 ", 2);
    server.stop();
    // Sent to nobody: it waits.
    alice.say("without an answer");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&saved, &data).unwrap();

    let _server = installation.start();
    for chat in [&alice, &bob] {
        chat.shows("replaced", 1);
    }
    alice.shows("accepted 3 ", 1);
    bob.shows("received 7 ", 4);
    let after = |chat: &Chat, start: &str| {
        let lines = chat.lines("");
        let at = lines.iter().position(|line| line == "replaced").unwrap();
        lines[at..]
            .iter()
            .filter(|line| line.starts_with(start))
            .map(|line| line[start.len()..].to_owned())
            .collect::<Vec<_>>()
    };
    let texts = |lines: Vec<String>| {
        lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(after(&bob, "received 7 ")), ["in the copy", "without an answer"]);
    assert_eq!(texts(after(&alice, "sent 8 ")), ["in the copy"], "the answer stands for the other");
    assert!(alice.end().success());
    assert!(bob.end().success(), "two have come in the history that there is now");
}

#[test]
fn two_devices_of_one_person_show_what_either_of_them_writes() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let _server = installation.start();
    let mut phone = Chat::start(&installation, 7, 1, 8, &[]);
    let mut desk = Chat::start(&installation, 7, 2, 8, &[]);
    phone.shows("connected 7", 1);
    desk.shows("connected 7", 1);
    phone.say("from the phone");
    desk.shows("sent 8 ", 1);
    desk.say("from the desk");
    phone.shows("sent 8 ", 1);
    assert_eq!(
        (phone.texts("sent"), desk.texts("sent")),
        (vec!["from the desk".into()], vec!["from the phone".into()])
    );
    assert!(phone.end().success() && desk.end().success());
}

#[test]
fn a_conversation_over_tls_goes_on_after_the_server_was_killed_and_ends_where_nobody_can_be_trusted() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let certificate = certify(&mut installation).display().to_string();
    let server = installation.start();
    let trust = ["--tls-ca", &certificate, "--tls-name", "localhost"];
    let mut alice = Chat::start(&installation, 7, 1, 8, &trust);
    alice.shows("connected 7", 1);
    alice.say("first");
    alice.shows("accepted 1 ", 1);
    server.kill();
    alice.say("second");
    let _server = installation.start();
    alice.shows("accepted 2 ", 1);
    let mut bob = Chat::start(&installation, 8, 1, 7, &trust);
    bob.shows("received 7 ", 2);
    assert!(alice.end().success() && bob.end().success());

    let refused = |more: &[&str], code: i32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        command.args(["chat", "--token", &installation.token(7), "--to", "8"]).args(more).stdin(Stdio::null());
        let output = command.args(["--server", &installation.config.listen.to_string()]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["--tls-ca", &certificate, "--tls-name", "example.org"], 5);
    assert!(said.contains("the server is not trusted") && said.contains("example.org"), "{said}");
    assert!(refused(&["--tls-ca", "/nowhere"], 1).contains("/nowhere"));
    assert!(refused(&["--tls-ca", &certificate, "--tls-name", "no name"], 1).contains("`no name` is no name"));
    assert!(refused(&[], 5).contains("wants TLS: add --tls"));
}

#[test]
fn a_chat_goes_on_with_the_newer_token_that_comes_into_its_file() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    // Long enough for a program to start on a machine that is busy with something else.
    let token = installation.token_at(7, wall_now(), Duration::from_secs(15));
    let mut alice = Chat::start_with(&installation, 7, 1, 8, &[], &token);
    alice.shows("connected 7", 1);
    fs::write(installation.folder().join("t7"), installation.token(7)).unwrap();
    let refreshed = "ringpost_shard_refreshed_total{core=";
    wait_until("it has the newer token", || {
        server.metrics().iter().any(|(series, count)| series.starts_with(refreshed) && *count > 0.0)
    });
    let mut late = installation.connect();
    wait_until("the older one has expired", || {
        late = installation.connect();
        late.send(&[hello(&token, 2, Resume::Stored)]);
        matches!(late.frame(), Some(ServerFrame::Bye { .. }))
    });
    alice.say("Still here");
    alice.shows("accepted 1 ", 1);
    assert_eq!(alice.lines("disconnected"), Vec::<String>::new());
    assert!(alice.end().success());
}

/// Runs the program with this as its whole input; its exit code, and what it said on both outputs.
fn run(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    command.arg("chat").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that has ended already reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_line_that_is_no_command_ends_a_script_and_nothing_after_it_is_sent() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let (token, address) = (installation.token(7), installation.config.listen.to_string());
    let long = [b"hello\n", "x".repeat(20_000).as_bytes(), b"\nsecret\n"].concat();
    let inputs: [(&[u8], &str); 5] = [
        (b"/to 32\nhello\n/to 3l\nsecret\n", "line 3 of the input: /to takes the number of a user"),
        (b"hello\n/foo\nsecret\n", "line 2 of the input: `/foo` is no command"),
        (b"hello\n\xff\xfe\nsecret\n", "line 2 of the input: not UTF-8"),
        (b"hello\n/quit now\nsecret\n", "line 2 of the input: /quit is not written like this"),
        (&long, "line 2 of the input: longer than"),
    ];
    for (device, (input, why)) in (1..).zip(inputs) {
        let device = device.to_string();
        let (code, out, err) =
            run(&["--token", &token, "--to", "8", "--server", &address, "--device", &device, "--history", "0"], input);
        assert_eq!(code, 3, "{out} {err}");
        assert!(err.contains(why), "{err}");
        assert_eq!(out.matches("accepted ").count(), 1, "what was sent before is waited for: {out}");
        assert!(!out.contains("secret"), "{out}");
    }
    let (_, help, _) = run(&["--help"], b"");
    for code in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
    }
    server.stop();
}

#[test]
fn what_is_old_is_told_before_what_is_new_and_says_what_was_delivered() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let _server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &["--wait-delivered"]);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("connected 8", 1);
    for text in ["old one", "old two"] {
        alice.say(text);
    }
    bob.shows("received 7 ", 2);
    alice.shows("delivered 8 ", 1);
    bob.say("mine");
    assert!(bob.end().success());
    for text in ["new one", "new two", "new three"] {
        alice.say(text);
    }
    alice.shows("accepted ", 5);
    let mut bob = Chat::start(&installation, 8, 1, 7, &[]);
    bob.shows("received 7 ", 3);
    let lines: Vec<String> = bob.lines("").into_iter().filter(|line| line.contains("Z ")).collect();
    let texts: Vec<&str> = lines.iter().filter_map(|line| line.split_once("Z ")).map(|(_, text)| text).collect();
    assert_eq!(texts, ["old one", "old two", "mine", "new one", "new two", "new three"]);
    bob.shows("delivered 7 ", 1);
    assert!(alice.end().success() && bob.end().success());
}

#[test]
fn each_reason_why_there_is_no_connection_is_said_in_its_own_words() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.config.cores = 1;
    let server = installation.start();
    let (token, address) = (installation.token(7), installation.config.listen.to_string());
    let with = |token: &str, address: &str, more: &[&str]| {
        let arguments = ["--token", token, "--to", "8", "--server", address, "--timeout", "3"];
        run(&[arguments.as_slice(), more].concat(), b"hello\n")
    };

    // One that says nothing might be a Ringpost server that has much to do; one of the web answers in its own words.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap().to_string(), silent);
    let (code, _, err) = with(&token, &silent.0, &[]);
    assert!(code == 6 && err.contains("has not answered yet: is it a Ringpost server?"), "{code} {err}");
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let speaks = http.local_addr().unwrap().to_string();
    let speaker = thread::spawn(move || {
        let (mut stream, _) = http.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    });
    let (code, _, err) = with(&token, &speaks, &[]);
    speaker.join().unwrap();
    assert!(code == 5 && err.contains(&format!("{speaks} is no Ringpost server")), "{code} {err}");

    // A neighbour of the right port.
    let admin = server.admin().to_string();
    let (code, _, err) = with(&token, &admin, &[]);
    assert!(code == 5 && err.contains(&format!("{admin} is no Ringpost server")), "{code} {err}");

    let (code, _, err) = with(&token, &address, &["--tls-name", "localhost"]);
    assert!(code == 5 && err.contains("does not answer in TLS"), "{code} {err}");
    let (code, _, err) = with("nonsense", &address, &[]);
    assert!(code == 4 && err.contains("does not take this token"), "{code} {err}");
    let expired = installation.token_at(7, proto_spec::TimestampMs(wall_now().0 - 10_000_000), Duration::from_secs(60));
    let (code, _, err) = with(&expired, &address, &[]);
    assert!(code == 4 && err.contains("the token has expired"), "{code} {err}");
    let mut revoke = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    revoke.args(["revoke", "--user", "7", "--data"]).arg(installation.data());
    assert!(revoke.output().unwrap().status.success());
    let (code, _, err) = with(&token, &address, &[]);
    assert!(code == 4 && err.contains("has been revoked"), "{code} {err}");
    server.stop();

    // Nothing there: told once, however often it is tried.
    let (code, out, err) = with(&token, &address, &[]);
    assert!(code == 6 && err.contains("not connected: nothing listens on"), "{code} {err}");
    assert_eq!(out, format!("disconnected nothing listens on {address}\n"));
    let (code, _, err) = with(&token, "no.such.host.invalid", &[]);
    assert!(code == 6 && err.contains("no.such.host.invalid:7600 can not be found"), "{code} {err}");
    let (code, _, err) = with(&token, "http://localhost", &[]);
    assert!(code == 2 && err.contains("is no port") || err.contains("is no name of a host"), "{code} {err}");
}

#[test]
fn what_the_server_prints_at_its_start_works_as_it_is_printed() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let lines: Vec<&str> = server.greeting().lines().collect();
    let commands = lines.iter().filter_map(|line| line.get(9..)).filter(|text| text.contains("tested-ringpost "));
    let commands: Vec<&str> = commands.map(|text| text.split("   (").next().unwrap()).collect();
    assert_eq!(commands.len(), 4, "{}", server.greeting());
    for command in commands {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(installation.folder()).stdin(Stdio::null());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_person_names_lists_and_removes_devices_from_a_pipe() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let _server = installation.start();
    let mut phone = Chat::start(&installation, 7, 1, 8, &[]);
    let mut desk = Chat::start(&installation, 7, 2, 8, &[]);
    desk.shows("connected 7", 1);
    phone.shows("connected 7", 1);
    phone.say("/device-name Alice's phone");
    phone.shows("device 1 connected ", 1);
    assert!(phone.lines("device 1 ")[0].ends_with(" 0 Alice's phone"), "{:?}", phone.lines(""));
    phone.shows("devices 2", 1);
    phone.shows("device 2 ", 1);
    assert!(phone.lines("device 2 ")[0].ends_with(" 0 -"), "{:?}", phone.lines(""));
    phone.say("/remove-device 2");
    phone.shows("removed 2 user", 1);
    phone.shows("devices 1", 1);
    let status = desk.end();
    assert_eq!(status.code(), Some(4), "a removed device is of no use: {status}");
    phone.say("/remove-device 2");
    phone.say("/devices");
    phone.shows("devices 1", 2);
    assert!(phone.end().success());
    let mut again = Chat::start(&installation, 7, 2, 8, &[]);
    assert_eq!(again.end().code(), Some(4));
}
