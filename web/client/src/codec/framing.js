// Framing (SPEC 2.1): bytes in any cut become frames. Holds at most one frame of its direction that has not come whole.

import { Reader, Refused, Writer, exact } from './bytes.js';
import { readFrame, writeFrame } from './frames.js';
import { CLIENT_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX } from '../limits.js';

const FRAME_BYTES_MAX = { client: CLIENT_FRAME_BYTES_MAX, server: SERVER_FRAME_BYTES_MAX };
const LENGTH_BYTES_MAX = 10;

/** Cuts the stream of one direction into frames. */
export class Framer {
    #bytesMax;
    /** The bytes of a length that has not come whole. */
    #length = [];
    /** Kind and body of a frame of which only `#held` bytes have come. */
    #frame = null;
    #held = 0;

    constructor(direction) {
        this.#bytesMax = FRAME_BYTES_MAX[direction];
    }

    /** Whether a frame has come in part. */
    get isHolding() {
        return this.#length.length > 0 || this.#frame !== null;
    }

    /** The kind of the frame that has come in part, if that much has. */
    get heldKind() {
        return this.#held > 0 ? this.#frame[0] : undefined;
    }

    /** The next frame of these bytes, as kind and body, and what follows it; undefined if it has not come whole. */
    *frames(bytes) {
        let at = 0;
        while (at < bytes.length) {
            if (this.#frame === null) {
                this.#length.push(bytes[at++]);
                const size = this.#size();
                if (size === undefined) continue;
                this.#length = [];
                if (size <= bytes.length - at) {
                    const frame = bytes.subarray(at, at + size);
                    at += size;
                    yield { kind: frame[0], body: frame.subarray(1) };
                    continue;
                }
                this.#frame = new Uint8Array(size);
            }
            const part = bytes.subarray(at, at + this.#frame.length - this.#held);
            this.#frame.set(part, this.#held);
            this.#held += part.length;
            at += part.length;
            if (this.#held === this.#frame.length) {
                const frame = this.#frame;
                this.#frame = null;
                this.#held = 0;
                yield { kind: frame[0], body: frame.subarray(1) };
            }
        }
    }

    /** What the length says, checked before anything is allocated; undefined as long as it has not come whole. */
    #size() {
        const last = this.#length[this.#length.length - 1];
        if (last >= 0x80 && this.#length.length < LENGTH_BYTES_MAX) return undefined;
        let size;
        try {
            size = new Reader(Uint8Array.from(this.#length), exact).varint();
        } catch {
            throw new Refused('length_varint');
        }
        if (size === 0) throw new Refused('length_zero');
        if (size > this.#bytesMax) throw new Refused('frame_too_large');
        return size;
    }
}

/** The name and the fields of a frame that was cut out of the stream. */
export function decode(direction, { kind, body }, wide = exact) {
    return readFrame(direction, kind, new Reader(body, wide));
}

/** The whole frame. */
export function encode(direction, name, fields) {
    const frame = new Writer();
    writeFrame(direction, name, fields, frame);
    if (frame.bytes.length > FRAME_BYTES_MAX[direction]) {
        throw new RangeError(`a ${name} of ${frame.bytes.length} bytes; at most ${FRAME_BYTES_MAX[direction]} are allowed`);
    }
    const whole = new Writer();
    whole.sized(frame.bytes);
    return whole.bytes.slice();
}
