// Where in the user's log this device is (SPEC 8.2).
//
// Invariants: everything up to `position` has been handed out (or was superseded, or lies before the start); nothing above it has; what
// was skipped up to `since` aside. confirmed <= position: what the application has stored, and from where a new connection resumes.
// acknowledged <= confirmed: what the server was told.

import { isReaction, placeOf } from '../codec/entries.js';
import { Epochs } from './epochs.js';
import { invariant } from './invariant.js';
import { hole, protocolFault } from './stop.js';

export class Position {
    #resume;
    #acknowledging;
    #skipAbove;
    /** Of what stands up to here the application may lack something. */
    #since;
    /** Up to where this connection was brought, as the server counts it: before `position` after a resume from what was confirmed. */
    #here = 0;
    /** { position, confirmed, acknowledged }; undefined before the first welcome: only the server knows where `stored` and `live` begin. */
    #at;
    #epochs;

    constructor({ resume, epoch, since, skip_above: skipAbove, acknowledging }) {
        this.#acknowledging = acknowledging;
        this.#skipAbove = skipAbove;
        this.#begin(resume, epoch, since);
    }

    /** `resume`: 'stored', 'live' or { after: seq }. */
    #begin(resume, epoch, since) {
        const seq = resume.after;
        this.#resume = resume;
        this.#at = seq === undefined ? undefined : { position: seq, confirmed: seq, acknowledged: seq };
        // It says something of a position only.
        this.#epochs = new Epochs(seq === undefined ? 0n : epoch);
        this.#since = seq === undefined ? 0 : Math.min(since, seq);
        this.#here = 0;
    }

    /** What the device holds is of another log: it holds nothing from now on. */
    beginAnew() {
        this.#begin(this.#resume === 'live' ? 'live' : { after: 0 }, 0n, 0);
    }

    /** What the hello says. With an application that has not confirmed everything, the server pushes again what it was handed already. */
    get hello() {
        const { after } = this.#at === undefined ? this.#resume : { after: this.#at.confirmed };
        const resume = after === undefined ? this.#resume : 'after';
        return { resume, resume_seq: after ?? 0, epoch: this.epoch, since: this.#since, skip_above: this.#skipAbove };
    }

    get position() {
        return this.#at?.position;
    }

    get since() {
        return this.#since;
    }

    /** The newest epoch of which the device holds something; 0 if there is none. */
    get epoch() {
        return this.#at === undefined ? 0n : this.#epochs.newest(this.#at.position);
    }

    /** The application has everything that stands after `since` by now. */
    filled(since) {
        this.#since = Math.min(this.#since, since);
    }

    epochBegins(first, epoch) {
        return this.#epochs.begins(first, epoch, this.position ?? 0);
    }

    /** Whether a log that ends at `head` has less than this device holds. */
    isBeyond(head) {
        return this.#at !== undefined && this.#at.position > head;
    }

    /** The server will push what follows `cursor`. After which seq what it has skipped begins, if it has. */
    welcome({ cursor, epoch, skipped }) {
        if (skipped > 0) return this.#skip(cursor, epoch, skipped);
        if (this.epoch === 0n) this.#epochs = new Epochs(epoch);
        if (this.#at === undefined) {
            this.#at = { position: cursor, confirmed: cursor, acknowledged: cursor };
            if (this.#resume === 'live') this.#since = cursor;
        } else {
            if (cursor > this.#at.position) throw hole(this.#at.position, cursor + 1);
            // `after` counts as an acknowledgement.
            this.#at.acknowledged = this.#at.confirmed;
        }
        this.#here = cursor;
        this.#invariants();
        return undefined;
    }

    /** The log goes on behind a gap. */
    #skip(cursor, epoch, skipped) {
        if (this.#skipAbove === 0 || skipped > cursor || this.isBeyond(cursor)) {
            throw protocolFault(`${skipped} seqs were skipped before ${cursor}`);
        }
        const after = this.position ?? cursor - skipped;
        this.#epochs = new Epochs(epoch);
        this.#at = { position: cursor, confirmed: cursor, acknowledged: cursor };
        this.#here = cursor;
        this.#since = cursor;
        return after;
    }

    /** The next entry was pushed: whether it is new. */
    deliver({ seq }) {
        return this.#cover(seq, seq);
    }

    /** A page was pushed: its entries that are new. */
    page(page) {
        checkPage(page);
        const known = this.position ?? 0;
        // An empty range speaks for nothing.
        if (page.last < page.first || !this.#cover(page.first, page.last)) return [];
        return page.entries.filter((entry) => entry.seq > known);
    }

    /** An own message was accepted: whether that is the only time that this connection hears of the entry, and it is new. */
    accepted(seq) {
        return seq === this.#here + 1 && this.#cover(seq, seq);
    }

    /** The application has stored everything up to `seq`. What it was not handed is not taken. */
    confirm(seq) {
        if (this.#at === undefined) return;
        this.#at.confirmed = Math.max(this.#at.confirmed, Math.min(seq, this.#at.position));
        this.#invariants();
    }

    /** What the server has not been told yet; undefined if there is nothing. */
    get unacknowledged() {
        if (this.#at === undefined) return undefined;
        const confirmed = Math.min(this.#at.confirmed, this.#here);
        return this.#at.acknowledged < confirmed ? confirmed : undefined;
    }

    acknowledged(seq) {
        this.#at.acknowledged = seq;
        this.#invariants();
    }

    /** The server has spoken for first to last: whether any of it is new. */
    #cover(first, last) {
        if (first > this.#here + 1) throw hole(this.#here, first);
        this.#here = Math.max(this.#here, last);
        if (last <= this.#at.position) return false;
        this.#at.position = last;
        if (this.#acknowledging === 'when_handed_out') this.#at.confirmed = last;
        this.#invariants();
        return true;
    }

    #invariants() {
        const { position, confirmed, acknowledged } = this.#at ?? { position: 0, confirmed: 0, acknowledged: 0 };
        invariant(acknowledged <= confirmed && confirmed <= position, 'more was acknowledged than there is');
    }
}

/**
 * Entries ascend and lie in the range that the page speaks for: by their seqs or, in a page of a conversation, by where they stand, where
 * reactions follow what they are about.
 */
export function checkPage(page) {
    const wrong = (placeOfEntry) => {
        let previous = page.first - 1;
        return page.entries.find((entry) => {
            const place = placeOfEntry(entry);
            const isInside = place !== undefined && page.first <= place && place <= page.last;
            const follows = place > previous || (place === previous && isReaction(entry));
            previous = place;
            return !isInside || !follows;
        });
    };
    const entry = wrong((of) => of.seq);
    if (entry !== undefined && (page.request === 0 || wrong(placeOf) !== undefined)) {
        throw protocolFault(`seq ${entry.seq} in a page of ${page.first} to ${page.last}`);
    }
}

/** The same of a page of a group. */
export function checkGroupPage(page) {
    let above = page.first - 1;
    for (const { seq } of page.entries) {
        if (seq <= above || seq > page.last) {
            throw protocolFault(`seq ${seq} in a page of ${page.first} to ${page.last} of group ${page.group}`);
        }
        above = seq;
    }
}
