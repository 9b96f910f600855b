//! Every bound of the server, with its unit and its reason, in one place. What both sides of the protocol must know is
//! in `proto_spec::limits`; what an operator may change is in `config`.

/// Those of a ring, and of TLS and WebSocket over it, which the load generator has too.
pub use rim::limits::{RECEIVE_BUFFER_BYTES, TLS_GREETING_BYTES_MAX, TLS_RECORD_BYTES_MAX, WEBSOCKET_HELD_BYTES_MAX};

use proto_spec::limits::{
    CLIENT_FRAME_BYTES_MAX, FETCHES_IN_FLIGHT_MAX, PRESENCE_USERS_MAX, SEND_WINDOW, SERVER_FRAME_BYTES_MAX,
};

/// Bytes waiting for one connection above which it is no longer pushed to but catches up from the log. Two pages: one
/// on its way, one behind it.
pub const OUTBOX_LIVE_BYTES_MAX: usize = 128 * 1024;

/// Bytes waiting below which a connection that catches up gets its next page: keeps the socket busy between pages.
pub const OUTBOX_REFILL_BYTES: usize = 32 * 1024;

/// Bytes waiting above which the server stops reading from the connection: it asks for more than it takes.
pub const OUTBOX_PAUSE_BYTES: usize = 192 * 1024;

/// Bytes waiting above which fetches are refused: what a live connection may have, and one page for each fetch that it may
/// have unanswered. Who reads the pages that it asked for never gets here.
pub const FETCH_OUTBOX_BYTES_MAX: usize = OUTBOX_LIVE_BYTES_MAX + FETCHES_IN_FLIGHT_MAX * SERVER_FRAME_BYTES_MAX;

/// Bytes waiting at which the connection is closed: everything that may still arrive after reading stopped has been
/// answered and nothing drained.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// What part of the idle timeout a client may leave all its answers unread while reading from it has stopped: half of it (SPEC 8.4).
/// Pings come at least as often, so each such connection has been looked at before.
pub const SLOW_CONSUMER_PARTS: u64 = 2;

/// Bytes that a connection may send ahead of its welcome before it is not read from: a window of short texts.
pub const EARLY_BYTES_MAX: usize = 64 * 1024;

/// Messages of one user that may be on the way to one destination; what follows waits in the log. A device has no more sends under
/// way than this, so one that writes as fast as it may is not slowed down.
pub const ON_THE_WAY_MAX: usize = 256;

/// Messages of one user that may be on the way to all destinations: 16 bytes each. Beyond it each destination has one at most.
pub const ON_THE_WAY_OF_ALL_MAX: usize = 1024;

/// Messages on the way for which a user keeps room when there are none: 64 bytes, and whoever writes one message after the other does
/// not allocate for each.
pub const ON_THE_WAY_KEPT: usize = 4;

/// Destinations of one user that may be behind, each with its own place in the log: 48 bytes each. When so many of the people
/// somebody writes to cannot be reached, the next ones wait for them.
pub const BEHIND_MAX: usize = 1024;

/// Authors whom one user's home may owe a report at a time: 80 bytes each. Somebody back from a journey owes one to everybody who
/// wrote; the log is looked at further as they are told.
pub const REPORTS_MAX: usize = 256;

/// Members to whom entries of groups are pushed in one turn, which takes less than a millisecond: so long all else waits.
pub const FANOUT_TURN_MAX: usize = 128;

/// Members of a group whose homes are told in one go that there is something to notify them of: well below a millisecond. The others are told
/// in the next tick.
pub const TOLD_TURN_MAX: usize = 256;

/// Entries of a group, from the last one back, among which one is looked for that a member is notified of, every few seconds while a group goes
/// on. Of who wants those alone that name them no more are looked through; for others as many again, up to what they have read.
pub const LOOK_BACK_ENTRIES: u64 = 100;

/// How often a core tells the home of a group what its members have of it, in milliseconds: however many messages come, it is one row for
/// each member in so long a time.
pub const GROUP_RECEIPTS_EVERY_MS: u64 = 2_000;

/// Bytes of entries of one group that a core keeps until they have been pushed to all members there. Who lacks what is dropped sees so by the numbers
/// of what follows.
pub const PUSHES_KEPT_BYTES_MAX: usize = 256 * 1024;

/// Users in one question whether they are members: what fits a frame between nodes many times over.
pub const FOLLOW_USERS_MAX: usize = 500;

/// After this a client's question about a group is given up, in milliseconds: its home is away, or the answer was lost with a link.
pub const GROUP_ASK_MS: u64 = 2_000;

/// Entries of a group's log that are read at once for those who are to be told how they stand to it: most are messages.
pub const OWED_SCAN_ENTRIES: usize = 500;

/// Entries among which the last message of a group is looked for, for a list of groups.
pub const GROUP_LAST_SCAN: u64 = 32;

/// Members that an operator may allow a group: its roll is in memory while somebody follows it, some ten megabytes for so many.
pub const GROUP_MEMBERS_MAX: u32 = 100_000;

/// Users that the roll of a group knows, for each member that it may have: who has left stays on it, with what is theirs to read. Somebody who
/// adds and removes people without end must not fill the memory of the group's home.
pub const ROLL_TIMES_MEMBERS: usize = 4;

/// Groups that an operator may allow a user: how they stand to each is in memory while they are, some 50 bytes each.
pub const USER_GROUPS_MAX: u32 = 10_000;

/// Groups of which a user's log knows, for each that they may be in, up to which others may add them: those that they have left stay there,
/// with what is theirs to read.
pub const ROWS_TIMES_GROUPS: usize = 4;

/// As [`ROWS_TIMES_GROUPS`], up to which a user creates and joins groups: twice as many, so that others who put them into groups and out again
/// do not keep them from that.
pub const OWN_ROWS_TIMES_GROUPS: usize = 2 * ROWS_TIMES_GROUPS;

/// Answers about one group that wait until its log is durable: each is a page at most, so 4 MiB. More are refused.
pub const GROUP_UNTOLD_MAX: usize = 64;

/// Times that somebody may come to a group and go again, where newcomers do not see what was before: each leaves a part of the log that is
/// theirs to read.
pub const SPANS_MAX: usize = 32;

/// Envelopes that may wait for one user, or one conversation, to be loaded: more are put off, and come again from their author's log.
pub const WAITING_ENVELOPES_MAX: usize = 256;

/// What an envelope takes while it waits, besides its text, in bytes.
pub const ENVELOPE_BYTES: usize = 96;

/// Users with duties left over from before a restart that one shard loads at a time. Their duties can wait; people who come back
/// after the restart are loaded meanwhile.
pub const UNFINISHED_LOADING_MAX: usize = 8;

/// Queries under way in a shard beyond which no user with unfinished duties is loaded: a sixteenth of what newcomers may use.
pub const UNFINISHED_QUERIES_MAX: usize = QUERIES_IN_FLIGHT_MAX / 16;

/// Users with unfinished duties that may wait for their home to load them, before more are read from the store.
pub const UNFINISHED_WAITING_MAX: usize = 4 * UNFINISHED_PAGE;

/// Users and conversations that a shard looks at in one turn because their changes have come into the store: a fraction of a
/// microsecond each, so that a segment with the changes of a million people holds up nobody's message.
pub const FORGOTTEN_TURN_MAX: usize = 256;

/// Devices of one user. A person has a handful; each costs a row and a load at login.
pub const DEVICES_MAX: usize = 32;

/// Longest time that may be set after which a device that was not seen makes room, in days: ten years, more than any device serves.
pub const UNSEEN_DAYS_MAX: u64 = 3_650;

/// Epochs of one log that are remembered. A log gets one with the first entry after a start: a device that has been away for more of
/// them than this reads its log anew: a year of weekly restarts, or an hour of a server that ends every minute.
pub const EPOCHS_MAX: usize = 64;

/// How often a page of the inbox is read anew because entries have moved to the store meanwhile, before the client is asked to wait. They
/// do so once in seconds in an engine, and with a database in the moment after an entry was made.
pub const INBOX_TRIES_MAX: u8 = 8;

/// How long it is believed that a recipient takes nothing from a user, in milliseconds, where people are told so: who is blocked no more
/// is refused no longer than this.
pub const UNWANTED_MS: u64 = 60_000;

/// Recipients of whom that is known of one user. Beyond them a message more is accepted, and dropped: each costs 16 bytes.
pub const UNWANTED_MAX: usize = 32;

/// How often the store is asked for what is laid under the tail, because entries have moved from the one to the other meanwhile, before it
/// counts as unreadable. They move with an ingestion, once in seconds.
pub const READ_TRIES_MAX: u8 = 8;

/// Least memory that an operator may give what is kept of one user for an app that opens, in bytes: a user takes half of it, and the
/// rest is a few conversations.
pub const CACHE_USER_BYTES_MIN: u64 = 2 * 1024;

/// Least memory that an operator may give what is kept of all users of a core, in bytes: some hundred users.
pub const CACHE_CORE_BYTES_MIN: u64 = 1024 * 1024;

/// Entries that one piece of a digest is of: so many cost a turn 0.2 ms of hashing. Each piece counts as a fetch.
pub const DIGEST_PIECE_ENTRIES: usize = 1_024;

/// Bytes that one piece of a digest is of: what so many entries of a chat have, and room for the longest.
pub const DIGEST_PIECE_BYTES: usize = 256 * 1024;

/// Queries to the store that one shard may have in flight before it refuses new logins and fetches.
pub const QUERIES_IN_FLIGHT_MAX: usize = 16 * 1024;

/// Bytes of batches that one shard may have on their way to the disk before it refuses sends: tens of milliseconds of
/// the disk's throughput.
pub const UNRELEASED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long acknowledgements are gathered before cursors are written and senders are told, in milliseconds. Bounds a
/// conversation to ten receipts a second; nobody sees a tick that comes a tenth of a second later.
pub const RECEIPT_DELAY_MS: u64 = 100;

/// Users whose cursors, reports and marks are looked at in one turn, a few microseconds each: what is gathered of a
/// thousand conversations must not hold up a message for milliseconds.
pub const FLUSHES_TURN_MAX: usize = 32;

/// While a core holds too much for clients that do not read: time between two looks for those who have taken nothing, in
/// milliseconds. A phone in a tunnel takes something every few seconds, or nothing for a minute.
pub const STALLED_LOOK_MS: u64 = 10_000;

/// Smallest memory that an operator may give a core for what clients have not read yet: a page for each of some hundred.
pub const MEMORY_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Time from tick to tick above which a core counts as busy, in milliseconds: people notice a tenth of a second.
pub const BUSY_TICK_MS: u64 = TICK_MS + 100;

/// Time from tick to tick above which a core counts as overloaded, in milliseconds: half of what makes clients look whether the
/// server is still there.
pub const OVERLOADED_TICK_MS: u64 = TICK_MS + 1_000;

/// Ticks in a row that must be late, or on time, for a core's load to count as changed: one long turn is no load.
pub const LOAD_TICKS: u32 = 4;

/// Seconds of a rate that may be used at once after a pause: somebody who comes back with what was written off line, or looks
/// through an old conversation, is no flood.
pub const RATE_BURST_S: u64 = 10;

/// Time between two looks for users who have gone and whose rates are as good as new, in milliseconds: a tenth of the time that they
/// take for it.
pub const SPENT_SWEEP_MS: u64 = 100 * RATE_BURST_S;

/// Highest rate that an operator may choose, a second: one in each microsecond. Who wants more sets no limit.
pub const RATE_PER_S_MAX: u32 = 1_000_000;

/// Whose rates one table remembers, some 20 bytes each. Strangers are refused while it is full of those who did something in the
/// last [`RATE_BURST_S`] seconds.
pub const RATED_MAX: usize = 256 * 1024;

/// Those written to last whom a user may write to again without opening a conversation: 8 bytes each, for users who write to
/// so many.
pub const RECENT_PEERS_MAX: usize = 64;

/// Times the connections that an address may have, beyond which more are closed without a word: a bye and the wait for it to be
/// read hold a descriptor for seconds.
pub const ADDRESS_ABUSE_FACTOR: u32 = 2;

/// How long a client waits at most whose address has too many handshakes, and at least if it has too many connections, in
/// milliseconds: handshakes are soon over, but connections of others behind it must end first.
pub const RETRY_ADDRESS_MS: u64 = 10_000;

/// How long a handshake is taken to hold one of its address's places before any has been seen, in milliseconds: the way to a
/// phone and back, two or three times.
pub const ADDRESS_HANDSHAKE_GUESS_MS: u64 = 250;

/// The least that is reckoned for it, in milliseconds: whoever is told to come back must not do so at once.
pub const ADDRESS_HANDSHAKE_MS_MIN: u64 = 50;

/// How many handshakes the mean of that time looks back on: a tenth of a crowd.
pub const ADDRESS_HANDSHAKES_MEAN: u64 = 32;

/// Time between two looks for addresses that can be forgotten, in milliseconds. Only those of refused hellos are left over.
pub const ORIGINS_SWEEP_MS: u64 = 10_000;

/// Age below which no handshake is given up for a newcomer, in milliseconds: a client whose TLS has been begun answers within a second,
/// and to give it up would waste what it cost.
pub const EVICTION_AGE_MS: u64 = 1_000;

/// Handshakes at the head of the line that are looked at for one to give up when there are too many: those whose bytes wait to be
/// judged are not given up, and many of them mean that the core is busy, not held up.
pub const EVICTION_LOOKS_MAX: usize = 16;

/// How long a client waits that was closed for sending too many frames, in milliseconds: until its rate is full again.
pub const RETRY_FLOOD_MS: u64 = 1_000 * RATE_BURST_S;

/// How long a refused client waits when the server is busy, in milliseconds.
pub const RETRY_BUSY_MS: u64 = 200;

/// How long a refused client waits when the disk is full or failing, in milliseconds: somebody must act first.
pub const RETRY_STORAGE_MS: u64 = 5_000;

/// How long a client waits before it reconnects to a server that is stopping, in milliseconds.
pub const RETRY_STOPPING_MS: u64 = 1_000;

// A page must fit the outbox twice, and a full window of acknowledgements must not pause a connection by itself.
const _: () = assert!(2 * SERVER_FRAME_BYTES_MAX <= OUTBOX_LIVE_BYTES_MAX);
const _: () = assert!(OUTBOX_REFILL_BYTES < OUTBOX_LIVE_BYTES_MAX);
const _: () = assert!(OUTBOX_LIVE_BYTES_MAX < OUTBOX_PAUSE_BYTES);
const _: () = assert!(OUTBOX_LIVE_BYTES_MAX + SEND_WINDOW as usize * 32 <= OUTBOX_PAUSE_BYTES);
const _: () = assert!(FETCH_OUTBOX_BYTES_MAX + (FETCHES_IN_FLIGHT_MAX + 1) * SERVER_FRAME_BYTES_MAX < OUTBOX_BYTES_MAX);

/// Longest time between two ticks of a shard, in milliseconds: half the receipt delay.
pub const TICK_MS: u64 = 50;

/// How long a shard waits before it asks the store again for what could not be read, in milliseconds. The reader threads
/// have tried several times by then; a row that stays unreadable must not keep them busy.
pub const ASK_AGAIN_MS: u64 = 1_000;

/// Shortest time that a silent client has to answer a ping before it is closed, in milliseconds: there and back over a
/// network of phones.
pub const PONG_MS_MIN: u64 = 1_000;

/// Shortest time of silence after which an operator may have connections pinged, in milliseconds: twice the shortest time to
/// answer.
pub const PING_AFTER_MS_MIN: u64 = 2_000;

/// Shortest secret for HS256: as long as the hash (RFC 7518, 3.2). A shorter one can be guessed off line from any token.
pub const HS256_SECRET_BYTES_MIN: usize = 32;

/// Keys that tokens are checked with, all files together: two for a rotation, for each of a few issuers. A token without a key
/// id may cost a check with each, some twenty microseconds.
pub const KEYS_MAX: usize = 8;

/// Tokens that are known by their hash to have a good signature: of 30,000 who come back, 27,000 are found. Some 32 MiB when it is full, as measured.
pub const TOKENS_KNOWN_MAX: u32 = 1 << 17;

/// Events that wait for the thread that writes the audit log: a crowd of a few thousand logins. With them waiting, cores let nobody
/// in until there is room.
pub const AUDIT_QUEUE_MAX: usize = 4 * 1024;

/// Lines of the audit log that are kept while its disk takes none, some 200 bytes each. Of more, the newest.
pub const AUDIT_KEPT_MAX: usize = 16 * 1024;

/// Refused hellos that are listed in the audit log in one second, of strangers and of others each; beyond that they are counted. A
/// flood so costs the disk 4 KB a second.
pub const AUDIT_REFUSALS_MAX: u64 = 10;

/// Lines of the audit log in one write.
pub const AUDIT_WRITE_LINES_MAX: usize = 64;

/// Wait before the audit log's disk is tried again, in milliseconds, and until the refusals of a second are counted up.
pub const AUDIT_RETRY_MS: u64 = 1_000;

/// Revocations in force: each takes some 50 bytes of memory and of the file, and only lost devices and accounts need one.
pub const REVOCATIONS_MAX: usize = 100_000;

/// Size at which the file of revocations is written anew with what is in force: four times what that may take.
pub const REVOCATIONS_FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

// `revoke`, two ids and a moment of twenty digits each, a checksum, what stands between.
const _: () = assert!(4 * 80 * REVOCATIONS_MAX as u64 <= REVOCATIONS_FILE_BYTES_MAX);

/// Difference up to which the wall clock of the machine is followed at once, in milliseconds, and by which times in a log may stand
/// still: time services correct by less, and people do not notice it in a conversation.
pub const CLOCK_LEAP_MS: u64 = 10_000;

/// How long a wall clock that has leapt must stay where it is until it is trusted, in milliseconds: one that is wrong for some seconds
/// dates nothing, and one that is set right is followed before anybody asks why it is not.
pub const CLOCK_TRUST_MS: u64 = 60_000;

/// Time between the readings of two clocks that counts as none, in microseconds: a hundred times what it takes, a tenth of the
/// millisecond that times are given in.
pub const CLOCK_PAUSE_US: u64 = 100;

/// How often both clocks are read when the thread is held up between them. Each time it would have to be unlucky again.
pub const CLOCK_READINGS_MAX: usize = 8;

/// Longest key, secret, `FORMAT` or configuration file that is read. A wrong path must not fill the memory.
pub const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Wait before a commit into the database that failed is tried again, in milliseconds; doubled each time, and half of it is
/// left to chance.
pub const LANE_RETRY_MS: u64 = 10;

/// Longest such wait, in milliseconds: a database that is back is noticed within a second.
pub const LANE_RETRY_MAX_MS: u64 = 1_000;

/// Age at which a segment of the journal is sealed, in milliseconds: a quiet server restarts at once, and small runs cost more a
/// message.
pub const SEAL_AFTER_MS: u64 = 60_000;

/// The same where the segment's way into the database makes `committed` of `local`, in milliseconds.
pub const SEAL_AFTER_COMMITTED_MS: u64 = 500;

/// Of the failures of a commit in a row, one of so many is told to the operator: the first, and then about one a minute, or one in
/// eight if each attempt has to time out.
pub const LANE_FAILURES_TOLD: u32 = 80;

/// How often a server that has nothing to commit looks whether the database is still its own, in milliseconds.
pub const FENCE_CHECK_MS: u64 = 1_000;

/// How long a shard keeps what it knows of a batch that is in the database, in milliseconds: what was said last is asked for
/// most, by receipts, by pages and by the next message of the conversation. Not with the embedded engine, whose runs come late.
pub const STORED_KEPT_MS: u64 = 10_000;

/// Bytes of such batches that a lane keeps at most; in memory they are a few times that.
pub const STORED_KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most cores of one node. Each may have [`UNRELEASED_BYTES_MAX`] on its way to one journal, which is one disk; a larger
/// machine keeps the rest for the store and the kernel.
pub const CORES_MAX: u16 = 128;

/// Connections to the admin endpoint that are open at a time; for one more the oldest is given up. Far more than the scrapers, health
/// checks and people with `curl` that there are, so that it hits only what hangs; each holds one page at most.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Longest request that the admin endpoint reads, head included. Everything in it but the first line is passed over.
pub const ADMIN_REQUEST_BYTES_MAX: usize = 4 * 1024;

/// Time without a tick above which a core counts as stuck, and the server as not ready, in milliseconds. Five times what makes a core
/// overloaded: one that sheds keeps its clients, who would only overload another server; one that is silent for so long is left by
/// them anyway.
pub const CORE_STUCK_MS: u64 = 5_000;

const _: () = assert!(4 * OVERLOADED_TICK_MS < CORE_STUCK_MS);

/// Time that one admin request may take from connect to close, in milliseconds. It comes from the same data centre.
pub const ADMIN_REQUEST_MS: u64 = 5_000;

/// How long a command waits for the running server to carry it out, in milliseconds: it syncs a file, on a disk that is busy.
pub const OPERATOR_ANSWER_MS: u64 = 30_000;

/// How long the operator's socket waits for a core that looks at a user's devices, in milliseconds: it reads the store, and syncs the
/// journal. One request is served after the other, so no longer than a person waits.
pub const OPERATOR_DEVICES_MS: u64 = 10_000;

const _: () = assert!(OPERATOR_DEVICES_MS < OPERATOR_ANSWER_MS);

/// Smallest segment of the journal that an operator may choose: the batch of one turn must fit in half of it.
pub const JOURNAL_SEGMENT_BYTES_MIN: u64 = 1024 * 1024;

/// Largest segment of the journal, which is the journal's own bound: a segment is read as a whole.
pub const JOURNAL_SEGMENT_BYTES_MAX: u64 = storage::journal::SEGMENT_BYTES_MAX;

/// Segments that the journal must have room for, which is the journal's own bound.
pub const JOURNAL_SEGMENTS_MIN: u64 = storage::journal::SEGMENTS_MIN;

/// Bytes of the access list of a secret: a hundred entries. A list that is longer is none that anybody has looked through.
pub const ACCESS_LIST_BYTES_MAX: usize = 1024;

/// Messages that wait for one core. A core that finds another's mailbox full stops reading from its clients.
pub const MAILBOX_MESSAGES_MAX: usize = 8 * 1024;

/// Messages taken from the mailbox in one turn: what comes in the meantime waits for sends to leave first.
pub const MAILBOX_TURN_MAX: usize = 2 * 1024;

/// Longest header of the PROXY protocol, version 1, in bytes, its line break included: the protocol allows no more.
pub const PROXY_LINE_BYTES_MAX: usize = 107;

/// Longest header of version 2, in bytes, TLVs included: the least that a segment of TCP carries on any path, below which balancers
/// keep it so that it comes whole. The longest addresses take 232 of them.
pub const PROXY_HEADER_BYTES_MAX: usize = 536;

/// Longest head of the request that a WebSocket connection begins with, in bytes: what web servers take, since a browser sends all
/// cookies of the page's host along. Held until it is whole.
pub const UPGRADE_BYTES_MAX: usize = 8 * 1024;

/// Headers of such a request: browsers and the proxies on the way send some twenty.
pub const UPGRADE_HEADERS_MAX: usize = 64;

/// Connections of a core whose requests of HTTP are answered by the pages' thread: a browser has some six. Of each up to 100 KiB are in memory,
/// that wait ([`TUNNEL_WAITING_BYTES_MAX`]) or are on their way ([`PAGE_WAITING_BYTES_MAX`]).
pub const PAGE_CONNECTIONS_MAX: usize = 1_024;

/// Bytes of a connection on their way to the pages' thread, and as many on their way back.
pub const PAGE_WAITING_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are read of such a connection, or of a session of long polling, at a time: on the stack, so an idle one has none.
pub const PAGE_READ_BYTES: usize = 4 * 1024;

/// How long the head of a request may take, and how long a connection is kept that makes none, in milliseconds: browsers ask for all parts of
/// a page at once, and who polls asks again at once.
pub const PAGE_HEAD_MS: u64 = 30_000;

/// How long the body of a request may take, in milliseconds: 64 KiB over a very slow link.
pub const PAGE_BODY_MS: u64 = 30_000;

/// Sessions of long polling of a node. Each takes a descriptor beside that of its connection; they are for the few whose network breaks
/// everything else.
pub const POLLS_MAX: usize = 1_024;

/// Sessions of long polling that a core has not taken in yet: it does so with its next turn.
pub const POLLS_COMING_MAX: usize = 64;

/// Longest body of a request of long polling, in bytes: the largest frame three times over, so that nobody has to cut one.
pub const POLL_BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the server's stream that wait for a session's client to ask for them. Behind that they wait with the core, as for any client that
/// reads slowly.
pub const POLL_WAITING_BYTES_MAX: usize = 64 * 1024;

/// How long a request waits for something to be said, in milliseconds: proxies cut what says nothing for a minute, some for 30 seconds.
pub const POLL_ASK_MS: u64 = 25_000;

/// How long the core may take to read what a request says, in milliseconds. Then the client is told how much that was.
pub const POLL_SAY_MS: u64 = 10_000;

/// After this without a request a session has ended, in milliseconds: a request that waits, and time to make the next over a bad network.
pub const POLL_GAP_MS: u64 = 60_000;

/// Pieces before the hello that carry nothing of it, in pieces of a connection: pings of WebSocket, and frames or beginnings of frames with
/// nothing in them. Each is a turn of the queue of the hellos; a browser sends none, and a library a ping or two.
pub const GREETING_IDLE_PIECES_MAX: usize = 64;

/// Connections of one core whose hello has not come yet, or waits to be judged. More are refused.
pub const HANDSHAKES_MAX: usize = 4 * 1024;

/// Hellos, pieces of them and of TLS handshakes, and tokens of live connections that a core judges in one turn, each some twenty
/// microseconds for its signature or a hundred for the exchange of keys: a crowd that comes back must not hold up the messages of
/// the others.
pub const HELLOS_TURN_MAX: usize = 8;

/// New tokens of one connection, a second: one in an hour is ordinary, and each costs a signature and a line of the audit log.
pub const REFRESHES_PER_S: u32 = 1;

/// Tokens of live connections that wait to be judged on one core, of 4 KiB at most: 4 MiB. The others are told to come back soon.
pub const REFRESHES_MAX: usize = 1024;

/// Connections that the peer has ended which a core sees off in one turn, a few microseconds each, for the same reason.
pub const DEPARTURES_TURN_MAX: usize = 8;

/// Connections that a core takes up in one turn: it has so many accepts under way, and begins them again for the next one. Two
/// for each hello that it judges, since some will never say one.
pub const ACCEPTS_TURN_MAX: usize = 2 * HELLOS_TURN_MAX;

/// Shortest time between two lines of a core about failures of one kind, in milliseconds. Accepts are tried again with every tick,
/// and a crowd that comes back while a database is away fails by the thousands.
pub const WARN_MS: u64 = 1_000;

/// How long a connection that is being closed may take to read what is left for it, in milliseconds.
pub const CLOSE_FLUSH_MS: u64 = 3_000;

/// How long the peer may take to close its side after the last byte, in milliseconds. Closing a socket that has unread
/// bytes resets the connection, and the peer may lose the bye.
pub const CLOSE_LINGER_MS: u64 = 500;

/// Send buffers that a core keeps for reuse.
pub const OUTPUT_BUFFERS_KEPT: usize = 1024;

/// Capacity above which a send buffer is not kept: pages and catch-ups are rare.
pub const OUTPUT_BUFFER_KEPT_BYTES: usize = 16 * 1024;

/// Descriptors that a core closes in one turn, each some ten microseconds of the kernel's, for the same reason.
pub const CLOSES_TURN_MIN: usize = 4;

/// Of more that wait, one in so many is closed in a turn: until it is closed a descriptor counts as a connection, and those who
/// come back must find room, however many have gone.
pub const CLOSES_TURN_SHARE: usize = 1024;

/// How long records that nobody waits for may wait for one that somebody does, in milliseconds: nobody sees by so much later that a message
/// has come to its recipient, and where messages come more often than that no sync is made for receipts alone.
pub const PATIENCE_MS: u64 = 5;

/// Most things that complete at a calm core in [`CALM_MS`]: those of 100 messages, each of which has a receive for it and one for the
/// acknowledgement, a send to its author, one to its recipient and one of the receipt. At twice as many there are several in each group anyway.
pub const CALM_COMPLETIONS_MAX: usize = 500;

/// For how long they are counted, in milliseconds: some groups of a disk that is not fast.
pub const CALM_MS: u64 = 10;

/// Longest time between the beginnings of two groups that can be set, in microseconds: the time of a disk that turns.
pub const JOURNAL_GAP_US_MAX: u64 = 10_000;

/// For how long a calm core waits for its journal alone at most, in microseconds: longer than an SSD takes, and what nobody notices who asks for
/// something else meanwhile.
pub const JOURNAL_WAIT_US: u64 = 500;

/// Turns of a busy core between two looks at its runtime's other tasks.
pub const TURNS_BETWEEN_YIELDS: u32 = 32;

/// How long a core sleeps while another core's mailbox is full, in milliseconds: draining it takes less.
pub const STALLED_SLEEP_MS: u64 = 1;

/// Times that a query is tried.
pub const QUERY_ATTEMPTS: u32 = 5;

/// Wait between two attempts of a query, in milliseconds. With all of them a client waits a third of a second for a bad answer.
pub const QUERY_RETRY_MS: u64 = 75;

/// Queries that a reader thread has to try again at a time; beyond it they fail at once, since the store is away then.
pub const QUERIES_AGAIN_MAX: usize = 64;

/// How long a stop waits for threads that may wait for the store, in milliseconds: an ingestion under way takes less, a purge may take more.
/// What they have not done is done by the next start.
pub const HELPERS_STOP_MS: u64 = 5_000;

/// How long a journal group that the disk had no room for waits before it is written again, in milliseconds.
pub const COMMIT_RETRY_MS: u64 = 500;

/// How long stopping may take until connections are cut, in milliseconds. Supervisors kill after 10 seconds or more.
pub const DRAIN_MS: u64 = 8_000;

/// How long a stop waits for what is on its way to push providers, in milliseconds: they answer within a second when they are well. What has
/// not ended by then is told once more after the next start.
pub const NOTICES_STOP_MS: u64 = 5_000;

/// How long stopping may take until it is given up, in milliseconds. What was acknowledged is in the journal.
pub const STOP_MS: u64 = DRAIN_MS + 1_000;

/// The longest that acknowledgements can be made to wait for a database that is slow, in milliseconds: a stop that begins when it
/// hangs must still be able to say `local`, also to who reads slowly.
pub const SLOW_AFTER_MAX_MS: u64 = 4_000;

/// The longest time that a transaction can be given, in milliseconds: FoundationDB lets none be older, what failed is tried again
/// anyway, and a stop must not have to wait for one that hangs.
pub const TRANSACTION_MAX_MS: u64 = 5_000;

const _: () = assert!(CLOSE_FLUSH_MS + CLOSE_LINGER_MS < DRAIN_MS);
const _: () = assert!(SLOW_AFTER_MAX_MS + TICK_MS + CLOSE_FLUSH_MS + CLOSE_LINGER_MS < DRAIN_MS);
const _: () = assert!(TRANSACTION_MAX_MS + TICK_MS < DRAIN_MS);
const _: () = assert!(NOTICES_STOP_MS + TICK_MS < DRAIN_MS);

/// Bytes of records, as [`storage::Batch::weight`] counts them, after which a turn begins another batch. With what one more step adds it stays
/// far below the journal's largest record, and below what a database allows a transaction.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Bytes of frames after which a turn's output is carried out before the turn goes on: many clients that ask for pages at
/// once must not make one core hold all of them twice.
pub const OUTPUT_TURN_BYTES_MAX: usize = 1024 * 1024;

/// Queries that wait for the reader threads. A core whose queries do not fit stops reading from its clients, until the threads have
/// caught up.
pub const QUERY_QUEUE_MAX: usize = 4 * 1024;

/// Queries of a core that wait for one of the reads that it has under way in a database, until it stops reading from its clients. While
/// a database hangs none of them gets on: pages, logins and sends that need more are refused long before that, so that those who need
/// nothing go on.
pub const QUERIES_WAITING_MAX: usize = 4 * QUERIES_IN_FLIGHT_MAX;

/// Threads that read the store. Reads that hit its cache take microseconds; a few threads keep a disk busy.
pub const READER_THREADS: usize = 2;

/// How long no segment has to come before freed files of the journal are wiped and the store may be purged, in milliseconds, where the
/// last one was sealed by its age: nobody writes much.
pub const TIDY_AFTER_MS: u64 = 5_000;

/// The same where the last one was full: under load a file is written over by its next use sooner than that.
pub const TIDY_AFTER_FULL_MS: u64 = 60_000;

/// Longest time between purges that can be set, in seconds: a year.
pub const PURGE_AFTER_S_MAX: u64 = 365 * 24 * 60 * 60;

/// Largest store that can be set to be purged, in bytes: 16 GiB, some minutes in which nothing else is brought into it, while the
/// journal has to hold what comes.
pub const PURGE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// How long until it is looked again whether the store's engine has merged tables that can go, in milliseconds: they are a multiple of what
/// was brought in, and the disk is to be there for the history.
pub const TRIM_AGAIN_MS: u64 = 1_000;

/// How often memory is given back to the kernel while no segment is full, in milliseconds. It holds up whoever allocates for as long as it
/// takes, some milliseconds once what a segment leaves is gone: under load, where the next one needs that memory again, it is not done.
pub const GIVE_BACK_MS: u64 = 5_000;

// The clock of that thread goes in steps of the latter.
const _: () = assert!(GIVE_BACK_MS.is_multiple_of(TRIM_AGAIN_MS));

/// How long until it is looked again whether there is something to tidy up, in milliseconds.
pub const TIDY_AGAIN_MS: u64 = 10_000;

/// Wait before a run that the store refused is tried again, in milliseconds; doubled up to the maximum.
pub const INGEST_RETRY_MS: u64 = 100;

/// Longest wait before a run is tried again, in milliseconds.
pub const INGEST_RETRY_MAX_MS: u64 = 5_000;

/// Open files of a process beside those of its cores and of its engine: two dozen after a start, some segments of the journal, and
/// whoever asks for metrics.
pub const PROCESS_FILES: u32 = 64;

/// Open files of a core: two rings, three eventfds, two sets to wait on, and a copy of the runtime's socket for signals.
pub const CORE_FILES: u32 = 8;

/// Tables that the engine has open while it works on them, some dozens in a compaction, with those that it writes.
pub const ENGINE_WORK_FILES: u32 = 256;

/// Fewest tables that the engine keeps open for reads: those of a history of 4 GB.
pub const ENGINE_TABLES_MIN: u32 = 64;

/// Most tables that the engine keeps open for reads: its own default. Others are opened when they are read.
pub const ENGINE_TABLES_MAX: u32 = 900;

/// Fewest connections that a core must have room for, if so many are configured. With fewer, one office keeps everybody else out, and
/// nobody configures that: a limit has been forgotten. From there to what is configured a server serves, and warns.
pub const CORE_CONNECTIONS_MIN: u32 = 256;

/// Slots of each ring beyond the configured connections: those that are being refused or closed.
pub const DESCRIPTORS_SPARE: u32 = 256;

/// Connections that may wait to be accepted: a crowd that comes back after a restart. The kernel caps it at somaxconn.
pub const LISTEN_BACKLOG: i32 = 4096;

/// How long a start waits for an address that is in use, in milliseconds: far longer than the kernel needs to clear up
/// after a server that was killed.
pub const LISTEN_WAIT_MAX_MS: u64 = 3_000;

/// Wait between two attempts to get the address, in milliseconds.
pub const LISTEN_RETRY_MS: u64 = 10;

/// Least time between two log lines about how far a recovery is, in milliseconds: often enough to be seen to get on.
pub const RECOVERY_LOG_MS: u64 = 2_000;

/// Users with unfinished duties that are read from the store at a time.
pub const UNFINISHED_PAGE: usize = 1000;

/// Bytes of log lines that wait for standard error; more are lost and counted. Some 3000 lines: what a burst of `debug` says while
/// whoever reads them is not scheduled. The writing thread has as many again.
pub const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Wait before standard error is tried again when it is full and does not block, and before a note of lost lines is, in milliseconds.
pub const LOG_RETRY_MS: u64 = 250;

/// How long the end of the process, in order or by a panic, waits for the last log lines to be written, in milliseconds: longer than a
/// disk that is busy, or a machine on which the thread that writes hardly gets its turn; shorter than anybody's patience with a stop.
pub const LOG_LAST_WORDS_MS: u64 = 2_000;

// ---- presence

/// What one message about presence to another core says at most, each user of a question counted: a turn there takes some hundred
/// microseconds for it.
pub const PRESENCE_MAIL_ITEMS_MAX: usize = 4_096;

/// What one frame about presence to another node says at most, counted in the same way: more goes in several.
pub const PRESENCE_FRAME_ITEMS_MAX: usize = 1_024;

/// Bytes of one of these things, at most: a change with all that it can have, in memory, which is more than in a frame.
pub const PRESENCE_ITEM_BYTES_MAX: usize = 56;

const _: () = assert!(PRESENCE_FRAME_ITEMS_MAX * PRESENCE_ITEM_BYTES_MAX + 64 <= MESH_FRAME_BYTES_MAX);
const _: () = assert!(PRESENCE_USERS_MAX < PRESENCE_FRAME_ITEMS_MAX);

/// Bytes that may wait for another node if more about presence is to go there: it is dropped above that, and repaired when a watch is
/// renewed. A sixteenth of what messages may take, which they get beside it: so no message is put off for its sake.
pub const LINK_PRESENCE_BYTES_MAX: usize = LINK_QUEUE_BYTES_MAX / 16;

/// Messages about presence that wait for a core. What does not fit is dropped, and repaired when a watch is renewed: with one a turn and
/// core, more would be older than what follows them.
pub const PRESENCE_MAILS_MAX: usize = 256;

/// Of these, as many may wait if one more is to be put that comes from another node or goes to one: a half, so that a node which asks or says
/// very much drops no more than what nodes say to each other.
pub const PRESENCE_MAILS_NODES_MAX: usize = PRESENCE_MAILS_MAX / 2;

/// Messages about presence that a core takes in a turn, after all others.
pub const PRESENCE_MAILS_TURN_MAX: usize = 4;

/// Connections that are told of presence in a turn, some twenty microseconds each: messages wait for the end of a turn. The others are told
/// in the next turns, which follow at once.
pub const PRESENCE_TOLD_TURN_MAX: usize = 16;

/// Bytes that may wait for a client that is told of presence: if more do, it is told later, and then less.
pub const PRESENCE_WAITING_BYTES_MAX: usize = 4 * 1_024;

/// Bytes that may wait for a client that is told who types: if more do, it is not told.
pub const TYPING_WAITING_BYTES_MAX: usize = PRESENCE_WAITING_BYTES_MAX;

/// Questions of one connection about presence that may be unanswered.
pub const LOOKS_MAX: u8 = 4;

/// How long a question about presence waits for the homes of others, in milliseconds. Its message may have been dropped.
pub const LOOK_MS: u64 = 2_000;

/// Shortest time after an answer in which a device's watch asks the homes again what it may see, in milliseconds. Homes have it asked by
/// changes, and by answers that changes have overtaken: one that does so all the time, of a node that somebody has taken over, gets a
/// question a second for each watch. Not longer, since who writes to two people in a row waits for it to see the second one.
pub const PRESENCE_ASK_AGAIN_MS: u64 = 1_000;

/// How much longer a home believes that a core watches than a watch lasts, in milliseconds: renewals may be late.
pub const WATCH_LATE_MS: u64 = 5_000;

/// Members of a group up to which they are told that one of them types: in a larger one it would be a frame to hundreds for each who begins.
pub const TYPING_MEMBERS_MAX: usize = 100;

/// That somebody types in the conversation in which they typed last is passed on once in this time, in milliseconds: somewhat less than
/// the three seconds after which clients say so again, which may come early.
pub const TYPING_EVERY_MS: u64 = 2_500;

/// That the same person types in another one is passed on after this time, in milliseconds.
pub const TYPING_OTHER_MS: u64 = 500;

/// How long it is shown that somebody types, in milliseconds: longer than they take to say so again.
pub const TYPING_SHOWN_MS: u64 = 5_000;

/// Shortest time in which a device is told of changes once, in milliseconds: two of the ticks in which it is looked for.
pub const PRESENCE_TICK_MS_MIN: u64 = 2 * TICK_MS;

/// Shortest and longest lifetime of a watch, in seconds: clients renew at half of it, and what a lost message made old stays so for
/// that long.
pub const WATCH_LIFETIME_S_MIN: u64 = 10;

/// See [`WATCH_LIFETIME_S_MIN`].
pub const WATCH_LIFETIME_S_MAX: u64 = 3_600;

/// Users who are announced in a tick, some microseconds each: when a crowd is gone for good the others come with the next ticks.
pub const ANNOUNCED_TICK_MAX: usize = 1_024;

/// Users of whom it is looked in a tick whether they are still watched.
pub const PEOPLE_SWEPT_TICK_MAX: usize = 1_024;

/// How long a message may take from the moment in which its sender was told that the recipient is not there, in milliseconds, if it is to
/// set that right when they have come back meanwhile.
pub const ON_THE_WAY_MS: u64 = 3_000;

/// Users of a question about presence that cost one of the fetches that a user may make: each is a few rows, and a page has 500.
pub const USERS_A_FETCH: usize = 125;

/// How long a lease of a node may last, in milliseconds: below the lower one a database that is merely busy would have nodes taken for dead;
/// above the upper one users wait longer than for an operator.
pub const LEASE_MS: std::ops::RangeInclusive<u64> = 600..=60_000;

/// Users of a core in questions of other nodes for which the store is being asked: eight of the largest ones, so that a node that asks very
/// much does not keep this one's clients waiting behind its reads.
pub const PRESENCE_FOREIGN_USERS_MAX: usize = 4_000;

/// And in those of one node: a half, so that it leaves some to the others.
pub const PRESENCE_NODE_USERS_MAX: usize = PRESENCE_FOREIGN_USERS_MAX / 2;

const _: () = assert!(PRESENCE_NODE_USERS_MAX >= PRESENCE_USERS_MAX);

/// How often a core remembers that a core of one other node watches one of its users. 50,000 connections that each watch twenty users of this
/// node, on four cores there, need no more of a core of four here. Where all are of different users it is some 60 MB; more are told that
/// there are too many watchers.
pub const PRESENCE_NODE_WATCHED_MAX: usize = 250_000;

/// How long a client that was sent to a node waits there for the node to hear that it has the client's user, in milliseconds: that takes some
/// hundredths of it.
pub const STRAY_MS: u64 = 1_000;

/// Parts of what a node may send away in a second that go with one transaction: slots are given in groups of as many users.
pub const GIVES_PER_S: u32 = 5;

/// How often a node renews its lease while that lasts: one that fails is followed by others.
pub const BEATS_A_LEASE: u64 = 6;

/// How often a roll is read and changed in a row before its node looks after other things: a node that takes over all slots of many others
/// needs a few.
pub const ROLL_CHANGES_MAX: usize = 32;

/// How long a node that starts waits for each answer of the database, in milliseconds.
pub const ROLL_START_MS: u64 = 10_000;

/// How often an operator's wish is tried, if the roll changes meanwhile: a node that is to leave renews its lease all the while, and on a slow
/// database most tries come between.
pub const WISH_TRIES_MAX: usize = 32;

/// How long an operator waits for that, in milliseconds: each try is two calls of the database.
pub const WISH_MS: u64 = 10_000;

/// How long a node that ends waits for what it owns to be given away, in milliseconds: a few transactions.
pub const LEAVE_MS: u64 = 3_000;

/// Errands of operators that wait for the steward of a node.
pub const ERRANDS_MAX: usize = 16;

/// Beats of a lease in which a node has not read the roll, after which it judges nobody by what it had read before.
pub const BEATS_UNREAD_MAX: u64 = 3;

/// Slots that change their owner in one transaction: each is two rows written and two read.
pub const SLOTS_CHANGE_MAX: usize = 64;

/// When a client whose user has another owner now connects there, in milliseconds, at the earliest: that node knows it by then.
pub const MOVED_AFTER_MS: u64 = 200;

/// When a client that was sent to another node and can not go there may come again, in milliseconds: the nodes agree by then, or an
/// operator has to do something.
pub const RETRY_ELSEWHERE_MS: u64 = 5_000;

/// Destinations that rested and are tried again in a tick, each perhaps with a read of the log: when a node can be reached again, all that
/// is owed there waits.
pub const WOKEN_TICK_MAX: usize = 1_024;

/// The body of a frame between nodes, in bytes: the longest content and what is said about it, with room for later versions.
pub const MESH_FRAME_BYTES_MAX: usize = 64 * 1_024;

// All that a client can have said when its hello is judged goes in one: the hello, and a record of TLS behind
// it.
const _: () = assert!(CLIENT_FRAME_BYTES_MAX + 16 * 1_024 + 1_024 <= MESH_FRAME_BYTES_MAX);

/// Bytes that may wait for another node before messages for it are put off, which wait in their authors' logs then: what a link of
/// 1 Gbit/s carries in 30 ms. Answers may take as much again.
pub const LINK_QUEUE_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// How long the greeting of another node may take, in milliseconds, TLS included.
pub const LINK_GREETING_MS: u64 = 5_000;

/// A link is pinged once in this time, in milliseconds.
pub const LINK_PING_MS: u64 = 1_000;

/// Silence after which a link is given up, in milliseconds: three pings have had time to be answered, and a core that is busy with
/// recovering its store too.
pub const LINK_SILENCE_MS: u64 = 5_000;

/// How long after a failure a node is dialled again, in milliseconds: at first, and at most, each time twice as long.
pub const DIAL_AGAIN_MS: [u64; 2] = [100, 2_000];

/// What a core hears of its links in a turn: each may be a read of [`LINK_READ_BYTES`].
pub const LINK_EVENTS_TURN_MAX: usize = 16;

/// Bytes that are read of a link at a time: some hundred messages. More wait in the kernel.
pub const LINK_READ_BYTES: usize = 64 * 1_024;

/// Tunnels that a core opens at a time to one node. Others wait: where they lead they take a part of the places of [`LINKS_GREETING_MAX`].
pub const TUNNELS_DIALLED_MAX: usize = 32;

/// Tunnels that a node opens in a second, and [`RATE_BURST_S`] times as many after a pause: a socket that has ended keeps its port for a
/// minute, of which there are 28,000 for each other node, and links need one too. More clients are told to come again.
pub const TUNNELS_PER_S_MAX: u32 = 350;

/// How long the client of a tunnel may take nothing of what it is told before it is cut, in milliseconds: as long as a connection may say
/// nothing, if the operator has not chosen otherwise.
pub const TUNNEL_DEAF_MS: u64 = 150_000;

/// Bytes of a client that may wait for the node that serves it before nothing more is read of the client: what is read of a socket between
/// nodes at a time.
pub const TUNNEL_WAITING_BYTES_MAX: usize = LINK_READ_BYTES;

/// Connections of a core that may be from nodes which have not greeted yet: a cluster that starts at once has one of each. More are
/// closed as they come.
pub const LINKS_GREETING_MAX: usize = 256;

/// Conversations of one user that are due for a notification: some 100 bytes each and the text. A person looks at a dozen; what comes for
/// more of them waits in the log.
pub const DUES_MAX: usize = 64;

/// Bytes of a message that a notification shows: what fits on a locked screen, and any payload of a provider.
pub const NOTICE_TEXT_BYTES_MAX: usize = 256;

/// Conversations of one user whose notifications are remembered to be taken off a screen: what a screen shows, some 12 bytes each in the
/// user's row.
pub const TOLD_MAX: usize = 16;

/// Notices of a core whose outcome is awaited: a few seconds of what providers take of it, some kilobytes each. More wait where they are due.
/// Twice what may wait for one host, so that one that is away leaves room for the others.
pub const NOTICES_UNDER_WAY_MAX: usize = 8_192;

/// Notices of a user whose outcome is awaited: of all conversations that can be due, on four devices. So it takes dozens of users to fill a core
/// with notices for hosts that are not there.
pub const USER_NOTICES_MAX: usize = 4 * DUES_MAX;

const _: () = assert!(2 * push::limits::HOST_WAITING_MAX <= NOTICES_UNDER_WAY_MAX && DEVICES_MAX <= USER_NOTICES_MAX);

/// How far the threads of notifications stand below the cores, as `nice` counts. Where both want one processor, they have a tenth of it: some
/// hundred notices a second. Ingestion has more, since a journal that fills refuses messages, and a notice comes late.
pub const PUSH_NICER: i32 = 10;

/// For how long a notice is worth telling, in seconds: a week. Who has been away for longer finds out when they look.
pub const NOTICE_TTL_S: u64 = 7 * 24 * 3_600;

/// Decisions about notifications that a core remembers for whoever asks why: half a megabyte, a few minutes of a busy core.
pub const PUSH_DECISIONS_KEPT: usize = 4_096;
