//! `ringpost journal` as an operator meets it: what it says, its exit codes, and what it leaves alone.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::UNIX_EPOCH,
};

use proto_spec::{Content, DeviceId, Direction, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use serde_json::Value;
use server::{
    commands::journal::{self, Action, OnDamage},
    config::Config,
    files::datadir::DataDir,
};
use storage::{
    Answer, Batch, BatchId, EmbeddedConfig, EmbeddedStore, LaneId, Query, Record, Span, answer,
    journal::{JournalConfig, JournalFolder, Position, Writer},
};

const CONFIG: JournalConfig = JournalConfig { segment_bytes: 65536, journal_bytes_max: 64 * 65536, reserve_bytes: 0 };
const WRITER: UserId = UserId(7);
const READER: UserId = UserId(8);

/// A data folder whose journal holds what user 7 wrote to user 8: each message two batches, on two cores, in one group.
struct World {
    folder: tempfile::TempDir,
    journal: JournalFolder,
    writer: Writer,
    messages: u64,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open_with_key(&folder.path().join("data")).unwrap();
        let journal = JournalFolder::open(&data.journal(), CONFIG.segment_bytes).unwrap();
        let mut world = Self { folder, journal, writer: Writer::new(CONFIG, Position::default()), messages: 0 };
        world.prepare();
        world
    }

    /// Three segments of three messages each, and one without records.
    fn of_three_segments() -> Self {
        let mut world = Self::new();
        for _ in 0..3 {
            world.say(3);
            world.next_segment();
        }
        world
    }

    fn prepare(&mut self) {
        while let Some(number) = self.writer.wants_segment() {
            self.writer.add_segment(number, self.journal.prepare(number).unwrap().salt);
        }
    }

    fn say(&mut self, messages: u64) {
        for _ in 0..messages {
            self.messages += 1;
            let n = self.messages;
            let content = Content::text(&text(n));
            let (device, number) = (DeviceId(1), SendNumber(n));
            let sent = Event::Sent { to: READER.into(), device, number, content: content.clone() };
            let received = Event::Received { from: WRITER, origin: Seq(n), content };
            self.group(&[(LaneId(0), &append(WRITER, n, sent)), (LaneId(1), &append(READER, n, received))]);
        }
    }

    fn group(&mut self, batches: &[(LaneId, &[u8])]) {
        for (lane, bytes) in batches {
            let batch = BatchId(self.writer.counters().batches + 1);
            self.writer.push(*lane, batch, bytes);
        }
        let write = self.writer.next_write().unwrap();
        let file = OpenOptions::new().write(true).open(self.journal.segment_path(write.segment)).unwrap();
        file.write_all_at(&write.bytes, write.offset).unwrap();
        self.writer.written(write.bytes);
        self.prepare();
    }

    fn next_segment(&mut self) {
        self.writer.seal().unwrap();
        self.prepare();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.data().join(format!("journal/{number:020}.journal"))
    }

    /// Changes one byte of what stands in the journal of this message, on one side.
    fn damage(&self, segment: u64, message: u64) {
        let bytes = fs::read(self.segment(segment)).unwrap();
        let needle = text(message).into_bytes();
        let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        File::options().write(true).open(self.segment(segment)).unwrap().write_all_at(b"X", at as u64).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        command.arg("journal").args(arguments).args(["--data", "data"]).current_dir(self.folder.path());
        Said::of(&command.env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap())
    }

    /// As `run`; nothing in the data folder may change.
    fn look(&self, arguments: &[&str]) -> Said {
        let before = snapshot(&self.data());
        let said = self.run(arguments);
        assert!(before == snapshot(&self.data()), "{arguments:?} has changed something");
        said
    }

    /// What user 8 has received, by the store alone.
    fn history(&self) -> Vec<Entry> {
        let store = EmbeddedStore::open(&self.data().join("store"), EmbeddedConfig::default()).unwrap();
        let span = Span {
            first: Seq(1),
            last: Seq(u64::MAX),
            direction: Direction::Forwards,
            entries_max: 1000,
            bytes_max: 1_000_000,
        };
        match pollster::block_on(answer(&store, &Query::Log { user: READER, span })).unwrap() {
            Answer::Entries(entries) => entries.entries,
            other => panic!("{other:?}"),
        }
    }

    /// The one folder of what was set aside.
    fn aside(&self) -> PathBuf {
        let found: Vec<_> =
            fs::read_dir(self.data().join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut folders = found.into_iter().filter(|path| path.is_dir());
        let aside = folders.next().unwrap();
        assert_eq!(folders.next(), None);
        aside
    }

    /// Starts the real server and waits until it serves, or gives what it said instead.
    fn serve(&self) -> Result<(), String> {
        let config = self.folder.path().join("ringpost.toml");
        fs::write(&config, "admin_listen = \"\"\ncores = 1\n").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--config"]).arg(config);
        command.args(["--log-format", "text"]);
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let serves =
            BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap().starts_with("stop "));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if serves { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn ok(self) -> String {
        assert!(self.code == 0 && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// What stderr says, which names this file and a place in it.
    fn damaged(self, path: &Path) -> String {
        let place = format!("ringpost: {} is damaged at offset ", path.canonicalize().unwrap().display());
        assert!(self.code == 1 && self.err.starts_with(&place), "{self:?}");
        self.err
    }
}

fn text(message: u64) -> String {
    format!("message number {message:03}")
}

fn append(user: UserId, seq: u64, event: Event) -> Vec<u8> {
    let entry = Entry { seq: Seq(seq), time: TimestampMs(1_700_000_000_000 + seq), event };
    let mut batch = Batch::default();
    batch.push(&Record::Append { user, entry, replaces: None, count: 0 });
    batch.bytes().to_vec()
}

/// Every file below the folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        }
        found.insert(path.clone(), fs::read(&path).ok());
    }
    found
}

#[test]
fn status_counts_what_the_journal_holds() {
    let world = World::of_three_segments();
    let said = world.look(&["status"]).ok();
    for line in [
        "segments  3 with records, 1 empty\n",
        "batches   18, lsn 1 to 18\n",
        "records   18: 9 received, 9 sent\n",
        "tail      whole\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    world.damage(2, 5);
    let said = world.look(&["status"]).ok();
    assert!(said.contains("batches   8, lsn 1 to 8\n") && said.contains("\ndamage    /"), "{said}");
}

#[test]
fn an_empty_journal_is_whole_and_nothing_to_replay() {
    let world = World::new();
    let said = world.look(&["status"]).ok();
    assert!(said.contains("batches   0\nrecords   0\ntail      whole\n"), "{said}");
    world.look(&["verify"]).ok();
    assert!(world.run(&["replay"]).ok().starts_with("done: 0 batches"));
}

#[test]
fn a_running_server_keeps_its_journal_to_itself_and_status_asks_it() {
    let world = World::new();
    let _server = DataDir::open(&world.data()).unwrap();
    fs::write(world.folder.path().join("nobody.toml"), "admin_listen = \"127.254.253.252:9\"").unwrap();
    let export = ["export", "kept"];
    for arguments in [&["status"][..], &["list"], &["verify"], &["replay"], &export] {
        let said = world.look(&[arguments, &["--config", "nobody.toml"]].concat());
        let folder = world.data().canonicalize().unwrap();
        assert!(said.code == 1 && said.out.is_empty() && said.err.contains(folder.to_str().unwrap()), "{said:?}");
        assert!(said.err.contains("stop that one") && said.err.lines().count() == 1, "{said:?}");
        // Here nobody answers; `tests/tests/operation.rs` has a real server.
        assert_eq!(said.err.contains("did not answer"), arguments == ["status"], "{said:?}");
    }
}

#[test]
fn a_folder_that_no_server_has_used_is_named_and_not_made() {
    let world = World::new();
    fs::remove_dir_all(world.data()).unwrap();
    let said = world.run(&["status"]);
    assert!(said.code == 1 && said.err.contains("no server has ever used this"), "{said:?}");
    assert!(!world.data().exists());
}

#[test]
fn a_list_has_one_line_a_record_and_texts_only_when_asked() {
    let mut world = World::new();
    world.say(2);
    let mut batch = Batch::default();
    batch.push(&Record::Cursor { user: READER, device: DeviceId(3), seq: Seq(2) });
    world.group(&[(LaneId(1), batch.bytes())]);
    let said = world.look(&["list"]).ok();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], "1\t4096\t1\t0\t1\tsent\t7\t1\t8\t18");
    assert!(lines[1].ends_with("\treceived\t8\t1\t7\t18") && lines[4].ends_with("\tcursor\t8\t2\t-\t-"), "{said}");
    assert!(!said.contains("message"), "{said}");

    let said = world.look(&["list", "--user", "8", "--limit", "2", "--text"]).ok();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 2 && lines[1].ends_with("\treceived\t8\t2\t7\t18\t\"message number 002\""), "{said}");
}

#[test]
fn a_listed_text_can_neither_break_its_line_nor_command_the_terminal() {
    let mut world = World::new();
    let content = Content::text("a\nb\tc\u{1b}[2J\u{9b}\u{202e}");
    let (device, number) = (DeviceId(1), SendNumber(1));
    world.group(&[(LaneId(0), &append(WRITER, 1, Event::Sent { to: READER.into(), device, number, content }))]);
    let said = world.look(&["list", "--text"]).ok();
    assert!(said.ends_with("\t\"a\\nb\\tc\\u{1b}[2J\\u{9b}\\u{202e}\"\n"), "{said}");
}

#[test]
fn a_torn_tail_is_told_and_whole() {
    let mut world = World::new();
    world.say(3);
    // The last group is message 3 on both sides: what is left of it is its first half.
    let bytes = fs::read(world.segment(1)).unwrap();
    let needle = text(3).into_bytes();
    let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap() as u64;
    File::options().write(true).open(world.segment(1)).unwrap().write_all_at(&[0; 8], at).unwrap();
    let said = world.look(&["verify"]).ok();
    assert!(said.contains("whole: 5 batches, 5 records in 1 segments\ntail: torn in /"), "{said}");
    assert!(world.look(&["status"]).ok().contains("tail      torn in /"));
    world.run(&["replay"]).ok();
    assert_eq!(world.history().len(), 2);
}

#[test]
fn damage_is_told_with_its_place_and_the_way_on_and_changes_nothing() {
    let world = World::of_three_segments();
    world.damage(2, 5);
    let err = world.look(&["verify"]).damaged(&world.segment(2));
    let folder = world.folder.path().canonicalize().unwrap();
    let way_on = format!("`ringpost journal replay --up-to-damage --data {}/data`", folder.display());
    assert!(err.contains(&way_on), "{err}");
    world.look(&["replay"]).damaged(&world.segment(2));
    let said = world.look(&["list"]);
    assert_eq!(said.out.lines().count(), 8);
    said.damaged(&world.segment(2));

    let before = snapshot(&world.data().join("journal"));
    let refused = world.serve().unwrap_err();
    assert!(refused.contains("is damaged at offset") && refused.contains("--up-to-damage"), "{refused}");
    assert!(before == snapshot(&world.data().join("journal")));
}

#[test]
fn an_export_keeps_everything_for_its_owner_alone_and_overwrites_nothing() {
    let world = World::of_three_segments();
    let said = world.look(&["export", "kept.jsonl"]).ok();
    assert_eq!(said, "18 records of 18 batches are in kept.jsonl\n");
    let path = world.folder.path().join("kept.jsonl");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 18);
    for (index, line) in lines.iter().enumerate() {
        let message = index as u64 / 2 + 1;
        assert_eq!((&line["lsn"], &line["text"]), (&Value::from(index + 1), &Value::from(text(message))));
    }
    assert!(kept.starts_with(
        r#"{"lsn":1,"segment":1,"offset":4096,"lane":0,"batch":1,"kind":"sent","user":7,"seq":1,"time_ms":1700000000001,"peer":8,"device":1,"number":1,"text":"message number 001"}"#
    ));

    let said = world.look(&["export", "kept.jsonl"]);
    assert!(said.code == 1 && said.err.contains("overwrites nothing"), "{said:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), kept);
}

#[test]
fn an_export_of_a_damaged_journal_ends_at_the_damage_and_says_so() {
    let world = World::of_three_segments();
    world.damage(2, 5);
    let err = world.look(&["export", "kept.jsonl"]).damaged(&world.segment(2));
    assert!(err.contains("kept.jsonl has what stands before it"), "{err}");
    assert_eq!(fs::read_to_string(world.folder.path().join("kept.jsonl")).unwrap().lines().count(), 8);
}

#[test]
fn a_replay_brings_everything_into_the_store_and_may_be_done_again() {
    let world = World::of_three_segments();
    let segments: Vec<_> =
        (1..=3).map(|number| (world.segment(number), fs::read(world.segment(number)).unwrap())).collect();
    let said = world.run(&["replay"]).ok();
    assert!(said.contains("segment 2 (2 of 3): 6 batches, 6 records are in the store\n"), "{said}");
    let history = world.history();
    assert_eq!(history.len(), 9);
    assert!(world.look(&["status"]).ok().contains("segments  0 with records, 0 empty\n"));
    world.run(&["replay"]).ok();

    // As after a crash between the store's commit and the end of the files.
    for (path, bytes) in segments {
        fs::write(path, bytes).unwrap();
    }
    world.run(&["replay"]).ok();
    assert_eq!(world.history(), history);
    world.serve().unwrap();
}

#[test]
fn a_replay_up_to_the_damage_sets_the_rest_aside_and_says_what_is_missing() {
    let world = World::of_three_segments();
    world.damage(2, 5);
    let rest: Vec<_> = (2..=4).map(|number| fs::read(world.segment(number)).unwrap()).collect();
    let said = world.run(&["replay", "--up-to-damage"]).ok();
    for line in [
        "in the store: lsn 1 to 8, 8 batches\n",
        "not in the store: lsn 9 to 12, 4 batches, which cannot be read\n",
        "not in the store: lsn 13 to 18, 6 batches, which are whole in 00000000000000000003.journal\n",
        "moved into /",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    assert_eq!(world.history().len(), 4);
    let aside = world.aside();
    assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("damaged-20"));
    for (number, bytes) in (2..=4).zip(rest) {
        assert_eq!(fs::read(aside.join(world.segment(number).file_name().unwrap())).unwrap(), bytes);
    }
    let report = fs::read_to_string(aside.join("report.txt")).unwrap();
    assert!(said.contains(&report) && report.contains("lsn 13 to 18"), "{report}");
    assert_eq!(world.look(&["verify"]).ok(), "whole: 0 batches, 0 records in 0 segments\n");
    world.serve().unwrap();
}

#[test]
fn without_damage_up_to_damage_is_a_plain_replay() {
    let world = World::of_three_segments();
    world.run(&["replay", "--up-to-damage"]).ok();
    assert_eq!(world.history().len(), 9);
    assert!(!snapshot(&world.data().join("journal")).keys().any(|path| path.is_dir()));
}

#[test]
fn a_missing_segment_keeps_what_follows_the_gap_out_of_the_store() {
    let world = World::of_three_segments();
    fs::remove_file(world.segment(2)).unwrap();
    world.look(&["verify"]).damaged(&world.segment(3));
    let said = world.run(&["replay", "--up-to-damage"]).ok();
    assert!(said.contains("not in the store: lsn 7 to 12, 6 batches, which cannot be read\n"), "{said}");
    assert!(said.contains("lsn 13 to 18, 6 batches, which are whole in 00000000000000000003.journal\n"), "{said}");
    assert_eq!(world.history().len(), 3);
}

#[test]
fn files_that_are_not_even_segments_any_more_are_set_aside_with_what_follows() {
    type Harm = fn(&Path);
    let harms: [Harm; 3] = [
        |path| File::options().write(true).open(path).unwrap().write_all_at(b"\xff", 17).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| File::options().write(true).open(path).unwrap().set_len(30_000).unwrap(),
    ];
    for harm in harms {
        let world = World::of_three_segments();
        harm(&world.segment(2));
        world.look(&["verify"]).damaged(&world.segment(2));
        let said = world.run(&["replay", "--up-to-damage"]).ok();
        assert!(said.contains("not in the store: lsn 7 to 12, 6 batches, which cannot be read\n"), "{said}");
        assert_eq!(world.history().len(), 3);
        world.look(&["verify"]).ok();
    }
}

#[test]
fn a_batch_that_cannot_be_understood_is_damage_and_stops_neither_export_nor_the_way_on() {
    let mut world = World::new();
    world.say(2);
    world.group(&[(LaneId(0), &[0xff, 0xff])]);
    world.say(1);
    let err = world.look(&["verify"]).damaged(&world.segment(1));
    assert!(err.contains("the batch at lsn 5 is whole and cannot be understood"), "{err}");
    let refused = world.serve().unwrap_err();
    assert!(refused.contains("--up-to-damage"), "{refused}");
    world.look(&["replay"]).damaged(&world.segment(1));
    let said = world.run(&["replay", "--up-to-damage"]).ok();
    assert!(said.contains("in the store: lsn 1 to 4, 4 batches\n"), "{said}");
    assert!(said.contains("not in the store: lsn 5 to 7, 3 batches"), "{said}");
    assert_eq!(world.history().len(), 2);
}

#[test]
fn a_newer_segment_is_refused_and_never_set_aside() {
    let world = World::of_three_segments();
    File::options().write(true).open(world.segment(2)).unwrap().write_all_at(&[9], 8).unwrap();
    for arguments in [&["verify"][..], &["replay", "--up-to-damage"]] {
        let said = world.look(arguments);
        assert!(said.code == 1 && said.err.contains("format version 9"), "{said:?}");
    }
}

#[test]
fn nothing_is_freed_before_the_damage_is_out_of_the_way() {
    let world = World::of_three_segments();
    fs::remove_file(world.segment(2)).unwrap();
    // The folder for what is set aside cannot be made: as if the command ended there.
    fs::create_dir(world.data().join("journal/damaged-1970-01-01T00-00-00Z")).unwrap();
    let before = snapshot(&world.data().join("journal"));
    let config = Config { data_dir: world.data(), ..Config::default() };
    let replay = Action::Replay(OnDamage::SetAside);
    let refused = journal::run(&replay, &config, UNIX_EPOCH, &mut Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("damaged-1970-01-01T00-00-00Z"), "{refused}");
    assert!(before == snapshot(&world.data().join("journal")));
    world.look(&["verify"]).damaged(&world.segment(3));
    assert_eq!(world.history().len(), 3);
}

#[test]
fn setting_aside_that_was_interrupted_anywhere_never_lets_a_gap_into_the_store() {
    // Files go from the last one down, after everything whole is in the store and before anything is freed.
    for moved in [&[4][..], &[4, 3]] {
        for is_gap in [false, true] {
            let world = World::of_three_segments();
            if is_gap {
                fs::remove_file(world.segment(2)).unwrap();
            } else {
                world.damage(2, 5);
            }
            let aside = world.data().join("journal/damaged-before");
            fs::create_dir(&aside).unwrap();
            for &number in moved {
                fs::rename(world.segment(number), aside.join(world.segment(number).file_name().unwrap())).unwrap();
            }
            world.run(&["replay", "--up-to-damage"]).ok();
            assert_eq!(world.history().len(), if is_gap { 3 } else { 4 }, "{moved:?} {is_gap}");
        }
    }
}
