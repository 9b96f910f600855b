//! Operator: what whoever runs the server may ask of it while it runs, over a unix socket in the data folder. Whoever may
//! open the socket (mode 0600) is the operator. It speaks the same small HTTP as the admin endpoint, one request a
//! connection, one after the other.
//!
//! `GET /metrics` is what the admin endpoint serves, wherever that is. `GET /revocations` lists those in force; `POST /revocations?user=7&device=3` revokes; `DELETE` lifts. Without a device:
//! all of the user's. `GET /devices?user=7` lists the devices of a user, `DELETE /devices?user=7&device=3` removes one for ever.
//! `GET /push/why?user=7&seq=120` says why the user was notified of that message, or was not.
//! `GET /nodes` is which nodes there are, and `GET /map` who owns what; with `?json` for programs. `/drain` and `/move` change that
//! ([`super::moves`]).

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use proto_spec::{DeviceId, ErrorCode, GroupId, Seq, TimestampMs, UserId};
use rim::utc::{utc, wall_now};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    access::{
        auth::{parse_device, parse_user},
        revocation::{Change, ChangeError, Revocations, Subject},
    },
    cluster::steward,
    files::revocation_file::{RevocationFile, RevocationFileError},
    io::Controls,
    limits::{
        ADMIN_CONNECTIONS_MAX, ADMIN_REQUEST_MS, OPERATOR_ANSWER_MS, OPERATOR_DEVICES_MS, REVOCATIONS_FILE_BYTES_MAX,
    },
    operator::{
        admin::{ACCEPT_PAUSE_MS, TEXT, parse_request, read_request, response},
        audit::{Audit, Event, What},
        devices,
        moves::{self, DRAIN, MOVE},
        push,
        survey::{self, Form, Part},
    },
    shard::PushQuestion,
    shard::{DevicesTold, DevicesWish},
};

const SOCKET: &str = "admin.sock";
const REVOCATIONS: &str = "/revocations";
const DEVICES: &str = "/devices";
const METRICS: &str = "/metrics";
const PUSH_WHY: &str = "/push/why";
const NODES: &str = "/nodes";
const MAP: &str = "/map";
const FOR_PROGRAMS: &str = "json";

/// A path of the socket that is short enough for the kernel, which takes 107 bytes, wherever the folder is. Good as long as the
/// folder is open.
fn path_in(folder: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()).into()
}

/// The socket, open. Its file goes with it.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    folder: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that stays is replaced by the next start.
        let _ = fs::remove_file(path_in(&self.folder));
    }
}

/// Opens the socket. The data folder is this process's own, so one that is there is a dead one.
///
/// # Errors
/// The folder takes no socket.
pub fn listen(data_dir: &Path) -> io::Result<Listening> {
    let folder = File::open(data_dir)?;
    let path = path_in(&folder);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The mode of the socket becomes that of the file: it is nobody else's for not one moment.
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(ADMIN_CONNECTIONS_MAX as i32)?;
    socket.set_nonblocking(true)?;
    Ok(Listening { listener: UnixListener::from(OwnedFd::from(socket)), file: SocketFile { folder } })
}

/// What the operator can change.
#[derive(Debug)]
pub struct Operator<M> {
    revocations: Mutex<RevocationFile>,
    controls: Controls,
    audit: Audit,
    metrics: M,
}

impl<M: Fn() -> String + Send + Sync + 'static> Operator<M> {
    /// For a node that knows what the file says.
    #[must_use]
    pub const fn new(revocations: RevocationFile, controls: Controls, audit: Audit, metrics: M) -> Self {
        Self { revocations: Mutex::new(revocations), controls, audit, metrics }
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// The runtime does not take the listener.
    pub async fn serve(self, Listening { listener, file: _file }: Listening) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let operator = Arc::new(self);
        loop {
            match listener.accept().await {
                // Whoever goes away gets no answer; what was asked for is done all the same.
                Ok((stream, _)) => _ = operator.exchange(stream).await,
                Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
            }
        }
    }

    async fn exchange(self: &Arc<Self>, mut stream: tokio::net::UnixStream) -> io::Result<()> {
        let patience = Duration::from_millis(ADMIN_REQUEST_MS);
        let uid = stream.peer_cred()?.uid();
        let request = timeout(patience, read_request(&mut stream)).await??;
        let operator = Arc::clone(self);
        // A disk may take its time, and the main thread has signals to look after.
        let response = tokio::task::spawn_blocking(move || operator.respond(&request, uid)).await?;
        timeout(patience, stream.write_all(&response)).await??;
        stream.shutdown().await
    }

    fn respond(&self, request: &[u8], uid: u32) -> Vec<u8> {
        let (method, subject) = match parse_request(request) {
            // What is done here about a user of another node would come to nothing, or into a log that is not the user's. Where users move,
            // revocations have to be everywhere.
            Ok((method, path @ (DEVICES | REVOCATIONS), query))
                if (path == DEVICES || !self.controls.do_move())
                    && let Some(subject) = parse_subject(query)
                    && let Some(node) = self.controls.elsewhere(subject.user) =>
            {
                return self.misdirected(method, subject, &node, uid);
            }
            Ok((method, DEVICES, query)) => return self.devices(method, parse_subject(query), uid),
            Ok((method, REVOCATIONS, query)) => (method, parse_subject(query)),
            Ok(("GET", PUSH_WHY, query)) => return self.why(query),
            Ok(("GET", METRICS, _)) => return response("200 OK", TEXT, &(self.metrics)()),
            Ok(("GET", path @ (NODES | MAP), query)) => return self.survey(path, query),
            Ok((method, path @ (DRAIN | MOVE), query)) => {
                return match moves::parse(method, path, query) {
                    Ok(wish) => self.wish(&wish, uid),
                    Err(words) => response("400 Bad Request", TEXT, words),
                };
            }
            Ok(_) => {
                return response(
                    "404 Not Found",
                    TEXT,
                    "there are /revocations, /devices, /push/why, /metrics, /nodes, /map, /drain and /move\n",
                );
            }
            Err(response) => return response,
        };
        match (method, subject) {
            ("GET", _) => response("200 OK", TEXT, &list(self.revocations.lock().revocations())),
            ("POST", Some(subject)) => self.change(Change::Revoke(subject, self.controls.revocation_moment()), uid),
            ("DELETE", Some(subject)) => self.change(Change::Lift(subject), uid),
            ("POST" | "DELETE", None) => response("400 Bad Request", TEXT, "whose? ?user=7 or ?user=7&device=3\n"),
            _ => response("405 Method Not Allowed", TEXT, "only GET, POST and DELETE\n"),
        }
    }

    fn survey(&self, path: &str, query: &str) -> Vec<u8> {
        let part = if path == MAP { Part::Map } else { Part::Nodes };
        let (form, kind) = match query {
            "" => (Form::Text, TEXT),
            FOR_PROGRAMS => (Form::Json, "application/json"),
            _ => return response("400 Bad Request", TEXT, "for whom? ?json is for programs\n"),
        };
        response("200 OK", kind, &survey::tell(self.controls.survey().as_ref(), part, form))
    }

    /// All nodes do their part of it once it is in the roll of the cluster.
    fn wish(&self, wish: &steward::Wish, uid: u32) -> Vec<u8> {
        let survey = self.controls.survey();
        let done = match moves::objection(wish, survey.as_ref()).filter(|_| self.controls.do_move()) {
            Some(objection) => Some(Err(objection)),
            None => self.controls.wish(wish.clone()),
        };
        let done = done.unwrap_or_else(|| Err(moves::nothing_moves(survey.as_ref()).to_owned()));
        let event = moves::event(wish, uid, self.controls.clock().wall());
        match done {
            Ok(()) => {
                let said = moves::describe(wish);
                info!(uid, "{said}");
                self.audit.report(event);
                response("200 OK", TEXT, &(said + "\n"))
            }
            Err(reason) => {
                warn!(uid, reason, "who owns what was not changed");
                self.audit.report(Event { what: What::OperatorRefused, reason: Some(reason.clone()), ..event });
                response("409 Conflict", TEXT, &(reason + "\n"))
            }
        }
    }

    fn misdirected(&self, method: &str, Subject { user, device }: Subject, node: &str, uid: u32) -> Vec<u8> {
        let words = format!("node {node} serves user {user}: give this command there");
        if method != "GET" {
            warn!(uid, %user, node, "a command of the operator is for another node");
            let (now, reason) = (self.controls.clock().wall(), Some(words.clone()));
            let (user, uid) = (Some(user), Some(uid));
            self.audit.report(Event { user, device, uid, reason, ..Event::new(now, What::OperatorRefused) });
        }
        response("421 Misdirected Request", TEXT, &(words + "\n"))
    }

    /// The user's core knows.
    fn why(&self, query: &str) -> Vec<u8> {
        let Some(about) = parse_message(query) else {
            let words = "of which message? GET ?user=7&seq=120, or ?user=7&group=12&seq=120\n";
            return response("400 Bad Request", TEXT, words);
        };
        let user = about.user;
        if let Some(node) = self.controls.elsewhere(user) {
            let words = format!("node {node} serves user {user}: give this command there\n");
            return response("421 Misdirected Request", TEXT, &words);
        }
        match self.controls.why(about, Duration::from_millis(OPERATOR_DEVICES_MS)) {
            Some(Ok(why)) => response("200 OK", TEXT, &push::why(about, &why)),
            Some(Err(code @ (ErrorCode::NoSuchMessage | ErrorCode::NoSuchGroup))) => {
                response("404 Not Found", TEXT, &push::refused(about, code))
            }
            Some(Err(code)) => response("503 Service Unavailable", TEXT, &push::refused(about, code)),
            None => response("504 Gateway Timeout", TEXT, "the server has not answered in time: try again\n"),
        }
    }

    /// The user's core does it, and says so when it is durable.
    fn devices(&self, method: &str, subject: Option<Subject>, uid: u32) -> Vec<u8> {
        let (user, wish) = match (method, subject) {
            ("GET", Some(Subject { user, device: None })) => (user, DevicesWish::List),
            ("DELETE", Some(Subject { user, device: Some(device) })) => (user, DevicesWish::Remove(device)),
            ("GET" | "DELETE", _) => {
                return response("400 Bad Request", TEXT, "whose? GET ?user=7, DELETE ?user=7&device=3\n");
            }
            _ => return response("405 Method Not Allowed", TEXT, "only GET and DELETE\n"),
        };
        let told = self.controls.devices(user, wish, Duration::from_millis(OPERATOR_DEVICES_MS));
        if let DevicesWish::Remove(device) = wish {
            self.audit_removal(user, device, told.as_ref(), uid);
        }
        match (told, wish) {
            (Some(Ok(devices)), DevicesWish::List) => response("200 OK", TEXT, &devices::list(user, &devices)),
            (Some(Ok(_)), DevicesWish::Remove(device)) => {
                response("200 OK", TEXT, &format!("user {user} device {device}: removed, its id never comes back\n"))
            }
            (Some(Err(code @ ErrorCode::NoSuchDevice)), _) => {
                response("404 Not Found", TEXT, &devices::refused(user, code))
            }
            (Some(Err(code)), _) => response("503 Service Unavailable", TEXT, &devices::refused(user, code)),
            (None, _) => {
                let seconds = OPERATOR_DEVICES_MS / 1_000;
                let words =
                    format!("the server has not done it within {seconds} s, and may do it yet: look at the list\n");
                response("504 Gateway Timeout", TEXT, &words)
            }
        }
    }

    fn audit_removal(&self, user: UserId, device: DeviceId, told: Option<&DevicesTold>, uid: u32) {
        let (what, reason) = match told {
            Some(Ok(_)) => (What::DeviceRemoved, None),
            Some(Err(code)) => (What::OperatorRefused, Some(code.name().to_owned())),
            None => (What::OperatorRefused, Some("no answer in time".to_owned())),
        };
        info!(uid, %user, %device, ?reason, "the operator removes a device");
        let now = self.controls.clock().wall();
        let event = Event { user: Some(user), device: Some(device), uid: Some(uid), reason, ..Event::new(now, what) };
        self.audit.report(event);
    }

    /// First durable, then in force, then confirmed.
    fn change(&self, change: Change, uid: u32) -> Vec<u8> {
        let mut file = self.revocations.lock();
        let now = self.controls.clock().wall();
        match file.make(change) {
            Ok(()) => {
                self.controls.change(change);
                let said = describe(change) + &doubt(self.controls.clock().doubted_ms());
                info!(uid, "{said}");
                self.audit.report(event(change, uid, now));
                let more = if self.controls.do_move() { EACH_NODE } else { "" };
                response("200 OK", TEXT, &format!("{said}\n{more}"))
            }
            Err(error) => {
                warn!(uid, %error, "a revocation was not changed");
                let reason = Some(error.to_string());
                self.audit.report(Event { reason, ..Event { what: What::OperatorRefused, ..event(change, uid, now) } });
                let status = match error {
                    RevocationFileError::Change(ChangeError::NotRevoked(_)) => "404 Not Found",
                    RevocationFileError::Change(ChangeError::TooMany) => "409 Conflict",
                    _ => "500 Internal Server Error",
                };
                response(status, TEXT, &format!("{error}\n"))
            }
        }
    }
}

fn parse_message(query: &str) -> Option<PushQuestion> {
    let (mut user, mut group, mut seq) = (None, None, None);
    for part in query.split('&') {
        match part.split_once('=')? {
            ("user", of) => user = Some(parse_user(of)?),
            ("group", of) => group = Some(GroupId(of.parse().ok()?)),
            ("seq", at) => seq = Some(Seq(at.parse().ok()?)),
            _ => return None,
        }
    }
    Some(PushQuestion { user: user?, group, seq: seq? })
}

fn parse_subject(query: &str) -> Option<Subject> {
    let mut subject = (None, None);
    for part in query.split('&') {
        match part.split_once('=')? {
            ("user", user) => subject.0 = Some(parse_user(user)?),
            ("device", device) => subject.1 = Some(parse_device(device)?),
            _ => return None,
        }
    }
    Some(Subject { user: subject.0?, device: subject.1 })
}

/// What is to be said of a change of what is revoked, in a cluster whose slots move.
const EACH_NODE: &str = "users move: give this command on each node of the cluster\n";

fn time(moment: TimestampMs) -> String {
    format!("{}.{:03}Z", utc(moment.0 / 1000, ':'), moment.0 % 1000)
}

fn describe(change: Change) -> String {
    match change {
        Change::Revoke(subject, moment) => format!("{subject}: tokens issued up to {} are revoked", time(moment)),
        Change::Lift(subject) => format!("{subject}: the revocation is lifted"),
    }
}

/// What is to be said of a clock that differs from the trusted time.
fn doubt(doubted_ms: i64) -> String {
    match doubted_ms {
        0 => String::new(),
        _ => format!("; the clock of this machine is {} s from that and is not trusted", doubted_ms / 1_000),
    }
}

fn list(revocations: &Revocations) -> String {
    revocations.iter().map(|(subject, moment)| describe(Change::Revoke(subject, moment)) + "\n").collect()
}

/// What to tell the operator about revocations that are of a time which has not come yet, if there are any. `told` is what a command
/// needs to find this server.
#[must_use]
pub fn of_times_to_come(revocations: &Revocations, now: TimestampMs, told: &str) -> Option<String> {
    let ahead: Vec<_> = revocations.iter().filter(|(_, moment)| *moment > now).collect();
    let &(subject, moment) = ahead.iter().max_by_key(|(_, moment)| *moment)?;
    let Subject { user, device } = subject;
    let command =
        format!("ringpost revoke --user {user}") + &device.map(|id| format!(" --device {id}")).unwrap_or_default();
    Some(format!(
        "{} of the revocations in force, among them {}, which is still to come: until then new tokens are void too. If the \
         clock was wrong when they were made, make them anew: `{command} --lift{told} && {command}{told}`",
        ahead.len(),
        describe(Change::Revoke(subject, moment)),
    ))
}

fn event(change: Change, uid: u32, now: TimestampMs) -> Event {
    let (what, Subject { user, device }) = match change {
        Change::Revoke(subject, _) => (What::Revoked, subject),
        Change::Lift(subject) => (What::Lifted, subject),
    };
    Event { user: Some(user), device, uid: Some(uid), ..Event::new(now, what) }
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// To know what is in force.
    List,
    /// To revoke, from now on.
    Revoke(Subject),
    /// To lift a revocation.
    Lift(Subject),
}

impl Wish {
    fn request(self) -> String {
        let target = |Subject { user, device }| {
            let device = device.map(|device| format!("&device={device}")).unwrap_or_default();
            format!("{REVOCATIONS}?user={user}{device}")
        };
        match self {
            Self::List => format!("GET {REVOCATIONS}"),
            Self::Revoke(subject) => format!("POST {}", target(subject)),
            Self::Lift(subject) => format!("DELETE {}", target(subject)),
        }
    }
}

/// Asks the server that uses the folder; blocks. What it answers.
///
/// # Errors
/// It does not answer, or does not do it.
pub fn ask(data_dir: &Path, wish: Wish) -> io::Result<String> {
    request(data_dir, &wish.request())
}

/// Asks the server that uses the folder for the devices of a user, or to remove one; blocks. What it answers.
///
/// # Errors
/// It does not answer, or does not do it.
pub fn ask_devices(data_dir: &Path, user: UserId, wish: DevicesWish) -> io::Result<String> {
    let line = match wish {
        DevicesWish::List => format!("GET {DEVICES}?user={user}"),
        DevicesWish::Remove(device) => format!("DELETE {DEVICES}?user={user}&device={device}"),
    };
    request(data_dir, &line)
}

/// Asks the server that uses the folder why a user was notified of a message, or was not; blocks. What it answers.
///
/// # Errors
/// It does not answer, or there is no such message, or the user is no member of the group.
pub fn ask_why(data_dir: &Path, about: PushQuestion) -> io::Result<String> {
    let PushQuestion { user, group, seq } = about;
    let group = group.map_or_else(String::new, |group| format!("&group={group}"));
    request(data_dir, &format!("GET {PUSH_WHY}?user={user}{group}&seq={seq}"))
}

/// Asks the server that uses the folder what it knows of its cluster; blocks. What it answers.
///
/// # Errors
/// It does not answer.
pub fn ask_survey(data_dir: &Path, part: Part, form: Form) -> io::Result<String> {
    let path = match part {
        Part::Nodes => NODES,
        Part::Map => MAP,
    };
    let query = match form {
        Form::Text => String::new(),
        Form::Json => format!("?{FOR_PROGRAMS}"),
    };
    request(data_dir, &format!("GET {path}{query}"))
}

/// Has the server that uses the folder, and so all nodes of its cluster, change who owns what; blocks. What it answers.
///
/// # Errors
/// It does not answer, or does not do it.
pub fn ask_move(data_dir: &Path, wish: &steward::Wish) -> io::Result<String> {
    request(data_dir, &moves::request(wish))
}

/// Asks the server that uses the folder for its metrics; blocks.
///
/// # Errors
/// It does not answer.
pub fn ask_metrics(data_dir: &Path) -> io::Result<String> {
    request(data_dir, &format!("GET {METRICS}"))
}

fn request(data_dir: &Path, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path_in(&File::open(data_dir)?))?;
    let patience = Some(Duration::from_millis(OPERATOR_ANSWER_MS));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    stream.write_all(format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(2 * REVOCATIONS_FILE_BYTES_MAX).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        Some((_, body)) => Err(io::Error::other(body.trim_end().to_owned())),
        None => Err(io::Error::other("the server went away without an answer")),
    }
}

/// Does it in the files of a stopped server, whose lock the caller has; `do_move`: of a cluster whose slots move. What came of it.
///
/// # Errors
/// See [`RevocationFileError`].
pub fn act_alone(
    path: &Path,
    wish: Wish,
    do_move: bool,
    audit: &Audit,
    uid: u32,
) -> Result<String, RevocationFileError> {
    let mut file = RevocationFile::open(path)?;
    let change = match wish {
        Wish::List => return Ok(list(file.revocations())),
        Wish::Revoke(subject) => Change::Revoke(subject, wall_now()),
        Wish::Lift(subject) => Change::Lift(subject),
    };
    file.make(change)?;
    audit.report(event(change, uid, wall_now()));
    let more = if do_move { EACH_NODE } else { "" };
    Ok(format!("{}\n{more}", describe(change)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_user_or_one_of_its_devices_and_nothing_else() {
        let subject = |user, device: Option<u64>| Some(Subject { user: UserId(user), device: device.map(DeviceId) });
        assert_eq!(parse_subject("user=7"), subject(7, None));
        assert_eq!(parse_subject("user=7&device=3"), subject(7, Some(3)));
        for query in ["", "device=3", "user=0", "user=07", "user=7&device=", "user=7&x=1", "user", "user=7&device=%33"]
        {
            assert_eq!(parse_subject(query), None, "{query}");
        }
    }

    #[test]
    fn a_revocation_of_a_time_to_come_is_named_with_the_way_out() {
        let mut revocations = Revocations::default();
        for (user, moment) in [(7, 1_000), (8, 5_000), (9, 3_000)] {
            let subject = Subject { user: UserId(user), device: (user == 8).then_some(DeviceId(3)) };
            revocations.apply(Change::Revoke(subject, TimestampMs(moment)));
        }
        assert_eq!(of_times_to_come(&revocations, TimestampMs(5_000), ""), None);
        let said = of_times_to_come(&revocations, TimestampMs(2_000), " --data /d").unwrap();
        assert!(
            said.starts_with("2 of the revocations in force, among them user 8 device 3: tokens issued up to 1970-"),
            "{said}"
        );
        assert!(
            said.contains("`ringpost revoke --user 8 --device 3 --lift --data /d && ringpost revoke --user 8 --device 3 --data /d`"),
            "{said}"
        );
    }

    #[test]
    fn while_the_clock_is_not_trusted_the_operator_is_told() {
        assert_eq!(doubt(0), "");
        assert_eq!(doubt(-86_400_000), "; the clock of this machine is -86400 s from that and is not trusted");
    }

    #[test]
    fn the_socket_is_its_owners_alone_however_long_its_path_is_and_whatever_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a".repeat(100)).join("b".repeat(100));
        fs::create_dir_all(&data_dir).unwrap();
        let path = data_dir.join(SOCKET);
        fs::write(&path, "left behind").unwrap();
        let listening = listen(&data_dir).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(path_in(&listening.file.folder)).unwrap();
        drop(listening);
        assert!(!path.exists());
        assert_eq!(ask(&data_dir, Wish::List).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_stopped_servers_file_is_changed_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revocations");
        let phone = Subject { user: UserId(7), device: Some(DeviceId(3)) };
        let act = |wish| act_alone(&path, wish, false, &Audit::off(), 0);
        assert!(act(Wish::Revoke(phone)).unwrap().starts_with("user 7 device 3: tokens issued up to 2"));
        assert!(act(Wish::List).unwrap().starts_with("user 7 device 3: "));
        assert_eq!(act(Wish::Lift(phone)).unwrap(), "user 7 device 3: the revocation is lifted\n");
        assert_eq!(act(Wish::List).unwrap(), "");
        assert!(act(Wish::Lift(phone)).is_err());
        let said = act_alone(&path, Wish::Revoke(phone), true, &Audit::off(), 0).unwrap();
        assert!(said.ends_with("\nusers move: give this command on each node of the cluster\n"), "{said}");
    }
}
