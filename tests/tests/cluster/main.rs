//! Three nodes of a static cluster, as real processes on loopback addresses: users of different nodes write to each other, and nodes
//! die, pause and come back. Clients that follow no redirect: `tunnels`.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

mod tunnels;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use proto_spec::{
    ClientFrame, Content, ErrorCode, Event, Presence, RedirectReason, RequestId, Resume, SendNumber, Seq, ServerFrame,
    Status, UserId, limits::REDIRECTS_MAX,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use server::{
    cluster::{file::Nodes, map::Slot},
    files::keyfile,
    shard::topology::NodeId,
};
use tempfile::TempDir;
use tests::{
    connection::{Connection, Received, hello},
    device::{Device, Step},
    process::{Installation, Server},
    relay::Relay,
    wait_until,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three nodes, and what is the same for all of them.
struct Cluster {
    nodes: Vec<Installation>,
    servers: Vec<Option<Server>>,
    map: Nodes,
    _folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("token-key.pem");
        keyfile::create_if_missing(&key_file).unwrap();
        let mut nodes: Vec<_> =
            NAMES.iter().map(|_| Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"))).collect();
        let mut text = "name = \"test\"\n".to_owned();
        for (name, node) in NAMES.iter().zip(&mut nodes) {
            // Addresses of a test are nobody else's, so all ports are free.
            node.config.listen.set_port(7600);
            let mesh = SocketAddr::new(node.config.listen.ip(), 7650);
            text += &format!("[nodes.{name}]\nmesh = \"{mesh}\"\nclients = \"{}\"\n", node.config.listen);
        }
        let file = folder.path().join("cluster.toml");
        fs::write(&file, &text).unwrap();
        for (name, node) in NAMES.iter().zip(&mut nodes) {
            node.config.auth.key_file = key_file.clone();
            node.config.cluster.file = file.clone();
            node.config.cluster.node = (*name).to_owned();
        }
        let map = Nodes::parse(&text).unwrap();
        Self { servers: nodes.iter().map(|_| None).collect(), nodes, map, _folder: folder }
    }

    fn started() -> Self {
        Self::new().and_start()
    }

    fn and_start(mut self) -> Self {
        for at in 0..NAMES.len() {
            self.start(at);
        }
        self.wait_for_links(&[0, 1, 2]);
        self
    }

    /// The node proves who it is with a certificate for this name that this authority has signed.
    fn certify(&mut self, at: usize, name: &str, authority: &Authority) {
        let folder = self.nodes[at].folder();
        let [cert_file, key_file, ca_file] = ["cert.pem", "key.pem", "ca.pem"].map(|file| folder.join(file));
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        fs::write(&cert_file, params.signed_by(&key, &authority.issuer).unwrap().pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
        fs::write(&ca_file, &authority.pem).unwrap();
        let config = &mut self.nodes[at].config.cluster;
        (config.cert_file, config.key_file, config.ca_file) = (cert_file, key_file, ca_file);
    }

    fn start(&mut self, at: usize) {
        self.servers[at] = Some(self.nodes[at].start());
    }

    fn kill(&mut self, at: usize) {
        self.servers[at].take().unwrap().kill();
    }

    fn server(&self, at: usize) -> &Server {
        self.servers[at].as_ref().unwrap()
    }

    /// A metric of a node, of all its cores together.
    fn metric(&self, at: usize, name: &str) -> f64 {
        let metrics = self.server(at).metrics();
        metrics.iter().filter(|(of, _)| of.split('{').next() == Some(name)).map(|(_, value)| value).sum()
    }

    /// Each of these nodes can reach the others.
    fn wait_for_links(&self, among: &[usize]) {
        wait_until("the nodes can reach each other", || {
            among.iter().all(|at| self.metric(*at, "ringpost_core_links") >= (among.len() - 1) as f64)
        });
    }

    /// Users whose home is this node.
    fn users(&self, at: usize) -> impl Iterator<Item = u64> {
        (1..).filter(move |user| self.map.map.owner(Slot::of(UserId(*user))) == NodeId(at as u16))
    }

    fn user(&self, at: usize) -> u64 {
        self.users(at).next().unwrap()
    }

    fn address(&self, at: usize) -> SocketAddr {
        self.nodes[at].config.listen
    }

    fn device(&self, user: u64) -> Device {
        Device::new(user, 1, self.nodes[0].token(user))
    }

    fn connected(&self, at: usize, user: u64) -> Device {
        let mut device = self.device(user);
        device.connect(self.address(at), Resume::Stored);
        device
    }

    fn log(&self, at: usize) -> String {
        self.nodes[at].log()
    }
}

/// Signs the certificates of nodes.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

/// What was said to a device by somebody, in its order.
fn heard_from(device: &Device, author: u64) -> Vec<String> {
    let received = device.received();
    received.into_iter().filter(|(_, from, ..)| *from == author).map(|(.., text)| text.to_owned()).collect()
}

/// Whether a check of the configuration finds nothing wrong, and what it says.
fn check(node: &Installation) -> (bool, String) {
    let file = node.folder().join("checked.toml");
    fs::write(&file, node.config.to_toml()).unwrap();
    let mut line = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let output = line.args(["serve", "--check-config", "--config"]).arg(&file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// How far the other side is known to have what a device has sent.
fn delivered_up_to(device: &Device) -> u64 {
    let marks = device.log.values().filter_map(|entry| match entry.event {
        Event::Delivered { up_to, .. } => Some(up_to.0),
        _ => None,
    });
    marks.max().unwrap_or(0)
}

fn step_all(devices: &mut [Device]) {
    for device in devices.iter_mut().filter(|device| device.is_connected()) {
        while device.step(Duration::from_millis(1)) == Step::Frame {}
        device.acknowledge();
    }
}

#[test]
fn users_of_different_nodes_write_to_each_other_in_order_and_learn_that_it_has_arrived() {
    const EACH: usize = 50;
    let (mut cluster, authority) = (Cluster::new(), Authority::new("nodes"));
    for (at, name) in NAMES.iter().enumerate() {
        cluster.certify(at, name, &authority);
    }
    let cluster = cluster.and_start();
    let mut people: Vec<_> = (0..3).map(|at| cluster.connected(at, cluster.user(at))).collect();
    for n in 0..EACH {
        for at in 0..3 {
            let to = people[(at + 1) % 3].user;
            people[at].say(to, &format!("{n}"));
        }
        step_all(&mut people);
    }
    let users: Vec<_> = people.iter().map(|device| device.user).collect();
    wait_until("everybody has everything, and knows that the others have", || {
        step_all(&mut people);
        (0..3).all(|at| {
            let (me, before) = (&people[at], users[(at + 2) % 3]);
            let last_sent = me.accepted.values().max().copied().unwrap_or(0);
            heard_from(me, before).len() == EACH && delivered_up_to(me) == last_sent && me.unanswered() == 0
        })
    });
    let expected: Vec<_> = (0..EACH).map(|n| n.to_string()).collect();
    for at in 0..3 {
        assert_eq!(heard_from(&people[at], users[(at + 2) % 3]), expected);
        assert!(cluster.metric(at, "ringpost_core_mesh_sent_total") >= EACH as f64);
    }
}

#[test]
fn a_client_that_comes_to_the_wrong_node_is_told_the_right_one() {
    let cluster = Cluster::started();
    let user = cluster.user(1);
    let greet = |hops| {
        let mut connection = Connection::open(cluster.address(0)).unwrap();
        let ClientFrame::Hello { version_min, version_max, device, resume, token, epoch, since, skip_above, .. } =
            hello(&cluster.nodes[0].token(user), 1, Resume::Stored)
        else {
            panic!("a hello is a hello");
        };
        let hello =
            ClientFrame::Hello { version_min, version_max, device, resume, token, epoch, since, skip_above, hops };
        connection.send(&[hello]);
        let first = connection.frame();
        assert_eq!(connection.frame(), None, "nothing follows");
        first
    };
    let told = greet(1);
    let Some(ServerFrame::Redirect { address, reason, after_ms: 0, .. }) = &told else { panic!("{told:?}") };
    assert_eq!((address, reason), (&cluster.address(1).to_string(), &RedirectReason::Elsewhere));
    assert_eq!(greet(REDIRECTS_MAX), told);
    let bye = greet(REDIRECTS_MAX + 1);
    let Some(ServerFrame::Bye { code, retry_after_ms, detail, .. }) = bye else { panic!("{bye:?}") };
    assert_eq!(code, ErrorCode::Elsewhere);
    assert!(retry_after_ms > 0 && detail.contains('b'), "{detail}");
    assert_eq!(cluster.metric(0, "ringpost_core_redirected_total"), 2.0);
    cluster.connected(1, user).step(Duration::ZERO);
}

#[test]
fn a_node_that_is_killed_costs_its_users_time_and_nobody_a_message() {
    const EACH: usize = 40;
    let mut cluster = Cluster::started();
    let (alice, bob, carol) = (cluster.user(0), cluster.user(1), cluster.user(2));
    let mut people = [cluster.connected(0, alice), cluster.connected(1, bob), cluster.connected(2, carol)];
    for n in 0..EACH {
        people[0].say(bob, &format!("a{n}"));
        people[1].say(alice, &format!("b{n}"));
        people[2].say(alice, &format!("c{n}"));
        if n == EACH / 2 {
            // In the middle of it, with messages under way in both directions.
            cluster.kill(1);
            people[1].disconnect();
        }
        step_all(&mut people);
    }
    // The others go on, with each other and with who is away.
    wait_until("what was written to somebody of a node that is away is accepted", || {
        step_all(&mut people);
        people[0].unanswered() == 0 && heard_from(&people[0], carol).len() == EACH
    });
    assert!(heard_from(&people[1], alice).len() < EACH);
    cluster.start(1);
    people[1].connect(cluster.address(1), Resume::Stored);
    wait_until("the node is back, and everybody has everything", || {
        step_all(&mut people);
        heard_from(&people[1], alice).len() == EACH
            && heard_from(&people[0], bob).len() == EACH
            && delivered_up_to(&people[0]) == *people[0].accepted.values().max().unwrap()
    });
    let said = |letter: char| (0..EACH).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    assert_eq!(heard_from(&people[1], alice), said('a'));
    assert_eq!(heard_from(&people[0], bob), said('b'));
    assert_eq!(heard_from(&people[0], carol), said('c'));
}

#[test]
fn a_node_that_stands_still_holds_up_nobody_else_and_goes_on_when_it_wakes() {
    const EACH: usize = 20;
    let cluster = Cluster::started();
    let (alice, bob, carol) = (cluster.user(0), cluster.user(1), cluster.user(2));
    let mut people = [cluster.connected(0, alice), cluster.connected(1, bob), cluster.connected(2, carol)];
    cluster.server(1).signal("STOP");
    let mut bob_device = None;
    for n in 0..EACH {
        people[0].say(bob, &format!("{n}"));
        people[0].say(carol, &format!("{n}"));
        step_all(&mut people[..1]);
    }
    wait_until("those of other nodes have what was written to them", || {
        step_all(&mut people[..1]);
        step_all(&mut people[2..]);
        heard_from(&people[2], alice).len() == EACH && people[0].unanswered() == 0
    });
    // Long enough for the others to give its links up.
    wait_until("the node is given up", || cluster.metric(0, "ringpost_core_links") == 1.0);
    cluster.server(1).signal("CONT");
    wait_until("it has woken, and its users have everything", || {
        step_all(&mut people);
        if !people[1].is_connected() {
            let mut again = cluster.device(bob);
            again.connect(cluster.address(1), Resume::Stored);
            bob_device = Some(again);
        }
        let device = bob_device.as_mut().unwrap_or(&mut people[1]);
        while device.is_connected() && device.step(Duration::from_millis(1)) == Step::Frame {}
        heard_from(device, alice).len() == EACH
    });
    let device = bob_device.as_ref().unwrap_or(&people[1]);
    assert_eq!(heard_from(device, alice), (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Three nodes, of which the first reaches the second through a relay.
fn with_relay() -> (Cluster, Relay) {
    let mut cluster = Cluster::new();
    let mesh = cluster.map.node(NodeId(1)).mesh;
    let listen = SocketAddr::new(mesh.ip(), mesh.port() + 1);
    cluster.nodes[1].config.cluster.listen = Some(listen);
    let relay = Relay::start(mesh, listen);
    (cluster.and_start(), relay)
}

#[test]
fn a_link_that_is_cut_in_one_direction_is_given_up_and_loses_and_doubles_nothing() {
    const EACH: usize = 10;
    let (cluster, relay) = with_relay();
    let (alice, bob, carol) = (cluster.user(0), cluster.user(1), cluster.user(2));
    let mut people = [cluster.connected(0, alice), cluster.connected(1, bob), cluster.connected(2, carol)];
    let mut said = 0;
    // From the first node to the second one, the other way round, and both.
    for (forth, back) in [(true, false), (false, true), (true, true)] {
        relay.cut(forth, back);
        for _ in 0..EACH {
            said += 1;
            people[0].say(bob, &format!("{said}"));
            people[1].say(alice, &format!("{said}"));
            people[0].say(carol, &format!("{said}"));
            step_all(&mut people);
        }
        wait_until("who is not behind the cut has everything", || {
            step_all(&mut people);
            heard_from(&people[2], alice).len() == said && people.iter().all(|device| device.unanswered() == 0)
        });
        wait_until("the link is given up at both ends", || {
            step_all(&mut people);
            [0, 1].iter().all(|at| cluster.metric(*at, "ringpost_core_links") == 1.0)
        });
        relay.cut(false, false);
        wait_until("all have everything", || {
            step_all(&mut people);
            [(0, bob), (1, alice)].iter().all(|(at, author)| heard_from(&people[*at], *author).len() >= said)
        });
    }
    let all: Vec<_> = (1..=said).map(|n| n.to_string()).collect();
    for (at, author) in [(0, bob), (1, alice), (2, alice)] {
        assert_eq!(heard_from(&people[at], author), all);
    }
}

#[test]
fn a_slow_link_delays_what_goes_through_it_and_nothing_else() {
    const EACH: usize = 30;
    let (cluster, relay) = with_relay();
    let (alice, bob, carol) = (cluster.user(0), cluster.user(1), cluster.user(2));
    let mut people = [cluster.connected(0, alice), cluster.connected(1, bob), cluster.connected(2, carol)];
    relay.delay(Duration::from_millis(1_500));
    let before = relay.bytes();
    for n in 0..EACH {
        people[0].say(bob, &format!("{n}"));
        people[0].say(carol, &format!("{n}"));
        step_all(&mut people);
    }
    let mut behind = 0;
    wait_until("who is not behind the slow link has everything", || {
        step_all(&mut people);
        behind = EACH - heard_from(&people[1], alice).len();
        heard_from(&people[2], alice).len() == EACH
    });
    assert!(behind > 0, "what goes through a slow link takes its time");
    wait_until("who is has it too", || {
        step_all(&mut people);
        heard_from(&people[1], alice).len() >= EACH
    });
    assert!(relay.bytes() > before, "it went through the relay");
    assert_eq!(heard_from(&people[1], alice), (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(cluster.metric(0, "ringpost_core_links_ended_total"), 0.0, "a slow link is none that is silent");
}

#[test]
fn nodes_with_different_files_do_not_talk_and_say_why() {
    let mut cluster = Cluster::new();
    let path: PathBuf = cluster.nodes[0].folder().join("other.toml");
    let text = fs::read_to_string(&cluster.nodes[0].config.cluster.file).unwrap();
    fs::write(&path, format!("{text}weight = 2\n")).unwrap();
    cluster.nodes[2].config.cluster.file = path;
    for at in 0..3 {
        cluster.start(at);
    }
    wait_until("the nodes say what is wrong", || {
        [0, 1].iter().all(|at| cluster.log(*at).contains("different cluster files"))
    });
    cluster.wait_for_links(&[0, 1]);
    assert_eq!(cluster.metric(2, "ringpost_core_links"), 0.0);
    assert!(cluster.log(2).contains("different cluster files"));
}

#[test]
fn a_node_that_can_not_prove_which_one_it_is_is_not_let_in() {
    let (authority, other) = (Authority::new("nodes"), Authority::new("somebody else"));
    for (name, signed_by, words) in [("b", &other, "UnknownIssuer"), ("c", &authority, "another node's")] {
        let mut cluster = Cluster::new();
        cluster.certify(0, "a", &authority);
        cluster.certify(1, name, signed_by);
        // The node that dials is the one with the lower number: here it is let in, or not, by the other one.
        cluster.certify(2, "c", &authority);
        for at in 0..3 {
            cluster.start(at);
        }
        wait_until("the others can reach each other", || cluster.metric(0, "ringpost_core_links") >= 1.0);
        wait_until("the nodes say what is wrong", || (0..3).any(|at| cluster.log(at).contains(words)));
        assert_eq!(cluster.metric(1, "ringpost_core_links"), 0.0, "{}", cluster.log(1));
    }
}

#[test]
fn a_place_among_others_that_is_not_there_is_refused() {
    let mut cluster = Cluster::new();
    let node = &mut cluster.nodes[0];
    let file = node.config.cluster.file.clone();
    node.config.cluster.node = "d".to_owned();
    let (code, said) = node.refused();
    assert!(code == 1 && said.contains("there is no node \"d\"") && said.contains("there are a, b, c"), "{said}");
    node.config.cluster.node = "a".to_owned();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("mesh = \"127.", "mesh = \"10.", 1)).unwrap();
    let (code, said) = node.refused();
    assert!(code == 1 && said.contains("allow_plain_tcp_beyond_loopback"), "{said}");
    fs::remove_file(&file).unwrap();
    let (code, said) = node.refused();
    assert!(code == 1 && said.contains("cannot be read"), "{said}");
}

#[test]
fn a_data_folder_is_served_by_the_node_and_the_map_that_it_was_made_by() {
    let mut cluster = Cluster::new();
    cluster.start(0);
    cluster.servers[0].take().unwrap().stop();
    let node = &mut cluster.nodes[0];
    let (is_good, said) = check(node);
    assert!(is_good, "{said}");
    let refuses = |node: &Installation, words: &str| {
        let (is_good, said) = check(node);
        assert!(!is_good && said.contains(words), "{said}");
        let (code, said) = node.refused();
        assert!(code == 1 && said.contains(words), "{said}");
    };
    let before = fs::read(node.data().join("CLUSTER")).unwrap();
    let file = node.config.cluster.file.clone();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}weight = 2\n")).unwrap();
    refuses(node, "other users");
    fs::write(&file, text).unwrap();
    let alone = std::mem::take(&mut node.config.cluster);
    refuses(node, "users of node a");
    node.config.cluster = alone;
    assert_eq!(fs::read(node.data().join("CLUSTER")).unwrap(), before);
    cluster.start(0);
}

#[test]
fn a_check_of_the_configuration_says_which_node_it_is() {
    let mut cluster = Cluster::new();
    let (is_good, said) = check(&cluster.nodes[1]);
    assert!(is_good && said.contains("be node b of the cluster test, one of 3, with 85 of the 256 slots"), "{said}");
    cluster.nodes[1].config.cluster.node = "d".to_owned();
    let (is_good, said) = check(&cluster.nodes[1]);
    assert!(!is_good && said.contains("there is no node \"d\""), "{said}");
}

#[test]
fn a_command_about_a_user_of_another_node_is_sent_there_and_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.start(0);
    let user = cluster.user(1);
    let run = |command: &str, user: u64| {
        let mut line = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        line.args(command.split(' ')).args(["--user", &user.to_string(), "--data"]).arg(cluster.nodes[0].data());
        let output = line.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for command in ["devices list", "devices remove --device 1", "revoke", "revoke --lift"] {
        let (is_done, said) = run(command, user);
        assert!(!is_done && said.contains("node b serves user"), "{command}: {said}");
    }
    for command in ["devices list", "revoke", "revoke --lift"] {
        let (is_done, said) = run(command, cluster.user(0));
        assert!(is_done, "{command}: {said}");
    }
}

#[test]
fn each_node_tells_who_is_there_and_who_owns_what_and_whom_it_reaches() {
    let mut cluster = Cluster::started();
    let run = |cluster: &Cluster, at: usize, command: &str| {
        let mut line = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        let output = line.args(command.split(' ')).arg("--data").arg(cluster.nodes[at].data()).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let reached = |cluster: &Cluster, at: usize| {
        let told: Value = serde_json::from_str(&run(cluster, at, "nodes --json")).unwrap();
        let nodes = told["nodes"].as_array().unwrap().clone();
        let names = nodes.iter().map(|node| node["name"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((told["cluster"].as_str(), names), (Some("test"), NAMES.to_vec()));
        nodes.iter().map(|node| node["link"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(reached(&cluster, 0), ["here", "linked", "linked"]);
    assert_eq!(reached(&cluster, 2), ["linked", "linked", "here"]);
    let table = run(&cluster, 1, "nodes");
    let line = table.lines().find(|line| line.starts_with("b ")).unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    let [mesh, clients] = [7650, 7600].map(|port| SocketAddr::new(cluster.address(1).ip(), port).to_string());
    assert_eq!(cells, ["b", &mesh, &clients, "-", "1", "85", "here", "-"]);
    let map = run(&cluster, 0, "map");
    assert_eq!(map, run(&cluster, 2, "map"), "all nodes go by the same map");
    let told: Value = serde_json::from_str(&run(&cluster, 1, "map --json")).unwrap();
    for slot in Slot::all() {
        let owner = &told["nodes"][usize::from(cluster.map.map.owner(slot).0)];
        let has = |range: &&Value| {
            (range["first"].as_u64().unwrap()..=range["last"].as_u64().unwrap()).contains(&slot.0.into())
        };
        assert_eq!(owner["ranges"].as_array().unwrap().iter().filter(has).count(), 1, "{slot:?}: {map}");
    }
    for command in ["drain b", "drain b --undo", "move 7 b", "move 7 --unpin"] {
        let mut line = Command::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        let output = line.args(command.split(' ')).arg("--data").arg(cluster.nodes[0].data()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
        assert!(said.contains("whose map is a file (cluster.file)"), "{command}: {said}");
    }
    // The operator is answered before the audit log's thread has written the line.
    wait_until("each is in the audit log", || {
        let audit = fs::read_to_string(cluster.nodes[0].data().join("audit.log")).unwrap();
        let refused = |line: &&str| line.contains("operator_refused") && line.contains("cluster.file");
        audit.lines().filter(refused).count() == 4
    });
    cluster.kill(1);
    wait_until("the node is not reached", || reached(&cluster, 0) == ["here", "away", "linked"]);
}

#[test]
fn what_came_before_the_first_link_goes_out_with_it() {
    let mut cluster = Cluster::new();
    cluster.start(0);
    let (alice, bob) = (cluster.user(0), cluster.user(1));
    let mut sender = cluster.connected(0, alice);
    for n in 0..5 {
        sender.say(bob, &format!("{n}"));
    }
    sender.step_until("what was written is accepted", |device| device.unanswered() == 0);
    cluster.start(1);
    let mut recipient = cluster.connected(1, bob);
    wait_until("it has arrived", || {
        while recipient.step(Duration::from_millis(1)) == Step::Frame {}
        heard_from(&recipient, alice).len() == 5
    });
    let heard: BTreeMap<_, _> = recipient.log.values().map(|entry| (entry.seq, &entry.event)).collect();
    assert!(heard.keys().all(|seq| *seq > Seq::ZERO));
}

/// The state of a user, as somebody is told who watches them from now on.
fn watched(connection: &mut Connection, user: u64) -> Presence {
    connection.send(&[ClientFrame::Watch { request: RequestId(1), users: vec![UserId(user)] }]);
    connection.until(|frame| match frame {
        ServerFrame::Presence { request: RequestId(1), states, .. } => Some(states[0].state),
        _ => None,
    })
}

#[test]
fn who_is_there_and_who_types_is_told_from_node_to_node_while_these_live() {
    let mut cluster = Cluster::new();
    for node in &mut cluster.nodes {
        let presence = &mut node.config.presence;
        (presence.hold_ms, presence.grace_ms, presence.tick_ms) = (100, 500, 100);
        node.config.cores = 2;
    }
    let mut cluster = cluster.and_start();
    let [alice, bob] = [0, 1].map(|at| cluster.user(at));
    let [mut a, mut b] = [(0, alice), (1, bob)].map(|(at, user)| cluster.nodes[at].login(user, 1, Resume::Stored));
    let message = Content::text("hello");
    a.send(&[ClientFrame::Send { number: SendNumber(1), to: UserId(bob).into(), content: message }]);
    b.until(|frame| matches!(frame, ServerFrame::Deliver { .. }).then_some(()));
    wait_until("each sees the other", || {
        watched(&mut a, bob) == Presence::Online && watched(&mut b, alice) == Presence::Online
    });
    b.send(&[ClientFrame::SetStatus { status: Status::Away }]);
    let pushed = |frame| match frame {
        ServerFrame::Presence { request: RequestId(0), states, .. } => Some(states[0].state),
        _ => None,
    };
    assert_eq!(a.until(pushed), Presence::Away);
    // What comes sooner than the server takes is passed over.
    wait_until("Alice is seen to type", || {
        a.send(&[ClientFrame::Typing { conversation: UserId(bob).into() }]);
        matches!(b.receive(Duration::from_millis(200)), Received::Frame(ServerFrame::Typing { user, .. }) if user.0 == alice)
    });
    cluster.kill(1);
    wait_until("nothing is known of Bob", || watched(&mut a, bob) == Presence::Unknown);
    assert_eq!(watched(&mut a, alice), Presence::Online, "users of other nodes are seen as ever");
    cluster.start(1);
    let _b = cluster.nodes[1].login(bob, 1, Resume::Stored);
    wait_until("Bob is back", || watched(&mut a, bob) == Presence::Online);
    for at in [0, 1] {
        assert_eq!(cluster.metric(at, "ringpost_core_mesh_astray_total"), 0.0);
    }
}
