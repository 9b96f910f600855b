// Why a connection ends: thrown where it is found, caught at the end of the turn.

/** `then`: retry, redirect, token, end. `reason` is { kind, … } and in `words` for a person. */
export class Stop extends Error {
    constructor(then, reason, more = {}) {
        super(reason.words);
        this.name = 'Stop';
        this.then = then;
        this.reason = reason;
        Object.assign(this, more);
    }
}

const retry = (reason, more) => new Stop('retry', reason, { retryAfterMs: 0, isLong: false, ...more });

export const retryAfter = retry;
/** The server breaks a rule of its own: close, and resume (SPEC, at the beginning). */
export const protocolFault = (words) => retry({ kind: 'protocol', words: `the server broke the protocol: ${words}` });
export const hole = (position, next) =>
    retry({ kind: 'hole', position, next, words: `the push left out what follows seq ${position} and went on at ${next}` });
export const notRingpost = (words) => retry({ kind: 'not_ringpost', words: `who answers is no Ringpost server: ${words}` });

/** How often something has happened of late, and when first. */
export class Lately {
    #times = 0;
    #first = 0;

    /** It happens again: how often it has, with this time, within so many milliseconds. */
    again(now, withinMs) {
        if (this.#times === 0 || now - this.#first >= withinMs) {
            this.#times = 0;
            this.#first = now;
        }
        return ++this.#times;
    }
}
