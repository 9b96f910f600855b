//! The client in JavaScript: its own tests, and two of it that converse with a device of these tests over a real server, which is killed
//! in between.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use proto_spec::{Entry, FRAMES_PATH, Resume, Seq, ServerFrame};
use tests::{
    device::Device,
    foreign::{Script, log_of, message},
    process::Installation,
};

/// The oldest Node that the client is for.
const NODE_MIN: u32 = 18;

/// Messages that each writes to each other before the kill, and as many behind it.
const MESSAGES: usize = 20;

/// Where the client is.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/client")
}

/// Whether there is a Node that runs the client. Says so if not.
fn has_node() -> bool {
    let version = match Command::new("node").arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("NOT RUN: node is not installed");
            return false;
        }
        output => String::from_utf8(output.unwrap().stdout).unwrap(),
    };
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    let is_new: bool = major.is_some_and(|major: u32| major >= NODE_MIN);
    if !is_new {
        println!("NOT RUN: node is {}, the client is for {NODE_MIN} and newer", version.trim());
    }
    is_new
}

#[test]
fn the_client_in_javascript_passes_its_own_tests() {
    if !has_node() {
        return;
    }
    let files = fs::read_dir(folder().join("test")).unwrap().flatten().map(|entry| entry.path());
    let tests: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    assert!(!tests.is_empty(), "there are no tests in web/client/test");
    let output = Command::new("node").arg("--test").args(&tests).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A run of `web/client/e2e/converse.js`.
fn open(installation: &Installation, url: &str, user: u64, device: u64) -> Script {
    let mut command = Command::new("node");
    command.arg(folder().join("e2e/converse.js")).arg(url).arg(device.to_string());
    Script::start(command.env("RINGPOST_TOKEN", installation.token(user)))
}

/// The log that it holds once it has everything up to `seq`: each entry as a frame delivers it.
fn held(page: &mut Script, seq: u64) -> BTreeMap<u64, Vec<u8>> {
    page.tell(&format!("log {seq}"));
    let line = page.tells("log ", 1);
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    line.split(' ').map(bytes).map(|frame: Vec<u8>| (seq_of(&frame), frame)).collect()
}

/// The entry's seq, of a frame that delivers it: behind the length, the kind of the frame and that of the entry.
fn seq_of(frame: &[u8]) -> u64 {
    let varint = |at: usize| frame[at..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let at = varint(0) + 2;
    let bytes = &frame[at..at + varint(at)];
    bytes.iter().rev().fold(0, |seq, byte| seq << 7 | u64::from(byte & 0x7f))
}

fn delivered(entry: &Entry) -> Vec<u8> {
    let mut frame = Vec::new();
    ServerFrame::encode_deliver(entry, &mut frame);
    frame
}

/// Checks that this user's log has each message once, and that the page holds the same.
fn check(installation: &Installation, user: u64, page: &mut Script, messages: &[(u64, u64, String)]) {
    let mut wanted: Vec<_> = messages.iter().filter(|(from, to, _)| *from == user || *to == user).cloned().collect();
    let (log, position) = log_of(installation, user, wanted.len());
    let mut told: Vec<_> = log.values().filter_map(|entry| message(user, entry)).collect();
    for between in wanted.iter().map(|(from, to, _)| (*from, *to)).collect::<BTreeSet<_>>() {
        let of = |all: &[(u64, u64, String)]| -> Vec<_> {
            all.iter().filter(|(from, to, _)| (*from, *to) == between).cloned().collect()
        };
        assert_eq!(of(&told), of(&wanted), "in the order in which they were written");
    }
    told.sort();
    wanted.sort();
    assert_eq!(told, wanted);
    let held = held(page, position);
    // What is there now was there when the page was told, or it was told of it; what was there before may have been superseded between.
    let (log, _) = log_of(installation, user, wanted.len());
    for (seq, entry) in log.range(..=position) {
        assert_eq!(held.get(seq), Some(&delivered(entry)), "user {user}: entry {seq} is {entry:?}");
    }
    // It was there all the time, and holds what was superseded since; but no other message.
    for (seq, frame) in held.range(..=position).filter(|(seq, _)| !log.contains_key(seq)) {
        let kind = frame[frame.iter().position(|byte| *byte < 0x80).unwrap() + 2];
        assert!(kind > 2, "user {user}: the page holds message {seq}, which the server does not have");
    }
}

#[test]
fn two_pages_and_a_device_hold_the_same_history_after_the_server_was_killed() {
    if !has_node() {
        return;
    }
    let (alice, bob, carol) = (7, 8, 9);
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    // The address is this test's own, so nobody else takes the port meanwhile.
    let browsers = TcpListener::bind((installation.config.listen.ip(), 0)).unwrap().local_addr().unwrap();
    installation.config.websocket.listen = Some(browsers);
    let server = installation.start();
    let by_tcp = format!("tcp://{}", installation.config.listen);
    let by_polling = format!("http://{browsers}{FRAMES_PATH}");
    let mut pages = [(by_tcp, alice), (by_polling, bob)].map(|(url, user)| open(&installation, &url, user, 1));
    let mut device = Device::new(carol, 1, installation.token(carol));
    device.connect(installation.config.listen, Resume::After(Seq::ZERO));

    pages[0].tell("create crew");
    let group = pages[0].tells("created ", 1);
    pages[0].tell(&format!("add {group} {bob}"));
    let mut messages = Vec::new();
    let mut in_group = vec![];
    let mut talk = |pages: &mut [Script; 2], device: &mut Device, when: &str| {
        for n in 0..MESSAGES {
            for (at, from, to) in [(0, alice, bob), (1, bob, alice), (0, alice, carol), (1, bob, carol)] {
                let text = format!("{when}-{n}");
                pages[at].tell(&format!("say {to} {text}"));
                messages.push((from, to, text));
            }
            for to in [alice, bob] {
                let text = format!("{when}-{n}");
                device.say(to, &text);
                messages.push((carol, to, text));
            }
            pages[0].tell(&format!("say-group {group} {when}-{n}"));
            in_group.push(format!("{alice}/{when}-{n}"));
        }
    };
    talk(&mut pages, &mut device, "before");
    // In the midst of it.
    pages[0].tells("accepted ", MESSAGES);
    server.kill();
    device.disconnect();
    talk(&mut pages, &mut device, "without");
    pages[0].tells("lost ", 1);
    // And one of the pages with it.
    pages[0].tell("restart");
    let server = installation.start();
    device.connect(installation.config.listen, Resume::After(Seq(device.position)));
    talk(&mut pages, &mut device, "after");
    device.step_until("everything is answered", |device| device.unanswered() == 0);
    for (page, user) in pages.iter_mut().zip([alice, bob]) {
        check(&installation, user, page, &messages);
    }
    for page in &mut pages {
        page.tell(&format!("group {group} {}", in_group.len()));
        assert_eq!(page.tells("group ", 1).split(' ').collect::<Vec<_>>(), in_group, "once, in one order");
    }
    pages.into_iter().for_each(Script::quit);
    drop(server);
}
