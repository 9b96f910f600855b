//! Nodes of one cluster whose slots move, over a real database: real servers on addresses of their own, and what they say of who owns what.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use proto_spec::UserId;
use serde_json::Value;
use server::{
    cluster::map::{SLOTS, Slot},
    config::{Ack, Config},
    files::keyfile,
};
use tempfile::TempDir;

use tests::{
    database::Database,
    device::Device,
    process::{Installation, Server},
    route::Route,
    wait_until,
};

/// How long a node that says nothing is taken for alive here.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Nodes {
    program: &'static str,
    nodes: Vec<Installation>,
    servers: Vec<Option<Server>>,
    folder: TempDir,
}

impl Nodes {
    /// Starts so many nodes of a new cluster, called a, b, c and so on, and waits until each has its share.
    ///
    /// # Panics
    /// They do not start.
    #[must_use]
    #[track_caller]
    pub(crate) fn start(database: &Database, program: &'static str, count: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        keyfile::create_if_missing(&folder.path().join("key.pem")).expect("a key can be made");
        let mut all = Self { program, nodes: Vec::new(), servers: Vec::new(), folder };
        for at in 0..count {
            all.add(database);
            all.restart(at);
        }
        all.wait_for_shares(&(0..count).collect::<Vec<_>>());
        all
    }

    /// One node more, which is not started yet.
    pub(crate) fn add(&mut self, database: &Database) {
        let mut node = database.installation(self.program, Ack::Committed);
        // Addresses of a test are nobody else's, so all ports are free.
        node.config.listen.set_port(7600);
        node.config.auth.key_file = self.folder.path().join("key.pem");
        if let Some(first) = self.nodes.first() {
            node.config.store = first.config.store.clone();
        }
        let cluster = &mut node.config.cluster;
        cluster.name = "test".to_owned();
        cluster.node = self.name(self.nodes.len());
        cluster.mesh = Some(SocketAddr::new(node.config.listen.ip(), 7650));
        cluster.clients = node.config.listen.to_string();
        cluster.lease_ms = LEASE.as_millis() as u64;
        self.nodes.push(node);
        self.servers.push(None);
    }

    /// What a node is called.
    #[must_use]
    pub(crate) fn name(&self, at: usize) -> String {
        char::from(b'a' + at as u8).to_string()
    }

    /// What stays of a node when it ends.
    #[must_use]
    pub(crate) fn node(&self, at: usize) -> &Installation {
        &self.nodes[at]
    }

    /// A node that runs.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    #[track_caller]
    pub(crate) fn server(&self, at: usize) -> &Server {
        self.servers[at].as_ref().expect("the node runs")
    }

    /// Starts a node, and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub(crate) fn restart(&mut self, at: usize) {
        self.servers[at] = Some(self.nodes[at].start());
    }

    /// From its next start on a node has a wall clock of its own, which this library gives it, so many seconds off. The clock that only
    /// counts can not be changed like this: threads wait by the kernel's own, so it is the simulator whose clocks run apart.
    pub(crate) fn set_clock(&mut self, at: usize, library: &Path, off_s: i32) {
        let node = &mut self.nodes[at];
        let preload = format!("LD_PRELOAD={}", library.display());
        let clock = format!("FAKETIME={off_s:+}");
        node.wrapper = vec!["env".to_owned(), preload, clock, "DONT_FAKE_MONOTONIC=1".to_owned()];
        // As ever, since clocks differ.
        node.config.auth.leeway_s = Config::default().auth.leeway_s;
    }

    /// The node, which is no longer this value's to end.
    ///
    /// # Panics
    /// It does not run.
    #[track_caller]
    pub(crate) fn take(&mut self, at: usize) -> Server {
        self.servers[at].take().expect("the node runs")
    }

    /// To any of them.
    #[must_use]
    pub(crate) fn route(&self) -> Route {
        Route::through(self.nodes.iter().map(|node| node.config.listen).collect())
    }

    /// A device that comes to any of them.
    #[must_use]
    pub(crate) fn device(&self, user: u64, device: u64) -> Device {
        Device::new(user, device, self.nodes[0].token(user)).along(self.route())
    }

    /// Gives a command on a node.
    ///
    /// # Panics
    /// There is no such program.
    #[must_use]
    pub(crate) fn run(&self, at: usize, command: &str) -> Output {
        let mut line = Command::new(self.program);
        line.args(command.split(' ')).arg("--data").arg(self.nodes[at].data()).output().expect("the program is there")
    }

    /// As `run`; what it prints.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub(crate) fn done(&self, at: usize, command: &str) -> String {
        let output = self.run(at, command);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    fn told(&self, at: usize, command: &str) -> Value {
        serde_json::from_str(&self.done(at, &format!("{command} --json"))).expect("it is JSON")
    }

    /// What a node says of each of them (`ringpost nodes`).
    #[must_use]
    #[track_caller]
    pub(crate) fn states(&self, at: usize) -> Vec<Value> {
        self.told(at, "nodes")["nodes"].as_array().cloned().unwrap_or_default()
    }

    /// Whose each slot is, by what a node says.
    ///
    /// # Panics
    /// A slot is nobody's.
    #[must_use]
    #[track_caller]
    pub(crate) fn owners(&self, at: usize) -> Vec<String> {
        let map = self.told(at, "map");
        let mut owners = vec![String::new(); SLOTS];
        for node in map["nodes"].as_array().expect("there are nodes") {
            for range in node["ranges"].as_array().expect("it has a list of ranges") {
                let number = |name: &str| range[name].as_u64().expect("a range has ends") as usize;
                let name = node["name"].as_str().expect("it has a name");
                owners[number("first")..=number("last")].fill(name.to_owned());
            }
        }
        assert!(!owners.contains(&String::new()), "{map:#}");
        owners
    }

    /// Users whom a node serves, by what one says.
    #[track_caller]
    pub(crate) fn users_of(&self, at: usize, told_by: usize) -> impl Iterator<Item = u64> {
        let (owners, name) = (self.owners(told_by), self.name(at));
        (1..).filter(move |user| owners[usize::from(Slot::of(UserId(*user)).0)] == name)
    }

    /// Waits until these say that each of them owns its share, and others nothing.
    ///
    /// # Panics
    /// It does not come to that.
    #[track_caller]
    pub(crate) fn wait_for_shares(&self, of: &[usize]) {
        let names: Vec<_> = of.iter().map(|at| self.name(*at)).collect();
        let share = SLOTS / of.len();
        wait_until("each node owns its share", || {
            of.iter().all(|at| {
                let owners = self.owners(*at);
                let owned = |name: &String| owners.iter().filter(|owner| *owner == name).count();
                names.iter().all(|name| (share..=share + 1).contains(&owned(name)))
            })
        });
    }

    /// What all of them have logged, for whoever looks for a reason.
    #[must_use]
    pub(crate) fn logs(&self) -> String {
        let log = |at: usize| {
            let text = fs::read_to_string(self.nodes[at].folder().join("log")).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(|line| format!("{}: {line}\n", self.name(at))).collect();
            lines[lines.len().saturating_sub(60)..].concat()
        };
        (0..self.nodes.len()).map(log).collect()
    }
}
