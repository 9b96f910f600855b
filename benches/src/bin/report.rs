//! `cargo run --release -p benches --bin report`: what the server costs, end to end, beside its floor, in one run.
//!
//! Each round runs every measurement once, one after the other, on a fresh server or relay: the bare relay and the server under
//! the same load, and the bare journal and the bare ingestion with the bytes, groups and rows that the server had. What is measured has the
//! first core, the load the second one. All rounds go to `benches/results/` as JSON lines; the medians go into the README's table.
//!
//! CPU a message is the whole process from start to end, background work included, less that of the same run with one message a writer: so
//! logins and closes do not count, and nothing that a message causes is left out.

use std::{
    cell::Cell,
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use benches::floor::{self, IngestionLoad, JournalLoad};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

/// Measures the server beside its floor, writes benches/results/ and the README's table.
#[derive(Debug, Parser)]
#[command(name = "report")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// Rounds; the medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: u64,

    /// Seconds of each load
    #[arg(long, default_value_t = 6)]
    seconds: u64,

    /// Connections, pairs included
    #[arg(long, default_value_t = 10_000)]
    connections: u64,

    /// Pairs of users who write to each other
    #[arg(long, default_value_t = 500)]
    pairs: u64,

    /// Messages a second of the open loop
    #[arg(long, default_value_t = 10_000)]
    rate: u64,

    /// Leave the README as it is
    #[arg(long)]
    dry: bool,
}

/// What runs in a process of its own, so that its CPU is known.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    FloorJournal { groups: u64, group_bytes: usize },
    #[command(hide = true)]
    FloorIngestion { messages: u64, messages_per_run: u64 },
}

/// What is measured has this core, the load the other.
const MEASURED_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// Where the first one listens. Each next one takes another port: the kernel may keep a killed one's socket for a moment, and who
/// connects to that finds nobody.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const FIRST_PORT: u16 = 7_800;

/// How long a server may take to start, or to bring what it has sealed into its store.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages whose rows the floor ingests at most: they are in memory at once.
const FLOOR_MESSAGES_MAX: u64 = 400_000;

/// Groups that the floor writes at most.
const FLOOR_GROUPS_MAX: u64 = 3_000;

/// No limits on how often clients may do things.
const UNLIMITED: &str = include_str!("../../unlimited.toml");

/// Around the table in README.md.
const TABLE_BEGIN: &str = "<!-- report -->\n";
const TABLE_END: &str = "<!-- end of report -->\n";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::FloorJournal { groups, group_bytes }) => floor_journal(groups, group_bytes),
        Some(Part::FloorIngestion { messages, messages_per_run }) => floor_ingestion(messages, messages_per_run),
        None => report(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn floor_journal(groups: u64, group_bytes: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let floor = floor::journal(folder.path(), JournalLoad { groups, group_bytes })?;
    let at = |part: f64| floor.groups[((floor.groups.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    let cpu_us = floor.cost.cpu.as_secs_f64() * 1e6 / groups as f64;
    println!("{}", json!({ "cpu_us_a_group": cpu_us, "p50_us": at(0.5), "p99_us": at(0.99) }));
    Ok(())
}

fn floor_ingestion(messages: u64, messages_per_run: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let floor = floor::ingestion(folder.path(), IngestionLoad { users: 1_000, messages, messages_per_run })?;
    println!("{}", json!({ "cpu_us_a_row": floor.cost.cpu.as_secs_f64() * 1e6 / floor.rows as f64 }));
    Ok(())
}

// ---- the programs

/// The programs that take part, beside this one.
struct Programs {
    folder: PathBuf,
}

impl Programs {
    fn built() -> anyhow::Result<Self> {
        let folder = env::current_exe()?.parent().context("this program is in a folder")?.to_owned();
        if let Some(cargo) = env::var_os("CARGO") {
            let packages = ["-p", "server", "-p", "loadgen", "-p", "benches", "--bins"];
            let built = Command::new(cargo).args(["build", "--release"]).args(packages).status()?;
            ensure!(built.success(), "the server could not be built");
        }
        for name in ["ringpost", "ringpost-loadgen", "bare-relay"] {
            ensure!(folder.join(name).is_file(), "{name} is not in {}: start this with cargo run", folder.display());
        }
        Ok(Self { folder })
    }

    fn on_core(&self, core: &str, name: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", core]).arg(self.folder.join(name)).stdin(Stdio::null());
        command
    }

    fn part(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let own = env::current_exe()?;
        let name = own.file_name().context("this program has a name")?.to_string_lossy().into_owned();
        let output = self.on_core(MEASURED_CORE, &name).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// A relay or a server.
struct Target {
    child: Child,
    address: SocketAddr,
    /// A server's metrics.
    admin: Option<SocketAddr>,
}

impl Target {
    fn relay(programs: &Programs, address: SocketAddr, connections: u64) -> anyhow::Result<Self> {
        let mut command = programs.on_core(MEASURED_CORE, "bare-relay");
        command.arg(address.to_string()).arg((connections + 256).to_string());
        let child = command.stderr(Stdio::null()).spawn()?;
        Self { child, address, admin: None }.ready()
    }

    fn server(programs: &Programs, [address, admin]: [SocketAddr; 2], folder: &Path) -> anyhow::Result<Self> {
        let config = folder.join("report.toml");
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let keys = format!(
            "listen = \"{address}\"\nadmin_listen = \"{admin}\"\ncores = 1\ndata_dir = \"{}\"\n\
             [auth]\nhs256_secret_file = \"{}\"\n{UNLIMITED}",
            data.display(),
            secret(folder).display()
        );
        fs::write(&config, keys)?;
        let mut command = programs.on_core(MEASURED_CORE, "ringpost");
        command.args(["serve", "--config"]).arg(&config).env("RUST_LOG", "warn");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Self { child, address, admin: Some(admin) }.ready()
    }

    fn ready(mut self) -> anyhow::Result<Self> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("what is to be measured at {} has ended: {status}", self.address);
            }
            ensure!(begun.elapsed() < PATIENCE, "nobody listens on {}", self.address);
            sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// CPU time of the process so far, in microseconds.
    fn cpu_us(&self) -> anyhow::Result<f64> {
        let usage = rim::process::Usage::of(self.child.id()).context("the process lives")?;
        Ok(usage.cpu_s * 1e6)
    }

    fn metrics(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let Some(admin) = self.admin else { return Ok(BTreeMap::new()) };
        let page = server::operator::admin::fetch(admin, "/metrics")?;
        let series = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Ok(series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Waits until everything that is sealed is in the store.
    fn settle(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let begun = Instant::now();
        loop {
            let metrics = self.metrics()?;
            let value = |name: &str| metrics.get(name).with_context(|| format!("the server has no metric {name}"));
            if self.admin.is_none()
                || value("ringpost_journal_segments_sealed_total")? <= value("ringpost_journal_ingest_seconds_count")?
            {
                return Ok(metrics);
            }
            ensure!(begun.elapsed() < PATIENCE, "the server does not bring its journal into the store");
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn secret(folder: &Path) -> PathBuf {
    folder.join("secret")
}

// ---- measurements

/// What one load was.
struct Measured {
    cpu_us: f64,
    messages: f64,
    load: Value,
    metrics: BTreeMap<String, f64>,
}

impl Measured {
    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        self.metrics.get(name).copied().with_context(|| format!("the server has no metric {name}"))
    }
}

struct Bench<'a> {
    next_port: Cell<u16>,
    programs: &'a Programs,
    arguments: &'a Arguments,
    folder: &'a Path,
}

impl Bench<'_> {
    fn target(&self, is_server: bool) -> anyhow::Result<Target> {
        let port = self.next_port.get();
        self.next_port.set(port + 2);
        let [own, admin] = [port, port + 1].map(|port| SocketAddr::from((HOST, port)));
        if is_server {
            Target::server(self.programs, [own, admin], self.folder)
        } else {
            Target::relay(self.programs, own, self.arguments.connections)
        }
    }

    /// A load of `chat` with these further arguments.
    fn run(&self, is_server: bool, more: &[&str]) -> anyhow::Result<Measured> {
        let target = self.target(is_server)?;
        let idle = self.arguments.connections.saturating_sub(2 * self.arguments.pairs);
        let mut command = self.programs.on_core(LOAD_CORE, "ringpost-loadgen");
        command.args(["chat", "--json", "--no-history", "--size", "100"]).args(more);
        command.args(["--pairs", &self.arguments.pairs.to_string(), "--connections", &idle.to_string()]);
        command.args(["--server", &target.address.to_string(), "--hs256-secret-file"]).arg(secret(self.folder));
        let output = command.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the load against {} was not clean", target.address);
        let load: Value = serde_json::from_slice(&output.stdout)?;
        let metrics = target.settle()?;
        let messages = load["counts"]["messages accepted"].as_f64().context("messages are counted")?;
        Ok(Measured { cpu_us: target.cpu_us()?, messages, load, metrics })
    }

    /// CPU a message of a load, in microseconds, and the load.
    fn cost(&self, is_server: bool, window: u64) -> anyhow::Result<(f64, Measured)> {
        let window = window.to_string();
        let calm = self.run(is_server, &["--window", &window, "--messages", "1"])?;
        let busy = self.run(is_server, &["--window", &window, "--seconds", &self.arguments.seconds.to_string()])?;
        Ok(((busy.cpu_us - calm.cpu_us) / (busy.messages - calm.messages).max(1.0), busy))
    }

    /// What the journal and the store alone would have cost with this load, in microseconds a message.
    fn disk_floor(&self, busy: &Measured) -> anyhow::Result<(f64, f64)> {
        let groups = busy.metric("ringpost_journal_group_bytes_count")?.max(1.0);
        let group_bytes = (busy.metric("ringpost_journal_group_bytes_sum")? / groups).max(1.0);
        let tried = (groups as u64).min(FLOOR_GROUPS_MAX);
        let arguments = ["floor-journal", &tried.to_string(), &(group_bytes as u64).to_string()];
        let journal = self.programs.part(&arguments)?["cpu_us_a_group"].as_f64().context("a cost")?;
        let sealed = busy.metric("ringpost_journal_segments_sealed_total")?.max(1.0);
        let a_run = (busy.messages / sealed).clamp(1.0, FLOOR_MESSAGES_MAX as f64) as u64;
        let tried = (busy.messages as u64).clamp(a_run, FLOOR_MESSAGES_MAX);
        let arguments = ["floor-ingestion", &tried.to_string(), &a_run.to_string()];
        let row = self.programs.part(&arguments)?["cpu_us_a_row"].as_f64().context("a cost")?;
        let rows = busy.metric("ringpost_journal_ingest_rows_total")?;
        Ok((journal * groups / busy.messages, row * rows / busy.messages))
    }

    fn round(&self) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut figures = BTreeMap::new();
        let (relay_1, _) = self.cost(false, 1)?;
        let (server_1, busy_1) = self.cost(true, 1)?;
        let (relay_16, relay_busy) = self.cost(false, 16)?;
        let (server_16, busy_16) = self.cost(true, 16)?;
        let (journal, ingestion) = self.disk_floor(&busy_16)?;
        let number = |value: &Value| value.as_f64().context("a part of a report has no such figure");
        let a_second = |load: &Value| number(&load["a_second"]["messages"]);
        figures.insert("relay, window 1: CPU a message, us", relay_1);
        figures.insert("server, window 1: CPU a message, us", server_1);
        figures.insert("server, window 1: messages a second", a_second(&busy_1.load)?);
        figures.insert("window 1: server / relay", server_1 / relay_1);
        figures.insert("relay, window 16: CPU a message, us", relay_16);
        figures.insert("relay, window 16: messages a second", a_second(&relay_busy.load)?);
        figures.insert("journal alone, window 16: CPU a message, us", journal);
        figures.insert("ingestion alone, window 16: CPU a message, us", ingestion);
        figures.insert("server, window 16: CPU a message, us", server_16);
        figures.insert("server, window 16: messages a second", a_second(&busy_16.load)?);
        figures.insert("window 16: server / floor", server_16 / (relay_16 + journal + ingestion));
        let rate = self.arguments.rate.to_string();
        let open = self.run(true, &["--rate", &rate, "--seconds", &self.arguments.seconds.to_string()])?;
        let groups = open.metric("ringpost_journal_group_bytes_count")?.max(1.0);
        let group_bytes = (open.metric("ringpost_journal_group_bytes_sum")? / groups).max(1.0) as u64;
        let arguments = ["floor-journal", &(groups as u64).min(FLOOR_GROUPS_MAX).to_string(), &group_bytes.to_string()];
        let sync = self.programs.part(&arguments)?;
        let latency = |name: &str| number(&open.load["latency_us"]["send to accepted"][name]);
        let alone = |name: &str| number(&sync[name]);
        figures.insert("open loop: sync alone p50, us", alone("p50_us")?);
        figures.insert("open loop: sync alone p99, us", alone("p99_us")?);
        figures.insert("open loop: send to accepted p50, us", latency("p50")?);
        figures.insert("open loop: send to accepted p99, us", latency("p99")?);
        Ok(figures)
    }
}

// ---- the report

fn report(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.rounds > 0 && arguments.pairs > 0, "there is nothing to measure");
    let programs = Programs::built()?;
    let folder = tempfile::tempdir()?;
    let mut random = [0_u8; 48];
    fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))?;
    let words: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(secret(folder.path()), words)?;
    fs::set_permissions(secret(folder.path()), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bench = Bench { next_port: Cell::new(FIRST_PORT), programs: &programs, arguments, folder: folder.path() };

    let mut lines = vec![machine(arguments, root)];
    let mut rounds = Vec::new();
    for round in 1..=arguments.rounds {
        let figures = bench.round().with_context(|| format!("round {round}"))?;
        eprintln!("round {round}: {figures:?}");
        lines.push(json!({ "round": round, "figures": figures }));
        rounds.push(figures);
    }
    let medians = medians(&rounds);
    lines.push(json!({ "medians": medians }));
    let results = root.join("results");
    fs::create_dir_all(&results)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let path = results.join(format!("{seconds}.jsonl"));
    let mut file = fs::File::create_new(&path)?;
    for line in &lines {
        writeln!(file, "{line}")?;
    }
    let table = table(&medians, &rounds, arguments);
    print!("{table}");
    println!("{} has all rounds", path.display());
    if !arguments.dry {
        let readme = root.join("../README.md");
        let text = fs::read_to_string(&readme)?;
        fs::write(&readme, with_table(&text, &table).context("README.md has no place for the table")?)?;
    }
    Ok(())
}

fn machine(arguments: &Arguments, root: &Path) -> Value {
    let first = |path: &str, prefix: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
        line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
    };
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).current_dir(root).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    json!({
        "processor": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": first("/proc/meminfo", "MemTotal:"),
        "kernel": said("uname", &["-r"]),
        "rustc": said("rustc", &["--version"]),
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
        "parameters": {
            "rounds": arguments.rounds, "seconds": arguments.seconds, "connections": arguments.connections,
            "pairs": arguments.pairs, "rate": arguments.rate, "text bytes": 100,
        },
    })
}

fn medians(rounds: &[BTreeMap<&'static str, f64>]) -> BTreeMap<&'static str, f64> {
    let names = rounds.first().into_iter().flat_map(BTreeMap::keys);
    names.map(|name| (*name, middle(&mut rounds.iter().map(|round| round[name]).collect::<Vec<_>>()))).collect()
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The figures that are promised something of, and what.
fn table(
    medians: &BTreeMap<&'static str, f64>,
    rounds: &[BTreeMap<&'static str, f64>],
    arguments: &Arguments,
) -> String {
    let of = |name: &str| medians[name];
    let span = |name: &str| {
        let all: Vec<f64> = rounds.iter().map(|round| round[name]).collect();
        let (least, most) = all.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        format!("{:.2} ({least:.2} to {most:.2})", of(name))
    };
    let us = |name: &str| format!("{:.2} us", of(name));
    let a_second = |name: &str| format!("{:.0}", of(name));
    let sync = of("open loop: sync alone p50, us");
    let accepted = format!(
        "{:.0} / {:.0} us",
        of("open loop: send to accepted p50, us"),
        of("open loop: send to accepted p99, us")
    );
    let floor = of("relay, window 16: CPU a message, us")
        + of("journal alone, window 16: CPU a message, us")
        + of("ingestion alone, window 16: CPU a message, us");
    let rows = [
        ("window 1: the bare relay's CPU a message", String::new(), us("relay, window 1: CPU a message, us")),
        ("window 1: the server's CPU a message", String::new(), us("server, window 1: CPU a message, us")),
        ("window 1: server / relay", "at most 2.5".to_owned(), span("window 1: server / relay")),
        ("window 1: messages a second", String::new(), a_second("server, window 1: messages a second")),
        ("window 16: relay + bare journal + bare ingestion, CPU a message", String::new(), format!("{floor:.2} us")),
        ("window 16: the server's CPU a message", String::new(), us("server, window 16: CPU a message, us")),
        ("window 16: server / floor", "at most 1.5".to_owned(), span("window 16: server / floor")),
        ("window 16: messages a second", String::new(), a_second("server, window 16: messages a second")),
        (
            "open loop: send to accepted, p50 / p99",
            format!("at most {:.0} / {:.0} us", sync + 300.0, 3.0 * sync + 1_000.0),
            accepted,
        ),
        ("open loop: write and sync alone, p50", String::new(), format!("{sync:.0} us")),
    ];
    let mut text = format!(
        "{TABLE_BEGIN}Medians of {} rounds (`cargo run --release -p benches --bin report`): {} connections, {} pairs, texts of 100 bytes, default\n\
         durability (committed, synced, embedded store), server on one core, load on the other; open loop: {} messages a second.\n\n\
         | figure | wanted | measured |\n|---|---|---|\n",
        rounds.len(),
        arguments.connections,
        arguments.pairs,
        arguments.rate
    );
    for (figure, wanted, measured) in rows {
        text.push_str(&format!("| {figure} | {wanted} | {measured} |\n"));
    }
    text + TABLE_END
}

/// The text with the table in the place of the last one.
fn with_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(TABLE_BEGIN)?;
    let (_, after) = rest.split_once(TABLE_END)?;
    Some(format!("{before}{table}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_last_one_and_nothing_else() {
        let text = format!("a\n{TABLE_BEGIN}old\n{TABLE_END}b\n");
        let new = format!("{TABLE_BEGIN}new\n{TABLE_END}");
        assert_eq!(with_table(&text, &new).as_deref(), Some(&*format!("a\n{new}b\n")));
        assert_eq!(with_table("no place", &new), None);
    }

    #[test]
    fn the_median_is_the_middle_of_the_values() {
        assert_eq!(middle(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(middle(&mut [5.0]), 5.0);
    }

    #[test]
    fn the_readme_has_a_place_for_the_table() {
        let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
        assert!(with_table(&readme, "").is_some());
    }
}
