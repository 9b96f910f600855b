//! Figures that the documents give are those of the code: bounds and defaults, and how much the tests do. What was measured once, with
//! its date, is not looked at.

use std::{fs, path::Path};

use proto_spec::limits::{
    CLIENT_FRAME_BYTES_MAX, FETCHES_IN_FLIGHT_MAX, NAME_BYTES_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX,
    PRESENCE_USERS_MAX, PUSH_ADDRESS_BYTES_MAX, SEND_WINDOW, TEXT_BYTES_MAX, TOKEN_BYTES_MAX, WATCHED_MAX,
};
use server::{config::Config, limits};
use tests::{
    crowd,
    kills::KILLS,
    sim::{SEEDS, SEEDS_TO_FIND, faults::Fault},
};

/// A document of the repository, on one line: a figure may stand where a line ends.
fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = fs::read_to_string(path).expect("a document of the repository");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_says(name: &str, phrases: &[String]) {
    let text = document(name);
    for phrase in phrases {
        assert!(text.contains(phrase.as_str()), "{name} should say: {phrase}");
    }
}

/// 65280 as 65,280.
fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().ok().expect("a figure of the documents is not negative").to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// In the largest unit that leaves no rest.
fn size(bytes: impl TryInto<u64>) -> String {
    let bytes = bytes.try_into().ok().expect("a size is not negative");
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes % unit == 0);
    unit.map_or_else(|| format!("{} bytes", grouped(bytes)), |(unit, name)| format!("{} {name}", bytes / unit))
}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}

fn a_second(number: impl TryInto<u64>) -> String {
    format!("{} a second", grouped(number))
}

/// The first two cells of the rows of the table whose head begins with these cells.
fn table(name: &str, head: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = fs::read_to_string(path).expect("a document of the repository");
    let lines =
        text.lines().skip_while(|line| !line.starts_with(head)).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    };
    lines.map(cells).collect()
}

#[test]
fn the_table_of_limits_has_the_values_of_the_code() {
    let config = Config::default();
    let (connections, of_clients) = (config.connections, config.limits);
    let queries = limits::QUERIES_IN_FLIGHT_MAX;
    let expected = [
        ("time for the hello, TLS included", seconds(connections.handshake_timeout_ms)),
        ("connections of the node", grouped(connections.max)),
        ("connections of an address", grouped(of_clients.address_connections)),
        ("handshakes of an address", grouped(of_clients.address_handshakes)),
        ("refused hellos of an address", a_second(of_clients.address_failures_per_s)),
        ("handshakes of a core", grouped(limits::HANDSHAKES_MAX as u64)),
        (
            "bytes of a PROXY header",
            format!("{}; {} as a line of text", limits::PROXY_HEADER_BYTES_MAX, limits::PROXY_LINE_BYTES_MAX),
        ),
        (
            "head of the request of a WebSocket",
            format!("{}; {} headers", size(limits::UPGRADE_BYTES_MAX as u64), limits::UPGRADE_HEADERS_MAX),
        ),
        ("bytes that WebSocket holds of a connection", size(limits::WEBSOCKET_HELD_BYTES_MAX as u64)),
        (
            "pieces before the hello with nothing of it, by WebSocket",
            format!("{} of a connection", limits::GREETING_IDLE_PIECES_MAX),
        ),
        (
            "connections of a core that ask for something else than WebSocket",
            format!(
                "{}; {} for a head, {} for a body of {}",
                grouped(limits::PAGE_CONNECTIONS_MAX as u64),
                seconds(limits::PAGE_HEAD_MS),
                seconds(limits::PAGE_BODY_MS),
                size(limits::POLL_BODY_BYTES_MAX as u64)
            ),
        ),
        (
            "sessions of long polling",
            format!(
                "{}, each until {} after its last request; {} of what it is told and does not ask for",
                grouped(limits::POLLS_MAX as u64),
                seconds(limits::POLL_GAP_MS),
                size(limits::POLL_WAITING_BYTES_MAX as u64)
            ),
        ),
        ("hellos judged in a turn", grouped(limits::HELLOS_TURN_MAX as u64)),
        ("connections of a user", a_second(of_clients.logins_per_s)),
        ("devices of a user", grouped(limits::DEVICES_MAX as u64)),
        ("name of a device", format!("{} bytes", grouped(NAME_BYTES_MAX as u64))),
        ("lists, names and removals of devices", "count as fetches".to_owned()),
        (
            "subscriptions of a device",
            format!("1, of {}; a change counts as a fetch", size(PUSH_ADDRESS_BYTES_MAX as u64)),
        ),
        (
            "conversations of a user that are due for a notification",
            format!("{}; more wait in the log", limits::DUES_MAX),
        ),
        (
            "notices of a core that have not ended",
            format!("{}; more stay due", grouped(limits::NOTICES_UNDER_WAY_MAX as u64)),
        ),
        (
            "notices of a user that have not ended",
            format!("{}; more stay due", grouped(limits::USER_NOTICES_MAX as u64)),
        ),
        ("bytes ahead of the welcome", size(limits::EARLY_BYTES_MAX as u64)),
        ("length of a frame", size(CLIENT_FRAME_BYTES_MAX as u64)),
        (
            "bytes of a TLS handshake, and of a record, that are not whole",
            format!(
                "{}; {} KiB of a connection, beside the memory of the core below",
                size(limits::TLS_GREETING_BYTES_MAX as u64),
                limits::TLS_RECORD_BYTES_MAX / 1024
            ),
        ),
        ("length of a token", format!("{} bytes", grouped(TOKEN_BYTES_MAX as u64))),
        ("keys that tokens are checked with", grouped(limits::KEYS_MAX as u64)),
        (
            "tokens of live connections that wait to be judged",
            format!("1 a connection, {} a core", grouped(limits::REFRESHES_MAX as u64)),
        ),
        ("new tokens of a connection", a_second(limits::REFRESHES_PER_S)),
        ("revocations in force", grouped(limits::REVOCATIONS_MAX as u64)),
        (
            "refused hellos and tokens that the audit log lists",
            format!("{}, the rest counted", a_second(limits::AUDIT_REFUSALS_MAX)),
        ),
        ("length of a text", format!("{} bytes", grouped(TEXT_BYTES_MAX as u64))),
        ("sends that await their answer", grouped(SEND_WINDOW)),
        ("sends of a device", a_second(of_clients.device_sends_per_s)),
        ("sends of a user", a_second(of_clients.user_sends_per_s)),
        ("conversations opened", a_second(of_clients.opened_per_s)),
        ("fetches of a user, and old sends that are repeated (these wait)", a_second(of_clients.fetches_per_s)),
        (
            "questions about presence",
            format!(
                "count as a fetch for each {} users; {} that await their answer; {} users, a watch {}",
                limits::USERS_A_FETCH,
                limits::LOOKS_MAX,
                grouped(PRESENCE_USERS_MAX as u64),
                grouped(WATCHED_MAX as u64)
            ),
        ),
        (
            "questions that a watch asks again by itself",
            if limits::PRESENCE_ASK_AGAIN_MS == 1_000 {
                "one a second".to_owned()
            } else {
                format!("one in {}", seconds(limits::PRESENCE_ASK_AGAIN_MS))
            },
        ),
        (
            "users of a core that another node is remembered to watch",
            format!(
                "{}, each core of it counted; more are asked about again",
                grouped(limits::PRESENCE_NODE_WATCHED_MAX as u64)
            ),
        ),
        (
            "users of a core in questions of other nodes that wait for the store",
            format!(
                "{} of a node, {} of all",
                grouped(limits::PRESENCE_NODE_USERS_MAX as u64),
                grouped(limits::PRESENCE_FOREIGN_USERS_MAX as u64)
            ),
        ),
        (
            "what waits for a core of presence",
            format!(
                "{} messages, then more is dropped; {}, then what comes from other nodes or goes there is",
                limits::PRESENCE_MAILS_MAX,
                limits::PRESENCE_MAILS_NODES_MAX
            ),
        ),
        ("devices that watch one user", grouped(config.presence.watchers_max)),
        (
            "that somebody types",
            format!(
                "once in {} in the conversation typed in last, in another after {}",
                seconds(limits::TYPING_EVERY_MS),
                seconds(limits::TYPING_OTHER_MS)
            ),
        ),
        (
            "members of a group",
            format!(
                "{}; an operator may allow {}",
                grouped(of_clients.group_members),
                grouped(limits::GROUP_MEMBERS_MAX)
            ),
        ),
        (
            "users that the roll of a group knows",
            format!("{} for each member that it may have", limits::ROLL_TIMES_MEMBERS),
        ),
        (
            "groups that a user is in",
            format!(
                "{}; an operator may allow {}. The user's log knows of {} for each, of which others can fill {}",
                grouped(of_clients.user_groups),
                grouped(limits::USER_GROUPS_MAX),
                limits::OWN_ROWS_TIMES_GROUPS,
                limits::ROWS_TIMES_GROUPS
            ),
        ),
        ("times that somebody comes to a group that shows no history, and goes", grouped(limits::SPANS_MAX as u64)),
        (
            "members to whom a core pushes in a turn",
            format!(
                "{}; {} of a group kept until then",
                limits::FANOUT_TURN_MAX,
                size(limits::PUSHES_KEPT_BYTES_MAX as u64)
            ),
        ),
        ("members of a group whose typing is told", limits::TYPING_MEMBERS_MAX.to_string()),
        ("fetches that await their page", grouped(FETCHES_IN_FLIGHT_MAX as u64)),
        (
            "entries and bytes of a page",
            format!("{}; {} bytes", grouped(PAGE_ENTRIES_MAX), grouped(PAGE_BYTES_MAX as u64)),
        ),
        (
            "frames of a connection, and pieces that make none",
            format!("{}, then closed", a_second(of_clients.frames_per_s)),
        ),
        (
            "bytes that a client has not read",
            format!(
                "{}, then pages; {}, then it is not read from; {}, then closed",
                size(limits::OUTBOX_LIVE_BYTES_MAX as u64),
                size(limits::OUTBOX_PAUSE_BYTES as u64),
                size(limits::OUTBOX_BYTES_MAX as u64)
            ),
        ),
        ("memory of a core for clients", size(of_clients.core_memory_bytes)),
        (
            "time of a core's turns",
            format!(
                "{}: pages; {}: sends, connections",
                seconds(limits::BUSY_TICK_MS - limits::TICK_MS),
                seconds(limits::OVERLOADED_TICK_MS - limits::TICK_MS)
            ),
        ),
        (
            "queries under way on a core",
            format!("{}: pages; {}: connections", grouped(queries as u64 / 2), grouped(queries as u64)),
        ),
        ("batches on their way to the disk", format!("{} a core", size(limits::UNRELEASED_BYTES_MAX as u64))),
        ("messages in a mailbox", grouped(limits::MAILBOX_MESSAGES_MAX as u64)),
        ("time for TLS and greeting of a node", seconds(limits::LINK_GREETING_MS)),
        ("connections of a core whose node has not greeted", grouped(limits::LINKS_GREETING_MAX as u64)),
        ("length of a frame between nodes", size(limits::MESH_FRAME_BYTES_MAX as u64)),
        (
            "bytes that wait for another node",
            format!(
                "{}, then messages wait in their authors' logs; {} with answers, then the link ends",
                size(limits::LINK_QUEUE_BYTES_MAX as u64),
                size(2 * limits::LINK_QUEUE_BYTES_MAX as u64)
            ),
        ),
        (
            "bytes that wait for another node if more about presence is to go there",
            format!("{}; what comes then is dropped", size(limits::LINK_PRESENCE_BYTES_MAX as u64)),
        ),
        ("silence of another node", seconds(limits::LINK_SILENCE_MS)),
        (
            "bytes of a client that wait for the node that serves it through this one",
            format!("{}, then it is not read from", size(limits::TUNNEL_WAITING_BYTES_MAX as u64)),
        ),
        (
            "requests to the admin page",
            format!(
                "{} at a time, of which the oldest is given up for one more; {}, {}",
                limits::ADMIN_CONNECTIONS_MAX,
                size(limits::ADMIN_REQUEST_BYTES_MAX as u64),
                seconds(limits::ADMIN_REQUEST_MS)
            ),
        ),
        (
            "endpoint of Web Push",
            format!(
                "{} bytes; https, a host of a list, a public address",
                grouped(push::limits::ENDPOINT_BYTES_MAX as u64)
            ),
        ),
        (
            "notices that wait for push providers",
            format!(
                "{}, for one host {}",
                grouped(push::limits::WAITING_MAX as u64),
                grouped(push::limits::HOST_WAITING_MAX as u64)
            ),
        ),
        (
            "requests to push providers under way",
            format!(
                "{}, to one host {}",
                grouped(push::limits::UNDER_WAY_MAX as u64),
                grouped(push::limits::HOST_UNDER_WAY_MAX as u64)
            ),
        ),
        (
            "notices handed to a push service of its own",
            format!(
                "{} each, within {} s; {} connections",
                size(push::limits::HANDED_BYTES_MAX as u64),
                push::limits::HANDED_READ_MAX.as_secs(),
                grouped(push::limits::HANDED_CONNECTIONS_MAX as u64)
            ),
        ),
    ];
    let told = table("docs/SECURITY.md", "| limit | default |");
    let expected: Vec<_> = expected.map(|(limit, value)| (limit.to_owned(), value)).into();
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected, "a row of the table of limits in docs/SECURITY.md");
    }
    assert_eq!(told.len(), expected.len(), "each row of the table of limits in docs/SECURITY.md is checked here");
}

#[test]
fn the_documents_say_how_much_the_tests_do() {
    assert_says(
        "docs/TESTING.md",
        &[
            format!("The standard run takes {SEEDS} seeds"),
            format!("lists {} deliberate faults", Fault::ALL.len()),
            format!("if one is not found within {SEEDS_TO_FIND} seeds"),
            format!("`tests/src/crowd/faults.rs` lists {} deliberate faults", crowd::faults::Fault::ALL.len()),
        ],
    );
    assert_says("README.md", &[format!("The crash test kills the server {KILLS} times")]);
}

#[test]
fn the_readme_gives_the_bounds_of_the_protocol() {
    assert_says(
        "README.md",
        &[
            format!("a text has at most {}", size(TEXT_BYTES_MAX as u64)),
            format!("a device has at most {SEND_WINDOW} sends unanswered"),
            format!("a page has at most {PAGE_ENTRIES_MAX} entries"),
        ],
    );
}
