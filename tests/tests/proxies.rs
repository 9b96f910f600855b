//! A real server's WebSocket behind HAProxy and nginx, each with the configuration that the operator is given.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs::{self, File},
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use proto_spec::{ClientFrame, ErrorCode, Resume, ServerFrame};
use rustls::ClientConfig;
use tests::{
    connection::{Connection, hello, upgrade_to},
    device::Device,
    process::{Installation, Server},
    tls::{certify, trusting},
    wait_until,
};

/// One of the two, and how it is started.
#[derive(Clone, Copy, PartialEq)]
enum Proxy {
    HaProxy,
    Nginx,
}

/// A server behind a proxy that ends TLS.
struct World {
    installation: Installation,
    server: Server,
    proxy: Child,
    /// Where browsers connect.
    address: SocketAddr,
    trust: Arc<ClientConfig>,
    log: PathBuf,
}

impl Proxy {
    const ALL: [Self; 2] = [Self::HaProxy, Self::Nginx];

    const fn program(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it is here.
    fn is_installed(self) -> bool {
        match Command::new(self.program()).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("NOT RUN: {} is not installed", self.program());
                false
            }
            status => status.unwrap().success(),
        }
    }

    /// The operator's file.
    const fn configuration(self) -> &'static str {
        match self {
            Self::HaProxy => include_str!("../../server/haproxy-websocket.example.cfg"),
            Self::Nginx => include_str!("../../server/nginx-websocket.example.conf"),
        }
    }

    /// The same with other addresses, and without the nodes that are not here.
    fn configured(self, address: SocketAddr, node: SocketAddr, server: &Server, folder: &Path) -> String {
        let folder = folder.display();
        let (address, node) = (address.to_string(), node.to_string());
        match self {
            Self::HaProxy => {
                let checked = format!("{node} check port {}", server.admin().port());
                replaced(
                    self.configuration(),
                    &[
                        ("10.0.0.10:443", &address),
                        ("/etc/haproxy/chat.example.org.pem", &format!("{folder}/both.pem")),
                        ("10.0.0.11:7680 check port 7601", &checked),
                        ("    server two   10.0.0.12:7680 check port 7601\n", ""),
                        ("    server three 10.0.0.13:7680 check port 7601\n", ""),
                    ],
                )
            }
            Self::Nginx => {
                let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|module| format!("    {module}_temp_path {folder}/{module};\n"));
                replaced(
                    self.configuration(),
                    &[
                        ("10.0.0.10:443", &address),
                        ("/etc/nginx/chat.example.org.pem", &format!("{folder}/cert.pem")),
                        ("/etc/nginx/chat.example.org.key", &format!("{folder}/key.pem")),
                        ("10.0.0.11:7680", &node),
                        ("        server 10.0.0.12:7680;\n", ""),
                        ("        server 10.0.0.13:7680;\n", ""),
                        ("worker_processes auto", "worker_processes 1"),
                        ("worker_connections 65536", "worker_connections 256"),
                        ("worker_rlimit_nofile 65536;\n", ""),
                        ("http {\n", &format!("http {{\n{}", paths.concat())),
                    ],
                )
            }
        }
    }

    fn start(self, file: &Path, folder: &Path, log: File) -> Child {
        let mut command = Command::new(self.program());
        match self {
            Self::HaProxy => command.args(["-db", "-f"]).arg(file),
            Self::Nginx => {
                let more = format!("daemon off; pid {}/nginx.pid; error_log stderr;", folder.display());
                command.arg("-e").arg("stderr").arg("-c").arg(file).arg("-g").arg(more)
            }
        };
        command.stderr(log).stdin(Stdio::null()).spawn().unwrap()
    }
}

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old} is in the file once");
        text.replace(old, new)
    })
}

impl World {
    /// None where there is no such proxy. `change`: in its file.
    fn behind(proxy: Proxy, change: &[(&str, &str)], configure: impl FnOnce(&mut Installation)) -> Option<Self> {
        if !proxy.is_installed() {
            return None;
        }
        let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        // The certificate is the proxy's: the server speaks in plain.
        let mut trust = ClientConfig::clone(&trusting(&certify(&mut installation)));
        trust.alpn_protocols = vec![b"http/1.1".to_vec()];
        let folder = installation.folder().to_owned();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
        fs::write(folder.join("both.pem"), certificate + &key).unwrap();
        installation.config.tls = server::config::Tls::default();
        // The address is this test's own, so nobody else takes the ports meanwhile.
        let ip = installation.config.listen.ip();
        let [address, node] = [(); 2].map(|()| TcpListener::bind((ip, 0)).unwrap());
        let [address, node] = [address, node].map(|listener| listener.local_addr().unwrap());
        installation.config.websocket.listen = Some(node);
        if proxy == Proxy::HaProxy {
            installation.config.connections.proxy_networks = vec!["127.0.0.0/8".parse().unwrap()];
        }
        configure(&mut installation);
        let server = installation.start();
        let (file, log) = (folder.join("proxy.conf"), folder.join("proxy.log"));
        fs::write(&file, replaced(&proxy.configured(address, node, &server, &folder), change)).unwrap();
        let child = proxy.start(&file, &folder, File::create(&log).unwrap());
        let mut world = Self { installation, server, proxy: child, address, trust: Arc::new(trust), log };
        wait_until("the proxy listens", || {
            assert!(world.proxy.try_wait().unwrap().is_none(), "{}", world.said());
            TcpStream::connect(address).is_ok()
        });
        wait_until("it lets somebody through", || world.try_connect().is_ok());
        Some(world)
    }

    fn try_connect(&self) -> std::io::Result<Connection> {
        Connection::open_tls(self.address, &self.trust)?.upgrade(upgrade_to(self.address))
    }

    fn connect(&self) -> Connection {
        self.try_connect().unwrap()
    }

    /// By long polling.
    fn poll(&self) -> Connection {
        let carrier = || Connection::open_tls(self.address, &self.trust).unwrap();
        carrier().poll_with(carrier(), self.address)
    }

    fn login(&self, user: u64, device: u64) -> Connection {
        self.installation.login_over(self.connect(), user, device, Resume::Stored, &[])
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nginx has children, which a kill would leave behind.
        if self.proxy.try_wait().unwrap().is_none() {
            tests::process::signal(self.proxy.id(), "TERM");
        }
        let _ = self.proxy.wait();
    }
}

#[test]
fn people_converse_through_each_proxy_and_ends_are_heard_on_both_sides() {
    for proxy in Proxy::ALL {
        let Some(mut world) = World::behind(proxy, &[], |_| {}) else { continue };
        let device = |user| {
            let mut device = Device::new(user, 1, world.installation.token(user));
            assert!(device.try_connect_over(world.connect(), Resume::Stored), "{device}: not welcome");
            device
        };
        let (mut writer, mut reader) = (device(1), device(2));
        writer.say(2, "by the proxy");
        writer.step_until("it is accepted", |writer| writer.unanswered() == 0);
        reader.step_until("it arrives", |reader| reader.received().iter().any(|message| message.3 == "by the proxy"));
        let mut polling = Device::new(2, 2, world.installation.token(2));
        assert!(polling.try_connect_over(world.poll(), Resume::Stored), "not welcome by long polling");
        polling.step_until("it is there too", |polling| polling.received().len() == 1);
        polling.say(1, "by polling");
        writer.step_until("it arrives", |writer| writer.received().iter().any(|message| message.3 == "by polling"));
        // Who is refused by the protocol, who leaves by it, who leaves by WebSocket, and who is told that the server stops.
        let mut stranger = world.connect();
        stranger.send(&[hello("nonsense", 1, Resume::Stored)]);
        assert_eq!((stranger.bye(), stranger.close_code()), (ErrorCode::TokenInvalid, Some(1000)));
        let mut leaving = world.login(3, 1);
        leaving.send(&[ClientFrame::Bye]);
        while leaving.frame().is_some() {}
        assert_eq!(leaving.close_code(), Some(1000));
        let mut closing = world.login(3, 2);
        closing.close_websocket(4001);
        while closing.frame().is_some() {}
        assert_eq!(closing.close_code(), Some(4001));
        let mut last = world.login(3, 3);
        world.server.signal("TERM");
        assert_eq!((last.bye(), last.close_code()), (ErrorCode::Stopping, Some(1000)));
        world.server.wait();
    }
}

#[test]
fn pages_of_the_proxys_own_host_may_connect_and_what_is_refused_is_told() {
    for proxy in Proxy::ALL {
        let Some(world) = World::behind(proxy, &[], |_| {}) else { continue };
        let from = |origin: &str| {
            let carrier = Connection::open_tls(world.address, &world.trust).unwrap();
            carrier.upgrade(upgrade_to(world.address).with_header("Origin", origin))
        };
        let own = from(&format!("https://{}", world.address)).unwrap();
        world.installation.login_over(own, 1, 1, Resume::Stored, &[]).is_alive();
        let refused = from("https://evil.example").unwrap_err();
        assert!(refused.to_string().contains("403"), "{refused}");
    }
}

#[test]
fn behind_haproxy_the_audit_log_has_the_clients_address() {
    let Some(world) = World::behind(Proxy::HaProxy, &[], |_| {}) else { return };
    world.login(1, 1).is_alive();
    world.installation.login_over(world.poll(), 1, 2, Resume::Stored, &[]).is_alive();
    let log = fs::read_to_string(world.installation.data().join("audit.log")).unwrap();
    let logins: Vec<_> = log.lines().filter(|line| line.contains("\"event\":\"login\"")).collect();
    assert!(logins.len() == 2 && logins.iter().all(|login| login.contains("\"peer\":\"127.")), "{log}");
}

/// The proxies cut who says nothing for three seconds here, and the server pings before that.
#[test]
fn who_says_nothing_stays_connected_since_the_server_pings_more_often_than_the_proxies_cut() {
    for (proxy, change) in [
        (Proxy::HaProxy, &[("timeout tunnel 2m", "timeout tunnel 3s")][..]),
        (
            Proxy::Nginx,
            &[("proxy_read_timeout 2m", "proxy_read_timeout 3s"), ("proxy_send_timeout 2m", "proxy_send_timeout 3s")][..],
        ),
    ] {
        let pings_often = |installation: &mut Installation| installation.config.connections.ping_after_ms = 2_000;
        let Some(world) = World::behind(proxy, change, pings_often) else { continue };
        let mut connection = world.connect();
        connection.send(&[hello(&world.installation.token(1), 1, Resume::Stored)]);
        let Some(ServerFrame::Welcome { ping_after_ms, .. }) = connection.frame() else { panic!() };
        assert_eq!(ping_after_ms, 2_000);
        for _ in 0..4 {
            let nonce = connection.until(|frame| match frame {
                ServerFrame::Ping { nonce } => Some(nonce),
                _ => None,
            });
            connection.send(&[ClientFrame::Pong { nonce }]);
        }
        connection.is_alive();
    }
}

/// The default of what the server pings by is below the proxies' times, and these are what it waits for a silent client.
#[test]
fn the_files_for_the_operator_have_the_times_of_the_server_and_are_ones_that_the_proxies_take() {
    let connections = server::config::Config::default().connections;
    assert!(connections.ping_after_ms < 60_000 && connections.idle_timeout_ms == 120_000);
    for (proxy, times) in [
        (Proxy::HaProxy, &["timeout tunnel 2m"][..]),
        (Proxy::Nginx, &["proxy_read_timeout 2m;", "proxy_send_timeout 2m;"][..]),
    ] {
        for time in times {
            assert!(proxy.configuration().contains(time), "{time}");
        }
    }
}
