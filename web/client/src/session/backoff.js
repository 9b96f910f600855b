// How long to wait before the next attempt (SPEC 8.5): full jitter, and not before the server allows.

import { BACKOFF_FIRST_MS, BACKOFF_MAX_MS, RETRY_AFTER_MAX_MS } from '../limits.js';

export class Backoff {
    /** Attempts since a connection was last ready for a minute. */
    #attempts = 0;
    #delayMaxMs;

    constructor(delayMaxMs = BACKOFF_MAX_MS) {
        this.#delayMaxMs = delayMaxMs;
    }

    /** The delay before another attempt. `random` is from 0 to 1. */
    delayMs(random, retryAfterMs) {
        const ceiling = Math.min(BACKOFF_FIRST_MS * 2 ** Math.min(this.#attempts, 30), this.#delayMaxMs);
        this.#attempts++;
        // Full jitter comes on top of the server's wish, or all clients would return in the same millisecond.
        return Math.min(retryAfterMs, RETRY_AFTER_MAX_MS) + Math.floor(random * (ceiling + 1));
    }

    reset() {
        this.#attempts = 0;
    }
}
