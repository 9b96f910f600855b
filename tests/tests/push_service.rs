//! Push services that are processes of their own: servers hand over, the processes send, and the death of one loses nothing.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use proto_spec::{ClientFrame, Content, RequestId, Resume, SendNumber, ServerFrame, Show, Subscription, UserId};
use tests::{connection::Connection, gateway::Gateway, process::Installation, wait_until};

const BOB: u64 = 2;

/// Who write to him: the n-th of them is this and n.
const FIRST: u64 = 100;

const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "whsec_YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

fn write_secret(path: &Path, text: &str) {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A push service that sends by a webhook.
struct Service {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Service {
    fn start(folder: &Path, name: &str, gateway: &Gateway) -> Self {
        // Nobody else is given it before the service takes it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, log) = (folder.join(format!("{name}.toml")), folder.join(format!("{name}.log")));
        let key_file = folder.join("services.key");
        write_secret(&key_file, KEY);
        let text = format!(
            "[push.services]\nlisten = \"127.0.0.1:{port}\"\nkey_file = {key_file:?}\n\
             [push.webhook]\nurl = \"http://{}/hook\"\nkey_file = {key_file:?}\n",
            gateway.address
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        command.args(["push-service", "--log-format=text", "--config"]).arg(&config).stdin(Stdio::null());
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let service = Self { child, url: format!("http://127.0.0.1:{port}"), log };
        wait_until("the push service serves", || service.logged().contains("serving"));
        service
    }

    fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// As kill -9 does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(mut self) {
        tests::process::signal(self.child.id(), "TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.logged());
        assert!(self.logged().contains("stopped"));
    }
}

/// A server that hands to these, with a key in a file of its own.
fn installation(services: &[&Service], key: &str) -> Installation {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let key_file = installation.folder().join("services.key");
    write_secret(&key_file, key);
    let config = &mut installation.config.push.services;
    config.urls = services.iter().map(|service| service.url.clone()).collect();
    config.key_file = key_file;
    config.providers = vec!["webhook".to_owned()];
    installation
}

/// Bob subscribes with so many devices, and goes.
fn bob_subscribes(installation: &Installation, devices: u64) {
    for device in 1..=devices {
        let mut phone = installation.login(BOB, device, Resume::Stored);
        let address = format!("phone-{device}");
        let (key, secret) = (Vec::new(), Vec::new());
        let subscription = Subscription { provider: 2, show: Show::Text, address, key, secret };
        phone.send(&[ClientFrame::Subscribe { request: RequestId(7), subscription }]);
        let providers = phone.until(|frame| match frame {
            ServerFrame::Subscription { state, .. } => Some(state.providers),
            _ => None,
        });
        assert_eq!(providers, 1 << 2);
    }
}

fn say(connection: &mut Connection, text: &str) {
    let number = SendNumber(1);
    connection.send(&[ClientFrame::Send { number, to: UserId(BOB).into(), content: Content::text(text) }]);
    connection.until(|frame| matches!(frame, ServerFrame::Accepted { number: of, .. } if of == number).then_some(()));
}

#[test]
fn one_of_two_push_services_dies_amid_a_stream_and_every_device_is_told_of_every_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start();
    let [first, second] = ["first", "second"].map(|name| Service::start(folder.path(), name, &gateway));
    let mut installation = installation(&[&first, &second], KEY);
    let server = installation.start();
    // Each of them is first for some of these devices.
    let (devices, people) = (8, 30);
    bob_subscribes(&installation, devices);
    let mut first = Some(first);
    for person in 0..people {
        let mut connection = installation.login(FIRST + person, 1, Resume::Stored);
        say(&mut connection, "Are you there?");
        if person == people / 2 {
            // What it has under way is lost, or is told twice.
            first.take().unwrap().kill();
        }
    }
    let wanted: BTreeSet<_> = (1..=devices)
        .flat_map(|device| (0..people).map(move |person| (format!("phone-{device}"), (FIRST + person).to_string())))
        .collect();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let told = || -> BTreeSet<_> {
        let told = gateway.answered(200);
        told.iter().map(|body| (text(&body["token"]), text(&body["notice"]["from"]))).collect()
    };
    wait_until("all are told", || told() == wanted);
    wait_until("the server says who takes nothing", || server.logged().contains("a push service takes no notices"));
    wait_until("the server hears of it", || {
        let metrics = server.metrics();
        let under_way = metrics.iter().filter(|(name, _)| name.starts_with("ringpost_shard_push_under_way{"));
        under_way.map(|(_, value)| *value).sum::<f64>() == 0.0
    });
    server.stop();
    second.stop();
}

#[test]
fn a_server_with_another_secret_is_refused_and_both_sides_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start();
    let service = Service::start(folder.path(), "one", &gateway);
    let mut installation = installation(&[&service], OTHER_KEY);
    let server = installation.start();
    bob_subscribes(&installation, 1);
    say(&mut installation.login(FIRST, 1, Resume::Stored), "one");
    wait_until("the server says so", || server.logged().contains("not signed with the key of this service"));
    let said = service.logged();
    assert!(said.contains("a notice was refused") && said.contains("push.services.key_file"), "{said}");
    server.stop();
    // With the right one what was due is told after all.
    write_secret(&installation.config.push.services.key_file, KEY);
    let server = installation.start();
    gateway.has(200, &serde_json::json!({"text": "one"}));
    assert_eq!(gateway.answered(200).len(), 1);
    server.stop();
    service.stop();
}

#[test]
fn a_push_service_says_what_its_configuration_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("service.toml");
    let key_file = folder.path().join("services.key");
    write_secret(&key_file, "no key");
    let web =
        format!("[push.web_push]\ncontact = \"mailto:a@chat.example\"\n[push.services]\nkey_file = {key_file:?}\n");
    for (text, said) in [
        ("[push.services]\nkey_file = \"x\"\n".to_owned(), "there is no provider"),
        (web.clone(), "push.web_push.key_file"),
        (
            format!("[push.fcm]\naccount_file = \"/x\"\n{}", "[push.services]\nurls = [\"http://127.0.0.1:1\"]\n"),
            "push.services.urls",
        ),
        (web.replace("contact", "key_file = \"/missing.pem\"\ncontact"), "/missing.pem"),
    ] {
        fs::write(&config, &text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        let output = command.args(["push-service", "--config"]).arg(&config).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(said), "{text}: {words}");
    }
}
