//! Nothing that a client sends may stop a shard, harm an honest user or stay in memory when the client has gone: random
//! streams, from bare noise to frames that are well formed and mean nothing, while disk and store fail too.
//!
//! `SEEDS=100000 cargo test --release -p tests --test hostile -- --nocapture` runs as many as one likes.

use std::env;

use proto_spec::{
    ClientFrame, Content, Direction, RequestId, Resume, SendNumber, Seq, TimestampMs, UserId,
    limits::{PAGE_BYTES_MAX, SERVER_FRAME_BYTES_MAX, TEXT_BYTES_MAX},
};
use server::{
    access::{
        auth::{Keys, SigningKey, generate_pem, mint},
        handshake::{Handshake, Step},
    },
    limits::OUTBOX_BYTES_MAX,
    shard::{Admission, ShardCounters, StoreState},
};
use tests::{
    connection::hello,
    frames::{accepted, offered, text},
    rng::Rng,
    world::{Link, World},
};

/// Seeds of the standard run.
const SEEDS: u64 = 150;

const STEPS: u64 = 400;

/// Two honest users; everybody from here on is hostile.
const ALICE: u64 = 1;
const BOB: u64 = 2;
const HOSTILE: [u64; 3] = [11, 12, 13];

fn seeds(standard: u64) -> std::ops::RangeInclusive<u64> {
    1..=env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(standard)
}

fn number(rng: &mut Rng) -> u64 {
    match rng.within(0, 5) {
        0 => 0,
        1 => u64::MAX,
        2 => rng.next(),
        3 => 1 << rng.within(0, 63),
        _ => rng.within(1, 40),
    }
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    (0..rng.within(1, 80)).map(|_| rng.next() as u8).collect()
}

fn user(rng: &mut Rng) -> u64 {
    match rng.within(0, 3) {
        0 => number(rng),
        1 => *rng.pick(&[ALICE, BOB]),
        _ => *rng.pick(&HOSTILE),
    }
}

fn content(rng: &mut Rng) -> Content {
    match rng.within(0, 9) {
        0 => Content::Unknown { kind: rng.within(2, 255) as u8, body: noise(rng).into() },
        1 => Content::text(""),
        2 => Content::text(&"x".repeat(TEXT_BYTES_MAX + 1)),
        3 => Content::text(&"x".repeat(TEXT_BYTES_MAX)),
        _ => Content::text("noise"),
    }
}

/// A frame that can be read, and mostly makes no sense. `next` is the device's next send number.
fn frame(rng: &mut Rng, next: &mut u64) -> ClientFrame {
    let direction = *rng.pick(&[Direction::Forwards, Direction::Backwards]);
    let (request, from, limit) = (RequestId(number(rng).max(1)), Seq(number(rng)), number(rng));
    match rng.within(0, 9) {
        0 => ClientFrame::Acknowledge { seq: Seq(number(rng)) },
        1 => ClientFrame::FetchLog { request, from, direction, limit },
        2 => ClientFrame::FetchConversation { request, conversation: UserId(user(rng)).into(), from, direction, limit },
        3 => ClientFrame::Ping { nonce: number(rng) },
        4 => ClientFrame::Pong { nonce: number(rng) },
        5 if rng.chance(20) => ClientFrame::Bye,
        5 if rng.chance(10) => hello("token", number(rng), Resume::Live),
        6 => ClientFrame::Send { number: SendNumber(number(rng)), to: UserId(user(rng)).into(), content: content(rng) },
        _ => {
            *next += 1;
            ClientFrame::Send { number: SendNumber(*next - 1), to: UserId(user(rng)).into(), content: content(rng) }
        }
    }
}

fn bytes(rng: &mut Rng, next: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.within(1, 8) {
        frame(rng, next).encode(&mut bytes);
    }
    match rng.within(0, 19) {
        0 => return noise(rng),
        1 => bytes.truncate(rng.within(1, bytes.len() as u64) as usize),
        2 => {
            let at = rng.within(0, bytes.len() as u64 - 1) as usize;
            bytes[at] ^= 1 << rng.within(0, 7);
        }
        _ => {}
    }
    bytes
}

struct Attack {
    world: World,
    rng: Rng,
    links: Vec<Link>,
    next: u64,
}

impl Attack {
    fn connect(&mut self) {
        let user = *self.rng.pick(&HOSTILE);
        let device = self.rng.within(1, 50);
        let resume = match self.rng.within(0, 3) {
            0 => Resume::Stored,
            1 => Resume::Live,
            _ => Resume::After(Seq(number(&mut self.rng))),
        };
        let link = self.world.connect_only(user, device, resume);
        self.links.push(link);
    }

    fn step(&mut self) {
        self.links.retain(|link| self.world.clients[link.0].closed.is_none());
        if self.links.len() < 4 {
            self.connect();
        }
        let link = *self.rng.pick(&self.links);
        match self.rng.within(0, 99) {
            0..=69 => {
                // A server that does not read is not written to; what was on its way still comes.
                if !self.world.clients[link.0].paused {
                    let bytes = bytes(&mut self.rng, &mut self.next);
                    self.world.bytes(link, &bytes);
                }
            }
            70..=74 => self.world.clients[link.0].stuck ^= true,
            75..=76 => self.world.disconnect(link),
            77..=79 => self.connect(),
            80..=82 => self.world.disk_stalled ^= true,
            83..=84 => self.world.store_fails ^= true,
            85 => self.world.admission(*self.rng.pick(&[Admission::Open, Admission::Behind, Admission::Outage])),
            86 => self.world.store_is(*self.rng.pick(&[StoreState::Present, StoreState::Away])),
            87 => self.world.ingest(),
            _ => self.world.advance(self.rng.within(1, 300)),
        }
        self.world.settle();
        for link in &self.links {
            let waiting = self.world.waiting(*link);
            let bound = OUTBOX_BYTES_MAX + SERVER_FRAME_BYTES_MAX + PAGE_BYTES_MAX;
            assert!(waiting <= bound, "{waiting} bytes wait for a client that does not read");
        }
    }

    /// The end of all faults, and everybody hostile goes.
    fn calm(&mut self) {
        self.world.disk_stalled = false;
        self.world.store_fails = false;
        self.world.admission(Admission::Open);
        self.world.store_is(StoreState::Present);
        for link in std::mem::take(&mut self.links) {
            if self.world.clients[link.0].closed.is_none() {
                self.world.disconnect(link);
            }
        }
        for _ in 0..30 {
            self.world.advance(1_000);
            self.world.ingest();
            self.world.settle();
        }
    }
}

#[test]
fn no_stream_of_frames_stops_a_shard_harms_the_honest_or_stays_in_memory() {
    for seed in seeds(SEEDS) {
        let mut rng = Rng::new(seed);
        let cores = rng.within(1, 3) as u16;
        let mut attack = Attack { world: World::new(cores), rng, links: Vec::new(), next: 1 };
        let alice = attack.world.connect(ALICE, 1, Resume::Stored);
        let bob = attack.world.connect(BOB, 1, Resume::Stored);
        for _ in 0..STEPS {
            attack.step();
        }
        attack.calm();
        let world = &mut attack.world;
        for honest in [alice, bob] {
            assert_eq!(world.clients[honest.0].closed, None, "seed {seed}");
            world.take(honest);
        }
        let head = world.messages(BOB).last().map_or(0, |(seq, ..)| *seq);
        for number in 1..=3 {
            world.send(alice, number, BOB, "honest");
            world.settle();
        }
        assert_eq!(accepted(&world.take(alice)).len(), 3, "seed {seed}");
        let wanted: Vec<_> = (1..=3).map(|n| text(head + n, "honest")).collect();
        assert_eq!(offered(&world.take(bob)), wanted, "seed {seed}");
        world.disconnect(alice);
        world.disconnect(bob);
        attack.calm();
        // Who has asked for an inbox is kept for the next time, within the bounds of the cache.
        let others = |core: &ShardCounters| core.users - core.cache_users;
        let of: [fn(&ShardCounters) -> u64; 4] =
            [|core| core.sessions, others, |core| core.conversations, |core| core.held_bytes];
        let left = of.map(|counter| attack.world.total(counter));
        assert_eq!(left, [0; 4], "seed {seed}: sessions, users, conversations and bytes that stay in memory");
    }
}

#[test]
fn no_bytes_before_the_hello_stop_the_handshake_or_are_held_without_bound() {
    let pem = generate_pem().unwrap();
    let keys = Keys::from_pem(pem.as_bytes()).unwrap();
    let now = TimestampMs(1_800_000_000_000);
    let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
    let token = mint(&key, UserId(1), std::time::Duration::from_secs(60), now).unwrap();
    for seed in seeds(20 * SEEDS) {
        let mut rng = Rng::new(seed);
        let mut stream = Vec::new();
        let mut token = token.clone();
        if rng.chance(50) {
            token.truncate(rng.within(0, token.len() as u64) as usize);
        }
        hello(&token, number(&mut rng), Resume::Stored).encode(&mut stream);
        for _ in 0..rng.within(0, 3) {
            let at = rng.within(0, stream.len() as u64 - 1) as usize;
            stream[at] ^= 1 << rng.within(0, 7);
        }
        if rng.chance(20) {
            stream = noise(&mut rng);
        }
        let mut handshake = Handshake::default();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let cut = rng.within(1, rest.len() as u64) as usize;
            if handshake.bytes(&rest[..cut], &keys, now) != Step::More {
                break;
            }
            assert!(handshake.held_bytes() <= stream.len(), "seed {seed}");
            rest = &rest[cut..];
        }
    }
}
