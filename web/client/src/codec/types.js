// The types of SPEC 2.2. A type reads a field from a reader and writes it to a writer; a record is a list of [name, type].

import { Refused, writePart } from './bytes.js';

export const ID = { read: (reader, field) => reader.id(field), write: (writer, value, field) => writer.id(value, field) };
/** A set of bits, of which a later version may have more: they use all 64, as ids do. */
export const BITS = ID;
export const COUNT = { read: (reader, field) => reader.count(field), write: (writer, value, field) => writer.count(value, field) };
export const BYTE = {
    read: (reader, field) => reader.byte(field),
    write(writer, value, field) {
        if (!Number.isInteger(value) || value < 0 || value > 255) throw new TypeError(`field ${field} is ${value}; give a byte`);
        writer.byte(value);
    },
};
export const STRING = stringOf();
export const BYTES = bytesOf();

export function bytesOf(sizeMax) {
    return { read: (reader, field) => reader.copy(field, sizeMax), write: (writer, value, field) => writer.sized(value, field) };
}

export function stringOf(sizeMax) {
    return { read: (reader, field) => reader.string(field, sizeMax), write: (writer, value, field) => writer.string(value, field) };
}

/** A type of which some values are not allowed. */
export function only(type, isAllowed) {
    return {
        ...type,
        read(reader, field) {
            const value = type.read(reader, field);
            if (!isAllowed(value)) throw new Refused('unlisted', field);
            return value;
        },
    };
}

export const CODE = only(COUNT, (value) => value <= 65535);
export const NOT_ZERO = only(COUNT, (value) => value !== 0);
export const ID_NOT_ZERO = only(ID, (value) => value !== 0n);

function byteOf(values, value, field) {
    const byte = values.indexOf(value);
    if (value === undefined || byte < 0) {
        const known = values.filter((other) => other !== undefined).join(', ');
        throw new TypeError(`field ${field} is ${String(value)}; give one of: ${known}`);
    }
    return byte;
}

/** A `listed` field: the value of byte n is the nth; where it is undefined, the byte is malformed. */
export function listed(...values) {
    return {
        read(reader, field) {
            const value = values[reader.byte(field)];
            if (value === undefined) throw new Refused('unlisted', field);
            return value;
        },
        write: (writer, value, field) => writer.byte(byteOf(values, value, field)),
    };
}

/** 0 `no`, 1 `yes`. */
export const FLAG = listed(false, true);

/** A byte that is no listed field: what a later version may have is read as `otherwise`. */
export function named(values, otherwise) {
    return {
        read: (reader, field) => values[reader.byte(field)] ?? otherwise,
        write: (writer, value, field) => writer.byte(byteOf(values, value, field)),
    };
}

/** A varint of which it is the same. */
export function namedVarint(values, otherwise) {
    return {
        read: (reader, field) => values[reader.varint(field)] ?? otherwise,
        write: (writer, value, field) => writer.length(byteOf(values, value, field)),
    };
}

/** `varint?`: the frame may end before it, and does not end with one that is 0. */
export function later(type, zero) {
    return {
        read: (reader, field) => (reader.left === 0 ? zero : type.read(reader, field)),
        write: type.write,
        isLeftOut: (value) => value === undefined || value === zero,
        zero,
    };
}

export const LATER_COUNT = later(COUNT, 0);
export const LATER_ID = later(ID, 0n);
export const LATER_BITS = later(BITS, 0n);

/** 32 bytes. */
export const SHA256 = {
    read: (reader, field) => reader.take(32, field).slice(),
    write(writer, value, field) {
        if (!(value instanceof Uint8Array) || value.length !== 32) throw new TypeError(`field ${field} is no SHA-256; give 32 bytes`);
        writer.raw(value);
    },
};

export function readFields(fields, reader) {
    const values = {};
    for (const [name, type] of fields) values[name] = type.read(reader, name);
    return values;
}

export function writeFields(fields, values, writer) {
    let end = fields.length;
    while (end > 0 && fields[end - 1][1].isLeftOut?.(values[fields[end - 1][0]])) end--;
    for (const [name, type] of fields.slice(0, end)) type.write(writer, values[name] === undefined ? type.zero : values[name], name);
}

/** An object of fields that fills its bytes; what follows them is passed over. */
export function record(fields) {
    return {
        read: (reader) => readFields(fields, reader),
        write: (writer, values) => writeFields(fields, values, writer),
    };
}

/** A count, then each item as `bytes`; an item with its length has at least so many. */
export function items(type, itemBytesMin, countMax) {
    return {
        read(reader, field) {
            const count = reader.length(field, itemBytesMin, countMax);
            const values = [];
            for (let i = 0; i < count; i++) values.push(type.read(reader.part(field), field));
            return values;
        },
        write(writer, values) {
            writer.length(values.length);
            for (const value of values) writePart(writer, (part) => type.write(part, value));
        },
    };
}

/** A count, then a varint of each id. */
export function ids(countMax) {
    return {
        read(reader, field) {
            const count = reader.length(field, 1, countMax);
            const values = [];
            for (let i = 0; i < count; i++) values.push(reader.id(field));
            return values;
        },
        write(writer, values, field) {
            writer.length(values.length);
            for (const value of values) writer.id(value, field);
        },
    };
}

const CONVERSATION_KINDS = ['user', 'group'];

function conversationOf(kinds) {
    return {
        read(reader) {
            const name = kinds[reader.varint('conversation') - 1];
            if (name === undefined) throw new Refused('unlisted', 'conversation');
            return { [name]: reader.id(name) };
        },
        write(writer, value, field) {
            const at = CONVERSATION_KINDS.findIndex((kind) => value?.[kind] !== undefined);
            if (at < 0) throw new TypeError(`field ${field} is no conversation; give { user: 7n } or { group: 7n }`);
            writer.length(at + 1);
            writer.id(value[CONVERSATION_KINDS[at]], CONVERSATION_KINDS[at]);
        },
    };
}

export const CONVERSATION = conversationOf(CONVERSATION_KINDS);
/** A server names no group as a conversation. */
export const CONVERSATION_WITH_USER = conversationOf(['user']);

/** One string for each conversation, to find it by. */
export const conversationKey = (of) => (of.group === undefined ? `user ${of.user}` : `group ${of.group}`);
