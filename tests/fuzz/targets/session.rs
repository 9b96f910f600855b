//! Any sequence of frames, connections, faults and moments into the shards of a node: nothing panics, no promise of the shards' own
//! assertions breaks, what waits for a client is bounded, two honest people are served, and nothing of it stays in memory but what is
//! kept, within its bound, for an app that opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto_spec::{
    ClientFrame, Resume, Seq, ServerFrame,
    limits::{PAGE_BYTES_MAX, SERVER_FRAME_BYTES_MAX},
};
use server::{
    config,
    limits::{BUSY_TICK_MS, OUTBOX_BYTES_MAX, OVERLOADED_TICK_MS, TICK_MS},
    shard::{Admission, Limits, StoreState},
};
use tests::{
    frames::{accepted, offered},
    world::{Link, World},
};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const HOSTILE: u64 = 11;

/// Takes the input apart: a byte says what happens, those behind it how.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = self.byte().map_or(0, usize::from).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

/// A client that answers pings.
fn live(world: &mut World, link: Link) {
    for frame in world.take(link) {
        if let ServerFrame::Ping { nonce } = frame {
            world.frame(link, &ClientFrame::Pong { nonce });
        }
    }
}

fn play(world: &mut World, honest: [Link; 2], script: &mut Script<'_>) {
    let mut links: Vec<Link> = Vec::new();
    while let Some(what) = script.byte() {
        links.retain(|link| world.clients[link.0].closed.is_none());
        let with = script.byte().unwrap_or_default();
        if links.is_empty() || what == 0 {
            let resume = match with >> 6 {
                0 => Resume::Stored,
                1 => Resume::Live,
                _ => Resume::After(Seq(u64::from(with & 7))),
            };
            links.push(world.connect_only(HOSTILE + u64::from(with & 1), u64::from(with >> 1 & 3) + 1, resume));
            continue;
        }
        let link = links[usize::from(with) % links.len()];
        match what {
            1..=199 if !world.clients[link.0].paused => {
                let bytes = script.bytes();
                world.bytes(link, bytes);
            }
            200..=207 => world.clients[link.0].stuck ^= true,
            208..=211 => world.disconnect(link),
            212..=215 => world.disk_stalled ^= true,
            216..=219 => world.store_fails ^= true,
            220..=223 => world.store_stalled ^= true,
            224 => world.admission(Admission::Behind),
            225 => world.admission(Admission::Open),
            226 => world.store_is(StoreState::Away),
            227 => world.store_is(StoreState::Present),
            228 => world.lag(BUSY_TICK_MS),
            229 => world.lag(OVERLOADED_TICK_MS),
            230 => world.lag(TICK_MS),
            231 => world.ingest(),
            _ => world.advance(u64::from(with)),
        }
        world.settle();
        honest.into_iter().for_each(|link| live(world, link));
        for link in &links {
            assert!(world.waiting(*link) <= OUTBOX_BYTES_MAX + SERVER_FRAME_BYTES_MAX + PAGE_BYTES_MAX);
        }
    }
    for link in links {
        if world.clients[link.0].closed.is_none() {
            world.disconnect(link);
        }
    }
}

/// The end of all faults.
fn calm(world: &mut World) {
    (world.disk_stalled, world.store_stalled, world.store_fails) = (false, false, false);
    world.admission(Admission::Open);
    world.store_is(StoreState::Present);
    for _ in 0..15 {
        world.advance(1_000);
        world.ingest();
        world.settle();
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, script)) = data.split_first() else { return };
    let limits = if kind & 1 == 0 { Limits::OFF } else { config::Limits::default().of_shards() };
    let mut world = World::limited(1, limits);
    let alice = world.connect(ALICE, 1, Resume::Stored);
    let bob = world.connect(BOB, 1, Resume::Stored);
    play(&mut world, [alice, bob], &mut Script(script));
    calm(&mut world);
    world.take(alice);
    world.take(bob);
    world.send(alice, 1, BOB, "honest");
    world.settle();
    assert_eq!(accepted(&world.take(alice)).len(), 1);
    assert_eq!(offered(&world.take(bob)).len(), 1);
    world.disconnect(alice);
    world.disconnect(bob);
    calm(&mut world);
    assert_eq!(
        world.total(|core| core.sessions + core.users - core.cache_users + core.conversations + core.held_bytes),
        0
    );
});
