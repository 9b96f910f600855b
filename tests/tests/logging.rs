//! The log is best effort: whatever becomes of standard error, the server serves, tells its metrics, and stops in order.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
};

use proto_spec::Resume;
use serde_json::Value;
use server::config::AdminListen;
use tests::{
    device::Device,
    process::{Installation, Server},
    wait_until,
};

const LOST: &str = "ringpost_log_lines_lost_total";

fn installation() -> Installation {
    Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"))
}

/// A server with a standard error of its own that serves.
fn start(installation: &mut Installation, stderr: impl Into<Stdio>) -> Server {
    let mut server = installation.spawn_logging_to(stderr.into());
    assert!(server.greets(), "it has ended");
    installation.config.listen = server.address();
    server
}

fn connected(installation: &Installation, user: u64) -> Device {
    let mut device = Device::new(user, 1, installation.token(user));
    device.connect(installation.config.listen, Resume::Stored);
    device
}

/// Has lines logged until some are lost, while messages pass.
fn log_until_lines_are_lost(installation: &Installation, server: &Server) {
    let (mut writer, mut reader) = (connected(installation, 1), connected(installation, 2));
    wait_until("lines are lost", || {
        server.signal("HUP");
        writer.say(2, "serves on");
        writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
        let sent = writer.sent();
        reader.step_until("it is there", |reader| reader.received().len() as u64 == sent);
        // At the level `trace` each leaves a line.
        (0..500).for_each(|_| installation.connect().bytes(b"GET / HTTP/1.1\r\n\r\n"));
        server.metrics()[LOST] > 0.0
    });
}

#[test]
fn a_server_whose_standard_error_is_gone_serves_on_and_stops_in_order() {
    let (reader, pipe) = io::pipe().unwrap();
    let mut installation = installation();
    let server = start(&mut installation, pipe);
    drop(reader);
    log_until_lines_are_lost(&installation, &server);
    server.stop();
}

#[test]
fn a_server_whose_log_has_no_room_serves_on_and_stops_in_order() {
    let mut installation = installation();
    let server = start(&mut installation, File::options().write(true).open("/dev/full").unwrap());
    log_until_lines_are_lost(&installation, &server);
    server.stop();
}

#[test]
fn a_server_whose_log_nobody_reads_serves_on_and_stops_in_order() {
    let (_reader, pipe) = io::pipe().unwrap();
    let mut installation = installation();
    installation.log_filter = "trace";
    let server = start(&mut installation, pipe);
    log_until_lines_are_lost(&installation, &server);
    server.stop();
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_are_missing() {
    let (reader, pipe) = io::pipe().unwrap();
    let mut installation = installation();
    installation.log_filter = "trace";
    let server = start(&mut installation, pipe);
    log_until_lines_are_lost(&installation, &server);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let note = lines.find(|line| line.contains("log lines are missing")).unwrap();
    let (_, lost) = note.split_once(" lost=").unwrap();
    assert!(lost.parse::<u64>().unwrap() > 0, "{note}");
    let rest = thread::spawn(move || lines.count());
    server.stop();
    assert!(rest.join().unwrap() > 0);
}

#[test]
fn a_server_without_standard_output_and_error_serves_and_stops_in_order() {
    let mut installation = installation();
    // Before it starts the test must know where it will be.
    installation.config.listen = TcpListener::bind(installation.config.listen).unwrap().local_addr().unwrap();
    let closed = "exec \"$0\" \"$@\" >&- 2>&-";
    installation.wrapper = ["sh", "-c", closed].map(str::to_owned).to_vec();
    let mut server = installation.spawn();
    wait_until("it serves", || TcpStream::connect(installation.config.listen).is_ok());
    assert!(server.is_running());
    server.signal("HUP");
    let mut writer = connected(&installation, 1);
    writer.say(2, "serves on");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    server.stop();
}

/// An address for each listener that is known before the server starts.
fn choose_addresses(installation: &mut Installation) {
    let free = |ip| TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    let ip = installation.config.listen.ip();
    installation.config.listen = free(ip);
    installation.config.admin_listen = AdminListen::At(free(ip));
}

fn objects(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn as_json_every_line_is_an_object_and_standard_output_is_empty() {
    // Standard error is a file here: without the flag it is as with it.
    for format in [None, Some("json")] {
        let mut installation = installation();
        choose_addresses(&mut installation);
        installation.log_format = format;
        installation.log_filter = "trace";
        let mut server = installation.spawn();
        wait_until("it serves", || installation.log().contains("\"serving\""));
        // A second server in the same folder.
        let (code, said) = installation.refused();
        let refusal = objects(&said).pop().unwrap();
        assert_eq!((code, &refusal["level"]), (1, &"ERROR".into()), "{said}");
        assert!(refusal["message"].as_str().unwrap().contains("another"), "{said}");
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(server.rest_of_standard_output(), "");

        let lines = objects(&installation.log());
        let line = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap();
        let serving = line("serving");
        assert_eq!(serving["listen"], installation.config.listen.to_string());
        assert_eq!(serving["pid"], server.id());
        for field in ["admin", "cores", "data", "version"] {
            assert!(!serving[field].is_null(), "{field}: {serving}");
        }
        let stopped = line("stopped");
        assert_eq!(stopped["reason"], "SIGTERM");
        assert!(stopped["took_ms"].is_u64() && stopped["waited_for"].is_string(), "{stopped}");
    }
}

#[test]
fn no_line_shows_where_the_server_was_built() {
    for format in ["text", "json"] {
        let mut installation = installation();
        installation.log_format = Some(format);
        choose_addresses(&mut installation);
        installation.log_filter = "trace";
        let mut server = installation.spawn();
        wait_until("it serves", || installation.log().contains("serving"));
        let mut writer = connected(&installation, 1);
        writer.say(2, "into the store");
        writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0));
        let log = installation.log();
        assert!(log.contains("lsm_tree"), "what the engine says is not there");
        for path in [".rs", "/registry/", env!("CARGO_MANIFEST_DIR")] {
            assert!(!log.contains(path), "{path}: {}", log.lines().find(|line| line.contains(path)).unwrap());
        }
    }
}

#[test]
fn a_filter_that_would_silence_the_log_is_refused_in_the_format_that_was_asked_for() {
    let mut installation = installation();
    installation.log_filter = "verbose";
    let (code, said) = installation.refused();
    assert_eq!(code, 2);
    assert!(said.starts_with("ringpost: RUST_LOG = \"verbose\""), "{said}");
    installation.log_format = Some("json");
    let (code, said) = installation.refused();
    assert_eq!(code, 2);
    assert!(objects(&said)[0]["message"].as_str().unwrap().contains("error, warn, info"), "{said}");
}
