//! Instructions: how many the codec, a shard turn, an app that opens and the making of rows execute, counted by valgrind's callgrind and compared with
//! `benches/instructions.json`. Counts do not depend on how busy the machine is, so a few percent more are a change of the code.
//!
//! ```sh
//! cargo run --release -p benches --bin instructions              # compares; exit code 1 when something costs more
//! cargo run --release -p benches --bin instructions -- record    # writes what is counted now into the file
//! cargo run --release -p benches --bin instructions -- list turn # counts what has `turn` in its name, compares nothing
//! ```
//!
//! Each scenario is a run of this program under valgrind, which counts inside of [`counted`] alone: neither start nor preparation is in
//! it, and buffers have grown in a first round. Not in a count: cache misses, the kernel, and what a wider processor saves.
//!
//! What would make counts differ from machine to machine is held still: the C library is told to take the same `memcpy` everywhere, and
//! Rust code is built for plain x86-64. What is left is the random seed of hash maps: they differ by less than
//! [`NOISE_PERCENT`]. Another compiler generates other code, so its counts are shown and not compared.

use std::{
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, bail, ensure};
use benches::{
    SIZES,
    conversation::{Conversation, INGESTED_AFTER, Sends},
    frames,
    history::History,
    past::Past,
};
use proto_spec::{
    ClientFrame, ClientKind, RawFrame, RequestId, Resume, Seq, ServerFrame, ServerKind,
    framing::{Cut, cut},
    limits::SERVER_FRAME_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use server::shard::CacheLimits;
use storage::{Batch, EmbeddedConfig, EmbeddedStore, fold::Fold};

/// What a count may be above or below the recorded one: far more than [`NOISE_PERCENT`], and a few instructions of the shortest frames,
/// which come and go with the compiler's choices when something else changes.
const TOLERANCE_PERCENT: f64 = 3.0;

/// The most that two runs of the same program have differed by.
const NOISE_PERCENT: f64 = 0.1;

const _: () = assert!(TOLERANCE_PERCENT >= 10.0 * NOISE_PERCENT);

/// Times that a frame is encoded or decoded: a hundredth of an instruction is visible, and a page takes a second.
const FRAMES: u64 = 500;

/// Messages of the turns that are counted: the tail is forgotten, and with it what a message costs later, a whole number of times.
const MESSAGES: u64 = 2 * INGESTED_AFTER as u64;

/// Messages whose rows are made: several blocks of sends of each user.
const FOLDED: u64 = 100_000;

/// Users who have written them.
const FOLDED_USERS: usize = 1_000;

/// Makes the C library take its plainest `memcpy` and the like, whatever the processor has. A feature it does not know is passed over.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,-BMI1,-BMI2,-ERMS,-LZCNT,-SSE4_1,-SSE4_2,-SSSE3:\
                        glibc.cpu.x86_non_temporal_threshold=0x100000";

/// The file in the repository.
#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    /// The compiler and the C library that these counts hold for.
    compiler: String,
    /// By scenario: instructions for one frame, or for one message of a turn or of a run.
    instructions: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => compare(),
        ["record"] => record(),
        ["list"] => list(""),
        ["list", part] => list(part),
        ["scenario", name] => scenario(name).map(|()| true),
        _ => Err(anyhow::anyhow!("usage: instructions [record | list [PART]]")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether nothing has become dearer.
fn compare() -> anyhow::Result<bool> {
    let path = baseline_path();
    let bytes = fs::read(&path).with_context(|| format!("{}", path.display()))?;
    let recorded: Baseline = serde_json::from_slice(&bytes).with_context(|| format!("{}", path.display()))?;
    let compiler = compiler()?;
    let counts = count_all("")?;
    let names: Vec<&String> = counts.keys().filter(|name| !recorded.instructions.contains_key(*name)).collect();
    ensure!(names.is_empty(), "not in {}: {names:?}. {RECORD_ANEW}", path.display());

    let (mut dearer, mut cheaper) = (0, 0);
    for (name, &before) in &recorded.instructions {
        let now =
            *counts.get(name).with_context(|| format!("{name} is recorded and no longer there. {RECORD_ANEW}"))?;
        let percent = (now / before - 1.0) * 100.0;
        let verdict = match percent {
            _ if percent > TOLERANCE_PERCENT => "DEARER",
            _ if percent < -TOLERANCE_PERCENT => "cheaper",
            _ => "",
        };
        dearer += usize::from(verdict == "DEARER");
        cheaper += usize::from(verdict == "cheaper");
        println!("{name:<36} {before:>10.1} {now:>10.1} {percent:>+7.1} % {verdict}");
    }
    if compiler != recorded.compiler {
        println!(
            "recorded with {}, this is {compiler}: the differences are the compilers' too, and nothing is concluded from them. {RECORD_ANEW}",
            recorded.compiler
        );
        return Ok(true);
    }
    if dearer > 0 {
        println!(
            "{dearer} of {} cost more than {TOLERANCE_PERCENT} % more than recorded. If that is meant: {RECORD_ANEW}",
            counts.len()
        );
    } else if cheaper > 0 {
        println!("{cheaper} of {} have become cheaper. To hold them there: {RECORD_ANEW}", counts.len());
    }
    Ok(dearer == 0)
}

const RECORD_ANEW: &str = "Record anew with `cargo run --release -p benches --bin instructions -- record`";

fn record() -> anyhow::Result<bool> {
    let path = baseline_path();
    let instructions = count_all("")?.into_iter().map(|(name, count)| (name, (count * 10.0).round() / 10.0)).collect();
    let baseline = Baseline { compiler: compiler()?, instructions };
    let mut text = serde_json::to_string_pretty(&baseline)?;
    text.push('\n');
    fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
    println!("{} counts in {}", baseline.instructions.len(), path.display());
    Ok(true)
}

fn list(part: &str) -> anyhow::Result<bool> {
    for (name, count) in count_all(part)? {
        println!("{name:<36} {count:>10.1}");
    }
    Ok(true)
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// What counts depend on beside our own code: what built this program, if that was just now, and whose `malloc` it uses.
fn compiler() -> anyhow::Result<String> {
    let say = |program: &str, argument: &str| -> anyhow::Result<String> {
        let output = Command::new(program).arg(argument).output().with_context(|| program.to_owned())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(format!("{}, {}", say("rustc", "--version")?, say("getconf", "GNU_LIBC_VERSION")?))
}

// ---- counting: this program starts itself under valgrind

fn count_all(part: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let todo: Mutex<Vec<String>> = Mutex::new(names().into_iter().filter(|name| name.contains(part)).collect());
    let counts = Mutex::new(BTreeMap::new());
    let work = || -> anyhow::Result<()> {
        loop {
            let Some(name) = todo.lock().ok().and_then(|mut todo| todo.pop()) else { return Ok(()) };
            let count = count(&name).with_context(|| name.clone())?;
            if let Ok(mut counts) = counts.lock() {
                counts.insert(name, count);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread has panicked"),
        })
    })?;
    Ok(counts.into_inner().unwrap_or_default())
}

/// Instructions for one unit of a scenario.
fn count(name: &str) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions::counted"])
        .arg(env::current_exe()?)
        .args(["scenario", name])
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .context("valgrind (Debian, Ubuntu: apt-get install valgrind)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {text}", output.status);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).context("valgrind names no count")?.1;
    let collected: u64 = collected.trim().parse().with_context(|| format!("not a count: {collected}"))?;
    // A function that valgrind does not find under this name is not an error for it.
    ensure!(collected > 0, "nothing was counted: has `counted` been inlined or renamed?");
    let units = match name {
        ROWS => FOLDED,
        _ if name.starts_with("turn/") => MESSAGES,
        _ => FRAMES,
    };
    Ok(collected as f64 / units as f64)
}

/// What valgrind counts in.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

// ---- the scenarios

/// From batches to sorted rows. Valgrind makes the C library copy plainly here, so what values cost is more than on a processor.
const ROWS: &str = "ingest/rows";

/// Hello alone; and with the inbox of 20 and the newest 15 messages of its first conversation, which the shard keeps. With the end of the
/// connection before.
const OPENINGS: [&str; 2] = ["open/login", "open/warm"];

fn names() -> Vec<String> {
    let client = ClientKind::ALL.iter().map(|kind| format!("client/{}", kind.name()));
    let server = ServerKind::ALL.iter().map(|kind| format!("server/{}", kind.name()));
    let frames = client.chain(server).flat_map(|frame| [format!("encode/{frame}"), format!("decode/{frame}")]);
    frames
        .chain(SIZES.map(|messages| format!("turn/{messages}")))
        .chain(OPENINGS.map(str::to_owned))
        .chain([ROWS.to_owned()])
        .collect()
}

fn scenario(name: &str) -> anyhow::Result<()> {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["ingest", "rows"] => rows()?,
        ["turn", messages] => turns(messages.parse()?),
        ["open", what] => open(what)?,
        [way, "client", kind] => {
            let kind = ClientKind::ALL.iter().find(|known| known.name() == *kind).context("no such kind")?;
            let frame = frames::client(*kind);
            code(
                way,
                |out| black_box(&frame).encode(out),
                |raw| {
                    let _ = black_box(ClientFrame::decode(raw));
                },
            )?;
        }
        [way, "server", kind] => {
            let kind = ServerKind::ALL.iter().find(|known| known.name() == *kind).context("no such kind")?;
            let frame = frames::server(*kind);
            code(
                way,
                |out| black_box(&frame).encode(out),
                |raw| {
                    let _ = black_box(ServerFrame::decode(raw));
                },
            )?;
        }
        _ => bail!("no such scenario"),
    }
    Ok(())
}

fn code(way: &str, encode: impl Fn(&mut Vec<u8>), decode: impl Fn(RawFrame<'_>)) -> anyhow::Result<()> {
    let mut out = Vec::new();
    encode(&mut out);
    match way {
        "encode" => counted(&mut || {
            for _ in 0..FRAMES {
                out.clear();
                encode(&mut out);
                black_box(out.as_slice());
            }
        }),
        "decode" => counted(&mut || {
            for _ in 0..FRAMES {
                if let Ok(Cut::Frame { frame, .. }) = cut(black_box(&out), SERVER_FRAME_BYTES_MAX) {
                    decode(frame);
                }
            }
        }),
        _ => bail!("no such scenario"),
    }
    Ok(())
}

fn turns(messages: usize) {
    let mut conversation = Conversation::new();
    let mut sends = Sends::default();
    let mut prepare = |total: usize| -> Vec<Vec<u8>> { (0..total / messages).map(|_| sends.next(messages)).collect() };
    let (first, then) = (prepare(INGESTED_AFTER), prepare(MESSAGES as usize));
    let mut turns = |received: &[Vec<u8>]| received.iter().for_each(|bytes| conversation.turn(bytes, messages));
    turns(&first);
    counted(&mut || turns(&then));
}

fn open(what: &str) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let (request, before, limit, messages) = (RequestId(1), Seq::ZERO, 20, 15);
    ClientFrame::FetchInbox { request, before, limit, messages }.encode(&mut bytes);
    let folder = tempfile::tempdir()?;
    let resume = Resume::After(Past::of_conversations(limit).store_in(folder.path()));
    let store = EmbeddedStore::open(folder.path(), EmbeddedConfig::default())?;
    let mut conversation = Conversation::with_store(store, CacheLimits::DEFAULT);
    let mut come_back = |times: u64, bytes: &[u8]| {
        for _ in 0..times {
            conversation.come_back(resume, bytes);
        }
    };
    come_back(2, &bytes);
    let bytes = if what == "warm" { &bytes[..] } else { &[] };
    counted(&mut || come_back(FRAMES, bytes));
    Ok(())
}

fn rows() -> anyhow::Result<()> {
    let mut history = History::new(FOLDED_USERS);
    let batches: Vec<Batch> = (0..FOLDED)
        .map(|_| {
            let mut batch = Batch::default();
            history.message(&mut batch);
            batch
        })
        .collect();
    let mut read = Ok(());
    counted(&mut || {
        let mut fold = Fold::default();
        read = batches.iter().try_for_each(|batch| fold.add(batch.bytes()));
        let sorted = fold.sort();
        let base = vec![None; sorted.needed().len()];
        black_box(sorted.finish(base));
    });
    Ok(read?)
}
