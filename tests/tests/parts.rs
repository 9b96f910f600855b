//! A data folder of which a part is not what the server left: emptied, not mounted, of another moment. Starting with it would lose history
//! without a word, or write it over; so the server says what is wrong, and changes nothing.

use std::{fs, path::Path};

use proto_spec::{EpochId, ErrorCode, Resume, Seq, ServerFrame};
use tests::{
    connection::{Connection, hello_of},
    device::Device,
    process::{Installation, Server, copy_folder},
    wait_until,
};

/// Messages of a part of a history.
const MESSAGES: usize = 20;

fn installation() -> Installation {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.config.journal.segment_bytes = 1024 * 1024;
    installation.config.journal.bytes_max = 8 * 1024 * 1024;
    // Long enough to copy what waits for it.
    installation.config.journal.seal_after_ms = 1_000;
    installation
}

/// User 1 writes to user 2, and all of it is accepted.
fn say(installation: &Installation, writer: &mut Device) {
    writer.connect(installation.config.listen, Resume::Stored);
    for number in 0..MESSAGES {
        writer.say(2, &format!("message {number}"));
    }
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
}

/// As `say`, and then a segment more is in the store.
fn say_and_store(installation: &Installation, server: &Server, writer: &mut Device) {
    let ingested = || server.metrics()["ringpost_journal_ingest_seconds_count"];
    let before = ingested();
    say(installation, writer);
    wait_until("a segment is in the store", || ingested() > before);
}

/// At least as many messages as these are at user 2, in the order in which they were written, each once.
fn has(installation: &Installation, messages: usize) {
    let mut recipient = Device::new(2, 1, installation.token(2));
    recipient.connect(installation.config.listen, Resume::Stored);
    recipient.step_until("everything is there", |recipient| recipient.received().len() >= messages);
    let received = recipient.received();
    assert!(received.is_sorted_by(|(_, _, origin, _), (_, _, next, _)| origin < next), "{received:?}");
    for (number, (_, _, _, text)) in received.iter().enumerate() {
        assert_eq!(*text, format!("message {}", number % MESSAGES));
    }
}

/// Batches in the journal of a data folder.
fn held(data: &Path) -> u64 {
    storage::journal::recover(&data.join("journal")).expect("a journal").batches
}

fn refused(installation: &Installation, words: &[&str]) {
    let (code, said) = installation.refused();
    assert_eq!(code, 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_journal_or_a_store_that_is_empty_is_refused_by_name_and_served_when_it_is_back() {
    let mut installation = installation();
    let server = installation.start();
    let mut writer = Device::new(1, 1, installation.token(1));
    say_and_store(&installation, &server, &mut writer);
    server.kill();
    for part in ["store", "journal"] {
        let (path, kept) = (installation.data().join(part), installation.folder().join("kept"));
        fs::rename(&path, &kept).expect("it can be moved");
        // As a mount point is, others may look into it.
        fs::create_dir(&path).expect("a folder can be made");
        let name = format!("its folder {part} is empty");
        refused(&installation, &[&name, "Mount the volume", "--data"]);
        assert_eq!(fs::read_dir(&path).expect("it is there").count(), 0);
        fs::remove_dir(&path).expect("it is empty");
        fs::rename(&kept, &path).expect("it can be moved");
    }
    let server = installation.start();
    has(&installation, MESSAGES);
    server.stop();
}

/// Copied while the server ran: one part, more messages, the other part.
fn copied_in_two_steps(first: &str, second: &str) -> Installation {
    let mut installation = installation();
    let server = installation.start();
    let mut writer = Device::new(1, 1, installation.token(1));
    say_and_store(&installation, &server, &mut writer);
    // A journal that has something.
    let copied = installation.folder().join("copied");
    while !copied.exists() {
        say(&installation, &mut writer);
        copy_folder(installation.data(), &copied);
        if first == "journal" && held(&copied) == 0 {
            fs::remove_dir_all(&copied).expect("it is there");
        }
    }
    for _ in 0..3 {
        say_and_store(&installation, &server, &mut writer);
    }
    fs::remove_dir_all(copied.join(second)).expect("it is there");
    while !copied.join(second).exists() {
        if second == "journal" {
            say(&installation, &mut writer);
        }
        copy_folder(&installation.data().join(second), &copied.join(second));
        if second == "journal" && held(&copied) == 0 {
            fs::remove_dir_all(copied.join(second)).expect("it is there");
        }
    }
    server.kill();
    installation.config.data_dir = copied;
    installation
}

#[test]
fn a_journal_that_was_copied_before_its_store_is_refused_and_the_way_out_keeps_the_history() {
    let mut installation = copied_in_two_steps("journal", "store");
    refused(
        &installation,
        &["the two were not copied at the same time", "The store has all that the journal holds", "mv "],
    );
    // As the message says.
    let journal = installation.data().join("journal");
    fs::create_dir(journal.join("aside")).expect("a folder can be made");
    for entry in fs::read_dir(&journal).expect("it is there") {
        let path = entry.expect("it is there").path();
        let name = path.file_name().expect("a file").to_owned();
        if name == "TENURE" || path.extension().is_some_and(|extension| extension == "journal") {
            fs::rename(&path, journal.join("aside").join(name)).expect("it can be moved");
        }
    }
    let server = installation.start();
    // What the journal held, and more.
    has(&installation, 2 * MESSAGES);
    server.stop();
}

#[test]
fn a_journal_that_was_copied_after_its_store_is_refused() {
    let installation = copied_in_two_steps("store", "journal");
    refused(&installation, &["what was between them is missing", "Nothing was changed"]);
}

#[test]
fn a_store_that_is_of_an_earlier_start_than_the_journal_is_refused() {
    let mut installation = installation();
    let server = installation.start();
    let mut writer = Device::new(1, 1, installation.token(1));
    say(&installation, &mut writer);
    server.stop();
    let earlier = installation.folder().join("earlier");
    copy_folder(&installation.data().join("store"), &earlier);
    let server = installation.start();
    say(&installation, &mut writer);
    server.stop();
    fs::remove_dir_all(installation.data().join("store")).expect("it is there");
    copy_folder(&earlier, &installation.data().join("store"));
    refused(&installation, &["the store is an older one than it was written for"]);
}

/// A copy of a whole data folder, put back, is a good one: the server starts, and goes on from there. Who has seen more of a log than it
/// has is told so, even when the log has grown beyond that again; who has seen no more goes on.
#[test]
fn who_has_seen_what_a_copy_does_not_have_is_told_so_when_its_log_has_grown_again() {
    let mut installation = installation();
    let (data, saved) = (installation.data().to_owned(), installation.folder().join("saved"));
    let received = |device: &Device| device.received().len();

    let server = installation.start();
    let address = server.address();
    let [mut writer, mut behind, mut ahead] =
        [(1, 1), (2, 1), (2, 2)].map(|(user, device)| Device::new(user, device, installation.token(user)));
    say(&installation, &mut writer);
    for device in [&mut behind, &mut ahead] {
        device.connect(address, Resume::Stored);
        device.step_until("all is there", |device| received(device) == MESSAGES);
    }
    behind.disconnect();
    server.stop();
    copy_folder(&data, &saved);

    let server = installation.start();
    let mut second = Device::new(1, 2, installation.token(1));
    say(&installation, &mut second);
    ahead.connect(address, Resume::After(Seq(ahead.position)));
    ahead.step_until("all is there", |device| received(device) == 2 * MESSAGES);
    ahead.disconnect();
    server.stop();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&saved, &data).unwrap();

    let _server = installation.start();
    // Another device of the writer, so that its numbers begin anew.
    for device in [3, 4] {
        say(&installation, &mut Device::new(1, device, installation.token(1)));
    }
    behind.connect(address, Resume::After(Seq(behind.position)));
    behind.step_until("it goes on", |device| received(device) == 3 * MESSAGES);
    let mut refused = Connection::open(address).unwrap();
    let after = Resume::After(Seq(ahead.position));
    refused.send(&[hello_of(&installation.token(2), 2, after, ahead.epoch)]);
    assert_eq!(refused.bye(), ErrorCode::OtherLog);
    // As every client did before there were epochs: nothing is known, and what it holds is believed.
    let mut unaware = Connection::open(address).unwrap();
    unaware.send(&[hello_of(&installation.token(2), 2, after, EpochId(0))]);
    assert!(matches!(unaware.frame(), Some(ServerFrame::Welcome { .. })));
    // It discards what it holds, and begins again.
    ahead = Device::new(2, 2, installation.token(2));
    ahead.connect(address, Resume::After(Seq::ZERO));
    ahead.step_until("the log is the same for both", |device| received(device) == 3 * MESSAGES);
    assert_eq!(ahead.messages(), behind.messages());
}
