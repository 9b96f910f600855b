//! Devices on the real server: who fills all places, who makes room, what a removal survives, and what the operator sees.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs,
    process::{Command, Output},
};

use proto_spec::{ClientFrame, DeviceId, ErrorCode, RequestId, Resume, ServerFrame};
use serde_json::Value;
use server::limits::DEVICES_MAX;
use tests::{
    connection::{Connection, hello},
    process::Installation,
    wait_until,
};

const USER: u64 = 7;

fn installation() -> Installation {
    Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"))
}

fn ringpost(installation: &Installation, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    command.args(arguments).arg("--config").arg(installation.folder().join("ringpost.toml")).output().unwrap()
}

/// Runs a command that must succeed; what it prints.
#[track_caller]
fn said(installation: &Installation, arguments: &[&str]) -> String {
    let output = ringpost(installation, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a hello of this device is answered with, as soon as the user may connect again.
fn greet(installation: &Installation, token: &str, device: u64) -> (Connection, ServerFrame) {
    loop {
        let mut connection = installation.connect();
        connection.send(&[hello(token, device, Resume::Stored)]);
        match connection.frame().unwrap() {
            ServerFrame::Bye { code: ErrorCode::RateLimited | ErrorCode::Overloaded, retry_after_ms, .. } => {
                std::thread::sleep(std::time::Duration::from_millis(retry_after_ms));
            }
            answer => return (connection, answer),
        }
    }
}

fn bye_of(answer: &ServerFrame) -> Option<ErrorCode> {
    match answer {
        ServerFrame::Bye { code, .. } => Some(*code),
        _ => None,
    }
}

#[test]
fn thirty_two_ids_that_merely_connected_lock_nobody_out() {
    let mut installation = installation();
    let server = installation.start();
    let token = installation.token(USER);
    for device in 1..=DEVICES_MAX as u64 {
        let (_, answer) = greet(&installation, &token, device);
        assert_eq!(bye_of(&answer), None);
    }
    let (_, refused) = greet(&installation, &token, 100);
    let ServerFrame::Bye { code: ErrorCode::DeviceRefused, devices, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(devices.len(), DEVICES_MAX);
    // A person chooses one, on a device that is there.
    let (mut phone, _) = greet(&installation, &token, 1);
    let request = RequestId(3);
    phone.send(&[ClientFrame::RemoveDevice { request, device: DeviceId(2) }]);
    let left = phone.until(|frame| match frame {
        ServerFrame::Devices { request: RequestId(3), devices } => Some(devices),
        _ => None,
    });
    assert_eq!(left.len(), DEVICES_MAX - 1);
    let (_, answer) = greet(&installation, &token, 100);
    assert_eq!(bye_of(&answer), None);
    server.stop();
}

#[test]
fn what_is_removed_stays_removed_after_a_kill_whether_a_device_or_the_operator_did_it() {
    let mut installation = installation();
    let mut server = installation.start();
    let token = installation.token(USER);
    let (mut phone, _) = greet(&installation, &token, 1);
    let (mut lost, _) = greet(&installation, &token, 2);
    let (mut stolen, _) = greet(&installation, &token, 3);
    let (name, request) = ("Alice's \u{1b}[2J phone".to_owned(), RequestId(1));
    phone.send(&[
        ClientFrame::NameDevice { request, device: DeviceId(1), name },
        ClientFrame::RemoveDevice { request: RequestId(2), device: DeviceId(2) },
    ]);
    phone.until(|frame| matches!(frame, ServerFrame::Devices { request: RequestId(2), .. }).then_some(()));
    assert_eq!(lost.bye(), ErrorCode::DeviceRemoved);
    let answer = said(&installation, &["devices", "remove", "--user", "7", "--device", "3"]);
    assert_eq!(answer, "user 7 device 3: removed, its id never comes back\n");
    assert_eq!(stolen.bye(), ErrorCode::DeviceRemoved);
    for kill in [true, false, true] {
        let list = said(&installation, &["devices", "list", "--user", "7"]);
        let [heading, one] = list.lines().collect::<Vec<_>>()[..] else { panic!("{list}") };
        assert!(heading.starts_with("device ") && one.starts_with("1 "), "{list}");
        assert!(one.ends_with(r#""Alice's \u{1b}[2J phone""#), "{list}");
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        server = installation.start();
        for device in [2, 3] {
            let (_, answer) = greet(&installation, &token, device);
            assert_eq!(bye_of(&answer), Some(ErrorCode::DeviceRemoved), "{device}");
        }
    }
    let again = ringpost(&installation, &["devices", "remove", "--user", "7", "--device", "3"]);
    assert!(!again.status.success());
    let words = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        words.contains("user 7 has no such device") && words.contains("`ringpost devices list --user 7 --config "),
        "{words}"
    );
    assert_eq!(said(&installation, &["devices", "list", "--user", "99"]), "user 99 has no devices\n");
    wait_until("the removal in the audit log", || {
        let log = fs::read_to_string(installation.data().join("audit.log")).unwrap_or_default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut removals = events.filter(|event| event["event"] == "device_removed");
        removals.any(|event| event["user"] == "7" && event["device"] == "3" && event["uid"].is_u64())
    });
    server.stop();
    let alone = ringpost(&installation, &["devices", "list", "--user", "7"]);
    let words = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && words.contains("no server runs on this data folder"), "{words}");
}
