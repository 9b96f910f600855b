// Receipts: what this device has of groups, said now and then (SPEC 4.48). However many entries come, it is one frame for each group.

import { ACKNOWLEDGE_GROUPS_AFTER_MS } from '../limits.js';

export class Receipts {
    #said = new Map();
    #unsaid = new Map();
    #due;

    /** This device has that entry. */
    has(group, seq) {
        if (seq > (this.#said.get(group) ?? 0)) this.#unsaid.set(group, Math.max(this.#unsaid.get(group) ?? 0, seq));
    }

    /** Nothing counts any more: the log is another one. */
    forget() {
        this.#said.clear();
        this.#unsaid.clear();
        this.#due = undefined;
    }

    get deadline() {
        return this.#due;
    }

    /** What is to be said now, if it is time. */
    take(now) {
        if (this.#unsaid.size === 0) return [];
        if (this.#due === undefined) this.#due = now + ACKNOWLEDGE_GROUPS_AFTER_MS;
        return this.#due <= now ? this.takeAll() : [];
    }

    /** All that is to be said, because the connection ends. */
    takeAll() {
        const frames = [...this.#unsaid].map(([group, upTo]) => ({ name: 'acknowledge_group', fields: { group, up_to: upTo } }));
        for (const [group, upTo] of this.#unsaid) this.#said.set(group, upTo);
        this.#unsaid.clear();
        this.#due = undefined;
        return frames;
    }
}
