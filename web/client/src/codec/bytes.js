// Bytes under a reader and a writer: SPEC 2.2 as far as it says nothing of fields.
//
// How numbers are represented, in the whole library:
//
// - What **names** something (ids of users, devices, groups and epochs, nonces) and what is a **set of bits** (settings, rules, kinds)
//   is always a `bigint`: these use all 64 bits. Group ids are random, so a `number` would be wrong for nearly every one of them.
// - What **counts** (seqs, send numbers, requests, times, durations, sizes) is a `number`, for which one can compare, add and draw. A
//   count above 2^53 - 1 is one that no honest peer has. It reads as a `bigint` in a `decode` that is `exact`, which the golden vectors are
//   checked with, and as 2^53 - 1 in a session, which then closes for the hole, or waits for ever.
//
// So a field has one type, whatever its value is.

/** What cannot be read: the class of the error (SPEC 9) and the field, if it is one. */
export class Refused extends Error {
    constructor(error, field) {
        super(field === undefined ? `a frame cannot be read: ${error}` : `field ${field} cannot be read: ${error}`);
        this.name = 'Refused';
        this.error = error;
        this.field = field;
    }
}

const VARINT_BYTES_MAX = 10;
/** Bytes of a varint whose bits, 49, are exact in a number whatever they are; three more follow at most, of 15 bits. */
const LOW_BYTES = 7;
const LOW_SCALE = 2 ** 49;
const U64_MAX = 2n ** 64n - 1n;

/** A count above 2^53 - 1 as it is. */
export const exact = (value) => value;
/** A count above 2^53 - 1 as the highest number that counts. */
export const saturated = () => Number.MAX_SAFE_INTEGER;

// A byte order mark is a character of the text like any other.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export const utf8Bytes = (text) => encoder.encode(text);

/** Reads forwards through bytes that are there whole. */
export class Reader {
    /** `wide` says what becomes of counts above 2^53 - 1: `exact` or `saturated`. */
    constructor(bytes, wide) {
        this.bytes = bytes;
        this.wide = wide;
        this.at = 0;
    }

    get left() {
        return this.bytes.length - this.at;
    }

    byte(field) {
        if (this.at >= this.bytes.length) throw new Refused('truncated', field);
        return this.bytes[this.at++];
    }

    /** A `number`, or a `bigint` above 2^53 - 1. */
    varint(field) {
        let low = 0;
        let high = 0;
        let scale = 1;
        for (let i = 0; i < VARINT_BYTES_MAX; i++) {
            const byte = this.byte(field);
            if ((i === VARINT_BYTES_MAX - 1 && byte > 1) || (i > 0 && byte === 0)) throw new Refused('varint', field);
            if (i === LOW_BYTES) scale = 1;
            if (i < LOW_BYTES) low += (byte & 0x7f) * scale;
            else high += (byte & 0x7f) * scale;
            scale *= 128;
            if (byte < 0x80) break;
        }
        if (high * LOW_SCALE <= Number.MAX_SAFE_INTEGER - low) return high * LOW_SCALE + low;
        return (BigInt(high) << 49n) | BigInt(low);
    }

    count(field) {
        const value = this.varint(field);
        return typeof value === 'number' ? value : this.wide(value);
    }

    id(field) {
        return BigInt(this.varint(field));
    }

    /** So many bytes, without a copy. */
    take(size, field) {
        if (size > this.left) throw new Refused('truncated', field);
        const start = this.at;
        this.at += Number(size);
        return this.bytes.subarray(start, this.at);
    }

    sized(field, sizeMax) {
        const size = this.varint(field);
        if (sizeMax !== undefined && size > sizeMax) throw new Refused('too_long', field);
        return this.take(size, field);
    }

    /** The next `bytes` as a reader of its own. */
    part(field, sizeMax) {
        return new Reader(this.sized(field, sizeMax), this.wide);
    }

    /** A copy, which keeps nothing else alive. */
    copy(field, sizeMax) {
        return this.sized(field, sizeMax).slice();
    }

    string(field, sizeMax) {
        const bytes = this.sized(field, sizeMax);
        try {
            return utf8.decode(bytes);
        } catch {
            throw new Refused('not_utf8', field);
        }
    }

    /** How many items follow, each of which has at least so many bytes: checked before anything is allocated. */
    length(field, itemBytesMin, countMax) {
        const count = this.varint(field);
        if (countMax !== undefined && count > countMax) throw new Refused('too_long', field);
        if (count > Math.floor(this.left / itemBytesMin)) throw new Refused('truncated', field);
        return count;
    }
}

/** Grows as it is written to. */
export class Writer {
    #bytes = new Uint8Array(64);
    #size = 0;

    get bytes() {
        return this.#bytes.subarray(0, this.#size);
    }

    #room(size) {
        if (this.#size + size <= this.#bytes.length) return;
        const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#size + size));
        grown.set(this.bytes);
        this.#bytes = grown;
    }

    byte(value) {
        this.#room(1);
        this.#bytes[this.#size++] = value;
    }

    raw(bytes) {
        this.#room(bytes.length);
        this.#bytes.set(bytes, this.#size);
        this.#size += bytes.length;
    }

    #varint(value) {
        let rest = value;
        if (typeof rest === 'bigint') {
            while (rest > BigInt(Number.MAX_SAFE_INTEGER)) {
                this.byte(Number(rest & 0x7fn) | 0x80);
                rest >>= 7n;
            }
            rest = Number(rest);
        }
        while (rest >= 0x80) {
            this.byte((rest % 128) | 0x80);
            rest = Math.floor(rest / 128);
        }
        this.byte(rest);
    }

    /** A count. A `bigint` is taken only above 2^53 - 1, where `exact` reads one. */
    count(value, field) {
        const isCount =
            typeof value === 'bigint'
                ? value > BigInt(Number.MAX_SAFE_INTEGER) && value <= U64_MAX
                : Number.isSafeInteger(value) && value >= 0;
        if (!isCount) throw new TypeError(`field ${field} is ${String(value)}; it counts, so give a whole number from 0 to 2^53 - 1`);
        this.#varint(value);
    }

    id(value, field) {
        if (typeof value !== 'bigint' || value < 0n || value > U64_MAX) {
            throw new TypeError(`field ${field} is ${String(value)} (${typeof value}); give a bigint below 2^64, such as 7n`);
        }
        this.#varint(value);
    }

    sized(bytes, field) {
        if (!(bytes instanceof Uint8Array)) throw new TypeError(`field ${field} is no Uint8Array; give its bytes as one`);
        this.#varint(bytes.length);
        this.raw(bytes);
    }

    string(text, field) {
        if (typeof text !== 'string') throw new TypeError(`field ${field} is ${typeof text}; give a string`);
        this.sized(utf8Bytes(text), field);
    }

    length(count) {
        this.#varint(count);
    }
}

/** What `write` writes, as `bytes`. */
export function writePart(writer, write) {
    const part = new Writer();
    write(part);
    writer.sized(part.bytes);
}
