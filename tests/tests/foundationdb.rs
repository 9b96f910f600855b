//! The server on a real FoundationDB, with what goes wrong: RINGPOST_FDB_CLUSTER_FILE names the cluster; without it these tests
//! say that they have not run.
//!
//! `cargo test -p tests --features foundationdb --test foundationdb -- --nocapture --test-threads 1`

use std::time::Duration;

use proto_spec::Resume;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use server::config::Ack;
use tests::{
    DEADLINE, database::Database, device::Device, kills, load::Load, number_of, process::Installation,
    wait_until_within,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tested-ringpost");

/// How long a database process that was killed may take to serve again.
const RECOVERY: Duration = Duration::from_secs(60);

fn device(installation: &Installation, user: u64, device: u64) -> Device {
    let mut device = Device::new(user, device, installation.token(user));
    device.connect(installation.config.listen, Resume::Stored);
    device
}

#[test]
fn what_was_acknowledged_survives_kill_9_with_either_kind_of_acknowledgement() {
    let Some(database) = Database::of_this_run() else { return };
    for ack in [Ack::Committed, Ack::Journal] {
        kills::survive(database.installation(PROGRAM, ack));
    }
}

#[test]
fn a_process_of_the_database_that_is_killed_loses_nothing() {
    let Some(database) = Database::of_this_run() else { return };
    let mut rng = StdRng::seed_from_u64(number_of("RINGPOST_SEED").unwrap_or_else(rand::random));
    for ack in [Ack::Committed, Ack::Journal] {
        let mut installation = database.installation(PROGRAM, ack);
        let server = installation.start();
        let load = Load::start(&installation, RECOVERY + DEADLINE, &mut rng);
        let mut children = Vec::new();
        for _ in 0..number_of("RINGPOST_FDB_CRASHES").unwrap_or(3) {
            load.run_to_a_random_moment(&mut rng);
            children.extend(database.crash(rng.random_range(0..8)));
            let before = load.accepted();
            load.allow_more();
            wait_until_within(RECOVERY, "messages are accepted again", || {
                load.accepted() > before || load.has_failed()
            });
        }
        let finished = load.finish().unwrap_or_else(|wrong| panic!("{wrong}\n{}", installation.log()));
        println!("{ack:?}: {} messages were accepted", finished.accepted());
        finished.verify(&installation);
        server.stop();
        // They go on serving: whoever started the test stops the cluster.
        children.into_iter().for_each(drop);
    }
}

#[test]
fn a_database_that_stands_still_makes_acknowledgements_local_and_committed_when_it_is_back() {
    let Some(database) = Database::of_this_run() else { return };
    let seconds = number_of("RINGPOST_FDB_STOP_S").unwrap_or(60);
    for ack in [Ack::Committed, Ack::Journal] {
        let mut installation = database.installation(PROGRAM, ack);
        let server = installation.start();
        let (mut alice, mut bob) = (device(&installation, 1, 1), device(&installation, 2, 1));
        alice.say(2, "before");
        alice.step_until("it is accepted and committed", |alice| {
            alice.unanswered() == 0 && alice.uncommitted.is_empty()
        });
        bob.step_until("it arrives", |bob| bob.received().len() == 1);

        let stopped = database.stop();
        for number in 0..seconds {
            alice.say(2, &format!("{number} meanwhile"));
            for _ in 0..10 {
                alice.step(Duration::from_millis(50));
                bob.step(Duration::from_millis(50));
            }
            assert!(alice.refused.is_empty(), "{:?}\n{:#?}\n{}", alice.refused, server.metrics(), installation.log());
        }
        alice.step_until("all is accepted", |alice| alice.unanswered() == 0);
        assert!(!alice.uncommitted.is_empty(), "{ack:?}");
        if ack == Ack::Committed {
            assert!(server.metrics()["ringpost_store_away"] > 0.0);
        }
        drop(stopped);
        alice.step_until("all is committed", |alice| alice.uncommitted.is_empty());
        bob.step_until("all arrives", |bob| bob.received().len() as u64 == seconds + 1);
        let texts: Vec<&str> = bob.received().into_iter().map(|(.., text)| text).collect();
        let wanted: Vec<String> = (0..seconds).map(|number| format!("{number} meanwhile")).collect();
        assert_eq!(texts[0], "before");
        assert_eq!(texts[1..], wanted, "{ack:?}: in order, each once");
        server.stop();
    }
}

#[test]
fn of_two_servers_the_later_one_serves_and_the_earlier_one_stops_and_says_why() {
    let Some(database) = Database::of_this_run() else { return };
    for ack in [Ack::Committed, Ack::Journal] {
        let mut first = database.installation(PROGRAM, ack);
        let mut server = first.start();
        let mut writer = device(&first, 1, 1);
        for number in 0..20 {
            writer.say(2, &format!("{number}"));
        }
        writer.step_until("they are accepted and committed", |writer| {
            writer.unanswered() == 0 && writer.uncommitted.is_empty()
        });
        let mut second = database.installation(PROGRAM, ack);
        second.config.store = first.config.store.clone();
        let later = second.start();
        let status = server.wait();
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(first.log().contains("somebody else has taken over"), "{}", first.log());
        let mut reader = device(&second, 2, 1);
        reader.step_until("what was committed is there", |reader| reader.received().len() == 20);
        reader.say(1, "and it goes on");
        reader.step_until("it is accepted", |reader| reader.unanswered() == 0);
        later.stop();
    }
}

#[test]
fn a_database_that_does_not_answer_keeps_a_server_from_starting_and_it_says_so() {
    let Some(database) = Database::of_this_run() else { return };
    let mut installation = database.installation(PROGRAM, Ack::Committed);
    let nobody = installation.folder().join("nobody.cluster");
    std::fs::write(&nobody, "nobody:nobody@127.0.0.1:1\n").expect("it has room");
    installation.config.store.foundationdb.cluster_file = nobody;
    installation.config.store.foundationdb.timeout_ms = 500;
    let (code, said) = installation.refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the store is not available"), "{said}");
    installation.config.store.foundationdb.cluster_file = "/nowhere/fdb.cluster".into();
    let (code, said) = installation.refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("/nowhere/fdb.cluster"), "{said}");
}
