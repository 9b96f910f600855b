// Turns: which conversations may be written to now.
//
// A server may refuse a message because of the conversation that it opens, and take those to others (SPEC 8.1, 10). Until a message to a
// conversation was accepted on this connection, the next ones to it wait for that: so one that is refused is not overtaken by a later
// one, and only it has to wait. Conversations are named by their keys here.

import { OPEN_CONVERSATIONS_MAX } from '../limits.js';

export class Turns {
    /** Where messages were accepted on this connection, the last one at the end. */
    #open = [];
    /** What the next message waits for: the `answer` to the one before it, and a time. At most as many as there are messages. */
    #waiting = new Map();

    maySend(now, to) {
        const wait = this.#waiting.get(to);
        return wait === undefined || (!wait.answer && wait.until <= now);
    }

    /** A message to there will leave. Whether the next one has to wait for its answer. */
    sends(to) {
        const isFirst = !this.#open.includes(to);
        if (isFirst) this.#waiting.set(to, { answer: true, until: 0 });
        return isFirst;
    }

    /** A message to there was accepted. That does not help those who wait for another one. */
    accepted(to) {
        if (this.#waiting.get(to)?.answer) return;
        this.#waiting.delete(to);
        if (this.#open[this.#open.length - 1] === to) return;
        this.#open = this.#open.filter((open) => open !== to);
        this.#open.push(to);
        if (this.#open.length > OPEN_CONVERSATIONS_MAX) this.#open.shift();
    }

    /** Messages to there are refused for so long. */
    refusedUntil(now, to, waitMs) {
        this.#open = this.#open.filter((open) => open !== to);
        for (const [key, wait] of this.#waiting) if (!wait.answer && wait.until <= now) this.#waiting.delete(key);
        const answer = this.#waiting.get(to)?.answer ?? false;
        this.#waiting.set(to, { answer, until: now + waitMs });
    }

    isRefused(now, to) {
        return (this.#waiting.get(to)?.until ?? 0) > now;
    }

    /** The message to there whose answer the next one waits for has it, or will not get one. */
    answered(to) {
        const wait = this.#waiting.get(to);
        if (wait === undefined) return;
        wait.answer = false;
        if (wait.until === 0) this.#waiting.delete(to);
    }

    /** The connection is gone, and with it what the server knew. */
    disconnected() {
        this.#open = [];
        for (const [key, wait] of this.#waiting) {
            wait.answer = false;
            if (wait.until === 0) this.#waiting.delete(key);
        }
    }

    /** When the next of those that are refused for a time may be written to. */
    deadline(now) {
        const times = [...this.#waiting.values()].map((wait) => wait.until).filter((until) => until > now);
        return times.length > 0 ? Math.min(...times) : undefined;
    }
}
