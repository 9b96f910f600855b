//! The `ringpost` binary: reads the command line, opens what the server needs, starts it, and stops it on a signal.

use std::{
    cell::Cell,
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs, future,
    io::{self, BufWriter, ErrorKind, IsTerminal as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, bail};
use clap::{CommandFactory as _, Parser, Subcommand};
use proto_spec::{DeviceId, TimestampMs, UserId};
use server::{
    admin::{self, Readiness},
    audit::{Audit, AuditLog, Event, What},
    auth::{self, Mint},
    backend::{UseStore, forget_tenure, with_history},
    certificate::{self, Tickets},
    config::{Ack, AdminListen, Backend, Config, ConfigError, Problem},
    credentials::{Credentials, CredentialsError, key_path},
    datadir::{self, DataDir, DataDirError},
    io::{DatabaseConfig, Node, NodeConfig, StartError},
    journal_command::{self, Action, List, OnDamage, Text, WAY_ON},
    keyfile::{self, KeyFileError},
    limits::UNCOMMITTED_BYTES_MAX,
    logging::{self, LoggingError},
    metrics,
    migrate_command::{self, Direction, Terminal},
    operator::{self, Operator, Wish},
    process::{Usage, exit_at_once},
    revocation::{Revocations, Subject},
    revocation_file::RevocationFile,
    shard::{Promise, Settings},
    tenure::TENURE_FILE,
    utc::wall_now,
};
use storage::{
    IngestError, Store,
    journal::{JournalConfig, JournalError, Recovered, format::SegmentHeaderError, recover},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The Ringpost messenger server. Without arguments it serves with the defaults.
#[derive(Parser)]
#[command(name = "ringpost", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until a signal comes.
    Serve(ServeArguments),
    /// Mint a token for a user and print it.
    Token(TokenArguments),
    /// Make all tokens void that a user, or one device, has by now. Connections end at once; newer tokens are good.
    Revoke(RevokeArguments),
    /// Print which revocations are in force.
    Revocations(FolderArguments),
    /// Look at the journal of a stopped server, check it, save it, bring it into the store.
    Journal(JournalArguments),
    /// Move the history of a stopped server from one store to another.
    Migrate(MigrateArguments),
}

#[derive(clap::Args, Default)]
struct ServeArguments {
    /// Configuration file; server/ringpost.example.toml has every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, print it with all defaults, and start nothing.
    #[arg(long)]
    check_config: bool,
    /// Threads that serve, one per core; 0: as many as the machine has.
    #[arg(long, value_name = "N")]
    cores: Option<u16>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Data folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Serve TLS with a certificate for this machine's names that the server makes itself, once, in its data folder.
    #[arg(long)]
    tls_self_signed: bool,
}

#[derive(clap::Args)]
struct TokenArguments {
    /// User id: a number from 1 on.
    #[arg(long, value_name = "ID", value_parser = parse_user)]
    user: UserId,
    /// The only device that the token is good for. Without it: all of the user's.
    #[arg(long, value_name = "ID", value_parser = parse_device)]
    device: Option<DeviceId>,
    /// How long the token is good: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", value_parser = parse_ttl, default_value = "30d")]
    ttl: Duration,
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
struct FolderArguments {
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
struct RevokeArguments {
    /// Whose tokens.
    #[arg(long, value_name = "ID", value_parser = parse_user)]
    user: UserId,
    /// Those of this device only.
    #[arg(long, value_name = "ID", value_parser = parse_device)]
    device: Option<DeviceId>,
    /// Take a revocation back: tokens that were void are good again.
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    folder: FolderArguments,
}

#[derive(clap::Args)]
struct JournalArguments {
    #[command(subcommand)]
    action: JournalAction,
    /// Data folder of the server.
    #[arg(long, value_name = "FOLDER", global = true)]
    data: Option<PathBuf>,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum JournalAction {
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
struct MigrateArguments {
    /// Where the history is: embedded or foundationdb.
    #[arg(long, value_name = "STORE", value_parser = parse_backend)]
    from: Backend,
    /// Where it is to be.
    #[arg(long, value_name = "STORE", value_parser = parse_backend)]
    to: Backend,
    #[command(flatten)]
    folder: FolderArguments,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        None => serve(&ServeArguments::default()),
        Some(Command::Serve(arguments)) => serve(&arguments),
        Some(Command::Token(arguments)) => token(&arguments),
        Some(Command::Revoke(arguments)) => {
            let RevokeArguments { user, device, lift, folder } = arguments;
            let subject = Subject { user, device };
            revocations(&folder, if lift { Wish::Lift(subject) } else { Wish::Revoke(subject) })
        }
        Some(Command::Revocations(folder)) => revocations(&folder, Wish::List),
        Some(Command::Journal(arguments)) => journal(arguments),
        Some(Command::Migrate(arguments)) => migrate(&arguments),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    for line in format!("{error:#}").lines() {
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "ringpost: {line}");
    }
    ExitCode::from(if error.is::<ConfigError>() || error.is::<LoggingError>() { 2 } else { 1 })
}

fn serve(arguments: &ServeArguments) -> anyhow::Result<()> {
    let mut config = load_config(arguments.config.as_deref(), arguments.data.as_deref())?;
    config.cores = arguments.cores.unwrap_or(config.cores);
    config.listen = arguments.listen.unwrap_or(config.listen);
    if arguments.tls_self_signed {
        if let Some((file, _)) = config.tls.files() {
            let allowed = "must be \"\" with --tls-self-signed, which makes another certificate".to_owned();
            let problem = Problem { key: "tls.cert_file", value: file.display().to_string(), allowed };
            return Err(ConfigError::Invalid(vec![problem]).into());
        }
        (config.tls.cert_file, config.tls.key_file) = datadir::tls_paths(&config.data_dir);
    }
    config.validate()?;
    if arguments.check_config {
        return print(&toml::to_string(&config)?);
    }
    logging::init()?;
    let data = DataDir::open(&config.data_dir)?;
    if config.auth.key_file().is_none() {
        keyfile::create_if_missing(&key_path(&config))?;
    }
    if arguments.tls_self_signed {
        certificate::create_if_missing(&config.tls.cert_file, &config.tls.key_file, &own_names())?;
    }
    let tickets = Tickets::new()?;
    let credentials = Credentials::load(&config, &tickets)?;

    let admin = match config.admin_listen {
        AdminListen::Off => None,
        AdminListen::At(address) => Some(bind("admin_listen", address)?),
    };
    let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    let log = open_audit_log(&config, &data)?;
    let audit = log.audit();
    let revocations = RevocationFile::open(&data.revocations())?;
    let node = start_node(&config, &data, credentials, revocations.revocations().clone(), audit.clone())?;
    // Not every file system takes sockets, and everything else works without.
    let socket = operator::listen(data.path());
    let socket = socket.inspect_err(
        |error| tracing::error!(%error, "no admin.sock: `ringpost revoke` works while this server is stopped"),
    );
    audit.report(Event::new(wall_now(), What::Start));
    let operator = Operator::new(revocations, node.controls(), audit.clone());
    let operator = async {
        match socket {
            Ok(socket) => operator.serve(socket).await,
            Err(_) => future::pending().await,
        }
    };
    let addresses = Addresses { listen: node.address(), tls: node.tls_address()?, admin: admin_address };
    // A server whose stdout is gone serves all the same.
    let _ = print(&greeting(&config, &data, addresses, arguments));
    let load = || Credentials::load(&config, &tickets);
    runtime.block_on(attend(load, node, signals, admin, operator, log))
}

/// What a client on this machine, or beside it, may call it.
fn own_names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    if host.starts_with(|c: char| c.is_ascii_alphanumeric()) && !names.contains(&host) {
        names.push(host);
    }
    names
}

fn token(arguments: &TokenArguments) -> anyhow::Result<()> {
    let config = load_config(arguments.config.as_deref(), arguments.data.as_deref())?;
    let key = keyfile::load_signing_key(&key_path(&config)).map_err(|error| match error {
        KeyFileError::NotFound { .. } if config.auth.key_file().is_none() => {
            anyhow!("{error}: start the server once, which makes one, or name its data folder with --data")
        }
        error => error.into(),
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
    print(&format!("{}\n", auth::mint_with(&key, &what, now)?))
}

/// Asks the server that runs, or does it in the files of one that does not.
fn revocations(folder: &FolderArguments, wish: Wish) -> anyhow::Result<()> {
    let config = load_config(folder.config.as_deref(), folder.data.as_deref())?;
    let answer = match DataDir::open_existing(&config.data_dir) {
        Ok(data) => {
            let log = match wish {
                Wish::List => AuditLog::default(),
                Wish::Revoke(_) | Wish::Lift(_) => open_audit_log(&config, &data)?,
            };
            // Of the process itself: that of this one.
            let uid = fs::metadata("/proc/self")?.uid();
            operator::act_alone(&data.revocations(), wish, &log.audit(), uid)?
        }
        Err(error @ DataDirError::InUse { .. }) => match operator::ask(&config.data_dir, wish) {
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

fn open_audit_log(config: &Config, data: &DataDir) -> anyhow::Result<AuditLog> {
    let path = data.audit_log();
    match config.audit.enabled {
        true => AuditLog::open(&path).with_context(|| format!("{}", path.display())),
        false => Ok(AuditLog::default()),
    }
}

fn journal(arguments: JournalArguments) -> anyhow::Result<()> {
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
    Ok(journal_command::run(&action, &config, SystemTime::now(), &mut out)?)
}

fn migrate(arguments: &MigrateArguments) -> anyhow::Result<()> {
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
            migrate_command::run(direction, &config, &stopped, terminal, &mut progress, &mut out)
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

fn load_config(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Config, ConfigError> {
    let mut config = file.map_or_else(|| Ok(Config::default()), Config::load)?;
    if let Some(data_dir) = data_dir {
        config.data_dir = data_dir.to_owned();
    }
    Ok(config)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("stdout")
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("{key} = {address}"))
}

/// The node that a configuration describes.
fn start_node(
    config: &Config,
    data: &DataDir,
    credentials: Credentials,
    revocations: Revocations,
    audit: Audit,
) -> anyhow::Result<Node> {
    let in_data = || format!("{}", data.path().display());
    // Read first: if the journal is damaged, the store has not been touched.
    let found = recover(&data.journal()).map_err(|error| match error {
        JournalError::Io { .. } | JournalError::Header { reason: SegmentHeaderError::Newer { .. }, .. } => error.into(),
        JournalError::Damaged { .. } | JournalError::Header { .. } => anyhow!("{error}; {WAY_ON}"),
    });
    let found = found.with_context(in_data)?;
    if config.store.backend == Backend::Embedded && found.batches == 0 {
        forget_tenure(data)?;
    }
    let mut journal = JournalConfig {
        segment_bytes: config.journal.segment_bytes,
        journal_bytes_max: config.journal.bytes_max,
        // Each message under way becomes a record of its sender and one of its recipient.
        reserve_bytes: 2 * u64::from(config.cores()) * UNCOMMITTED_BYTES_MAX as u64,
    };
    // On many cores with small segments: what is in flight beyond it is written again when there is room.
    journal.reserve_bytes = journal.reserve_bytes.min(journal.segment_room());
    journal.validate()?;
    let database = &config.store.foundationdb;
    let node = NodeConfig {
        listen: config.listen,
        tls: config.tls_listen(),
        cores: config.cores(),
        connections_max: config.connections.max,
        handshake_timeout_ms: config.connections.handshake_timeout_ms,
        origins: config.limits.of_origins(),
        settings: Settings {
            ping_after_ms: config.connections.ping_after_ms,
            idle_timeout_ms: config.connections.idle_timeout_ms,
            expiry_warning_ms: 1_000 * config.auth.expiry_warning_s,
            token_leeway_ms: 1_000 * config.auth.leeway_s,
            promise: match (config.store.backend, database.ack) {
                (Backend::Embedded, _) => Promise::Disk,
                (Backend::FoundationDb, Ack::Committed) => Promise::Store,
                (Backend::FoundationDb, Ack::Journal) => Promise::Journal,
            },
            limits: config.limits.of_shards(),
        },
        journal_dir: data.journal(),
        journal,
        seal_after_ms: config.seal_after_ms(),
        tenure_file: data.path().join(TENURE_FILE),
        database: DatabaseConfig {
            lanes: database.lanes,
            slow_after_ms: database.slow_after_ms,
            reads_max: database.reads_max.into(),
        },
        on_store_outage: config.journal.on_store_outage,
        revocations,
        audit,
    };
    let started = with_history(config, data, StartNode { config: &node, found, credentials }).with_context(in_data)?;
    started.map_err(|error| match error {
        error @ StartError::Ingest(IngestError::Batch { .. }) => anyhow!("{error}; {WAY_ON}").context(in_data()),
        error @ (StartError::Journal(_) | StartError::Ingest(_) | StartError::Store(_) | StartError::TakeOver(_)) => {
            anyhow::Error::from(error).context(in_data())
        }
        error => error.into(),
    })
}

/// A node that starts on whatever store.
struct StartNode<'a> {
    config: &'a NodeConfig,
    found: Recovered,
    credentials: Credentials,
}

impl UseStore for StartNode<'_> {
    type Output = Result<Node, StartError>;

    fn with<S: Store>(self, store: S) -> Self::Output {
        Node::start(self.config, self.found, Arc::new(store), self.credentials)
    }
}

/// What is left for the main thread: the admin endpoint, and the signals. A hangup has the credentials read again; of the others
/// the first one stops the node gracefully, the second one ends the process at once. So does a store that another server has taken.
async fn attend(
    load: impl Fn() -> Result<Credentials, CredentialsError>,
    node: Node,
    Signals { mut hangup, mut ending }: Signals,
    admin: Option<TcpListener>,
    operator: impl Future<Output = io::Result<()>>,
    log: AuditLog,
) -> anyhow::Result<()> {
    let (counters, directory, controls) = (node.counters(), node.directory(), node.controls());
    let audit = log.audit();
    let readiness = Cell::new(Readiness::Ready);
    let serve_admin = async {
        match admin {
            Some(listener) => {
                let metrics = || metrics::text(&counters, audit.counters(), directory.len(), Usage::own());
                admin::serve(listener, metrics, || readiness.get()).await
            }
            None => future::pending().await,
        }
    };
    let stop = async {
        tokio::select! {
            signal = ending.next() => tracing::info!(signal, "stopping; a second signal exits at once"),
            // It has said so, and stops by itself.
            _ = controls.lost() => {}
        }
        let lost = node.lost().map(str::to_owned);
        readiness.set(Readiness::NotReady("stopping"));
        let audit = log.audit();
        let joined = tokio::task::spawn_blocking(move || {
            node.stop();
            node.join();
            audit.report(Event::new(wall_now(), What::Stop));
            drop(log);
        });
        tokio::select! {
            joined = joined => match (joined.context("the node"), lost) {
                (Ok(()), Some(why)) => Err(anyhow!("stopped: {why}")),
                (joined, _) => joined,
            },
            signal = ending.next() => {
                tracing::warn!(signal, "exiting at once");
                // The status of a process that was ended by SIGINT, as shells report it.
                exit_at_once(130)
            }
        }
    };
    let reload = async {
        while hangup.recv().await.is_some() {
            let event = match load() {
                Ok(credentials) => {
                    controls.replace(credentials);
                    tracing::info!("keys and certificate have been read again");
                    Event::new(wall_now(), What::Reloaded)
                }
                Err(error) => {
                    tracing::error!(%error, "keys and certificate stay as they were");
                    Event { reason: Some(error.to_string()), ..Event::new(wall_now(), What::ReloadFailed) }
                }
            };
            let audit = audit.clone();
            // It may have to wait for room, and a second signal must be heard meanwhile.
            let reported = tokio::task::spawn_blocking(move || {
                audit.reopen();
                audit.report(event);
            });
            let _ = reported.await;
        }
        future::pending().await
    };
    tokio::select! {
        served = serve_admin => served.context("admin_listen"),
        served = operator => served.context("admin.sock"),
        stopped = stop => stopped,
        () = reload => Ok(()),
    }
}

/// What a server is told. From [`Signals::listen`] on they no longer end the process by themselves.
struct Signals {
    hangup: Signal,
    ending: Ending,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, ending: Ending::listen()? })
    }
}

/// The signals that end a process.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Where the server really listens: differs from the configuration where that has port 0.
struct Addresses {
    listen: SocketAddr,
    tls: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// What a newcomer must know, with commands that work as they are printed, in any folder.
fn greeting(config: &Config, data: &DataDir, addresses: Addresses, arguments: &ServeArguments) -> String {
    let Addresses { listen, tls, admin } = addresses;
    let config_file = arguments.config.as_deref();
    let mut text = String::new();
    // Writing to a String can not fail.
    let mut line = |name: &str, value: &str| _ = writeln!(text, "{name:<9}{value}");
    line("Ringpost", &format!("{} serves on {listen}, cores: {}", env!("CARGO_PKG_VERSION"), config.cores()));
    match tls {
        Some(tls) if tls == listen => line("", "with TLS 1.3, and nothing else"),
        Some(tls) => line("", &format!("and with TLS 1.3 on {tls}")),
        None => {}
    }
    line("data", &data.path().display().to_string());
    if let Some(admin) = admin {
        line("metrics", &format!("http://{admin}/metrics (also /health, /ready)"));
    }
    if keyfile::load_signing_key(&key_path(config)).is_ok() {
        let own = command_of("ringpost");
        let source = match (config.auth.key_file(), config_file) {
            (Some(_), Some(file)) => format!("--config {}", quoted(std::path::absolute(file).unwrap_or(file.into()))),
            _ => format!("--data {}", quoted(data.path())),
        };
        line("tokens", &format!("{own} token --user 7 {source} > t7"));
        line("", &format!("{own} token --user 8 {source} > t8"));
    } else {
        line("tokens", "minted elsewhere: the key here is a public one");
    }
    let chat = chat_command();
    let at = tls.unwrap_or(listen);
    let mut server = if at == Config::default().listen { String::new() } else { format!(" --server {at}") };
    if arguments.tls_self_signed {
        server += &format!(" --tls-ca {}", quoted(datadir::tls_paths(data.path()).0));
        if !own_names().contains(&at.ip().to_string()) {
            server += " --tls-name localhost";
        }
    } else if tls.is_some() {
        server += " --tls --tls-name localhost";
    }
    line("chat", &format!("{chat} --token-file t7 --to 8{server}"));
    line("", &format!("{chat} --token-file t8 --to 7{server}   (in another terminal)"));
    if tls.is_some() && !arguments.tls_self_signed {
        line("", "where `localhost` stands for a name of the certificate");
    }
    line("stop", "Ctrl-C or SIGTERM; a second one exits at once");
    text
}

/// How to call the program of this name that lies beside this one: by its name if the shell finds that very file.
fn command_of(name: &str) -> String {
    let Ok(beside) = env::current_exe().map(|own| own.with_file_name(name)) else { return name.to_owned() };
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if Some(found.as_path()) == beside.canonicalize().ok().as_deref() => name.to_owned(),
        _ => quoted(&beside),
    }
}

fn chat_command() -> String {
    const CHAT: &str = "ringpost-chat";
    let is_beside = env::current_exe().is_ok_and(|own| own.with_file_name(CHAT).is_file());
    if is_beside {
        return command_of(CHAT);
    }
    // `cargo run` has built this program alone.
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(package) => {
            let workspace = Path::new(&package).with_file_name("Cargo.toml");
            let profile = if cfg!(debug_assertions) { "" } else { " --release" };
            format!("cargo run{profile} -q --manifest-path {} -p client --bin {CHAT} --", quoted(&workspace))
        }
        None => CHAT.to_owned(),
    }
}

/// As one word for a shell.
fn quoted(path: impl AsRef<OsStr>) -> String {
    let text = path.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn parse_user(text: &str) -> Result<UserId, &'static str> {
    auth::parse_user(text).ok_or("a user id is a number from 1 on")
}

fn parse_backend(text: &str) -> Result<Backend, &'static str> {
    let all = [Backend::Embedded, Backend::FoundationDb];
    all.into_iter().find(|backend| backend.to_string() == text).ok_or("a store is embedded or foundationdb")
}

fn parse_device(text: &str) -> Result<DeviceId, &'static str> {
    auth::parse_device(text).ok_or("a device id is a number from 1 on")
}

/// Longest life of a token: ten years. Who wants longer, wants a new key.
const TTL_S_MAX: u64 = 3650 * 24 * 3600;

fn parse_ttl(text: &str) -> anyhow::Result<Duration> {
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

    #[test]
    fn the_printed_chat_command_names_the_package_that_has_the_program() {
        // Beside this test's program lies no chat: it is run by cargo, from whatever folder.
        let command = chat_command();
        assert!(command.contains(" -p client --bin ringpost-chat --"), "{command}");
        let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"client\"") && manifest.contains("name = \"ringpost-chat\""));
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("/a b/c"), "'/a b/c'");
        assert_eq!(quoted("/it's"), r"'/it'\''s'");
    }
}
