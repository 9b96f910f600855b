//! Bounds that both sides of the protocol must know (SPEC 7). Bytes unless the name says otherwise.

/// Longest text of a message, in bytes of UTF-8. Longer than anything typed by hand; larger things are attachments.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

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

/// Sends of one device that may await their answer. Also what a device may retry after a reconnect.
pub const SEND_WINDOW: u64 = 256;

/// Fetches of one connection that may await their page. Each may cost a read of the store and a page of memory.
pub const FETCHES_IN_FLIGHT_MAX: usize = 4;

/// Longest human-readable detail in an error or bye.
pub const DETAIL_BYTES_MAX: usize = 256;

// One text and the largest header around it fit in a frame, and the largest entry fits in a page.
const _: () = assert!(TEXT_BYTES_MAX + 64 <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(TOKEN_BYTES_MAX + 64 <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(CLIENT_FRAME_BYTES_MAX + 64 <= PAGE_BYTES_MAX);
