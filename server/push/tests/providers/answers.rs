//! What answers, and their absence, mean.

use std::{sync::mpsc, thread, time::Duration};

use http::Version;
use push::{
    Notice, Outcome, Provider, ProviderKind, Push, Refusal, Trouble,
    limits::{CONNECTIONS, HOST_WAITING_MAX, LATER, OFFERED_MAX},
    settings::Pace,
};
use rustls::RootCertStore;

use crate::{
    endpoint::{Authority, Endpoint, Reply, Speaks},
    web_push::{Browser, web_push},
    world::{QUICK, World, message, settings},
};

/// What becomes of a notice whose push service always answers so, and how many requests it saw.
fn outcome_and_requests(speaks: Speaks, reply: fn() -> Reply, ttl: Duration) -> (Outcome, usize) {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, speaks, move |_, _| reply());
    let world = World::start(web_push(&authority, service.port).0);
    let outcome = world.outcome_of(Notice { ttl, ..message(1, browser.subscription(service.port, "/")) });
    (outcome, service.seen_meanwhile().len())
}

const HOUR: Duration = Duration::from_secs(3600);

fn refused(status: u16, reason: Option<&str>) -> Outcome {
    Outcome::Refused(Refusal::Answer { status, reason: reason.map(str::to_owned) })
}

#[test]
fn answers_that_are_final_are_asked_for_once() {
    for (reply, outcome) in [
        ((|| Reply::Status(201)) as fn() -> Reply, Outcome::Delivered),
        (|| Reply::Status(200), Outcome::Delivered),
        (|| Reply::Status(202), Outcome::Delivered),
        (|| Reply::Status(404), Outcome::Gone),
        (|| Reply::Status(410), Outcome::Gone),
        (|| Reply::Status(413), refused(413, None)),
        (
            || Reply::With(403, &[], "{\"reason\":\"BadJwtToken\"}".to_owned()),
            refused(403, Some("{\"reason\":\"BadJwtToken\"}")),
        ),
        (|| Reply::With(400, &[], format!("bad\n{}", "x".repeat(99_999))), refused(400, None)),
        (|| Reply::With(400, &[], "x".repeat(999)), refused(400, Some(&"x".repeat(64)))),
    ] {
        assert_eq!(outcome_and_requests(Speaks::Http1, reply, HOUR), (outcome, 1));
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| {
        Reply::With(307, &[("location", "/elsewhere")], String::new())
    });
    let world = World::start(web_push(&authority, service.port).0);
    assert_eq!(world.outcome_of(message(1, browser.subscription(service.port, "/"))), refused(307, None));
    assert_eq!(service.seen_meanwhile().len(), 1);
}

#[test]
fn what_may_pass_is_tried_again_until_it_is_taken() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for fault in
            [(|| Reply::Status(500)) as fn() -> Reply, || Reply::Status(503), || Reply::Status(429), || Reply::Reset]
        {
            let (authority, browser) = (Authority::new(), Browser::new());
            let service = Endpoint::start(
                &authority,
                speaks,
                move |_, before| if before < 4 { fault() } else { Reply::Status(201) },
            );
            let world = World::start(web_push(&authority, service.port).0);
            assert_eq!(world.outcome_of(message(1, browser.subscription(service.port, "/"))), Outcome::Delivered);
            let numbers = world.push().counters().of(ProviderKind::WebPush);
            assert_eq!((numbers.offered, numbers.handed_over, numbers.retried, numbers.delivered), (1, 5, 4, 1));
        }
    }
}

#[test]
fn what_does_not_pass_in_time_ends_with_the_last_trouble() {
    let second = Duration::from_secs(1);
    for (reply, last) in [
        ((|| Reply::Status(503)) as fn() -> Reply, Trouble::Status(503)),
        (|| Reply::Reset, Trouble::Broken),
        (|| Reply::With(429, &[("retry-after", "2")], String::new()), Trouble::Status(429)),
        (|| Reply::With(503, &[("retry-after", "Tue, 01 Jan 2199 00:00:00 GMT")], String::new()), Trouble::Status(503)),
    ] {
        let (outcome, requests) = outcome_and_requests(Speaks::Http1, reply, second);
        assert_eq!(outcome, Outcome::Expired { last: Some(last) });
        assert!(requests >= 1);
    }
}

#[test]
fn retry_after_is_waited_for() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, before| match before {
        0 => Reply::With(429, &[("retry-after", "1")], String::new()),
        _ => Reply::Status(201),
    });
    let world = World::start(web_push(&authority, service.port).0);
    // The time to live as it is told each time says how much has passed.
    assert_eq!(world.outcome_of(message(1, browser.subscription(service.port, "/"))), Outcome::Delivered);
    let left = [service.seen(), service.seen()].map(|seen| seen.header("ttl").parse::<u64>().unwrap());
    assert!(left[0] > left[1], "{left:?}");
}

/// With these a test that waits for a timeout takes a moment.
const IMPATIENT: Pace =
    Pace { answer_max: Duration::from_millis(300), connect_max: Duration::from_millis(300), ..QUICK };

#[test]
fn a_service_that_does_not_answer_is_given_up_in_time_and_holds_up_no_other() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (authority, browser) = (Authority::new(), Browser::new());
        let silent = Endpoint::start(&authority, speaks, |_, _| Reply::Hang);
        let (mut settings, _) = web_push(&authority, silent.port);
        settings.pace = Pace { answer_max: Duration::from_secs(2), ..QUICK };
        let well = Endpoint::start(&authority, speaks, |_, _| Reply::Status(201));
        let hosts = &mut settings.web_push.as_mut().unwrap().hosts;
        hosts.inside.push(format!("localhost:{}", well.port).parse().unwrap());
        let world = World::start(settings);
        let ttl = Duration::from_secs(1);
        world.offer(Notice { ttl, ..message(1, browser.subscription(silent.port, "/")) });
        silent.seen();
        world.offer(message(2, browser.subscription(well.port, "/")));
        let (notice, outcome) = world.outcome();
        assert_eq!((notice.ticket, outcome), (2, Outcome::Delivered));
        let (notice, outcome) = world.outcome();
        assert_eq!((notice.ticket, outcome), (1, Outcome::Expired { last: Some(Trouble::Timeout) }));
    }
}

#[test]
fn nobody_at_the_port_and_no_tls_there_are_troubles() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let plain = Endpoint::start(&authority, Speaks::Plain, |_, _| Reply::Status(201));
    let stranger = Endpoint::start(&Authority::new(), Speaks::Http1, |_, _| Reply::Status(201));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for port in [plain.port, stranger.port, nobody] {
        let (mut settings, _) = web_push(&authority, port);
        settings.pace = IMPATIENT;
        let world = World::start(settings);
        let notice = Notice { ttl: Duration::from_secs(1), ..message(1, browser.subscription(port, "/")) };
        assert_eq!(world.outcome_of(notice), Outcome::Expired { last: Some(Trouble::Connect) });
    }
    assert!(plain.seen_meanwhile().is_empty() && stranger.seen_meanwhile().is_empty());
}

#[test]
fn a_crowd_goes_by_few_connections_to_a_service_that_speaks_http_2() {
    const CROWD: u64 = 1000;
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http2, |_, _| Reply::Status(201));
    let world = World::start(web_push(&authority, service.port).0);
    for ticket in 0..CROWD {
        world.offer(message(ticket, browser.subscription(service.port, "/")));
    }
    let mut tickets: Vec<u64> = (0..CROWD)
        .map(|_| {
            let (notice, outcome) = world.outcome();
            assert_eq!(outcome, Outcome::Delivered);
            notice.ticket
        })
        .collect();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..CROWD).collect::<Vec<_>>());
    let seen = service.seen_meanwhile();
    assert!(seen.iter().all(|seen| seen.version == Version::HTTP_2));
    let connections = seen.iter().map(|seen| seen.connection).max().unwrap() + 1;
    assert_eq!(connections, 1 + CONNECTIONS);
}

#[test]
fn what_is_more_than_may_wait_for_a_service_is_given_back_for_later() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let service = Endpoint::start(&authority, Speaks::Http1, |_, _| Reply::Hang);
    let world = World::start(web_push(&authority, service.port).0);
    // One is under way, and so many wait.
    world.offer(message(0, browser.subscription(service.port, "/")));
    service.seen();
    let held = 1 + HOST_WAITING_MAX as u64;
    for ticket in 1..held + 10 {
        let mut notice = message(ticket, browser.subscription(service.port, "/"));
        while let Err(given_back) = world.push().offers().offer(notice) {
            notice = given_back;
            thread::yield_now();
        }
    }
    for ticket in held..held + 10 {
        let (notice, outcome) = world.outcome();
        assert_eq!((notice.ticket, outcome), (ticket, Outcome::Later(LATER)));
    }
}

#[test]
fn a_service_that_is_busy_keeps_nobody_waiting_who_offers_and_loses_nothing_that_it_took() {
    let (tell, told) = mpsc::channel();
    let (go_on, waits) = mpsc::channel::<()>();
    // Without providers each notice ends at once; the first one then holds up the service's thread.
    let push = Push::start(settings(RootCertStore::empty()), move |notice, _| {
        tell.send(notice.ticket).unwrap();
        let _ = waits.recv();
    });
    let push = push.unwrap();
    let provider = || Provider::Webhook { token: "t".to_owned() };
    let mut taken = 0;
    let given_back = loop {
        match push.offers().offer(message(taken, provider())) {
            Ok(()) => taken += 1,
            Err(notice) => break notice,
        }
    };
    assert_eq!(given_back, message(taken, provider()));
    assert!(taken >= OFFERED_MAX as u64);
    drop(go_on);
    for ticket in 0..taken {
        assert_eq!(told.recv(), Ok(ticket));
    }
    push.stop();
    assert_eq!(told.try_iter().count(), 0);
}

#[test]
fn a_stop_waits_for_what_is_under_way_and_gives_back_the_rest() {
    let (authority, browser) = (Authority::new(), Browser::new());
    let (go_on, waits) = mpsc::channel::<()>();
    let service = Endpoint::start(&authority, Speaks::Http1, move |_, _| {
        waits.recv().unwrap();
        Reply::Status(201)
    });
    let world = World::start(web_push(&authority, service.port).0);
    for ticket in 1..=3 {
        world.offer(message(ticket, browser.subscription(service.port, "/")));
    }
    // The first one is under way, and the others wait for what the service says to it.
    while world.push().counters().of(ProviderKind::WebPush).waiting < 2 {
        thread::yield_now();
    }
    let offers = world.push().offers();
    let stopped = thread::spawn(move || world.stop());
    // From then on it takes nothing.
    while offers.offer(message(9, browser.subscription(service.port, "/"))).is_ok() {
        thread::yield_now();
    }
    go_on.send(()).unwrap();
    let outcomes = stopped.join().unwrap().into_iter().map(|(notice, outcome)| (notice.ticket, outcome));
    let mut outcomes: Vec<_> = outcomes.filter(|(ticket, _)| *ticket != 9).collect();
    outcomes.sort_by_key(|(ticket, _)| *ticket);
    let back = Outcome::Later(Duration::ZERO);
    assert_eq!(outcomes, [(1, Outcome::Delivered), (2, back.clone()), (3, back)]);
}
