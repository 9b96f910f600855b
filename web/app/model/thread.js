// The messages of a conversation with a user, by its pages and by entries of the own log laid together (SPEC 5.4.5). Pure.
//
// Of two entries with one place the one with the higher seq says what the message says, and of two reactions of one user to it likewise. So
// it makes no difference in which order they come, nor whether a page was on its way meanwhile.

import { placeOf } from '/client/index.js';

export class Thread {
    deliveredUpTo = 0;
    seenUpTo = 0;
    /** Where the next older page begins: 0 is the head. Undefined: everything is held. */
    older = 0;
    /** A page has come. */
    isLoaded = false;
    /** By place: { place, name, isMine, seq, time, isEdited, content, item }; below `older` there are gaps, and nothing is shown. */
    #messages = new Map();
    /** By place, a map from users to { seq, reaction }. */
    #felt = new Map();
    #deleted = new Set();
    /** The messages by ascending place; undefined: to be made anew. */
    #sorted;
    #me;

    constructor(me) {
        this.#me = me;
    }

    /** Takes a page of the conversation that was fetched backwards. */
    page({ first, more, entries, delivered_up_to: delivered, seen_up_to: seen }) {
        for (const entry of entries) this.#put(entry);
        this.deliveredUpTo = Math.max(this.deliveredUpTo, delivered);
        this.seenUpTo = Math.max(this.seenUpTo, seen);
        this.older = more && first > 1 ? first - 1 : undefined;
        this.isLoaded = true;
    }

    /** Takes an entry that is about this conversation. */
    entry(entry) {
        switch (entry.kind) {
            case 'delivered':
                this.deliveredUpTo = Math.max(this.deliveredUpTo, entry.up_to);
                break;
            case 'seen':
                this.seenUpTo = Math.max(this.seenUpTo, entry.up_to);
                break;
            case 'deleted':
                this.#deleted.add(entry.place);
                this.#messages.delete(entry.place);
                this.#sorted = undefined;
                break;
            case 'received':
            case 'sent':
                this.#put(entry);
        }
    }

    #put(entry) {
        const place = placeOf(entry) ?? this.#placeByName(entry.content.reaction);
        if (place === undefined || this.#deleted.has(place)) return;
        const { content } = entry;
        const isMine = entry.kind === 'sent';
        const author = isMine ? this.#me : entry.from;
        if (content.reaction !== undefined) return void this.#feel(place, author, entry.seq, content.reaction.reaction);
        const known = this.#messages.get(place);
        if (known?.seq >= entry.seq) return;
        const change = content.edit ?? content.unsend;
        const message = {
            place,
            name: { author, author_seq: change?.author_seq ?? (isMine ? entry.seq : entry.origin) },
            isMine,
            seq: entry.seq,
            // What this device changed itself does not say when it was written.
            time: change === undefined ? entry.time : change.written || known?.time || entry.time,
            isEdited: content.edit !== undefined,
            // Undefined: it was taken back.
            content: content.unsend === undefined ? (content.edit?.content ?? content) : undefined,
        };
        this.#messages.set(place, message);
        this.#sorted = undefined;
    }

    /** A reaction of this device names its message alone. */
    #placeByName(reaction) {
        if (reaction === undefined || reaction.place === 0) return undefined;
        const isIt = ({ name }) => name.author === reaction.author && name.author_seq === reaction.author_seq;
        return this.#inOrder.find(isIt)?.place;
    }

    #feel(place, user, seq, reaction) {
        const felt = this.#felt.get(place) ?? this.#felt.set(place, new Map()).get(place);
        if (felt.get(user)?.seq >= seq) return;
        felt.set(user, { seq, reaction });
        const message = this.#messages.get(place);
        if (message !== undefined) message.item = undefined;
    }

    get last() {
        return this.#inOrder.at(-1);
    }

    get #inOrder() {
        this.#sorted ??= [...this.#messages.values()].sort((a, b) => a.place - b.place);
        return this.#sorted;
    }

    /** What is shown, by ascending place. An item that has not changed is the same object as before. */
    get items() {
        return this.#inOrder
            .filter(({ place }) => place > (this.older ?? 0))
            .map((message) => {
                const tick = this.#tick(message);
                if (message.item?.tick !== tick) message.item = undefined;
                message.item ??= this.#itemOf(message, tick);
                return message.item;
            });
    }

    #tick({ isMine, place, content }) {
        if (!isMine || content === undefined) return undefined;
        if (place <= this.seenUpTo) return 'read';
        return place <= this.deliveredUpTo ? 'delivered' : 'logged';
    }

    #itemOf({ place, name, isMine, time, isEdited, content }, tick) {
        const felt = content === undefined ? [] : [...(this.#felt.get(place) ?? [])];
        const reactions = counted(new Map(felt.map(([user, { reaction }]) => [user, reaction])));
        return { key: `at ${place}`, place, name, isMine, time, isEdited, content, tick, reactions };
    }
}

/** Reactions as they are shown: { reaction, users }, those of most users first. `of`: a map from users to what they feel. */
export function counted(of) {
    const all = new Map();
    for (const [user, reaction] of of) {
        if (reaction !== '') (all.get(reaction) ?? all.set(reaction, []).get(reaction)).push(user);
    }
    return [...all].map(([reaction, users]) => ({ reaction, users })).sort((a, b) => b.users.length - a.users.length);
}
