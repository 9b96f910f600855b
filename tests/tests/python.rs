//! The client for phones: its bindings are made, and devices in Python converse over a real server. Both are killed in between.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use proto_spec::{Content, ConversationId, Entry, Event, Resume, Seq, TimestampMs};
// Built with this test, and loaded by what it starts.
use ringpost_ffi as _;
use tempfile::TempDir;
use tests::{
    device::Device,
    foreign::{Script, log_of, message},
    process::{Installation, wall_now},
    wait_until,
};

const ALICE: u64 = 7;
const BOB: u64 = 8;
const CAROL: u64 = 9;

/// Times that a device is killed while it writes.
const KILLS: usize = 4;

/// Messages that it writes between two of them.
const MESSAGES: usize = 15;

/// What cargo builds with this test.
fn library() -> PathBuf {
    let library = env::current_exe().unwrap().with_file_name("libringpost_ffi.so");
    assert!(library.is_file(), "{} was built with this test", library.display());
    library
}

fn bindgen() -> &'static str {
    env!("CARGO_BIN_EXE_tested-uniffi-bindgen")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/ffi/python")
}

/// Whether there is a Python. Says so if not.
fn has_python() -> bool {
    match Command::new("python3").arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("NOT RUN: python3 is not installed");
            false
        }
        output => output.unwrap().status.success(),
    }
}

/// Runs to its end, which must be a good one. What it said.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said.into_owned()
}

/// A folder with the module `ringpost`, as `build.py` makes it.
fn module() -> TempDir {
    let made = TempDir::new().unwrap();
    let mut command = Command::new("python3");
    command.arg(folder().join("build.py")).arg(made.path());
    run(command.arg("--library").arg(library()).arg("--bindgen").arg(bindgen()));
    made
}

fn python(module: &TempDir, script: &str) -> Command {
    let mut command = Command::new("python3");
    // Nothing is written into the repository.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", module.path()).arg(folder().join(script));
    command
}

#[test]
fn the_module_for_python_passes_its_own_tests() {
    if has_python() {
        let said = run(&mut python(&module(), "test_ringpost.py"));
        assert!(said.contains("\nOK"), "{said}");
    }
}

#[test]
fn the_readme_calls_what_there_is() {
    if !has_python() {
        return;
    }
    let written = fs::read_to_string(module().path().join("ringpost.py")).unwrap();
    let readme = fs::read_to_string(folder().join("../README.md")).unwrap();
    let rows = readme.lines().skip_while(|line| *line != "## What to call when").filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(2)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let calls: Vec<&str> = cells.map(|call| call.rsplit('.').next().unwrap().split('(').next().unwrap()).collect();
    assert!(calls.len() > 6, "{calls:?}");
    for call in calls {
        assert!(written.contains(&format!("    def {call}(")), "the README calls {call}, which is not there");
    }
    let example = readme.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    run(Command::new("python3").args(["-c", "import ast, sys; ast.parse(sys.argv[1])", example]));
}

#[test]
fn kotlin_and_swift_get_the_same_calls() {
    let made = TempDir::new().unwrap();
    for (language, file, calls) in [
        ("kotlin", "uniffi/ringpost/ringpost.kt", ["fun `nextEvents`(", "fun `catchUp`(", "fun `wentToBackground`("]),
        ("swift", "ringpost.swift", ["func nextEvents(", "func catchUp(", "func wentToBackground("]),
    ] {
        let mut command = Command::new(bindgen());
        command.args(["generate", "--language", language, "--no-format", "--out-dir"]).arg(made.path());
        run(command.arg(library()));
        let written = fs::read_to_string(made.path().join(file)).unwrap();
        for call in calls {
            assert!(written.contains(call), "{file} has no {call}");
        }
    }
    check_with("swiftc", ["-typecheck", "-Xcc", "-fmodule-map-file=ringpostFFI.modulemap", "ringpost.swift"], &made);
}

/// Has a compiler look at what was written, if it is installed. That of Kotlin needs JNA beside it, and is not asked.
fn check_with<const N: usize>(compiler: &str, arguments: [&str; N], made: &TempDir) {
    match Command::new(compiler).args(arguments).current_dir(made.path()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => println!("NOT RUN: {compiler} is not installed"),
        output => assert!(output.as_ref().unwrap().status.success(), "{compiler}: {output:?}"),
    }
}

/// A device in Python, and what it keeps.
struct Phone(TempDir);

impl Phone {
    fn new(installation: &Installation, user: u64) -> Self {
        let phone = Self(TempDir::new().unwrap());
        phone.give_token(&installation.token(user));
        phone
    }

    fn give_token(&self, token: &str) {
        fs::write(self.0.path().join("token"), token).unwrap();
    }

    fn start(&self, module: &TempDir, installation: &Installation, how: &[&str]) -> Script {
        let mut command = python(module, "device.py");
        command.arg(self.0.path()).arg(installation.config.listen.to_string()).arg("1");
        Script::start(command.args(how))
    }
}

/// An entry as `device.py` tells it.
fn told(entry: &Entry) -> String {
    let said = |content: &Content| content.as_text().unwrap_or("something else").to_owned();
    match &entry.event {
        Event::Received { from, origin, content } => format!("received {from} {origin} {}", said(content)),
        Event::Sent { to: ConversationId::Person(to), device, number, content } => {
            format!("sent {to} {device} {number} {}", said(content))
        }
        Event::Delivered { peer, up_to } => format!("delivered {peer} {up_to}"),
        Event::Seen { peer, up_to } => format!("seen {peer} {up_to}"),
        _ => "something else".to_owned(),
    }
}

/// What the device has in its database once it has so many messages.
fn held(device: &mut Script, messages: usize) -> BTreeMap<u64, String> {
    let mut held = BTreeMap::new();
    let mut times = 0;
    wait_until("it has all messages", || {
        let before = device.told("log ").len();
        device.tell("log");
        times += 1;
        device.tells("log is whole", times);
        let lines = device.told("log ").split_off(before);
        let entries = lines.iter().filter_map(|line| line.split_once(' '));
        held = entries.filter_map(|(seq, what)| Some((seq.parse().ok()?, what.to_owned()))).collect();
        held.values().filter(|what| is_message(what)).count() >= messages
    });
    held
}

fn is_message(what: &str) -> bool {
    what.starts_with("received ") || what.starts_with("sent ")
}

/// Checks that this user's log has each of these messages once, those of each author in order, and that the device holds the same log.
fn check(installation: &Installation, user: u64, device: &mut Script, messages: &[(u64, u64, String)]) {
    let wanted: Vec<_> = messages.iter().filter(|(from, to, _)| *from == user || *to == user).cloned().collect();
    let held = held(device, wanted.len());
    let (log, position) = log_of(installation, user, wanted.len());
    let stored: Vec<_> = log.values().filter_map(|entry| message(user, entry)).collect();
    let between = |all: &[(u64, u64, String)], from, to| -> Vec<_> {
        all.iter().filter(|of| (of.0, of.1) == (from, to)).cloned().collect()
    };
    for (from, to, _) in &wanted {
        assert_eq!(between(&stored, *from, *to), between(&wanted, *from, *to), "once, in the order of their author");
    }
    assert_eq!(stored.len(), wanted.len());
    for (seq, entry) in log.range(..=position).filter(|(_, entry)| message(user, entry).is_some()) {
        assert_eq!(held.get(seq), Some(&told(entry)), "user {user}: entry {seq}");
    }
    let messages_held = held.values().filter(|what| is_message(what)).count();
    assert_eq!(messages_held, wanted.len(), "user {user} holds messages that the server does not have");
}

#[test]
fn devices_that_are_killed_and_a_server_that_is_killed_lose_and_double_nothing() {
    if !has_python() {
        return;
    }
    let module = module();
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let mut server = Some(installation.start());
    let (alice, bob) = (Phone::new(&installation, ALICE), Phone::new(&installation, BOB));
    let mut bobs = bob.start(&module, &installation, &[]);
    let mut carol = Device::new(CAROL, 1, installation.token(CAROL));
    carol.connect(installation.config.listen, Resume::After(Seq::ZERO));
    let mut messages = Vec::new();
    let mut number = 0;
    for kill in 0..=KILLS {
        let mut alices = alice.start(&module, &installation, &[]);
        for _ in 0..MESSAGES {
            number += 1;
            for (at, from, to) in [(&mut alices, ALICE, BOB), (&mut bobs, BOB, ALICE)] {
                at.tell(&format!("say {to} {from}-{number}"));
                messages.push((from, to, format!("{from}-{number}")));
            }
            alices.tell(&format!("say {CAROL} {ALICE}-{number}"));
            messages.push((ALICE, CAROL, format!("{ALICE}-{number}")));
            carol.say(ALICE, &format!("{CAROL}-{number}"));
            messages.push((CAROL, ALICE, format!("{CAROL}-{number}")));
        }
        // It must have heard the last line, after which it may be anywhere.
        alices.tell("log");
        alices.tells("log is whole", 1);
        if kill == KILLS {
            carol.step_until("everything is answered", |carol| carol.unanswered() == 0);
            check(&installation, ALICE, &mut alices, &messages);
            check(&installation, BOB, &mut bobs, &messages);
            alices.quit();
            break;
        }
        // In the midst of what comes back, at another place each time.
        alices.tells("accepted ", kill + 1);
        let Some(running) = server.take_if(|_| kill % 2 == 1) else {
            drop(alices.kill());
            continue;
        };
        running.kill();
        carol.disconnect();
        bobs.tells("lost ", 1);
        drop(alices.kill());
        server = Some(installation.start());
        carol.connect(installation.config.listen, Resume::After(Seq(carol.position)));
    }
    bobs.quit();
    drop(server);
}

#[test]
fn a_device_that_a_push_wakes_stores_what_came_tells_so_and_is_gone_again() {
    if !has_python() {
        return;
    }
    let module = module();
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let _server = installation.start();
    let bob = Phone::new(&installation, BOB);
    let mut device = bob.start(&module, &installation, &[]);
    device.tells("caught up", 1);
    device.tell("background");
    device.tells("suspended", 1);
    device.tell("sleep");
    let mut carol = Device::new(CAROL, 1, installation.token(CAROL));
    carol.connect(installation.config.listen, Resume::After(Seq::ZERO));
    carol.say(BOB, "while-asleep");
    carol.step_until("it is accepted", |carol| carol.unanswered() == 0);
    let seq = carol.position;
    // What is written meanwhile is in the database, and leaves with the push.
    device.tell(&format!("say {CAROL} from-asleep"));
    device.tell("catch-up 60000");
    assert_eq!(device.tells("done ", 1), "True 0");
    assert_eq!(device.told("entry ").iter().filter(|entry| entry.contains("while-asleep")).count(), 1);
    assert_eq!(device.told("suspended").len(), 2);
    let delivered = |carol: &Device, seq| {
        let is_it = |entry: &&Entry| matches!(entry.event, Event::Delivered { up_to, .. } if up_to >= Seq(seq));
        carol.log.values().any(|entry| is_it(&entry))
    };
    carol.step_until("it is told as delivered", |carol| delivered(carol, seq));
    // A process that the push has started.
    drop(device.kill());
    carol.say(BOB, "while-dead");
    carol.step_until("it is accepted", |carol| carol.unanswered() == 0);
    let mut woken = bob.start(&module, &installation, &["woken"]);
    woken.tell("catch-up 60000");
    assert_eq!(woken.tells("done ", 1), "True 0");
    assert_eq!(woken.told("entry ").iter().filter(|entry| is_message(entry.split_once(' ').unwrap().1)).count(), 1);
    woken.tell("foreground");
    woken.tells("caught up", 2);
    // The next push comes before the goodbye is said.
    for command in ["background", "sleep", "catch-up 60000"] {
        woken.tell(command);
    }
    assert_eq!(woken.tells("done ", 2), "True 0");
    assert_eq!(woken.told("connected ").len(), 3);
    woken.quit();
}

#[test]
fn a_device_whose_token_has_expired_asks_for_another_one_and_goes_on() {
    if !has_python() {
        return;
    }
    let module = module();
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let _server = installation.start();
    let bob = Phone::new(&installation, BOB);
    let yesterday = TimestampMs(wall_now().0 - 86_400_000);
    bob.give_token(&installation.token_at(BOB, yesterday, Duration::from_secs(60)));
    let mut device = bob.start(&module, &installation, &["woken"]);
    device.tells("started", 1);
    bob.give_token(&installation.token(BOB));
    device.tell("foreground");
    device.tells("connected ", 1);
    assert_eq!(device.told("token asked for").len(), 1);
    device.quit();
}
