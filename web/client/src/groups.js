// What a client holds of the user's groups (SPEC 8.12): how the user stands to each, how far its log has come, and the newest part of that
// log. Pure.
//
// Pushes and pages are laid together by the group's seqs, so it makes no difference by which of them an entry came, nor what a lost
// connection has swallowed: the pointer says how far the group is, and `lacks` where to fetch.

import { aboutMessage, isMessage } from './codec/content.js';
import { GROUP_AHEAD_MAX, GROUP_ENTRIES_MAX, QUEUED_MESSAGES_MAX } from './limits.js';

/** The part of a group's log that is held without a gap, and what was pushed behind a gap. */
class Span {
    /** Everything from `first` to `last` is held, entries or not; undefined: nothing is. */
    first;
    last;
    entries = new Map();
    #ahead = new Map();

    push(entry) {
        if (this.first === undefined) return this.#begin(entry.seq, entry.seq, [entry]);
        if (entry.seq > this.last + 1) {
            this.#ahead.set(entry.seq, entry);
            if (this.#ahead.size > GROUP_AHEAD_MAX) this.#ahead.delete(Math.min(...this.#ahead.keys()));
        } else if (entry.seq === this.last + 1) {
            this.#join(entry.seq, entry.seq, [entry]);
        }
        return undefined;
    }

    /** A range of the log that is had, with its entries: whether it goes on from what was held, or is the first, or is so much newer. */
    range(first, last, entries) {
        if (last < first) return;
        const isBehindGap = this.first !== undefined && first > this.last + 1;
        if (this.first === undefined || isBehindGap) this.#begin(first, last, entries);
        // What does not touch what is held is older, and there is nowhere to keep it.
        else if (last >= this.first - 1) this.#join(first, last, entries);
    }

    #begin(first, last, entries) {
        this.first = first;
        this.last = first - 1;
        this.entries.clear();
        this.#join(first, last, entries);
    }

    #join(first, last, entries) {
        for (const entry of entries) this.entries.set(entry.seq, entry);
        this.first = Math.min(this.first, first);
        this.last = Math.max(this.last, last);
        for (let next; (next = this.#ahead.get(this.last + 1)) !== undefined; this.last++) this.entries.set(next.seq, next);
        for (const seq of this.#ahead.keys()) if (seq <= this.last) this.#ahead.delete(seq);
        const seqs = [...this.entries.keys()].sort((a, b) => a - b);
        const dropped = seqs.slice(0, Math.max(0, seqs.length - GROUP_ENTRIES_MAX));
        for (const seq of dropped) this.entries.delete(seq);
        if (dropped.length > 0) this.first = dropped[dropped.length - 1] + 1;
    }

    /** Nothing is held any more. */
    clear() {
        this.first = undefined;
        this.last = undefined;
        this.entries.clear();
        this.#ahead.clear();
    }
}

/** What is known of one group. */
export class Group {
    standing = 'unknown';
    /** The first seq that the user may read as the member that they are, or were last; 0: not known. */
    first = 0;
    /** How far its log has come, as far as it was told. */
    reached = 0;
    readUpTo = 0;
    settings = 0n;
    /** Its row (SPEC 4.44), as it was asked for last. */
    row = undefined;
    /** What the user sent and the group has not answered: contents by their seq in the own log. */
    unanswered = new Map();
    span = new Span();
    /** Seqs of the own log that the read mark and the settings are of. */
    #readAt = 0;
    #settingsAt = 0;
    #deleted = new Set();

    /** Takes an entry of the user's log that is about this group. */
    entry(entry) {
        switch (entry.kind) {
            case 'group':
                // Who is added again may read more than before, so what was fetched is had no more.
                if (this.first === 0 || entry.first < this.first) this.span.clear();
                this.standing = entry.standing;
                this.first = entry.first;
                this.reached = Math.max(this.reached, entry.up_to);
                for (const seq of this.unanswered.keys()) if (seq <= entry.sent_up_to) this.unanswered.delete(seq);
                break;
            case 'group_refused':
                this.unanswered.delete(entry.origin);
                break;
            case 'sent_to_group':
                this.unanswered.set(entry.seq, entry.content);
                if (this.unanswered.size > QUEUED_MESSAGES_MAX) this.unanswered.delete(Math.min(...this.unanswered.keys()));
                break;
            case 'group_read':
                this.#setRead(entry.seq, entry.up_to);
                break;
            case 'group_settings':
                this.#setSettings(entry.seq, entry.settings);
                break;
            case 'group_deleted':
                this.#deleted.add(entry.place);
                if (this.#deleted.size > GROUP_ENTRIES_MAX) this.#deleted.delete(Math.min(...this.#deleted));
        }
    }

    pushed(entry) {
        this.reached = Math.max(this.reached, entry.seq);
        this.span.push(entry);
    }

    page(direction, { first, last, more, head, entries }) {
        this.reached = Math.max(this.reached, head);
        // Where there is no more, nothing that lies beyond is the user's to read: it is had.
        if (direction === 'forwards') this.span.range(first, more ? last : Math.max(last, this.reached), entries);
        else this.span.range(more ? first : 1, last, entries);
    }

    setRow(at, row) {
        this.row = row;
        this.standing = row.standing;
        this.reached = Math.max(this.reached, row.head);
        this.#setRead(at, row.read_up_to);
        this.#setSettings(at, row.settings);
    }

    #setRead(at, readUpTo) {
        if (at < this.#readAt) return;
        this.#readAt = at;
        this.readUpTo = readUpTo;
    }

    #setSettings(at, settings) {
        if (at < this.#settingsAt) return;
        this.#settingsAt = at;
        this.settings = settings;
    }

    /** What to fetch so that the newest part is whole: `from` and `direction`; undefined if nothing is lacking. */
    get lacks() {
        if (this.span.last === undefined) return this.reached > 0 ? { from: 0, direction: 'backwards' } : undefined;
        return this.reached > this.span.last ? { from: this.span.last + 1, direction: 'forwards' } : undefined;
    }

    /** What to fetch to see more of what was before; undefined if there is no more. */
    get older() {
        const { first } = this.span;
        return first === undefined || first <= 1 ? undefined : { from: first - 1, direction: 'backwards' };
    }

    /**
     * The messages that are held, as they are shown: { place, author, entry, reactions }, by ascending place. `entry` says what the message
     * says now (an `unsend`: nothing any more), `reactions` is a map from users to what they feel. Acts are { place, author, entry } too.
     */
    get messages() {
        const said = new Map();
        const reactions = new Map();
        const newer = (map, key, entry) => {
            if (!map.has(key) || map.get(key).seq < entry.seq) map.set(key, entry);
        };
        for (const entry of this.span.entries.values()) {
            const about = aboutMessage(entry.content);
            const place = about?.author_seq ?? entry.seq;
            if (entry.content.reaction === undefined) newer(said, place, entry);
            else newer(reactions.get(place) ?? reactions.set(place, new Map()).get(place), entry.from, entry);
        }
        const felt = (place) => {
            const all = [...(reactions.get(place) ?? [])].filter(([, { content }]) => content.reaction.reaction !== '');
            return new Map(all.map(([user, { content }]) => [user, content.reaction.reaction]));
        };
        return [...said]
            .filter(([place]) => !this.#deleted.has(place))
            .sort(([a], [b]) => a - b)
            .map(([place, entry]) => ({ place, author: entry.from, entry, reactions: entry.content.unsend === undefined ? felt(place) : new Map() }));
    }

    /** Messages of others above the read mark, among those that are held; undefined if some are missing between: then the row says it. */
    unread(me) {
        const from = Math.max(this.readUpTo + 1, this.first);
        if (this.lacks !== undefined || (this.span.first ?? 1) > from) return undefined;
        const isUnread = ({ place, author, entry }) => {
            const says = entry.content.edit?.content ?? entry.content;
            return place >= from && author !== me && isMessage(says);
        };
        return this.messages.filter(isUnread).length;
    }
}

/** The groups of a user, by their ids. Begins with nothing known. */
export class Groups {
    #groups = new Map();

    /** The group of this id: what is known of it. */
    get(group) {
        if (!this.#groups.has(group)) this.#groups.set(group, new Group());
        return this.#groups.get(group);
    }

    get all() {
        return [...this.#groups];
    }

    /** Takes an entry of the user's log, in its order; those that are not about a group change nothing. */
    entry(entry) {
        if (entry.group !== undefined) this.get(entry.group).entry(entry);
    }

    /** Takes an entry that was pushed (`group_entry`). */
    pushed(group, entry) {
        this.get(group).pushed(entry);
    }

    /** Takes a page of a group, which was fetched in this direction. */
    page(direction, page) {
        this.get(page.group).page(direction, page);
    }

    /** Takes a page of the list of groups. */
    rows({ at, rows }) {
        for (const row of rows) this.get(row.group).setRow(at, row);
    }

    /** The log was replaced, or something of it skipped: nothing is known any more. */
    discard() {
        this.#groups.clear();
    }
}
