//! The log is best effort: whatever becomes of standard error, the server serves, tells its metrics, and stops in order.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
};

use proto_spec::Resume;
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
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    assert!(note["lost"].as_str().unwrap().parse::<u64>().unwrap() > 0, "{note}");
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
