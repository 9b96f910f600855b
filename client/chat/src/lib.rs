//! `ringpost chat`: writes to somebody, shows what comes back.
//!
//! On a terminal it is for a person (`screen`); from a pipe it is for scripts, and prints one line for each thing that
//! happens (`pipe`, with the format in `pipe/line.rs`). This file owns the arguments and what both have in common: the
//! connection, and how the program ends.

mod attach;
mod checking;
mod command;
mod content;
mod devices;
mod exit;
mod groups;
mod pipe;
mod presence;
mod renewal;
mod screen;
mod visible;
mod words;
mod wrap;

use std::{
    io::{self, IsTerminal, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use client::{Acknowledging, Client, Config, ConversationId, DeviceId, Roots, Transport};

use crate::{
    exit::{CODES, Exit, Failure},
    pipe::line::FORMAT,
    renewal::{Renewal, read_token},
    screen::Left,
};

/// Where a server listens unless it is told otherwise.
const PORT: u16 = 7600;

/// Somebody is looking at the screen.
const BACKOFF_MAX_MS: u64 = 3_000;

/// A person does not wait for more than a few pages of the log when this opens: then what is shown is asked for, and no more.
const SKIP_ABOVE: u64 = 2_000;

const HOW_TO_GET_A_TOKEN: &str = "no token: give --token-file FILE or --token TOKEN. \
    Who runs the server makes one with `ringpost token --user 7 --out t7`";

/// What `ringpost chat` is told.
#[derive(Debug, Args)]
#[command(after_long_help = format!("{FORMAT}\n\n{CODES}"))]
pub struct Arguments {
    /// File with the token that says who you are; read again when the token is about to expire
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The token itself; other users of this machine can see it in the list of processes
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,

    /// User to write to, or #ID of a group; without it the terminal shows your conversations, and from a pipe it must be given
    #[arg(long, value_name = "USER", value_parser = parse_to)]
    to: Option<ConversationId>,

    /// Name or address of the server; its port is 7600 if none is given
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1", value_parser = parse_server)]
    server: String,

    /// Stay at --server, whichever node it leads to, and go nowhere else
    #[arg(long)]
    no_redirects: bool,

    /// Connect with TLS; the certificate must be one that this system trusts
    #[arg(long)]
    tls: bool,

    /// Connect with TLS; only the certificates in this PEM file are trusted
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Connect with TLS; the certificate must have this name, not the host of --server
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,

    /// Which of your devices this is; two programs at a time must not be the same one
    #[arg(long, value_name = "DEVICE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    device: u64,

    /// Messages of the conversation that are shown at the start
    #[arg(long, value_name = "N", default_value_t = 20)]
    history: u64,

    /// From a pipe: at the end of input, wait until this many messages have come in since the start
    #[arg(long, value_name = "N", default_value_t = 0)]
    wait_for: u64,

    /// From a pipe: at the end of input, wait until everything that was sent has reached a device
    #[arg(long)]
    wait_delivered: bool,

    /// From a pipe: longest time to wait after the end of input, also for answers to what was sent
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// From a pipe: stay this long after everything that was waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    linger: u64,
}

/// Runs the program until it is told to leave, or can not go on; says why on standard error.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Failure::from).and_then(|runtime| {
        let ended = runtime.block_on(chat(arguments));
        // A file that is still read for an attachment keeps nobody from leaving.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(Left::Quit) => ExitCode::SUCCESS,
        // As shells report who was ended by a signal.
        Ok(Left::Signal(number)) => ExitCode::from(128 + number.clamp(0, 127) as u8),
        Err(failure) => {
            tell(&failure.words);
            ExitCode::from(failure.exit as u8)
        }
    }
}

async fn chat(arguments: &Arguments) -> Result<Left, Failure> {
    let server = arguments.server.clone();
    let (device, peer) = (DeviceId(arguments.device), arguments.to);
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if peer.is_none() && !is_terminal {
        return Err(Failure::new(Exit::Failed, "from a pipe it must be said whom to write to: give --to USER"));
    }
    let mut config = Config::new(&server, token(arguments)?, device);
    // What a crash of this program did not show is shown by the next run.
    config.acknowledging = Acknowledging::ByApplication;
    config.backoff_max_ms = BACKOFF_MAX_MS;
    config.follows_redirects = !arguments.no_redirects;
    if is_terminal {
        // A script is shown every entry.
        config.skip_above = SKIP_ABOVE;
    }
    if arguments.tls || arguments.tls_ca.is_some() || arguments.tls_name.is_some() {
        let roots = arguments.tls_ca.clone().map_or(Roots::System, Roots::File);
        config.transport = Transport::Tls { roots, name: arguments.tls_name.clone() };
    }
    let (client, events) = Client::connect(config).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let renewal = Renewal::new(arguments.token_file.clone());
    let history = arguments.history;
    let Some(peer) = peer.filter(|_| !is_terminal) else {
        return screen::run(client, events, screen::Options { peer, history, server, renewal }).await;
    };
    let options = pipe::Options {
        who: pipe::Who { device, peer, history },
        server,
        wait_for: arguments.wait_for,
        wait_delivered: arguments.wait_delivered,
        timeout: Duration::from_secs(arguments.timeout),
        linger: Duration::from_secs(arguments.linger),
        renewal,
    };
    pipe::run(client, events, options).await.map(|()| Left::Quit)
}

/// Says something on standard error. When that is gone nobody is left to tell.
fn tell(words: &str) {
    let _ = writeln!(io::stderr(), "ringpost chat: {words}");
}

fn token(arguments: &Arguments) -> Result<String, Failure> {
    let token = match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(file)) => read_token(file)
            .map_err(|error| Failure::new(Exit::Failed, format!("token file {}: {error}", file.display())))?,
        (None, None) => String::new(),
    };
    if token.is_empty() {
        return Err(Failure::new(Exit::Failed, HOW_TO_GET_A_TOKEN));
    }
    Ok(token)
}

/// Whom one writes to.
fn parse_to(word: &str) -> Result<ConversationId, String> {
    groups::conversation(word).ok_or_else(|| "give the number of a user, from 1 on, or '#ID' of a group".to_owned())
}

/// Host and port, as it is connected to.
fn parse_server(text: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{what}: give HOST or HOST:PORT, such as localhost:{PORT} or [::1]:{PORT}"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { wrong("port 0 can not be connected to") } else { Ok(text.to_owned()) };
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT).to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, PORT),
        Some((host, port)) => match port.parse() {
            Ok(port) if port > 0 => (host, port),
            _ => return wrong(&format!("`{port}` is no port from 1 to 65535")),
        },
    };
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if is_name { Ok(format!("{host}:{port}")) } else { wrong(&format!("`{host}` is no name of a host")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:7600"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("localhost", "localhost:7600"),
            ("chat.example.org:443", "chat.example.org:443"),
            ("::1", "[::1]:7600"),
            ("[::1]", "[::1]:7600"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(parse_server(text), Ok(address.to_owned()), "{text}");
        }
        for wrong in [
            "",
            ":7600",
            "host:",
            "host:0",
            "host:99999",
            "host:port",
            "http://host",
            "http://host:80",
            "a b",
            "127.0.0.1:0",
        ] {
            assert!(parse_server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn help_lists_every_exit_code() {
        for exit in [Exit::Failed, Exit::Input, Exit::Identity, Exit::Server, Exit::Unanswered, Exit::Refused] {
            assert!(CODES.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
