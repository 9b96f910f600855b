//! Bounds that both sides of the protocol must know (SPEC 7). Bytes unless the name says otherwise.

/// Longest text of a message, in bytes of UTF-8. Longer than anything typed by hand; larger things are attachments.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Longest content of any kind, in bytes of its body. That of a text: a reply's quote or an attachment's caption take their part of it.
pub const CONTENT_BYTES_MAX: usize = TEXT_BYTES_MAX;

/// Bytes of an edit beside what it says: three numbers of ten bytes, a kind and a length, and a time.
pub const EDIT_HEADER_BYTES_MAX: usize = 48;

/// Longest quote in a reply: two lines of a small screen, to know which message is meant.
pub const QUOTE_BYTES_MAX: usize = 256;

/// Longest reaction: an emoji is at most 35 bytes today (a family of four with skin tones is 41), a short word fits too.
pub const REACTION_BYTES_MAX: usize = 64;

/// Reactions that a message keeps, one of each user. Two in a conversation of two; in one of many it bounds what comes with a message.
pub const REACTIONS_MAX: usize = 64;

/// Longest content type of an attachment: two names of 127 bytes and the slash (RFC 6838).
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Longest URL or key of an attachment or its thumbnail: what browsers and proxies agree on.
pub const LOCATION_BYTES_MAX: usize = 2048;

/// Longest token in a hello or a refresh. A JWT with a handful of claims has 300 to 1,000 bytes.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// Longest frame (kind and body, without the length prefix) that a client may send: one text and its header.
pub const CLIENT_FRAME_BYTES_MAX: usize = TEXT_BYTES_MAX + 256;

/// Longest frame (kind and body, without the length prefix) that a server may send: one page.
pub const SERVER_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Entries in a page stop before this many bytes, so that a page with its header fits a server frame.
pub const PAGE_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX - 256;

/// Most entries in one page, whatever the client asks for.
pub const PAGE_ENTRIES_MAX: u64 = 500;

/// Conversations in one page of the inbox, whatever the client asks for.
pub const INBOX_ROWS_MAX: u64 = 100;

/// Bytes of the last text that an inbox shows: a line on a wide phone.
pub const INBOX_TEXT_BYTES: usize = 128;

/// Unread messages of a conversation are counted exactly up to here. More are "many", which is told as one more than this.
pub const UNREAD_MAX: u64 = 999;

/// Sends of one device that may await their answer. Also what a device may retry after a reconnect.
pub const SEND_WINDOW: u64 = 256;

/// Fetches of one connection that may await their page. Each may cost a read of the store and a page of memory.
pub const FETCHES_IN_FLIGHT_MAX: usize = 4;

/// Longest human-readable detail in an error or bye.
pub const DETAIL_BYTES_MAX: usize = 256;

/// Longest name of a device: a few words on one line of a list.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest name of a group: a line of a list.
pub const GROUP_NAME_BYTES_MAX: usize = 128;

/// Groups in one page of the list of them, whatever the client asks for.
pub const GROUP_ROWS_MAX: u64 = 100;

/// Members in one page of the list of them, whatever the client asks for.
pub const MEMBERS_PAGE_MAX: u64 = 1_000;

/// Users that one message can mention.
pub const MENTIONS_MAX: usize = 32;

/// Shortest secret of an invitation: 128 bits, which nobody guesses.
pub const SECRET_BYTES_MIN: usize = 16;

/// Longest secret of an invitation: more than its digest keeps apart.
pub const SECRET_BYTES_MAX: usize = 64;

/// Longest address in a redirect: a host name has at most 253 bytes (RFC 1035); with a port it has fewer than this in practice.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Redirects that a client follows in a row. Two are the rule while a user moves; more say that the nodes do not agree.
pub const REDIRECTS_MAX: u64 = 4;

/// Users of one question for presence, and so of one answer: a long list of contacts.
pub const PRESENCE_USERS_MAX: usize = 500;

/// Users that one connection may watch: what a screen or two show.
pub const WATCHED_MAX: usize = 200;

// One text and the largest header around it fit in a frame, and the largest entry fits in a page.
const _: () = assert!(TEXT_BYTES_MAX + EDIT_HEADER_BYTES_MAX + 64 <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(QUOTE_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + 2 * LOCATION_BYTES_MAX < CONTENT_BYTES_MAX / 2);
const _: () = assert!(TOKEN_BYTES_MAX + 64 <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(CLIENT_FRAME_BYTES_MAX + 64 <= PAGE_BYTES_MAX);
// A list of users fits a frame, each of ten bytes, and so do their states, each of four numbers and a length.
const _: () = assert!(PRESENCE_USERS_MAX * 10 + 64 <= CLIENT_FRAME_BYTES_MAX && WATCHED_MAX <= PRESENCE_USERS_MAX);
const _: () = assert!(PRESENCE_USERS_MAX * 41 + 64 <= SERVER_FRAME_BYTES_MAX);
// So do members, each of four numbers, a role and a length, and a group with the longest message as its last one.
const _: () = assert!(MEMBERS_PAGE_MAX * 42 + 96 <= SERVER_FRAME_BYTES_MAX as u64);
const _: () = assert!(GROUP_NAME_BYTES_MAX + LOCATION_BYTES_MAX + CLIENT_FRAME_BYTES_MAX + 192 <= PAGE_BYTES_MAX);

/// Longest address of a subscription: an endpoint of a browser's push service or a device's token has a few hundred bytes.
pub const PUSH_ADDRESS_BYTES_MAX: usize = 1024;

/// A browser's public key for notifications, and a server's: an uncompressed point of P-256 (RFC 8291, RFC 8292).
pub const PUSH_KEY_BYTES: usize = 65;

/// The secret that a browser shares with a server for notifications (RFC 8291).
pub const PUSH_SECRET_BYTES: usize = 16;

/// Digests in one answer. So few answers find a difference among millions, and one has 2 KiB.
pub const DIGESTS_MAX: u64 = 64;
