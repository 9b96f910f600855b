//! Clients that follow no redirect, and come to a node that does not serve them. All devices here say so in their hellos, unless a test
//! gives them a route.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use server::mesh::wire::{self, Greeting, Opening, Said, VERSIONS};
use tungstenite::Message;

use super::*;

/// How many clients a node serves through others, and how many of others it serves.
fn tunnels(cluster: &Cluster, at: usize) -> (f64, f64) {
    (cluster.metric(at, "ringpost_core_tunnels"), cluster.metric(at, "ringpost_core_tunnels_taken_total"))
}

fn several_cores(mut cluster: Cluster) -> Cluster {
    cluster.nodes.iter_mut().for_each(|node| node.config.cores = 2);
    cluster
}

#[test]
fn a_client_that_follows_no_redirect_is_served_through_the_node_that_it_has_come_to() {
    const EACH: usize = 50;
    let (mut cluster, authority) = (several_cores(Cluster::new()), Authority::new("nodes"));
    for (at, name) in NAMES.iter().enumerate() {
        cluster.certify(at, name, &authority);
    }
    let cluster = cluster.and_start();
    // Both of one node, by way of another one; and one who is where they come to.
    let users: Vec<_> = cluster.users(1).take(2).chain([cluster.user(0)]).collect();
    let mut people: Vec<_> = users.iter().map(|user| cluster.connected(0, *user)).collect();
    assert_eq!((tunnels(&cluster, 0), tunnels(&cluster, 1)), ((2.0, 0.0), (0.0, 2.0)));
    for n in 0..EACH {
        for at in 0..3 {
            people[at].say(users[(at + 1) % 3], &format!("{n}"));
        }
        step_all(&mut people);
    }
    let expected: Vec<_> = (0..EACH).map(|n| n.to_string()).collect();
    wait_until("everybody has everything", || {
        step_all(&mut people);
        (0..3).all(|at| people[at].unanswered() == 0 && heard_from(&people[at], users[(at + 2) % 3]).len() >= EACH)
    });
    for at in 0..3 {
        assert_eq!(heard_from(&people[at], users[(at + 2) % 3]), expected);
    }
    assert_eq!(cluster.metric(0, "ringpost_core_redirected_total"), 0.0);
    people.iter_mut().for_each(Device::disconnect);
    wait_until("they have gone, at both ends", || {
        let connections = |at| cluster.metric(at, "ringpost_core_connections");
        tunnels(&cluster, 0).0 == 0.0 && connections(0) == 0.0 && connections(1) == 0.0
    });
}

/// The cluster's file names no address for browsers, so they stay, whether they follow redirects or not.
#[test]
fn a_browser_is_served_through_the_node_that_it_has_come_to() {
    let mut cluster = several_cores(Cluster::new());
    let ip = cluster.nodes[0].config.listen.ip();
    let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    cluster.nodes[0].config.websocket.listen = Some(address);
    let cluster = cluster.and_start();
    let [alice, bob] = [1, 0].map(|at| cluster.user(at));
    let mut browser = Device::new(alice, 1, cluster.nodes[0].token(alice));
    assert!(browser.try_connect_over(Connection::open_websocket(address).unwrap(), Resume::Stored));
    let mut other = cluster.connected(0, bob);
    assert_eq!((tunnels(&cluster, 0), tunnels(&cluster, 1)), ((1.0, 0.0), (0.0, 1.0)));
    browser.say(bob, "ping");
    other.step_until("it has come", |device| heard_from(device, alice) == ["ping"]);
    other.say(alice, "pong");
    browser.step_until("so has the answer", |device| heard_from(device, bob) == ["pong"]);
    // One who would follow a redirect.
    let mut follows = Connection::open_websocket(address).unwrap();
    let mut hello = hello(&cluster.nodes[0].token(alice), 1, Resume::Stored);
    if let ClientFrame::Hello { hops, .. } = &mut hello {
        *hops = 1;
    }
    follows.send(&[hello]);
    follows.until(|frame| matches!(frame, ServerFrame::Welcome { .. }).then_some(()));
    wait_until("the first connection of the device is replaced", || {
        browser.step(Duration::from_millis(1));
        !browser.is_connected()
    });
    follows.is_alive();
    follows.close_websocket(1000);
    while follows.frame().is_some() {}
    assert_eq!(follows.close_code(), Some(1000));
    wait_until("they have gone, at both ends", || tunnels(&cluster, 0).0 == 0.0);
}

/// The other node hears nothing of them, so the one that the browser has come to counts them.
#[test]
fn pings_of_websocket_through_a_tunnel_are_limited_as_frames() {
    const FRAMES_PER_S: u32 = 500;
    let mut cluster = Cluster::new();
    cluster.nodes[0].config.limits.frames_per_s = FRAMES_PER_S;
    let ip = cluster.nodes[0].config.listen.ip();
    let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    cluster.nodes[0].config.websocket.listen = Some(address);
    let cluster = cluster.and_start();
    let user = cluster.user(1);
    let mut connection = Connection::open_websocket(address).unwrap();
    connection.send(&[hello(&cluster.nodes[0].token(user), 1, Resume::Stored)]);
    connection.until(|frame| matches!(frame, ServerFrame::Welcome { .. }).then_some(()));
    // Far more than at once and while that takes.
    let most = 100 * u64::from(FRAMES_PER_S);
    let web = connection.websocket();
    let mut answered = 0;
    while answered < most && web.send(Message::Ping("?".into())).is_ok() {
        match web.read() {
            Ok(Message::Pong(_)) => answered += 1,
            Ok(Message::Close(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    assert!(answered < most, "{answered} pings were answered");
    wait_until("it has gone, at both ends", || tunnels(&cluster, 0).0 == 0.0);
}

/// Much, and in the direction in which nobody reads at first.
#[test]
fn who_reads_slowly_through_a_tunnel_is_waited_for_and_gets_everything_in_order() {
    const EACH: usize = 1_500;
    let cluster = several_cores(Cluster::new()).and_start();
    let [alice, bob] = [1, 0].map(|at| cluster.user(at));
    let mut reader = cluster.connected(0, alice);
    let mut writer = cluster.connected(0, bob);
    let text = |n: usize| format!("{n} {}", "x".repeat(4_000));
    for n in 0..EACH {
        writer.say(alice, &text(n));
        while writer.unanswered() > 200 {
            writer.step(Duration::from_millis(20));
        }
    }
    writer.step_until("all was accepted", |device| device.unanswered() == 0);
    // Six megabytes, of which some are in sockets; what waits in the node that only hands them on is bounded.
    reader.step_until("all has come", |device| heard_from(device, bob).len() == EACH);
    let heard = heard_from(&reader, bob);
    assert!(heard.iter().enumerate().all(|(n, heard)| *heard == text(n)));
    for n in 0..EACH {
        reader.say(bob, &text(n));
        while reader.unanswered() > 200 {
            reader.step(Duration::from_millis(20));
        }
    }
    wait_until("the other way, too", || {
        // What was refused for now is said again.
        while reader.step(Duration::ZERO) == Step::Frame {}
        while writer.step(Duration::from_millis(5)) == Step::Frame {}
        heard_from(&writer, alice).len() == EACH
    });
    assert!(heard_from(&writer, alice).iter().enumerate().all(|(n, heard)| *heard == text(n)));
}

#[test]
fn a_tunnel_ends_with_the_node_that_serves_and_what_was_said_last_gets_there() {
    let mut cluster = Cluster::started();
    let [alice, bob] = [1, 0].map(|at| cluster.user(at));
    let mut client = cluster.connected(0, alice);
    let mut other = cluster.connected(0, bob);
    // Whoever says something and goes at once has said it.
    client.say(bob, "and off");
    client.disconnect();
    other.step_until("it has come", |device| heard_from(device, alice).len() == 1);
    client.connect(cluster.address(0), Resume::Stored);
    cluster.kill(1);
    wait_until("the client hears that the connection has ended", || {
        client.step(Duration::from_millis(1));
        !client.is_connected()
    });
    let mut connection = Connection::open(cluster.address(0)).unwrap();
    connection.send(&[hello(&cluster.nodes[0].token(alice), 1, Resume::Stored)]);
    let bye = connection.frame();
    let Some(ServerFrame::Bye { code, retry_after_ms, detail, .. }) = bye else { panic!("{bye:?}") };
    assert_eq!(code, ErrorCode::Elsewhere);
    assert!(retry_after_ms > 0 && detail.contains("node b at"), "{detail}");
    cluster.start(1);
    cluster.wait_for_links(&[0, 1, 2]);
    client.connect(cluster.address(0), Resume::Stored);
    other.say(alice, "back");
    client.step_until("it is served again", |device| heard_from(device, bob) == ["back"]);
    let ended = cluster.servers[0].take().unwrap();
    ended.stop();
    wait_until("the client hears that, too", || {
        client.step(Duration::from_millis(1));
        !client.is_connected()
    });
}

#[test]
fn whoever_is_no_node_of_the_cluster_opens_no_tunnel() {
    let mut cluster = Cluster::new();
    cluster.start(1);
    let user = cluster.user(1);
    let mut said = Vec::new();
    hello(&cluster.nodes[1].token(user), 1, Resume::Stored).encode(&mut said);
    let [node, to] = ["a", "b"].map(str::to_owned);
    let (name, digest) = ("test".to_owned(), cluster.map.digest());
    let good = Greeting { versions: VERSIONS, cluster: name, node, to, digest };
    let answer = |greeting: &Greeting| {
        let mut socket = std::net::TcpStream::connect(cluster.map.node(NodeId(1)).mesh).unwrap();
        let opening =
            Opening { greeting: greeting.clone(), client: "192.0.2.7:4000".parse().unwrap(), said: said.clone() };
        let mut bytes = Vec::new();
        wire::encode(&Said::Tunnel(opening), &mut bytes);
        socket.write_all(&bytes).unwrap();
        let mut heard = Vec::new();
        loop {
            if let Some((said, length)) = wire::decode(&heard).unwrap() {
                return (said, heard.split_off(length), socket);
            }
            let mut piece = [0; 4_096];
            let count = socket.read(&mut piece).unwrap();
            assert!(count > 0, "it says why");
            heard.extend_from_slice(&piece[..count]);
        }
    };
    for (greeting, words) in [
        (Greeting { cluster: "other".to_owned(), ..good.clone() }, "not of \"other\""),
        (Greeting { node: "x".to_owned(), ..good.clone() }, "x is not one of the other nodes"),
        (Greeting { digest: 1, ..good.clone() }, "different cluster files"),
    ] {
        let (said, _, mut socket) = answer(&greeting);
        let Said::Refused(told) = said else { panic!("{said:?}") };
        assert!(told.contains(words), "{told}");
        assert_eq!(socket.read(&mut [0; 16]).unwrap(), 0, "and nothing more");
    }
    let (said, mut rest, mut socket) = answer(&good);
    assert!(matches!(said, Said::Greeting(Greeting { node, .. }) if node == "b"));
    while rest.len() < 2 {
        let mut piece = [0; 512];
        let count = socket.read(&mut piece).unwrap();
        assert!(count > 0, "the client is served");
        rest.extend_from_slice(&piece[..count]);
    }
    assert_eq!(rest[1], proto_spec::ServerKind::Welcome.byte());
    let audit = || fs::read_to_string(cluster.nodes[1].data().join("audit.log")).unwrap();
    wait_until("the login is of where the other node says", || {
        audit().lines().any(|line| line.contains("login") && line.contains("192.0.2.7"))
    });
}
