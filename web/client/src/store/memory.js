// A store that lasts as long as its program: for tests, and for programs that keep nothing. The device id is new with each.

import { CommitRefused, LOG_ENTRIES_MAX, answersAfter } from './changes.js';
import { randomId } from './device.js';

export class MemoryStore {
    #device = randomId();
    #log = new Map();
    #messages = new Map();
    #answers = [];
    #position = null;
    #epoch = 0n;
    #since = 0;
    #discards = 0;
    #shared = new Map();

    async load() {
        const messages = [...this.#messages.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
        return {
            device: this.#device,
            epoch: this.#epoch,
            since: this.#since,
            position: this.#position,
            discards: this.#discards,
            messages,
        };
    }

    /** `only`: { key, holds } of what tabs agree on; throws CommitRefused if that does not hold, and nothing is changed. */
    async commit(changes, only) {
        if (only !== undefined && !only.holds(this.#shared.get(only.key))) throw new CommitRefused(only.key);
        for (const change of changes) this.#make(change);
        this.#answers = answersAfter(this.#answers, changes);
        // In the order in which they came, which is that of their seqs.
        for (const seq of this.#log.keys()) {
            if (this.#log.size <= LOG_ENTRIES_MAX) break;
            this.#log.delete(seq);
        }
    }

    #make({ op, ...change }) {
        switch (op) {
            case 'message':
                return this.#messages.set(change.id, change);
            case 'answered':
                return this.#messages.delete(change.id);
            case 'entry':
                return this.#log.set(change.entry.seq, change.entry);
            case 'position':
                this.#position = change.position;
                this.#epoch = change.epoch;
                this.#since = change.since;
                return undefined;
            case 'discard':
                this.#log.clear();
                this.#position = null;
                this.#epoch = 0n;
                this.#since = 0;
                this.#discards++;
                return undefined;
            default:
                throw new TypeError(`no change is called ${op}`);
        }
    }

    async entries(from = 1, limit = LOG_ENTRIES_MAX) {
        return [...this.#log.values()].filter((entry) => entry.seq >= from).slice(0, limit);
    }

    async answers() {
        return this.#answers;
    }

    /** What several tabs agree on: reads the value under a key and writes what `change` makes of it, in one step. */
    async update(key, change) {
        const value = change(this.#shared.get(key));
        this.#shared.set(key, value);
        return value;
    }

    /** Other tabs never wait for it. */
    pause() {}

    resume() {}

    async close() {}
}
