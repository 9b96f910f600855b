//! Preflight: a look at everything that a start opens, before anything is made or changed. A start looks first, so that one that is
//! refused leaves nothing behind; `--check-config` only looks.
//!
//! A check looks at what is in a data folder, too: it reads the whole journal, but does not open the history, which only its engine can
//! read, and that writes. What a running server has is left alone.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use proto_spec::{Provider, TimestampMs};
use rim::rlimit::raise_descriptor_limit;
use socket2::{Domain, Socket, Type};
use storage::{embedded, journal::recover};
use thiserror::Error;

use crate::{
    cluster::{file::Identity, map::SLOTS, steward::Stewardship},
    commands::journal::unreadable,
    config::{AdminListen, Backend, Config},
    files::{
        certificate::Tickets,
        cluster_file,
        credentials::{Credentials, CredentialsError, key_path},
        datadir::{self, DataDir, Look},
        keyfile::KeyFileError,
        membership,
        push::{self, PushFileError, WEB_PUSH_KEY},
        revocation_file::RevocationFile,
    },
    host::capacity::Capacity,
    io::{ClusterConfig, Part},
    operator::audit,
};

/// What a look has found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What a start would do, a line each.
    plan: Vec<String>,
    /// What it would warn of.
    warnings: Vec<String>,
    /// Addresses for clients that somebody listens on now.
    occupied: Vec<String>,
    /// What was found of the data folder.
    folder: Option<Look>,
    /// What would stop a start at any time.
    wrong: Vec<String>,
}

/// Why a start would be refused, all of it.
#[derive(Debug, Error)]
#[error("{}", .0.join("\n"))]
pub struct Refused(Vec<String>);

impl Findings {
    /// Looks at what this configuration names.
    #[must_use]
    pub fn of(config: &Config, now: TimestampMs) -> Self {
        let mut findings = Self::default();
        findings.addresses(config);
        let is_refused = !findings.data_folder(config);
        findings.credentials(config, is_refused, now);
        findings.cluster(config);
        findings.push(config);
        findings
    }

    fn cluster(&mut self, config: &Config) {
        match cluster_file::load(config) {
            Ok(None) => {}
            Ok(Some(ClusterConfig { part: Part::Moving(Stewardship { cluster, node, .. }), listen, .. })) => {
                self.plan.push(format!(
                    "be node {} of the cluster {cluster}, which is in the database; other nodes connect at {listen}",
                    node.name
                ));
            }
            Ok(Some(ClusterConfig { part: Part::Fixed(Identity { nodes, own }), listen, .. })) => {
                let (node, cluster, all) = (&nodes.node(own).name, &nodes.name, nodes.nodes.len());
                let slots = nodes.map.owned(own);
                self.plan.push(format!(
                    "be node {node} of the cluster {cluster}, one of {all}, with {slots} of the {SLOTS} slots; other nodes connect at {listen}"
                ));
            }
            Err(error) => self.wrong.push(error.to_string()),
        }
    }

    fn push(&mut self, config: &Config) {
        let own_key = config.data_dir.join(WEB_PUSH_KEY);
        let by = match push::load(&config.push, &config.data_dir) {
            Ok(None) => return,
            Ok(Some(way)) => {
                let by: Vec<_> = push::providers(&way).into_iter().map(Provider::name).collect();
                let services = &config.push.services.urls;
                let through =
                    if services.is_empty() { String::new() } else { format!(" through {}", services.join(", ")) };
                by.join(", ") + &through
            }
            Err(PushFileError::File(KeyFileError::NotFound { path })) if path == own_key => {
                format!("the key {}, which it would make", path.display())
            }
            Err(error) => return self.wrong.push(error.to_string()),
        };
        self.plan.push(format!("notify people who are away by {by}"));
    }

    /// What a start warns of, if it may go on. Addresses that are occupied are left to it: it waits for them.
    ///
    /// # Errors
    /// Something would stop it.
    pub fn for_start(self) -> Result<Vec<String>, Refused> {
        let Self { warnings, folder, occupied, wrong, .. } = self;
        match folder {
            // Who has the folder is named when it is opened: that is the one thing to be told.
            Some(Look::InUse) => Ok(warnings),
            _ if !wrong.is_empty() => Err(Refused(wrong)),
            // Nobody who had this folder can be about to give the address up, and none is made for nothing.
            Some(Look::New) if !occupied.is_empty() => Err(Refused(occupied)),
            _ => Ok(warnings),
        }
    }

    /// What a start would do. What belongs to a server that runs now is no fault.
    ///
    /// # Errors
    /// Something would stop it.
    pub fn for_check(self) -> Result<String, Refused> {
        let Self { plan, warnings, occupied, folder, wrong } = self;
        if !wrong.is_empty() {
            return Err(Refused(wrong));
        }
        let lines = |head: &str, lines: &[String]| match lines {
            [] => String::new(),
            lines => format!("# {head}\n{}", lines.iter().map(|line| format!("#   {line}\n")).collect::<String>()),
        };
        Ok([
            lines("Nothing is wrong. A start would", &plan),
            lines("It would warn:", &warnings),
            lines("It could not begin now:", &occupied),
            match folder {
                Some(Look::InUse) => {
                    "# Nothing was made or changed. What is in the data folder was not looked at.\n".to_owned()
                }
                Some(Look::Used) => "# Nothing was made or changed. The history was not opened.\n".to_owned(),
                Some(Look::New) | None => "# Nothing was made or changed.\n".to_owned(),
            },
        ]
        .concat())
    }

    /// Looks at what a start only sees when it opens it: the limit of open files, and what is in a data folder that nobody has now.
    #[must_use]
    pub fn and_contents(mut self, config: &Config) -> Self {
        let capacity = Capacity::new(config.connections.max, config.cores(), raise_descriptor_limit());
        self.wrong.extend(capacity.err().map(|error| error.to_string()));
        if self.folder == Some(Look::Used) {
            self.contents(config);
        }
        self
    }

    fn contents(&mut self, config: &Config) {
        let folder = &config.data_dir;
        match recover(&folder.join(datadir::JOURNAL)) {
            Ok(found) if found.batches > 0 => {
                self.plan.push(format!("bring {} batches from the journal into the history", found.batches));
            }
            Ok(_) => {}
            Err(error) => self.wrong.push(unreadable(&error)),
        }
        if config.store.backend == Backend::Embedded {
            let named = datadir::check_store(folder).map_err(|error| error.to_string());
            let looked = || embedded::look_at(&folder.join(datadir::STORE)).map_err(|error| error.to_string());
            self.wrong.extend(named.and_then(|()| looked()).err());
        }
        // What is wrong with the cluster's file has been said.
        if let Ok(cluster) = cluster_file::load(config) {
            let taken = membership::look_at(folder, cluster.as_ref().and_then(ClusterConfig::fixed));
            self.wrong.extend(taken.err().map(|error| error.to_string()));
        }
        let revocations = RevocationFile::look_at(&folder.join(datadir::REVOCATIONS));
        self.wrong.extend(revocations.err().map(|error| error.to_string()));
        if config.audit.enabled {
            let path = folder.join(datadir::AUDIT_LOG);
            self.wrong.extend(audit::look_at(&path).err().map(|error| format!("{}: {error}", path.display())));
        }
    }

    fn addresses(&mut self, config: &Config) {
        let (plain, tls) = match (config.tls.files(), config.tls.listen) {
            (None, _) => (Some(config.listen), None),
            (Some(_), None) => (None, Some(("listen", config.listen))),
            (Some(_), Some(address)) => (Some(config.listen), Some(("tls.listen", address))),
        };
        let admin = match config.admin_listen {
            // A free port is always found.
            AdminListen::Off | AdminListen::Auto => None,
            AdminListen::At(address) => Some(address),
        };
        for (found, what) in [
            (plain.map(|address| ("listen", address)), "serve clients"),
            (tls, "serve clients that speak TLS"),
            (config.websocket.listen.map(|address| ("websocket.listen", address)), "serve browsers"),
            (
                config.websocket.tls_listen.map(|address| ("websocket.tls_listen", address)),
                "serve browsers that speak TLS",
            ),
            (admin.map(|address| ("admin_listen", address)), "serve metrics and health"),
        ] {
            let Some((key, address)) = found else { continue };
            self.plan.push(format!("{what} on {address}"));
            match try_to_bind(address) {
                Ok(()) => {}
                // Whether another port will do for the admin endpoint is decided when it is bound.
                Err(error) if error.kind() == ErrorKind::AddrInUse && key == "admin_listen" => {}
                Err(error) if error.kind() == ErrorKind::AddrInUse => self.occupied.push(format!(
                    "{key} = \"{address}\": another program listens there (`ss -ltnp 'sport = :{}'` names it): stop it, or \
                     choose another port; port 0 takes any free one",
                    address.port()
                )),
                Err(error) => self.wrong.push(format!("{key} = \"{address}\": {}", of_bind(&error, address))),
            }
        }
    }

    /// Whether it can be used.
    fn data_folder(&mut self, config: &Config) -> bool {
        let path = config.data_dir.display();
        let found = DataDir::look_at(&config.data_dir);
        self.folder = found.as_ref().ok().copied();
        match found {
            Ok(Look::New) => self.plan.push(format!("make the data folder {path}")),
            Ok(Look::Used) => self.plan.push(format!("go on with the data folder {path}")),
            Ok(Look::InUse) => self.plan.push(format!(
                "go on with the data folder {path}, which is in use by another process (`fuser {path}/LOCK` names it), when that has \
                 stopped"
            )),
            Err(error) => {
                self.wrong.push(error.to_string());
                return false;
            }
        }
        if config.store.backend == Backend::FoundationDb {
            self.plan.push("keep the history in FoundationDB, which has not been asked".to_owned());
        }
        true
    }

    fn credentials(&mut self, config: &Config, is_refused: bool, now: TimestampMs) {
        let own_key = config.auth.key_file().is_none().then(|| key_path(config));
        let (own_certificate, own_tls_key) = datadir::tls_paths(&config.data_dir);
        let made = [
            (own_key, "a key for tokens"),
            (Some(own_certificate), "a certificate that it signs itself"),
            (Some(own_tls_key), "its key"),
        ];
        match Tickets::new().map(|tickets| Credentials::load(config, &tickets)) {
            Err(error) => self.wrong.push(error.to_string()),
            Ok(Ok(loaded)) => self.warnings.extend(loaded.warnings(now)),
            Ok(Err(errors)) => {
                self.warnings.extend(errors.warnings(now));
                for error in errors.errors {
                    // A folder that is refused is not said to have lost its key too.
                    if is_refused && matches!(error, CredentialsError::LostKey { .. }) {
                        continue;
                    }
                    // What a start makes itself may be missing.
                    match made.iter().find(|(own, _)| own.is_some() && own.as_deref() == error.missing()) {
                        Some((_, what)) => self.plan.push(format!("make {what}")),
                        None => self.wrong.push(error.to_string()),
                    }
                }
            }
        }
    }
}

/// Binds a socket there for a moment. Nobody can connect to it.
fn try_to_bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the listener itself does: connections of a server that has just ended are no obstacle.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// What a refused address means, and what to do.
fn of_bind(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address: `ip address` lists those that it has; 0.0.0.0 and [::] \
                                        stand for all of them"
                .to_owned()
        }
        ErrorKind::PermissionDenied => format!(
            "this user may not listen on port {}: choose one from 1024 on, or give the service the right CAP_NET_BIND_SERVICE",
            address.port()
        ),
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            "this machine has no IPv6: choose an IPv4 address".to_owned()
        }
        _ => error.to_string(),
    }
}
