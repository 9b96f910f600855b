//! Audit log: who came in, who was refused, whose token ended, and what the operator did. One line of JSON an event, in
//! the order in which they were reported, in a file of its own. No token, key or text of a message is ever in an [`Event`].
//!
//! A thread writes, so that a core never waits for a disk. Cores report through [`Reporter`]s: what does not fit the
//! queue stays with the reporter, and its core judges no token until it has gone. A disk that refuses costs lines beyond
//! [`AUDIT_KEPT_MAX`], which are counted; the newest are kept.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read as _, Seek as _, SeekFrom, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use proto_spec::{DeviceId, TimestampMs, UserId};
use rim::utc::{utc, wall_now};
use serde::{Serialize, Serializer};
use tracing::{error, info};

use crate::limits::{AUDIT_KEPT_MAX, AUDIT_QUEUE_MAX, AUDIT_REFUSALS_MAX, AUDIT_RETRY_MS, AUDIT_WRITE_LINES_MAX};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The server serves.
    Start,
    /// The server has stopped in order.
    Stop,
    /// A device was let in.
    Login,
    /// A hello was not good.
    Refused,
    /// More hellos of one second were not good than are listed: `count` of them.
    RefusedMore,
    /// A connection goes on with a newer token.
    Refreshed,
    /// The newer token of a connection was not good; the connection goes on.
    RefreshRefused,
    /// A connection was closed because its token had expired, or was revoked, or its device was removed.
    TokenEnded,
    /// The operator revoked tokens.
    Revoked,
    /// The operator removed a device.
    DeviceRemoved,
    /// The operator lifted a revocation.
    Lifted,
    /// The operator has a node give away what it owns.
    Drained,
    /// The operator has a node take its share again.
    DrainUndone,
    /// The operator gave a slot to a node, where it stays.
    SlotMoved,
    /// The operator lets a slot go where the map has it.
    SlotUnpinned,
    /// The operator asked for something that was not done.
    OperatorRefused,
    /// Somebody came as a node of the cluster, and was not let in: at most once in a few seconds, and of how many that is said.
    NodeRefused,
    /// The files with keys were read again.
    Reloaded,
    /// The files with keys could not be used: those from before stay in force.
    ReloadFailed,
    /// The log could not be written for a while: `count` events are missing somewhere before this line.
    Lost,
}

/// One line. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, by the wall clock.
    #[serde(serialize_with = "iso")]
    pub time: TimestampMs,
    /// What.
    #[serde(rename = "event")]
    pub what: What,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "user_id")]
    pub user: Option<UserId>,
    /// On which device.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "device_id")]
    pub device: Option<DeviceId>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// Which key had signed the token.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "key_name")]
    pub key: Option<Arc<str>>,
    /// Why: the name of an error code, or words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which node of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Which slot of its map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
    /// The operator's user id on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Event {
    /// An event that is nobody's.
    #[must_use]
    pub const fn new(time: TimestampMs, what: What) -> Self {
        let (user, device, peer, key, reason) = (None, None, None, None, None);
        Self { time, what, user, device, peer, key, reason, node: None, slot: None, uid: None, count: None }
    }

    fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("an event has strings and numbers only");
        line.push('\n');
        line
    }
}

/// In a form that sorts and that every tool reads.
fn iso<S: Serializer>(time: &TimestampMs, serializer: S) -> Result<S::Ok, S::Error> {
    let (seconds, ms) = (time.0 / 1000, time.0 % 1000);
    serializer.collect_str(&format_args!("{}.{ms:03}Z", utc(seconds, ':')))
}

// As strings, as everywhere in JSON here: many readers lose what lies above 2^53.
fn user_id<S: Serializer>(user: &Option<UserId>, serializer: S) -> Result<S::Ok, S::Error> {
    user.map(|user| user.to_string()).serialize(serializer)
}

fn device_id<S: Serializer>(device: &Option<DeviceId>, serializer: S) -> Result<S::Ok, S::Error> {
    device.map(|device| device.to_string()).serialize(serializer)
}

fn key_name<S: Serializer>(key: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_deref().serialize(serializer)
}

/// What the log did, for operators.
#[derive(Debug, Default)]
pub struct AuditCounters {
    /// Lines in the file.
    pub written: AtomicU64,
    /// Lines that are in no file, because the disk refused them and newer ones needed their place.
    pub lost: AtomicU64,
}

#[derive(Debug)]
pub(crate) enum Message {
    Event(Event),
    Reopen,
    End,
}

/// The way to the log, for any thread. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// None: the log is off.
    sender: Option<Sender<Message>>,
    counters: Arc<AuditCounters>,
}

/// The log, open. Closed, with everything written that can be, when the value is dropped.
#[derive(Debug, Default)]
pub struct AuditLog {
    audit: Audit,
    /// The thread that writes; none if the log is off.
    thread: Option<JoinHandle<()>>,
}

impl Audit {
    /// A log that is off: what is reported to it is forgotten.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// A log whose disk does not answer: what is reported waits in its queue, which holds two events.
    #[cfg(test)]
    pub(crate) fn hanging() -> (Self, Receiver<Message>) {
        let (sender, receiver) = bounded(2);
        (Self { sender: Some(sender), counters: Arc::default() }, receiver)
    }

    /// Reports an event and waits for room: for threads that may wait.
    pub fn report(&self, event: Event) {
        self.send(Message::Event(event));
    }

    /// Opens the file anew, because it was moved away. Waits for room.
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> &AuditCounters {
        &self.counters
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // Without the thread the process is ending.
            let _ = sender.send(message);
        }
    }
}

impl AuditLog {
    /// Opens the file, which is made if it does not exist, and starts the thread that writes to it.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread to be had.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_file(path)?;
        let (sender, receiver) = bounded(AUDIT_QUEUE_MAX);
        let audit = Audit { sender: Some(sender), counters: Arc::default() };
        let writer = Writer { path: path.to_owned(), file, log: Log::new(Arc::clone(&audit.counters)), fails: false };
        let thread = thread::Builder::new().name("ringpost-audit".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { audit, thread: Some(thread) })
    }

    /// The way to it.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.audit.clone()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.audit.send(Message::End);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// A core's way to the log: never waits.
#[derive(Debug)]
pub struct Reporter {
    audit: Audit,
    /// What found the queue full, in order: what a core still causes that judges no token, at most an event for each of its
    /// connections.
    kept: VecDeque<Event>,
}

impl Reporter {
    /// To this log.
    #[must_use]
    pub const fn new(audit: Audit) -> Self {
        Self { audit, kept: VecDeque::new() }
    }

    /// Reports an event.
    pub fn report(&mut self, event: Event) {
        if self.audit.sender.is_some() {
            self.kept.push_back(event);
            self.flush();
        }
    }

    /// Hands over what was kept, as far as there is room.
    pub fn flush(&mut self) {
        let Some(sender) = &self.audit.sender else { return };
        while let Some(event) = self.kept.pop_front() {
            match sender.try_send(Message::Event(event)) {
                Ok(()) => {}
                Err(TrySendError::Full(Message::Event(event))) => return self.kept.push_front(event),
                // Without the thread the process is ending.
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Hands over everything, and waits for room: the core has ended.
    pub fn finish(self) {
        self.kept.into_iter().for_each(|event| self.audit.report(event));
    }

    /// Whether the log is behind: nothing should happen that is to be reported.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        !self.kept.is_empty() || self.audit.sender.as_ref().is_some_and(Sender::is_full)
    }
}

/// Lines on their way to the file. PURE but for its counters.
#[derive(Debug)]
struct Log {
    /// The first `written` bytes of the first line are in the file.
    lines: VecDeque<String>,
    written: usize,
    /// Lines that had to make room since the last line was written.
    lost: u64,
    /// Which second, and how many hellos were refused in it: of strangers, and of those with a token that had been good.
    second: u64,
    refusals: [u64; 2],
    counters: Arc<AuditCounters>,
}

impl Log {
    fn new(counters: Arc<AuditCounters>) -> Self {
        Self { lines: VecDeque::new(), written: 0, lost: 0, second: 0, refusals: [0; 2], counters }
    }

    fn take(&mut self, event: &Event) {
        // The stop is the last line.
        if event.time.0 / 1000 != self.second || event.what == What::Stop {
            self.end_second();
            self.second = event.time.0 / 1000;
        }
        if matches!(event.what, What::Refused | What::RefreshRefused) {
            let refusals = &mut self.refusals[usize::from(event.user.is_some())];
            *refusals += 1;
            if *refusals > AUDIT_REFUSALS_MAX {
                return;
            }
        }
        self.push(event);
    }

    /// Says how many refusals of the last second are not listed.
    fn end_second(&mut self) {
        for refusals in std::mem::take(&mut self.refusals) {
            if let Some(count) = refusals.checked_sub(AUDIT_REFUSALS_MAX).filter(|&count| count > 0) {
                let time = TimestampMs(self.second * 1000 + 999);
                self.push(&Event { count: Some(count), ..Event::new(time, What::RefusedMore) });
            }
        }
    }

    fn push(&mut self, event: &Event) {
        if self.lines.len() >= AUDIT_KEPT_MAX {
            // One that is in the file in part goes there whole.
            let oldest = usize::from(self.written > 0);
            self.lines.remove(oldest);
            self.lost += 1;
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.lines.push_back(event.line());
    }

    /// The bytes that are next.
    fn next(&self) -> Vec<IoSlice<'_>> {
        let whole = self.lines.iter().skip(1).take(AUDIT_WRITE_LINES_MAX - 1);
        let first = self.lines.front().map(|line| &line.as_bytes()[self.written..]);
        first.into_iter().chain(whole.map(String::as_bytes)).map(IoSlice::new).collect()
    }

    /// So many of them are in the file.
    fn wrote(&mut self, mut bytes: usize) {
        while let Some(line) = self.lines.front() {
            let left = line.len() - self.written;
            if bytes < left {
                break;
            }
            bytes -= left;
            self.written = 0;
            self.lines.pop_front();
            self.counters.written.fetch_add(1, Ordering::Relaxed);
        }
        self.written += bytes;
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    log: Log,
    /// The last attempt failed, and that has been said.
    fails: bool,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            match receiver.recv_timeout(Duration::from_millis(AUDIT_RETRY_MS)) {
                Ok(Message::Event(event)) => {
                    self.log.take(&event);
                    // What came meanwhile leaves in the same write.
                    if receiver.is_empty() || self.log.lines.len() >= AUDIT_WRITE_LINES_MAX {
                        self.flush();
                    }
                }
                Ok(Message::Reopen) => self.reopen(),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => {
                    self.log.end_second();
                    self.flush();
                    // Best effort: a log that cannot be synced has been complained about.
                    let _ = self.file.sync_all();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.log.end_second();
                    self.flush();
                }
            }
        }
    }

    fn reopen(&mut self) {
        self.flush();
        match open_file(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => error!(path = %self.path.display(), %error, "the audit log stays where it is"),
        }
    }

    fn flush(&mut self) {
        match self.write() {
            Ok(()) if self.fails => {
                self.fails = false;
                let lost = std::mem::take(&mut self.log.lost);
                info!(lost, "the audit log is written again");
                if lost > 0 {
                    self.log.push(&Event { count: Some(lost), ..Event::new(wall_now(), What::Lost) });
                    self.flush();
                }
            }
            Ok(()) => {}
            Err(error) if !self.fails => {
                self.fails = true;
                error!(
                    path = %self.path.display(), %error,
                    "the audit log can not be written: make room; the newest {AUDIT_KEPT_MAX} lines are kept, logins go on"
                );
            }
            Err(_) => {}
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.log.lines.is_empty() {
            match self.file.write_vectored(&self.log.next()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.log.wrote(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Opens the file for appending. A line that a crash has cut short is ended.
/// Whether the audit log at this path can be opened, if there is one. Changes nothing.
///
/// # Errors
/// The system refused something.
pub fn look_at(path: &Path) -> io::Result<()> {
    match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const NOW: TimestampMs = TimestampMs(1_767_225_600_123);

    fn refused(ms: u64, user: Option<u64>) -> Event {
        let reason = Some("token_invalid".to_owned());
        Event { user: user.map(UserId), reason, ..Event::new(TimestampMs(NOW.0 + ms), What::Refused) }
    }

    fn log() -> Log {
        Log::new(Arc::default())
    }

    #[test]
    fn a_line_has_what_is_known_and_nothing_else() {
        let event = Event {
            user: Some(UserId(u64::MAX)),
            device: Some(DeviceId(3)),
            peer: Some("127.0.0.1:5".parse().unwrap()),
            key: Some("a \"key\"".into()),
            ..Event::new(NOW, What::Login)
        };
        assert_eq!(
            event.line(),
            "{\"time\":\"2026-01-01T00:00:00.123Z\",\"event\":\"login\",\"user\":\"18446744073709551615\",\"device\":\"3\",\
             \"peer\":\"127.0.0.1:5\",\"key\":\"a \\\"key\\\"\"}\n"
        );
        assert_eq!(
            Event::new(NOW, What::Start).line(),
            "{\"time\":\"2026-01-01T00:00:00.123Z\",\"event\":\"start\"}\n"
        );
    }

    #[test]
    fn what_strangers_cause_at_will_is_listed_so_often_a_second_and_counted_beyond() {
        let mut log = log();
        for _ in 0..AUDIT_REFUSALS_MAX + 5 {
            log.take(&refused(0, None));
        }
        log.take(&refused(1, Some(7)));
        assert_eq!(log.lines.len() as u64, AUDIT_REFUSALS_MAX + 1, "who had a good token is not hidden by the others");
        log.take(&refused(1_000, None));
        let more = &log.lines[AUDIT_REFUSALS_MAX as usize + 1];
        assert!(more.contains("\"event\":\"refused_more\"") && more.contains("\"count\":5"), "{more}");
        log.end_second();
        assert_eq!(log.lines.len() as u64, AUDIT_REFUSALS_MAX + 3, "nothing to add");
        for _ in 0..=AUDIT_REFUSALS_MAX {
            log.take(&refused(1_000, None));
        }
        log.take(&Event::new(TimestampMs(1_500), What::Stop));
        let last = [log.lines.len() - 2, log.lines.len() - 1].map(|index| log.lines[index].as_str());
        assert!(last[0].contains("refused_more") && last[1].contains("\"event\":\"stop\""), "{last:?}");
    }

    #[test]
    fn while_nothing_can_be_written_the_newest_lines_are_kept_and_the_others_counted() {
        let mut log = log();
        let login = |n| Event { user: Some(UserId(n)), ..Event::new(NOW, What::Login) };
        log.take(&login(1));
        log.wrote(3);
        for n in 2..=AUDIT_KEPT_MAX as u64 + 2 {
            log.take(&login(n));
        }
        assert_eq!((log.lines.len(), log.lost), (AUDIT_KEPT_MAX, 2));
        assert!(log.lines[0].contains("\"1\""), "the one that is in the file in part stays");
        assert!(
            log.lines[1].contains("\"4\"")
                && log.lines[AUDIT_KEPT_MAX - 1].contains(&format!("\"{}\"", AUDIT_KEPT_MAX + 2))
        );
        assert_eq!(log.counters.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn however_the_disk_takes_the_bytes_each_is_there_once() {
        let mut log = log();
        let mut whole = String::new();
        for n in 1..=20 {
            let event = Event { user: Some(UserId(n)), ..Event::new(NOW, What::Login) };
            whole.push_str(&event.line());
            log.take(&event);
        }
        let (mut file, mut step) = (Vec::new(), 0);
        while !log.lines.is_empty() {
            step = step * 7 % 301 + 1;
            let bytes: Vec<u8> = log.next().iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            log.wrote(bytes.len());
            file.extend(bytes);
        }
        assert_eq!(String::from_utf8(file).unwrap(), whole);
        assert_eq!(log.counters.written.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn events_are_in_the_file_when_the_thread_has_ended_also_after_it_was_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        fs::write(&path, "cut short").unwrap();
        let log = AuditLog::open(&path).unwrap();
        let audit = log.audit();
        audit.report(Event::new(NOW, What::Start));
        fs::rename(&path, &moved).unwrap();
        audit.reopen();
        audit.report(Event::new(NOW, What::Stop));
        drop(log);
        let line = |what| Event::new(NOW, what).line();
        assert_eq!(fs::read_to_string(&moved).unwrap(), format!("cut short\n{}", line(What::Start)));
        assert_eq!(fs::read_to_string(&path).unwrap(), line(What::Stop));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        audit.report(Event::new(NOW, What::Stop));
    }

    #[test]
    fn a_full_disk_costs_lines_and_does_not_stop_the_thread() {
        let log = AuditLog::open(Path::new("/dev/full")).unwrap();
        let audit = log.audit();
        for _ in 0..2 * AUDIT_QUEUE_MAX + AUDIT_KEPT_MAX {
            audit.report(Event::new(NOW, What::Login));
        }
        drop(log);
        let lost = audit.counters().lost.load(Ordering::Relaxed);
        assert_eq!((lost, audit.counters().written.load(Ordering::Relaxed)), (2 * AUDIT_QUEUE_MAX as u64, 0));
    }

    #[test]
    fn when_the_disk_takes_lines_again_the_newest_are_there_and_one_that_says_how_many_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let full = open_file(Path::new("/dev/full")).unwrap();
        let mut writer = Writer { path: path.clone(), file: full, log: log(), fails: false };
        for n in 1..=AUDIT_KEPT_MAX as u64 + 3 {
            writer.log.take(&Event { count: Some(n), ..Event::new(NOW, What::Login) });
        }
        writer.flush();
        assert!(writer.fails && writer.log.lines.len() == AUDIT_KEPT_MAX);
        writer.file = open_file(&path).unwrap();
        writer.flush();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), AUDIT_KEPT_MAX + 1);
        assert!(lines[0].ends_with("\"login\",\"count\":4}"), "{}", lines[0]);
        assert!(lines[AUDIT_KEPT_MAX].ends_with("\"lost\",\"count\":3}"), "{}", lines[AUDIT_KEPT_MAX]);
        assert!(!writer.fails && writer.log.lost == 0);
    }

    #[test]
    fn a_reporter_keeps_what_does_not_fit_and_hands_it_over_in_order() {
        let (audit, receiver) = Audit::hanging();
        let mut reporter = Reporter::new(audit);
        for n in 1..=4 {
            reporter.report(Event { count: Some(n), ..Event::new(NOW, What::Login) });
        }
        assert!(reporter.is_stalled());
        let mut counts = Vec::new();
        while let Ok(Message::Event(event)) = receiver.try_recv() {
            counts.extend(event.count);
            reporter.flush();
        }
        assert_eq!(counts, [1, 2, 3, 4]);
        assert!(!reporter.is_stalled());
    }

    #[test]
    fn a_log_that_is_off_keeps_nothing() {
        let mut reporter = Reporter::new(Audit::off());
        reporter.report(Event::new(NOW, What::Login));
        assert!(!reporter.is_stalled());
    }
}
