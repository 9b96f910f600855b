//! A server that is killed at random moments under load, and started again on the same data folder and port.

use std::{thread, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    DEADLINE,
    load::Load,
    number_of,
    process::{Installation, Server},
};

/// How often the server is killed when RINGPOST_KILLS does not say.
pub const KILLS: u64 = 10;

/// Kills the server as often as RINGPOST_KILLS says ([`KILLS`]), at moments that RINGPOST_SEED chooses, and judges what is left.
///
/// # Panics
/// Something that was acknowledged is lost, doubled or out of order.
pub fn survive(mut installation: Installation) {
    let kills = number_of("RINGPOST_KILLS").unwrap_or(KILLS);
    let seed = number_of("RINGPOST_SEED").unwrap_or_else(rand::random);
    println!("RINGPOST_KILLS={kills} RINGPOST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);

    // Small, so that the journal goes round, and is full at times.
    installation.config.journal.segment_bytes = 1024 * 1024;
    installation.config.journal.bytes_max = 8 * 1024 * 1024;
    installation.config.journal.seal_after_ms = 300;
    let mut server = Some(installation.start());
    // A kill stops the store's compaction, which starts anew; while too many tables wait for it the journal is full and nobody
    // is served with anything new. So patience grows with the kills.
    let load = Load::start(&installation, DEADLINE + Duration::from_secs(kills), &mut rng);
    for _ in 0..kills {
        if load.has_failed() {
            // Of use to whoever looks for the reason.
            if let Some(server) = &server {
                println!("{:#?}", server.metrics());
            }
            println!("{}", installation.log());
            break;
        }
        kill_at_a_random_moment(&installation, server.take(), &load, &mut rng);
        // One in four is killed again while it recovers.
        if rng.random_range(0..4) != 0 {
            server = Some(installation.start());
        }
    }
    let running = server.unwrap_or_else(|| installation.start());
    let finished = load.finish().unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{} messages were accepted", finished.accepted());

    // What is left is judged by what the disk says.
    running.kill();
    let server = installation.start();
    finished.verify(&installation);
    server.stop();
}

/// Lets the server run for a random time, often a time in which it is still starting, and kills it.
fn kill_at_a_random_moment(installation: &Installation, server: Option<Server>, load: &Load, rng: &mut StdRng) {
    let server = match server {
        Some(server) => {
            load.run_to_a_random_moment(rng);
            server
        }
        None => {
            let server = installation.spawn();
            thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
            server
        }
    };
    server.kill();
}
