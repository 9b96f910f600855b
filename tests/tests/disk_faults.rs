//! A disk that refuses: what the server says, what it goes on doing, and that nothing acknowledged is lost.

use std::{thread, time::Duration};

use proto_spec::{ClientFrame, Direction, Entry, RequestId, Resume, Seq};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use server::config::AdminListen;
use storage::journal::recover;
use tests::{
    DEADLINE,
    connection::Connection,
    device::Device,
    disk::{Disk, Fault},
    load::Load,
    process::{Installation, Server},
    wait_until,
};

/// Of the paths on the disk, those of segments that groups are written to. One that is being made has another name.
const SEGMENTS: &str = ".journal";
const STORE: &str = "data/store";

fn on_a_disk() -> Option<(Installation, Disk)> {
    Installation::on_a_disk(env!("CARGO_BIN_EXE_tested-ringpost"), rand::random())
}

fn connected(installation: &Installation, user: u64, device: u64) -> Device {
    let mut device = Device::new(user, device, installation.token(user));
    device.connect(installation.config.listen, Resume::Stored);
    device
}

fn admission_is(server: &Server, state: &str) -> bool {
    server.metrics()[&format!("ringpost_journal_admission{{state=\"{state}\"}}")] > 0.0
}

/// Waits until the next segment is there, while the first one is written still.
fn keeps_a_spare_segment(server: &Server) {
    wait_until("a segment is spare", || server.metrics()["ringpost_journal_segments_prepared_total"] > 0.0);
    assert_eq!(server.metrics()["ringpost_journal_segments_sealed_total"], 0.0);
}

/// Reads the last entries of a user's log.
fn reads(connection: &mut Connection) -> usize {
    let (request, from, direction) = (RequestId(1), Seq(0), Direction::Backwards);
    connection.fetch(1, &ClientFrame::FetchLog { request, from, direction, limit: 5 }).entries.len()
}

/// The disk fails under several writers. Nothing is acknowledged on its strength, reads go on, and a restart on a disk that
/// works has everything that was acknowledged.
fn the_journal_fails(fail: impl FnOnce(&Disk)) {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    // There is room for all that is written: a journal that waits for a segment, which cannot be made, writes nothing that could fail.
    installation.config.journal.seal_after_ms = 600_000;
    installation.config.journal.segment_bytes = 4 * 1024 * 1024;
    installation.config.journal.bytes_max = 16 * 1024 * 1024;
    let server = installation.start();
    let mut rng = StdRng::seed_from_u64(rand::random());
    let load = Load::start(&installation, DEADLINE, &mut rng);
    load.run_to_a_random_moment(&mut rng);
    fail(&disk);
    load.allow_more();
    wait_until("the journal has failed", || admission_is(&server, "failed"));
    assert!(disk.met() > 0);
    wait_until("it is logged", || server.logged().contains("the journal has failed"));
    for (page, says) in [("/ready", "the journal has failed"), ("/health", "a restart helps: the journal has failed")] {
        let answer = Server::page_at(server.admin(), page).unwrap_or_default();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(says), "{page}: {answer}");
    }

    let accepted = load.accepted();
    let mut late = connected(&installation, 1, 9);
    late.say(2, "refused");
    late.step_until("it is refused", |late| late.refused.contains_key("storage_failed"));
    assert!(reads(&mut installation.login(1, 10, Resume::Live)) > 0);
    drop(late);

    disk.heal();
    server.kill();
    let server = installation.start();
    let finished = load.finish().unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(finished.accepted() > accepted);
    server.kill();
    let server = installation.start();
    finished.verify(&installation);
    server.stop();
}

#[test]
fn one_failed_sync_ends_the_journal_until_a_restart() {
    the_journal_fails(|disk| disk.fail_once_after(0, SEGMENTS, Fault::Sync));
}

#[test]
fn a_failed_write_ends_the_journal_until_a_restart() {
    the_journal_fails(|disk| disk.fail_once_after(0, SEGMENTS, Fault::Write));
}

#[test]
fn a_disk_that_can_only_be_read_ends_the_journal_until_a_restart() {
    the_journal_fails(|disk| disk.fail("data", Fault::ReadOnly));
}

#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    disk.fail(SEGMENTS, Fault::SyncHangs);
    for number in 0..20 {
        writer.say(2, &number.to_string());
    }
    wait_until("a sync is under way", || disk.met() > 0);
    for _ in 0..10 {
        writer.step(Duration::from_millis(20));
        assert!(writer.accepted.is_empty(), "{:?}", writer.accepted);
    }
    // The core waits for nothing.
    installation.login(1, 2, Resume::Live).is_alive();
    disk.heal();
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    server.stop();
}

#[test]
fn without_room_sends_are_refused_reads_go_on_and_with_room_all_is_accepted_and_kept() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    installation.config.journal.bytes_max = 8 * 1024 * 1024;
    let server = installation.start();
    let address = installation.config.listen;
    let mut writer = connected(&installation, 1, 1);
    let text = "x".repeat(4000);
    let say = |writer: &mut Device, count: u64| {
        for _ in 0..count {
            writer.say(2, &text);
            writer.step_until("there is room", |writer| writer.unanswered() < 64);
        }
    };
    say(&mut writer, 100);
    // First the segments that are there are filled; then not even that works.
    for (round, fault) in [(1, Fault::Full), (2, Fault::FullForAll)] {
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
        writer.refused.clear();
        disk.fail("data", fault);
        let before = writer.accepted.len();
        while !writer.refused.contains_key("storage_full") {
            if writer.unanswered() < 64 {
                writer.say(2, &text);
            }
            writer.step(Duration::from_millis(5));
            assert!(writer.accepted.len() < before + 4000, "{fault:?}: more is accepted than there is room for");
        }
        // Who was there reads on, who was not comes in and reads.
        assert_eq!(reads(&mut installation.login(1, 2, Resume::Live)), 5);
        let mut recipient = connected(&installation, 2, round);
        recipient.step_until("it gets something", |recipient| !recipient.received().is_empty());
        disk.heal();
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
        // Not before: what the sender's log has may still be on its way to the recipient's when no group can be written.
        let accepted = writer.accepted.len();
        recipient.step_until("it gets what was accepted", |recipient| recipient.received().len() >= accepted);
    }
    assert!(server.metrics()["ringpost_journal_write_retries_total"] > 0.0);
    say(&mut writer, 300);
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    wait_until("the journal goes round", || server.metrics()["ringpost_journal_ingest_seconds_count"] > 0.0);
    server.kill();
    let server = installation.start();
    let mut recipient = connected(&installation, 2, 9);
    recipient.step_until("everything is there", |recipient| recipient.received().len() as u64 == writer.sent());
    writer.connect(address, Resume::After(Seq(writer.position)));
    server.stop();
}

#[test]
fn a_start_on_a_full_disk_gives_back_what_the_journal_keeps_spare_and_serves() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    // Nothing is sealed: all of it is in the journal, and a segment is kept spare.
    installation.config.journal.seal_after_ms = 600_000;
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    // Nothing that compresses: the store needs room for it.
    let mut rng = StdRng::seed_from_u64(rand::random());
    for _ in 0..60 {
        let text: String = (0..4_000).map(|_| char::from(rng.random_range(b' '..=b'~'))).collect();
        writer.say(2, &text);
    }
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    keeps_a_spare_segment(&server);
    server.kill();
    disk.leave_room(0);
    let server = installation.start();
    wait_until("it is logged", || server.logged().contains("has given back segments that it kept spare"));
    assert_eq!(reads(&mut installation.login(2, 1, Resume::Live)), 5);
    disk.heal();
    writer.connect(installation.config.listen, Resume::Stored);
    writer.say(2, "with room");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    server.stop();
}

#[test]
fn a_start_without_room_for_a_segment_serves_reads_and_takes_sends_when_there_is_room() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    // What is said stays in the journal, beside a segment that can be given back for it.
    installation.config.journal.seal_after_ms = 600_000;
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    writer.say(2, "before");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    keeps_a_spare_segment(&server);
    server.kill();
    // So that those that are there will not do.
    installation.config.journal.segment_bytes = 16 * 1024 * 1024;
    installation.config.journal.bytes_max = 64 * 1024 * 1024;
    disk.leave_room(200 * 1024);
    let server = installation.start();
    assert_eq!(reads(&mut installation.login(1, 3, Resume::Live)), 1);
    let mut late = connected(&installation, 1, 2);
    late.say(2, "after");
    late.step_until("it is refused", |late| late.refused.contains_key("storage_full"));
    disk.heal();
    late.step_until("it is accepted", |late| late.unanswered() == 0);
    server.stop();
}

/// The store fails under load while the journal does not: sends are acknowledged, and when the disk works again everything
/// is ingested, without a restart.
fn the_store_fails(fault: Fault) {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    installation.config.journal.bytes_max = 64 * 1024 * 1024;
    let server = installation.start();
    let mut rng = StdRng::seed_from_u64(rand::random());
    let load = Load::start(&installation, DEADLINE, &mut rng);
    let metric = |name: &str| server.metrics()[name];
    let ingested = || metric("ringpost_journal_ingest_seconds_count");
    load.run_to_a_random_moment(&mut rng);
    wait_until("something is ingested", || ingested() > 0.0);

    disk.fail(STORE, fault);
    load.allow_more();
    wait_until("ingestion is tried again", || metric("ringpost_journal_ingest_retries_total") > 1.0);
    let (accepted, before) = (load.accepted(), ingested());
    load.run_to_a_random_moment(&mut rng);
    assert!(load.accepted() > accepted && !load.has_failed());
    // While the next segment is made, the journal may be behind.
    wait_until("sends are admitted", || admission_is(&server, "open"));
    // Who is not in memory is read from the engine as it was.
    let mut other = connected(&installation, 77, 1);
    other.say(78, "x");
    other.step_until("it is accepted", |other| other.unanswered() == 0);

    disk.heal();
    wait_until("ingestion goes on", || ingested() > before);
    let finished = load.finish().unwrap_or_else(|wrong| panic!("{wrong}"));
    wait_until("everything is ingested", || ingested() == metric("ringpost_journal_segments_sealed_total"));
    finished.verify(&installation);
    assert!(!server.logged().contains("panicked"), "{}", server.logged());
    server.kill();
    let server = installation.start();
    finished.verify(&installation);
    server.stop();
}

#[test]
fn a_store_without_room_is_filled_when_there_is_room() {
    the_store_fails(Fault::FullForAll);
}

#[test]
fn a_store_whose_writes_fail_is_filled_when_they_do_not() {
    the_store_fails(Fault::Write);
}

#[test]
fn a_store_whose_syncs_fail_is_filled_when_they_do_not() {
    the_store_fails(Fault::Sync);
}

#[test]
fn a_store_that_can_only_be_read_is_filled_when_it_can_be_written() {
    the_store_fails(Fault::ReadOnly);
}

#[test]
fn reads_that_fail_are_repeated_until_they_succeed() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    // Many blocks of the engine's, more than the start itself has read.
    for _ in 0..50 {
        writer.say(2, &"x".repeat(4000));
    }
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    server.kill();
    let server = installation.start();
    disk.fail(STORE, Fault::Read);
    let (address, token) = (installation.config.listen, installation.token(2));
    let recipient = thread::spawn(move || {
        let mut recipient = Device::new(2, 1, token);
        wait_until("it is welcome", || recipient.try_connect(address, Resume::Stored));
        recipient.step_until("everything is there", |recipient| recipient.received().len() == 50);
    });
    let failed = || server.metrics().iter().any(|(name, count)| name.contains("queries_failed") && *count > 0.0);
    wait_until("a query fails", failed);
    disk.heal();
    recipient.join().unwrap();
    server.stop();
}

/// Heals a disk at last: nobody who waits for a sync can be killed, and a test that fails would wait for it.
struct Healing<'a>(&'a Disk);

impl Drop for Healing<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}

#[test]
fn a_recovery_says_how_far_it_is_ends_with_a_signal_and_is_gone_on_with() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    // What is accepted stays in the journal.
    installation.config.journal.seal_after_ms = 3_600_000;
    let server = installation.start();
    let admin = server.admin();
    installation.config.admin_listen = AdminListen::At(admin);
    let mut writer = connected(&installation, 1, 1);
    writer.say(2, "in the journal");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    server.kill();

    disk.fail(STORE, Fault::SyncHangs);
    let mut server = installation.spawn();
    let healing = Healing(&disk);
    wait_until("it recovers", || {
        Server::page_at(admin, "/ready").is_some_and(|ready| ready.contains("recovering, 0 of 1 MiB"))
    });
    assert!(Server::page_at(admin, "/ready").is_some_and(|ready| ready.starts_with("HTTP/1.1 503")));
    let health = Server::page_at(admin, "/health").unwrap_or_default();
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("alive: recovering, 0 of 1 MiB\n"), "{health}");
    let metrics = Server::page_at(admin, "/metrics").unwrap_or_default();
    assert!(metrics.contains("\nringpost_recovery_bytes_done 0\n"), "{metrics}");
    assert!(!metrics.contains("\nringpost_recovery_bytes 0\n"), "{metrics}");
    server.signal("TERM");
    wait_until("it ends", || server.logged().contains("stopped while starting"));
    // A thread that waits for this disk keeps the process from being gone.
    drop(healing);
    assert_eq!(server.wait().code(), Some(0));

    let server = installation.start();
    let mut reader = connected(&installation, 2, 1);
    reader.step_until("nothing is lost", |reader| reader.received().len() == 1);
    server.stop();
}

/// What a device is sent of its user's log, oldest first.
fn log_of(installation: &Installation, user: u64) -> Vec<Entry> {
    let (request, from, direction) = (RequestId(1), Seq(0), Direction::Backwards);
    let mut reader = installation.login(user, 90, Resume::Live);
    reader.fetch(1, &ClientFrame::FetchLog { request, from, direction, limit: 200 }).entries
}

#[test]
fn a_start_on_a_full_disk_serves_what_the_journal_holds_and_brings_it_in_when_there_is_room() {
    for fault in [Fault::Full, Fault::FullForAll] {
        let Some((mut installation, disk)) = on_a_disk() else { return };
        let server = installation.start();
        let mut writer = connected(&installation, 1, 1);
        for number in 0..5 {
            writer.say(2, &format!("in the store {number}"));
        }
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
        connected(&installation, 2, 1).step_until("all is there", |recipient| recipient.received().len() == 5);
        wait_until("all is in the store", || server.metrics()["ringpost_journal_ingest_seconds_count"] > 0.0);
        server.stop();
        // From here on all stays in the journal.
        installation.config.journal.seal_after_ms = 3_600_000;
        let server = installation.start();
        writer.connect(installation.config.listen, Resume::Stored);
        for number in 0..5 {
            writer.say(2, &format!("in the journal {number}"));
        }
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
        connected(&installation, 2, 1).step_until("all is there", |recipient| recipient.received().len() == 10);
        // The reports of what was delivered may be written at any moment up to here.
        server.kill();

        let journal = installation.data().join("journal");
        let held = recover(&journal).unwrap();
        assert!(held.batches > 0);
        disk.fail("data", fault);
        let server = installation.start();
        wait_until("it says so", || admission_is(&server, "full") && server.metrics()["ringpost_store_away"] > 0.0);
        wait_until("it is logged", || server.logged().contains("reads are served"));
        let logs = [1, 2].map(|user| log_of(&installation, user));
        assert!(logs[0].len() >= 10 && logs[1].len() == 10, "{logs:?}");
        // The numbers of sends go on where they were, and one that is repeated is known.
        writer.connect(installation.config.listen, Resume::Stored);
        writer.refused.clear();
        writer.say(2, "with room");
        writer.step_until("it is refused", |writer| writer.refused.contains_key("storage_full"));
        // What it holds outlives any number of such starts.
        server.kill();
        let server = installation.start();
        assert_eq!([1, 2].map(|user| log_of(&installation, user)), logs);
        let found = recover(&journal).unwrap();
        assert_eq!((found.batches, found.segments.len()), (held.batches, held.segments.len()), "nothing was written");

        disk.heal();
        writer.connect(installation.config.listen, Resume::Stored);
        writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
        assert!(admission_is(&server, "open") && server.metrics()["ringpost_store_away"] == 0.0);
        wait_until("it is logged", || server.logged().contains("the journal has been brought into the store"));
        connected(&installation, 2, 2).step_until("once, in order", |recipient| recipient.received().len() == 11);
        // What was served while the disk was full is what is in the store.
        let after = [1, 2].map(|user| log_of(&installation, user));
        assert_eq!(after[1][..10], logs[1][..]);
        server.kill();
        let server = installation.start();
        let again = log_of(&installation, 2);
        assert_eq!(again, after[1]);
        server.stop();
    }
}

#[test]
fn a_start_on_a_full_disk_can_be_stopped_and_goes_on_at_the_next_start() {
    let Some((mut installation, disk)) = on_a_disk() else { return };
    installation.config.journal.seal_after_ms = 3_600_000;
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    writer.say(2, "kept");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    server.kill();
    disk.fail("data", Fault::FullForAll);
    let server = installation.start();
    assert_eq!(reads(&mut installation.login(1, 2, Resume::Live)), 1);
    server.stop();
    disk.heal();
    let server = installation.start();
    assert_eq!(reads(&mut installation.login(1, 2, Resume::Live)), 1);
    connected(&installation, 2, 1).step_until("it is delivered", |recipient| recipient.received().len() == 1);
    server.stop();
}
