//! What the inputs say is measured stands where they say so, and what they say the server's code makes is what it makes.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use capacity::{
    balance::{PARTITIONS, SLOTS},
    inputs::{ABOUT, Input, Source},
};
use proto_spec::{Content, DeviceId, Entry, Event, SendNumber, Seq, TimestampMs, UserId};
use storage::{Batch, Change, Marks, Record, fold::Fold};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The medians of the newest file of results.
fn medians() -> serde_json::Value {
    let files = fs::read_dir(root().join("benches/results")).unwrap().map(|entry| entry.unwrap().path());
    let newest = files.max_by_key(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap()).unwrap();
    let text = fs::read_to_string(newest).unwrap();
    serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap()).unwrap()["medians"].take()
}

#[test]
fn measured_inputs_are_what_the_results_and_the_notes_say() {
    let medians = medians();
    let mut files: HashMap<&str, String> = HashMap::new();
    for about in &ABOUT {
        match about.source {
            Source::Result(figure) => {
                let median =
                    medians[figure].as_f64().unwrap_or_else(|| panic!("benches/results has no figure `{figure}`"));
                let rounded = (median * 100.0).round() / 100.0;
                assert_eq!(about.default, rounded, "{}: measured anew; change it, and docs/CAPACITY.md", about.name);
            }
            Source::Quoted { file, words } => {
                let text = files.entry(file).or_insert_with(|| fs::read_to_string(root().join(file)).unwrap());
                assert!(text.contains(words), "{}: {file} does not say any more: {words}", about.name);
            }
            Source::Planned | Source::Assumed | Source::Computed => {}
        }
    }
    assert_eq!(files.len(), 3);
}

/// The numbers of quoted words, in the unit of their input.
#[test]
fn quoted_words_have_the_number_in_them() {
    let said = [
        (Input::MessageCpu, "142", 1.0),
        (Input::PushCpu, "5.8", 1.0),
        (Input::OpenCpu, "0.96", 1_000.0),
        (Input::HandshakeCpu, "168", 1.0),
        (Input::ConnectionBytes, "5,024", 1.0),
        (Input::CacheBytes, "16 KiB", 256.0),
        (Input::ProcessBytes, "582 MiB", 1_048_576.0),
        (Input::DatabaseMessages, "5,000", 1.0),
        // As much again for answers.
        (Input::LinkQueueBytes, "4", 2.0 * 1_048_576.0),
        (Input::LinkPings, "1_000", 0.001),
        (Input::LinkSilence, "5_000", 0.001),
        (Input::MeshMemoryBytes, "268435456", 1.0),
    ];
    for (input, number, unit) in said {
        let about = &ABOUT[input as usize];
        let Source::Quoted { words, .. } = about.source else { panic!("{} is not quoted", about.name) };
        let value: f64 = number.split(' ').next().unwrap().replace([',', '_'], "").parse().unwrap();
        assert!(words.contains(number) && (about.default / (value * unit) - 1.0).abs() < 1e-9, "{}", about.name);
    }
    let quoted = ABOUT.iter().filter(|about| matches!(about.source, Source::Quoted { .. })).count();
    assert_eq!(quoted, said.len(), "a quoted input that this test does not look at");
}

/// Two people who write a hundred bytes to each other in turn, with a receipt of every fourth message: what their rows take.
#[test]
fn a_message_leaves_as_many_bytes_of_rows_as_the_model_says() {
    const MESSAGES: u64 = 64_000;
    let (mut fold, mut heads) = (Fold::default(), [0u64; 2]);
    let content = Content::text(&"x".repeat(100));
    for message in 0..MESSAGES {
        let mut batch = Batch::default();
        let mut append = |side: usize, event: Event| {
            heads[side] += 1;
            let entry = Entry { seq: Seq(heads[side]), time: TimestampMs(1_800_000_000_000 + message), event };
            batch.append(UserId(side as u64 + 1), &entry, None, 0);
            Seq(heads[side])
        };
        let from = (message % 2) as usize;
        let (author, reader) = (UserId(from as u64 + 1), UserId(2 - from as u64));
        let (device, number) = (DeviceId(author.0 * 10), SendNumber(message / 2 + 1));
        let origin = append(from, Event::Sent { to: reader.into(), device, number, content: content.clone() });
        let received = append(1 - from, Event::Received { from: author, origin, content: content.clone() });
        if message % 8 >= 6 {
            let delivered = append(from, Event::Delivered { peer: reader, up_to: origin });
            batch.push(&Record::Cursor { user: reader, device: DeviceId(reader.0 * 10), seq: received });
            let marks = Marks { forwarded: delivered, receipted: Seq(0) };
            batch.push(&Record::Marks { user: author, marks, idle: true });
        }
        fold.add(batch.bytes()).unwrap();
    }
    let sorted = fold.sort();
    let none = vec![None; sorted.needed().len()];
    let run = sorted.finish(none);
    let bytes = |(key, change): (&storage::schema::Key, Change<'_>)| match change {
        Change::Put(value) => key.len() + value.len(),
        Change::Delete => 0,
    };
    let each = run.iter().map(bytes).sum::<usize>() as f64 / MESSAGES as f64 - 200.0;
    assert_eq!(ABOUT[Input::RowBytes as usize].default, each.ceil(), "{each} bytes a message");
}

#[test]
fn what_the_model_takes_from_the_server_is_what_the_server_has() {
    let input = fs::read_to_string(root().join("server/src/shard/input.rs")).unwrap();
    let body = input.split_once("pub enum EnvelopeBody {").unwrap().1.split_once("\n}").unwrap().0;
    let kinds = |name: &str| body.contains(&format!("    {name} {{"));
    // A message and its answer, a receipt and its answer, a read mark and its answer. What is put off comes again, and is not counted.
    assert!(["Forward", "Forwarded", "Receipt", "Receipted"].into_iter().all(kinds));
    assert!(input.contains("    Message(Content),") && input.contains("    Read(Seq),"));
    assert_eq!(ABOUT[Input::MessageEnvelopes as usize].default, 6.0);
    let topology = fs::read_to_string(root().join("server/src/shard/topology.rs")).unwrap();
    assert!(topology.contains("pub const PARTITIONS: u32 = 65_536;"));
    assert_eq!((PARTITIONS, SLOTS), (65_536, 256));
    assert_eq!(u32::from(u16::MAX) + 1, PARTITIONS);
}
