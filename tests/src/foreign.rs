//! Clients in other languages: a program that is told what to do on its standard input and says what happens on its standard output, line
//! by line; and what the server has, to compare with.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use proto_spec::{ConversationId, Entry, Event, Resume, Seq, ServerFrame};

use crate::{process::Installation, wait_until};

/// A program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    stdin: ChildStdin,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Starts it.
    ///
    /// # Panics
    /// It can not be started.
    #[must_use]
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let seen = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, stdin, lines }
    }

    /// Tells it to do something.
    ///
    /// # Panics
    /// It has ended.
    #[track_caller]
    pub fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").expect("it listens");
    }

    /// What follows these words in the lines that begin with them.
    #[must_use]
    pub fn told(&self, start: &str) -> Vec<String> {
        self.lines().iter().filter_map(|line| line.strip_prefix(start)).map(str::to_owned).collect()
    }

    /// Waits for the nth line that begins with these words, and gives what follows them.
    ///
    /// # Panics
    /// It is not said in time.
    #[track_caller]
    pub fn tells(&self, start: &str, count: usize) -> String {
        let what =
            || format!("{count} times `{start}`; the end of what it said: {:?}", self.told("").iter().rev().take(9));
        wait_until(&what(), || self.told(start).len() >= count);
        self.told(start).swap_remove(count - 1)
    }

    /// `kill -9`. What it has said until then.
    ///
    /// # Panics
    /// It is no child of this process.
    #[must_use]
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it is a child of this process");
        self.child.wait().expect("it is a child of this process");
        self.told("")
    }

    /// It says bye, having said nothing that was not expected.
    ///
    /// # Panics
    /// It has failed.
    #[track_caller]
    pub fn quit(mut self) {
        self.tell("quit");
        self.tells("bye", 1);
        assert_eq!(self.told("unexpected"), [""; 0]);
        assert!(self.child.wait().is_ok_and(|status| status.success()));
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a message between two users, with who wrote it and to whom.
#[must_use]
pub fn message(me: u64, entry: &Entry) -> Option<(u64, u64, String)> {
    match &entry.event {
        Event::Received { from, content, .. } => Some((from.0, me, content.as_text()?.to_owned())),
        Event::Sent { to: ConversationId::Person(to), content, .. } => Some((me, to.0, content.as_text()?.to_owned())),
        _ => None,
    }
}

/// What a newcomer among the user's devices is told, until that has so many messages: the entries, and up to where it is the log.
///
/// # Panics
/// The connection ends before.
#[must_use]
#[track_caller]
pub fn log_of(installation: &Installation, user: u64, messages: usize) -> (BTreeMap<u64, Entry>, u64) {
    let mut connection = installation.login(user, 9, Resume::After(Seq::ZERO));
    let (mut log, mut position) = (BTreeMap::new(), 0);
    while log.values().filter_map(|entry| message(user, entry)).count() < messages {
        let (entries, last) = match connection.frame() {
            Some(ServerFrame::Page(page)) => (page.entries, page.last.0),
            Some(ServerFrame::Deliver { entry }) => (vec![entry.clone()], entry.seq.0),
            // What is told of groups and epochs is of no log of messages.
            Some(_) => continue,
            None => panic!("user {user}: the connection has ended at seq {position}"),
        };
        log.extend(entries.into_iter().map(|entry| (entry.seq.0, entry)));
        position = last;
    }
    (log, position)
}
