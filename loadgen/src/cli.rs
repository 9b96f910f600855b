//! The command line: arguments in, reports out, and the exit code: 0 if everything was verified, 1 if not, 2 for bad arguments.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rim::{process::Usage, utc::wall_now};

use crate::{
    devices::Redirects,
    engine,
    homes::Homes,
    place::Place,
    report::{Report, about::about, html::html, table::table},
    sample::{Metrics, Sight},
    scenario::Scenario,
    stats::Count,
    tls::{ReturnWith, Trust},
    token::Mint,
    web::Carrier,
    world::World,
};

/// Where servers listen unless they are told otherwise.
const SERVER_PORT: u16 = 7600;

/// Where their metrics are.
const METRICS_PORT: u16 = 7601;

/// Puts load on a Ringpost server and verifies every message.
#[derive(Debug, Parser)]
#[command(name = "ringpost-loadgen", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,

    #[command(flatten, next_help_heading = "Options of all scenarios")]
    target: Target,

    /// Print one line of JSON instead of a table
    #[arg(long, global = true)]
    json: bool,

    /// Write the report with plots to this file too: one page that needs no network
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Target {
    /// Where the server is: a name or address, and a port unless it is 7600
    #[arg(long, global = true, value_name = "HOST[:PORT]", default_value = "127.0.0.1:7600")]
    server: String,

    /// Connect with TLS 1.3; the server's certificate must be one that this system trusts
    #[arg(long, global = true)]
    tls: bool,

    /// Connect with TLS 1.3; only the certificates in this PEM file are trusted
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Connect with TLS 1.3; the certificate must have this name, not the address of --server
    #[arg(long, global = true, value_name = "NAME")]
    tls_name: Option<String>,

    /// With TLS: never come back with a ticket
    #[arg(long, global = true)]
    tls_full: bool,

    /// Connect by WebSocket, as browsers do, with TLS or without; the server's `websocket.listen` or `websocket.tls_listen` is what --server
    /// names. No redirects are followed
    #[arg(long, global = true)]
    websocket: bool,

    /// The server's private key for tokens (Ed25519, PKCS#8 PEM): the users of the run are made up here
    #[arg(long, global = true, value_name = "FILE", default_value = "ringpost-data/token-key.pem")]
    token_key: PathBuf,

    /// Sign tokens with this HS256 secret instead (the server's `auth.hs256_secret_file`): cheaper for many logins
    #[arg(long, global = true, value_name = "FILE")]
    hs256_secret_file: Option<PathBuf>,

    /// First user id of the run; others follow. Their logs grow, so keep away from real users
    #[arg(long, global = true, value_name = "USER", default_value_t = 1_000_000)]
    first_user: u64,

    /// Allow a server that is not on this machine
    #[arg(long, global = true)]
    allow_remote: bool,

    /// Follow no redirects: the clients say `hops` 0 in their hellos, and stay at the address of --server
    #[arg(long, global = true)]
    no_redirects: bool,

    /// Tell latencies for each pair of nodes too: those that served author and recipient when the load began, 8 nodes at most
    #[arg(long, global = true)]
    by_node: bool,

    /// Take lost connections as part of the run, for instance because the server is killed on purpose
    #[arg(long, global = true)]
    tolerate_disconnects: bool,

    /// Give up when something is owed and nothing at all has happened for this long
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    stall_after: u64,

    /// Process of the server, if it is on this machine: its CPU and memory are in the report
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,

    /// Metrics endpoint of the server (`admin_listen`, usually 127.0.0.1:7601): its commits are in the report
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    metrics: Option<String>,

    /// Do not compare histories in the end: what is on the other side keeps none (the bare relay of the benches)
    #[arg(long, global = true)]
    no_history: bool,

    /// Threads with a ring each; without it as few as can hold the connections
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: Option<u16>,

    /// Seed of everything random, and the tag of the run's messages; without it another one each time. A server takes the groups of a seed once
    #[arg(long, global = true, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl Target {
    fn world(&self) -> anyhow::Result<World> {
        let server = Place::find(&self.server, SERVER_PORT).context("--server")?;
        if !server.address.ip().is_loopback() && !self.allow_remote {
            bail!("{} is not on this machine; --allow-remote if you may put load on it", self.server);
        }
        let metrics = self.metrics.as_deref().map(find_metrics).transpose()?;
        ensure!(self.first_user > 0, "user 0 does not exist");
        ensure!(self.first_user <= u64::MAX / 2, "--first-user leaves no room for the users that follow");
        if let Some(pid) = self.server_pid {
            ensure!(Usage::of(pid).is_some(), "--server-pid {pid}: there is no such process");
        }
        let mint = match &self.hs256_secret_file {
            Some(path) => Mint::hs256(path)?,
            None => Mint::ed25519(&self.token_key)?,
        };
        let carrier = if self.websocket { Carrier::WebSocket } else { Carrier::Bytes };
        let trust = if self.tls || self.tls_ca.is_some() || self.tls_name.is_some() {
            let return_with = if self.tls_full { ReturnWith::Nothing } else { ReturnWith::Ticket };
            let trust = Trust::new(self.tls_ca.as_deref(), self.tls_name.as_deref(), return_with, carrier)?;
            trust.name_at(&server.host).map_err(anyhow::Error::msg).context("--server")?;
            Some(trust)
        } else {
            None
        };
        Ok(World {
            server,
            // They lead to where the protocol is spoken without WebSocket.
            redirects: match (self.no_redirects || self.websocket, self.allow_remote) {
                (true, _) => Redirects::Refused,
                (false, true) => Redirects::ToAnywhere,
                (false, false) => Redirects::ToThisMachine,
            },
            trust,
            carrier,
            mint: Arc::new(mint),
            first_user: self.first_user,
            tolerates_disconnects: self.tolerate_disconnects,
            compares_histories: !self.no_history,
            by_node: self.by_node,
            stall_after: Duration::from_secs(self.stall_after),
            sight: Sight { pid: self.server_pid, metrics },
            run: self.seed.unwrap_or_else(rand::random),
            lanes: self.lanes.map(usize::from),
            stops: Arc::default(),
        })
    }
}

/// The metrics endpoint, if it is one: a report without what was asked for would be found out too late.
fn find_metrics(text: &str) -> anyhow::Result<SocketAddr> {
    let address = Place::find(text, METRICS_PORT).context("--metrics")?.address;
    Metrics::ask(address).with_context(|| {
        format!("--metrics {text}: no metrics there; the server's greeting names the address, `admin_listen` in its configuration")
    })?;
    Ok(address)
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            if arguments.json {
                println!("{}", report.json());
            } else {
                print!("{}", table(&report));
            }
            for fault in report.faults() {
                eprintln!("ringpost-loadgen: {fault}");
            }
            let mut is_good = report.is_clean();
            if let Some(path) = &arguments.html
                && let Err(error) = fs::write(path, html(&report))
            {
                eprintln!("ringpost-loadgen: --html {}: {error}", path.display());
                is_good = false;
            }
            if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("ringpost-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    if let Some(path) = &arguments.html {
        // Now, and not after the run.
        fs::write(path, "").with_context(|| format!("--html {}", path.display()))?;
    }
    let world = arguments.target.world()?;
    let plan = arguments.scenario.plan(&world)?;
    listen_to_signals(Arc::clone(&world.stops))?;
    let (scenario, parameters, eras) = (plan.scenario, plan.parameters.clone(), plan.eras);
    let about = about(wall_now(), world.run, world.redirects);
    let mut notes = plan.notes.clone();
    if world.trust.is_some() {
        notes.push("All connections spoke TLS 1.3.".to_owned());
    }
    if world.carrier == Carrier::WebSocket {
        notes.push("All connections spoke WebSocket.".to_owned());
    }
    if !world.compares_histories {
        notes.push("Histories were not compared (--no-history).".to_owned());
    }
    let outcome = engine::run(&world, plan)?;
    if outcome.total[Count::Redirects] > 0
        && (arguments.target.server_pid.is_some() || arguments.target.metrics.is_some())
    {
        notes.push("Redirects led to other servers; the costs are of the one that was looked at.".to_owned());
    }
    notes.extend(outcome.homes.as_ref().map(Homes::words));
    if outcome.was_cut_short {
        notes.push("A signal has cut the load short; the counts and rates are of what there was of it.".to_owned());
    }
    if outcome.resources.server_restarts > 0 {
        notes.push(format!(
            "The server was started again {} times during the load. What it counted after the last look before such an end is missing from its costs; \
             a look is taken every half second.",
            outcome.resources.server_restarts
        ));
    }
    Ok(Report { scenario, about, parameters, eras, notes, outcome })
}

/// The first signal ends the load, and what was sent is verified; before or after the load, as the second one does, it ends the run. The third one ends the process.
fn listen_to_signals(stops: Arc<AtomicU32>) -> anyhow::Result<()> {
    let on_signal = move || match stops.fetch_add(1, Ordering::Relaxed) {
        0 => eprintln!(
            "ringpost-loadgen: stopping; a load ends with what was sent being verified, anything else at once"
        ),
        1 => eprintln!("ringpost-loadgen: giving up; a third signal exits at once"),
        _ => process::exit(1),
    };
    ctrlc::set_handler(on_signal).context("signals can not be listened to")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
