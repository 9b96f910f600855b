// What a store keeps of one device, and the changes that are made to it. Pure: the memory store and the IndexedDB one do what is said here.
//
// A store has:
//   load()              -> { device, epoch, since, position, discards, messages }: what a client starts from. position is null at first;
//                          discards says how often the log was discarded, and so whether a seq that was read before is of this log;
//                          messages are { id, number or null, to, content } in the order of their ids.
//   commit(changes, only) makes all of them or none, and settles when they are durable. With `only`, { key, holds }, none if the value
//                          that tabs agree on under the key is not one that holds.
//   update(key, change) -> the value that `change` makes of the one under the key, in one step: what tabs agree on.
//   entries(from, limit)-> the log's entries from a seq on, by ascending seq.
//   answers()           -> what became of messages, the newest: { id, type, … } as the client told it, or would have.
//   close()
// and one that tabs share:
//   pause(), resume()      the page stands still between them: what is asked meanwhile, or was not done before, is done then.
//
// Changes, in the order in which they are made:
//   { op: 'message', id, number, to, content }   a message without its answer, or its number
//   { op: 'answered', id, answer }               it has its answer, which is kept for whoever does not hear of it now
//   { op: 'entry', entry }                       an entry of the log
//   { op: 'position', position, epoch, since }   everything up to there is in the log, or was superseded
//   { op: 'discard' }                            the log was replaced, or is held with a gap: entries, position and epoch go, messages stay,
//                                                and it is counted
//
// What belongs together is one commit: an answer and the entry that it stands for, entries and the position behind them. So no crash
// leaves a message both answered and unanswered, or a position behind entries that are not there.

import { ANSWERS_KEPT_MAX } from '../limits.js';

/** Entries of the log that are kept, the newest: a few tens of megabytes at most. The server has the rest. */
export const LOG_ENTRIES_MAX = 50_000;

/** The answers that are kept after changes. */
export function answersAfter(known, changes) {
    const answers = changes.filter(({ op }) => op === 'answered').map(({ answer }) => answer);
    return [...known, ...answers].slice(-ANSWERS_KEPT_MAX);
}

/** How often changes discard the log. */
export const discardsIn = (changes) => changes.filter(({ op }) => op === 'discard').length;

/** Another tab has become the one that writes. */
export class CommitRefused extends Error {
    constructor(key) {
        super(`another tab has the ${key} now, so this one stores nothing`);
        this.name = 'CommitRefused';
    }
}
