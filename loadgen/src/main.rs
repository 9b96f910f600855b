//! `ringpost-loadgen`: puts load on a Ringpost server and verifies what comes back.
//!
//! Each scenario is a file in `scenario/`. What they share is here: where the server is, tokens (`token`), what a message carries and
//! how its journey is checked (`verify`), and the report (`report`). A run that lost, doubled or disordered anything, or met an error that it
//! can not explain, says which messages and exits with 1.

mod report;
mod scenario;
mod token;
mod verify;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Parser;

use crate::{scenario::Scenario, token::Mint};

/// Puts load on a Ringpost server and verifies every message.
#[derive(Debug, Parser)]
#[command(name = "ringpost-loadgen", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,

    #[command(flatten)]
    target: Target,

    /// Print one line of JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Target {
    /// Address and port of the server
    #[arg(long, global = true, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7600")]
    server: SocketAddr,

    /// The server's private key for tokens (Ed25519, PKCS#8 PEM): the users of the run are made up here
    #[arg(long, global = true, value_name = "FILE", default_value = "ringpost-data/token-key.pem")]
    token_key: PathBuf,

    /// First user id of the run; others follow. Their logs grow, so keep away from real users
    #[arg(long, global = true, value_name = "USER", default_value_t = 1_000_000)]
    first_user: u64,

    /// Allow a server that is not on this machine
    #[arg(long, global = true)]
    allow_remote: bool,

    /// Take lost connections as part of the run, for instance because the server is killed on purpose
    #[arg(long, global = true)]
    tolerate_disconnects: bool,

    /// Give up when nothing at all has happened for this long
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 20)]
    stall_after: u64,
}

/// What every scenario works with.
struct World {
    server: String,
    mint: Mint,
    first_user: u64,
    tolerate_disconnects: bool,
    stall_after: std::time::Duration,
    /// Told apart from what earlier runs left in the logs.
    run: u64,
}

fn world(target: &Target) -> anyhow::Result<World> {
    if !target.server.ip().is_loopback() && !target.allow_remote {
        bail!("{} is not on this machine; --allow-remote if you may put load on it", target.server);
    }
    if target.first_user == 0 {
        bail!("user 0 does not exist");
    }
    Ok(World {
        server: target.server.to_string(),
        mint: Mint::from_file(&target.token_key)?,
        first_user: target.first_user,
        tolerate_disconnects: target.tolerate_disconnects,
        stall_after: std::time::Duration::from_secs(target.stall_after),
        run: rand::random(),
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = world(&arguments.target).and_then(|world| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        runtime.block_on(arguments.scenario.run(world))
    });
    match result {
        Ok(report) => {
            if arguments.json {
                println!("{}", report.json());
            } else {
                print!("{}", report.table());
            }
            for fault in report.faults() {
                eprintln!("ringpost-loadgen: {fault}");
            }
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("ringpost-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
