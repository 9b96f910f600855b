//! Pushes: what notifying people costs those who write to each other beside it.
//!
//! Some write to people who are away while `ringpost-loadgen` measures messages of others. In every other run the people who are away are
//! subscribed with Web Push, in the runs between them not; everything else is the same, on the same server. What to start before is in
//! `benches/NOTES.md`, Push notifications.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use benches::connection::{Connection, token};
use clap::Parser;
use proto_spec::{ClientFrame, Content, RequestId, SendNumber, Seq, ServerFrame, Show, Subscription, UserId};
use serde_json::Value;

/// Users who are away: this and those that follow.
const AWAY: u64 = 50_000_000;

/// Those who write to them.
const WRITERS: u64 = 60_000_000;

/// Each writes to an equal part of those who are away.
const WRITERS_COUNT: u64 = 10;

/// How often a writer sends what is due.
const TICK: Duration = Duration::from_millis(20);

/// A public key of P-256: its base point.
const BROWSER_KEY: [u8; 65] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03,
    0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
    0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce,
    0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

#[derive(Parser)]
struct Arguments {
    /// Where clients connect.
    #[arg(long)]
    server: SocketAddr,
    /// Where its metrics are.
    #[arg(long)]
    metrics: SocketAddr,
    /// Its data folder.
    #[arg(long)]
    data: PathBuf,
    /// The push service, as `https://localhost:PORT`.
    #[arg(long)]
    endpoint: String,
    /// People who are away.
    #[arg(long, default_value_t = 500)]
    people: u64,
    /// Messages a second to all of them together.
    #[arg(long, default_value_t = 500)]
    rate: u64,
    /// Messages a second that are measured.
    #[arg(long, default_value_t = 5_000)]
    measured: u64,
    /// Seconds of each run.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Pairs of runs.
    #[arg(long, default_value_t = 12)]
    rounds: u32,
}

/// What a run has found, in microseconds.
struct Run {
    p50: f64,
    p99: f64,
    pushes: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let pem = std::fs::read_to_string(arguments.data.join("token-key.pem")).context("token-key.pem")?;
    let loadgen = env::current_exe()?.with_file_name("ringpost-loadgen");
    ensure!(loadgen.exists(), "{} is not there: build it first", loadgen.display());
    let mut ratios = (Vec::new(), Vec::new());
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        // Which comes first alternates too.
        let order = if round % 2 == 0 { [false, true] } else { [true, false] };
        let mut runs = [None, None];
        for is_subscribed in order {
            subscribe(&arguments, &pem, is_subscribed)?;
            let run = measure(&arguments, &pem, &loadgen)?;
            println!(
                "round {round}, {}: p50 {:.0} us, p99 {:.0} us, {:.0} pushes a second",
                if is_subscribed { "subscribed" } else { "not subscribed" },
                run.p50,
                run.p99,
                run.pushes
            );
            runs[usize::from(is_subscribed)] = Some(run);
        }
        let [Some(without), Some(with)] = runs else { unreachable!("both have run") };
        ratios.0.push(with.p50 / without.p50);
        ratios.1.push(with.p99 / without.p99);
        all[0].push(without);
        all[1].push(with);
    }
    let of = |runs: &[Run], what: fn(&Run) -> f64| median(runs.iter().map(what).collect());
    for (name, runs) in ["not subscribed", "subscribed"].into_iter().zip(&all) {
        let (p50, p99, pushes) = (of(runs, |run| run.p50), of(runs, |run| run.p99), of(runs, |run| run.pushes));
        println!("{name}: medians p50 {p50:.0} us, p99 {p99:.0} us, {pushes:.0} pushes a second");
    }
    println!("medians of the ratios: p50 {:.2}, p99 {:.2}", median(ratios.0), median(ratios.1));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// All who are away say whether they want notifications, and read what has come.
fn subscribe(arguments: &Arguments, pem: &str, is_subscribed: bool) -> anyhow::Result<()> {
    for person in 0..arguments.people {
        let user = UserId(AWAY + person);
        let (mut connection, head) = Connection::login(arguments.server, token(pem, user))?;
        if head > Seq::ZERO {
            connection.send(&ClientFrame::Acknowledge { seq: head })?;
        }
        let request = RequestId(1);
        let subscription = Subscription {
            provider: 1,
            show: Show::Text,
            address: format!("{}/wpush/v2/{person}-{}", arguments.endpoint, "x".repeat(180)),
            key: BROWSER_KEY.to_vec(),
            secret: vec![7; 16],
        };
        connection.send(&match is_subscribed {
            true => ClientFrame::Subscribe { request, subscription },
            false => ClientFrame::Unsubscribe { request },
        })?;
        loop {
            match connection.frame()? {
                ServerFrame::Subscription { .. } => break,
                ServerFrame::Error { detail, .. } => anyhow::bail!("the server refuses: {detail}"),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Has messages of some measured while others write to those who are away.
fn measure(arguments: &Arguments, pem: &str, loadgen: &Path) -> anyhow::Result<Run> {
    let before = delivered(arguments.metrics)?;
    let began = Instant::now();
    // They begin before what is measured, and end after it.
    let writing = Duration::from_secs(arguments.seconds + 2);
    let report = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS_COUNT)
            .map(|writer| scope.spawn(move || write(arguments, pem, writer, began + writing)))
            .collect();
        thread::sleep(Duration::from_secs(1));
        let (rate, seconds) = (arguments.measured.to_string(), arguments.seconds.to_string());
        let mut command = Command::new(loadgen);
        command.args(["chat", "--pairs", "100", "--rate", &rate, "--seconds", &seconds, "--json", "--server"]);
        command.arg(arguments.server.to_string()).arg("--token-key").arg(arguments.data.join("token-key.pem"));
        let output = command.stderr(Stdio::inherit()).output();
        for writer in writers {
            writer.join().expect("a writer does not panic")?;
        }
        anyhow::Ok(output?)
    })?;
    ensure!(report.status.success(), "ringpost-loadgen: {}", report.status);
    let report: Value = serde_json::from_slice(&report.stdout)?;
    let latency = |percentile: &str| report["latency_us"]["send to delivered"][percentile].as_f64();
    let pushes = (delivered(arguments.metrics)? - before) / began.elapsed().as_secs_f64();
    Ok(Run { p50: latency("p50").context("p50")?, p99: latency("p99").context("p99")?, pushes })
}

/// One of those who write sends its part until then.
fn write(arguments: &Arguments, pem: &str, writer: u64, until: Instant) -> anyhow::Result<()> {
    let mut connection = Connection::open(arguments.server, token(pem, UserId(WRITERS + writer)))?;
    let ServerFrame::Welcome { last_number, .. } = connection.frame()? else { anyhow::bail!("there is no welcome") };
    let (mut number, mut sent) = (last_number.0, 0_u64);
    let people: Vec<u64> = (0..arguments.people).filter(|person| person % WRITERS_COUNT == writer).collect();
    let began = Instant::now();
    while Instant::now() < until {
        let due = (began.elapsed().as_secs_f64() * arguments.rate as f64 / WRITERS_COUNT as f64) as u64;
        let count = due.saturating_sub(sent);
        for _ in 0..count {
            number += 1;
            let to = UserId(AWAY + people[(sent % people.len() as u64) as usize]).into();
            connection.send(&ClientFrame::Send {
                number: SendNumber(number),
                to,
                content: Content::text(&"x".repeat(100)),
            })?;
            sent += 1;
        }
        let mut answered = 0;
        while answered < count {
            match connection.frame()? {
                ServerFrame::Accepted { .. } => answered += 1,
                ServerFrame::Error { detail, .. } => anyhow::bail!("the server refuses: {detail}"),
                _ => {}
            }
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// Notices that the push service has taken since the server's start.
fn delivered(metrics: SocketAddr) -> anyhow::Result<f64> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(metrics).context("the metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let line = page.lines().find_map(|line| line.strip_prefix("ringpost_push_delivered_total{provider=\"web_push\"} "));
    line.context("no counter of notices in the metrics")?.parse().context("a counter")
}
