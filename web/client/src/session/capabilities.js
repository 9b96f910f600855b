// What a server takes (SPEC 8.7), and what no server takes (SPEC 5.4): checked before a message gets a number, since the answer would only
// be a refusal.

import { utf8Bytes } from '../codec/bytes.js';
import { CONTENT_KINDS, contentBytes, contentKind, isMessage } from '../codec/content.js';
import { CLIENT_KINDS } from '../codec/frames.js';
import { encode } from '../codec/framing.js';
import {
    CONTENT_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, GROUP_NAME_BYTES_MAX, LOCATION_BYTES_MAX, MENTIONS_MAX, QUOTE_BYTES_MAX,
    REACTION_BYTES_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN, TEXT_BYTES_MAX,
} from '../limits.js';

const setOf = (...kinds) => kinds.reduce((bits, kind) => bits | (1n << BigInt(kind)), 0n);
const has = (bits, kind) => kind < 64 && ((bits >> BigInt(kind)) & 1n) === 1n;

/** What a client may rely on with a server whose welcome tells nothing: what version 1 began with. */
const FIRST = {
    content_kinds: setOf(CONTENT_KINDS.text),
    conversation_kinds: setOf(1),
    frame_kinds: setOf(1, 2, 3, 4, 5, 6, 7, 8),
};

export class Capabilities {
    #kinds;

    /** Of a welcome. */
    constructor(welcome) {
        this.#kinds = welcome.content_kinds === 0n ? FIRST : welcome;
    }

    takesFrame(name) {
        return has(this.#kinds.frame_kinds, CLIENT_KINDS[name]);
    }

    takesConversation({ group }) {
        return has(this.#kinds.conversation_kinds, group === undefined ? 1 : 2);
    }

    takesContent(kind) {
        return has(this.#kinds.content_kinds, kind);
    }

    /** Why this server does not take a message, or undefined. */
    lacks(to, content) {
        if (!this.takesConversation(to)) return new NotSent('conversation_kind', 'this server has no groups; write to a user');
        const kinds = [contentKind(content), ...(content.edit ? [contentKind(content.edit.content)] : [])];
        const lacking = kinds.find((kind) => !this.takesContent(kind));
        if (lacking === undefined) return undefined;
        return new NotSent('content_kind', `this server takes no content of kind ${lacking}; say it as a text`);
    }
}

/** Why a message was not taken, or a request not made: nothing has left. */
export class NotSent extends Error {
    constructor(code, message) {
        super(message);
        this.name = 'NotSent';
        this.code = code;
    }
}

/** Throws NotSent for a message that no server takes, and TypeError for what can not be written: a mistake of the caller. */
export function checkMessage(to, content, textBytesMax) {
    if (to.user === 0n || to.group === 0n) throw new NotSent('recipient', 'user 0 and group 0 are nobody; give another id');
    if (to.user !== undefined && content.act !== undefined) {
        throw new NotSent('content_kind', 'an act is done to a group; send it to { group }');
    }
    const fault = contentFault(content, textBytesMax);
    if (fault !== undefined) throw fault;
    encode('client', 'send', { number: 1, to, content });
}

const sizeOf = (text) => utf8Bytes(text).length;
const limits = (what) => new NotSent('content_limits', `${what}; see SPEC 5.4`);

/** Why no server takes a message, or undefined. A content of a kind that this client does not know, a server may know. */
export function contentFault(content, textBytesMax) {
    const fault = bodyFault(content, Math.min(textBytesMax, TEXT_BYTES_MAX));
    if (fault !== undefined) return fault;
    const size = contentBytes(content.edit?.content ?? content);
    return size > CONTENT_BYTES_MAX ? limits(`the content has ${size} bytes, at most ${CONTENT_BYTES_MAX} are allowed`) : undefined;
}

function textFault(text, textBytesMax) {
    const size = sizeOf(text);
    if (size >= 1 && size <= textBytesMax) return undefined;
    return new NotSent('text_length', `the text has ${size} bytes, 1 to ${textBytesMax} are allowed; shorten it`);
}

function bodyFault(content, textBytesMax) {
    const { text, reply, attachment, opaque, mention, edit, unsend, reaction, act } = content;
    if ('bytes' in content) return undefined;
    if (text !== undefined) return textFault(text, textBytesMax);
    if (opaque !== undefined) return opaque.length === 0 ? limits('an opaque content has no bytes') : undefined;
    if (act !== undefined) return actFault(act);
    const about = reply ?? edit ?? unsend ?? reaction;
    if (about !== undefined && (about.author === 0n || about.author_seq === 0)) return limits('no message is named: its author or seq is 0');
    if (reply !== undefined) {
        if (sizeOf(reply.quote) > QUOTE_BYTES_MAX) return limits(`the quote has more than ${QUOTE_BYTES_MAX} bytes`);
        return textFault(reply.text, textBytesMax);
    }
    if (mention !== undefined) {
        if (mention.users.length > MENTIONS_MAX || mention.users.includes(0n)) return limits(`0 or more than ${MENTIONS_MAX} users are named`);
        return textFault(mention.text, textBytesMax);
    }
    if (edit !== undefined) {
        if (isMessage(edit.content)) return bodyFault(edit.content, textBytesMax);
        return new NotSent('content_kind', 'an edit says what a message says; give a text or the like');
    }
    if (reaction !== undefined && sizeOf(reaction.reaction) > REACTION_BYTES_MAX) {
        return limits(`the reaction has more than ${REACTION_BYTES_MAX} bytes`);
    }
    if (attachment !== undefined) {
        const isLocation = (place) => sizeOf(place) <= LOCATION_BYTES_MAX;
        if (attachment.location === '' || !isLocation(attachment.location) || !isLocation(attachment.thumbnail)) {
            return limits(`a location of an attachment has not 1 to ${LOCATION_BYTES_MAX} bytes`);
        }
        if (sizeOf(attachment.content_type) > CONTENT_TYPE_BYTES_MAX) return limits('the content type of an attachment is too long');
    }
    return undefined;
}

function actFault({ act, name, picture, user, secret }) {
    if (name !== undefined && (name === '' || sizeOf(name) > GROUP_NAME_BYTES_MAX)) {
        return limits(`the name of a group has not 1 to ${GROUP_NAME_BYTES_MAX} bytes`);
    }
    if (picture !== undefined && sizeOf(picture) > LOCATION_BYTES_MAX) return limits('the picture of a group lies at too long a place');
    if (user === 0n) return limits('user 0 is nobody');
    if (act === 'join' && (secret.length < SECRET_BYTES_MIN || secret.length > SECRET_BYTES_MAX)) {
        return limits(`the secret of an invitation has not ${SECRET_BYTES_MIN} to ${SECRET_BYTES_MAX} bytes`);
    }
    return undefined;
}
