// All kinds of frames (SPEC 4), with their fields in the order of their tables.

import { Refused, writePart } from './bytes.js';
import { CONTENT, ROLES } from './content.js';
import { ENTRY, STANDING } from './entries.js';
import {
    BITS, BYTE, CODE, CONVERSATION, CONVERSATION_WITH_USER, COUNT, FLAG, ID, ID_NOT_ZERO, LATER_BITS, LATER_COUNT, LATER_ID,
    NOT_ZERO, SHA256, STRING, bytesOf, ids, items, listed, named, namedVarint, readFields, record, stringOf, writeFields,
} from './types.js';
import {
    ADDRESS_BYTES_MAX, DETAIL_BYTES_MAX, DIGESTS_MAX, NAME_BYTES_MAX, PRESENCE_USERS_MAX, PUSH_ADDRESS_BYTES_MAX, PUSH_KEY_BYTES,
    PUSH_SECRET_BYTES, TOKEN_BYTES_MAX, WATCHED_MAX,
} from '../limits.js';

const REQUEST = ['request', COUNT];
/** Of a client; 0 marks what a server pushes. */
const OWN_REQUEST = ['request', NOT_ZERO];
const FETCH = [['from', COUNT], ['direction', listed('forwards', 'backwards')], ['limit', COUNT]];
const TOKEN = ['token', stringOf(TOKEN_BYTES_MAX)];
const DETAIL = ['detail', stringOf(DETAIL_BYTES_MAX)];
const NAME = ['name', stringOf(NAME_BYTES_MAX)];
const MORE = ['more', FLAG];
const ROLE = named(ROLES, 'member');

/** Of a device its length and five fields of at least a byte. */
const DEVICES = items(record([['device', ID], ['seen_day', COUNT], ['connected', FLAG], ['cursor', COUNT], NAME]), 6);
const LATER_DEVICES = {
    read: (reader, field) => (reader.left === 0 ? [] : DEVICES.read(reader, field)),
    write: DEVICES.write,
    isLeftOut: (devices) => devices === undefined || devices.length === 0,
};

const ENTRIES = items(ENTRY, 4);

const GROUP_ENTRY = record([['seq', COUNT], ['time', COUNT], ['from', ID], ['origin', COUNT], ['messages', COUNT], ['content', CONTENT]]);
/** Five varints and a content without a body, with their length. */
const GROUP_ENTRIES = items(GROUP_ENTRY, 8);

/** No bytes: there is none. */
const LAST_GROUP_ENTRY = {
    read(reader, field) {
        const part = reader.part(field);
        return part.left === 0 ? null : GROUP_ENTRY.read(part);
    },
    write: (writer, entry) => (entry === null ? writer.length(0) : writePart(writer, (part) => GROUP_ENTRY.write(part, entry))),
};

const INBOX_ROWS = items(
    record([
        ['conversation', CONVERSATION_WITH_USER],
        ['settings', BITS],
        ['unread', COUNT],
        ['read_up_to', COUNT],
        ['delivered_up_to', COUNT],
        ['seen_up_to', COUNT],
        ['left_out', COUNT],
        ['last', ENTRY],
    ]),
    12,
);

const GROUP_ROWS = items(
    record([
        ['group', ID],
        ['standing', STANDING],
        ['role', ROLE],
        ['rules', BITS],
        ['members', COUNT],
        ['head', COUNT],
        ['name', STRING],
        ['picture', STRING],
        ['last', LAST_GROUP_ENTRY],
        ['settings', BITS],
        ['read_up_to', COUNT],
        ['unread', COUNT],
    ]),
    13,
);

const MEMBERS = items(record([['user', ID], ['role', ROLE], ['since', COUNT], ['read_up_to', COUNT], ['delivered_up_to', COUNT]]), 6);

const STATES = items(
    record([
        ['user', ID],
        ['state', namedVarint(['unknown', 'offline', 'away', 'online'], 'unknown')],
        ['last_seen', COUNT],
        ['ask_again_ms', COUNT],
    ]),
    5,
    PRESENCE_USERS_MAX,
);

const DIGESTS = {
    read(reader, field) {
        const count = reader.varint(field);
        if (count > DIGESTS_MAX) throw new Refused('too_long', field);
        if (count * 32 > reader.left) throw new Refused('truncated', field);
        return Array.from({ length: count }, () => SHA256.read(reader, field));
    },
    write(writer, digests, field) {
        writer.length(digests.length);
        for (const digest of digests) SHA256.write(writer, digest, field);
    },
};

const ADDRESS = {
    read(reader, field) {
        const address = reader.string(field, ADDRESS_BYTES_MAX);
        if (address === '') throw new Refused('unlisted', field);
        return address;
    },
    write: STRING.write,
};

/** The numbers of those who carry notifications (SPEC 4.49). */
export const PROVIDERS = { web_push: 1n, webhook: 2n, fcm: 3n, apns: 4n };
const PROVIDER = ['provider', ID];
const SHOW = ['show', listed('nothing', 'sender', 'text')];
const PUSH_ADDRESS = ['address', stringOf(PUSH_ADDRESS_BYTES_MAX)];

const CLIENT = {
    0x01: ['hello', [
        ['version_min', COUNT],
        ['version_max', COUNT],
        ['device', ID],
        ['resume', listed('stored', 'after', 'live')],
        ['resume_seq', COUNT],
        TOKEN,
        ['epoch', LATER_ID],
        ['since', LATER_COUNT],
        ['skip_above', LATER_COUNT],
        ['hops', LATER_COUNT],
    ]],
    0x02: ['send', [['number', COUNT], ['to', CONVERSATION], ['content', CONTENT]]],
    0x03: ['acknowledge', [['seq', COUNT]]],
    0x04: ['fetch_log', [OWN_REQUEST, ...FETCH]],
    0x05: ['fetch_conversation', [OWN_REQUEST, ['conversation', CONVERSATION], ...FETCH]],
    0x06: ['ping', [['nonce', ID]]],
    0x07: ['pong', [['nonce', ID]]],
    0x08: ['bye', []],
    0x09: ['refresh', [TOKEN]],
    0x0a: ['give_up', [['number', COUNT]]],
    0x0b: ['mark_read', [OWN_REQUEST, ['conversation', CONVERSATION], ['up_to', COUNT], ['tell', FLAG]]],
    0x0c: ['fetch_inbox', [OWN_REQUEST, ['before', COUNT], ['limit', COUNT], ['messages', COUNT]]],
    0x0d: ['set_conversation', [OWN_REQUEST, ['conversation', CONVERSATION], ['set', BITS], ['cleared', BITS]]],
    0x0e: ['fetch_devices', [OWN_REQUEST]],
    0x0f: ['remove_device', [OWN_REQUEST, ['device', ID]]],
    0x10: ['name_device', [OWN_REQUEST, ['device', ID], NAME]],
    0x11: ['delete_message', [OWN_REQUEST, ['conversation', CONVERSATION], ['place', COUNT]]],
    0x12: ['fetch_presence', [OWN_REQUEST, ['users', ids(PRESENCE_USERS_MAX)]]],
    0x13: ['watch', [OWN_REQUEST, ['users', ids(WATCHED_MAX)]]],
    0x14: ['fetch_digest', [OWN_REQUEST, ['first', COUNT], ['last', COUNT], ['width', COUNT], ['group', LATER_ID]]],
    0x15: ['typing', [['conversation', CONVERSATION]]],
    0x16: ['set_status', [['status', listed('here', 'away')]]],
    0x17: ['set_visibility', [OWN_REQUEST, ['set', BITS], ['cleared', BITS]]],
    0x18: ['fetch_groups', [OWN_REQUEST, ['after', ID], ['limit', COUNT]]],
    0x19: ['fetch_members', [OWN_REQUEST, ['group', ID], ['after', ID], ['limit', COUNT], ['seq', COUNT]]],
    0x1a: ['acknowledge_group', [['group', ID], ['up_to', COUNT]]],
    0x1b: ['subscribe', [
        OWN_REQUEST,
        PROVIDER,
        SHOW,
        PUSH_ADDRESS,
        ['key', bytesOf(PUSH_KEY_BYTES)],
        ['secret', bytesOf(PUSH_SECRET_BYTES)],
    ]],
    0x1c: ['unsubscribe', [OWN_REQUEST]],
    0x1d: ['fetch_subscription', [OWN_REQUEST]],
};

const SERVER = {
    0x81: ['welcome', [
        ['version', COUNT],
        ['user', ID],
        ['server_time', COUNT],
        ['head', COUNT],
        ['cursor', COUNT],
        ['last_number', COUNT],
        ['send_window', COUNT],
        ['text_bytes_max', COUNT],
        ['page_entries_max', COUNT],
        ['idle_timeout_ms', COUNT],
        ['committed', COUNT],
        ['epoch', LATER_ID],
        ['content_kinds', LATER_BITS],
        ['conversation_kinds', LATER_BITS],
        ['frame_kinds', LATER_BITS],
        ['edit_within_s', LATER_COUNT],
        ['unsend_within_s', LATER_COUNT],
        ['skipped', LATER_COUNT],
        ['visibility', LATER_BITS],
        ['ping_after_ms', LATER_COUNT],
    ]],
    0x82: ['accepted', [
        ['number', COUNT],
        ['seq', COUNT],
        ['time', COUNT],
        ['durability', listed(undefined, 'memory', 'local', 'committed')],
        ['recipient', listed('offline', 'online', 'yourself')],
    ]],
    0x83: ['refused', [['number', COUNT], ['code', CODE], ['retry_after_ms', COUNT], ['expected', COUNT]]],
    0x84: ['deliver', [['entry', ENTRY]]],
    0x85: ['page', [
        REQUEST,
        ['first', COUNT],
        ['last', COUNT],
        MORE,
        ['entries', ENTRIES],
        ['delivered_up_to', COUNT],
        ['seen_up_to', LATER_COUNT],
    ]],
    0x86: ['error', [['code', CODE], ['kind', BYTE], REQUEST, ['retry_after_ms', COUNT], DETAIL]],
    0x87: ['ping', [['nonce', ID]]],
    0x88: ['pong', [['nonce', ID]]],
    0x89: ['bye', [['code', CODE], ['retry_after_ms', COUNT], DETAIL, ['devices', LATER_DEVICES]]],
    0x8a: ['committed', [['up_to', COUNT]]],
    0x8b: ['token_expiring', [['expires_in_ms', COUNT]]],
    0x8c: ['refreshed', [['expires', COUNT]]],
    0x8d: ['epoch', [['first', COUNT], ['epoch', ID_NOT_ZERO]]],
    0x8e: ['inbox', [REQUEST, ['at', COUNT], MORE, ['rows', INBOX_ROWS]]],
    0x8f: ['devices', [REQUEST, ['devices', DEVICES]]],
    0x90: ['given_up', [['number', COUNT], ['seq', COUNT]]],
    0x91: ['presence', [REQUEST, ['lifetime_ms', COUNT], ['states', STATES]]],
    0x92: ['typing', [['conversation', CONVERSATION_WITH_USER], ['user', ID], ['ends_in_ms', COUNT]]],
    0x93: ['deliver_group', [['group', ID], ['entry', GROUP_ENTRY]]],
    0x94: ['marked', [REQUEST]],
    0x95: ['digest', [REQUEST, ['at', COUNT], ['first', COUNT], ['last', COUNT], ['width', NOT_ZERO], ['digests', DIGESTS]]],
    0x96: ['redirect', [
        ['address', ADDRESS],
        ['reason', listed('elsewhere', 'moving', 'leaving')],
        ['after_ms', COUNT],
        ['map_version', COUNT],
    ]],
    0x97: ['group_page', [REQUEST, ['group', ID], ['first', COUNT], ['last', COUNT], MORE, ['head', COUNT], ['entries', GROUP_ENTRIES]]],
    0x98: ['groups', [REQUEST, ['at', COUNT], MORE, ['rows', GROUP_ROWS]]],
    0x99: ['members', [
        REQUEST,
        ['group', ID],
        MORE,
        ['at', COUNT],
        ['members', MEMBERS],
        ['delivered', COUNT],
        ['read', COUNT],
    ]],
    0x9a: ['typing_in_group', [['group', ID], ['user', ID], ['ends_in_ms', COUNT]]],
    0x9b: ['subscription', [REQUEST, ['providers', BITS], ['server_key', bytesOf(PUSH_KEY_BYTES)], PROVIDER, SHOW, PUSH_ADDRESS]],
};

/** By direction, the kinds by their byte: [name, fields]. */
export const FRAMES = { client: CLIENT, server: SERVER };

/** Bytes of the kinds of frames of clients, by name. */
export const CLIENT_KINDS = Object.fromEntries(Object.entries(CLIENT).map(([byte, [name]]) => [name, Number(byte)]));
const BYTES = {
    client: CLIENT_KINDS,
    server: Object.fromEntries(Object.entries(SERVER).map(([byte, [name]]) => [name, Number(byte)])),
};

export function readFrame(direction, kind, reader) {
    const known = FRAMES[direction][kind];
    if (known === undefined) throw new Refused('unknown_kind');
    const [name, table] = known;
    const fields = readFields(table, reader);
    if (name === 'hello' && fields.resume !== 'after') fields.resume_seq = 0;
    return { name, fields };
}

export function writeFrame(direction, name, fields, writer) {
    const kind = BYTES[direction][name];
    if (kind === undefined) throw new TypeError(`no frame of a ${direction} is called ${name}; SPEC 4 lists them`);
    writer.byte(kind);
    writeFields(FRAMES[direction][kind][1], fields, writer);
}
