// Ids that nobody else has, by chance.

/** From all 64 bits, and not 0: of a device that nobody gave one, and of a group (SPEC 3.8). */
export function randomId() {
    const [id] = crypto.getRandomValues(new BigUint64Array(1));
    return id === 0n ? 1n : id;
}
