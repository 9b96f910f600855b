//! Notifications on the real server: what reaches a gateway of the operator's, over kills, refusals and reads, and what the operator is
//! told of it.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use proto_spec::{
    Act, ClientFrame, ClientKind, Content, ConversationId, ErrorCode, GroupId, PushState, RequestId, Resume, Rules,
    SendNumber, Seq, ServerFrame, Settings, Show, Subscription, UserId,
};
use serde_json::{Value, json};
use server::{config::Push, limits::PUSH_NICER};
use tests::{connection::Connection, frames::offered, gateway::Gateway, process::Installation, wait_until};

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// A server that notifies by this gateway.
fn installation(gateway: &Gateway) -> Installation {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.notifies_by(&format!("http://{}/hook", gateway.address));
    installation
}

fn ringpost(installation: &Installation, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    command.args(arguments).arg("--config").arg(installation.folder().join("ringpost.toml")).output().unwrap()
}

/// Why Bob was notified of a message, as the operator is told.
fn why(installation: &Installation, seq: Seq) -> String {
    let output = ringpost(installation, &["push", "why", "--user", "2", &seq.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn subscription(address: &str) -> Subscription {
    Subscription { provider: 2, show: Show::Text, address: address.to_owned(), key: Vec::new(), secret: Vec::new() }
}

fn subscribe(connection: &mut Connection, address: &str) -> PushState {
    connection.send(&[ClientFrame::Subscribe { request: RequestId(7), subscription: subscription(address) }]);
    state(connection)
}

fn state(connection: &mut Connection) -> PushState {
    connection.until(|frame| match frame {
        ServerFrame::Subscription { request: RequestId(7), state } => Some(state),
        _ => None,
    })
}

fn say(connection: &mut Connection, number: u64, text: &str) {
    send(connection, number, UserId(BOB).into(), Content::text(text));
}

fn send(connection: &mut Connection, number: u64, to: ConversationId, content: Content) {
    let number = SendNumber(number);
    connection.send(&[ClientFrame::Send { number, to, content }]);
    connection.until(|frame| matches!(frame, ServerFrame::Accepted { number: of, .. } if of == number).then_some(()));
}

/// What the gateway has taken, in its order.
fn texts_told(gateway: &Gateway) -> Vec<Value> {
    gateway.answered(200).into_iter().map(|body| body["notice"]["text"].clone()).collect()
}

/// Where the message with this text stands in the log that is delivered here.
fn seq_of(connection: &mut Connection, text: &str) -> Seq {
    connection.until(|frame| {
        let said = offered(&[frame]).into_iter().find(|(_, said)| said == text);
        said.map(|(seq, _)| Seq(seq))
    })
}

#[test]
fn what_is_due_survives_a_kill_is_told_once_a_provider_takes_it_and_goes_when_it_is_read() {
    let gateway = Gateway::start();
    let mut installation = installation(&gateway);
    let server = installation.start();
    let mut phone = installation.login(BOB, 1, Resume::Stored);
    let told = subscribe(&mut phone, "phone");
    assert_eq!((told.providers, told.provider, told.address.as_str()), (1 << 2, 2, "phone"));
    drop(phone);
    let mut alice = installation.login(ALICE, 1, Resume::Stored);
    gateway.answers(503);
    say(&mut alice, 1, "Are you there?");
    let first = json!({"v": 1, "count": 1, "conversation": "1", "from": "1", "text": "Are you there?"});
    gateway.has(503, &first);
    server.kill();
    assert_eq!(gateway.answered(200), Vec::<Value>::new());
    gateway.answers(200);
    // Of what is due the store knows; whoever starts next tells it.
    let server = installation.start();
    gateway.has(200, &first);
    let told = gateway.answered(200).remove(0);
    assert_eq!((&told["token"], &told["urgency"]), (&json!("phone"), &json!("high")));
    // It is one notification for the person, however often it is told: the tag is the same over the restart.
    let tags = |status| gateway.answered(status).into_iter().map(|body| body["notice"]["tag"].clone());
    let tags: Vec<Value> = tags(503).chain(tags(200)).collect();
    assert!(tags.iter().all(|tag| tag.is_string() && *tag == tags[0]), "{tags:?}");
    wait_until("the core is told", || server.metrics()["ringpost_shard_push_under_way{core=\"0\"}"] == 0.0);
    // On another device Bob reads it: it goes from the screen of the phone.
    let mut laptop = installation.login(BOB, 2, Resume::After(Seq::ZERO));
    let seq = seq_of(&mut laptop, "Are you there?");
    let text = why(&installation, seq);
    assert!(text.contains("device 1: the provider took the notice\n"), "{text}");
    assert!(text.contains("a device acknowledged it  no\n"), "{text}");
    let conversation = UserId(ALICE).into();
    laptop.send(&[
        ClientFrame::Acknowledge { seq },
        ClientFrame::MarkRead { request: RequestId(9), conversation, up_to: seq, tell: false },
    ]);
    gateway.has(200, &json!({"v": 1, "tag": tags[0], "clear": true}));
    let none = ringpost(&installation, &["push", "why", "--user", "2", "4000"]);
    let words = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(!none.status.success() && words.contains("has no received message at 4000"), "{words}");
    server.stop();
}

#[test]
fn a_member_of_a_group_is_notified_over_a_kill_and_of_their_name_alone_if_they_want_that() {
    const GROUP: GroupId = GroupId(77);
    let gateway = Gateway::start();
    let mut installation = installation(&gateway);
    let server = installation.start();
    let mut alice = installation.login(ALICE, 1, Resume::Stored);
    let begun = Act::Create { name: "sea", picture: "", rules: Rules::default() };
    send(&mut alice, 1, GROUP.into(), Content::act(&begun));
    send(&mut alice, 2, GROUP.into(), Content::act(&Act::Add { user: UserId(BOB) }));
    let mut phone = installation.login(BOB, 1, Resume::Stored);
    subscribe(&mut phone, "phone");
    drop(phone);
    gateway.answers(503);
    send(&mut alice, 3, GROUP.into(), Content::text("To all"));
    let first = json!({"v": 1, "count": 1, "conversation": "#77", "from": "1", "text": "To all"});
    gateway.has(503, &first);
    server.kill();
    gateway.answers(200);
    let server = installation.start();
    gateway.has(200, &first);
    let why = |seq: &str| {
        let output = ringpost(&installation, &["push", "why", "--user", "2", "--group", "77", seq]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    wait_until("the core is told", || why("3").contains("device 1: the provider took the notice\n"));

    let mut laptop = installation.login(BOB, 2, Resume::Stored);
    let (request, conversation) = (RequestId(9), GROUP.into());
    let (set, cleared) = (Settings::MENTIONS_ONLY, Settings::default());
    laptop.send(&[ClientFrame::SetConversation { request, conversation, set, cleared }]);
    laptop.until(|frame| matches!(frame, ServerFrame::Marked { request: RequestId(9) }).then_some(()));
    drop(laptop);
    let mut alice = installation.login(ALICE, 1, Resume::Stored);
    send(&mut alice, 4, GROUP.into(), Content::text("To all again"));
    send(&mut alice, 5, GROUP.into(), Content::mention(&[UserId(BOB)], "@Bob, look"));
    gateway.has(200, &json!({"text": "@Bob, look", "conversation": "#77"}));
    assert_eq!(texts_told(&gateway), ["To all", "@Bob, look"]);
    server.stop();
}

#[test]
fn the_threads_of_notifications_stand_below_the_cores() {
    let gateway = Gateway::start();
    let server = installation(&gateway).start();
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let nice = tasks.map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, rest) = stat.split_once(" (").unwrap().1.rsplit_once(") ").unwrap();
        // The 19th of all fields is how nice it is; the third is the first behind the name.
        (name.to_owned(), rest.split(' ').nth(19 - 3).unwrap().parse::<i32>().unwrap())
    });
    let nice: BTreeMap<String, i32> = nice.collect();
    let below = (nice["ringpost-core-0"] + PUSH_NICER).min(19);
    assert_eq!((nice["push"], nice["ringpost-pushed"]), (below, below), "{nice:?}");
    server.stop();
}

#[test]
fn an_orderly_stop_waits_for_the_gateway_so_that_the_next_start_does_not_tell_it_again() {
    let gateway = Gateway::start();
    let mut installation = installation(&gateway);
    let mut server = installation.start();
    let mut phone = installation.login(BOB, 1, Resume::Stored);
    subscribe(&mut phone, "phone");
    drop(phone);
    let mut alice = installation.login(ALICE, 1, Resume::Stored);
    let slow = gateway.held.lock().unwrap();
    say(&mut alice, 1, "one");
    gateway.has(200, &json!({"text": "one"}));
    drop(alice);
    server.signal("TERM");
    wait_until("the server stops", || server.logged().contains("stopping; a second signal exits at once"));
    drop(slow);
    assert_eq!(server.wait().code(), Some(0));
    let server = installation.start();
    // Who is asked about has been looked at, as after any start.
    let mut laptop = installation.login(BOB, 2, Resume::After(Seq::ZERO));
    let text = why(&installation, seq_of(&mut laptop, "one"));
    assert!(text.contains("it waits to be told       no\n"), "{text}");
    let mut alice = installation.login(ALICE, 1, Resume::Stored);
    drop(laptop);
    say(&mut alice, 2, "two");
    gateway.has(200, &json!({"text": "two", "count": 2}));
    assert_eq!(texts_told(&gateway), ["one", "two"]);
    server.stop();
}

#[test]
fn a_device_that_the_gateway_does_not_know_any_more_is_told_so_and_may_subscribe_anew() {
    let gateway = Gateway::start();
    let mut installation = installation(&gateway);
    let server = installation.start();
    let mut phone = installation.login(BOB, 1, Resume::Stored);
    subscribe(&mut phone, "old");
    drop(phone);
    let mut alice = installation.login(ALICE, 1, Resume::Stored);
    gateway.answers(410);
    say(&mut alice, 1, "one");
    gateway.has(410, &json!({"text": "one"}));
    let of_bob = |what: &str| {
        let metrics = server.metrics();
        let cores = metrics.iter().filter(|(name, _)| name.starts_with(&format!("ringpost_shard_push_{what}{{")));
        cores.map(|(_, value)| *value).sum::<f64>()
    };
    wait_until("the subscription is removed", || of_bob("gone_total") == 1.0);
    gateway.answers(200);
    say(&mut alice, 2, "two");
    let mut phone = installation.login(BOB, 1, Resume::Stored);
    let seq = seq_of(&mut phone, "one");
    phone.send(&[ClientFrame::FetchSubscription { request: RequestId(7) }]);
    assert_eq!(state(&mut phone).provider, 0);
    assert_eq!(gateway.answered(200), Vec::<Value>::new());
    let text = why(&installation, seq);
    assert!(text.contains("devices subscribed        none\n"), "{text}");
    assert!(text.contains("device 1: the provider does not know the device any more"), "{text}");
    subscribe(&mut phone, "new");
    drop(phone);
    say(&mut alice, 3, "three");
    gateway.has(200, &json!({"text": "three"}));
    assert!(gateway.answered(200).iter().all(|body| body["token"] == "new"));
    // Whatever the gateway is asked is signed.
    let asked = gateway.asked.lock().unwrap();
    let is_signed = |headers: &BTreeMap<String, String>| {
        headers["webhook-signature"].starts_with("v1,") && !headers["webhook-id"].is_empty()
    };
    assert!(asked.iter().all(|(_, headers, _)| is_signed(headers)));
    drop(asked);
    server.stop();
}

/// A public key of P-256: its base point.
const BASE_POINT: [u8; 65] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03,
    0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
    0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce,
    0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

#[test]
fn a_browser_subscribes_with_hosts_that_the_operator_allows_and_learns_at_once_of_others() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.config.push.web_push.contact = "mailto:admin@chat.example".to_owned();
    installation.config.push.web_push.hosts = vec!["*.push.example.org".to_owned()];
    installation.config.push.web_push.inside_hosts = vec!["127.0.0.1:8443".to_owned()];
    let server = installation.start();
    let mut browser = installation.login(BOB, 1, Resume::Stored);
    let mut subscribed = |endpoint: &str| {
        let address = endpoint.to_owned();
        let (key, secret) = (BASE_POINT.to_vec(), vec![7; 16]);
        let subscription = Subscription { provider: 1, show: Show::Text, address, key, secret };
        browser.send(&[ClientFrame::Subscribe { request: RequestId(7), subscription }]);
        browser.until(|frame| match frame {
            ServerFrame::Subscription { request: RequestId(7), state } => Some(Ok(state.address)),
            ServerFrame::Error { request: RequestId(7), code, detail, .. } => Some(Err((code, detail))),
            _ => None,
        })
    };
    for endpoint in ["https://a.push.example.org/1", "https://127.0.0.1:8443/2"] {
        assert_eq!(subscribed(endpoint).as_deref(), Ok(endpoint));
    }
    let refused = "the endpoint's host is none that this server sends to".to_owned();
    for endpoint in ["https://fcm.googleapis.com/3", "https://127.0.0.1/4"] {
        assert_eq!(subscribed(endpoint), Err((ErrorCode::BadSubscription, refused.clone())));
    }
    server.stop();
}

#[test]
fn a_server_without_a_provider_knows_no_subscriptions_and_one_that_lacks_its_key_does_not_start() {
    let gateway = Gateway::start();
    let mut installation = installation(&gateway);
    let push = installation.config.push.clone();
    installation.config.push = Push::default();
    let server = installation.start();
    let mut phone = installation.login(BOB, 1, Resume::Stored);
    phone.send(&[ClientFrame::Subscribe { request: RequestId(7), subscription: subscription("phone") }]);
    let refused = phone.until(|frame| match frame {
        ServerFrame::Error { code, kind, .. } => Some((code, kind)),
        _ => None,
    });
    assert_eq!(refused, (ErrorCode::UnknownKind, ClientKind::Subscribe.byte()));
    server.stop();
    installation.config.push = push;
    let key_file = installation.config.push.webhook.key_file.clone();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, words) = installation.refused();
    assert!(words.contains(key_file.to_str().unwrap()), "{words}");
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key_file, "no key").unwrap();
    let (_, words) = installation.refused();
    assert!(words.contains(key_file.to_str().unwrap()), "{words}");
}
