// Messages from `send` to their answer, and the numbers they are sent under (SPEC 8.1).
//
// The rule that exactly-once hangs on: **a number that may have been accepted is never given to another message.** A message keeps its
// number over every loss of connection; the server answers a repeated number with its first result. Only the server can free a number,
// by refusing it (`expected` says that no number from there on is used up), or void it, by saying that it is given up.
//
// After a refusal nothing is sent until everything in flight has been answered (draining). Then the state of every number is known,
// what is left is numbered anew from `expected` on, and sending goes on. Renumbering while frames are in flight would leave two
// meanings of one number on the wire.
//
// The first message to a conversation may be refused for the conversation's sake. If another one is to leave behind it, its number is
// given up in the same breath: should it be refused, the number is void and not missing, and it waits for its time without a number.
//
// Invariants: numbers ascend and are below `nextNumber`; handles in `waiting` ascend; the first `sent` of `numbered` were sent on this
// connection, or refused on it, and no others.

import { aboutMessage } from '../codec/content.js';
import { conversationKey } from '../codec/types.js';
import { codeName } from '../codes.js';
import { GAP_RETRY_MS, QUEUED_MESSAGES_MAX, RETRY_AFTER_MAX_MS } from '../limits.js';
import { invariant } from './invariant.js';
import { Turns } from './turns.js';

// What of a number is on the wire.
const UNSENT = 'unsent';
const SENT = 'sent';
/** A send, and that the number is given up if it is refused. */
const SENT_AND_GIVEN_UP = 'sent and given up';
const GIVEN_UP = 'given up';
/** Nothing any more: it was refused. When everything is answered it is numbered anew. */
const REFUSED = 'refused';
/** Nothing any more: a message was accepted under it on an earlier connection. To be sent again, since only that is compared. */
const AGAIN = 'again';

const awaitsAnswer = (of) => of.wire === SENT || of.wire === SENT_AND_GIVEN_UP || of.wire === GIVEN_UP;

/** Whether the same send would be refused again. */
const isForGood = (code, retryAfterMs) => retryAfterMs === 0 && code !== 'send_gap' && code !== 'window_full';

export class Outbox {
    /**
     * { number, message, isKept, isCancelled, isFirst, holds, wire }
     * message: null if it was refused for good, and its number is to be voided.
     * isFirst: it opens its conversation on this connection, and may be refused without the others.
     * holds: the next message to its conversation gets no number before this one has its answer. The first one does; and the last one of
     * those that are sent again, for its number may be void without this device knowing it, and it would be overtaken.
     */
    #numbered = [];
    #sent = 0;
    #inFlight = 0;
    /** { handle, to, key, content } without a number. */
    #waiting = [];
    #turns = new Turns();
    #keeping;
    #nextNumber = 1;
    #lastHandle = 0;
    #notBefore = 0;
    /** Undefined: messages may leave. Else the number to go on from when everything in flight is answered. */
    #expected = undefined;
    #givesUp = true;
    #isGiveUpUnknown = false;
    #cancelled = [];
    /** Whose numbers are void, which those who keep numbers were not told. */
    #voided = [];

    /** Starts with what an earlier run left, in the order in which it was sent: { number or null, to, content }. Handles are 1, 2, 3 … */
    constructor(keeping, unanswered) {
        this.#keeping = keeping;
        for (const { number, to, content } of unanswered) {
            const message = this.#message(to, content);
            if (number === null) {
                this.#waiting.push(message);
            } else {
                this.#nextNumber = Math.max(this.#nextNumber, number + 1);
                this.#numbered.push({ number, message, isKept: true, isCancelled: false, isFirst: false, holds: false, wire: UNSENT });
            }
        }
        this.#numbered.sort((a, b) => a.number - b.number);
        this.#invariants();
    }

    /** The handle; undefined if the queue is full. */
    push(to, content) {
        if (this.size >= QUEUED_MESSAGES_MAX) return undefined;
        const message = this.#message(to, content);
        this.#waiting.push(message);
        return message.handle;
    }

    #message(to, content) {
        return { handle: ++this.#lastHandle, to, key: conversationKey(to), content };
    }

    get size() {
        return this.#waiting.length + this.#numbered.filter((of) => of.message !== null).length;
    }

    /** Everything without an answer, in the order in which it was sent: { handle, number or null, to, content }. */
    get unanswered() {
        const numbered = this.#numbered.filter((of) => of.message !== null).map((of) => [of.number, of.message]);
        const all = [...numbered, ...this.#waiting.map((message) => [null, message])];
        return all
            .map(([number, { handle, to, content }]) => ({ handle, number, to, content }))
            .sort((a, b) => a.handle - b.handle);
    }

    #withHandle(handle) {
        return this.#numbered.find((of) => of.message?.handle === handle);
    }

    /** The application takes a message back: whether there is one. What may have been accepted already is asked for first. */
    cancel(handle) {
        const at = this.#waiting.findIndex((message) => message.handle === handle);
        if (at >= 0) {
            this.#waiting.splice(at, 1);
            this.#cancelled.push(handle);
            return true;
        }
        const of = this.#withHandle(handle);
        if (of !== undefined) of.isCancelled = true;
        return of !== undefined;
    }

    /** Handles of messages that were cancelled in time and of which the application was not told. */
    takeCancelled() {
        return this.#cancelled.splice(0);
    }

    /** The log was replaced by one in which `lastNumber` is the last that was accepted: a change may mean another message there. */
    dropChanges(lastNumber) {
        const dropped = [];
        const isDropped = (message) => {
            const isChange = message !== null && aboutMessage(message.content) !== undefined;
            if (isChange) dropped.push(message.handle);
            return isChange;
        };
        this.#numbered = this.#numbered.filter((of) => of.number <= lastNumber || !isDropped(of.message));
        this.#waiting = this.#waiting.filter((message) => !isDropped(message));
        return dropped.sort((a, b) => a - b);
    }

    /** Takes out what waits without a number and can not be sent, which `why` says: [message, why]. */
    takeUntaken(why) {
        const untaken = [];
        this.#waiting = this.#waiting.filter((message) => {
            const reason = why(message.to, message.content);
            if (reason !== undefined) untaken.push([message, reason]);
            return reason === undefined;
        });
        return untaken;
    }

    /** A connection begins, on which the server knows this device's numbers up to `lastNumber`. `settle` follows. */
    connected(lastNumber, givesUp) {
        this.#givesUp = givesUp && !this.#isGiveUpUnknown;
        // A device without memory goes on after what the server knows, and so does one that has more: the server was set back
        // (SPEC 8.1, 8). Numbered messages keep theirs, if the server may know one of them.
        const expected = lastNumber + 1;
        if (this.#numbered.length === 0) this.#nextNumber = expected;
        else if (this.#numbered[0].number > expected) this.#expected = expected;
        else this.#nextNumber = Math.max(this.#nextNumber, expected);
        const byConversation = new Map();
        for (const of of this.#numbered) {
            of.isFirst = false;
            of.holds = false;
            byConversation.set(of.message.key, [...(byConversation.get(of.message.key) ?? []), of]);
        }
        for (const [key, all] of byConversation) {
            const last = all[all.length - 1];
            // Where there are several they keep their order: then one must not be left out.
            last.isFirst = all.length === 1;
            last.holds = true;
            this.#turns.sends(key);
        }
    }

    /** The connection is gone: whether what was in flight was accepted is not known until it is sent again. */
    disconnected() {
        // A number that only was to be voided is sent by nobody again: it was refused.
        this.#numbered = this.#numbered.filter((of) => of.message !== null);
        for (const of of this.#numbered) of.wire = UNSENT;
        this.#sent = 0;
        this.#inFlight = 0;
        this.#turns.disconnected();
        // `expected` may be out of date by the time of the next connection; a server's wish to be left alone is not.
        this.#expected = undefined;
        this.#invariants();
    }

    /** Gives numbers to as many messages as may be in flight. Tells `onNumbered(handle, number)` of each, if they are kept. */
    number(now, window, onNumbered) {
        if (this.#expected !== undefined) return;
        let at = 0;
        while (this.#numbered.length < window && at < this.#waiting.length) {
            if (!this.#turns.maySend(now, this.#waiting[at].key)) {
                at++;
                continue;
            }
            const [message] = this.#waiting.splice(at, 1);
            const number = this.#nextNumber++;
            const isKept = this.#announce(message.handle, number, onNumbered);
            const isFirst = this.#turns.sends(message.key);
            this.#numbered.push({ number, message, isKept, isCancelled: false, isFirst, holds: isFirst, wire: UNSENT });
        }
        this.#invariants();
    }

    /** Whether the number counts as kept at once. */
    #announce(handle, number, onNumbered) {
        if (this.#keeping === 'in_memory') return true;
        onNumbered(handle, number);
        return false;
    }

    /** The application has kept this number of this message: it may leave, unless it has another one by now. */
    kept(handle, number) {
        const of = this.#withHandle(handle);
        if (of?.number === number) of.isKept = true;
    }

    /** The server does not know how to give a number up, though it had said so: never again. */
    giveUpIsUnknown() {
        this.#isGiveUpUnknown = true;
    }

    /** What may leave next: { name, fields }, or undefined. */
    nextFrame(now, window) {
        const frame = this.#frameAgain() ?? this.#frameInOrder(now, window);
        if (frame !== undefined) this.#invariants();
        return frame;
    }

    /** What turned out to have been accepted before, so that its order does not matter. */
    #frameAgain() {
        const of = this.#numbered.slice(0, this.#sent).find((candidate) => candidate.wire === AGAIN);
        if (of === undefined) return undefined;
        of.wire = SENT;
        this.#inFlight++;
        return sendOf(of);
    }

    #frameInOrder(now, window) {
        if (this.#expected !== undefined || now < this.#notBefore || this.#inFlight >= window) return undefined;
        const next = this.#numbered[this.#sent];
        const isGivenUp = next !== undefined && next.isCancelled && this.#givesUp;
        if (next === undefined || !(next.isKept || isGivenUp)) return undefined;
        const before = this.#givesUp ? this.#numbered[this.#sent - 1] : undefined;
        if (before?.isFirst && before.wire === SENT) {
            before.wire = SENT_AND_GIVEN_UP;
            return giveUpOf(before);
        }
        this.#sent++;
        this.#inFlight++;
        next.wire = isGivenUp ? GIVEN_UP : SENT;
        return isGivenUp ? giveUpOf(next) : sendOf(next);
    }

    /** When messages that were put off may leave. */
    deadline(now) {
        if (this.#expected === undefined && this.#notBefore > now && this.size > 0) return this.#notBefore;
        return this.#waiting.length > 0 ? this.#turns.deadline(now) : undefined;
    }

    #findInFlight(number) {
        return this.#numbered.findIndex((of) => of.number === number && awaitsAnswer(of));
    }

    /** A number that was in flight is answered for good. Nobody waits for that any more. */
    #remove(at) {
        const [{ message, holds }] = this.#numbered.splice(at, 1);
        this.#inFlight--;
        this.#sent--;
        if (message !== null && holds) this.#turns.answered(message.key);
        return message;
    }

    /** The server has accepted `number`. The message; undefined if it was not in flight. */
    accepted(number) {
        const at = this.#findInFlight(number);
        if (at < 0 || this.#numbered[at].message === null) return undefined;
        const message = this.#remove(at);
        this.#turns.accepted(message.key);
        this.#invariants();
        return message;
    }

    /**
     * The server has refused `number`. What that means for its message: `later`, it will be sent again unless it was cancelled;
     * `unasked`, it was not in flight; or the handle of the message, which would be refused again and is removed.
     *
     * A message under a number that was given up was not accepted, and gets another one. If the number stands for another message
     * (`number_used`), what this device holds is a copy of an older state, and its message may have been accepted under another
     * number since: so it gets none.
     */
    refused(now, { number, code: codeNumber, retry_after_ms: retryAfterMs, expected }) {
        const at = this.#findInFlight(number);
        if (at < 0) return 'unasked';
        const code = codeName(codeNumber);
        let refusal;
        if (code === 'number_used') {
            refusal = this.#remove(at)?.handle ?? 'later';
        } else if (code === 'given_up') {
            this.#void(at);
            refusal = 'later';
        } else if (this.#numbered[at].wire === SENT_AND_GIVEN_UP) {
            refusal = this.#refusedAlone(now, at, code, retryAfterMs);
        } else {
            refusal = this.#refusedWithOthers(now, at, code, retryAfterMs, expected);
        }
        this.#invariants();
        return refusal;
    }

    /** A send was refused whose number is given up behind it. */
    #refusedAlone(now, at, code, retryAfterMs) {
        const of = this.#numbered[at];
        of.wire = GIVEN_UP;
        if (of.message === null) return 'later';
        const { handle, key } = of.message;
        if (isForGood(code, retryAfterMs)) {
            of.message = null;
            this.#turns.answered(key);
            return handle;
        }
        if (code === 'rate_limited') this.#turns.refusedUntil(now, key, Math.min(retryAfterMs, RETRY_AFTER_MAX_MS));
        return 'later';
    }

    /** Something was refused that those behind it need: they come back too. */
    #refusedWithOthers(now, at, code, retryAfterMs, expected) {
        const isConsequence = this.#expected !== undefined;
        const of = this.#numbered[at];
        const isSend = of.wire === SENT;
        of.wire = REFUSED;
        this.#inFlight--;
        let waitMs = Math.min(retryAfterMs, RETRY_AFTER_MAX_MS);
        if (code === 'send_gap' && isConsequence) waitMs = 0;
        else if (code === 'send_gap' || code === 'window_full') waitMs = Math.max(waitMs, GAP_RETRY_MS);
        let refusal = 'later';
        if (of.message !== null && isSend) {
            const { handle, key } = of.message;
            if (isForGood(code, retryAfterMs)) {
                of.message = null;
                if (of.holds) this.#turns.answered(key);
                refusal = handle;
            } else if (of.isFirst && code === 'rate_limited') {
                // For the conversation's sake. If it is the device that sends too much, the next one is told so.
                this.#turns.refusedUntil(now, key, waitMs);
                waitMs = 0;
            }
        }
        this.#notBefore = Math.max(this.#notBefore, now + waitMs);
        // It can only have grown.
        this.#expected = Math.max(this.#expected ?? 0, expected);
        return refusal;
    }

    /**
     * The server says what became of a number that was to be given up: it is void (seq 0), or was accepted before as this entry.
     * False: that was not asked.
     */
    givenUp({ number, seq }) {
        const at = this.#numbered.findIndex((of) => of.number === number && awaitsAnswer(of) && of.wire !== SENT);
        // An acceptance that had been on its way has answered it.
        if (at < 0) return number < this.#nextNumber;
        const of = this.#numbered[at];
        if (seq === 0) {
            this.#void(at);
            if (this.#expected !== undefined) this.#expected = Math.max(number + 1, this.#expected);
        } else {
            of.isCancelled = false;
            if (of.wire === GIVEN_UP) {
                of.wire = AGAIN;
                this.#inFlight--;
            }
        }
        this.#invariants();
        return true;
    }

    /** Nothing is or will be accepted under this number: its message goes on without it. */
    #void(at) {
        const { isCancelled } = this.#numbered[at];
        const message = this.#remove(at);
        if (message === null) return;
        this.#voided.push(message.handle);
        this.#putBack(message, isCancelled);
    }

    /** A message has no number any more. */
    #putBack(message, isCancelled) {
        if (isCancelled) {
            this.#cancelled.push(message.handle);
            return;
        }
        const at = this.#waiting.findIndex((waiting) => waiting.handle > message.handle);
        this.#waiting.splice(at < 0 ? this.#waiting.length : at, 0, message);
    }

    /**
     * When everything in flight has been answered and something was refused, numbers what is left anew, and tells `onNumbered` of it;
     * with null of what has no number any more. False: the server contradicts itself, and resuming asks it again.
     */
    settle(now, onNumbered) {
        // A void number that is kept would meet another message under it, should the server be set back.
        for (const handle of this.#voided.splice(0)) if (this.#keeping === 'by_application') onNumbered(handle, null);
        if (this.#expected === undefined) return true;
        if (this.#inFlight > 0 || this.#numbered.some((of) => of.wire === AGAIN)) return true;
        // Refused means not used up, and `expected` is the lowest number that is not.
        if (this.#numbered.length > 0 && this.#numbered[0].number < this.#expected) return false;
        const left = this.#numbered;
        this.#numbered = [];
        this.#sent = 0;
        this.#nextNumber = this.#expected;
        for (const of of left) {
            const { message } = of;
            if (message === null) continue;
            if (of.holds) this.#turns.answered(message.key);
            if (of.isCancelled || this.#turns.isRefused(now, message.key)) {
                // The next one gets its number.
                if (this.#keeping === 'by_application') onNumbered(message.handle, null);
                this.#putBack(message, of.isCancelled);
                continue;
            }
            if (of.isFirst) this.#turns.sends(message.key);
            // None of these numbers is void: the server has spoken of each.
            of.holds = of.isFirst;
            if (of.number !== this.#nextNumber) {
                of.number = this.#nextNumber;
                of.isKept = this.#announce(message.handle, of.number, onNumbered);
            }
            this.#nextNumber++;
            this.#numbered.push({ ...of, wire: UNSENT });
        }
        this.#expected = undefined;
        this.#invariants();
        return true;
    }

    #invariants() {
        const numbered = this.#numbered;
        let inFlight = 0;
        let sent = numbered.length;
        for (let at = 0; at < numbered.length; at++) {
            if (at > 0) invariant(numbered[at - 1].number < numbered[at].number, 'send numbers do not ascend');
            if (awaitsAnswer(numbered[at])) inFlight++;
            if (numbered[at].wire === UNSENT && at < sent) sent = at;
        }
        const last = numbered[numbered.length - 1];
        invariant(last === undefined || last.number < this.#nextNumber, 'a number was given that comes later');
        invariant(inFlight === this.#inFlight, 'sends in flight are miscounted');
        invariant(sent === this.#sent, 'something was sent out of order');
    }
}

const sendOf = ({ number, message }) => ({ name: 'send', fields: { number, to: message.to, content: message.content } });
const giveUpOf = ({ number }) => ({ name: 'give_up', fields: { number } });
