//! What a core promises at its door, without a socket: time and every step are the test's.

mod balancers;
mod links;
mod terms;
mod tunnels;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use proto_spec::{ClientFrame, DeviceId, EpochId, Resume, Seq, ServerFrame, TimestampMs, UserId};
use storage::{
    Answer, UserSnapshot,
    journal::{JournalConfig, Position, Writer},
};

use super::*;
use crate::{
    access::{
        auth::{Keys, SigningKey, generate_pem, mint},
        rate::Rate,
        revocation::{Change, Revocations},
        upgrade::Refusal,
    },
    cluster::file::Identity,
    config::Transport,
    durability::committer::OnStoreOutage,
    durability::lanes::Work,
    host::capacity::Capacity,
    limits::{CORE_STUCK_MS, DRAIN_MS, GREETING_IDLE_PIECES_MAX},
    operator::counters::Counters,
    shard::{CacheLimits, Envelope, EnvelopeBody, Limits, PresenceSettings, Promise, ReadState, topology::Topology},
};

const JOURNAL: JournalConfig =
    JournalConfig { segment_bytes: 64 * 1024, journal_bytes_max: 256 * 1024, reserve_bytes: 0 };

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);

const USER: UserId = UserId(7);

const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

/// How far clocks may differ, in milliseconds.
const LEEWAY_MS: u64 = 5_000;

/// One core, and what it has asked for.
struct World {
    core: Core,
    rim: Notebook,
    now: Now,
    keys: Keys,
    signing_key: SigningKey,
    places: u32,
}

/// A rim that takes down what it is to do.
#[derive(Default)]
struct Notebook {
    reports: Vec<audit::Event>,
    /// Frames by connection.
    said: Vec<(ConnId, ServerFrame)>,
    /// Queries that have not been answered.
    asked: Vec<QueryId>,
    /// Those of them that ask for the term of a slot.
    terms: Vec<QueryId>,
    /// Everybody is to be cut.
    cuts_all: bool,
    /// How much was put into mailboxes.
    posted: usize,
    /// Connections of nodes that are to be closed.
    cut_links: Vec<LinkId>,
    /// What was sent through them.
    linked: Vec<u8>,
    /// What cores are told of presence.
    presence: Vec<(CoreId, PresenceMail)>,
    /// And how much may have waited there for the last of it.
    presence_waiting_max: usize,
    /// Where connections of balancers come from.
    located: Vec<(ConnId, origins::Origin)>,
    /// Clients who are to be served through another node: whose, and what it is told.
    tunnels: Vec<(ConnId, String, Vec<u8>)>,
    /// Whose tunnels are to end.
    ended_tunnels: Vec<ConnId>,
}

impl Rim for Notebook {
    fn order(&mut self, _: &mut Core, _: Now, order: Order) {
        match order {
            Order::Report(event) => self.reports.push(event),
            Order::Dismiss(conn, bytes) => self.send(conn, &bytes),
            Order::CutLink(link, _) => self.cut_links.push(link),
            Order::CutAll => self.cuts_all = true,
            Order::Locate(conn, origin) => self.located.push((conn, origin)),
            Order::Tunnel { conn, name, opening, .. } => self.tunnels.push((conn, name, opening)),
            Order::EndTunnel(conn, last_words) => {
                self.send(conn, &last_words);
                self.ended_tunnels.push(conn);
            }
            _ => {}
        }
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut decoder = proto_spec::Decoder::new(proto_spec::limits::SERVER_FRAME_BYTES_MAX as u32);
        let decoded = decoder.decode(bytes, |raw| {
            self.said.push((conn, ServerFrame::decode(raw).unwrap()));
            std::ops::ControlFlow::Continue(())
        });
        decoded.unwrap();
    }

    fn send_link(&mut self, _: LinkId, bytes: Vec<u8>) {
        self.linked.extend(bytes);
    }

    fn set_reading(&mut self, _: ConnId, _: ReadState) {}

    fn close(&mut self, _: Now, _: ConnId) {}

    fn commit(&mut self, _: Work) {}

    fn serve_journal(&mut self, _: Now, _: &mut Committer) {}

    fn ask(&mut self, query: QueryId, what: Query) -> Result<(), (QueryId, Query)> {
        match what {
            Query::Term { .. } => self.terms.push(query),
            _ => self.asked.push(query),
        }
        Ok(())
    }

    fn post(&mut self, _: CoreId, _: CoreMessage) -> Result<(), CoreMessage> {
        self.posted += 1;
        Ok(())
    }

    fn post_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, waiting_max: usize) -> bool {
        self.presence_waiting_max = waiting_max;
        self.presence.push((to, *mail));
        true
    }
}

impl World {
    fn new(limits: Limits) -> Self {
        Self::with(limits, OriginLimits::default())
    }

    fn with(limits: Limits, origins: OriginLimits) -> Self {
        Self::among(None, limits, origins)
    }

    /// Of a node that has this place among others.
    fn among(place: Option<Identity>, limits: Limits, origins: OriginLimits) -> Self {
        // Where slots move nodes have no journal.
        let do_move = place.as_ref().is_some_and(|place| place.nodes.terms.is_some());
        let topology = if do_move { Topology::with_slots(1).unwrap() } else { Topology::new(1).unwrap() };
        let promise = if do_move { Promise::Store } else { Promise::Disk };
        let writer = Writer::new(JOURNAL, Position::default());
        let mut journal = Committer::new(writer, topology, promise, 1_000, OnStoreOutage::Accept);
        if do_move {
            journal.go_without_journal();
        }
        let settings = Settings {
            ping_after_ms: 60_000,
            idle_timeout_ms: 150_000,
            expiry_warning_ms: 60_000,
            token_leeway_ms: LEEWAY_MS,
            promise,
            limits,
            cache: CacheLimits::OFF,
            presence: PresenceSettings::DEFAULT,
            moves_per_s: 1_000,
            push: None,
        };
        let (counters, revocations) = (Arc::new(Counters::new(1)), Revocations::default());
        let capacity = Capacity::new(2_000, 1, 4_000).unwrap();
        let common = Common::new(topology, counters, revocations, origins, capacity, HANDSHAKE_TIMEOUT_MS);
        let common = match place {
            Some(identity) => common.in_cluster(identity),
            None => common,
        };
        let config = CoreConfig {
            settings,
            journal: Some(journal),
            slow_after_ms: 1_000,
            commits_max: 1,
            epoch: EpochId(1),
            queries_kept_max: 0,
        };
        let pem = generate_pem().unwrap();
        Self {
            core: Core::all(config, &Arc::new(common)).remove(0),
            now: Now { monotonic_ms: 1_000, wall: TimestampMs(1_800_000_000_000) },
            keys: Keys::from_pem(pem.as_bytes()).unwrap().with_leeway(Duration::from_millis(LEEWAY_MS)),
            signing_key: SigningKey::from_pem(pem.as_bytes()).unwrap(),
            rim: Notebook::default(),
            places: 0,
        }
    }

    /// A token that says that it was issued then.
    fn token(&self, issued: TimestampMs) -> String {
        mint(&self.signing_key, USER, Duration::from_secs(3_600), issued).unwrap()
    }

    /// A device comes and says hello, and all that follows happens; the store knows nothing of its user.
    fn connect(&mut self, device: u64, token: &str) -> ConnId {
        let conn = self.come(device, token);
        self.turn();
        conn
    }

    /// A device comes and says hello.
    fn come(&mut self, device: u64, token: &str) -> ConnId {
        let conn = self.accept(PEER);
        self.say(conn, &hello(device, token));
        conn
    }

    /// Somebody comes from there.
    fn accept(&mut self, peer: SocketAddr) -> ConnId {
        self.places += 1;
        let conn = ConnId { slot: self.places, generation: 1 };
        let entered = self.core.enter(self.now, peer);
        self.core.accepted(self.now, conn, peer, entered, self.places as usize);
        conn
    }

    /// Bytes of who has not been let in, and what comes of them. Gives what the core hands on.
    fn say(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        self.core.wait(conn, bytes);
        let mut handed_on = Vec::new();
        while let Some(Judged::Hello(conn, bytes)) = self.core.judge(self.now, &self.keys, 0, false) {
            self.core.hello(self.now, &self.keys, (conn, Transport::Plain), &bytes);
            handed_on.extend(bytes);
        }
        handed_on
    }

    /// The operator revokes what tokens the user has, by the clock as it is now.
    fn revoke(&mut self) {
        let moment = self.core.common().revocation_moment(self.now.wall);
        let subject = Subject { user: USER, device: None };
        self.core.common().revocations.write().apply(Change::Revoke(subject, moment));
        self.core.message(self.now, CoreMessage::Revoked(subject, moment));
        self.turn();
    }

    /// Ends turns until nothing is left to do but for the journal, which is nobody's here.
    fn turn(&mut self) {
        self.finish_turn();
        while !self.rim.asked.is_empty() {
            for query in std::mem::take(&mut self.rim.asked) {
                self.core.answer(self.now, query, Some(Answer::User(UserSnapshot::default())));
            }
            self.finish_turn();
        }
    }

    fn finish_turn(&mut self) {
        self.core.finish_turn(self.now, &mut self.rim);
    }

    /// The reason of the last frame of a connection, if that is a bye.
    fn bye(&self, conn: ConnId) -> Option<ErrorCode> {
        match self.rim.said.iter().rfind(|(to, _)| *to == conn) {
            Some((_, ServerFrame::Bye { code, .. })) => Some(*code),
            _ => None,
        }
    }

    fn what(&self) -> Vec<What> {
        self.rim.reports.iter().map(|event| event.what).collect()
    }
}

fn hello(device: u64, token: &str) -> Vec<u8> {
    let (device, resume, token) = (DeviceId(device), Resume::Stored, token.to_owned());
    let (epoch, since, mut hello) = (EpochId(0), Seq::ZERO, Vec::new());
    ClientFrame::Hello { version_min: 1, version_max: 1, device, resume, token, epoch, since, skip_above: 0, hops: 0 }
        .encode(&mut hello);
    hello
}

#[test]
fn a_revocation_reaches_whose_token_the_clock_says_is_newer() {
    // The clock is set back after the login, or the issuer's is ahead.
    for (issued_ahead_ms, back_ms) in [(0, 3_600_000), (2_000, 0), (2_000, 3_600_000)] {
        let mut world = World::new(Limits::OFF);
        let token = world.token(TimestampMs(world.now.wall.0 + issued_ahead_ms));
        let conn = world.connect(1, &token);
        assert_eq!(world.what(), [What::Login]);
        world.now.wall.0 -= back_ms;
        world.revoke();
        assert_eq!(world.bye(conn), Some(ErrorCode::Revoked), "{issued_ahead_ms} {back_ms}");
        world.now.wall.0 += back_ms + issued_ahead_ms;
        let again = world.connect(1, &token);
        assert_eq!(world.bye(again), Some(ErrorCode::Revoked), "the same token does not come back");
        world.now.wall.0 += 1_000;
        let newer = world.token(world.now.wall);
        let newer = world.connect(1, &newer);
        assert_eq!(world.bye(newer), None, "but a newer one is good");
    }
}

#[test]
fn who_is_refused_in_a_turn_that_says_very_much_is_audited_as_refused() {
    let mut world = World::new(Limits { logins: Rate::per_second(1), ..Limits::OFF });
    let token = world.token(world.now.wall);
    let mut served = Vec::new();
    let refused_after = loop {
        let conn = world.connect(served.len() as u64 + 1, &token);
        if world.bye(conn).is_some() {
            break served.len() as u64;
        }
        served.push(conn);
    };
    let mut pings = Vec::new();
    (0..1_000).for_each(|nonce| ClientFrame::Ping { nonce: u64::MAX - nonce }.encode(&mut pings));
    for conn in served.iter().cycle() {
        if world.core.is_output_due() {
            break;
        }
        world.core.bytes(world.now, *conn, &pings);
    }
    world.rim.reports.clear();
    let conn = world.come(refused_after + 1, &token);
    world.turn();
    assert_eq!(world.bye(conn), Some(ErrorCode::RateLimited));
    assert_eq!(world.what(), [What::Refused]);
}

#[test]
fn who_comes_when_all_is_over_is_waited_for() {
    let mut world = World::new(Limits::OFF);
    world.core.stop(world.now);
    world.turn();
    assert!(world.core.is_over(world.now, true));
    assert!(!world.core.is_over(world.now, false), "a connection has a place");
    assert!(world.core.is_over(world.now, true));
}

#[test]
fn when_all_is_over_nothing_leaves_for_a_core_that_may_have_left() {
    let mut world = World::new(Limits::OFF);
    let away = || CoreMessage::Away { core: CoreId(0), is_away: true };
    world.core.stop(world.now);
    world.core.post(CoreId(0), away());
    world.finish_turn();
    assert_eq!(world.rim.posted, 1);
    // It has been taken.
    world.core.message(world.now, away());
    assert!(world.core.is_over(world.now, true));
    world.core.post(CoreId(0), away());
    world.finish_turn();
    assert_eq!(world.rim.posted, 1);
}

#[test]
fn who_comes_while_the_node_stops_is_told_so_and_who_stays_is_cut_at_last() {
    let mut world = World::new(Limits::OFF);
    let token = world.token(world.now.wall);
    let conn = world.connect(1, &token);
    world.core.stop(world.now);
    world.turn();
    assert!(world.bye(conn).is_none_or(|code| code == ErrorCode::Stopping));
    let late = world.connect(2, &token);
    assert_eq!(world.bye(late), Some(ErrorCode::Stopping));
    assert!(!world.core.is_over(world.now, false), "somebody has a place still");
    world.now.monotonic_ms += DRAIN_MS;
    world.core.tick(world.now);
    assert!(!world.rim.cuts_all);
    world.finish_turn();
    assert!(world.rim.cuts_all);
}

#[test]
fn a_core_that_has_said_that_it_is_drained_begins_nothing_for_the_answer_to_a_read() {
    let mut world = World::new(Limits::OFF);
    let body = EnvelopeBody::Receipt { up_to: Seq(1), received_as: Seq(1) };
    world.core.message(world.now, CoreMessage::Envelope(Envelope { to: USER, from: UserId(8), body }));
    world.finish_turn();
    let [reads_user] = std::mem::take(&mut world.rim.asked)[..] else { panic!("its user is not known") };
    world.core.stop(world.now);
    world.core.is_over(world.now, true);
    assert!(world.core.is_told_drained(), "a stop does not wait for reads");
    world.core.answer(world.now, reads_user, Some(Answer::User(UserSnapshot::default())));
    world.finish_turn();
    assert_eq!(world.rim.asked, [], "of the conversation, and then a batch that nobody waits for");
}

#[test]
fn a_core_that_ticks_is_not_stuck_and_one_that_does_not_is() {
    let mut world = World::new(Limits::OFF);
    let pulse = |world: &World| world.core.common().counters.pulse.stuck(world.now.monotonic_ms);
    world.now.monotonic_ms = 1_000_000;
    world.core.tick(world.now);
    assert_eq!(pulse(&world), None);
    world.now.monotonic_ms += 2 * CORE_STUCK_MS;
    assert_eq!(pulse(&world), Some((CoreId(0), 2 * CORE_STUCK_MS)));
    world.core.tick(world.now);
    assert_eq!(pulse(&world), None);
}

/// At which connection, if any, an address is not welcome any more of which everyone ends like this.
fn first_refused(end: impl Fn(&mut World, ConnId)) -> Option<u32> {
    let mut world = World::with(Limits::OFF, OriginLimits { failures: Rate::per_second(1), ..OriginLimits::default() });
    (0..100).find(|_| {
        let conn = world.accept(PEER);
        world.turn();
        let is_refused = world.bye(conn).is_some();
        end(&mut world, conn);
        world.turn();
        is_refused
    })
}

#[test]
fn pages_that_may_not_connect_do_not_spend_the_refused_hellos_of_their_visitors_address() {
    assert_eq!(first_refused(|world, conn| world.core.not_upgraded(world.now, conn, &Refusal::Origin)), None);
    let others = first_refused(|world, conn| world.core.not_upgraded(world.now, conn, &Refusal::NoUpgrade));
    assert!(others.is_some());
}

#[test]
fn who_says_nothing_in_many_pieces_before_the_hello_is_refused() {
    let mut world = World::new(Limits::OFF);
    let conn = world.accept(PEER);
    for _ in 0..GREETING_IDLE_PIECES_MAX {
        world.core.idles(world.now, conn);
    }
    world.turn();
    assert_eq!(world.bye(conn), None);
    world.core.idles(world.now, conn);
    world.turn();
    assert_eq!((world.bye(conn), world.what()), (Some(ErrorCode::RateLimited), vec![What::Refused]));
    let flood =
        |world: &mut World, conn| (0..=GREETING_IDLE_PIECES_MAX).for_each(|_| world.core.idles(world.now, conn));
    assert!(first_refused(flood).is_some(), "it counts as a refused hello of its address");
}
