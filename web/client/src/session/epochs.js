// Which epochs of the log this device was told of (SPEC 3.7, 8.2).
//
// A connection may resume before the position, when the application has not stored all that it was handed. Then the server tells again of
// the epochs that lie between, and each must be one that is known: another one there is that of another log.

import { EPOCHS_KEPT } from '../limits.js';

export class Epochs {
    /** { first, epoch } by ascending first. That of the first one is 0 where only its name was told. */
    #told;

    /** Of a device that was told of this one last; 0: of none. */
    constructor(newest = 0n) {
        this.#told = newest === 0n ? [] : [{ first: 0, epoch: newest }];
    }

    /** The newest one of which a device that holds everything up to `position` holds anything; 0 if there is none. */
    newest(position) {
        for (let at = this.#told.length - 1; at >= 0; at--) if (this.#told[at].first <= position) return this.#told[at].epoch;
        return 0n;
    }

    /** An epoch begins: `new`, `again`, or `other_log`, if what the device holds from there on is of another one. */
    begins(first, epoch, position) {
        if (first <= position) {
            return this.#told.some((told) => told.first === first && told.epoch === epoch) ? 'again' : 'other_log';
        }
        // What was told for beyond the position, before the connection ended, is told again or has become something else.
        this.#told = this.#told.filter((told) => told.first < first);
        this.#told.push({ first, epoch });
        if (this.#told.length > EPOCHS_KEPT) this.#told.shift();
        return 'new';
    }
}
