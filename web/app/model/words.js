// What is said to a person. Pure.

import { codeName } from '/client/index.js';
import { QUOTE_BYTES_MAX, UNREAD_MAX } from '/client/limits.js';

/** Characters of a message that a list or a quote has of it. */
const EXCERPT_CHARS_MAX = 120;

const REFUSED = {
    text_length: 'The text is longer than the server takes.',
    content_limits: 'A part of it is missing, or longer than the server takes.',
    content_kind: 'This server does not take such messages.',
    recipient: 'There can be no such user.',
    no_such_message: 'That message is not here any more.',
    not_the_author: 'That message is not yours.',
    too_late: 'That message was written too long ago.',
    other_kind: 'That message is of another kind.',
    taken_back: 'That message was taken back.',
    reactions_full: 'That message has as many reactions as it keeps.',
    unwanted: 'They take no messages from you.',
    no_such_group: 'There is no such group, or you are not in it.',
    not_allowed: 'You may not do this here.',
    group_full: 'The group has as many members as it may have.',
    no_such_member: 'They are not in the group.',
    member_already: 'They are in the group already.',
    banned: 'They are not let in again.',
    group_ended: 'The group has ended.',
    too_many_groups: 'They are in as many groups as one may be in.',
    number_used: 'Another copy of this page sent something in its place. Look whether it is there before you write it again.',
    rate_limited: 'That was too much in too short a time.',
    overloaded: 'The server has more to do than it can.',
    storage_full: 'The server has no room.',
    storage_failed: "The server's storage has failed.",
    other_log: 'It is about a message of a history that the server has no more.',
    bad_subscription: 'The server does not send to the push service of this browser.',
    unknown_kind: 'This server is older and can not do that.',
};

/** Why something was refused. `code`: a number of SPEC 6, or the name of one. */
export function refused(code) {
    const name = typeof code === 'number' ? codeName(code) : code;
    return REFUSED[name] ?? `The server said no: ${name}.`;
}

const ENDED = {
    token_missing: 'The server does not take this token. Sign in with another one.',
    token_invalid: 'The server does not take this token. Sign in with another one.',
    token_expired: 'The token has expired. Sign in with a new one.',
    revoked: 'The token was revoked. Sign in with another one.',
    device_refused: 'You have as many devices as you may have. Remove one, then sign in again.',
    device_removed: 'This browser was removed from your devices. Sign in again to use it.',
    replaced: 'Another program is connected as this browser.',
    version: 'This page is older than the server. Load it again.',
};

/** Why there is no connection, and none will come by itself. */
export const ended = ({ code, words }) => (code === undefined ? undefined : ENDED[codeName(code)]) ?? `The connection has ended: ${words}`;

/** Why a token is wanted. */
export const tokenWanted = ({ code }) => (code === undefined ? undefined : ENDED[codeName(code)]) ?? ENDED.token_invalid;

export const unreadCount = (count) => (count > UNREAD_MAX ? `${UNREAD_MAX}+` : String(count));

/** The text of a content that has one. */
export const textOf = (content) => content.text ?? content.reply?.text ?? content.mention?.text ?? content.attachment?.caption;

/** What a message says, on one line. `nameOf`: what users are called. */
export function excerpt(content, nameOf) {
    if (content === undefined) return 'Taken back';
    if (content.edit !== undefined) return excerpt(content.edit.content, nameOf);
    if (content.unsend !== undefined) return 'Taken back';
    if (content.act !== undefined) return act(content.act, undefined, nameOf);
    const text = textOf(content);
    if (content.attachment !== undefined && !text) return attachment(content.attachment);
    if (text === undefined) return 'A message that this page can not show';
    const line = text.replace(/\s+/g, ' ').trim();
    return line.length > EXCERPT_CHARS_MAX ? `${[...line].slice(0, EXCERPT_CHARS_MAX).join('')}…` : line;
}

const ATTACHMENTS = { file: 'A file', image: 'A picture', video: 'A video', audio: 'A recording' };

export function attachment({ attachment_kind: kind, size, content_type: type }) {
    return `${ATTACHMENTS[kind]} (${type}, ${bytes(size)})`;
}

function bytes(size) {
    if (size < 1024) return `${size} B`;
    return size < 1024 * 1024 ? `${(size / 1024).toFixed(0)} KiB` : `${(size / 1024 / 1024).toFixed(1)} MiB`;
}

const ROLES = { member: 'a member', admin: 'an admin', owner: 'the owner' };

/** What somebody did to a group; `by`: who did it, if that is to be said. */
export function act(of, by, nameOf) {
    const who = by === undefined ? '' : `${nameOf(by)} `;
    const whom = of.user === undefined ? '' : nameOf(of.user);
    switch (of.act) {
        case 'create':
            return `${who}began the group “${of.name}”`;
        case 'add':
            return `${who}added ${whom}`;
        case 'remove':
            return by === of.user ? `${who}left` : `${who}removed ${whom}`;
        case 'ban':
            return `${who}banned ${whom}`;
        case 'unban':
            return `${who}lets ${whom} in again`;
        case 'set_role':
            return `${who}made ${whom} ${ROLES[of.role]}`;
        case 'describe':
            return `${who}called the group “${of.name}”`;
        case 'set_rules':
            return `${who}changed the rules`;
        case 'invite':
            return of.digest.length === 0 ? `${who}took the invitation back` : `${who}made an invitation`;
        case 'join':
            return `${who}joined by the invitation`;
        case 'end':
            return `${who}ended the group`;
    }
}

const STANDINGS = {
    left: 'You have left this group.',
    removed: 'You were removed from this group.',
    banned: 'You were banned from this group.',
    unknown: 'You are not in this group.',
};

/** Why nobody can write here; undefined: one can. */
export const standing = (of) => STANDINGS[of];

const startOfDay = (time) => new Date(time).setHours(0, 0, 0, 0);
const DAY_MS = 24 * 3600 * 1000;

/** The first format of a page takes some 20 ms to make, and thousands of messages are shown with each: it is made when it is first used. */
function formatOf(options) {
    let format;
    return (time) => (format ??= new Intl.DateTimeFormat(undefined, options)).format(time);
}
const weekday = formatOf({ weekday: 'short' });
const date = formatOf({ day: 'numeric', month: 'short' });
const dayOf = formatOf({ weekday: 'long', day: 'numeric', month: 'long' });
const dayOfYear = formatOf({ weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });

/** The hour of a message. */
export const clock = formatOf({ hour: '2-digit', minute: '2-digit' });

/** Does what would hold up the first words, while something else is waited for. */
export const prepare = () => void clock(0);

/** How many days ago that was, as a calendar counts them. */
export const daysAgo = (time, now) => Math.round((startOfDay(now) - startOfDay(time)) / DAY_MS);

/** The day of a message, as seen from `now`. */
export function day(time, now) {
    const days = daysAgo(time, now);
    if (days === 0) return 'Today';
    if (days === 1) return 'Yesterday';
    return (new Date(time).getFullYear() === new Date(now).getFullYear() ? dayOf : dayOfYear)(time);
}

/** When the last message of a conversation came, as short as a list wants it. */
export function when(time, now) {
    const days = daysAgo(time, now);
    if (days <= 0) return clock(time);
    return (days < 7 ? weekday : date)(time);
}

/** Whether somebody is there; undefined: nothing is to be said of it. */
export function presence({ state, last_seen: seen } = {}, now) {
    if (state === 'online') return 'Here';
    if (state === 'away') return 'Connected, away';
    if (state !== 'offline') return undefined;
    if (seen === 0) return 'Offline';
    return `Last here ${day(seen, now) === 'Today' ? `at ${clock(seen)}` : when(seen, now)}`;
}

/** Who types. */
export function typing(users, nameOf) {
    if (users.length === 0) return undefined;
    if (users.length > 2) return 'Several are typing…';
    return `${users.map(nameOf).join(' and ')} ${users.length === 1 ? 'is' : 'are'} typing…`;
}

/** The beginning of a text, as much of it as a reply may quote. */
export function quoteOf(text) {
    let quote = '';
    let bytes = 0;
    for (const char of text) {
        bytes += new TextEncoder().encode(char).length;
        if (bytes > QUOTE_BYTES_MAX) break;
        quote += char;
    }
    return quote;
}
