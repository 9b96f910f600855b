// Ids that nobody else has, by chance.

/** From all 64 bits, and not 0: of a device that nobody gave one, and of a group (SPEC 3.8). */
export function randomId() {
    const [id] = crypto.getRandomValues(new BigUint64Array(1));
    return id === 0n ? 1n : id;
}

/** Of milliseconds since 1970, for as long as anybody will run this. */
const TIME_DIGITS = 16;

/** An id of a message in a store, behind the last one: ascending over all tabs and runs as far as their clock does, and nobody else's. */
export function nextMessageId(last) {
    const [chance] = crypto.getRandomValues(new Uint32Array(1));
    const time = Math.max(Date.now(), Number(last.slice(0, TIME_DIGITS) || 0) + 1);
    return `${String(time).padStart(TIME_DIGITS, '0')}-${chance.toString(16).padStart(8, '0')}`;
}
