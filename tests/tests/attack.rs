//! Attacks on the real server, with the limits that it has by default: memory stays bounded, and honest people go on. How long they
//! wait meanwhile is printed (`--nocapture`) and not asserted: the machine may be busy.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proto_spec::Resume;
use server::{config::Limits, limits::HANDSHAKES_MAX};
use tests::{
    attack::{self, Attack, Outcome, Target},
    device::Device,
    process::{Installation, Server},
    wait_until,
};

/// Messages that honest people exchange during an attack, one after the other.
const ROUNDS: usize = 40;

/// Resident memory that an attack may cost at most. What clients who do not read may have waiting is most of it.
const MEMORY_BYTES_MAX: u64 = 96 << 20;

const ALICE: u64 = 1;
const BOB: u64 = 2;
const MALLORY: u64 = 66;

/// A server with the limits of the defaults, which trusts nobody. Who is slow is given a second: no test waits for ten.
fn server(attack: Attack) -> (Installation, Server) {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.config.limits = Limits { trusted_networks: Vec::new(), ..Limits::default() };
    if attack == Attack::Slow {
        installation.config.connections.handshake_timeout_ms = 1_000;
    }
    let server = installation.start();
    (installation, server)
}

fn connected(installation: &Installation, user: u64, device: u64) -> Device {
    let mut device = Device::new(user, device, installation.token(user));
    device.connect(installation.config.listen, Resume::Stored);
    device
}

/// What honest people wait for each other, slowest last.
fn converse(alice: &mut Device, bob: &mut Device) -> Vec<Duration> {
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        let (from, to, name) =
            if round % 2 == 0 { (&mut *alice, &mut *bob, BOB) } else { (&mut *bob, &mut *alice, ALICE) };
        let before = to.received().len();
        let start = Instant::now();
        from.say(name, "are you there?");
        // First: a sender who is told to wait has to send again.
        from.step_until("it is accepted", |from| from.unanswered() == 0);
        to.step_until("the message comes", |to| to.received().len() > before);
        waits.push(start.elapsed());
        // Slower than anybody's limit.
        thread::sleep(Duration::from_millis(25));
    }
    waits.sort();
    waits
}

/// Honest people converse and a newcomer comes in while the attack goes on, from `addresses` addresses with `connections` each. It ends when
/// the server `has_met` it.
fn withstands(
    attack: Attack,
    addresses: u8,
    connections: usize,
    has_met: impl Fn(&Server) -> bool,
) -> (Installation, Server, Outcome) {
    let (installation, mut server) = server(attack);
    let (mut alice, mut bob) = (connected(&installation, ALICE, 1), connected(&installation, BOB, 1));
    converse(&mut alice, &mut bob);
    let before = server.memory_bytes();
    let until = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (1..=addresses)
        .map(|address| {
            let target = Target {
                server: installation.config.listen,
                from: Some(IpAddr::V4(Ipv4Addr::new(127, 66, 66, address))),
                token: installation.token(MALLORY),
                victim: BOB,
                connections,
            };
            let until = Arc::clone(&until);
            thread::spawn(move || attack::run(attack, &target, &until))
        })
        .collect();
    let waits = converse(&mut alice, &mut bob);
    let mut newcomer = Device::new(3, 1, installation.token(3));
    // It may be told to come back: no handshake is given up for it that is young.
    wait_until("the newcomer comes in", || newcomer.try_connect(installation.config.listen, Resume::Stored));
    wait_until("the server meets the attack", || has_met(&server));
    let memory = server.memory_bytes().saturating_sub(before);
    until.store(true, Ordering::Relaxed);
    let mut all = Outcome::default();
    for attacker in attackers {
        let Outcome { opened, ended, refused } = attacker.join().unwrap();
        (all.opened, all.ended, all.refused) = (all.opened + opened, all.ended + ended, all.refused + refused);
    }
    println!(
        "{attack:?}: {all:?}, {} KiB more, a message took {:?} in the middle and {:?} at most",
        memory / 1024,
        waits[ROUNDS / 2],
        waits[ROUNDS - 1]
    );
    assert!(all.opened > 0 && memory < MEMORY_BYTES_MAX, "{memory} bytes more");
    assert!(server.is_running() && newcomer.is_connected() && alice.is_connected() && bob.is_connected());
    (installation, server, all)
}

fn closed_with(server: &Server, code: &str) -> f64 {
    server.metrics()[&format!("ringpost_connections_closed_total{{reason=\"{code}\"}}")]
}

fn sum(server: &Server, name: &str) -> f64 {
    server.metrics().iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
}

#[test]
fn connections_that_say_nothing_are_refused_beyond_so_many_of_an_address() {
    withstands(Attack::Silent, 1, 1_500, |server| closed_with(server, "rate_limited") > 0.0);
}

#[test]
fn silent_connections_from_everywhere_keep_nobody_out() {
    let limit = Limits::default().address_handshakes as usize;
    let cores = 2;
    let addresses = (cores * HANDSHAKES_MAX / limit + 8) as u8;
    let has_met = |server: &Server| sum(server, "ringpost_core_handshakes_given_up_total") > 0.0;
    withstands(Attack::Silent, addresses, limit, has_met);
}

#[test]
fn a_hello_of_a_byte_a_second_is_cut_in_time() {
    withstands(Attack::Slow, 1, 100, |server| closed_with(server, "handshake_timeout") > 0.0);
}

#[test]
fn halves_of_connections_harm_nobody() {
    withstands(Attack::HalfOpen, 1, 300, |server| sum(server, "ringpost_core_accepted_total") > 300.0);
}

#[test]
fn who_asks_for_pages_and_reads_none_costs_a_bounded_amount() {
    withstands(Attack::Deaf, 1, 40, |server| sum(server, "ringpost_core_accepted_total") > 40.0);
}

#[test]
fn lengths_beyond_every_limit_are_refused_before_anything_is_stored() {
    withstands(Attack::Oversized, 1, 200, |server| closed_with(server, "frame_too_large") > 0.0);
}

#[test]
fn a_flood_of_hellos_that_nobody_signed_is_held_back_by_address() {
    let judged = |server: &Server| sum(server, "ringpost_core_handshakes_failed_total");
    let (_installation, server, outcome) = withstands(Attack::Hellos, 1, 200, |server| judged(server) > 0.0);
    let judged = judged(&server);
    assert!(judged < outcome.opened as f64, "{judged} of {outcome:?}");
}

#[test]
fn tokens_of_sixty_kilobytes_are_refused_by_their_length() {
    withstands(Attack::LongTokens, 1, 200, |server| closed_with(server, "frame_too_large") > 0.0);
}

#[test]
fn a_session_that_is_replayed_says_everything_once() {
    let has_met = |server: &Server| sum(server, "ringpost_core_accepted_total") > 20.0;
    let (installation, _server, _) = withstands(Attack::Replay, 1, 20, has_met);
    let mut bob = connected(&installation, BOB, 2);
    bob.step_until("the log is there", |bob| bob.received().iter().any(|(_, from, ..)| *from == MALLORY));
    bob.step_until("all of it", |bob| bob.received().iter().filter(|(_, from, ..)| *from == MALLORY).count() >= 20);
    let said: Vec<_> =
        bob.received().iter().filter(|(_, from, ..)| *from == MALLORY).map(|said| said.3.to_owned()).collect();
    let once: Vec<_> = (1..=20).map(|number| format!("said once: {number}")).collect();
    assert_eq!(said, once);
}

#[test]
fn a_flood_of_frames_is_closed() {
    withstands(Attack::Frames, 1, 20, |server| closed_with(server, "rate_limited") > 0.0);
}

#[test]
fn a_user_who_connects_without_end_is_held_back() {
    withstands(Attack::Logins, 1, 50, |server| closed_with(server, "rate_limited") > 0.0);
}
