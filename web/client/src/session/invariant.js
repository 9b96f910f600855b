// An invariant is a sentence and a check, in production too: exactly-once rests on these.

/** Throws if what must hold does not: a fault of this library, not of who calls it or of the server. */
export function invariant(holds, what) {
    if (!holds) throw new Error(`Ringpost client: ${what}. This is a fault of the library; please report it with the steps before it.`);
}
