// Ids that nobody else has, by chance.

/** Node 18 has it in a module alone. */
const webCrypto = globalThis.crypto ?? (await import('node:crypto')).webcrypto;

/** From all 64 bits, and not 0: of a device that nobody gave one, and of a group (SPEC 3.8). */
export function randomId() {
    const [id] = webCrypto.getRandomValues(new BigUint64Array(1));
    return id === 0n ? 1n : id;
}

/** Of milliseconds since 1970, for as long as anybody will run this. */
const TIME_DIGITS = 16;

/** An id of a message in a store, behind the last one: ascending over all tabs and runs as far as their clock does, and nobody else's. */
export function nextMessageId(last) {
    const [chance] = webCrypto.getRandomValues(new Uint32Array(1));
    const time = Math.max(Date.now(), Number(last.slice(0, TIME_DIGITS) || 0) + 1);
    return `${String(time).padStart(TIME_DIGITS, '0')}-${chance.toString(16).padStart(8, '0')}`;
}
