// Every bound of the page, with its unit and its reason.

/** Conversations, and groups, in one answer: as many as a server gives (SPEC 7). */
export const INBOX_ROWS_MAX = 100;
export const GROUP_ROWS_MAX = 100;

/** Conversations in the first answer: more than a screen shows, so that what is seen waits for no more. */
export const INBOX_FIRST_ROWS = 30;

/** Pages of conversations that are loaded: thousands of rows, and nobody looks below. The search of a user's number opens any other. */
export const INBOX_PAGES_MAX = 30;

/** Seqs that a browser was away for, above which it is pushed none of them (SPEC 8.8): what it shows it asks for. */
export const SKIP_ABOVE = 2_000;

/** Messages that are asked for at a time: some screens of them. */
export const PAGE_MESSAGES = 100;

/** Conversations with users whose messages are kept, the last that were looked at. Each may have thousands. */
export const THREADS_MAX = 12;

/** Users whose presence is watched: those at the top of the list, below the 200 of SPEC 7, which all tabs share. */
export const WATCHED_MAX = 90;

/** Messages that a search shows, the newest. */
export const FOUND_MAX = 50;

/** Milliseconds for which a word about something that went wrong is shown. */
export const NOTICE_MS = 6_000;

/** Milliseconds after which no frame will come, and what is due is drawn without one: some frames of the slowest screen. */
export const FRAME_WITHIN_MS = 200;

/** Characters of a name that a person gives to somebody. */
export const NAME_CHARS_MAX = 64;

/**
 * Milliseconds within which the browser, its push service and the server answer when somebody chooses what is announced. A push service that
 * a browser does not have never answers; a phone with a bad network takes some seconds.
 */
export const PUSH_WITHIN_MS = 15_000;

/** Milliseconds within which a window says whether somebody sees something there. One that is looked at says so at once, if it runs at all. */
export const SEEN_WITHIN_MS = 5_000;
