//! Real servers behind a balancer: HAProxy with the configuration that the operator is given, and what comes past it.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use proto_spec::{ErrorCode, Resume, ServerFrame};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use server::{config::AdminListen, files::keyfile};
use socket2::{Domain, Socket, Type};
use tests::{
    connection::{Connection, hello},
    device::Device,
    process::{Installation, Server},
    tls::{certify, trusting},
    wait_until,
};

/// What the operator is given, with addresses of a network.
const CONFIGURATION: &str = include_str!("../../server/haproxy.example.cfg");

/// Where HAProxy comes from when it connects to an address of loopback.
const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that takes headers from the balancer. Its two addresses stay.
fn node(change: impl FnOnce(&mut Installation)) -> (Installation, Server) {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.config.connections.proxy_networks = vec![BALANCER.into()];
    change(&mut installation);
    let server = installation.start();
    installation.config.admin_listen = AdminListen::At(server.admin());
    (installation, server)
}

/// Two nodes behind HAProxy. Tokens are good for both.
struct World {
    nodes: [(Installation, Server); 2],
    haproxy: Child,
    /// Where clients connect.
    address: SocketAddr,
    log: PathBuf,
}

impl World {
    /// None where there is no HAProxy.
    fn new(mut change: impl FnMut(&mut Installation)) -> Option<Self> {
        match Command::new("haproxy").arg("-v").stdout(Stdio::null()).status() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("NOT RUN: haproxy is not installed");
                return None;
            }
            status => assert!(status.unwrap().success()),
        }
        let mut key = None;
        let nodes = [(); 2].map(|()| {
            node(|installation| {
                let key = key.get_or_insert_with(|| installation.folder().join("token-key.pem"));
                keyfile::create_if_missing(key).unwrap();
                installation.config.auth.key_file.clone_from(key);
                change(installation);
            })
        });
        let (first, _) = &nodes[0];
        // On an address that is this test's own, so that nobody else takes it meanwhile.
        let address = TcpListener::bind((first.config.listen.ip(), 0)).unwrap().local_addr().unwrap();
        let (file, log) = (first.folder().join("haproxy.cfg"), first.folder().join("haproxy.log"));
        fs::write(&file, configuration(address, &nodes)).unwrap();
        let output = File::create(&log).unwrap();
        let haproxy =
            Command::new("haproxy").args(["-db", "-f"]).arg(&file).stderr(output).stdin(Stdio::null()).spawn().unwrap();
        let mut world = Self { nodes, haproxy, address, log };
        wait_until("the balancer listens", || {
            assert!(world.haproxy.try_wait().unwrap().is_none(), "{}", world.said());
            TcpStream::connect(address).is_ok()
        });
        Some(world)
    }

    /// As the user whose machine this address is: the balancer keeps it with one node.
    fn connect(&self, from: Ipv4Addr) -> TcpStream {
        connect(from.into(), self.address)
    }

    fn login(&self, from: Ipv4Addr, user: u64, device: u64) -> Connection {
        let connection = Connection::over(self.connect(from)).unwrap();
        self.nodes[0].0.login_over(connection, user, device, Resume::Stored, &[])
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sum over all cores of both nodes.
    fn counted(&self, name: &str) -> u64 {
        self.nodes.iter().map(|(_, server)| server.counted(name)).sum()
    }

    /// How often a peer has logged in, over both nodes.
    fn logins_of(&self, peer: SocketAddr) -> usize {
        self.nodes.iter().map(|(installation, _)| audited(installation, "login", peer).len()).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.haproxy.kill();
        let _ = self.haproxy.wait();
    }
}

/// The operator's file with other addresses, and without the node that is not here.
fn configuration(address: SocketAddr, nodes: &[(Installation, Server); 2]) -> String {
    let replace = |text: String, old: &str, new: &str| {
        assert_eq!(text.matches(old).count(), 1, "{old} is in the file once");
        text.replace(old, new)
    };
    let mut text = replace(CONFIGURATION.to_owned(), "10.0.0.10:7600", &address.to_string());
    for ((installation, server), old) in nodes.iter().zip(["10.0.0.11:7600", "10.0.0.12:7600"]) {
        let new = format!("{} check port {}", installation.config.listen, server.admin().port());
        text = replace(text, &format!("{old} check port 7601"), &new);
    }
    replace(text, "    server three 10.0.0.13:7600 check port 7601\n", "")
}

fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// The lines of the audit log about this.
fn audited(installation: &Installation, event: &str, peer: SocketAddr) -> Vec<String> {
    let log = fs::read_to_string(installation.data().join("audit.log")).unwrap();
    let (event, peer) = (format!("\"event\":\"{event}\""), format!("\"peer\":\"{peer}\""));
    log.lines().filter(|line| line.contains(&event) && line.contains(&peer)).map(str::to_owned).collect()
}

#[test]
fn a_message_goes_through_the_balancer_and_the_audit_log_has_the_clients_addresses() {
    let Some(world) = World::new(|_| {}) else { return };
    let from = Ipv4Addr::new(127, 0, 0, 41);
    let device = |user| {
        let stream = world.connect(from);
        let peer = stream.local_addr().unwrap();
        let mut device = Device::new(user, 1, world.nodes[0].0.token(user));
        assert!(device.try_connect_over(Connection::over(stream).unwrap(), Resume::Stored), "{device}: not welcome");
        wait_until("the login is audited", || world.logins_of(peer) == 1);
        device
    };
    let (mut writer, mut reader) = (device(1), device(2));
    writer.say(2, "by the balancer");
    writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
    reader.step_until("it arrives", |reader| reader.received().iter().any(|message| message.3 == "by the balancer"));
    assert!(world.counted("proxied_total") >= 2 && world.counted("proxy_refused_total") == 0);
}

#[test]
fn clients_of_a_balancer_are_limited_by_their_own_addresses_and_counted_off_when_they_go() {
    const PLACES: u64 = 3;
    let Some(world) = World::new(|installation| installation.config.limits.address_connections = PLACES as u32) else {
        return;
    };
    let crowd = Ipv4Addr::new(127, 0, 0, 42);
    let mut inside: Vec<_> = (1..=PLACES).map(|device| world.login(crowd, 1, device)).collect();
    let mut more = Connection::over(world.connect(crowd)).unwrap();
    let Some(ServerFrame::Bye { code: ErrorCode::TooManyConnections, .. }) = more.frame() else { panic!() };
    // Whatever node they come to, and though the balancer has more connections by then than an address may have.
    for other in 43..43 + 2 * PLACES as u8 {
        inside.push(world.login(Ipv4Addr::new(127, 0, 0, other), u64::from(other), 1));
    }
    inside.iter_mut().for_each(Connection::is_alive);
    drop((inside, more));
    wait_until("there is room again", || {
        let mut again = Connection::over(world.connect(crowd)).unwrap();
        again.send(&[hello(&world.nodes[0].0.token(1), 1, Resume::Stored)]);
        matches!(again.frame(), Some(ServerFrame::Welcome { .. }))
    });
}

#[test]
fn tls_goes_through_the_balancer_behind_the_header() {
    let mut trust: Vec<Arc<ClientConfig>> = Vec::new();
    let Some(world) = World::new(|installation| trust.push(trusting(&certify(installation)))) else { return };
    // Which of the two nodes it comes to, its certificate tells.
    for user in 1..=6 {
        let opened = trust.iter().find_map(|trust| Connection::open_tls(world.address, trust).ok());
        let token = world.nodes[0].0.token(user);
        let mut connection = opened.unwrap();
        connection.send(&[hello(&token, 1, Resume::Stored)]);
        assert!(matches!(connection.frame(), Some(ServerFrame::Welcome { .. })));
        connection.is_alive();
    }
    assert!(world.counted("moved_in_total") > 0, "some have gone on to another core");
}

#[test]
fn a_node_that_is_gone_costs_nobody_a_connection_and_is_taken_again_when_it_is_ready() {
    let Some(mut world) = World::new(|_| {}) else { return };
    let crowd = || (0..16).map(|last| Ipv4Addr::new(127, 0, 1, last));
    let log_in =
        |world: &World, device| crowd().zip(1..).for_each(|(from, user)| world.login(from, user, device).is_alive());
    log_in(&world, 1);
    let logins = |world: &World| [0, 1].map(|at| world.nodes[at].1.counted("proxied_total"));
    assert!(logins(&world).into_iter().all(|count| count > 0), "both nodes have clients: {:?}", logins(&world));
    world.nodes[1].1.signal("KILL");
    world.nodes[1].1.wait();
    // The kernel takes a ring apart after its process has ended, and the listener with it.
    let gone = world.nodes[1].0.config.listen;
    wait_until("nobody listens there", || TcpStream::connect(gone).is_err());
    log_in(&world, 2);
    wait_until("the checks notice", || world.said().contains("Server nodes/two is DOWN"));
    log_in(&world, 3);
    world.nodes[1].1 = world.nodes[1].0.start();
    // The node says so by its event loops, and not the kernel for it.
    let is_back = "Server nodes/two is UP, reason: Layer7 check passed, code: 200";
    wait_until("it is back", || world.said().contains(is_back));
    log_in(&world, 4);
    assert!(logins(&world).into_iter().all(|count| count > 0), "{:?}", logins(&world));
    assert!(!world.said().contains("nodes/one is DOWN"));
}

#[test]
fn whose_word_is_taken_depends_on_where_they_are() {
    let (installation, server) = node(|_| {});
    let (address, token) = (installation.config.listen, installation.token(1));
    let hello = [hello(&token, 1, Resume::Stored)];
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 7600\r\n";

    // A stranger with a header: it is no hello.
    let stranger = connect(Ipv4Addr::new(127, 0, 0, 9).into(), address);
    let peer = stranger.local_addr().unwrap();
    let mut stranger = Connection::over(stranger).unwrap();
    stranger.bytes(header);
    let Some(ServerFrame::Bye { code: ErrorCode::NotNow, detail, .. }) = stranger.frame() else { panic!() };
    assert!(detail.contains("looks like a PROXY header"), "{detail}");
    wait_until("it is audited", || audited(&installation, "refused", peer).len() == 1);

    // A balancer without one.
    let silent = connect(BALANCER, address);
    let peer = silent.local_addr().unwrap();
    let mut silent = Connection::over(silent).unwrap();
    silent.send(&hello);
    let Some(ServerFrame::Bye { code: ErrorCode::Malformed, detail, .. }) = silent.frame() else { panic!() };
    assert_eq!(detail, "no PROXY header comes first");
    wait_until("it is audited", || {
        audited(&installation, "refused", peer).iter().any(|line| line.contains("no PROXY header comes first"))
    });
    let warning = "a connection from connections.proxy_networks was refused";
    wait_until("the operator is told", || server.logged().contains(warning));
    assert_eq!((server.counted("proxied_total"), server.counted("proxy_refused_total")), (0, 1));

    // A stranger without one, and a balancer with one, a byte at a time.
    let stranger = connect(Ipv4Addr::new(127, 0, 0, 9).into(), address);
    installation.login_over(Connection::over(stranger).unwrap(), 1, 1, Resume::Stored, &[]).is_alive();
    let mut balancer = Connection::over(connect(BALANCER, address)).unwrap();
    header.iter().for_each(|byte| balancer.bytes(&[*byte]));
    installation.login_over(balancer, 1, 2, Resume::Stored, &[]).is_alive();
    let told = "192.0.2.1:5000".parse().unwrap();
    wait_until("the login is audited", || audited(&installation, "login", told).len() == 1);
    assert_eq!((server.counted("proxied_total"), server.counted("proxy_refused_total")), (1, 1));
    server.stop();
}

#[test]
fn a_listener_that_speaks_tls_takes_a_header_in_plain_from_a_balancer_and_none_from_elsewhere() {
    let mut trust = None;
    let (installation, _server) = node(|installation| trust = Some(trusting(&certify(installation))));
    let address = installation.config.listen;
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 7600\r\n";

    let mut stranger = Connection::over(connect(Ipv4Addr::new(127, 0, 0, 9).into(), address)).unwrap();
    stranger.bytes(header);
    let Some(ServerFrame::Bye { code: ErrorCode::TlsRequired, detail, .. }) = stranger.frame() else { panic!() };
    assert!(detail.contains("looks like a PROXY header"), "{detail}");

    // Without a header: nothing can be said to it before its handshake is done.
    let mut silent = Connection::over(connect(BALANCER, address)).unwrap();
    silent.bytes(b"\x16\x03\x01");
    assert!(silent.frame().is_none());

    // The header and the beginning of TLS in one piece.
    let mut socket = connect(BALANCER, address);
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(trust.unwrap(), name).unwrap();
    let (mut first, mut hello_bytes) = (header.to_vec(), Vec::new());
    tls.write_tls(&mut first).unwrap();
    socket.write_all(&first).unwrap();
    hello(&installation.token(1), 1, Resume::Stored).encode(&mut hello_bytes);
    tls.writer().write_all(&hello_bytes).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    let told = "192.0.2.1:5000".parse().unwrap();
    wait_until("the login is audited", || audited(&installation, "login", told).len() == 1);
}

#[test]
fn the_file_for_the_operator_is_one_that_haproxy_takes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/haproxy.example.cfg");
    match Command::new("haproxy").args(["-c", "-f"]).arg(file).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => println!("NOT RUN: haproxy is not installed"),
        output => {
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("WARNING"), "{said}");
        }
    }
}
