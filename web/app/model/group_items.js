// The messages and acts of a group, as they are shown. Pure.

import { isMessage } from '/client/index.js';
import { counted } from './thread.js';

/** By the entry that says what a message says now: an item that has not changed is the same object as before. */
const made = new WeakMap();

/** Items by ascending place; those of acts have `act` in place of `content`. */
export const groupItems = (group, me) => group.messages.map((message) => itemOf(message, me));

function itemOf({ place, author, entry, reactions }, me) {
    const felt = counted(reactions ?? new Map());
    const signature = felt.map(({ reaction, users }) => `${reaction} ${users.join(' ')}`).join(',');
    const known = made.get(entry);
    if (known?.signature === signature) return known.item;
    const { content } = entry;
    const change = content.edit ?? content.unsend;
    const says = content.unsend === undefined ? (content.edit?.content ?? content) : undefined;
    const isMine = author === me;
    const item = {
        key: `at ${place}`,
        place,
        name: { author, author_seq: place },
        isMine,
        time: change?.written || entry.time,
        isEdited: content.edit !== undefined,
        content: says?.act === undefined ? says : undefined,
        act: says?.act,
        tick: isMine && says !== undefined && isMessage(says) ? 'logged' : undefined,
        reactions: felt,
    };
    made.set(entry, { signature, item });
    return item;
}
