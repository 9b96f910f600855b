//! `ringpost serve`: opens what the server needs, starts it, and stops it on a signal.

use std::{
    future,
    io::{self, ErrorKind, IsTerminal as _},
    net::TcpListener,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use rim::{allocator::map_large_blocks, process::exit_at_once, rlimit::raise_descriptor_limit, utc::wall_now};
use server::{
    access::validity::WARN_EVERY_S,
    commands::preflight::Findings,
    config::{AdminListen, Config, ConfigError, Draft, Transport},
    files::{
        certificate::{self, Tickets},
        credentials::{Credentials, CredentialsErrors, Loaded},
        datadir::DataDir,
        permission::check_owner,
        revocation_file::RevocationFile,
    },
    host::{capacity::Capacity, memory},
    io::Node,
    operator::{
        admin,
        audit::{AuditLog, Event, What},
        control::{self, Operator},
        counters::Counters,
        logging,
    },
};
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    arguments::ServeArguments,
    greeting::{Addresses, greeting, own_names},
    open_audit_log, print,
    signals::{Ending, Signals},
    start::start_node,
    status::Status,
};

pub(crate) fn serve(arguments: &ServeArguments) -> anyhow::Result<()> {
    map_large_blocks();
    // First, so that whatever keeps it from serving is said in the format that was asked for.
    if !arguments.check_config {
        logging::init(arguments.log_format)?;
    }
    let config = read_config(arguments)?;
    // Before any file is judged: it would be judged for the wrong user.
    check_owner(&config.data_dir)?;
    let findings = Findings::of(&config, wall_now());
    if arguments.check_config {
        return print(&format!("{}\n{}", config.to_toml(), findings.and_contents(&config).for_check()?));
    }
    // First of all: opening what is there may need more files than there may be.
    Capacity::new(config.connections.max, config.cores(), raise_descriptor_limit())?;
    // An error of a start, and not of the command line.
    let warnings = findings.for_start().map_err(|refused| anyhow!("{refused}"))?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let data = match config.auth.key_file() {
        Some(_) => DataDir::open(&config.data_dir)?,
        None => DataDir::open_with_key(&config.data_dir)?,
    };
    let data = Arc::new(data);
    if arguments.tls_self_signed {
        certificate::create_if_missing(&config.tls.cert_file, &config.tls.key_file, &own_names())?;
    }
    let tickets = Tickets::new()?;
    let Loaded { credentials, validity, .. } = Credentials::load(&config, &tickets)?;

    let admin = match config.admin_listen {
        AdminListen::Off => None,
        AdminListen::At(address) => Some(TcpListener::bind(address).map_err(|error| {
            anyhow!(
                "admin_listen = {address}: {error}; give another address with --admin-listen or in the configuration, auto for one \
                 that is free, or off"
            )
        })?),
        AdminListen::Auto => Some(bind_admin_anywhere(&config).context("admin_listen = auto")?),
    };
    let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let log = open_audit_log(&config, &data)?;
    let audit = log.audit();
    let counters = Arc::new(Counters::new(config.cores()));
    let status = Arc::new(Status::new(Arc::clone(&counters), audit.clone()));
    status.has_certificate(validity);
    if let Some(listener) = admin {
        let (metrics, readiness) = (Arc::clone(&status), Arc::clone(&status));
        admin::start(listener, move || metrics.metrics(), move || readiness.readiness()).context("admin_listen")?;
    }
    let revocations = RevocationFile::open(&data.revocations())?;
    if let Some(said) = control::of_times_to_come(revocations.revocations(), wall_now(), &arguments.told()) {
        tracing::warn!("{said}");
    }
    let (revoked, auditing) = (revocations.revocations().clone(), audit.clone());
    let start = || start_node(&config, &data, credentials, revoked, auditing, counters);
    let node = start_unless_told_to_end(&runtime, &mut signals.ending, start)?;
    status.serves(&node);
    if let Some(memory) = memory::available() {
        tracing::info!(
            memory = %memory,
            journal_bytes_max = config.journal.bytes_max,
            segment_bytes = config.journal.segment_bytes,
            cache_bytes = config.store.cache_bytes,
            core_memory_bytes = config.limits.core_memory_bytes,
            core_cache_bytes = config.cache.core_bytes_max,
            "bounds of what takes memory"
        );
    }
    // Not every file system takes sockets, and everything else works without.
    let socket = control::listen(data.path());
    let socket = socket.inspect_err(
        |error| tracing::error!(%error, "no admin.sock: `ringpost revoke` works while this server is stopped"),
    );
    audit.report(Event::new(wall_now(), What::Start));
    let metrics = Arc::clone(&status);
    let operator = Operator::new(revocations, node.controls(), audit.clone(), move || metrics.metrics());
    let operator = async {
        match socket {
            Ok(socket) => operator.serve(socket).await,
            Err(_) => future::pending().await,
        }
    };
    let addresses = Addresses {
        listen: node.address(),
        tls: node.tls_address()?,
        websocket: node.address_of(Transport::WebSocket)?,
        websocket_tls: node.address_of(Transport::WebSocketTls)?,
        admin: admin_address,
    };
    tracing::info!(
        listen = %addresses.listen,
        tls = addresses.tls.map(display),
        websocket = addresses.websocket.map(display),
        websocket_tls = addresses.websocket_tls.map(display),
        admin = addresses.admin.map(display),
        cores = config.cores(),
        data = %data.path().display(),
        pid = process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    // For people. Where a machine reads the log, it may read standard output into the same stream.
    if logging::is_text() || io::stdout().is_terminal() {
        let greeting = greeting(&config, &data, addresses, arguments);
        // On a thread of its own: a server whose standard output is gone, or not read, serves all the same.
        thread::Builder::new().name("ringpost-greeting".into()).spawn(move || _ = print(&greeting))?;
    }
    let load = || Credentials::load(&config, &tickets);
    runtime.block_on(attend(load, node, signals, &status, operator, log))
}

/// The configuration of a server: what its file and these flags say, all of it checked.
fn read_config(arguments: &ServeArguments) -> Result<Config, ConfigError> {
    let mut draft = arguments.config.as_deref().map_or_else(|| Ok(Draft::default()), Draft::load)?;
    for (flag, key, value) in [
        ("--cores", "cores", &arguments.cores),
        ("--listen", "listen", &arguments.listen),
        ("--websocket-listen", "websocket.listen", &arguments.websocket_listen),
        ("--websocket-tls-listen", "websocket.tls_listen", &arguments.websocket_tls_listen),
        ("--admin-listen", "admin_listen", &arguments.admin_listen),
        ("--data", "data_dir", &arguments.data),
    ] {
        if let Some(value) = value {
            draft.set(flag, key, value);
        }
    }
    if arguments.tls_self_signed {
        draft.make_certificate();
    }
    if let Some(memory) = memory::available() {
        draft.fit(memory.bytes);
    }
    draft.finish()
}

/// Starts the node on a thread of its own, while this one listens to signals: to bring a large journal into the store takes minutes.
fn start_unless_told_to_end(
    runtime: &Runtime,
    ending: &mut Ending,
    start: impl FnOnce() -> anyhow::Result<Node> + Send,
) -> anyhow::Result<Node> {
    let (tell, started) = oneshot::channel();
    thread::scope(|scope| {
        // Who listens is there as long as the thread.
        let start = move || _ = tell.send(start());
        thread::Builder::new().name("ringpost-start".into()).spawn_scoped(scope, start)?;
        runtime.block_on(async {
            tokio::select! {
                node = started => node.context("the start")?,
                signal = ending.next() => {
                    tracing::info!(reason = signal, "stopped while starting; the next start goes on with the journal");
                    logging::flush();
                    // At once, as a power cut would: nobody was served yet, and what is in the journal stays there until it is in the
                    // store.
                    exit_at_once(0)
                }
            }
        })
    })
}

/// At the usual address, or at a free port if another program has that one, or clients are to have it.
fn bind_admin_anywhere(config: &Config) -> io::Result<TcpListener> {
    let usual = AdminListen::USUAL;
    let is_for_clients = config.listeners().iter().any(|listen| listen.address == usual);
    match TcpListener::bind(usual) {
        Ok(listener) if !is_for_clients => Ok(listener),
        Err(error) if error.kind() != ErrorKind::AddrInUse => Err(error),
        _ => {
            let listener = TcpListener::bind((usual.ip(), 0))?;
            let admin = listener.local_addr()?;
            tracing::warn!(%admin, "metrics and health are not at {usual}, which is taken; --admin-listen gives them an address");
            Ok(listener)
        }
    }
}

/// What is left for the main thread: the operator, and the signals. A hangup has the credentials read again; of the others
/// the first one stops the node gracefully, the second one ends the process at once. So does a store that another server has taken.
async fn attend(
    load: impl Fn() -> Result<Loaded, CredentialsErrors>,
    node: Node,
    Signals { mut hangup, mut ending }: Signals,
    status: &Status,
    operator: impl Future<Output = io::Result<()>>,
    log: AuditLog,
) -> anyhow::Result<()> {
    let controls = node.controls();
    let audit = log.audit();
    let stop = async {
        let signal = tokio::select! {
            signal = ending.next() => {
                tracing::info!(signal, "stopping; a second signal exits at once");
                Some(signal)
            }
            // It has said so, and stops by itself.
            _ = controls.lost() => None,
        };
        let lost = node.lost().map(str::to_owned);
        status.stops();
        let audit = log.audit();
        let start = Instant::now();
        let joined = tokio::task::spawn_blocking(move || {
            node.stop();
            let waited_for = node.join();
            audit.report(Event::new(wall_now(), What::Stop));
            drop(log);
            waited_for
        });
        tokio::select! {
            joined = joined => match (joined.context("the node"), lost) {
                (Ok(_), Some(why)) => Err(anyhow!("stopped: {why}")),
                (Ok(waited_for), None) => {
                    let took_ms = start.elapsed().as_millis() as u64;
                    tracing::info!(reason = signal, took_ms, waited_for, "stopped");
                    Ok(())
                }
                (Err(error), _) => Err(error),
            },
            signal = ending.next() => {
                tracing::warn!(signal, "exiting at once");
                logging::flush();
                // The status of a process that was ended by SIGINT, as shells report it.
                exit_at_once(130)
            }
        }
    };
    let reload = async {
        while hangup.recv().await.is_some() {
            let event = match load() {
                Ok(loaded) => {
                    loaded.warnings(wall_now()).iter().for_each(|warning| tracing::warn!("{warning}"));
                    status.has_certificate(loaded.validity);
                    controls.replace(loaded.credentials);
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
    let every = Duration::from_secs(WARN_EVERY_S);
    let watch_certificate = status.watch_certificate(every, |notice| tracing::warn!("{notice}"));
    tokio::select! {
        served = operator => served.context("admin.sock"),
        stopped = stop => stopped,
        () = reload => Ok(()),
        () = watch_certificate => Ok(()),
    }
}
