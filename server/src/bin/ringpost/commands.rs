//! The commands that do their work and exit: tokens, revocations, who owns what, the journal, migrations, capacity.

use std::{
    fs,
    io::{self, BufWriter, ErrorKind, IsTerminal as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, bail};
use capacity::{inputs::Inputs, page::page, show, simulation::simulate};
use clap::CommandFactory as _;
use proto_spec::{GroupId, Seq, TimestampMs};
use rim::{process::exit_at_once, utc::utc};
use server::{
    access::auth::{self, Mint},
    cluster::steward,
    commands::{
        journal::{self, Action, List, OnDamage, Text},
        migrate::{self, Direction, Terminal},
    },
    config::Config,
    files::{
        credentials::{key_path, lost_key},
        datadir::{DataDir, DataDirError, is_used, token_key_path},
        keyfile::{self, KeyFileError},
        permission::check_owner,
        token_file,
    },
    operator::{
        audit::AuditLog,
        control::{self, Wish},
        moves::{self, DRAIN_LOOK, DRAIN_LOOKS_UNTOLD_MAX, Left},
        shell::quoted,
        survey::{Form, Part},
        web_link,
    },
    shard::{DevicesWish, PushQuestion},
};

use crate::{
    arguments::{
        Arguments, CapacityArguments, DevicesAction, DevicesArguments, DrainArguments, FolderArguments, JournalAction,
        JournalArguments, MigrateArguments, MoveArguments, PushAction, PushArguments, SurveyArguments, TokenArguments,
    },
    load_config, open_audit_log, print,
    signals::Ending,
};

pub(crate) fn token(arguments: &TokenArguments) -> anyhow::Result<()> {
    let config = load_config(arguments.config.as_deref(), arguments.data.as_deref())?;
    // The key is judged for the user of this process, which must be the server's.
    check_owner(&config.data_dir)?;
    let key = keyfile::load_signing_key(&key_path(&config)).map_err(|error| match error {
        KeyFileError::NotFound { .. } if config.auth.key_file().is_none() && !is_used(&config.data_dir) => {
            anyhow!("{error}: start the server once, which makes one, or name its data folder with --data")
        }
        error => lost_key(&config, error).into(),
    })?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
    let now = TimestampMs(u64::try_from(since_1970.as_millis())?);
    let what = Mint {
        user: arguments.user,
        device: arguments.device,
        ttl: arguments.ttl,
        audience: config.auth.audience(),
        issuer: config.auth.issuer(),
    };
    let token = auth::mint_with(&key, &what, now)?;
    if let Some(page) = &arguments.web {
        let link = web_link::link(page, &token);
        let code = if io::stdout().is_terminal() {
            web_link::code(&link).context("the link is too long for a code")?
        } else {
            String::new()
        };
        return print(&format!("{link}\n{code}"));
    }
    let Some(file) = &arguments.out else { return print(&format!("{token}\n")) };
    token_file::write(file, &token, own_user()?)?;
    let until = utc(now.0 / 1_000 + arguments.ttl.as_secs(), ':');
    print(&format!("{}: a token for user {}, good until {until}Z\n", file.display(), arguments.user))
}

/// Whose this process is.
fn own_user() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

/// Makes another key for a data folder that has lost its own. A start does not: nobody would know why all tokens have become void.
pub(crate) fn new_key(folder: &FolderArguments) -> anyhow::Result<()> {
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    if let Some(file) = config.auth.key_file() {
        let make = format!("openssl genpkey -algorithm ed25519 -out {}", quoted(file));
        bail!(
            "the key is not that of the data folder: auth.key_file names {}. If that one is gone: {make}",
            file.display()
        );
    }
    let data = DataDir::open_existing(&config.data_dir)?;
    let path = token_key_path(data.path());
    if path.exists() {
        bail!(
            "{path}: there is a key. Move it away first; every token that it has signed is then void",
            path = path.display()
        );
    }
    keyfile::create_if_missing(&path)?;
    print(&format!("{}: a new key. Tokens of the one before are void\n", path.display()))
}

/// Asks the server that runs, or does it in the files of one that does not.
pub(crate) fn revocations(folder: &FolderArguments, wish: Wish) -> anyhow::Result<()> {
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    let answer = match DataDir::open_existing(&config.data_dir) {
        Ok(data) => {
            let log = match wish {
                Wish::List => AuditLog::default(),
                Wish::Revoke(_) | Wish::Lift(_) => open_audit_log(&config, &data)?,
            };
            let do_move = config.cluster.name().is_some();
            control::act_alone(&data.revocations(), wish, do_move, &log.audit(), own_user()?)?
        }
        Err(error @ DataDirError::InUse { .. }) => match control::ask(&config.data_dir, wish) {
            Err(no_socket) if matches!(no_socket.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                bail!(
                    "{error}; it is no server that listens on admin.sock there, or one that is just starting: try again"
                )
            }
            answer => answer?,
        },
        Err(error) => return Err(error.into()),
    };
    print(&answer)
}

/// Asks the server that runs: what was decided is known to the user's core.
pub(crate) fn push(arguments: &PushArguments) -> anyhow::Result<()> {
    let PushAction::Why { user, group, seq } = arguments.action;
    let about = PushQuestion { user, group: group.map(GroupId), seq: Seq(seq) };
    let config = load_config(arguments.config.as_deref(), arguments.data.as_deref())?;
    print(&ask_running(&config, |data_dir| control::ask_why(data_dir, about))?)
}

/// Asks the server that runs: what devices a user has is known to the user's core.
pub(crate) fn devices(arguments: &DevicesArguments) -> anyhow::Result<()> {
    let (user, wish) = match arguments.action {
        DevicesAction::List { user } => (user, DevicesWish::List),
        DevicesAction::Remove { user, device } => (user, DevicesWish::Remove(device)),
    };
    let config = load_config(arguments.config.as_deref(), arguments.data.as_deref())?;
    print(&ask_running(&config, |data_dir| control::ask_devices(data_dir, user, wish))?)
}

/// Asks the server that runs what it knows of its cluster.
pub(crate) fn survey(SurveyArguments { json, folder }: &SurveyArguments, part: Part) -> anyhow::Result<()> {
    let form = if *json { Form::Json } else { Form::Text };
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    print(&ask_running(&config, |data_dir| control::ask_survey(data_dir, part, form))?)
}

/// Has a node give away what it owns, or take its share again.
pub(crate) fn drain(DrainArguments { node, undo, wait, folder }: &DrainArguments) -> anyhow::Result<()> {
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    print(&ask_running(&config, |data_dir| control::ask_move(data_dir, &steward::Wish::Leave(node.clone(), !undo)))?)?;
    if !*wait {
        return Ok(());
    }
    let mut untold = 0;
    loop {
        let told = ask_running(&config, |data_dir| control::ask_survey(data_dir, Part::Nodes, Form::Json))?;
        let Left { slots, is_leaving } = moves::left(&told, node).map_err(anyhow::Error::msg)?;
        if slots == 0 {
            return print(&format!("node {node} owns nothing any more\n"));
        }
        // At first the node that is asked may not have heard of it.
        untold = if is_leaving { DRAIN_LOOKS_UNTOLD_MAX } else { untold + 1 };
        if untold > DRAIN_LOOKS_UNTOLD_MAX {
            bail!(
                "node {node} still owns {slots} slots and stays: it was started again, or somebody has undone the drain"
            );
        }
        thread::sleep(DRAIN_LOOK);
    }
}

/// Gives a slot to a node, or lets it go where the map has it.
pub(crate) fn move_slot(MoveArguments { slot, node, folder, .. }: MoveArguments) -> anyhow::Result<()> {
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    print(&ask_running(&config, |data_dir| control::ask_move(data_dir, &steward::Wish::Pin(slot, node)))?)
}

/// What the server that runs answers.
fn ask_running(config: &Config, ask: impl FnOnce(&Path) -> io::Result<String>) -> anyhow::Result<String> {
    let data_dir = &config.data_dir;
    check_owner(data_dir)?;
    ask(data_dir).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "{}: no server runs on this data folder: start it, or name another folder with --data",
            data_dir.display()
        ),
        _ => error.into(),
    })
}

pub(crate) fn journal(arguments: JournalArguments) -> anyhow::Result<()> {
    let config = load_config(arguments.config.as_deref(), arguments.data.as_deref())?;
    let action = match arguments.action {
        JournalAction::Status => Action::Status,
        JournalAction::List { user, limit, text } => {
            let text = if text { Text::Shown } else { Text::Hidden };
            Action::List(List { user, records_max: limit, text })
        }
        JournalAction::Verify => Action::Verify,
        JournalAction::Export { file } => Action::Export(file),
        JournalAction::Replay { up_to_damage: false } => Action::Replay(OnDamage::Refuse),
        JournalAction::Replay { up_to_damage: true } => Action::Replay(OnDamage::SetAside),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    Ok(journal::run(&action, &config, SystemTime::now(), &mut out)?)
}

pub(crate) fn migrate(arguments: &MigrateArguments) -> anyhow::Result<()> {
    let MigrateArguments { from, to, folder } = arguments;
    let Some(direction) = Direction::between(*from, *to) else {
        let same = format!("--from and --to name the same store, {to}");
        Arguments::command().error(clap::error::ErrorKind::ValueValidation, same).exit()
    };
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    config.validate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ending = Ending::listen()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut moving = tokio::task::spawn_blocking(move || {
            let terminal = if io::stderr().is_terminal() { Terminal::Bar } else { Terminal::Lines };
            let (mut progress, mut out) = (io::stderr(), io::stdout());
            migrate::run(direction, &config, &stopped, terminal, &mut progress, &mut out)
        });
        let signal = tokio::select! {
            moved = &mut moving => return Ok(moved.context("the migration")??),
            signal = ending.next() => signal,
        };
        stop.store(true, Ordering::Relaxed);
        let _ = writeln!(io::stderr(), "\n{signal}: stopping when this run is done; a second signal exits at once");
        tokio::select! {
            moved = moving => Ok(moved.context("the migration")??),
            _ = ending.next() => exit_at_once(130),
        }
    })
}

pub(crate) fn capacity(arguments: &CapacityArguments) -> anyhow::Result<()> {
    let mut inputs = Inputs::default();
    arguments.settings.iter().try_for_each(|setting| inputs.set(setting))?;
    let found = arguments.placement.then(|| simulate(&inputs)).transpose()?;
    if let Some(file) = &arguments.html {
        fs::write(file, page(&inputs, found.as_ref())).with_context(|| file.display().to_string())?;
        return print(&format!("{}: a page with plots\n", file.display()));
    }
    if arguments.json {
        return print(&format!("{}\n", show::json(&inputs, found.as_ref())));
    }
    print(&found.map_or_else(|| show::model(&inputs), |found| show::simulation(&found)))
}
