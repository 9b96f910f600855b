// The list of a user's conversations, kept right by what is pushed (SPEC 8.6). Pure.
//
// Pages of the inbox are laid under the entries of the log: each row knows up to where it says what the log says, and takes the entries
// above that.

import { conversationKey } from './codec/types.js';
import { conversationOf, isReaction, placeOf } from './codec/entries.js';
import { UNREAD_MAX } from './limits.js';

export class Conversations {
    /** { row, at, countedUpTo, counted } by where the last message stands, the newest first; see `#take`. */
    #rows = [];
    /** Conversations whose last message stands here or later have been in a page; undefined: there was no page yet. */
    #reached = undefined;
    /** The oldest conversation is among them. */
    #isWhole = false;

    /** The conversations that are known, as rows of an inbox (SPEC 4.21), from the one with the newest message on. */
    get rows() {
        return this.#rows.map(({ row }) => row);
    }

    /** The `before` of the page to ask for next; undefined if the oldest conversation is known, or no page has come. */
    get older() {
        return this.#isWhole ? undefined : this.#reached;
    }

    /** Takes the page before a place, as it came on the connection: what was pushed before it is in it, as its `at` says. */
    page(before, { at, more, rows }) {
        const oldest = rows.length > 0 ? placeOf(rows[rows.length - 1].last) : undefined;
        const keys = new Set(rows.map(({ conversation }) => conversationKey(conversation)));
        this.#rows = this.#rows.filter(({ row }) => !keys.has(conversationKey(row.conversation)));
        for (const row of rows) this.#rows.push({ row, at, countedUpTo: at, counted: new Set() });
        this.#sort();
        // Only the page that reaches furthest knows whether there are more, and it must leave no gap.
        const joins = before === 0 || this.#reached === undefined || before >= this.#reached;
        if (!joins || !(oldest === undefined || this.#reached === undefined || oldest <= this.#reached)) return;
        this.#reached = oldest ?? this.#reached ?? at;
        this.#isWhole = !more;
    }

    /**
     * Takes an entry of the log, in its order. Gives the `before` of the page to ask for if it is a message of a conversation that was in no
     * page; else undefined.
     */
    entry(entry) {
        const conversation = conversationOf(entry) ?? (entry.peer === undefined ? undefined : { user: entry.peer });
        // A reaction changes nothing in a row, nor does any entry about a group.
        if (conversation?.user === undefined || isReaction(entry)) return undefined;
        const key = conversationKey(conversation);
        const of = this.#rows.find(({ row }) => conversationKey(row.conversation) === key);
        if (entry.kind === 'deleted' && of !== undefined && placeOf(of.row.last) === entry.place) {
            // What was written before it is the last message now, if anything was: it stands anywhere below.
            this.#rows = this.#rows.filter((other) => other !== of);
            this.#reached = Math.max(this.#reached ?? 0, entry.place);
            this.#isWhole = false;
            return entry.place;
        }
        if (of !== undefined) {
            if (entry.seq > of.at && this.#take(of, entry)) this.#sort();
            return undefined;
        }
        const place = placeOf(entry);
        // What is said of an old message changes nothing for who has not looked so far back.
        return place !== undefined && (this.older === undefined || place > this.older) ? place + 1 : undefined;
    }

    #sort() {
        this.#rows.sort((a, b) => placeOf(b.row.last) - placeOf(a.row.last));
    }

    /** Takes the next entry of the conversation: whether the last message is another one now, or says something else. */
    #take(of, entry) {
        of.at = entry.seq;
        const row = { ...of.row };
        of.row = row;
        switch (entry.kind) {
            case 'received':
                this.#count(of, placeOf(entry), entry.content);
                break;
            case 'delivered':
                row.delivered_up_to = entry.up_to;
                break;
            case 'seen':
                row.seen_up_to = entry.up_to;
                break;
            case 'read':
                row.read_up_to = entry.up_to;
            // Both say how many are unread.
            case 'deleted':
                row.unread = entry.unread;
                of.countedUpTo = entry.seq;
                of.counted = new Set();
                break;
            case 'settings':
                row.settings = entry.settings;
        }
        const place = placeOf(entry);
        const isLast = place !== undefined && place >= placeOf(row.last);
        if (isLast) {
            row.last = entry;
            row.left_out = 0;
        }
        return isLast;
    }

    /** A message was received, or changed. One that was changed before it was pushed comes as its change alone, and is counted then. */
    #count(of, place, { unsend }) {
        if (place === undefined || place <= of.row.read_up_to) return;
        // Whether it is one of "many", and how many are left, only the next read mark or page can tell.
        if (of.row.unread > UNREAD_MAX) return void of.counted.clear();
        const isCounted = place <= of.countedUpTo || of.counted.has(place);
        if (unsend !== undefined && isCounted) of.row.unread = Math.max(0, of.row.unread - 1);
        if (unsend === undefined && !isCounted) {
            of.row.unread++;
            of.counted.add(place);
        }
        return undefined;
    }
}
