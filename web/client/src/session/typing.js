// Who types: what is said of the own person, and what is told of others until it ends (SPEC 4.35, 4.39).
//
// Invariants: at most TYPING_MAX conversations are remembered, and as many people told of; nothing waits for a connection.

import { conversationKey } from '../codec/types.js';
import { TYPING_AGAIN_AFTER_MS, TYPING_MAX, TYPING_SHOWN_MAX_MS } from '../limits.js';

export class Typing {
    /** Where somebody types here, to be said with this turn; by key. */
    #wanted = new Map();
    /** When that was said; by key. */
    #said = new Map();
    /** Who types there, as the application was told; by key and user. */
    #told = new Map();

    /** Somebody types here. */
    want(conversation) {
        if (this.#wanted.size < TYPING_MAX) this.#wanted.set(conversationKey(conversation), conversation);
    }

    /** What is to be said now; what was said a moment ago is left out. */
    takeFrames(now) {
        for (const [key, at] of this.#said) if (now - at >= TYPING_AGAIN_AFTER_MS) this.#said.delete(key);
        const frames = [];
        for (const [key, conversation] of this.#wanted) {
            if (this.#said.has(key) || this.#said.size >= TYPING_MAX) continue;
            this.#said.set(key, now);
            frames.push({ name: 'typing', fields: { conversation } });
        }
        this.#wanted.clear();
        return frames;
    }

    /** The server says that somebody types: whether the application does not know it yet. */
    types(now, conversation, user, endsInMs) {
        const until = now + Math.min(endsInMs, TYPING_SHOWN_MAX_MS);
        const key = keyOf(conversation, user);
        const isKnown = this.#told.has(key);
        if (!isKnown && this.#told.size >= TYPING_MAX) return false;
        this.#told.set(key, { conversation, user, until });
        return !isKnown;
    }

    /** A message of this user has come: who types no more. */
    wrote(conversation, user) {
        const told = this.#told.get(keyOf(conversation, user));
        return this.#end((other) => other === told);
    }

    ended(now) {
        return this.#end((told) => told.until <= now);
    }

    /** The connection is gone, and nobody tells any more. */
    disconnected() {
        this.#wanted.clear();
        return this.#end(() => true);
    }

    get deadline() {
        const times = [...this.#told.values()].map((told) => told.until);
        return times.length > 0 ? Math.min(...times) : undefined;
    }

    #end(ends) {
        const ended = [...this.#told].filter(([, told]) => ends(told));
        for (const [key] of ended) this.#told.delete(key);
        return ended.map(([, { conversation, user }]) => ({ conversation, user }));
    }
}

const keyOf = (conversation, user) => `${conversationKey(conversation)} ${user}`;
