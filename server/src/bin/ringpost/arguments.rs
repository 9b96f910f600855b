//! The command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{anyhow, bail};
use capacity::inputs::{InputError, Inputs};
use clap::{Parser, Subcommand};
use proto_spec::{DeviceId, UserId};
use server::{
    access::auth,
    cluster::{file::check_name, map::Slot},
    config::Backend,
    operator::{logging::Format, moves, shell, web_link},
};

#[derive(Parser)]
#[command(name = "ringpost", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve until a signal comes.
    Serve(ServeArguments),
    /// Write to a user of a server, and show what comes back.
    ///
    /// From a pipe it sends each line as a message and prints one line for each thing that happens.
    Chat(chat::Arguments),
    /// Mint a token for a user, and print it or write it into a file.
    Token(TokenArguments),
    /// Make all tokens void that a user, or one device, has by now. Connections end at once; newer tokens are good.
    Revoke(RevokeArguments),
    /// Print which revocations are in force.
    Revocations(FolderArguments),
    /// Show which devices a user of the running server has, or remove one for ever.
    Devices(DevicesArguments),
    /// Show why somebody was notified of a message while they were away, or was not.
    Push(PushArguments),
    /// Send notifications for servers that name this process in push.services.urls.
    PushService(PushServiceArguments),
    /// Show which nodes the cluster of the running server has, what each owns, and which of them this one reaches.
    Nodes(SurveyArguments),
    /// Show which node of the cluster of the running server owns which slots of users.
    Map(SurveyArguments),
    /// Have a node of the cluster of the running server give away all that it owns, and stay without.
    Drain(DrainArguments),
    /// Give a slot of users to a node of the cluster of the running server, where it stays while that node is alive.
    Move(MoveArguments),
    /// Make another key to sign tokens with, for the data folder of a stopped server that has lost its own.
    NewKey(FolderArguments),
    /// Look at the journal of a stopped server, check it, save it, bring it into the store.
    Journal(JournalArguments),
    /// Move the history of a stopped server from one store to another.
    Migrate(MigrateArguments),
    /// Tell how many machines so many users need: nodes, cores, memory, links, database, disks.
    ///
    /// Nothing is read or started. It is computed from planning figures, costs that were measured, and assumptions, which it names.
    Capacity(CapacityArguments),
}

impl Arguments {
    /// How another command is told of the same server.
    pub(crate) fn told(&self) -> String {
        let (config, data) = match &self.command {
            None | Some(Command::Chat(_) | Command::Capacity(_)) => (&None, &None),
            Some(Command::Serve(serve)) => return serve.told(),
            Some(Command::Token(TokenArguments { config, data, .. })) => (config, data),
            Some(Command::Journal(JournalArguments { config, data, .. })) => (config, data),
            Some(Command::Devices(DevicesArguments { config, data, .. })) => (config, data),
            Some(Command::Push(PushArguments { config, data, .. })) => (config, data),
            Some(Command::PushService(arguments)) => return shell::told(Some(&arguments.config), None),
            Some(
                Command::Revoke(RevokeArguments { folder, .. })
                | Command::Migrate(MigrateArguments { folder, .. })
                | Command::Nodes(SurveyArguments { folder, .. })
                | Command::Map(SurveyArguments { folder, .. })
                | Command::Drain(DrainArguments { folder, .. })
                | Command::Move(MoveArguments { folder, .. })
                | Command::Revocations(folder)
                | Command::NewKey(folder),
            ) => (&folder.config, &folder.data),
        };
        shell::told(config.as_deref(), data.as_deref())
    }
}

impl ServeArguments {
    /// How another command is told of this server.
    pub(crate) fn told(&self) -> String {
        shell::told(self.config.as_deref(), self.data.as_deref().map(Path::new))
    }
}

#[derive(clap::Args, Default)]
pub(crate) struct ServeArguments {
    /// Configuration file; server/ringpost.example.toml has every key.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration, print it with all defaults, and start nothing.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Threads that serve, one per core; 0: as many as the machine has.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cores: Option<OsString>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<OsString>,
    /// Where browsers connect, by WebSocket without TLS.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) websocket_listen: Option<OsString>,
    /// The same with TLS: needs a certificate.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) websocket_tls_listen: Option<OsString>,
    /// Where metrics and health are served: an address, auto, or off.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<OsString>,
    /// Data folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<OsString>,
    /// How standard error is written, whatever it says: text or json. Otherwise text on a terminal, json elsewhere.
    #[arg(long, value_name = "FORMAT", value_parser = parse_log_format)]
    pub(crate) log_format: Option<Format>,
    /// Serve TLS with a certificate for this machine's names that the server makes itself, once, in its data folder.
    #[arg(long)]
    pub(crate) tls_self_signed: bool,
}

#[derive(clap::Args)]
pub(crate) struct TokenArguments {
    /// User id: a number from 1 on.
    #[arg(long, value_name = "ID", value_parser = parse_user)]
    pub(crate) user: UserId,
    /// The only device that the token is good for. Without it: all of the user's.
    #[arg(long, value_name = "ID", value_parser = parse_device)]
    pub(crate) device: Option<DeviceId>,
    /// How long the token is good: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", value_parser = parse_ttl, default_value = "30d")]
    pub(crate) ttl: Duration,
    /// Write the token into this file, which only its owner can read. An older token in it is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print a link that signs in to the web page at this address, such as <https://chat.example.org>; on a terminal as a code, too.
    #[arg(long, value_name = "URL", value_parser = web_link::parse_page, conflicts_with = "out")]
    pub(crate) web: Option<String>,
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct FolderArguments {
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct RevokeArguments {
    /// Whose tokens.
    #[arg(long, value_name = "ID", value_parser = parse_user)]
    pub(crate) user: UserId,
    /// Those of this device only.
    #[arg(long, value_name = "ID", value_parser = parse_device)]
    pub(crate) device: Option<DeviceId>,
    /// Take a revocation back: tokens that were void are good again.
    #[arg(long)]
    pub(crate) lift: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArguments,
}

#[derive(clap::Args)]
pub(crate) struct DevicesArguments {
    #[command(subcommand)]
    pub(crate) action: DevicesAction,
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum DevicesAction {
    /// Print one line a device: id, the day it was last connected, whether it is now, what it has acknowledged, name.
    List {
        /// Whose devices.
        #[arg(long, value_name = "ID", value_parser = parse_user)]
        user: UserId,
    },
    /// Remove a device: its connection ends, and its id never comes back. Its messages stay.
    Remove {
        /// Whose device.
        #[arg(long, value_name = "ID", value_parser = parse_user)]
        user: UserId,
        /// Which one.
        #[arg(long, value_name = "ID", value_parser = parse_device)]
        device: DeviceId,
    },
}

#[derive(clap::Args)]
pub(crate) struct PushArguments {
    #[command(subcommand)]
    pub(crate) action: PushAction,
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum PushAction {
    /// Print how things stand with a message, and what was decided of it lately.
    Why {
        /// Who was to be notified.
        #[arg(long, value_name = "ID", value_parser = parse_user)]
        user: UserId,
        /// Of which group the message is, if it is of one.
        #[arg(long, value_name = "GROUP")]
        group: Option<u64>,
        /// The message: its number in that user's log, as the user's clients have it; of a group in the group's.
        #[arg(value_name = "MESSAGE")]
        seq: u64,
    },
}

#[derive(clap::Args)]
pub(crate) struct PushServiceArguments {
    /// Configuration file, of which [push] is read.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// How standard error is written: text or json. Otherwise text on a terminal, json elsewhere.
    #[arg(long, value_name = "FORMAT", value_parser = parse_log_format)]
    pub(crate) log_format: Option<Format>,
}

#[derive(clap::Args)]
pub(crate) struct SurveyArguments {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArguments,
}

#[derive(clap::Args)]
pub(crate) struct DrainArguments {
    /// Which node.
    #[arg(value_name = "NODE", value_parser = parse_node)]
    pub(crate) node: String,
    /// Have it take its share again.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Return when it owns nothing any more.
    #[arg(long, conflicts_with = "undo")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArguments,
}

#[derive(clap::Args)]
pub(crate) struct MoveArguments {
    /// Which slot: 0 to 255, as `ringpost map` shows them.
    #[arg(value_name = "SLOT", value_parser = parse_slot)]
    pub(crate) slot: Slot,
    /// The node that is to own it.
    #[arg(value_name = "NODE", value_parser = parse_node, required_unless_present = "unpin")]
    pub(crate) node: Option<String>,
    /// Let it go where the map has it.
    #[arg(long, conflicts_with = "node")]
    pub(crate) unpin: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArguments,
}

#[derive(clap::Args)]
pub(crate) struct JournalArguments {
    #[command(subcommand)]
    pub(crate) action: JournalAction,
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum JournalAction {
    /// Tell what the journal holds: segments, batches, records by kind, and whether it is whole.
    Status,
    /// Print one line a record: segment, offset, lsn, lane, batch, kind, user, seq, peer, bytes of text; tabs between them.
    List {
        /// Only what happened in this user's log.
        #[arg(long, value_name = "ID", value_parser = parse_user)]
        user: Option<UserId>,
        /// No more lines than these.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Show what people wrote, in one more column.
        #[arg(long)]
        text: bool,
    },
    /// Read everything, checksums included. Exits with 0 if it is whole (a torn tail is), with 1 if it is damaged.
    Verify,
    /// Write all records, texts included, as lines of JSON into a new file that only its owner can read.
    Export {
        /// A file that does not exist yet.
        file: PathBuf,
    },
    /// Bring the whole journal into the store, as a start of the server does, and exit.
    Replay {
        /// Of a damaged journal, take what is whole before the damage, and move the damaged file and all later ones into
        /// journal/damaged-DATE. What was accepted after the damage is then not in the history.
        #[arg(long)]
        up_to_damage: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct MigrateArguments {
    /// Where the history is: embedded or foundationdb.
    #[arg(long, value_name = "STORE", value_parser = parse_backend)]
    pub(crate) from: Backend,
    /// Where it is to be.
    #[arg(long, value_name = "STORE", value_parser = parse_backend)]
    pub(crate) to: Backend,
    #[command(flatten)]
    pub(crate) folder: FolderArguments,
}

#[derive(clap::Args)]
pub(crate) struct CapacityArguments {
    /// Another value for an input, such as users=1e9; without it all have those of the plan. What is printed names all inputs.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) settings: Vec<String>,
    /// Place all users on the nodes and let nodes fail, 10 to 20 seconds for the planned 500 million.
    #[arg(long)]
    pub(crate) placement: bool,
    /// Print JSON, with numbers that are not rounded.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with plots into this file instead, which is replaced.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) html: Option<PathBuf>,
}

fn parse_setting(text: &str) -> Result<String, InputError> {
    Inputs::default().set(text).map(|()| text.to_owned())
}

pub(crate) fn parse_user(text: &str) -> Result<UserId, &'static str> {
    auth::parse_user(text).ok_or("a user id is a number from 1 on")
}

pub(crate) fn parse_log_format(text: &str) -> Result<Format, &'static str> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("the log is written as text or as json"),
    }
}

fn parse_slot(text: &str) -> Result<Slot, &'static str> {
    moves::parse_slot(text).ok_or("a slot is a number from 0 to 255")
}

fn parse_node(text: &str) -> Result<String, String> {
    check_name("the name of a node", text).map(|()| text.to_owned())
}

fn parse_backend(text: &str) -> Result<Backend, &'static str> {
    let all = [Backend::Embedded, Backend::FoundationDb];
    all.into_iter().find(|backend| backend.to_string() == text).ok_or("a store is embedded or foundationdb")
}

pub(crate) fn parse_device(text: &str) -> Result<DeviceId, &'static str> {
    auth::parse_device(text).ok_or("a device id is a number from 1 on")
}

/// Longest life of a token: ten years. Who wants longer, wants a new key.
pub(crate) const TTL_S_MAX: u64 = 3650 * 24 * 3600;

pub(crate) fn parse_ttl(text: &str) -> anyhow::Result<Duration> {
    let wrong = || anyhow!("a time is a number and a unit: 45s, 15m, 12h or 30d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = number.parse::<u64>().map_err(|_| wrong())?.saturating_mul(unit_s);
    if !(1..=TTL_S_MAX).contains(&seconds) {
        bail!("a token is good for 1s to 3650d");
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_one_number_and_one_unit() {
        for (text, seconds) in [("45s", 45), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("3650d", TTL_S_MAX)] {
            assert_eq!(parse_ttl(text).unwrap(), Duration::from_secs(seconds));
        }
        for text in ["", "d", "30", "0d", "-1d", "+1d", "1.5h", "1 d", "30D", "3651d", "99999999999999999999d", "1é"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn user_zero_is_no_user() {
        assert!(parse_user("0").is_err());
        assert_eq!(parse_user("7"), Ok(UserId(7)));
    }
}
