//! Connections that come by a balancer: what its header changes, and what becomes of who sends none, or sends one from elsewhere.

use super::*;
use crate::core::origins::Origin;

const BALANCER: &str = "10.0.0.1:40000";

fn world() -> World {
    let balancers = vec!["10.0.0.0/8".parse().unwrap()];
    World::with(Limits::OFF, OriginLimits { connections: 2, balancers, ..OriginLimits::default() })
}

fn header(from: &str) -> Vec<u8> {
    let from: SocketAddr = from.parse().unwrap();
    format!("PROXY TCP4 {} 10.0.0.2 {} 7600\r\n", from.ip(), from.port()).into_bytes()
}

impl World {
    /// A device comes by the balancer, from there.
    fn come_by_balancer(&mut self, from: &str, device: u64) -> ConnId {
        let (conn, token) = (self.accept(BALANCER.parse().unwrap()), self.token(self.now.wall));
        self.say(conn, &[header(from), hello(device, &token)].concat());
        self.turn();
        conn
    }

    /// The place of a connection is free again.
    fn ends(&self, conn: ConnId) {
        let located = self.rim.located.iter().find(|(of, _)| *of == conn);
        let origin = located.map_or_else(Origin::default, |(_, origin)| *origin);
        self.core.common().origins.leave(origin, self.now.monotonic_ms);
    }

    fn peers(&self) -> Vec<Option<String>> {
        self.rim.reports.iter().map(|event| event.peer.map(|peer| peer.to_string())).collect()
    }
}

#[test]
fn who_comes_by_a_balancer_counts_and_is_reported_where_its_header_says() {
    let mut world = world();
    let from = ["192.0.2.1:5001", "192.0.2.1:5002", "192.0.2.1:5003", "192.0.2.2:5001"];
    let conns: Vec<_> = from.iter().zip(1..).map(|(from, device)| world.come_by_balancer(from, device)).collect();
    let byes: Vec<_> = conns.iter().map(|conn| world.bye(*conn)).collect();
    assert_eq!(byes, [None, None, Some(ErrorCode::TooManyConnections), None]);
    assert_eq!(world.what(), [What::Login; 3]);
    assert_eq!(world.peers(), [0, 1, 3].map(|at| Some(from[at].to_owned())));
    // Who was refused counts until its place is free, as everybody does.
    conns[1..3].iter().for_each(|conn| world.ends(*conn));
    let again = world.come_by_balancer("192.0.2.1:5004", 5);
    assert_eq!(world.bye(again), None, "there is room again");
    conns.iter().take(1).chain(&conns[3..]).chain([&again]).for_each(|conn| world.ends(*conn));
    assert!(world.core.common().origins.is_empty(), "all are counted off where they counted");
    assert_eq!(world.core.counters().proxied.get(), 5);
}

#[test]
fn a_header_and_a_hello_come_in_any_cut() {
    for cut in 0..header("192.0.2.1:5001").len() + 10 {
        let mut world = world();
        let token = world.token(world.now.wall);
        let (conn, hello) = (world.accept(BALANCER.parse().unwrap()), hello(1, &token));
        let stream = [header("192.0.2.1:5001"), hello.clone()].concat();
        let mut handed_on = world.say(conn, &stream[..cut]);
        let (head, tail) = stream[cut..].split_at(3);
        handed_on.extend(world.say(conn, head));
        handed_on.extend(world.say(conn, tail));
        world.turn();
        assert_eq!(handed_on, hello, "at {cut}");
        assert_eq!((world.bye(conn), world.what()), (None, vec![What::Login]), "at {cut}");
    }
}

#[test]
fn a_balancer_s_own_connections_count_nowhere_however_many_there_are() {
    let mut world = world();
    for device in 1..=10 {
        let conn = world.accept(BALANCER.parse().unwrap());
        world.say(conn, b"PROXY UNKNOWN\r\n");
        let token = world.token(world.now.wall);
        world.say(conn, &hello(device, &token));
        world.turn();
        assert_eq!(world.bye(conn), None);
    }
    assert!(world.core.common().origins.is_empty() && world.rim.located.is_empty());
    assert_eq!(world.peers(), vec![Some(BALANCER.to_owned()); 10]);
}

#[test]
fn a_connection_of_a_balancer_without_a_good_header_is_refused_and_told_of() {
    let token = world().token(TimestampMs(1_800_000_000_000));
    for (said, reason) in [
        (hello(1, &token), "malformed: no PROXY header comes first"),
        (b"\x16\x03\x01".to_vec(), "malformed: no PROXY header comes first"),
        (b"PROXY TCP4 nobody\r\n".to_vec(), "malformed: the PROXY header is malformed: its line is not"),
    ] {
        let mut world = world();
        let conn = world.accept(BALANCER.parse().unwrap());
        assert_eq!(world.say(conn, &said), b"", "nobody looks at it");
        world.turn();
        assert_eq!(world.bye(conn), Some(ErrorCode::Malformed));
        assert_eq!((world.what(), world.peers()), (vec![What::Refused], vec![Some(BALANCER.to_owned())]));
        let told = world.rim.reports[0].reason.clone().unwrap();
        assert!(told.starts_with(reason), "{told}");
        assert_eq!(world.core.counters().proxy_refused.get(), 1);
        assert_eq!(world.core.greetings(), 0);
    }
}

#[test]
fn a_header_from_elsewhere_is_no_hello_and_counts_where_it_came_from() {
    for header in [header("192.0.2.1:5001"), b"\r\n\r\n\0\r\nQUIT\n".to_vec()] {
        let mut world = world();
        let conn = world.accept("198.51.100.1:5001".parse().unwrap());
        world.say(conn, &header);
        world.turn();
        let Some((_, ServerFrame::Bye { code, detail, .. })) = world.rim.said.last() else { panic!("no bye") };
        assert_eq!(*code, ErrorCode::NotNow);
        assert!(detail.contains("looks like a PROXY header"), "{detail}");
        assert_eq!(world.peers(), [Some("198.51.100.1:5001".to_owned())]);
        assert_eq!(world.core.common().origins.len(), 1);
        assert_eq!(world.core.counters().proxied.get(), 0);
        assert_eq!(world.bye(conn), Some(ErrorCode::NotNow));
    }
}

#[test]
fn who_comes_by_a_balancer_tells_no_other_address() {
    let mut world = world();
    let (conn, token) = (world.accept(BALANCER.parse().unwrap()), world.token(world.now.wall));
    let own = [header("192.0.2.9:5009"), hello(1, &token)].concat();
    world.say(conn, &[header("192.0.2.1:5001"), own].concat());
    world.turn();
    assert_eq!(world.bye(conn), Some(ErrorCode::NotNow));
    assert_eq!((world.what(), world.peers()), (vec![What::Refused], vec![Some("192.0.2.1:5001".to_owned())]));
}

#[test]
fn a_header_that_does_not_come_in_the_time_for_the_hello_is_not_waited_for() {
    let mut world = world();
    let silent = world.accept(BALANCER.parse().unwrap());
    let slow = world.accept(BALANCER.parse().unwrap());
    world.say(slow, b"PROXY TCP4 192.0.2.1");
    world.now.monotonic_ms += HANDSHAKE_TIMEOUT_MS;
    world.core.tick(world.now);
    world.turn();
    assert_eq!([silent, slow].map(|conn| world.bye(conn)), [Some(ErrorCode::HandshakeTimeout); 2]);
}
