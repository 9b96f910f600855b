//! `ringpost chat` from end to end, as a script uses it: two people, a server that dies in between.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use proto_spec::{Resume, ServerFrame};
use tests::{
    connection::hello,
    process::{Installation, wall_now},
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
        std::fs::write(&token, token_in_file).unwrap();
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
fn two_people_converse_though_one_starts_later_and_the_server_is_killed_in_between() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let mut alice = Chat::start(&installation, 7, 1, 8, &["--wait-for", "3", "--wait-delivered"]);
    alice.shows("connected 7", 1);
    alice.say("Is anybody there?");
    alice.shows("accepted 1 1 committed offline", 1);

    server.kill();
    alice.shows("disconnected ", 1);
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

    let refused = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        command.args(["chat", "--token", &installation.token(7), "--to", "8"]).args(more).stdin(Stdio::null());
        let output = command.args(["--server", &installation.config.listen.to_string()]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["--tls-ca", &certificate, "--tls-name", "example.org"]);
    assert!(said.contains("the server is not trusted") && said.contains("example.org"), "{said}");
    assert!(refused(&["--tls-ca", "/nowhere"]).contains("/nowhere"));
    assert!(refused(&["--tls-ca", &certificate, "--tls-name", "no name"]).contains("`no name` is no name"));
    assert!(refused(&[]).contains("tls_required"));
}

#[test]
fn a_chat_goes_on_with_the_newer_token_that_comes_into_its_file() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let server = installation.start();
    let token = installation.token_at(7, wall_now(), Duration::from_secs(5));
    let mut alice = Chat::start_with(&installation, 7, 1, 8, &[], &token);
    alice.shows("connected 7", 1);
    std::fs::write(installation.folder().join("t7"), installation.token(7)).unwrap();
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
