//! The real server as a child process: started, killed, stopped and started again on one data folder and one address.
//!
//! The address is one of the loopback network's sixteen million, and so nobody else's: a client that connects to it while
//! no server listens can not meet itself, and a restarted server finds its port free.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto_spec::{ClientFrame, ErrorCode, Resume, ServerFrame, TimestampMs, UserId};
use server::{
    access::auth,
    config::{AdminListen, Config, Limits},
    files::{datadir, keyfile},
};
use tempfile::TempDir;

use crate::{
    connection::{Connection, hello},
    disk::Disk,
    wait_until,
};

/// Sends a signal, such as `TERM`, to a process.
///
/// # Panics
/// There is no such process.
#[track_caller]
pub fn signal(process: u32, name: &str) {
    let command = format!("kill -s {name} {process}");
    let status = Command::new("sh").args(["-c", &command]).status().expect("there is a shell");
    assert!(status.success(), "{command}");
}

/// A data folder, a configuration and an address: what stays when a server is killed.
#[derive(Debug)]
pub struct Installation {
    /// As the file says it. Changes count from the next start on.
    pub config: Config,
    /// Put before the server's own command line.
    pub wrapper: Vec<String>,
    /// Put behind it.
    pub more: Vec<&'static str>,
    /// What is asked for with `--log-format`, if anything is.
    pub log_format: Option<&'static str>,
    /// Filter of the log.
    pub log_filter: &'static str,
    program: PathBuf,
    folder: TempDir,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    child: Child,
    // Kept open: the server may still print.
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    greeting: String,
    address: SocketAddr,
    admin: Option<SocketAddr>,
}

/// Milliseconds since 1970.
///
/// # Panics
/// The machine's clock is before 1970.
#[must_use]
pub fn wall_now() -> TimestampMs {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("this is after 1970");
    TimestampMs(since_1970.as_millis() as u64)
}

fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed), middle, low)
}

/// Takes the ports on which a server serves that nobody has told anything, until this process ends. So whatever a test starts, or
/// connects to, by the defaults fails, as it would on the machine of somebody who has a server running.
fn hold_default_ports() {
    static HELD: OnceLock<Vec<TcpListener>> = OnceLock::new();
    // Where one is taken already, somebody else does the same.
    HELD.get_or_init(|| {
        [Config::default().listen, AdminListen::USUAL].into_iter().flat_map(TcpListener::bind).collect()
    });
}

impl Installation {
    /// An empty data folder for the server that is this `program`, with a small journal and one metrics endpoint.
    ///
    /// # Panics
    /// There is no room for temporary folders.
    #[must_use]
    pub fn new(program: &str) -> Self {
        hold_default_ports();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut config = Config::default();
        let ip = own_address();
        config.listen = SocketAddr::from((ip, 0));
        config.admin_listen = AdminListen::At(SocketAddr::from((ip, 0)));
        config.data_dir = folder.path().join("data");
        config.cores = 2;
        // Small, because segments are filled with zeros when they are made.
        config.journal.segment_bytes = 4 * 1024 * 1024;
        config.journal.bytes_max = 32 * 1024 * 1024;
        config.store.cache_bytes = 1024 * 1024;
        config.auth.leeway_s = 0;
        // Most tests are faster than people.
        config.limits = Limits::off();
        Self {
            config,
            wrapper: Vec::new(),
            more: Vec::new(),
            // With it the server greets on its standard output.
            log_format: Some("text"),
            log_filter: "info,fjall=warn,lsm_tree=warn",
            program: program.into(),
            folder,
        }
    }

    /// As `new`, with journal and store in the folder `data` of a disk that fails on demand, and the key that tokens are signed
    /// with elsewhere. The journal's segments are small and sealed early. None where there can be no such disk.
    ///
    /// # Panics
    /// There is no room for temporary folders.
    #[must_use]
    pub fn on_a_disk(program: &str, seed: u64) -> Option<(Self, Disk)> {
        let mut installation = Self::new(program);
        let disk = Disk::new(installation.folder().join("disk"), seed)?;
        installation.config.data_dir = disk.path().join("data");
        installation.config.auth.key_file = installation.folder().join("key.pem");
        keyfile::create_if_missing(&installation.config.auth.key_file).expect("a key can be made");
        installation.config.journal.segment_bytes = 1024 * 1024;
        installation.config.journal.bytes_max = 16 * 1024 * 1024;
        installation.config.journal.seal_after_ms = 100;
        Some((installation, disk))
    }

    /// From its next start on the server notifies by this webhook.
    ///
    /// # Panics
    /// It has one already.
    pub fn notifies_by(&mut self, url: &str) {
        let key_file = self.folder().join("gateway.key");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key_file).expect("a folder");
        file.write_all(b"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").expect("room on the disk");
        self.config.push.webhook.url = url.to_owned();
        self.config.push.webhook.key_file = key_file;
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.config.data_dir
    }

    /// What all servers here have logged.
    ///
    /// # Panics
    /// None has been started.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8(fs::read(self.log_path()).expect("a server has logged")).expect("a log is text")
    }

    /// Starts a server and waits until it serves. Later starts listen on the same port.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn start(&mut self) -> Server {
        let mut server = self.spawn();
        assert!(server.greets(), "ended: {}", server.last_words());
        self.config.listen = server.address;
        server
    }

    /// Starts a server and does not wait for it.
    ///
    /// # Panics
    /// There is no such program.
    #[must_use]
    pub fn spawn(&self) -> Server {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be opened");
        self.spawn_logging_to(log.into())
    }

    /// As `spawn`, with a standard error of the test's own.
    ///
    /// # Panics
    /// There is no such program.
    #[must_use]
    pub fn spawn_logging_to(&self, stderr: Stdio) -> Server {
        let file = self.folder().join("ringpost.toml");
        fs::write(&file, self.config.to_toml()).expect("it has room");
        let mut line = self.wrapper.iter().map(Into::into).chain([self.program.clone().into_os_string()]);
        let mut command = Command::new(line.next().expect("the program is there"));
        command.args(line).args(["serve", "--config"]).arg(file).args(&self.more);
        command.args(self.log_format.map(|format| format!("--log-format={format}")));
        command.env("RUST_LOG", self.log_filter).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("the server can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Server {
            child,
            stdout,
            log: self.log_path(),
            greeting: String::new(),
            address: self.config.listen,
            admin: None,
        }
    }

    /// Starts a server that must refuse to serve; gives its exit code and what it said.
    ///
    /// # Panics
    /// It serves, or is ended by a signal.
    #[track_caller]
    pub fn refused(&self) -> (i32, String) {
        let before = fs::read(self.log_path()).map_or(0, |log| log.len());
        let mut server = self.spawn();
        let status = server.wait();
        let said = self.log().split_off(before);
        (status.code().unwrap_or_else(|| panic!("{status}: {said}")), said)
    }

    /// A token of the server's key.
    ///
    /// # Panics
    /// There is no key yet.
    #[must_use]
    pub fn token(&self, user: u64) -> String {
        self.token_at(user, wall_now(), Duration::from_secs(3600))
    }

    /// A token that is minted at some time.
    ///
    /// # Panics
    /// There is no key yet.
    #[must_use]
    pub fn token_at(&self, user: u64, now: TimestampMs, ttl: Duration) -> String {
        let path = self.config.auth.key_file().map_or_else(|| datadir::token_key_path(self.data()), Path::to_owned);
        let key = keyfile::load_signing_key(&path).expect("the server has made a key");
        auth::mint(&key, UserId(user), ttl, now).expect("a key can sign")
    }

    /// Connects.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.config.listen).expect("the server listens")
    }

    /// Connects a device and takes its welcome.
    ///
    /// # Panics
    /// It is not welcome.
    #[must_use]
    #[track_caller]
    pub fn login(&self, user: u64, device: u64, resume: Resume) -> Connection {
        self.login_with(user, device, resume, &[])
    }

    /// As `login`, with frames that follow the hello at once. Comes back if the server is too busy for a newcomer.
    ///
    /// # Panics
    /// It is not welcome.
    #[must_use]
    #[track_caller]
    pub fn login_with(&self, user: u64, device: u64, resume: Resume, more: &[ClientFrame]) -> Connection {
        let mut welcome = None;
        wait_until("the device is welcome", || {
            welcome = self.greet(self.connect(), user, device, resume, more);
            welcome.is_some()
        });
        welcome.expect("that was waited for")
    }

    /// As `login_with`, on a connection that is there.
    ///
    /// # Panics
    /// It is not welcome.
    #[must_use]
    #[track_caller]
    pub fn login_over(
        &self,
        connection: Connection,
        user: u64,
        device: u64,
        resume: Resume,
        more: &[ClientFrame],
    ) -> Connection {
        self.greet(connection, user, device, resume, more).expect("the server has time for it")
    }

    /// Says hello. None if the server is too busy for a newcomer.
    #[track_caller]
    fn greet(
        &self,
        mut connection: Connection,
        user: u64,
        device: u64,
        resume: Resume,
        more: &[ClientFrame],
    ) -> Option<Connection> {
        let mut frames = vec![hello(&self.token(user), device, resume)];
        frames.extend_from_slice(more);
        connection.send(&frames);
        match connection.frame() {
            Some(ServerFrame::Welcome { user: named, .. }) => assert_eq!(named, UserId(user)),
            Some(ServerFrame::Bye { code: ErrorCode::Overloaded, .. }) => return None,
            other => panic!("not welcome: {other:?}"),
        }
        Some(connection)
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("log")
    }
}

impl Server {
    /// Waits until the server has greeted; false if it has ended instead.
    ///
    /// # Panics
    /// It greets in words that are not understood.
    pub fn greets(&mut self) -> bool {
        let mut text = String::new();
        while !text.contains("\nstop ") {
            if self.stdout.read_line(&mut text).expect("the greeting is text") == 0 {
                return false;
            }
        }
        let after = |words: &str| text.split_once(words).map(|(_, rest)| rest);
        let listen = after("serves on ").and_then(|rest| rest.split(',').next());
        self.address = listen.and_then(|text| text.parse().ok()).expect("the greeting names the address");
        let admin = after("http://").and_then(|rest| rest.split('/').next());
        self.admin = admin.and_then(|text| text.parse().ok());
        self.greeting = text;
        true
    }

    /// All that it still says on its standard output, until it ends.
    ///
    /// # Panics
    /// It is no text.
    #[must_use]
    pub fn rest_of_standard_output(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("it is text");
        text
    }

    /// What it has said at its start.
    #[must_use]
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Where clients connect with TLS if they connect without it elsewhere.
    ///
    /// # Panics
    /// There is no such address.
    #[must_use]
    pub fn tls_address(&self) -> SocketAddr {
        let address = self.greeting.split_once("with TLS 1.3 on ").and_then(|(_, rest)| rest.lines().next());
        address.and_then(|text| text.parse().ok()).expect("the greeting names the address")
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its metrics are.
    ///
    /// # Panics
    /// They are off.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("metrics are on")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// It has ended by itself.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.signal(), Some(9), "ended by itself: {status}: {}", self.last_words());
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Panics
    /// There is no such process.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Whether the process has not ended.
    ///
    /// # Panics
    /// It is no child.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked for").is_none()
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the server ends", || {
            ended = self.child.try_wait().expect("a child can be waited for");
            ended.is_some()
        });
        ended.expect("that was waited for")
    }

    /// Stops gracefully.
    ///
    /// # Panics
    /// It does not exit with 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.last_words());
    }

    fn last_words(&self) -> String {
        let log = self.logged();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// What has been logged so far.
    #[must_use]
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Every series of /metrics.
    ///
    /// # Panics
    /// It is off, or its page can not be read.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let page = server::operator::admin::fetch(self.admin(), "/metrics").expect("it answers");
        page.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a series has a value");
                (series.to_owned(), value.parse().expect("a value is a number"))
            })
            .collect()
    }

    /// What a counter of the cores says, over all of them; without `ringpost_core_` before it.
    ///
    /// # Panics
    /// As [`Server::metrics`].
    #[must_use]
    #[track_caller]
    pub fn counted(&self, name: &str) -> u64 {
        let name = format!("ringpost_core_{name}{{");
        self.metrics().iter().filter(|(series, _)| series.starts_with(&name)).map(|(_, value)| *value as u64).sum()
    }

    /// The whole answer to a request for a page of a server that may not serve yet, if there is one.
    #[must_use]
    pub fn page_at(admin: SocketAddr, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(admin).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Resident memory, in bytes.
    ///
    /// # Panics
    /// The process has ended.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kib * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every path below a folder with its bytes.
///
/// # Panics
/// Something there can not be read.
#[must_use]
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path.clone());
                found.insert(path, None);
            } else {
                // What a killed server leaves behind of its socket has none.
                let bytes = path.is_file().then(|| fs::read(&path).expect("a file can be read"));
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// Copies a data folder as an operator does, be the server running or not: what is no file any more by then is left out.
///
/// # Panics
/// A file can not be read, or not be written.
pub fn copy_folder(from: &Path, to: &Path) {
    DirBuilder::new().recursive(true).mode(0o700).create(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("it is there");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else if path.extension().is_none_or(|extension| extension != "sock") {
            match fs::copy(&path, &to) {
                // It has another name by now, as happens to whoever copies what is used.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                copied => drop(copied.expect("a file can be copied")),
            }
        }
    }
}
