//! The `ringpost` binary: reads the command line, and does what it says.
//!
//! What a command prints is written with errors that are looked at: `println!` and `eprintln!` panic when nobody takes it.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod commands;
mod greeting;
mod push_service;
mod serve;
mod signals;
mod start;
mod status;

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use server::{
    access::revocation::Subject,
    commands::preflight::Refused,
    config::{Config, ConfigError, Draft},
    files::datadir::DataDir,
    host::memory,
    operator::{
        audit::AuditLog,
        control::Wish,
        logging::{self, LoggingError},
        shell::completed,
        survey::Part,
    },
};

use crate::arguments::{Arguments, Command, RevokeArguments, ServeArguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = arguments.told();
    let done = match arguments.command {
        None => serve::serve(&ServeArguments::default()),
        Some(Command::Serve(arguments)) => serve::serve(&arguments),
        Some(Command::Chat(arguments)) => return chat::run(&arguments),
        Some(Command::Token(arguments)) => commands::token(&arguments),
        Some(Command::Revoke(arguments)) => {
            let RevokeArguments { user, device, lift, folder } = arguments;
            let subject = Subject { user, device };
            commands::revocations(&folder, if lift { Wish::Lift(subject) } else { Wish::Revoke(subject) })
        }
        Some(Command::Devices(arguments)) => commands::devices(&arguments),
        Some(Command::Push(arguments)) => commands::push(&arguments),
        Some(Command::PushService(arguments)) => push_service::push_service(&arguments),
        Some(Command::Nodes(arguments)) => commands::survey(&arguments, Part::Nodes),
        Some(Command::Map(arguments)) => commands::survey(&arguments, Part::Map),
        Some(Command::Drain(arguments)) => commands::drain(&arguments),
        Some(Command::Move(arguments)) => commands::move_slot(arguments),
        Some(Command::Revocations(folder)) => commands::revocations(&folder, Wish::List),
        Some(Command::NewKey(folder)) => commands::new_key(&folder),
        Some(Command::Journal(arguments)) => commands::journal(arguments),
        Some(Command::Migrate(arguments)) => commands::migrate(&arguments),
        Some(Command::Capacity(arguments)) => commands::capacity(&arguments),
    };
    let status = match done {
        Ok(()) => 0,
        Err(error) => {
            logging::fail(&completed(&format!("{error:#}"), &told));
            if error.is::<ConfigError>() || error.is::<LoggingError>() || error.is::<Refused>() { 2 } else { 1 }
        }
    };
    logging::flush();
    ExitCode::from(status)
}

/// The configuration of a server, for a command that needs some of it.
pub(crate) fn load_config(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Config, ConfigError> {
    let mut draft = file.map_or_else(|| Ok(Draft::default()), Draft::load)?;
    if let Some(data_dir) = data_dir {
        draft.set("--data", "data_dir", data_dir.as_os_str());
    }
    if let Some(memory) = memory::available() {
        draft.fit(memory.bytes);
    }
    draft.values()
}

pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("stdout")
}

pub(crate) fn open_audit_log(config: &Config, data: &DataDir) -> anyhow::Result<AuditLog> {
    let path = data.audit_log();
    match config.audit.enabled {
        true => AuditLog::open(&path).with_context(|| format!("{}", path.display())),
        false => Ok(AuditLog::default()),
    }
}
