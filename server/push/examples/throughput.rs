//! How many notices the push service hands over in a second of its processor's time, encryption included:
//! `cargo run --release -p push --example throughput`.
//!
//! All go to one push service in the same process, which speaks HTTP/2 over TLS, decrypts nothing and answers 201 at once. What its thread
//! takes is told apart. `-- http1` has it speak HTTP/1.1.
#![expect(clippy::unwrap_used, reason = "a measurement that can not run has failed")]

#[path = "../tests/providers/endpoint.rs"]
#[expect(dead_code, reason = "tests need more of it")]
mod endpoint;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use proto_spec::{DeviceId, TimestampMs, UserId};
use push::{
    Kind, Notice, Outcome, Provider, Push, Settings, Show, Subscription, Urgency,
    hosts::HostRules,
    keys::VapidKey,
    settings::{Pace, TagKey, WebPush},
};
use rustix::time::{ClockId, clock_gettime};

use crate::endpoint::{Authority, Endpoint, Reply, Speaks};

const NOTICES: u64 = 30_000;

/// Not counted: connections, the first signature.
const WARM_UP: u64 = 2_000;

fn main() {
    let speaks = if std::env::args().any(|argument| argument == "http1") { Speaks::Http1 } else { Speaks::Http2 };
    let authority = Authority::new();
    // What the service's thread has taken, as of its last request.
    let taken_by_endpoint = Arc::new(AtomicU64::new(0));
    let taken = taken_by_endpoint.clone();
    let service = Endpoint::start(&authority, speaks, move |_, _| {
        taken.store(nanoseconds(ClockId::ThreadCPUTime), Ordering::Relaxed);
        Reply::Status(201)
    });
    let inside = vec![format!("localhost:{}", service.port).parse().unwrap()];
    let web_push = WebPush {
        key: VapidKey::from_pem(VapidKey::generate_pem().as_bytes()).unwrap(),
        contact: "mailto:push@ringpost.test".parse().unwrap(),
        hosts: HostRules { inside, ..HostRules::default() },
    };
    let settings = Settings {
        web_push: Some(web_push),
        webhook: None,
        fcm: None,
        apns: None,
        tag_key: TagKey::derived_from(b"measured"),
        roots: authority.roots(),
        pace: Pace::default(),
    };
    let (tell, outcomes) = mpsc::channel();
    let push = Push::start(settings, move |_, outcome| tell.send(outcome).unwrap()).unwrap();

    let browser = *VapidKey::from_pem(VapidKey::generate_pem().as_bytes()).unwrap().public();
    let provider = Provider::WebPush {
        endpoint: format!("https://localhost:{}/wpush/v2/{}", service.port, "x".repeat(180)),
        p256dh: browser,
        auth: [7; 16],
    };
    hand_over(&push, &outcomes, &provider, WARM_UP);
    let (process, endpoint) = (nanoseconds(ClockId::ProcessCPUTime), taken_by_endpoint.load(Ordering::Relaxed));
    let began = Instant::now();
    hand_over(&push, &outcomes, &provider, NOTICES);
    let wall = began.elapsed();
    let process = Duration::from_nanos(nanoseconds(ClockId::ProcessCPUTime) - process);
    let endpoint = Duration::from_nanos(taken_by_endpoint.load(Ordering::Relaxed) - endpoint);
    push.stop();

    let each = |time: Duration| time.as_secs_f64() * 1e6 / NOTICES as f64;
    let service = process - endpoint;
    println!("{NOTICES} notices of 100 bytes of text, all delivered, in {:.2} s", wall.as_secs_f64());
    println!(
        "the push service: {:.0} us of processor each, {:.0} a second and core",
        each(service),
        1e6 / each(service)
    );
    println!("beside it the endpoint: {:.0} us each", each(endpoint));
}

/// Offers so many notices as fast as there is room, and waits until all are delivered.
fn hand_over(push: &Push, outcomes: &mpsc::Receiver<Outcome>, provider: &Provider, notices: u64) {
    let offers = push.offers();
    let (mut offered, mut delivered) = (0, 0);
    while delivered < notices {
        // As many at a time as a busy server has, and far fewer than there is room for.
        while offered < notices && offered - delivered < 1_000 {
            offers.offer(notice(offered, provider.clone())).unwrap();
            offered += 1;
        }
        assert_eq!(outcomes.recv().unwrap(), Outcome::Delivered);
        delivered += 1;
    }
}

fn notice(ticket: u64, provider: Provider) -> Notice {
    Notice {
        ticket,
        user: UserId(ticket),
        device: DeviceId(1),
        subscription: Subscription { provider, show: Show::Text },
        conversation: UserId(8).into(),
        kind: Kind::Message { from: UserId(8), text: Some("x".repeat(100)), count: 2 },
        at: TimestampMs(1_764_531_000_123),
        ttl: Duration::from_secs(3600),
        urgency: Urgency::High,
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}
