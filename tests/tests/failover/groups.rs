//! A group whose members are at all nodes, and whose home dies while they write, and comes back to the same node. The members are the load generator's, which compares
//! everything that each of them is told with what was sent and with what the others are told, and in the end has each read the group from end
//! to end.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use loadgen::scenario::group_id;
use proto_spec::UserId;
use serde_json::Value;
use server::cluster::map::Slot;
use tests::{database::Database, number_of, wait_until};

use crate::{LOADGEN, PATIENCE, PROGRAM, nodes::Nodes};

/// Of the group.
const MEMBERS: u64 = 60;

/// The first of them, as the load generator is told; the others follow.
const FIRST_USER: u64 = 1_000_000;

/// The number of the group in its run.
const GROUP: u64 = 0;

/// The node where the group is at home when it is killed, and the others.
const HOME: usize = 1;
const OTHERS: [usize; 2] = [0, 2];

/// Which node serves the slot of a user, by what the first one says; a group is at home where the user with its number is.
fn node_of(nodes: &Nodes, user: u64) -> usize {
    let owner = &nodes.owners(0)[usize::from(Slot::of(UserId(user)).0)];
    (0..3).find(|at| nodes.name(*at) == *owner).expect("a slot is one of theirs")
}

/// Moves a group to the node where it is to be at home: where the load generator comes to is another one, which stays.
fn bring_home(nodes: &Nodes, group: u64) {
    let command = format!("move {} {}", Slot::of(UserId(group)).0, nodes.name(HOME));
    if node_of(nodes, group) != HOME {
        nodes.done(0, &command);
        wait_until("the group is at home there", || node_of(nodes, group) == HOME);
    }
}

/// A counter of the shards of these nodes, all cores together.
fn sum(nodes: &Nodes, of: &[usize], counter: &str) -> f64 {
    let name = format!("ringpost_shard_{counter}_total");
    let metrics = of.iter().flat_map(|at| nodes.server(*at).metrics());
    metrics.filter(|(series, _)| series.starts_with(&name)).map(|(_, value)| value).sum()
}

/// Waits until members at these nodes have been pushed more of the group; false if the load is over before.
#[track_caller]
fn goes_on(nodes: &Nodes, of: &[usize], load: &mut Child) -> bool {
    let before = sum(nodes, of, "group_delivered");
    let mut is_over = false;
    wait_until("members are told of messages", || {
        is_over = load.try_wait().expect("it is a child").is_some();
        is_over || sum(nodes, of, "group_delivered") > before + 5.0 * MEMBERS as f64
    });
    !is_over
}

/// How long the members write for each kill: a take-over and a start take less, unless the machine builds something else.
const SECONDS_A_KILL: u64 = 10;

/// RINGPOST_KILLS says how often at most; without it twice.
#[test]
fn a_group_whose_home_is_killed_is_the_same_for_all_members_at_all_nodes() {
    let Some(database) = Database::of_this_run() else { return };
    let kills = number_of("RINGPOST_KILLS").unwrap_or(2);
    let mut nodes = Nodes::start(&database, PROGRAM, 3);
    let run = number_of("RINGPOST_SEED").unwrap_or_else(rand::random);
    println!("a group's home is killed: RINGPOST_SEED={run}");
    let group = group_id(run, GROUP).0;
    bring_home(&nodes, group);
    let users: Vec<_> = (FIRST_USER..FIRST_USER + MEMBERS).map(|user| node_of(&nodes, user)).collect();
    let members = [0, 1, 2].map(|at| users.iter().filter(|node| **node == at).count());
    println!("members at the nodes: {members:?}");
    assert!(members.into_iter().all(|count| count >= 5), "{members:?}");

    let first = nodes.node(0);
    let mut command = Command::new(LOADGEN);
    command.args(["group", "--messages-per-s", "50", "--seconds", &(SECONDS_A_KILL * kills).to_string()]);
    command.args(["--churn", "2", "--removals", "2", "--cuts", "2", "--tolerate-disconnects", "--json"]);
    command.args(["--members", &MEMBERS.to_string(), "--first-user", &FIRST_USER.to_string()]);
    command.args(["--seed", &run.to_string(), "--stall-after", &PATIENCE.as_secs().to_string()]);
    command.args(["--server", &first.config.listen.to_string()]);
    command.arg("--token-key").arg(&first.config.auth.key_file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut load = command.spawn().expect("the load generator can be started");
    let mut lasts = goes_on(&nodes, &[0, 1, 2], &mut load);
    let mut survived = 0;
    while survived < kills && lasts {
        thread::sleep(Duration::from_millis(rand::random_range(0..600)));
        let sends = sum(&nodes, &[0, 1, 2], "sends_accepted");
        nodes.take(HOME).kill();
        println!("{} is killed, {sends} sends after the nodes were started", nodes.name(HOME));
        nodes.wait_for_shares(&OTHERS);
        lasts = goes_on(&nodes, &OTHERS, &mut load);
        survived += u64::from(lasts);
        nodes.restart(HOME);
        nodes.wait_for_shares(&[0, 1, 2]);
        bring_home(&nodes, group);
        lasts = lasts && goes_on(&nodes, &[0, 1, 2], &mut load);
    }
    assert!(survived > 0, "the members had written everything before another node was the group's home");
    let output = load.wait_with_output().expect("it is a child");
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no report ({error}): {said}\n{}", nodes.logs()));
    let count = |what: &str| report["counts"][what].as_u64().unwrap_or_default();
    assert!(output.status.success(), "{said}\n{report:#}\n{}", nodes.logs());
    assert_eq!(count("group logs checked"), MEMBERS, "{said}\n{report:#}");
    for what in ["disconnects", "redirects", "of them, fetched", "group sends refused"] {
        assert!(count(what) > 0, "no {what}: {report:#}");
    }
    println!(
        "{} messages to the group were accepted, {} entries were delivered, each to all members once, in one order",
        count("group messages accepted"),
        count("group entries delivered"),
    );
}
