//! Attacks a server for a while, and says what came of it. For servers of one's own.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use tests::attack::{self, Attack, Outcome, Target};

#[derive(Parser)]
#[command(name = "attacker")]
struct Arguments {
    /// What to try: silent, slow, half-open, deaf, oversized, hellos, long-tokens, replay, frames, logins.
    #[arg(value_parser = attack_of)]
    attack: Attack,
    /// Whom.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7600")]
    server: SocketAddr,
    /// The token of an ordinary user, as `ringpost token` prints it.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// A user to write to.
    #[arg(long, value_name = "ID", default_value_t = 7)]
    victim: u64,
    /// Where to come from.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Connections at a time.
    #[arg(long, value_name = "N", default_value_t = 500)]
    connections: usize,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
}

fn attack_of(name: &str) -> Result<Attack, String> {
    let found = attack::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, attack)| *attack).ok_or_else(|| "no such attack; --help lists them".to_owned())
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let path = &arguments.token_file;
    let token = fs::read_to_string(path).with_context(|| path.display().to_string())?.trim().to_owned();
    let target = Target {
        server: arguments.server,
        from: arguments.from,
        token,
        victim: arguments.victim,
        connections: arguments.connections,
    };
    let until = AtomicBool::new(false);
    let Outcome { opened, ended, refused } = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| attack::run(arguments.attack, &target, &until));
        std::thread::sleep(Duration::from_secs(arguments.seconds));
        until.store(true, Ordering::Relaxed);
        attacker.join().unwrap_or_default()
    });
    println!("{opened} connections opened, {ended} ended by the server, {refused} not to be had");
    Ok(())
}
