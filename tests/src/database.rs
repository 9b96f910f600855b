//! A real FoundationDB, for tests that are run against one: RINGPOST_FDB_CLUSTER_FILE names its cluster file. Its processes can be
//! stopped and killed if they are this machine's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use server::config::{Ack, Backend};

use crate::process::Installation;

/// How long a supervisor gets to start a process again before the test does.
const SUPERVISOR: Duration = Duration::from_secs(2);

/// The database.
#[derive(Debug)]
pub struct Database {
    cluster_file: PathBuf,
}

/// A process of the database: how it was started.
#[derive(Clone, Debug)]
struct Process {
    id: String,
    program: PathBuf,
    line: Vec<String>,
}

impl Database {
    /// The one that RINGPOST_FDB_CLUSTER_FILE names; otherwise says that the test has not run.
    #[must_use]
    pub fn of_this_run() -> Option<Self> {
        let file = env::var_os("RINGPOST_FDB_CLUSTER_FILE");
        if file.is_none() {
            println!("NOT RUN: RINGPOST_FDB_CLUSTER_FILE is not set");
        }
        Some(Self { cluster_file: fs::canonicalize(file?).expect("the cluster file is there") })
    }

    /// A server with its history here, under a prefix of its own.
    #[must_use]
    pub fn installation(&self, program: &str, ack: Ack) -> Installation {
        let mut installation = Installation::new(program);
        let store = &mut installation.config.store;
        store.backend = Backend::FoundationDb;
        store.cache_bytes = server::config::Store::default().cache_bytes;
        store.foundationdb.cluster_file.clone_from(&self.cluster_file);
        store.foundationdb.prefix = format!("test-{:016x}/", rand::random::<u64>());
        store.foundationdb.ack = ack;
        installation
    }

    /// Its processes on this machine: those that were started with its cluster file, or serve one of its addresses.
    fn processes(&self) -> Vec<Process> {
        let cluster = fs::read_to_string(&self.cluster_file).expect("the cluster file can be read");
        let addresses: Vec<&str> = cluster.trim().rsplit('@').next().unwrap_or_default().split(',').collect();
        let read = |folder: &Path| -> Option<Process> {
            let id = folder.file_name()?.to_str()?.to_owned();
            let line = String::from_utf8(fs::read(folder.join("cmdline")).ok()?).ok()?;
            let line: Vec<String> = line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            let is_server = line.first()?.rsplit('/').next() == Some("fdbserver");
            let file = self.cluster_file.to_str()?;
            let is_ours = |word: &String| word.contains(file) || addresses.iter().any(|at| word.contains(at));
            let program = fs::read_link(folder.join("exe")).ok()?;
            (is_server && line.iter().any(is_ours)).then_some(Process { id, program, line })
        };
        let folders = fs::read_dir("/proc").expect("/proc can be read").flatten();
        folders.filter_map(|entry| read(&entry.path())).collect()
    }

    /// Stops all processes where they are, as a machine that hangs does, until the value is dropped.
    ///
    /// # Panics
    /// They are not on this machine.
    #[must_use]
    pub fn stop(&self) -> Stopped {
        let processes = self.processes();
        assert!(!processes.is_empty(), "no fdbserver of {} is on this machine", self.cluster_file.display());
        processes.iter().for_each(|process| signal("-STOP", process));
        Stopped(processes)
    }

    /// Kills a process; starts it again if nobody else does.
    ///
    /// # Panics
    /// It is not on this machine, or cannot be started.
    pub fn crash(&self, which: usize) -> Option<Child> {
        let processes = self.processes();
        assert!(!processes.is_empty(), "no fdbserver of {} is on this machine", self.cluster_file.display());
        let victim = &processes[which % processes.len()];
        signal("-KILL", victim);
        thread::sleep(SUPERVISOR);
        if self.processes().len() == processes.len() {
            return None;
        }
        let mut command = Command::new(&victim.program);
        command.args(&victim.line[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(command.spawn().expect("the process can be started again"))
    }
}

/// A database whose processes stand still.
#[derive(Debug)]
pub struct Stopped(Vec<Process>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| signal("-CONT", process));
    }
}

fn signal(signal: &str, process: &Process) {
    let status = Command::new("kill").args([signal, &process.id]).status().expect("there is `kill`");
    assert!(status.success(), "{signal} {process:?}");
}
