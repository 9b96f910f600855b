//! The same over every wire: TCP, WebSocket and long polling, each as it is and within TLS.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rustls::ClientConfig;
use tests::{
    connection::{Connection, upgrade_to},
    process::{Installation, Server},
    tls::{certify, trusting},
    wires::{Wire, users_of_two_cores_from},
};

/// How many there are.
const WIRES: u64 = 6;

struct World {
    installation: Installation,
    server: Server,
    /// Of WebSocket and long polling, and of these within TLS.
    websocket: [SocketAddr; 2],
    trust: [Arc<ClientConfig>; 2],
}

impl World {
    fn new(cores: u16) -> Self {
        let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
        let trust = trusting(&certify(&mut installation));
        let mut browsers = ClientConfig::clone(&trust);
        browsers.alpn_protocols = vec![b"http/1.1".to_vec()];
        // The address is this test's own, so nobody else takes the ports meanwhile.
        let ip = installation.config.listen.ip();
        let websocket = [(); 2].map(|()| TcpListener::bind((ip, 0)).unwrap());
        let websocket = websocket.map(|listener| listener.local_addr().unwrap());
        installation.config.cores = cores;
        installation.config.tls.listen = Some((ip, 0).into());
        let of = &mut installation.config.websocket;
        [of.listen, of.tls_listen] = websocket.map(Some);
        let server = installation.start();
        Self { installation, server, websocket, trust: [trust, Arc::new(browsers)] }
    }

    /// Does something over each wire, which has a number.
    fn over_each(&self, mut does: impl FnMut(u64, &Wire<'_>)) {
        let Self { installation, server, websocket: [plain, tls], trust: [trust, browsers] } = self;
        let browser = || Connection::open_tls(*tls, browsers).unwrap();
        let opens: [&dyn Fn() -> Connection; WIRES as usize] = [
            &|| installation.connect(),
            &|| Connection::open_tls(server.tls_address(), trust).unwrap(),
            &|| Connection::open_websocket(*plain).unwrap(),
            &|| browser().upgrade(upgrade_to(*tls)).unwrap(),
            &|| Connection::open_polling(*plain).unwrap(),
            &|| browser().poll_with(browser(), *tls),
        ];
        for (number, open) in (0..).zip(opens) {
            does(number, &Wire { installation, open });
        }
    }
}

#[test]
fn people_converse_over_any_two_wires_on_one_core_and_across_cores() {
    for cores in [1, 2] {
        let world = World::new(cores);
        world.over_each(|at, one| {
            world.over_each(|to, other| {
                one.converses_with(other, users_of_two_cores_from(1 + 1_000 * (WIRES * at + to)))
            });
        });
        assert!(cores == 1 || world.server.counted("moved_in_total") > 0);
        // Of the six ways of each side two are by WebSocket and two by long polling, and half of them within TLS, that of long polling by two
        // connections, each with four devices of both.
        let each = 2 * 4 * WIRES;
        let counted = ["tls_handshakes_total", "websocket_upgrades_total", "polls_total", "websocket_refused_total"];
        assert_eq!(counted.map(|name| world.server.counted(name)), [4 * each, 2 * each, 2 * each, 0]);
        world.server.stop();
    }
}

#[test]
fn texts_and_pages_of_the_largest_size_go_through() {
    let world = World::new(2);
    world.over_each(|number, wire| wire.carries_the_largest_texts_and_pages([1, 2].map(|user| 10 * number + user)));
}

#[test]
fn who_reads_slowly_gets_everything_in_order() {
    let world = World::new(2);
    world.over_each(|number, wire| {
        wire.brings_a_slow_reader_everything_in_order([1, 2].map(|user| 10 * number + user));
    });
}
