//! Tokens on the real server: keys that are replaced, connections that end or are renewed, revocation, the audit log.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto_spec::{ClientFrame, ClientKind, DeviceId, ErrorCode, Resume, ServerFrame, UserId};
use serde_json::{Value, json};
use server::{
    access::auth::{Mint, mint_with},
    files::{datadir, keyfile},
    limits,
};
use tests::{
    connection::{Connection, hello},
    device::Device,
    process::{Installation, Server, wall_now},
    wait_until,
};

const HOUR: Duration = Duration::from_secs(3600);

fn installation() -> Installation {
    Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"))
}

/// A token that is newer than what has just been revoked: one of the same millisecond would be void too, and the server's clock may be
/// a millisecond ahead of that of this process.
fn later_token(installation: &Installation, user: u64) -> String {
    std::thread::sleep(Duration::from_millis(20));
    installation.token(user)
}

/// What a hello with this token is answered with.
#[track_caller]
fn greet(installation: &Installation, token: &str, device: u64) -> (Connection, Result<(), ErrorCode>) {
    let mut connection = installation.connect();
    connection.send(&[hello(token, device, Resume::Stored)]);
    let answer = match connection.frame() {
        Some(ServerFrame::Welcome { .. }) => Ok(()),
        Some(ServerFrame::Bye { code, .. }) => Err(code),
        other => panic!("{other:?}"),
    };
    (connection, answer)
}

#[track_caller]
fn login(installation: &Installation, token: &str, device: u64) -> Connection {
    let (connection, answer) = greet(installation, token, device);
    assert_eq!(answer, Ok(()));
    connection
}

/// What a refresh with this token is answered with.
#[track_caller]
fn refresh(connection: &mut Connection, token: &str) -> Result<u64, ErrorCode> {
    connection.send(&[ClientFrame::Refresh { token: token.to_owned() }]);
    connection.until(|frame| match frame {
        ServerFrame::Refreshed { expires } => Some(Ok(expires.0)),
        ServerFrame::Error { code, kind, .. } if kind == ClientKind::Refresh.byte() => Some(Err(code)),
        _ => None,
    })
}

/// The lines of the audit log, read as JSON.
fn audit(installation: &Installation) -> Vec<Value> {
    let text = fs::read_to_string(audit_path(installation)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

fn audit_path(installation: &Installation) -> PathBuf {
    installation.data().join("audit.log")
}

/// Waits until the audit log has an event like this, and gives it.
#[track_caller]
fn audited(installation: &Installation, like: &Value) -> Value {
    let is_like = |event: &Value| like.as_object().unwrap().iter().all(|(key, value)| &event[key] == value);
    let mut found = None;
    wait_until(&format!("{like} in the audit log"), || {
        found = audit(installation).into_iter().find(|event| is_like(event));
        found.is_some()
    });
    found.unwrap()
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

fn minted(installation: &Installation, user: u64, device: Option<u64>, ttl: Duration) -> String {
    let key = keyfile::load_signing_key(&datadir::token_key_path(installation.data())).unwrap();
    let (user, device) = (UserId(user), device.map(DeviceId));
    mint_with(&key, &Mint { user, device, ttl, audience: None, issuer: None }, wall_now()).unwrap()
}

/// A secret of a key set: its id, what it is, and that in base64url.
type Secret = (&'static str, &'static [u8], &'static str);

const OLD: Secret = ("old", b"thirty-two bytes of a secret, ok", "dGhpcnR5LXR3byBieXRlcyBvZiBhIHNlY3JldCwgb2s");
const NEW: Secret = ("new", b"another secret of thirty-two byt", "YW5vdGhlciBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXQ");

fn signed((id, secret, _): Secret, user: u64) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(id.to_owned());
    let claims = json!({ "sub": user.to_string(), "exp": wall_now().0 / 1000 + 3600, "aud": ["chat"], "iss": "us" });
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn write_keys(path: &Path, secrets: &[Secret]) {
    let mut keys: Vec<Value> = secrets.iter().map(|(id, _, k)| json!({ "kty": "oct", "kid": id, "k": k })).collect();
    keys.push(json!({ "kty": "RSA", "kid": "of another service" }));
    fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn keys_are_replaced_under_live_connections() {
    let mut installation = installation();
    let jwks = installation.folder().join("keys.json");
    installation.config.auth.jwks_file = jwks.clone();
    installation.config.auth.audience = "chat".to_owned();
    installation.config.auth.issuer = "us".to_owned();
    write_keys(&jwks, &[OLD]);
    let server = installation.start();
    assert!(server.logged().contains("of another service"), "{}", server.logged());
    let mut early = login(&installation, &signed(OLD, 7), 1);
    let own = said(&installation, &["token", "--user", "7", "--device", "2"]);
    login(&installation, own.trim_end(), 2).is_alive();
    assert_eq!(greet(&installation, own.trim_end(), 3).1, Err(ErrorCode::TokenInvalid), "it is of device 2");

    // Both for a while, then the new one alone.
    write_keys(&jwks, &[OLD, NEW]);
    server.signal("HUP");
    wait_until("the new key counts", || greet(&installation, &signed(NEW, 8), 1).1.is_ok());
    write_keys(&jwks, &[NEW]);
    server.signal("HUP");
    wait_until("the old key does not", || greet(&installation, &signed(OLD, 8), 1).1.is_err());
    early.is_alive();
    assert_eq!(refresh(&mut early, &signed(OLD, 7)), Err(ErrorCode::TokenInvalid));
    assert!(refresh(&mut early, &signed(NEW, 7)).is_ok());

    fs::write(&jwks, "{\"keys\": [").unwrap();
    server.signal("HUP");
    let failed = audited(&installation, &json!({ "event": "reload_failed" }));
    assert!(failed["reason"].as_str().unwrap().contains("keys.json"), "{failed}");
    assert_eq!(greet(&installation, &signed(NEW, 8), 2).1, Ok(()));
    early.is_alive();
    assert_eq!(audited(&installation, &json!({ "event": "refreshed" }))["key"], "new");
    server.stop();
}

#[test]
fn a_connection_is_warned_and_closed_when_its_token_expires_and_stays_when_it_has_a_newer_one() {
    let mut installation = installation();
    let server = installation.start();
    // Long enough for all that must happen before its end, on a machine that is busy with something else.
    let short = minted(&installation, 7, None, Duration::from_secs(15));
    let [mut warned, mut renewed] = [1, 2].map(|device| login(&installation, &short, device));
    for connection in [&mut warned, &mut renewed] {
        let left_ms = connection.until(|frame| match frame {
            ServerFrame::TokenExpiring { expires_in_ms } => Some(expires_in_ms),
            _ => None,
        });
        assert!(left_ms <= 15_000, "{left_ms}");
    }
    for (token, why) in [
        (minted(&installation, 8, None, HOUR), "another user"),
        (minted(&installation, 7, Some(1), HOUR), "another device"),
        ("no.to.ken".to_owned(), "no token"),
    ] {
        assert_eq!(refresh(&mut renewed, &token), Err(ErrorCode::TokenInvalid), "{why}");
    }
    let long = minted(&installation, 7, Some(2), HOUR);
    assert!(refresh(&mut renewed, &long).unwrap() > wall_now().0 + 3_000_000);
    assert_eq!(warned.bye(), ErrorCode::TokenExpired);
    renewed.is_alive();
    let ended = audited(&installation, &json!({ "event": "token_ended" }));
    assert_eq!(
        (&ended["user"], &ended["device"], &ended["reason"]),
        (&json!("7"), &json!("1"), &json!("token_expired"))
    );
    assert_eq!(server.metrics()["ringpost_connections_closed_total{reason=\"token_expired\"}"], 1.0);
    server.stop();
}

#[test]
fn what_is_revoked_is_closed_at_once_and_stays_out_over_a_restart_until_it_is_lifted() {
    let mut installation = installation();
    let mut server = installation.start();
    let old = installation.token(7);
    let [mut phone, mut laptop] = [1, 2].map(|device| login(&installation, &old, device));
    let mut other = login(&installation, &installation.token(8), 1);

    let answer = said(&installation, &["revoke", "--user", "7", "--device", "2"]);
    assert!(answer.starts_with("user 7 device 2: tokens issued up to 2"), "{answer}");
    assert_eq!(laptop.bye(), ErrorCode::Revoked);
    [&mut phone, &mut other].into_iter().for_each(Connection::is_alive);
    assert_eq!(greet(&installation, &old, 2).1, Err(ErrorCode::Revoked));
    assert_eq!(greet(&installation, &old, 3).1, Ok(()));
    assert_eq!(refresh(&mut phone, &old).err(), None, "it is good for this device");
    let newer = later_token(&installation, 7);
    login(&installation, &newer, 2).is_alive();

    said(&installation, &["revoke", "--user", "7"]);
    assert_eq!(phone.bye(), ErrorCode::Revoked);
    other.is_alive();
    let newest = later_token(&installation, 7);
    let mut phone = login(&installation, &newest, 1);
    assert_eq!(refresh(&mut phone, &newer), Err(ErrorCode::Revoked));
    phone.is_alive();

    // The audit log has a thread of its own, which a kill may overtake.
    for device in [json!("2"), Value::Null] {
        audited(&installation, &json!({ "event": "revoked", "user": "7", "device": device }));
    }
    for restart in ["kill", "stop"] {
        if restart == "kill" {
            server.kill()
        } else {
            server.stop()
        }
        server = installation.start();
        for (token, device) in [(&old, 1), (&newer, 1), (&old, 2)] {
            assert_eq!(greet(&installation, token, device).1, Err(ErrorCode::Revoked), "after {restart}");
        }
        login(&installation, &newest, 1).is_alive();
    }
    assert_eq!(said(&installation, &["revocations"]).lines().count(), 2);

    said(&installation, &["revoke", "--user", "7", "--lift"]);
    assert_eq!(greet(&installation, &old, 1).1, Ok(()));
    assert_eq!(greet(&installation, &old, 2).1, Err(ErrorCode::Revoked), "that of the device holds");
    let again = ringpost(&installation, &["revoke", "--user", "7", "--lift"]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("no revocation of user 7 is in force"));
    for (what, device) in [("revoked", json!("2")), ("revoked", Value::Null), ("lifted", Value::Null)] {
        let event = audited(&installation, &json!({ "event": what, "user": "7", "device": device }));
        assert!(event["uid"].is_u64(), "{event}");
    }
    server.stop();
}

#[test]
fn the_operators_socket_refuses_what_it_does_not_know_and_changes_nothing() {
    let mut installation = installation();
    let server = installation.start();
    let long = format!("GET /{}", "x".repeat(limits::ADMIN_REQUEST_BYTES_MAX));
    for (request, status) in [
        ("GET /nothing", "404"),
        ("PUT /revocations?user=7", "405"),
        ("POST /revocations", "400"),
        ("POST /revocations?user=07", "400"),
        ("DELETE /revocations?user=7&device=0", "400"),
        ("DELETE /revocations?user=7", "404"),
        (&long, "431"),
    ] {
        let mut socket = UnixStream::connect(installation.data().join("admin.sock")).unwrap();
        socket.write_all(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        // One that is too long is answered before it is read.
        let _ = socket.read_to_string(&mut answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    assert_eq!(said(&installation, &["revocations"]), "");
    server.stop();
    assert!(!installation.data().join("admin.sock").exists());
}

#[test]
fn a_stopped_server_is_told_of_a_revocation_by_its_files() {
    let mut installation = installation();
    let server = installation.start();
    let old = installation.token(7);
    server.stop();
    said(&installation, &["revoke", "--user", "7"]);
    assert!(said(&installation, &["revocations"]).starts_with("user 7: tokens issued up to 2"));
    audited(&installation, &json!({ "event": "revoked", "user": "7" }));
    let server = installation.start();
    assert_eq!(greet(&installation, &old, 1).1, Err(ErrorCode::Revoked));
    server.stop();

    let path = installation.data().join("revocations");
    let damaged = fs::read_to_string(&path).unwrap().replace("revoke 7", "revoke 8");
    fs::write(&path, &damaged).unwrap();
    let (code, why) = installation.refused();
    assert!(code == 1 && why.contains("revocations, line 1: damaged"), "{why}");
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
}

#[test]
fn the_audit_log_tells_who_came_from_where_and_with_which_key_and_does_not_grow_with_strangers() {
    let mut installation = installation();
    let server = installation.start();
    let (_client, _) = greet(&installation, &installation.token(7), 3);
    let login = audited(&installation, &json!({ "event": "login", "user": "7", "device": "3", "key": "key_file" }));
    assert!(login["peer"].as_str().unwrap().parse::<SocketAddr>().unwrap().ip().is_loopback(), "{login}");
    let expired = installation.token_at(9, proto_spec::TimestampMs(1_000), HOUR);
    assert_eq!(greet(&installation, &expired, 1).1, Err(ErrorCode::TokenExpired));
    let refused = audited(&installation, &json!({ "event": "refused", "user": "9", "reason": "token_expired" }));
    assert_eq!(refused["key"], "key_file");
    for _ in 0..100 {
        assert_eq!(greet(&installation, "a.b.c", 1).1, Err(ErrorCode::TokenInvalid));
    }
    server.stop();
    let events = audit(&installation);
    let count = |what| events.iter().filter(|event| event["event"] == what).count() as u64;
    let more: u64 = events.iter().filter_map(|event| event["count"].as_u64()).sum();
    assert_eq!(count("refused") + more, 101);
    assert!(more > 0 && count("refused") < 101, "not a line each: {events:?}");
    assert_eq!((&events[0]["event"], &events[events.len() - 1]["event"]), (&json!("start"), &json!("stop")));
    let mode = fs::metadata(audit_path(&installation)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_hangup_begins_a_new_audit_log_and_an_operator_may_have_none() {
    let mut installation = installation();
    let server = installation.start();
    let moved = installation.data().join("audit.log.1");
    fs::rename(audit_path(&installation), &moved).unwrap();
    server.signal("HUP");
    wait_until("there is a new one", || audit_path(&installation).exists());
    audited(&installation, &json!({ "event": "reloaded" }));
    server.stop();
    assert!(fs::read_to_string(&moved).unwrap().lines().count() == 1, "the start");
    fs::remove_file(audit_path(&installation)).unwrap();
    installation.config.audit.enabled = false;
    let server = installation.start();
    login(&installation, &installation.token(7), 1).is_alive();
    server.stop();
    assert!(!audit_path(&installation).exists());
}

/// Everything that the server says to somebody who is not the owner of it.
fn told(installation: &Installation, server: &Server, byes: &[String]) -> String {
    let metrics = format!("{:?}", server.metrics());
    [installation.log(), fs::read_to_string(audit_path(installation)).unwrap(), metrics, byes.concat()].concat()
}

#[test]
fn no_token_no_key_and_no_text_is_in_the_log_the_audit_log_the_metrics_or_a_bye() {
    let mut installation = installation();
    installation.log_filter = "trace";
    let jwks = installation.folder().join("keys.json");
    installation.config.auth.jwks_file = jwks.clone();
    write_keys(&jwks, &[OLD]);
    let server = installation.start();
    let text = "a secret between the two of us";
    let good = minted(&installation, 7, None, HOUR);
    let mut writer = Device::new(7, 1, good.clone());
    writer.connect(installation.config.listen, Resume::Stored);
    writer.say(8, text);
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);

    let mut byes = Vec::new();
    let foreign = signed(OLD, 7);
    let expired = installation.token_at(7, proto_spec::TimestampMs(1_000), HOUR);
    let changed = good.replacen('.', ".x", 1);
    let of_another = minted(&installation, 7, Some(9), HOUR);
    for token in [&foreign, &expired, &changed, &of_another] {
        let mut client = installation.connect();
        client.send(&[hello(token, 2, Resume::Stored)]);
        match client.frame() {
            Some(ServerFrame::Bye { detail, .. }) => byes.push(detail),
            other => panic!("{other:?}"),
        }
    }
    let mut client = login(&installation, &good, 3);
    let newer = minted(&installation, 7, None, 2 * HOUR);
    refresh(&mut client, &newer).unwrap();
    client.send(&[ClientFrame::Refresh { token: changed.clone() }]);
    byes.push(client.until(|frame| match frame {
        ServerFrame::Error { detail, .. } => Some(detail),
        _ => None,
    }));
    write_keys(&jwks, &[OLD, ("short", b"", "c2VjcmV0IG9mIGEga2V5")]);
    server.signal("HUP");
    audited(&installation, &json!({ "event": "reload_failed" }));
    said(&installation, &["revoke", "--user", "7"]);
    byes.push(client.until(|frame| match frame {
        ServerFrame::Bye { detail, .. } => Some(detail),
        _ => None,
    }));

    let told = told(&installation, &server, &byes);
    assert!(told.lines().count() > 20 && byes.len() == 6);
    let pem = fs::read_to_string(datadir::token_key_path(installation.data())).unwrap();
    let tokens = [&good, &foreign, &expired, &changed, &of_another, &newer];
    let parts = tokens.into_iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 10);
    let secrets = [text, OLD.2, "c2VjcmV0IG9mIGEga2V5", "thirty-two bytes", pem.lines().nth(1).unwrap()];
    for secret in parts.chain(secrets) {
        assert!(!told.contains(secret), "{secret} was told");
    }
    server.stop();
}
