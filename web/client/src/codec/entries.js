// Entries (SPEC 5): { kind, seq, time, … } with the name of the kind, or its number if version 1 does not have it.

import { CONTENT } from './content.js';
import { BITS, CODE, COUNT, ID, ids, listed, named, readFields, writeFields } from './types.js';

export const STANDING = named(['unknown', 'member', 'left', 'removed', 'banned'], 'unknown');

const HEAD = [['seq', COUNT], ['time', COUNT]];

const ENTRIES = {
    1: ['received', [['from', ID], ['origin', COUNT], ['content', CONTENT]]],
    2: ['sent', [['to', ID], ['device', ID], ['number', COUNT], ['content', CONTENT]]],
    3: ['delivered', [['peer', ID], ['up_to', COUNT]]],
    4: ['read', [['peer', ID], ['up_to', COUNT], ['unread', COUNT], ['told', COUNT]]],
    5: ['seen', [['peer', ID], ['up_to', COUNT]]],
    6: ['settings', [['peer', ID], ['settings', BITS]]],
    7: ['deleted', [['peer', ID], ['author', ID], ['author_seq', COUNT], ['place', COUNT], ['unread', COUNT]]],
    8: ['visibility', [['visibility', BITS]]],
    9: ['sent_to_group', [['group', ID], ['device', ID], ['number', COUNT], ['content', CONTENT]]],
    10: ['devices', [['removed', ID], ['why', listed(undefined, 'user', 'room', 'operator')], ['devices', ids()]]],
    11: ['group', [['group', ID], ['standing', STANDING], ['first', COUNT], ['up_to', COUNT], ['sent_up_to', COUNT]]],
    12: ['group_refused', [['group', ID], ['origin', COUNT], ['code', CODE]]],
    13: ['group_read', [['group', ID], ['up_to', COUNT]]],
    14: ['group_settings', [['group', ID], ['settings', BITS]]],
    15: ['group_deleted', [['group', ID], ['place', COUNT]]],
};
const BYTES = Object.fromEntries(Object.entries(ENTRIES).map(([byte, [name]]) => [name, Number(byte)]));

/** Fills the rest of its frame or list item. */
export const ENTRY = {
    read(reader) {
        const byte = reader.byte('entry_kind');
        const [kind, fields] = ENTRIES[byte] ?? [byte, []];
        const entry = { kind, ...readFields(HEAD, reader), ...readFields(fields, reader) };
        reader.at = reader.bytes.length;
        return entry;
    },
    write(writer, entry) {
        const byte = BYTES[entry.kind] ?? entry.kind;
        writer.byte(byte);
        writeFields([...HEAD, ...(ENTRIES[byte]?.[1] ?? [])], entry, writer);
    },
};

/** What a change says of where it stands, if it is one. */
const stands = (content) => content.edit ?? content.unsend ?? content.reaction;

/**
 * Where the message stands that an entry is or is about, in the own log (SPEC 5.4.5); undefined if it is none, or nowhere. To the device that
 * sent it `accepted` stands for an entry, without a place: an edit and an `unsend` are about an own message, and name its place; of a reaction
 * only who has the message knows it.
 */
export function placeOf(entry) {
    if (entry.kind !== 'received' && entry.kind !== 'sent') return undefined;
    const change = stands(entry.content);
    if (change === undefined) return entry.seq;
    const isOwn = entry.kind === 'sent' && entry.content.reaction === undefined;
    return change.place || (isOwn ? change.author_seq : undefined);
}

export const isReaction = (entry) => entry.content?.reaction !== undefined;

/** With whom a message, or what changes one, was exchanged: `{ user }` or `{ group }`; undefined for all other entries. */
export function conversationOf(entry) {
    if (entry.kind === 'received') return { user: entry.from };
    if (entry.kind === 'sent') return { user: entry.to };
    if (entry.kind === 'sent_to_group') return { group: entry.group };
    return undefined;
}
