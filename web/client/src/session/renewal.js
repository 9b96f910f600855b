// Renewal: the token of the next hello, and a newer one on a live connection (SPEC 4.15, 8.4). At most one refresh awaits its answer.

export class Renewal {
    #newest;
    /** The one that the server has taken last. */
    #good;
    /** That of the last hello: good if it is welcome. */
    #hello;
    /**
     * How far the newest token has come. done: the connection has it, or the next hello will carry it. due: it leaves from `#at` on.
     * in flight: nobody has answered yet. outdated: an older one is in flight, and this one follows. refused: it is not sent again.
     */
    #stage = 'done';
    #at = 0;

    constructor(token) {
        this.#newest = token;
        this.#good = token;
        this.#hello = token;
    }

    /** There is another token. The one that is known already changes nothing. */
    begin(token) {
        if (token === this.#newest) return;
        this.#newest = token;
        const isInFlight = this.#stage === 'in flight' || this.#stage === 'outdated';
        this.#stage = isInFlight ? 'outdated' : 'due';
        this.#at = 0;
    }

    /** Whether the connection was let in with another token than the newest, which has not been refused. */
    get hasNewer() {
        return this.#stage === 'due' || this.#stage === 'in flight' || this.#stage === 'outdated';
    }

    get deadline() {
        return this.#stage === 'due' ? this.#at : undefined;
    }

    /** Which token the next hello carries. */
    tokenOfHello() {
        if (this.#stage === 'refused') {
            this.#hello = this.#good;
        } else {
            this.#stage = 'done';
            this.#hello = this.#newest;
        }
        return this.#hello;
    }

    welcome() {
        this.#good = this.#hello;
    }

    /** The frame to be sent now, if it is time. */
    nextFrame(now) {
        if (this.#stage !== 'due' || this.#at > now) return undefined;
        this.#stage = 'in flight';
        return { name: 'refresh', fields: { token: this.#newest } };
    }

    /** The server has taken the token that was sent. False, here and below: nothing was sent. */
    accepted() {
        const wasAsked = this.#answered('done');
        if (wasAsked && this.#stage === 'done') this.#good = this.#newest;
        return wasAsked;
    }

    /** The server has not taken it. */
    refused() {
        return this.#answered('refused');
    }

    /** The server knows no refresh: the next hello carries it. */
    notKnown() {
        return this.#answered('done');
    }

    /** The server will judge it later. */
    putOff(at) {
        const wasAsked = this.#answered('due');
        if (wasAsked && this.#stage === 'due') this.#at = Math.max(this.#at, at);
        return wasAsked;
    }

    #answered(stage) {
        if (this.#stage === 'outdated') {
            this.#stage = 'due';
            this.#at = 0;
            return true;
        }
        if (this.#stage !== 'in flight') return false;
        this.#stage = stage;
        return true;
    }
}
