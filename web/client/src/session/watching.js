// Whom the application watches, what it was told last of each, and the watch that the server has of it (SPEC 4.34, 8.10).
//
// A watch ends by itself, so it is sent again at half of its lifetime, and that of a lost connection is gone. What the server tells no more
// is not known: then every user is `unknown` again, and the application is told.
//
// Invariant: at most one watch awaits its answer.

import { WATCH_AGAIN_AFTER_MIN_MS } from '../limits.js';

const UNKNOWN = { state: 'unknown', last_seen: 0 };
const unknown = (user) => ({ user, ...UNKNOWN });

export class Watching {
    /** By user: { state, last_seen } as the application was told. */
    #users = new Map();
    /** Of whom something was told and who are not watched any more. */
    #dropped = [];
    /** When the next watch leaves; undefined: nobody is watched, the server does not take it, or one is on its way. */
    #due;
    /** The request of the watch that nobody has answered yet, and whether one of another set follows it. */
    #request;
    #isOutdated = false;
    /** When the watch that the server has taken ends. */
    #endsAt;

    /** From now on these are watched, and no others. The same again changes nothing. */
    watch(users) {
        const wanted = new Set(users);
        if (wanted.size === this.#users.size && [...wanted].every((user) => this.#users.has(user))) return;
        for (const [user, told] of this.#users) {
            if (wanted.has(user)) continue;
            if (told.state !== 'unknown') this.#dropped.push(user);
            this.#users.delete(user);
        }
        for (const user of wanted) if (!this.#users.has(user)) this.#users.set(user, UNKNOWN);
        if (this.#request === undefined) this.#due = 0;
        else this.#isOutdated = true;
    }

    /** A server that knows of no watch. */
    connected() {
        this.#due = this.#users.size > 0 ? 0 : undefined;
    }

    /** The connection is gone, and with it the watch: whose states are not known any more. */
    disconnected() {
        this.#due = undefined;
        this.#request = undefined;
        this.#isOutdated = false;
        return this.#forget();
    }

    get deadline() {
        if (this.#due === undefined || this.#endsAt === undefined) return this.#due ?? this.#endsAt;
        return Math.min(this.#due, this.#endsAt);
    }

    /** The watch to be sent now, under a request that `nextRequest` gives; undefined if it is not time. */
    nextFrame(now, nextRequest) {
        if (this.#due === undefined || this.#due > now) return undefined;
        this.#due = undefined;
        this.#request = nextRequest();
        return { name: 'watch', fields: { request: this.#request, users: [...this.#users.keys()] } };
    }

    /** Whose states are not known any more, because the watch has ended, or they are not of it. */
    ended(now) {
        if (this.#endsAt !== undefined && this.#endsAt <= now) return this.#forget();
        return this.#dropped.splice(0).map(unknown);
    }

    /** What is new in the answer to the watch that was sent; undefined: it answers another request. */
    answered(now, { request, lifetime_ms: lifetimeMs, states }) {
        if (!this.#isAwaited(request)) return undefined;
        // Who has too many watchers is asked for with all the others: by then there may be room for one more.
        const asks = states.map((of) => of.ask_again_ms).filter((ms) => ms > 0);
        const againMs = Math.max(Math.min(lifetimeMs / 2, ...asks), WATCH_AGAIN_AFTER_MIN_MS);
        if (this.#isOutdated) this.#due = 0;
        else this.#due = this.#users.size > 0 ? now + againMs : undefined;
        this.#request = undefined;
        this.#isOutdated = false;
        this.#endsAt = this.#users.size > 0 ? now + Math.max(lifetimeMs, WATCH_AGAIN_AFTER_MIN_MS) : undefined;
        return this.changed(states);
    }

    /** The server has not taken the watch; it will from `againAt` on, or never on this connection. False: it was another request. */
    refused(request, againAt) {
        if (!this.#isAwaited(request)) return false;
        this.#due = againAt ?? (this.#isOutdated ? 0 : undefined);
        this.#request = undefined;
        this.#isOutdated = false;
        return true;
    }

    /** What is new in what the server says of users. Nothing, where no watch is known to stand. */
    changed(states) {
        if (this.#endsAt === undefined) return [];
        return states.map((now) => this.#tell(now)).filter((told) => told !== undefined);
    }

    /** No device of this user is connected, as far as one may know: what that changes, if they were shown as there. */
    notThere(user) {
        const state = this.#users.get(user)?.state;
        return state === 'away' || state === 'online' ? this.#tell({ user, state: 'offline', last_seen: 0 }) : undefined;
    }

    /** 0, of a server that can not read it, is any. */
    #isAwaited(request) {
        return this.#request !== undefined && (request === this.#request || request === 0);
    }

    #tell({ user, state, last_seen: lastSeen }) {
        const told = this.#users.get(user);
        if (told === undefined || (told.state === state && told.last_seen === lastSeen)) return undefined;
        this.#users.set(user, { state, last_seen: lastSeen });
        return { user, state, last_seen: lastSeen };
    }

    #forget() {
        this.#endsAt = undefined;
        for (const [user, told] of this.#users) {
            if (told.state !== 'unknown') this.#dropped.push(user);
            this.#users.set(user, UNKNOWN);
        }
        return this.#dropped.splice(0).map(unknown);
    }
}
