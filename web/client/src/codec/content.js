// Contents (SPEC 5.4): { text }, { reply: {…} }, { attachment: {…} }, { opaque: bytes }, { edit: {…} }, { unsend: {…} },
// { reaction: {…} }, { act: { act, … } }, { mention: {…} }, or { kind, bytes } of one that version 1 does not have.

import { Refused, Writer } from './bytes.js';
import { BITS, BYTE, BYTES, COUNT, ID, LATER_COUNT, SHA256, STRING, ids, listed, named, readFields, writeFields } from './types.js';

export const CONTENT_KINDS = { text: 1, reply: 2, attachment: 3, opaque: 4, edit: 5, unsend: 6, reaction: 7, act: 8, mention: 9 };
const NAMES = Object.fromEntries(Object.entries(CONTENT_KINDS).map(([name, kind]) => [kind, name]));

export const ROLES = [undefined, 'member', 'admin', 'owner'];

const DIGEST = {
    read(reader, field) {
        const digest = reader.copy(field, 32);
        if (digest.length !== 0 && digest.length !== 32) throw new Refused('unlisted', field);
        return digest;
    },
    write: BYTES.write,
};

/** SPEC 5.4.8: act n is the nth. */
const ACTS = [
    undefined,
    ['create', [['name', STRING], ['picture', STRING], ['rules', BITS]]],
    ['add', [['user', ID]]],
    ['remove', [['user', ID]]],
    ['ban', [['user', ID]]],
    ['unban', [['user', ID]]],
    ['set_role', [['user', ID], ['role', named(ROLES, null)]]],
    ['describe', [['name', STRING], ['picture', STRING]]],
    ['set_rules', [['rules', BITS]]],
    ['invite', [['digest', DIGEST]]],
    ['join', [['secret', BYTES]]],
    ['end', []],
];

/** Undefined: version 1 does not have it. */
function readAct(reader) {
    const [act, fields] = ACTS[reader.varint('act')] ?? [];
    if (act === undefined) return undefined;
    const values = readFields(fields, reader);
    return values.role === null ? undefined : { act, ...values };
}

function writeAct(writer, values) {
    const number = ACTS.findIndex((known) => known?.[0] === values.act);
    if (number < 0) throw new TypeError(`no act is called ${values.act}; SPEC 5.4.8 lists them`);
    writer.length(number);
    writeFields(ACTS[number][1], values, writer);
}

const CONTENT_TYPE = { read: (reader, field) => readContent(reader, field), write: (writer, value) => writeContent(writer, value) };
const MESSAGE = [['author', ID], ['author_seq', COUNT]];

const BODIES = {
    reply: [...MESSAGE, ['quote', STRING], ['text', STRING]],
    attachment: [
        ['attachment_kind', listed('file', 'image', 'video', 'audio')],
        ['size', COUNT],
        ['sha256', SHA256],
        ['content_type', STRING],
        ['location', STRING],
        ['width', COUNT],
        ['height', COUNT],
        ['duration_ms', COUNT],
        ['thumbnail', STRING],
        ['caption', STRING],
    ],
    // That there are too many is refused with a code.
    mention: [['users', ids()], ['text', STRING]],
    edit: [...MESSAGE, ['content', CONTENT_TYPE]],
    unsend: MESSAGE,
    reaction: [...MESSAGE, ['reaction', STRING]],
};

const isChange = (name) => name === 'edit' || name === 'unsend' || name === 'reaction';

function readBody(name, reader) {
    const values = readFields(BODIES[name], reader);
    if (!isChange(name)) return values;
    // What a client sends ends here.
    const place = LATER_COUNT.read(reader, 'place');
    const written = LATER_COUNT.read(reader, 'written');
    return { ...values, place, written: place === 0 ? 0 : written };
}

function writeBody(name, values, writer) {
    writeFields(BODIES[name], values, writer);
    if (isChange(name) && values.place) {
        writer.count(values.place, 'place');
        writer.count(values.written, 'written');
    }
}

export function readContent(reader, field) {
    const kind = BYTE.read(reader, 'content_kind');
    const name = NAMES[kind];
    if (name === 'text') return { text: reader.string(field) };
    if (name === 'opaque') return { opaque: reader.copy(field) };
    const body = reader.part(field);
    if (name === 'act') {
        const act = readAct(body);
        if (act !== undefined) return { act };
    } else if (name !== undefined) {
        return { [name]: readBody(name, body) };
    }
    return { kind, bytes: body.bytes.slice() };
}

export function writeContent(writer, content) {
    const kind = contentKind(content);
    BYTE.write(writer, kind, 'content_kind');
    if ('bytes' in content) return writer.sized(content.bytes, 'content');
    const name = NAMES[kind];
    if (name === 'text') return writer.string(content.text, 'text');
    if (name === 'opaque') return writer.sized(content.opaque, 'opaque');
    const body = new Writer();
    if (name === 'act') writeAct(body, content.act);
    else writeBody(name, content[name], body);
    return writer.sized(body.bytes, 'content');
}

/** The byte that stands for what a content is of. */
export function contentKind(content) {
    if ('bytes' in content) return content.kind;
    const name = Object.keys(CONTENT_KINDS).find((known) => content[known] !== undefined);
    if (name === undefined) throw new TypeError('this is no content; give { text: … } or another one of SPEC 5.4');
    return CONTENT_KINDS[name];
}

/** Bytes of the body, which `content_bytes_max` is about. */
export function contentBytes(content) {
    const writer = new Writer();
    writeContent(writer, content);
    // The kind, and a length of up to 2^14 - 1 in two bytes: what is longer is beyond every limit.
    const bytes = writer.bytes.length;
    return bytes <= 1 + 1 + 127 ? bytes - 2 : bytes <= 1 + 2 + 16383 ? bytes - 3 : bytes - 4;
}

/** The message that a content changes or feels about, or undefined. */
export const aboutMessage = (content) => content.edit ?? content.unsend ?? content.reaction;

/** Whether it is a message and not a change of one, a reaction or an act (SPEC 5.4.5 to 5.4.8). */
export const isMessage = (content) => aboutMessage(content) === undefined && contentKind(content) !== CONTENT_KINDS.act;

export const CONTENT = CONTENT_TYPE;
