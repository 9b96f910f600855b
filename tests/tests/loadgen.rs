//! The load generator against the real server: each scenario small, and what it says when something is wrong.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use proto_spec::UserId;
use serde_json::Value;
use server::{
    cluster::{file::Nodes, map::Slot},
    config::{AdminListen, Limits},
    shard::presence::PresenceSettings,
};
use tests::{
    number_of,
    process::{Installation, Server, signal},
    tls::certify,
    wait_until,
};

/// What is told of who is there is told soon, so that runs need not wait for it long; and generators are told so.
const PRESENCE: &str = "--hold-ms 600 --grace-ms 1500 --tick-ms 200";

fn installation() -> Installation {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let presence = &mut installation.config.presence;
    (presence.hold_ms, presence.grace_ms, presence.tick_ms, presence.lifetime_s) = (600, 1_500, 200, 10);
    installation
}

/// The load generator with these arguments, against the server of this installation.
fn loadgen(installation: &Installation, arguments: &str) -> Command {
    loadgen_at(installation.config.listen, installation, arguments)
}

/// The same, where the server has another address too.
fn loadgen_at(address: SocketAddr, installation: &Installation, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost-loadgen"));
    command.args(arguments.split_whitespace());
    if arguments.starts_with("mix") || arguments.starts_with("presence") {
        command.args(PRESENCE.split_whitespace().filter(|_| !arguments.contains("--grace-ms")));
    }
    command.args(["--json", "--server", &address.to_string()]);
    command.arg("--token-key").arg(installation.data().join("token-key.pem"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no report ({error}): {said}"))
}

/// Runs a scenario that must go well, and gives its report.
#[track_caller]
fn verified(arguments: &str) -> Value {
    let mut installation = installation();
    let server = installation.start();
    let metrics = server.metrics();
    assert!(!metrics.is_empty());
    let mut command = loadgen(&installation, arguments);
    command.args(["--server-pid", &server.id().to_string()]);
    let output = command.output().expect("the load generator can be started");
    let report = report(&output);
    assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["faults"], &report["is_whole"]), (&0.into(), &true.into()));
    server.stop();
    report
}

fn count(report: &Value, what: &str) -> u64 {
    report["counts"][what].as_u64().unwrap_or_default()
}

#[track_caller]
fn wait_for_messages(server: &Server) {
    wait_for_more_sends_than(10, server);
}

#[track_caller]
fn wait_for_more_sends_than(sends: u64, server: &Server) {
    wait_until("messages are accepted", || {
        let metrics = server.metrics();
        let accepted = metrics.iter().filter(|(name, _)| name.starts_with("ringpost_shard_sends_accepted_total"));
        accepted.map(|(_, value)| value).sum::<f64>() > sends as f64
    });
}

#[test]
fn a_chat_of_a_number_of_messages_delivers_each_once() {
    let report = verified("chat --pairs 5 --messages 40 --window 8 --connections 10");
    assert_eq!((count(&report, "messages accepted"), count(&report, "messages delivered")), (400, 400));
    assert_eq!((count(&report, "logins"), count(&report, "histories checked")), (20, 10));
}

#[test]
fn a_chat_over_several_lanes_verifies_all_of_them() {
    let report = verified("chat --pairs 5 --messages 20 --lanes 3");
    assert_eq!((count(&report, "messages delivered"), count(&report, "histories checked")), (200, 10));
}

#[test]
fn an_open_loop_sends_what_its_rate_says() {
    let report = verified("chat --pairs 5 --rate 200 --seconds 1");
    assert_eq!(count(&report, "messages accepted"), 200);
    assert!(report["latency_us"]["generator late by"]["p50"].is_u64(), "{report:#}");
}

#[test]
fn idle_connections_stay_and_get_their_pongs() {
    let report = verified("idle --connections 50 --seconds 2 --ping-after 1");
    assert_eq!(count(&report, "logins"), 50);
    assert!(count(&report, "pongs") >= 50);
}

#[test]
fn everybody_connects_as_often_as_asked() {
    assert_eq!(count(&verified("connect --connections 50 --rounds 3 --at-once 20"), "logins"), 150);
}

#[test]
fn everybody_comes_back_after_a_storm_while_others_chat() {
    let report = verified("storm --connections 50 --jitter 1 --calm 1 --pairs 2 --rate 50");
    assert_eq!((count(&report, "connections cut"), count(&report, "logins")), (50, 104));
    assert!(report["latency_us"]["send to accepted, storm"]["max"].is_u64(), "{report:#}");
}

#[test]
fn histories_are_read_in_both_directions_and_compared() {
    let report = verified("history --pairs 3 --messages 60 --page 7 --seconds 1");
    // All four kinds of readings by each, and the one of the end.
    assert!(count(&report, "histories checked") >= 6 * 5, "{report:#}");
}

#[test]
fn apps_open_from_the_store_and_then_from_the_cache_and_what_they_show_is_compared() {
    let mut installation = installation();
    let server = installation.start();
    let run = |arguments: &str| {
        let arguments =
            format!("open --users 24 --conversations 5 --messages 4 --rows 3 --page 5 --seed 7 {arguments}");
        let mut command = loadgen(&installation, &arguments);
        let output = command.args(["--metrics", &server.admin().to_string()]).output().unwrap();
        let report = report(&output);
        assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
        report
    };
    let report = run("--seconds 2 --rounds 2");
    assert_eq!((count(&report, "messages delivered"), count(&report, "apps opened")), (24 * 4 + 24 * 4, 48));
    for round in ["first round", "later rounds"] {
        assert!(report["latency_us"][format!("its hello to all shown, {round}")]["p99"].is_u64(), "{report:#}");
    }
    let cost = |name: &str| report["costs"][name].as_f64().unwrap_or_else(|| panic!("{name}: {report:#}"));
    assert!(cost("server cache misses") > 0.0 && cost("server cache hits") > 0.0, "{report:#}");
    // What was written is there for a run of its own, and logins alone are told apart.
    let report = run("--seconds 1 --filled");
    assert_eq!((count(&report, "messages accepted"), count(&report, "apps opened")), (0, 24));
    let report = run("--seconds 1 --filled --only login");
    assert_eq!((count(&report, "logins"), count(&report, "apps opened")), (24, 0));
    server.stop();
}

#[test]
fn an_app_that_shows_something_else_than_was_written_is_a_fault() {
    let mut installation = installation();
    let server = installation.start();
    let run = |arguments: &str| {
        let arguments = format!("open --users 4 --conversations 3 --seconds 1 --seed 7 {arguments}");
        let output = loadgen(&installation, &arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run("--messages 4 --rounds 0"), (Some(0), String::new()));
    let (code, said) = run("--messages 5 --filled");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("the app of user 1000000 opened, and the inbox has 4 messages of user 1000001 unread"),
        "{said}"
    );
    let (code, said) = run("--messages 4");
    assert_eq!(code, Some(1));
    assert!(said.contains("has a log: take other users with --first-user, or say --filled"), "{said}");
    server.stop();
}

#[test]
fn a_small_day_with_several_devices_and_people_who_leave_is_verified() {
    let report = verified("mix --users 30 --rate 300 --seconds 2 --leaves 10 --watching 50 --seed 7");
    assert!(count(&report, "views checked") > 0, "{report:#}");
    for what in ["messages accepted", "messages copied", "pages", "connections cut"] {
        assert!(count(&report, what) > 0, "no {what}: {report:#}");
    }
}

#[test]
fn what_people_change_mark_and_delete_is_verified_on_all_devices_and_both_sides() {
    let report = verified(
        "mix --users 8 --rate 500 --seconds 3 --leaves 1 --reads 15 --replies 8 --reactions 15 --edits 8 --unsends 3 --deletes 3 \
         --lists 3 --settings 3 --seed 7",
    );
    for what in ["changes accepted", "changes delivered", "marks and deletions done", "marks and deletions told"] {
        assert!(count(&report, what) > 0, "no {what}: {report:#}");
    }
    assert_eq!((count(&report, "lists checked"), count(&report, "histories checked")), (8, 8));
    assert!(count(&report, "conversations checked") >= 8 && count(&report, "pages of the list") > 8, "{report:#}");
    assert_eq!(report["parameters"]["edits, % of the acts"], 8);
}

#[test]
fn a_day_with_groups_is_verified_on_all_devices_of_all_members() {
    let report = verified(
        "mix --users 40 --rate 600 --seconds 3 --leaves 1 --watching 0 --groups 6 --group-members 12 --group-share 50 --lanes 2 --seed 7",
    );
    let counts = ["messages copied", "connections cut", "pointers to groups", "of them, fetched"];
    for what in counts.into_iter().chain(["changes accepted", "group changes accepted"]) {
        assert!(count(&report, what) > 0, "no {what}: {report:#}");
    }
    let (people, groups) = (count(&report, "messages accepted"), count(&report, "group messages accepted"));
    // Half of the messages, and of the answers, are to groups.
    assert!(groups > 400 && people * 2 < groups * 3 && groups * 2 < people * 3, "{people} and {groups}");
    // Everybody is added but who created the group; and some members have several devices.
    assert_eq!(count(&report, "acts accepted"), 6 * 12, "{report:#}");
    assert!(count(&report, "group logs checked") > 6 * 12 && count(&report, "histories checked") == 40, "{report:#}");
    assert_eq!((&report["parameters"]["groups"], &report["parameters"]["members of each"]), (&6.into(), &12.into()));
    assert!(report["latency_us"]["group send to the last member"]["p99"].is_u64(), "{report:#}");
}

#[test]
fn what_members_change_answer_and_type_in_groups_is_verified_on_all_their_devices() {
    let report = verified(
        "mix --users 12 --rate 500 --seconds 3 --leaves 1 --reads 5 --replies 10 --reactions 20 --edits 10 --unsends 4 --watching 100 \
         --groups 2 --group-members 8 --group-share 100 --seed 7",
    );
    // Of a hundred acts 34 change a message of a group, if there is one. Nothing is between two, nor does anybody type there.
    assert!(count(&report, "group changes accepted") > 200, "{report:#}");
    assert_eq!((count(&report, "messages accepted"), count(&report, "changes accepted")), (0, 0));
    assert!(count(&report, "typing told") > 0 && count(&report, "views checked") > 0, "{report:#}");
    assert!(count(&report, "group logs checked") >= 2 * 8, "{report:#}");
    assert_eq!(report["parameters"]["in groups, % of messages and changes"], 100);
}

#[test]
fn members_of_groups_are_served_by_several_nodes() {
    let (nodes, _) = two_nodes();
    for arguments in [
        "mix --users 16 --rate 300 --seconds 2 --reactions 15 --edits 5 --watching 50 --groups 4 --group-members 8 --group-share 60",
        "group --groups 4 --members 8 --users 16 --messages-per-s 50 --seconds 2 --churn 2",
    ] {
        let output = loadgen(&nodes[0].0, &format!("{arguments} --lanes 2")).output().unwrap();
        let report = report(&output);
        assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
        assert!(count(&report, "redirects") > 0 && count(&report, "group logs checked") > 0, "{report:#}");
    }
    nodes.into_iter().for_each(|(_, server)| server.stop());
}

#[test]
fn people_who_were_in_groups_of_earlier_runs_take_part_in_others() {
    let mut installation = installation();
    let server = installation.start();
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadgen/sample.trace");
    for arguments in [
        "mix --users 12 --rate 200 --seconds 1 --groups 3 --group-members 6 --watching 0",
        "mix --users 12 --rate 200 --seconds 1 --watching 0",
        "group --groups 3 --members 6 --users 9 --messages-per-s 50 --seconds 1",
        &format!("replay {trace} --speed 20"),
    ] {
        let output = loadgen(&installation, arguments).output().unwrap();
        let report = report(&output);
        assert!(output.status.success(), "{arguments}: {report:#} {}", String::from_utf8_lossy(&output.stderr));
        let has_groups = arguments.contains("group") || arguments.contains("trace");
        assert_eq!(count(&report, "group logs checked") > 0, has_groups, "{report:#}");
    }
    server.stop();
}

#[test]
fn changes_that_come_too_late_are_counted_and_no_fault() {
    let mut installation = installation();
    (installation.config.limits.edit_within_s, installation.config.limits.unsend_within_s) = (1, 1);
    let server = installation.start();
    let run = |arguments: &str| {
        let arguments =
            format!("mix --users 8 --rate 300 --seconds 4 --leaves 0 --edits 20 --unsends 5 --deletes 3 {arguments}");
        let output = loadgen(&installation, &arguments).output().unwrap();
        let report = report(&output);
        assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
        report
    };
    let report = run("--seed 7");
    assert!(count(&report, "changes refused for good") > 10, "{report:#}");
    assert!(count(&report, "changes accepted") > 10, "{report:#}");
    let report = run("--groups 1 --group-members 8 --group-share 100 --seed 8");
    assert!(count(&report, "group sends refused") > 10, "{report:#}");
    assert!(count(&report, "group changes accepted") > 10, "{report:#}");
    server.stop();
}

#[test]
fn who_is_there_is_told_to_those_who_may_know_and_not_of_who_flaps_or_of_a_storm() {
    let report = verified(
        "presence --users 60 --contacts 10 --calm 2 --seconds 5 --rounds 2 --changes 10 --scrolls 10 --types 20 --flapping 10 --invisible 5 \
         --blocked 3 --popular 31 --storm 30 --storm-within 1 --messages-per-s 50 --pairs 2 --lanes 2 --seed 7",
    );
    // Each of 64 watches ten others, those of the first lane its first user too, and two strangers, of whom that one is one for somebody.
    assert_eq!(count(&report, "users watched"), 64 * 10 + (31 - 10) + 64 * 2 - 1, "{report:#}");
    for what in ["presence frames pushed", "typing told", "marks and deletions done"] {
        assert!(count(&report, what) > 0, "no {what}: {report:#}");
    }
    assert!(count(&report, "views checked") > 300, "{report:#}");
    assert_eq!(report["stages"]["storm"]["presence frames a second"], 0.0, "{report:#}");
    assert!(report["ratios"]["send to accepted, p99 with presence / without"].as_f64().unwrap() > 0.0, "{report:#}");
}

#[test]
fn a_server_that_tells_sooner_than_it_should_is_found_out() {
    let mut installation = installation();
    let server = installation.start();
    assert_ne!(installation.config.presence.of_shards(), PresenceSettings::DEFAULT);
    let arguments = "presence --users 30 --contacts 10 --calm 1 --seconds 1 --changes 0 --storm 20 --storm-within 4 \
                     --hold-ms 600 --grace-ms 6000 --tick-ms 200 --seed 7";
    let output = loadgen(&installation, arguments).output().unwrap();
    let report = report(&output);
    assert_eq!((output.status.code(), &report["is_whole"]), (Some(1), &true.into()), "{report:#}");
    let faults = report["first_faults"].to_string();
    assert!(faults.contains("is Offline, who has been Offline for"), "{report:#}");
    server.stop();
}

#[test]
fn the_sample_trace_is_replayed() {
    let report = verified(&format!("replay {}/../loadgen/sample.trace --speed 10", env!("CARGO_MANIFEST_DIR")));
    assert_eq!(of_trace(&report), (count(&report, "messages accepted"), count(&report, "group messages accepted")));
    // Of three members the first one, who created the group, has all of it, and the others what begins with their addition.
    let to_group = count(&report, "group messages accepted");
    assert_eq!(count(&report, "group entries delivered"), (3 + to_group) + (2 + to_group) + (1 + to_group));
    assert_eq!((count(&report, "acts accepted"), count(&report, "group logs checked")), (3, 3), "{report:#}");
}

/// Messages of a trace between two, and to groups.
fn of_trace(report: &Value) -> (u64, u64) {
    let parameter = |name: &str| report["parameters"][name].as_u64().expect("a parameter that is a number");
    let to_groups = parameter("of the messages, to groups");
    (parameter("messages") - to_groups, to_groups)
}

#[test]
fn people_of_a_trace_write_to_each_other_across_lanes_and_everything_is_verified() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadgen/sample.trace");
    let report = verified(&format!("replay {trace} --speed 10 --lanes 3"));
    let (messages, to_groups) = of_trace(&report);
    // One is a note of somebody to themselves.
    assert_eq!((count(&report, "messages accepted"), count(&report, "messages delivered")), (messages, messages - 1));
    assert_eq!((count(&report, "group messages accepted"), count(&report, "group logs checked")), (to_groups, 3));
    assert_eq!(count(&report, "histories checked"), report["parameters"]["users"].as_u64().unwrap());
    assert_eq!(report["lanes"], 3);
}

#[test]
fn people_of_a_trace_do_between_their_messages_what_was_asked_for() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadgen/sample.trace");
    let report = verified(&format!(
        "replay {trace} --speed 3 --lanes 2 --reads 15 --replies 15 --reactions 15 --edits 15 --unsends 5 --deletes 5 --lists 5 --leaves 2 --seed 7"
    ));
    assert_eq!(of_trace(&report), (count(&report, "messages accepted"), count(&report, "group messages accepted")));
    for what in ["changes accepted", "changes delivered", "marks and deletions done", "lists checked"] {
        assert!(count(&report, what) > 0, "no {what}: {report:#}");
    }
}

/// Twelve people, of whom nine write in each of three groups, who all say the same again and again: a message each ten milliseconds, for
/// so many seconds.
fn trace_of_groups(seconds: u64) -> String {
    let line = |at: u64| {
        let (time, from) = (at * 10, at * 7 % 12);
        match at % 4 {
            0 => format!("{time}\tu{from}\tu{}\tok\n", (from + 5) % 12),
            _ => format!("{time}\tu{from}\t#{}\tok\n", at / 12 % 3),
        }
    };
    (0..seconds * 100).map(line).collect()
}

#[test]
fn a_trace_is_told_whole_to_its_groups_though_the_server_is_killed() {
    let kills = number_of("RINGPOST_KILLS").unwrap_or(2);
    let folder = tempfile::tempdir().expect("there is room for a trace");
    let file = folder.path().join("groups.trace");
    std::fs::write(&file, trace_of_groups(3 + kills)).expect("a trace can be written");
    let shares = "--replies 10 --reactions 15 --edits 10 --unsends 3";
    let report = killed(kills, &format!("replay {} --lanes 2 {shares}", file.display()));
    assert_eq!(of_trace(&report), (count(&report, "messages accepted"), count(&report, "group messages accepted")));
    assert_eq!((count(&report, "group logs checked"), report["lanes"].as_u64()), (27, Some(2)), "{report:#}");
    assert!(count(&report, "of them, fetched") > 0 && count(&report, "group changes accepted") > 10, "{report:#}");
}

#[test]
fn people_of_a_trace_do_in_groups_what_was_asked_for() {
    let folder = tempfile::tempdir().expect("there is room for a trace");
    let file = folder.path().join("groups.trace");
    std::fs::write(&file, trace_of_groups(4)).expect("a trace can be written");
    let shares = "--replies 20 --reactions 15 --edits 10 --unsends 5 --deletes 2 --leaves 1";
    let report = verified(&format!("replay {} --lanes 2 {shares} --seed 7", file.display()));
    assert_eq!(of_trace(&report), (count(&report, "messages accepted"), count(&report, "group messages accepted")));
    for what in ["changes accepted", "group changes accepted"] {
        assert!(count(&report, what) > 10, "{what}: {report:#}");
    }
    assert_eq!(count(&report, "group logs checked"), 27, "{report:#}");
}

#[test]
fn a_trace_that_is_wrong_is_refused_with_its_line() {
    let mut installation = installation();
    installation.start().stop();
    let file = installation.folder().join("wrong.trace");
    for (text, words) in [
        ("1\tann\t#7\thi\n2\tann\t#\thi\n", "line 2 is to a group without a name: put one behind the `#`"),
        ("1\t#7\tann\thi\n", "line 1 is from the group `#7`"),
        ("1\tann\t#7\t\n", "line 1: the text has 0 bytes"),
    ] {
        std::fs::write(&file, text).expect("a trace can be written");
        let output = loadgen(&installation, &format!("replay {}", file.display())).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("wrong.trace") && said.contains(words), "{said}");
    }
}

#[test]
fn a_server_that_dies_ends_the_run_with_a_partial_report() {
    let mut installation = installation();
    let server = installation.start();
    let page = installation.folder().join("report.html");
    let mut command = loadgen(&installation, "chat --pairs 3 --rate 500 --seconds 600");
    let running = command.arg("--html").arg(&page).spawn().unwrap();
    wait_for_messages(&server);
    server.kill();
    let output = running.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!((output.status.code(), &report["is_whole"]), (Some(1), &false.into()));
    assert!(count(&report, "messages accepted") > 10 && count(&report, "disconnects") > 0, "{report:#}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("gave up while load") && said.contains("Connection refused"), "{said}");
    assert!(std::fs::read_to_string(page).unwrap().contains("CUT SHORT"));
}

#[test]
fn a_run_that_is_interrupted_verifies_what_it_sent_and_reports_that() {
    for arguments in ["chat --pairs 3 --window 4 --seconds 600", "mix --users 20 --rate 300 --leaves 30 --seconds 600"]
    {
        let mut installation = installation();
        let server = installation.start();
        let running = loadgen(&installation, arguments).spawn().unwrap();
        wait_for_messages(&server);
        signal(running.id(), "INT");
        let output = running.wait_with_output().unwrap();
        let report = report(&output);
        assert_eq!((output.status.code(), &report["is_whole"], &report["faults"]), (Some(1), &false.into(), &0.into()));
        let accepted = count(&report, "messages accepted");
        // A message that was changed at once may be delivered as its change alone.
        let delivered = count(&report, "messages delivered") + count(&report, "changes delivered");
        let sent = accepted + count(&report, "changes accepted");
        assert!(sent > 10 && delivered >= accepted, "{report:#}");
        assert!(count(&report, "histories checked") > 0, "{report:#}");
        assert!(report["notes"].to_string().contains("A signal has cut the load short"), "{report:#}");
        server.stop();
    }
}

#[test]
fn a_run_that_is_interrupted_before_its_load_gives_up_at_once() {
    let mut installation = installation();
    installation.config.connections.max = 10;
    let server = installation.start();
    let running = loadgen(&installation, "idle --connections 30 --stall-after 600").spawn().unwrap();
    wait_until("all places are taken", || {
        server.metrics().iter().any(|(name, value)| name.starts_with("ringpost_core_refused_total") && *value > 0.0)
    });
    signal(running.id(), "INT");
    let output = running.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &report(&output)["is_whole"]), (Some(1), &false.into()));
    server.stop();
}

#[test]
fn the_cost_to_the_server_is_known_from_its_metrics_alone() {
    let mut installation = installation();
    let server = installation.start();
    let mut command = loadgen(&installation, "chat --pairs 3 --window 4 --seconds 1");
    let output = command.args(["--metrics", &server.admin().to_string()]).output().unwrap();
    let report = report(&output);
    let cost = |name: &str| report["costs"][name].as_f64().unwrap_or_else(|| panic!("{name}: {report:#}"));
    assert!(cost("server CPU, s") > 0.0 && cost("server memory, MiB") > 1.0);
    assert!(cost("server open files, end") > 3.0 && cost("commits") > 0.0);
    assert_eq!(cost("server failures and retries"), 0.0);
    server.stop();
}

#[test]
fn a_server_that_is_killed_on_purpose_and_comes_back_has_lost_and_doubled_nothing() {
    let report = killed(2, "chat --pairs 5 --rate 400 --seconds 4");
    for cost in ["server CPU, s", "commits", "server failures and retries"] {
        assert!(report["costs"][cost].as_f64().unwrap() >= 0.0, "{report:#}");
    }
}

/// RINGPOST_KILLS says how often, as in the crash test.
#[test]
fn what_people_change_while_the_server_is_killed_is_changed_once() {
    let kills = number_of("RINGPOST_KILLS").unwrap_or(2);
    let seconds = 2 + kills;
    let report = killed(
        kills,
        &format!(
            "mix --users 20 --rate 600 --seconds {seconds} --leaves 1 --reads 10 --replies 8 --reactions 15 --edits 10 --unsends 3 --deletes 3"
        ),
    );
    let counts = ["messages accepted", "changes accepted", "marks and deletions done", "conversations checked"];
    println!("{kills} kills: {:?}", counts.map(|what| (what, count(&report, what))));
    assert!(counts.iter().all(|what| count(&report, what) > 10), "{report:#}");
}

#[test]
fn a_day_with_groups_is_whole_though_the_server_is_killed() {
    let kills = number_of("RINGPOST_KILLS").unwrap_or(2);
    let seconds = 2 + kills;
    let arguments = format!(
        "mix --users 30 --rate 500 --seconds {seconds} --leaves 2 --replies 8 --reactions 15 --edits 10 --unsends 3 --watching 0 --groups 4 --group-members 15 --group-share 60"
    );
    // The groups are made by 60 sends.
    let report = killed_after(70, kills, &arguments);
    let counts = ["group messages accepted", "group changes accepted", "of them, fetched", "group logs checked"];
    println!("{kills} kills: {:?}", counts.map(|what| (what, count(&report, what))));
    assert!(count(&report, "group messages accepted") > 100, "{report:#}");
    assert!(count(&report, "group changes accepted") > 50, "{report:#}");
    assert!(count(&report, "of them, fetched") > 0 && count(&report, "group logs checked") > 4 * 15, "{report:#}");
}

#[test]
fn groups_are_the_same_for_all_members_who_come_go_are_removed_and_lose_their_connections() {
    let report = verified(
        "group --groups 6 --members 12 --connected 10 --users 30 --messages-per-s 300 --seconds 4 --churn 10 --removals 10 --cuts 10 \
         --returning 3 --seed 7",
    );
    for what in ["group sends refused", "of them, fetched", "connections cut", "pointers to groups"] {
        assert!(count(&report, what) > 0, "no {what}: {report:#}");
    }
    assert_eq!(count(&report, "group logs checked"), 60, "{report:#}");
    assert!(count(&report, "group messages accepted") > 1_000, "{report:#}");
    // Who returns is told which groups have moved, and then fetches what they lack.
    let received = |stage: &str| report["stages"][stage]["KiB received"].as_f64().unwrap();
    assert!((0.1..5.0).contains(&received("returning")) && received("looking") > 10.0, "{report:#}");
}

#[test]
fn pairs_beside_groups_are_measured_with_and_without_them() {
    let report = verified(
        "group --members 40 --messages-per-s 20 --seconds 1 --calm 1 --rounds 2 --pairs 3 --rate 100 --lanes 1 --seed 7",
    );
    // Forty members, and each message to all of them.
    let messages = count(&report, "group messages accepted");
    assert_eq!((messages, count(&report, "messages delivered")), (40, 400), "{report:#}");
    assert!(
        report["ratios"]["send to accepted, p99 with groups / without groups"].as_f64().unwrap() > 0.0,
        "{report:#}"
    );
    assert!(report["latency_us"]["group send to the last member"]["p99"].is_u64(), "{report:#}");
    let entries = |stage: &str| report["stages"][stage]["group entries a second"].as_f64().unwrap();
    assert!(entries("calm") < entries("groups"), "{report:#}");
}

#[test]
fn a_kill_in_the_middle_of_fanning_out_leaves_nobody_without_and_nobody_twice() {
    let kills = number_of("RINGPOST_KILLS").unwrap_or(2);
    let seconds = 2 + kills;
    let arguments = format!("group --members 300 --messages-per-s 100 --seconds {seconds} --churn 2 --removals 2");
    // The group is made by 300 sends.
    let report = killed_after(310, kills, &arguments);
    assert!(count(&report, "group entries delivered") > 300 * 100, "{report:#}");
    assert!(count(&report, "of them, fetched") > 0, "{report:#}");
    assert_eq!(count(&report, "group logs checked"), 300, "{report:#}");
}

/// A scenario that must go well though the server is killed so often, and its report.
#[track_caller]
fn killed(kills: u64, arguments: &str) -> Value {
    killed_after(10, kills, arguments)
}

/// The first time when more than so many sends were accepted.
#[track_caller]
fn killed_after(sends: u64, kills: u64, arguments: &str) -> Value {
    let mut installation = installation();
    let mut server = installation.start();
    // The server that comes back shows its metrics at the same place.
    installation.config.admin_listen = AdminListen::At(server.admin());
    let mut command = loadgen(&installation, arguments);
    command.args(["--tolerate-disconnects", "--metrics", &server.admin().to_string()]);
    let running = command.spawn().expect("the load generator can be started");
    for kill in 0..kills {
        wait_for_more_sends_than(if kill == 0 { sends } else { 10 }, &server);
        thread::sleep(Duration::from_millis(rand::random_range(0..600)));
        server.kill();
        server = installation.start();
    }
    let output = running.wait_with_output().expect("the load generator has started");
    let report = report(&output);
    assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
    assert!(count(&report, "disconnects") >= 10, "{report:#}");
    server.stop();
    report
}

#[test]
fn a_run_that_the_limits_of_the_server_hold_back_says_so_first() {
    let mut installation = installation();
    installation.config.limits = Limits::default();
    let server = installation.start();
    let output = loadgen(&installation, "chat --pairs 2 --window 16 --messages 260").output().unwrap();
    let report = report(&output);
    assert!(output.status.success(), "{report:#}");
    let said = report["limited_by"][0].as_str().unwrap();
    assert!(said.starts_with("sends refused as `rate_limited` (") && said.contains("device_sends_per_s"), "{said}");
    assert!(said.contains("benches/unlimited.toml"), "{said}");
    server.stop();
}

#[test]
fn who_may_not_open_a_conversation_yet_writes_in_the_others_meanwhile() {
    let mut installation = installation();
    installation.config.limits.opened_per_s = 1;
    let server = installation.start();
    let output = loadgen(&installation, "mix --users 40 --rate 800 --seconds 3 --leaves 1 --seed 7").output().unwrap();
    let report = report(&output);
    assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
    assert!(count(&report, "numbers given up") > 0 && count(&report, "sends refused for now") > 0, "{report:#}");
    server.stop();
}

#[test]
fn a_server_is_found_by_name_and_a_report_says_when_and_how_it_was_made() {
    let mut installation = installation();
    let localhost = SocketAddr::from(([127, 0, 0, 1], 0));
    (installation.config.listen, installation.config.admin_listen) = (localhost, AdminListen::At(localhost));
    let server = installation.start();
    let page = installation.folder().join("report.html");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-ringpost-loadgen"));
    command.args(["chat", "--pairs", "2", "--messages", "5", "--seed", "4711", "--json"]);
    command.args(["--server", &format!("localhost:{}", server.address().port())]);
    command.args(["--metrics", &format!("localhost:{}", server.admin().port())]);
    command.arg("--token-key").arg(installation.data().join("token-key.pem")).arg("--html").arg(&page);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let report = report(&output);
    assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["about"]["seed"], "4711");
    let called = report["about"]["command"].as_str().unwrap();
    assert!(
        called.starts_with("ringpost-loadgen chat --pairs 2 --messages 5 --seed 4711 --json --server localhost:"),
        "{called}"
    );
    let page = std::fs::read_to_string(page).unwrap();
    for part in
        ["<th>begun</th><td>20", "<th>seed</th><td>4711</td>", "<th>machine</th><td>", called, "What limited this run"]
    {
        assert!(page.contains(part), "no {part}");
    }
    server.stop();
}

#[test]
fn clients_that_follow_no_redirects_are_served_and_the_report_says_what_they_were() {
    let report = verified("chat --pairs 2 --messages 5 --no-redirects");
    assert_eq!(count(&report, "messages delivered"), 20);
    assert!(report["about"]["redirects"].as_str().unwrap().starts_with("not followed"), "{report:#}");
    assert!(verified("chat --pairs 2 --messages 5")["about"]["redirects"].is_null());
}

/// Two nodes of a cluster that reach each other, and the cluster's file.
fn two_nodes() -> ([(Installation, Server); 2], String) {
    let [mut a, mut b] = [installation(), installation()];
    let mut text = "name = \"test\"\n".to_owned();
    for (name, node) in [("a", &mut a), ("b", &mut b)] {
        // Addresses of a test are nobody else's, so all ports are free.
        node.config.listen.set_port(7600);
        let mesh = SocketAddr::new(node.config.listen.ip(), 7650);
        text += &format!("[nodes.{name}]\nmesh = \"{mesh}\"\nclients = \"{}\"\n", node.config.listen);
    }
    let file = a.folder().join("cluster.toml");
    std::fs::write(&file, &text).expect("the folder of a node can be written to");
    for (name, node) in [("a", &mut a), ("b", &mut b)] {
        (node.config.cluster.file, node.config.cluster.node) = (file.clone(), name.to_owned());
    }
    b.config.auth.key_file = a.data().join("token-key.pem");
    let [at_a, at_b] = [&mut a, &mut b].map(Installation::start);
    wait_until("the nodes reach each other", || {
        [&at_a, &at_b].iter().all(|server| {
            let metrics = server.metrics();
            metrics.iter().any(|(name, links)| name.starts_with("ringpost_core_links") && *links > 0.0)
        })
    });
    ([(a, at_a), (b, at_b)], text)
}

#[test]
fn latencies_are_told_by_the_nodes_of_author_and_recipient() {
    let (nodes, file) = two_nodes();
    let output = loadgen(&nodes[0].0, "chat --pairs 8 --messages 10 --lanes 2 --by-node").output().unwrap();
    let report = report(&output);
    assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
    // Users write to their neighbours, from the first one that a run has on.
    let map = Nodes::parse(&file).unwrap().map;
    let home = |user| nodes[usize::from(map.owner(Slot::of(UserId(user))).0)].0.config.listen.to_string();
    let mut expected = BTreeMap::<_, u64>::new();
    for (author, recipient) in (0..16).map(|at| (1_000_000 + at, 1_000_000 + (at ^ 1))) {
        *expected.entry((home(author), home(recipient))).or_default() += 10;
    }
    assert!(expected.len() > 2, "some of these pairs are of two nodes: {expected:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = report["by_node"].as_array().unwrap().iter().map(|row| {
        for what in ["send to accepted", "send to delivered"] {
            assert!(row["latency_us"][what]["p99"].as_u64().unwrap() > 0, "{report:#}");
        }
        ((text(&row["from"]), text(&row["to"])), row["messages"].as_u64().unwrap())
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), expected);
    assert!(report["notes"].to_string().contains("when the load began"), "{report:#}");
    nodes.into_iter().for_each(|(_, server)| server.stop());
}

#[test]
fn clients_that_follow_no_redirects_are_served_where_they_come_to_though_their_users_are_of_another_node() {
    let ([(a, at_a), (_b, at_b)], _) = two_nodes();
    let output = loadgen(&a, "chat --pairs 8 --messages 10 --no-redirects --by-node").output().unwrap();
    let report = report(&output);
    assert!(output.status.success(), "{report:#} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((count(&report, "redirects"), count(&report, "logins refused")), (0, 0), "{report:#}");
    let (address, all) = (a.config.listen.to_string(), &report["by_node"][0]);
    assert_eq!((&all["from"], &all["to"], &all["messages"]), (&address.as_str().into(), &address.into(), &160.into()));
    let through_a = |name: &str, count: f64| name.starts_with("ringpost_core_tunnels_taken_total") && count > 0.0;
    assert!(at_b.metrics().iter().any(|(name, count)| through_a(name, *count)));
    [at_a, at_b].into_iter().for_each(Server::stop);
}

#[test]
fn a_wrong_port_is_named() {
    let mut installation = installation();
    let server = installation.start();
    server.stop();
    let output = loadgen(&installation, "chat --pairs 3").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("{}: Connection refused", installation.config.listen)), "{said}");
}

#[test]
fn a_server_that_takes_no_more_connections_is_waited_for_and_then_named() {
    let mut installation = installation();
    installation.config.connections.max = 10;
    let server = installation.start();
    let output = loadgen(&installation, "idle --connections 30 --stall-after 1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("10 of 30 connections are ready") && said.contains("too_many_connections"), "{said}");
    server.stop();
}

#[test]
fn arguments_that_make_no_sense_are_refused_at_once() {
    let mut installation = installation();
    installation.start().stop();
    for (arguments, code, words) in [
        ("chat --pairs 0", 2, "0 is not in"),
        ("chat --size 3", 2, "3 is not in"),
        ("chat --rate 5 --messages 7", 2, "cannot be used with"),
        ("dance", 2, "dance"),
        ("idle --connections 5000000", 1, "are too many"),
        ("mix --reads 60 --leaves 60", 1, "--reads 60, --leaves 60, --replies 5"),
        ("mix --reads 60 --edits 60", 1, "more than 100 of 100"),
        ("mix --reactions 101", 2, "101 is not in"),
        ("mix --group-share 30", 2, "--groups <GROUPS>"),
        ("mix --groups 3 --group-share 101", 2, "101 is not in"),
        ("mix --groups 1 --lanes 2", 1, "--groups 1: the people are in 2 lanes, each of which needs one"),
        ("mix --users 10 --groups 3", 1, "--group-members 20: only 10 people are together in one lane"),
        ("replay /nowhere --edits 100", 1, "something else than the messages of the trace"),
        ("replay /nowhere", 1, "/nowhere"),
        ("chat --html /nowhere/report.html", 1, "--html /nowhere/report.html"),
        ("chat --first-user 0", 1, "user 0 does not exist"),
        ("chat --server-pid 4000000000", 1, "no such process"),
        ("chat --metrics 127.0.0.1:1", 1, "--metrics 127.0.0.1:1: no metrics there"),
        ("chat --metrics http://localhost:1", 1, "without `http://`"),
        ("chat --metrics localhost:70000", 1, "a port is a number from 1 to 65535, not `70000`"),
    ] {
        let output = loadgen(&installation, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
        assert!(said.contains(words), "{arguments}: {said}");
    }
    let mut remote = Command::new(env!("CARGO_BIN_EXE_tested-ringpost-loadgen"));
    let output = remote.args(["chat", "--server", "192.0.2.1:7600"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
}

#[test]
fn over_tls_everybody_comes_back_with_a_ticket_and_everything_is_verified() {
    let mut installation = installation();
    let certificate = certify(&mut installation).display().to_string();
    let server = installation.start();
    let run = |arguments: &str| {
        let mut command = loadgen(&installation, arguments);
        command.args(["--tls-ca", &certificate, "--tls-name", "localhost"]).output().unwrap()
    };
    let output = run("connect --connections 30 --rounds 3 --lanes 2");
    let connected = report(&output);
    assert!(output.status.success(), "{connected:#}");
    assert_eq!((count(&connected, "TLS handshakes"), count(&connected, "TLS handshakes resumed")), (90, 60));
    assert!(connected["notes"].to_string().contains("TLS 1.3"), "{connected:#}");
    let output = run("mix --users 30 --rate 300 --seconds 2 --leaves 10 --seed 7");
    let mixed = report(&output);
    assert!(output.status.success() && count(&mixed, "messages delivered") > 0, "{mixed:#}");
    let output = run("group --members 20 --messages-per-s 20 --seconds 1 --cuts 5 --seed 7");
    let grouped = report(&output);
    assert!(output.status.success() && count(&grouped, "group entries delivered") > 400, "{grouped:#}");

    // Without a certificate that is trusted, and without TLS.
    let mut command = loadgen(&installation, "connect --connections 3 --stall-after 1");
    let output = command.args(["--tls-ca", &certificate]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("certificate"), "{said}");
    let output = loadgen(&installation, "connect --connections 3 --stall-after 1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("tls_required"), "{said}");
    server.stop();
}

#[test]
fn by_websocket_everything_is_verified_with_tls_and_without() {
    let mut installation = installation();
    let certificate = certify(&mut installation).display().to_string();
    let ip = installation.config.listen.ip();
    installation.config.tls.listen = Some((ip, 0).into());
    // The address is this test's own, so nobody else takes the ports meanwhile.
    let listeners = [(); 2].map(|()| TcpListener::bind((ip, 0)).unwrap());
    let [plain, tls] = listeners.map(|listener| listener.local_addr().unwrap());
    (installation.config.websocket.listen, installation.config.websocket.tls_listen) = (Some(plain), Some(tls));
    let server = installation.start();
    let with_tls = ["--tls-ca", &certificate, "--tls-name", "localhost"];
    for (address, trust) in [(plain, &[][..]), (tls, &with_tls)] {
        for (seed, arguments) in [
            (1, "connect --connections 30 --rounds 3 --lanes 2"),
            (2, "chat --pairs 5 --messages 40 --window 8"),
            (3, "mix --users 30 --rate 300 --seconds 2 --leaves 10"),
            (4, "storm --connections 30 --pairs 3 --rate 50 --jitter 1 --calm 1"),
        ] {
            let mut command = loadgen_at(address, &installation, arguments);
            command.args(["--websocket", "--seed", &seed.to_string()]).args(trust);
            let output = command.output().unwrap();
            let report = report(&output);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments}: {report:#} {said}");
            assert!(report["notes"].to_string().contains("spoke WebSocket"), "{report:#}");
        }
    }
    let upgrades = server.counted("websocket_upgrades_total");
    assert!(upgrades >= 2 * (90 + 10 + 30 + 30), "{upgrades}");
    assert_eq!(server.counted("websocket_failed_total"), 0);
    // Where it is not spoken.
    let mut command = loadgen(&installation, "connect --connections 3 --stall-after 1 --websocket");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("does not speak WebSocket"), "{said}");
    server.stop();
}
