// What stands on the screen while nobody looks: what a push becomes there, and what a notice takes the place of. Pure.
//
// A notice is { title, body, at, about, tag }: when it happened, which conversation it is about (as `hashOf` says it; undefined if that may
// not be shown), and the tag by which the server names the conversation (undefined for what the page itself announces).

import { UNREAD_MAX } from '/client/limits.js';
import { hashOf } from './address.js';

/** The version of payloads that this page reads (docs/PUSH.md). */
const VERSION = 1;

/** Stands for all that can not be read. */
const UNREADABLE_TAG = 'ringpost';

/**
 * What a push says: { clear: tag } or { notice }. `text`: its payload, undefined if it has none; `names`: a Map from the numbers of users, as
 * text, to what the person calls them; `now`: in milliseconds since 1970.
 */
export function pushed(text, names, now) {
    const payload = parsed(text);
    if (payload === undefined) {
        return { notice: { title: 'Ringpost', body: 'There is something new', at: now, about: undefined, tag: UNREADABLE_TAG } };
    }
    if (payload.clear === true) return { clear: payload.tag };
    const { tag, at, count, conversation, from, text: said } = payload;
    const name = from === undefined ? 'Ringpost' : (names.get(from) ?? `User ${from}`);
    const counted = count > UNREAD_MAX ? `${UNREAD_MAX}+` : String(count);
    const isOne = count === 1;
    return {
        notice: {
            title: said === undefined || isOne ? name : `${name} (${counted})`,
            body: said ?? (isOne ? 'A new message' : `${counted} unread messages`),
            at,
            about: aboutOf(conversation),
            tag,
        },
    };
}

const NUMBER = /^[1-9]\d{0,19}$/;
const isNumber = (text) => typeof text === 'string' && NUMBER.test(text);
const isCount = (count) => Number.isSafeInteger(count) && count >= 1;

/** A payload of version 1 with what each has; undefined: it is none. */
function parsed(text) {
    let payload;
    try {
        payload = JSON.parse(text);
    } catch {
        return undefined;
    }
    const { v, tag, at, clear, count, conversation, from, text: said } = payload ?? {};
    if (v !== VERSION || typeof tag !== 'string' || tag === '' || !isCount(at)) return undefined;
    if (clear === true) return payload;
    const isAbout = conversation === undefined || isNumber(conversation.replace?.(/^#/, ''));
    const isWhole = isCount(count) && isAbout && (from === undefined || isNumber(from)) && (said === undefined || typeof said === 'string');
    return isWhole ? payload : undefined;
}

function aboutOf(conversation) {
    if (conversation === undefined) return undefined;
    return hashOf(conversation.startsWith('#') ? { group: BigInt(conversation.slice(1)) } : { user: BigInt(conversation) });
}

/**
 * How a notice is shown where others stand, each with its { tag, about, at }: { tag, isNew, isLate, closed }. One of a conversation stands,
 * the newest. `isNew`: it may make a sound; `isLate`: a newer one stands, which is not replaced; `closed`: those whose place it takes.
 */
export function placed({ tag, about, at }, standing) {
    const same = standing.filter((of) => of.tag === tag || (about !== undefined && of.about === about));
    const newest = Math.max(0, ...same.map((of) => of.at));
    const under = tag ?? same[0]?.tag ?? about;
    return { tag: under, isNew: at > newest, isLate: at < newest, closed: same.filter((of) => of.tag !== under) };
}

/** Whether a subscription is of a browser in which each push has to show something: Safari takes the permission away after some that do not. */
export function mustShow(endpoint) {
    return endpoint !== undefined && new URL(endpoint).hostname.endsWith('.push.apple.com');
}
