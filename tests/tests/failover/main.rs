//! Nodes over a real FoundationDB whose slots move, with what goes wrong and what operators do: RINGPOST_FDB_CLUSTER_FILE names the
//! database; without it these tests say that they have not run. Under load: each device follows redirects, checks all that it is told, and
//! in the end has each message once, in order (`tests/src/load.rs`).
//!
//! `cargo test -p tests --features foundationdb --test failover -- --nocapture --test-threads 1`

mod groups;
mod nodes;

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use proto_spec::{ErrorCode, Resume, UserId};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use server::{
    cluster::map::{SLOTS, Slot},
    config::Ack,
};
use tests::{
    database::Database,
    device::{Device, Step},
    load::Load,
    number_of,
    process::Server,
    route::Route,
    wait_until,
};

use nodes::{LEASE, Nodes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tested-ringpost");
const LOADGEN: &str = env!("CARGO_BIN_EXE_tested-ringpost-loadgen");

/// Users of a load: some are each node's.
const USERS: u64 = 12;

/// Whom those write who are not of the load.
const STRANGER: u64 = 10_000;

/// How long nothing may happen to a device: as a node that nobody takes over for a while, on a machine that builds something else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Three nodes under load, and then what `happens`: nothing of what was accepted is lost, doubled or out of order.
fn under_load(what: &str, happens: impl FnOnce(&mut Nodes, &Load, &Database)) {
    let Some(database) = Database::of_this_run() else { return };
    let seed = number_of("RINGPOST_SEED").unwrap_or_else(rand::random);
    println!("{what}: RINGPOST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut nodes = Nodes::start(&database, PROGRAM, 3);
    let load = Load::along(&nodes.route(), nodes.node(0), USERS, PATIENCE, &mut rng);
    load.run_to_a_random_moment(&mut rng);
    // So that there is something to do all the while.
    load.allow_more();
    let before = load.accepted();
    let start = Instant::now();
    happens(&mut nodes, &load, &database);
    println!("{what}: {} messages were accepted in {:.1?}", load.accepted() - before, start.elapsed());
    load.run_to_a_random_moment(&mut rng);
    let finished = load.finish().unwrap_or_else(|wrong| panic!("{wrong}\n{}", nodes.logs()));
    finished.verify(nodes.node(0));
    println!("{what}: {} messages, each on all devices of both sides once, in order", finished.accepted());
}

/// Waits until something more is accepted.
fn goes_on(nodes: &Nodes, load: &Load) {
    let before = load.accepted();
    load.allow_more();
    wait_until("messages are accepted", || load.accepted() > before || load.has_failed());
    assert!(!load.has_failed(), "{}", nodes.logs());
}

/// Sends a message, and goes on until it is accepted, wherever that leads; how long it took.
fn say_somewhere(device: &mut Device, to: u64, text: &str) -> Duration {
    let start = Instant::now();
    device.say(to, text);
    wait_until("the message is accepted", || {
        if device.is_connected() || device.try_go(Resume::Stored) {
            device.step(Duration::from_millis(5));
        }
        device.unanswered() == 0
    });
    start.elapsed()
}

/// A user of a node who is not of the load, with a device.
fn somebody_of(nodes: &Nodes, at: usize) -> Device {
    let user = nodes.users_of(at, at).find(|user| *user > USERS).expect("there is no end of users");
    let mut device = nodes.device(user, 1);
    device.go(Resume::Stored);
    device
}

#[test]
fn users_of_a_node_that_is_killed_are_served_elsewhere() {
    under_load("a node is killed", |nodes, load, _| {
        let mut somebody = somebody_of(nodes, 1);
        say_somewhere(&mut somebody, STRANGER, "before");
        nodes.take(1).kill();
        let took = say_somewhere(&mut somebody, STRANGER, "after");
        println!("accepted {took:.2?} after the kill, with a lease of {LEASE:?}");
        nodes.wait_for_shares(&[0, 2]);
        let state = &nodes.states(0)[1];
        assert_eq!((&state["slots"], &state["is_alive"]), (&0.into(), &false.into()), "{state:#}");
        goes_on(nodes, load);
        nodes.restart(1);
        nodes.wait_for_shares(&[0, 1, 2]);
    });
}

#[test]
fn a_node_that_is_killed_and_started_again_at_once_goes_on() {
    under_load("a node is killed and started again", |nodes, load, _| {
        let mut somebody = somebody_of(nodes, 1);
        for round in 0..3 {
            say_somewhere(&mut somebody, STRANGER, "before");
            nodes.take(1).kill();
            nodes.restart(1);
            let took = say_somewhere(&mut somebody, STRANGER, "after");
            println!("round {round}: accepted {took:.2?} after the start");
            goes_on(nodes, load);
        }
        nodes.wait_for_shares(&[0, 1, 2]);
    });
}

#[test]
fn a_node_that_stood_still_for_longer_than_its_lease_promises_nothing_when_it_wakes() {
    under_load("a node stands still", |nodes, load, _| {
        let mut sleeper = somebody_of(nodes, 1);
        say_somewhere(&mut sleeper, STRANGER, "before");
        nodes.server(1).signal("STOP");
        // It is the first thing that the node reads when it wakes.
        sleeper.say(STRANGER, "asleep");
        nodes.wait_for_shares(&[0, 2]);
        // The same user writes elsewhere meanwhile.
        let mut other = nodes.device(sleeper.user, 2);
        other.go(Resume::Stored);
        say_somewhere(&mut other, STRANGER, "meanwhile");
        goes_on(nodes, load);
        nodes.server(1).signal("CONT");
        let told = loop {
            match sleeper.step(Duration::from_secs(20)) {
                Step::Lost(code) => break code,
                Step::Nothing => panic!("{}: told nothing\n{}", sleeper.state(), nodes.logs()),
                Step::Frame => {}
            }
        };
        println!("the client of the node that has woken was told {told:?}, and of its sends {:?}", sleeper.refused);
        assert_eq!((told, sleeper.accepted.len()), (Some(ErrorCode::Elsewhere), 1), "{}", sleeper.state());
        say_somewhere(&mut sleeper, STRANGER, "awake");
        wait_until("both devices have the same log", || {
            for device in [&mut sleeper, &mut other] {
                if device.is_connected() || device.try_go(Resume::Stored) {
                    device.step(Duration::from_millis(5));
                }
            }
            sleeper.messages().len() == 4 && sleeper.messages() == other.messages()
        });
        nodes.wait_for_shares(&[0, 1, 2]);
    });
}

/// What gives a process a wall clock of its own, if the package faketime is installed.
fn clock_library() -> Option<PathBuf> {
    let mut folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    folders
        .find_map(|folder| Some(folder.path().join("faketime/libfaketimeMT.so.1")).filter(|library| library.exists()))
}

#[test]
fn nodes_whose_wall_clocks_differ_take_over_from_each_other_and_lose_nothing() {
    let Some(library) = clock_library() else {
        return println!("NOT RUN: the library of the package faketime is not installed");
    };
    under_load("wall clocks differ", |nodes, load, _| {
        for (at, off_s) in [20, -20].into_iter().enumerate() {
            nodes.take(at).stop();
            nodes.set_clock(at, &library, off_s);
            nodes.restart(at);
        }
        nodes.wait_for_shares(&[0, 1, 2]);
        for (dies, clock) in [(1, "late"), (0, "early")] {
            let mut somebody = somebody_of(nodes, dies);
            say_somewhere(&mut somebody, STRANGER, "before");
            nodes.take(dies).kill();
            let took = say_somewhere(&mut somebody, STRANGER, "after");
            println!("accepted {took:.2?} after the one with the {clock} clock was killed");
            goes_on(nodes, load);
            nodes.restart(dies);
            nodes.wait_for_shares(&[0, 1, 2]);
        }
    });
}

#[test]
fn a_node_is_drained_and_takes_its_share_again() {
    under_load("a node is drained", |nodes, load, _| {
        let mut somebody = somebody_of(nodes, 2);
        let start = Instant::now();
        let said = nodes.done(0, "drain c --wait");
        println!("drained in {:.2?}", start.elapsed());
        assert!(
            said.contains("node c gives away what it owns") && said.ends_with("node c owns nothing any more\n"),
            "{said}"
        );
        nodes.wait_for_shares(&[0, 1]);
        let state = &nodes.states(1)[2];
        assert_eq!(
            (&state["slots"], &state["is_leaving"], &state["is_alive"]),
            (&0.into(), &true.into(), &true.into())
        );
        say_somewhere(&mut somebody, STRANGER, "drained");
        goes_on(nodes, load);
        for (command, words) in [
            ("move 7 c", "node c gives away what it owns"),
            ("move 7 d", "there is no node d; there are a, b, c"),
            ("drain d", "there is no node d; there are a, b, c"),
        ] {
            let output = nodes.run(1, command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && said.contains(words), "{command}: {output:?}");
        }
        nodes.done(0, "drain b");
        wait_until("the other node has heard of it", || nodes.states(2)[1]["is_leaving"] == true);
        let output = nodes.run(2, "drain a");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nobody could take"), "{output:?}");
        nodes.done(1, "drain b --undo");
        nodes.done(1, "drain c --undo");
        nodes.wait_for_shares(&[0, 1, 2]);
        let audit = fs::read_to_string(nodes.node(0).data().join("audit.log")).expect("it is there");
        assert!(audit.contains(r#""event":"drained","node":"c""#), "{audit}");
    });
}

#[test]
fn who_follows_no_redirect_is_served_through_the_same_node_wherever_the_user_goes() {
    under_load("tunnels", |nodes, load, _| {
        let front = nodes.node(0).config.listen;
        let somebody = |nodes: &Nodes| {
            let user = nodes.users_of(1, 0).find(|user| *user > USERS).expect("there is no end of users");
            let mut device = Device::new(user, 1, nodes.node(0).token(user));
            device.connect(front, Resume::Stored);
            (user, device)
        };
        let come = |device: &mut Device, text: &str| {
            let start = Instant::now();
            device.say(STRANGER, text);
            wait_until("the message is accepted", || {
                if device.is_connected() || device.try_connect(front, Resume::Stored) {
                    device.step(Duration::from_millis(5));
                }
                device.unanswered() == 0
            });
            start.elapsed()
        };
        let (user, mut device) = somebody(nodes);
        come(&mut device, "through the one that it has come to");
        nodes.done(0, "drain b");
        wait_until("the user is somebody else's", || {
            nodes.owners(0)[usize::from(Slot::of(UserId(user)).0)] != nodes.name(1)
        });
        let took = come(&mut device, "while its user moves");
        println!("accepted {took:.2?} after the slot went");
        nodes.done(0, "drain b --undo");
        nodes.wait_for_shares(&[0, 1, 2]);
        come(&mut device, "and back");
        let (_, mut device) = somebody(nodes);
        nodes.take(1).kill();
        let took = come(&mut device, "after its node has died");
        println!("accepted {took:.2?} after the kill, with a lease of {LEASE:?}");
        goes_on(nodes, load);
        nodes.restart(1);
        nodes.wait_for_shares(&[0, 1, 2]);
    });
}

#[test]
fn all_nodes_are_restarted_one_after_the_other() {
    under_load("a rolling restart", |nodes, load, _| {
        for at in 0..3 {
            let mut somebody = somebody_of(nodes, at);
            say_somewhere(&mut somebody, STRANGER, "before");
            let server = nodes.take(at);
            server.signal("TERM");
            let took = say_somewhere(&mut somebody, STRANGER, "after");
            stopped(server, nodes);
            println!("{}: accepted {took:.2?} after the signal", nodes.name(at));
            goes_on(nodes, load);
            nodes.restart(at);
            nodes.wait_for_shares(&[0, 1, 2]);
        }
    });
}

fn stopped(mut server: Server, nodes: &Nodes) {
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", nodes.logs());
}

#[test]
fn a_fourth_node_takes_its_share() {
    under_load("a fourth node joins", |nodes, load, database| {
        let before = nodes.owners(0);
        nodes.add(database);
        nodes.restart(3);
        nodes.wait_for_shares(&[0, 1, 2, 3]);
        let after = nodes.owners(3);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| after == "d"), "what moves goes to the new node");
        println!("{} slots moved", moved.count());
        goes_on(nodes, load);
    });
}

#[test]
fn a_slot_that_is_moved_stays_where_it_is() {
    under_load("slots are moved", |nodes, load, _| {
        let owners = nodes.owners(0);
        let slots: Vec<_> = (0..owners.len()).filter(|slot| owners[*slot] == "a").take(5).collect();
        for slot in &slots {
            nodes.done(1, &format!("move {slot} c"));
        }
        let are_at = |name: &str| {
            let owners = nodes.owners(2);
            slots.iter().all(|slot| owners[*slot] == name)
        };
        wait_until("they are where they were moved to", || are_at("c"));
        goes_on(nodes, load);
        nodes.wait_for_shares(&[0, 1, 2]);
        assert!(are_at("c"), "though each has its share again");
        assert!(nodes.done(0, "map").contains("(pinned)"));
        for slot in &slots {
            nodes.done(1, &format!("move {slot} --unpin"));
        }
        wait_until("they are like others", || !nodes.done(2, "map").contains("(pinned)"));
        goes_on(nodes, load);
    });
}

#[test]
fn while_the_database_is_away_sends_are_refused_with_a_time_and_then_all_goes_on() {
    under_load("the database is away", |nodes, load, database| {
        let mut somebody = somebody_of(nodes, 0).along(Route::to(nodes.node(0).config.listen));
        say_somewhere(&mut somebody, STRANGER, "before");
        let stopped = database.stop();
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < 5 * LEASE {
            number += 1;
            somebody.say(STRANGER, &format!("meanwhile {number}"));
            somebody.step(Duration::from_millis(200));
        }
        let ready = Server::page_at(nodes.server(0).admin(), "/ready").expect("it answers");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("lease"), "{ready}");
        println!("of {number} sends refused: {:?}", somebody.refused);
        assert!(!somebody.refused.is_empty(), "{}", somebody.state());
        drop(stopped);
        let took = say_somewhere(&mut somebody, STRANGER, "after");
        println!("accepted {took:.2?} after the database went on");
        let taken_for_dead = nodes.logs().matches("a node has said nothing").count();
        println!("nodes that were taken for dead: {taken_for_dead}");
        goes_on(nodes, load);
        nodes.wait_for_shares(&[0, 1, 2]);
    });
}

#[test]
fn a_server_that_is_alone_or_comes_under_a_name_that_is_taken_is_told_so() {
    let Some(database) = Database::of_this_run() else { return };
    let mut nodes = Nodes::start(&database, PROGRAM, 2);
    let mut alone = database.installation(PROGRAM, Ack::Committed);
    alone.config.store = nodes.node(0).config.store.clone();
    let (code, said) = alone.refused();
    println!("alone: {said}");
    assert!(code == 1 && said.contains("cluster"), "{said}");
    let mut somebody = somebody_of(&nodes, 1);
    say_somewhere(&mut somebody, STRANGER, "before");
    // Another machine that is configured as the same node.
    let mut twin = database.installation(PROGRAM, Ack::Committed);
    let (listen, admin) = (twin.config.listen, twin.config.admin_listen);
    let data = twin.config.data_dir.clone();
    twin.config = nodes.node(1).config.clone();
    (twin.config.listen, twin.config.admin_listen, twin.config.data_dir) = (listen, admin, data);
    twin.config.listen.set_port(7600);
    twin.config.cluster.mesh = Some((listen.ip(), 7650).into());
    twin.config.cluster.clients = twin.config.listen.to_string();
    let later = twin.start();
    let mut first = nodes.take(1);
    let status = first.wait();
    assert_eq!(status.code(), Some(1), "{}", nodes.logs());
    let log = nodes.node(1).log();
    let last = log.lines().last().unwrap_or_default();
    println!("the first one: {last}");
    assert!(last.contains("another server has begun to serve as node b"), "{log}");
    let took = say_somewhere(&mut somebody, STRANGER, "after");
    println!("accepted {took:.2?} later");
    later.stop();
}

/// Something that happens to nodes whose users go on writing: what, in words.
fn happens_by_chance(nodes: &mut Nodes, load: &Load, database: &Database, rng: &mut StdRng) -> String {
    let at = rng.random_range(0..3);
    let (other, name) = ((at + rng.random_range(1..3)) % 3, nodes.name(at));
    let for_a_while = |rng: &mut StdRng| Duration::from_millis(rng.random_range(50..2 * LEASE.as_millis() as u64));
    match rng.random_range(0..8) {
        0 => {
            nodes.take(at).kill();
            thread::sleep(for_a_while(rng));
            nodes.restart(at);
            format!("{name} is killed, and started again")
        }
        1 => {
            nodes.take(at).kill();
            nodes.restart(at);
            format!("{name} is killed, and started again at once")
        }
        2 | 3 => {
            let pause = for_a_while(rng);
            nodes.server(at).signal("STOP");
            thread::sleep(pause);
            nodes.server(at).signal("CONT");
            format!("{name} stands still for {pause:?}")
        }
        4 => {
            let server = nodes.take(at);
            server.signal("TERM");
            stopped(server, nodes);
            nodes.restart(at);
            format!("{name} is stopped and started again")
        }
        5 => {
            // It may be told that nobody could take what it has: the others may be taken for dead.
            let _ = nodes.run(other, &format!("drain {name}"));
            load.run_to_a_random_moment(rng);
            // Where the database is slow the roll may have no quiet moment for it.
            wait_until("the drain is undone", || nodes.run(other, &format!("drain {name} --undo")).status.success());
            format!("{name} is drained, and is not after all")
        }
        6 => {
            let slot = rng.random_range(0..SLOTS);
            // It may be told that this can not be: the slot may be there.
            let _ = nodes.run(other, &format!("move {slot} {name}"));
            load.run_to_a_random_moment(rng);
            let _ = nodes.run(other, &format!("move {slot} --unpin"));
            format!("slot {slot} is moved to {name}")
        }
        _ => {
            let stopped = database.stop();
            thread::sleep(for_a_while(rng));
            drop(stopped);
            "the database stands still".to_owned()
        }
    }
}

/// RINGPOST_FAULTS says how many; without it a few.
#[test]
fn whatever_happens_to_nodes_costs_nobody_a_message() {
    let faults = number_of("RINGPOST_FAULTS").unwrap_or(5);
    under_load("whatever happens", |nodes, load, database| {
        let mut rng = StdRng::seed_from_u64(number_of("RINGPOST_SEED").unwrap_or_else(rand::random));
        for fault in 1..=faults {
            let what = happens_by_chance(nodes, load, database, &mut rng);
            println!("{fault}: {what}; {} messages accepted so far", load.accepted());
            goes_on(nodes, load);
        }
        nodes.wait_for_shares(&[0, 1, 2]);
    });
}
