// Every bound, with its unit and its reason. The first part is SPEC 7, which both sides know; the second is this client's own.

export const PROTOCOL_VERSION = 1;

export const TEXT_BYTES_MAX = 16384;
export const CONTENT_BYTES_MAX = 16384;
export const EDIT_HEADER_BYTES_MAX = 48;
export const REACTION_BYTES_MAX = 64;
export const QUOTE_BYTES_MAX = 256;
export const CONTENT_TYPE_BYTES_MAX = 255;
export const LOCATION_BYTES_MAX = 2048;
export const TOKEN_BYTES_MAX = 4096;
export const DETAIL_BYTES_MAX = 256;
export const NAME_BYTES_MAX = 64;
export const GROUP_NAME_BYTES_MAX = 128;
export const MENTIONS_MAX = 32;
export const SECRET_BYTES_MIN = 16;
export const SECRET_BYTES_MAX = 64;
export const CLIENT_FRAME_BYTES_MAX = 16640;
export const SERVER_FRAME_BYTES_MAX = 65536;
export const UNREAD_MAX = 999;
export const DIGESTS_MAX = 64;
export const PRESENCE_USERS_MAX = 500;
export const WATCHED_MAX = 200;
export const SEND_WINDOW = 256;
export const FETCHES_IN_FLIGHT_MAX = 4;
export const ADDRESS_BYTES_MAX = 255;
export const REDIRECTS_MAX = 4;
export const PUSH_ADDRESS_BYTES_MAX = 1024;
export const PUSH_KEY_BYTES = 65;
export const PUSH_SECRET_BYTES = 16;

/** Messages that wait for their answer or for being sent: four windows, enough for a short loss of connection, at most 16 MiB of text. */
export const QUEUED_MESSAGES_MAX = 1024;

/** Conversations known to be open on a connection: half of the 64 that a server remembers of all devices, and few enough to be searched. */
export const OPEN_CONVERSATIONS_MAX = 32;

/** Fetches that wait for their answer or for being sent. A person scrolls one or two conversations at a time. */
export const QUEUED_FETCHES_MAX = 64;

/** Acknowledgements are gathered this long: ten a second serve as well as a thousand. */
export const ACKNOWLEDGE_AFTER_MS = 100;

/** What this device has of groups is gathered this long (SPEC 8.12). */
export const ACKNOWLEDGE_GROUPS_AFTER_MS = 2_000;

/** A connection attempt that has not succeeded by then has failed. Several SYN retries and a TLS handshake fit. */
export const OPEN_TIMEOUT_MS = 10_000;

/** From the open connection to the welcome. As long as opening it. */
export const WELCOME_TIMEOUT_MS = 10_000;

/** Silence in either direction after which a ping is sent: below the 30 s after which strict networks forget an idle connection. */
export const PING_AFTER_MS = 20_000;

/** Shortest such silence, however short the server's patience is: pings must not become a load. */
export const PING_AFTER_MIN_MS = 1_000;

/** A link that stays silent for this long after a ping is dead. A browser may need a minute more to say so. */
export const PONG_TIMEOUT_MS = 10_000;

/** SPEC 8.5: upper end of the first random delay before another attempt; it doubles with each attempt. */
export const BACKOFF_FIRST_MS = 500;

/** SPEC 8.5: upper end of every later delay; and a token provider that fails is asked again after no more than that. */
export const BACKOFF_MAX_MS = 60_000;

/** SPEC 8.5: a connection that was ready for this long starts the delays anew. */
export const STABLE_AFTER_MS = 60_000;

/** SPEC 8.5: to back off for long. */
export const BACKOFF_LONG_MS = 600_000;

/** Longest delay that a server is believed: one hour. More would be a way to switch clients off. */
export const RETRY_AFTER_MAX_MS = 3_600_000;

/** SPEC 8.4: times within which so many replacements mean that another program has this device id. */
export const REPLACED_MAX = 3;
export const REPLACED_WITHIN_MS = 300_000;

/** Times that the log is begun anew, within so long, before that is taken for a fault of the servers. */
export const ANEW_MAX = 3;
export const ANEW_WITHIN_MS = 60_000;

/** A gap in the numbers has no time to try again, and must not become a loop at the speed of the network. */
export const GAP_RETRY_MS = 1_000;

/** Bytes that wait for the link, beyond which no message leaves: a `WebSocket` takes everything and has no bound of its own. */
export const UNWRITTEN_BYTES_MAX = 1024 * 1024;

/** When to look again whether there is room: nothing says so when a `WebSocket` has written. */
export const UNWRITTEN_AGAIN_AFTER_MS = 50;

/** Epochs of the log that are remembered: more than the 64 that a server may tell of again. */
export const EPOCHS_KEPT = 256;

/** A watch is not sent again sooner after its answer, whatever that says. */
export const WATCH_AGAIN_AFTER_MIN_MS = 1_000;

/** SPEC 8.10: that somebody types is said of a conversation at most once in this time. */
export const TYPING_AGAIN_AFTER_MS = 3_000;

/** Conversations in which somebody types here, and people of whom it is told, at a time. Nobody sees more. */
export const TYPING_MAX = 64;

/** Longest time that a server is believed that somebody types, without saying it again. */
export const TYPING_SHOWN_MAX_MS = 60_000;

/** Entries of a group's log that are held, the newest: what a person scrolls through in one sitting. The server has the rest. */
export const GROUP_ENTRIES_MAX = 1_000;

/** A connection that was ready for less, and on which nothing was accepted or handed out, was ready for moments only (SPEC 8.11). */
export const MOMENT_MS = 10_000;

/** After `too_many_fetches`, which has no time: a page has to come first, or the server counts otherwise than this client. */
export const FETCH_AGAIN_AFTER_MS = 1_000;

/** Events that wait for the store, beyond which nothing more is read: sixteen pages. */
export const EVENTS_WAITING_MAX = 8_000;

/** What became of messages, the newest, for tabs that were put away when it was told: as many as can wait for their answer at a time. */
export const ANSWERS_KEPT_MAX = QUEUED_MESSAGES_MAX;

/** Pushed entries of a group that are kept behind a gap until it is filled: what comes while a page is on its way. */
export const GROUP_AHEAD_MAX = 64;

/** SPEC 1.5: longest body of a request. */
export const POLL_BODY_BYTES_MAX = 65536;

/** Times that a request of long polling is made while the network fails, before the connection is given up: some four seconds in all. */
export const POLL_TRIES_MAX = 4;

/** Upper end of the first random delay before such a request is made again, which doubles; and how long an answer without bytes has to take. */
export const POLL_AGAIN_AFTER_MS = 500;

/** WebSockets in a row on which nothing was heard, before long polling is tried: one may have been bad luck. */
export const SILENT_MAX = 2;

/** A WebSocket that is given up sooner, without a word, says nothing of the network: half of the time for opening it. */
export const SILENT_AFTER_MS = 5_000;

/** While polling works, a WebSocket is tried again after this; it doubles with each that does not open. */
export const WEBSOCKET_AGAIN_AFTER_MS = 300_000;

export const WEBSOCKET_AGAIN_MAX_MS = 3_600_000;
