//! Push services that are processes of their own: here each is a thread with a listener.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use http::Method;
use push::{
    Notice, Outcome, Provider, ProviderKind, Refusal, Settings, Trouble,
    handover::{
        node::{News, Services},
        process::serve,
    },
    hosts::HostRules,
    keys::{BadSignature, WebhookKey},
    limits::HANDED_BYTES_MAX,
    settings::Webhook,
};
use tokio::{net::TcpListener, runtime, sync::oneshot};

use crate::{
    endpoint::{Authority, Endpoint, Reply, Speaks},
    world::{QUICK, World, clear, message, settings},
};

const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "whsec_YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

fn key(text: &str) -> WebhookKey {
    WebhookKey::from_text(text).unwrap()
}

fn provider() -> Provider {
    Provider::Webhook { token: "device-1".to_owned() }
}

/// What a process is made from that posts to this gateway.
fn to(gateway: &Endpoint, authority: &Authority) -> Settings {
    let url = format!("https://localhost:{}/", gateway.port).parse().unwrap();
    Settings { webhook: Some(Webhook { url, key: key(OTHER_KEY) }), ..settings(authority.roots()) }
}

/// A process.
struct Process {
    address: SocketAddr,
    /// Dropped, it stops the process.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    /// Whose requests it has not taken, and why.
    refused: mpsc::Receiver<BadSignature>,
}

impl Process {
    /// At a free port, or at this one.
    fn start(settings: Settings, port: u16) -> Self {
        let (tell, started) = mpsc::channel();
        let ((stop, stopped), (refuse, refused)) = (oneshot::channel::<()>(), mpsc::channel());
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let refused = move |_, why| _ = refuse.send(why);
                serve(listener, settings, key(KEY), refused, async { _ = stopped.await }).await;
            });
        });
        Self { address: started.recv().unwrap(), stop, thread, refused }
    }

    fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

/// A node that hands to these.
fn node(addresses: &[SocketAddr], secret: &str, tell: fn(&News<'_>)) -> World {
    World::start(Services {
        urls: addresses.iter().map(|address| format!("http://{address}").parse().unwrap()).collect(),
        key: key(secret),
        providers: vec![ProviderKind::Webhook, ProviderKind::WebPush],
        server_key: None,
        hosts: HostRules::default(),
        roots: rustls::RootCertStore::empty(),
        pace: QUICK,
        tell,
    })
}

fn not_told(_: &News<'_>) {}

#[test]
fn what_a_provider_says_to_a_process_the_node_hears() {
    let authority = Authority::new();
    let gateway = Endpoint::start(&authority, Speaks::Http1, |_, before| match before {
        0 => Reply::Status(200),
        1 => Reply::With(200, &[], r#"{"token":"device-2"}"#.to_owned()),
        2 => Reply::Status(410),
        3 => Reply::With(400, &[], "what is this".to_owned()),
        4 => Reply::Status(503),
        _ => Reply::Status(200),
    });
    let process = Process::start(to(&gateway, &authority), 0);
    let world = node(&[process.address], KEY, not_told);
    let refused = Refusal::Answer { status: 400, reason: Some("what is this".to_owned()) };
    for outcome in [
        Outcome::Delivered,
        Outcome::Replaced(Provider::Webhook { token: "device-2".to_owned() }),
        Outcome::Gone,
        Outcome::Refused(refused),
        // It is repeated by the node.
        Outcome::Delivered,
    ] {
        assert_eq!(world.outcome_of(message(1, provider())), outcome);
    }
    assert_eq!(world.outcome_of(clear(1, provider())), Outcome::Delivered);
    let seen: Vec<_> = (0..7).map(|_| gateway.seen()).collect();
    assert!(seen.iter().all(|seen| seen.method == Method::POST));
    let id = |at: usize| seen[at].header("webhook-id").to_owned();
    assert!(id(4) == id(5) && id(5) != id(6), "the gateway knows what is sent again");
    // That the node tells clients of a provider which the process does not have is the operator's mistake.
    let browser = Provider::WebPush {
        endpoint: "https://fcm.googleapis.com/x".to_owned(),
        p256dh: *push::keys::VapidKey::from_pem(push::keys::VapidKey::generate_pem().as_bytes()).unwrap().public(),
        auth: [1; 16],
    };
    assert_eq!(world.outcome_of(message(2, browser)), Outcome::Refused(Refusal::NotConfigured));
    let unknown = Provider::Fcm { token: "x".to_owned() };
    assert_eq!(world.outcome_of(message(3, unknown)), Outcome::Refused(Refusal::NotConfigured));
    world.stop();
    process.stop();
}

/// What nodes of the test below were told.
static NEWS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn what_a_process_does_not_take_another_one_does_until_it_is_back() {
    fn tell(news: &News<'_>) {
        NEWS.lock().unwrap().push(match news {
            News::Away { url, .. } => format!("away {url}"),
            News::Back { url } => format!("back {url}"),
        });
    }
    let authority = Authority::new();
    let gateway = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(200));
    let (first, second) = (Process::start(to(&gateway, &authority), 0), Process::start(to(&gateway, &authority), 0));
    let (address, other) = (first.address, second.address);
    let world = node(&[address, other], KEY, tell);
    let told = |tickets: std::ops::Range<u64>| {
        for ticket in tickets {
            assert_eq!(world.outcome_of(message(ticket, provider())), Outcome::Delivered);
        }
    };
    told(0..20);
    first.stop();
    told(20..60);
    let away = format!("away http://{address}/");
    assert_eq!(*NEWS.lock().unwrap(), std::slice::from_ref(&away));
    let again = Process::start(to(&gateway, &authority), address.port());
    // Its rest is short here.
    let mut tickets = 60..10_000;
    let is_back = || NEWS.lock().unwrap().len() > 1;
    while !is_back() {
        told(tickets.next().map(|ticket| ticket..ticket + 1).expect("it comes back"));
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(*NEWS.lock().unwrap(), [away, format!("back http://{address}/")]);
    // Now it is good for all.
    second.stop();
    told(20_000..20_010);
    world.stop();
    again.stop();
}

#[test]
fn a_node_with_another_key_is_refused_and_its_notices_expire_untold() {
    static WHY: Mutex<Vec<String>> = Mutex::new(Vec::new());
    fn tell(news: &News<'_>) {
        if let News::Away { why, .. } = news {
            WHY.lock().unwrap().push((*why).to_owned());
        }
    }
    let authority = Authority::new();
    let gateway = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(200));
    let process = Process::start(to(&gateway, &authority), 0);
    let world = node(&[process.address], OTHER_KEY, tell);
    let short = Notice { ttl: Duration::from_secs(1), ..message(1, provider()) };
    assert_eq!(world.outcome_of(short), Outcome::Expired { last: Some(Trouble::Services) });
    assert_eq!(process.refused.recv().unwrap(), BadSignature::Key);
    assert_eq!(WHY.lock().unwrap()[0], "401 the request is not signed with the key of this service");
    assert!(gateway.seen_meanwhile().is_empty());
    world.stop();
    process.stop();
}

#[test]
fn a_process_that_stops_says_how_that_ended_which_it_has() {
    let authority = Authority::new();
    let (seen, is_seen) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let gateway = Endpoint::start(&authority, Speaks::Http1, move |_, _| {
        seen.send(()).unwrap();
        may_answer.recv().unwrap();
        Reply::Status(200)
    });
    let process = Process::start(to(&gateway, &authority), 0);
    let world = node(&[process.address], KEY, not_told);
    world.offer(message(1, provider()));
    is_seen.recv().unwrap();
    drop(process.stop);
    answer.send(()).unwrap();
    assert_eq!(world.outcome().1, Outcome::Delivered);
    process.thread.join().unwrap();
    world.stop();
}

#[test]
fn a_push_service_takes_nothing_else_and_says_what_is_wrong() {
    let authority = Authority::new();
    let gateway = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Status(200));
    let process = Process::start(to(&gateway, &authority), 0);
    let ask = |head: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(process.address).unwrap();
        let length = body.len();
        write!(stream, "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n").unwrap();
        // It may have answered before all is said.
        let _ = stream.write_all(body);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        String::from_utf8(said).unwrap()
    };
    for (head, body, status, words) in [
        ("GET /health", &b""[..], 200, "ok\n"),
        ("POST /health", b"", 405, "health is got"),
        ("GET /v1/notices", b"", 405, "notices are posted"),
        ("GET /", b"", 404, "/v1/notices"),
        ("POST /v1/notices", b"{}", 401, "not signed with the key"),
        ("POST /v1/notices", &vec![b'x'; HANDED_BYTES_MAX + 1], 413, "no notice is as long"),
    ] {
        let said = ask(head, body);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")) && said.contains(words), "{head}: {said}");
    }
    assert!(gateway.seen_meanwhile().is_empty());
    process.stop();
}
