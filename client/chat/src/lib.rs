//! `ringpost chat`: writes to somebody, shows what comes back.
//!
//! On a terminal it is for a person; from a pipe it is for scripts, and prints one line for each thing that happens (see
//! `line.rs` for the format). This file owns the arguments and the order of things; what a line of input means and
//! which lines an event makes is in `chat.rs`.

mod chat;
mod input;
mod line;
mod screen;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use client::{
    Acknowledging, Client, ClientEvent, Config, DeviceId, DisconnectReason, Events, Roots, Transport, UserId,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    chat::{Chat, Said},
    input::Input,
    line::Line,
    screen::Screen,
};

const HOW_TO_GET_A_TOKEN: &str = "no token: give --token-file FILE or --token TOKEN. \
    Who runs the server mints one: ringpost token --user 7 > t7";

/// Time between two looks into the token file while the token in it is about to expire.
const TOKEN_LOOK: Duration = Duration::from_secs(1);

/// Somebody is looking at the screen.
const BACKOFF_MAX_MS: u64 = 3_000;

/// What `ringpost chat` is told.
#[derive(Debug, Args)]
#[command(after_long_help = line::FORMAT)]
pub struct Arguments {
    /// File with the token that says who you are; read again when the token is about to expire
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The token itself; other users of this machine can see it in the list of processes
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,

    /// User to write to
    #[arg(long, value_name = "USER", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,

    /// Host and port of the server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7600")]
    server: String,

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
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(chat(arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringpost chat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn token(arguments: &Arguments) -> anyhow::Result<String> {
    let token = match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(file)) => read_token(file).with_context(|| format!("token file {}", file.display()))?,
        (None, None) => bail!(HOW_TO_GET_A_TOKEN),
    };
    if token.is_empty() {
        bail!(HOW_TO_GET_A_TOKEN);
    }
    Ok(token)
}

fn read_token(file: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(file)?.trim().to_owned())
}

/// Gives the client what is in the file, again and again: somebody is about to write a newer token into it.
async fn renew_token(client: Client, file: PathBuf) {
    loop {
        if let Ok(token) = read_token(&file) {
            // One that is half written is refused, here or by the server, and followed by the whole one.
            let _ = client.set_token(token);
        }
        sleep(TOKEN_LOOK).await;
    }
}

async fn chat(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = Config::new(&arguments.server, token(arguments)?, DeviceId(arguments.device));
    let token_file = arguments.token_file.clone();
    // What a crash of this program did not show is shown by the next run.
    config.acknowledging = Acknowledging::ByApplication;
    config.backoff_max_ms = BACKOFF_MAX_MS;
    if arguments.tls || arguments.tls_ca.is_some() || arguments.tls_name.is_some() {
        let roots = arguments.tls_ca.clone().map_or(Roots::System, Roots::File);
        config.transport = Transport::Tls { roots, name: arguments.tls_name.clone() };
    }
    let (client, events) = Client::connect(config)?;
    let chat = Chat::new(client.clone(), DeviceId(arguments.device), UserId(arguments.to), arguments.history);
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let (input, screen) = input::terminal();
        input.prompt(chat.peer());
        let result = Run { client, events, chat, input, screen, token_file, renewal: None }.for_a_person().await;
        input::restore_terminal();
        result
    } else {
        let (input, screen) = (input::pipe(), Screen::Plain);
        Run { client, events, chat, input, screen, token_file, renewal: None }.for_a_script(arguments).await
    }
}

struct Run {
    client: Client,
    events: Events,
    chat: Chat,
    input: Input,
    screen: Screen,
    token_file: Option<PathBuf>,
    /// Looks for a newer token.
    renewal: Option<JoinHandle<()>>,
}

impl Run {
    async fn for_a_person(mut self) -> anyhow::Result<()> {
        self.screen.show(&Line::Notice(format!("To {}. /help says what else can be typed.", self.chat.peer())))?;
        loop {
            tokio::select! {
                event = self.events.next() => self.on_event(event)?,
                line = self.input.next() => match line {
                    Some(line) => {
                        if self.say(&line)? == Said::Quit {
                            break;
                        }
                        self.input.prompt(self.chat.peer());
                    }
                    None => break,
                },
            }
        }
        self.settle(Duration::from_secs(5), Chat::is_answered).await?;
        self.leave().await;
        Ok(())
    }

    async fn for_a_script(mut self, arguments: &Arguments) -> anyhow::Result<()> {
        // A line that found the queue full; nothing more is read until it has gone.
        let mut held: Option<String> = None;
        loop {
            if let Some(line) = held.take() {
                match self.say(&line)? {
                    Said::Taken => {}
                    Said::Later => held = Some(line),
                    Said::Quit => break,
                }
            }
            tokio::select! {
                event = self.events.next() => self.on_event(event)?,
                line = self.input.next(), if held.is_none() => match line {
                    Some(line) => held = Some(line),
                    None => break,
                },
            }
        }
        let timeout = Duration::from_secs(arguments.timeout);
        let (wait_for, wait_delivered) = (arguments.wait_for, arguments.wait_delivered);
        let is_done =
            |chat: &Chat| chat.is_answered() && chat.received() >= wait_for && (!wait_delivered || chat.is_delivered());
        self.settle(timeout, is_done).await?;
        self.linger(Duration::from_secs(arguments.linger)).await?;
        self.leave().await;
        match self.chat.refused() {
            0 => Ok(()),
            refused => bail!("{refused} of the messages were refused"),
        }
    }

    /// Goes on until `is_done`.
    async fn settle(&mut self, timeout: Duration, is_done: impl Fn(&Chat) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + timeout;
        while !is_done(&self.chat) {
            tokio::select! {
                event = self.events.next() => self.on_event(event)?,
                () = sleep_until(deadline) => bail!("gave up after {} s: {}", timeout.as_secs(), self.chat.state()),
            }
        }
        Ok(())
    }

    async fn linger(&mut self, time: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                event = self.events.next() => self.on_event(event)?,
                () = sleep_until(deadline) => return Ok(()),
            }
        }
    }

    /// Says bye, so that the server does not have to find out.
    async fn leave(&mut self) {
        self.client.close();
        while self.events.next().await.is_some() {}
    }

    fn say(&mut self, line: &str) -> anyhow::Result<Said> {
        let (said, lines) = self.chat.say(line);
        lines.iter().try_for_each(|line| self.screen.show(line))?;
        Ok(said)
    }

    /// Looks for a newer token from the server's warning until it has taken one.
    fn renew(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::TokenExpiring { .. } if self.renewal.is_none() => {
                let look = |file: &PathBuf| tokio::spawn(renew_token(self.client.clone(), file.clone()));
                self.renewal = self.token_file.as_ref().map(look);
            }
            ClientEvent::TokenRefreshed { .. } | ClientEvent::Welcome(_) => {
                if let Some(task) = self.renewal.take() {
                    task.abort();
                }
            }
            _ => {}
        }
    }

    fn on_event(&mut self, event: Option<ClientEvent>) -> anyhow::Result<()> {
        match event {
            Some(ClientEvent::Ended(reason)) => bail!("{reason}"),
            // Trying again would only hide it.
            Some(ClientEvent::Disconnected { reason: reason @ DisconnectReason::Untrusted(_), .. }) => {
                bail!("{reason}")
            }
            None => bail!("the client has stopped"),
            Some(event) => {
                for line in self.chat.on_event(&event) {
                    self.screen.show(&line)?;
                }
                self.renew(&event);
                // Shown, so it has arrived.
                if let ClientEvent::Entry(entry) = event {
                    self.client.acknowledge(entry.seq);
                }
                Ok(())
            }
        }
    }
}
