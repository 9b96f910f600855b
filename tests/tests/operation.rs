//! What the server promises to whoever runs it: how it starts, stops, refuses to start, and what it tells.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeSet, fs, io, net::TcpListener, os::unix::fs::FileExt as _, path::Path, process::Command, thread,
    time::Duration,
};

use proto_spec::{ClientFrame, ErrorCode, Resume, Seq, ServerFrame, limits::TEXT_BYTES_MAX};
use server::{
    config::{AdminListen, Config},
    files::keyfile,
};
use tests::{
    connection::{Connection, hello},
    device::{Device, Step},
    process::{Installation, snapshot},
    wait_until,
};

fn installation() -> Installation {
    Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"))
}

fn connected(installation: &Installation, user: u64, device: u64) -> Device {
    let mut device = Device::new(user, device, installation.token(user));
    device.connect(installation.config.listen, Resume::Stored);
    device
}

/// Sends one after the other, so that each is a group of the journal.
fn say_one_by_one(writer: &mut Device, to: u64, texts: &[&str]) {
    for text in texts {
        writer.say(to, text);
        writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    }
}

#[test]
fn a_stop_commits_what_is_parked_says_bye_and_exits_with_zero() {
    let mut installation = installation();
    let mut server = installation.start();
    let mut reader = connected(&installation, 2, 1);
    let mut writer = connected(&installation, 1, 1);
    let writer = thread::spawn(move || {
        loop {
            while writer.unanswered() < 32 {
                writer.say(2, &format!("{}", writer.sent() + 1));
            }
            if let Step::Lost(code) = writer.step(Duration::from_millis(20)) {
                return (writer, code);
            }
        }
    });
    reader.step_until("traffic runs", |reader| reader.received().len() > 100);
    server.signal("TERM");
    let last = loop {
        if let Step::Lost(code) = reader.step(Duration::from_millis(20)) {
            break code;
        }
    };
    assert_eq!(last, Some(ErrorCode::Stopping));
    let (mut writer, last) = writer.join().unwrap();
    assert_eq!(last, Some(ErrorCode::Stopping));
    assert_eq!(server.wait().code(), Some(0));
    assert!(Connection::open(installation.config.listen).is_err());

    let server = installation.start();
    // The device itself looks whether anything that was accepted is gone.
    writer.connect(installation.config.listen, Resume::After(Seq(writer.position)));
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    reader.connect(installation.config.listen, Resume::After(Seq(reader.position)));
    reader.step_until("all is there", |reader| reader.received().len() as u64 == writer.sent());
    server.stop();
}

#[test]
fn a_second_signal_exits_at_once() {
    let mut installation = installation();
    let mut server = installation.start();
    // Who does not read holds the stop up: its last bytes are waited for.
    let mut deaf = connected(&installation, 1, 1);
    let mut writer = connected(&installation, 1, 2);
    let text = "x".repeat(TEXT_BYTES_MAX);
    for _ in 0..600 {
        writer.say(1, &text);
        writer.step_until("there is room", |writer| writer.unanswered() < 16);
    }
    server.signal("TERM");
    wait_until("the stop has begun", || server.logged().contains("a second signal exits at once"));
    assert!(server.is_running());
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    while !matches!(deaf.step(Duration::from_millis(20)), Step::Lost(_)) {}
}

#[test]
fn a_restart_with_another_number_of_cores_keeps_everything() {
    let mut installation = installation();
    let mut devices: Vec<Device> = Vec::new();
    for (round, cores) in [1, 4, 2].into_iter().enumerate() {
        installation.config.cores = cores;
        let server = installation.start();
        if devices.is_empty() {
            devices = (1..=8).map(|user| Device::new(user, 1, installation.token(user))).collect();
        }
        for device in &mut devices {
            device.connect(installation.config.listen, Resume::After(Seq(device.position)));
        }
        for device in &mut devices {
            let user = device.user;
            for to in (1..=8).filter(|to| *to != user) {
                device.say(to, &format!("{round}"));
            }
            device.step_until("all is accepted", |device| device.unanswered() == 0);
        }
        let expected = 7 * (round as u64 + 1);
        for device in &mut devices {
            device.step_until("all is there", |device| device.counts() == (expected, expected));
        }
        if round == 1 {
            server.kill();
        } else {
            server.stop();
        }
        for device in &mut devices {
            device.disconnect();
        }
    }
    let server = installation.start();
    for device in &devices {
        let mut fresh = connected(&installation, device.user, 2);
        fresh.step_until("all is there", |fresh| fresh.counts() == device.counts());
        assert_eq!(fresh.messages(), device.messages());
    }
    server.stop();
}

#[test]
fn a_start_waits_for_an_address_that_becomes_free() {
    let mut installation = installation();
    // In a folder that was served from: whoever has the address may be the server that has just ended. A first start does not wait.
    installation.start().stop();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    installation.config.listen = holder.local_addr().unwrap();
    let mut server = installation.spawn();
    wait_until("it waits", || installation.log().contains("the address is in use"));
    drop(holder);
    assert!(server.greets(), "{}", installation.log());
    server.stop();
}

#[test]
fn a_data_folder_of_a_running_server_is_refused() {
    let mut installation = installation();
    let server = installation.start();
    let mut second = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    second.config.data_dir = installation.data().to_owned();
    let (code, said) = second.refused();
    assert_eq!(code, 1);
    assert!(said.contains("in use by another process") && names(&said, installation.data()), "{said}");
    // The first one serves on.
    let mut device = connected(&installation, 1, 1);
    say_one_by_one(&mut device, 1, &["still here"]);
    server.stop();
}

fn names(said: &str, folder: &Path) -> bool {
    said.contains(folder.canonicalize().unwrap().to_str().unwrap())
}

/// Starts a server on what is there, which must refuse in one line that names the folder, and leave everything as it is.
#[track_caller]
fn refused_and_untouched(installation: &Installation) -> String {
    let before = snapshot(installation.data());
    let (code, said) = installation.refused();
    assert_eq!(code, 1, "{said}");
    assert!(names(&said, installation.data()), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("ringpost: "), "{said}");
    let after = snapshot(installation.data());
    let changed: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| path.strip_prefix(installation.data()).unwrap())
        .collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
    said
}

/// A folder with messages in the store and others in the journal.
fn used() -> Installation {
    let mut installation = installation();
    for round in 0..2 {
        let server = installation.start();
        let mut writer = connected(&installation, 1, round + 1);
        say_one_by_one(&mut writer, 2, &["the first of three", "the second of three", "the third of three"]);
        server.kill();
    }
    installation
}

#[test]
fn a_folder_of_a_newer_format_is_refused_and_left_as_it_is() {
    let installation = used();
    fs::write(installation.data().join("FORMAT"), "ringpost 6\n").unwrap();
    let said = refused_and_untouched(&installation);
    assert!(said.contains("format 6"), "{said}");
}

#[test]
fn a_journal_that_is_damaged_in_its_middle_is_refused_and_left_as_it_is() {
    let mut installation = used();
    let damaged = snapshot(&installation.data().join("journal")).into_iter().any(|(path, bytes)| {
        let text = b"the second of three";
        let at = bytes.unwrap_or_default().windows(text.len()).position(|window| window == text);
        let Some(at) = at else { return false };
        // A file that was used before may hold what is long in the store.
        if path.extension().is_none_or(|extension| extension != "journal") {
            return false;
        }
        fs::File::options().write(true).open(path).unwrap().write_all_at(b"T", at as u64).unwrap();
        true
    });
    assert!(damaged, "the text is found in the journal");
    let said = refused_and_untouched(&installation);
    assert!(said.contains("damaged at offset"), "{said}");
    // The harm can be undone: with the byte as it was, the server starts.
    for (path, bytes) in snapshot(&installation.data().join("journal")) {
        let text = b"The second of three".as_slice();
        let text = [b"T".as_slice(), &text[1..]].concat();
        if let Some(at) = bytes.unwrap_or_default().windows(text.len()).position(|window| window == text) {
            fs::File::options().write(true).open(path).unwrap().write_all_at(b"t", at as u64).unwrap();
        }
    }
    installation.start().stop();
}

#[test]
fn a_store_that_is_damaged_is_refused_and_left_as_it_is() {
    let mut installation = used();
    let whole = installation.data().to_owned();
    let mut refused = BTreeSet::new();
    // Of the engine's three keyspaces, that of the rows; and what all of them need.
    let files = snapshot(&whole.join("store")).into_iter().filter_map(|(path, bytes)| Some((path, bytes?)));
    let files =
        files.filter(|(path, _)| !["0", "2"].iter().any(|other| path.components().any(|c| c.as_os_str() == *other)));
    for (number, (path, bytes)) in files.enumerate() {
        let copy = installation.folder().join(format!("copy{number}"));
        let status = Command::new("cp").arg("-a").arg(&whole).arg(&copy).status().unwrap();
        assert!(status.success());
        let damaged = copy.join(path.strip_prefix(&whole).unwrap());
        fs::File::options().write(true).open(&damaged).unwrap().write_all_at(&vec![0xff; bytes.len()], 0).unwrap();
        installation.config.data_dir = copy.clone();
        let before = snapshot(&copy);
        let mut server = installation.spawn();
        if server.greets() {
            // Of a file that is not needed any more: nothing may be missing.
            installation.config.listen = server.address();
            let mut fresh = connected(&installation, 1, 9);
            fresh.step_until("all is there", |fresh| fresh.counts() == (0, 6));
            server.stop();
        } else {
            refused.insert(path.strip_prefix(whole.join("store/fjall")).unwrap_or(&path).to_owned());
            assert_eq!(server.wait().code(), Some(1));
            assert!(before == snapshot(&copy), "{} was damaged, and others were changed", path.display());
            let log = installation.log();
            let said = log.lines().last().unwrap();
            assert!(said.starts_with("ringpost: ") && said.contains("damaged") && names(said, &copy), "{said}");
        }
    }
    assert!(refused.iter().any(|path| path.components().any(|part| part.as_os_str() == "tables")), "{refused:?}");
    assert!(refused.contains(Path::new("version")) && refused.len() >= 5, "{refused:?}");
}

#[test]
fn the_metrics_show_groups_their_sizes_and_their_sync_times() {
    let mut installation = installation();
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    for number in 1..=500 {
        writer.say(2, &format!("{number}"));
        writer.step_until("there is room", |writer| writer.unanswered() < 64);
    }
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    // What the recipient's home appends follows the acknowledgements.
    let both_logs = 500.0 * 2.0 * 20.0;
    wait_until("both logs are in the journal", || server.metrics()["ringpost_journal_group_bytes_sum"] > both_logs);
    let metrics = server.metrics();
    let journal = |name: &str| metrics[&format!("ringpost_journal_{name}")];
    let (groups, batches) = (journal("group_batches_count"), journal("group_batches_sum"));
    assert!(0.0 < groups && groups <= batches, "{groups} {batches}");
    assert!(batches <= 3.0 * 500.0, "a batch has at least one record: {batches}");
    let (sum, max) = (journal("sync_seconds_sum"), journal("sync_seconds_max"));
    assert!(0.0 < max && max <= sum && sum < 60.0, "{max} {sum}");
    assert!(metrics["ringpost_core_connections{core=\"0\"}"] <= 1.0);
    let accepted: f64 =
        metrics.iter().filter(|(name, _)| name.starts_with("ringpost_core_accepted_total")).map(|m| m.1).sum();
    assert_eq!(accepted, 1.0);
    assert_eq!(metrics["ringpost_users_online"], 1.0);
    server.stop();
}

#[test]
fn a_running_server_is_asked_for_the_status_of_its_journal() {
    let mut installation = installation();
    let server = installation.start();
    let mut writer = connected(&installation, 1, 1);
    say_one_by_one(&mut writer, 2, &["one", "two"]);
    let mut config = installation.config.clone();
    // It is asked in its folder.
    config.admin_listen = AdminListen::Off;
    let file = installation.folder().join("asks.toml");
    fs::write(&file, config.to_toml()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let output = command.args(["journal", "status", "--config"]).arg(&file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in ["server    running; ", "admission open\n", "store     takes what it is given\n", "waiting   "] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("groups    0 "), "{said}");
    server.stop();
}

#[test]
fn the_log_has_no_token_and_no_text_in_it() {
    let mut installation = installation();
    installation.log_filter = "trace";
    let server = installation.start();
    let text = "a secret between the two of us";
    let token = installation.token(7);
    let mut writer = Device::new(7, 1, token.clone());
    writer.connect(installation.config.listen, Resume::Stored);
    say_one_by_one(&mut writer, 8, &[text, text]);
    let mut reader = connected(&installation, 8, 1);
    reader.step_until("it is there", |reader| reader.received().len() == 2);
    // A hello that fails, and one that is cut short.
    let mut changed = token.clone();
    changed.insert(20, 'x');
    let mut client = installation.connect();
    client.send(&[hello(&changed, 1, Resume::Stored)]);
    assert_eq!(client.bye(), ErrorCode::TokenInvalid);
    let mut bytes = Vec::new();
    hello(&token, 1, Resume::Stored).encode(&mut bytes);
    installation.connect().bytes(&bytes[..bytes.len() / 2]);
    reader.disconnect();
    let mut client = installation.login(7, 2, Resume::Stored);
    client.send(&[ClientFrame::Bye]);
    while client.frame().is_some() {}
    server.kill();
    let server = installation.start();
    server.stop();
    let log = installation.log();
    assert!(log.lines().count() > 5, "{log}");
    for secret in token.split('.').chain([text]) {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_hangup_reads_the_keys_again_and_leaves_them_when_they_can_not_be_used() {
    let mut installation = installation();
    let key_file = installation.folder().join("key.pem");
    keyfile::create_if_missing(&key_file).unwrap();
    installation.config.auth.key_file = key_file.clone();
    let server = installation.start();
    let old = installation.login(1, 1, Resume::Stored);
    let old_token = installation.token(1);

    fs::rename(&key_file, installation.folder().join("old.pem")).unwrap();
    server.signal("HUP");
    wait_until("it says that there is no key", || server.logged().contains("keys and certificate stay as they were"));
    let mut kept = installation.connect();
    kept.send(&[hello(&old_token, 2, Resume::Stored)]);
    assert!(matches!(kept.frame(), Some(ServerFrame::Welcome { .. })));

    keyfile::create_if_missing(&key_file).unwrap();
    server.signal("HUP");
    wait_until("the new key counts", || {
        let mut late = installation.connect();
        late.send(&[hello(&old_token, 3, Resume::Stored)]);
        matches!(late.frame(), Some(ServerFrame::Bye { code: ErrorCode::TokenInvalid, .. }))
    });
    let new = installation.login(1, 4, Resume::Stored);
    [old, kept, new].iter_mut().for_each(Connection::is_alive);
    server.stop();
}

/// The threads of a process, and how nice each is to the others.
fn threads(process: u32) -> Vec<(String, i32)> {
    let stat = |task: io::Result<fs::DirEntry>| {
        // A thread that has ended meanwhile is none.
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).ok()?;
        let (name, rest) = (stat.split_once('(')?.1, stat.rsplit_once(')')?.1);
        // The nineteenth field, of which the first two stand before `rest`.
        let nice = rest.split_whitespace().nth(16)?.parse().ok()?;
        Some((name.rsplit_once(')')?.0.to_owned(), nice))
    };
    fs::read_dir(format!("/proc/{process}/task")).unwrap().filter_map(stat).collect()
}

#[test]
fn what_brings_the_journal_into_the_store_stands_below_the_cores_and_the_readers() {
    let mut installation = installation();
    let server = installation.start();
    let threads = threads(server.id());
    // The kernel keeps fifteen letters of a name.
    let nice = |name: &str| {
        let of_name: Vec<i32> = threads.iter().filter(|(of, _)| of.starts_with(name)).map(|(_, nice)| *nice).collect();
        assert!(!of_name.is_empty(), "no thread {name} in {threads:?}");
        of_name
    };
    let own = nice("ringpost-core-")[0];
    for name in ["ringpost-core-", "ringpost-reader"] {
        assert!(nice(name).iter().all(|nice| *nice == own), "{name}: {threads:?}");
    }
    let below = (own + storage::pace::NICER).min(19);
    for name in ["ringpost-ingest", "ringpost-segmen", "fjall:worker"] {
        assert!(nice(name).iter().all(|nice| *nice == below), "{name}: {threads:?}");
    }
    server.stop();
}

#[test]
fn metrics_of_a_second_server_are_at_a_free_port_unless_it_was_told_which() {
    // Which holds the usual port, if nobody else does.
    let mut installation = installation();
    assert!(TcpListener::bind(AdminListen::USUAL).is_err() && TcpListener::bind(Config::default().listen).is_err());
    installation.config.admin_listen = AdminListen::Auto;
    let server = installation.start();
    assert_ne!(server.admin(), AdminListen::USUAL);
    assert!(!server.metrics().is_empty());
    assert!(server.logged().contains("--admin-listen gives them an address"), "{}", server.logged());
    server.stop();
    installation.config.admin_listen = AdminListen::At(AdminListen::USUAL);
    let (code, said) = installation.refused();
    assert!(
        code == 1 && said.contains(&format!("admin_listen = {}: ", AdminListen::USUAL)) && said.contains("auto"),
        "{said}"
    );
    installation.more = vec!["--admin-listen", "off"];
    let server = installation.start();
    assert!(!server.greeting().contains("/metrics"), "{}", server.greeting());
    server.stop();
}
