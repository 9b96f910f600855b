// A server small enough to be obviously right: one user, one log, one connection at a time, bytes in and bytes out; and what lies between
// a client and it.
//
// It commits when it is told to, refuses when it is told to, and pushes pages or single entries as the real one does. It throws when the
// client breaks a rule that the protocol puts on clients.

import assert from 'node:assert/strict';

import { CLIENT_KINDS, CONTENT_KINDS, Framer, conversationKey, decode, encode } from '../src/codec.js';
import { CODES } from '../src/codes.js';
import { REDIRECTS_MAX } from '../src/limits.js';

export const ME = 7n;
export const PEER = 8n;
/** Somebody else to write to. */
export const OTHER = 9n;
/** Sends to this user are refused for good. */
export const NOBODY = 666n;
export const DEVICE = 3n;
export const WINDOW = 5;

const kinds = (all) => all.reduce((bits, kind) => bits | (1n << BigInt(kind)), 0n);

export class Server {
    /** Entry of seq n at index n - 1; null when superseded. */
    log = [];
    acknowledged = 0;
    /** Bytes on their way to the client. */
    out = [];
    /** How many of the next sends to refuse for now. */
    refusals = 0;
    /** Messages to these, by key, are refused for now. */
    closed = new Set();
    /** Whether it knows how to give a number up, and says so: 'known', 'untold', 'mistold' (it says so and is wrong). */
    givingUp = 'known';
    /** How many of the next hellos are answered with a redirect. It leads to this server again, as all nodes of one are. */
    redirects = 0;
    /** Numbers that were given up. */
    void = new Set();
    connection = undefined;
    /** What it was told of presence: the frames. */
    presence = [];
    #committed = 0;
    /** Seqs of accepted sends, by number. */
    #answers = new Map();
    #lastNumber = 0;
    #lastDelivered = undefined;
    /** { first, epoch }: what a start of the server appends is of an epoch of its own. */
    #starts = [];
    #epoch = 1n;

    /** A copy of what is durable. */
    save() {
        this.commit();
        const { log, acknowledged } = this;
        return {
            log: [...log],
            acknowledged,
            void: new Set(this.void),
            answers: new Map(this.#answers),
            lastNumber: this.#lastNumber,
            lastDelivered: this.#lastDelivered,
            starts: [...this.#starts],
        };
    }

    /** The server is stopped, the copy put back, and the server started. */
    setBack(saved) {
        this.cut();
        this.log = saved.log;
        this.acknowledged = saved.acknowledged;
        this.void = saved.void;
        this.#answers = saved.answers;
        this.#lastNumber = saved.lastNumber;
        this.#lastDelivered = saved.lastDelivered;
        this.#starts = saved.starts;
        this.#committed = this.log.length;
        this.#epoch++;
    }

    say(name, fields) {
        this.out.push(...encode('server', name, fields));
    }

    #epochAt(seq) {
        return this.#starts.filter((start) => start.first <= seq).pop()?.epoch ?? 0n;
    }

    /** Tells of the epochs that begin in this range, before it is covered. */
    #tellEpochs(first, last) {
        for (const start of this.#starts) if (first <= start.first && start.first <= last) this.say('epoch', start);
    }

    connect() {
        this.out = [];
        this.connection = {
            framer: new Framer('client'),
            isWelcome: false,
            isLive: false,
            /** The last seq that was pushed, or covered by an acceptance while live. */
            position: 0,
            /** What the client may acknowledge: acceptances count while catching up too. */
            offered: 0,
            acknowledged: 0,
            /** Sends of this connection without an answer. */
            awaiting: new Set(),
        };
    }

    cut() {
        this.connection = undefined;
        this.out = [];
    }

    get isIdle() {
        return this.out.length === 0 && this.#committed === this.log.length && this.connection?.isLive === true;
    }

    receive(bytes) {
        if (this.connection === undefined) return;
        for (const raw of this.connection.framer.frames(bytes)) {
            const { name, fields } = decode('client', raw);
            // It may have said bye.
            if (this.connection !== undefined) this.#onFrame(name, fields);
        }
    }

    #onFrame(name, fields) {
        const { connection } = this;
        switch (name) {
            case 'hello':
                return this.#onHello(fields);
            case 'send':
                assert.ok(!connection.awaiting.has(fields.number), 'sent twice on one connection');
                connection.awaiting.add(fields.number);
                assert.ok(connection.awaiting.size <= WINDOW, 'the window is exceeded');
                return this.#onSend(fields);
            case 'give_up':
                if (this.givingUp === 'known') return this.#onGiveUp(fields.number);
                assert.equal(this.givingUp, 'mistold', 'the welcome does not tell it');
                return this.say('error', { code: CODES.unknown_kind, kind: CLIENT_KINDS.give_up, request: 0, retry_after_ms: 0, detail: '' });
            case 'acknowledge':
                assert.ok(fields.seq <= connection.offered, 'acknowledged what was not offered');
                assert.ok(fields.seq > connection.acknowledged, 'acknowledged twice');
                connection.acknowledged = fields.seq;
                this.acknowledged = Math.max(this.acknowledged, fields.seq);
                return undefined;
            case 'fetch_log':
                return this.say('page', this.#page(fields.request, fields.from, Math.min(fields.from + Math.min(fields.limit, 3) - 1, this.#committed)));
            case 'ping':
                return this.say('pong', fields);
            case 'watch':
            case 'set_status':
                this.presence.push({ name, ...fields });
                return name === 'watch' ? this.say('presence', { request: fields.request, lifetime_ms: 60_000, states: [] }) : undefined;
            case 'pong':
            case 'bye':
                return undefined;
            default:
                throw new Error(`${name} is not used in these tests`);
        }
    }

    #onHello({ device, resume, resume_seq: resumeSeq, epoch, hops }) {
        const { connection } = this;
        assert.ok(!connection.isWelcome && device === DEVICE);
        assert.ok(1 <= hops && hops <= REDIRECTS_MAX + 1, `${hops} hops`);
        if (this.redirects > 0 && hops <= REDIRECTS_MAX) {
            this.redirects--;
            this.connection = undefined;
            return this.#sayRedirect(0);
        }
        connection.isWelcome = true;
        connection.position = { stored: this.acknowledged, after: resumeSeq, live: this.#committed }[resume];
        let bye;
        if (connection.position > this.#committed) {
            bye = CODES.cursor_ahead;
        } else if (resume === 'after' && epoch !== 0n && this.#epochAt(resumeSeq) !== epoch) {
            // One that was told of and begins later agrees.
            if (!this.#starts.some((start) => start.epoch === epoch && start.first > resumeSeq)) bye = CODES.other_log;
        }
        if (bye !== undefined) {
            this.connection = undefined;
            return this.say('bye', { code: bye, retry_after_ms: 0, detail: '', devices: [] });
        }
        connection.offered = connection.position;
        connection.acknowledged = connection.position;
        this.acknowledged = Math.max(this.acknowledged, connection.position);
        const frames = Object.entries(CLIENT_KINDS).filter(([name]) => name !== 'give_up' || this.givingUp !== 'untold');
        return this.say('welcome', {
            version: 1,
            user: ME,
            server_time: 1,
            head: this.#committed,
            cursor: connection.position,
            last_number: this.#lastNumber,
            send_window: WINDOW,
            text_bytes_max: 100,
            page_entries_max: 3,
            idle_timeout_ms: 60_000,
            committed: this.#committed,
            epoch: this.#epochAt(connection.position),
            content_kinds: kinds(Object.values(CONTENT_KINDS)),
            conversation_kinds: kinds([1, 2]),
            frame_kinds: kinds(frames.map(([, kind]) => kind)),
        });
    }

    #onSend({ number, to, content }) {
        if (this.void.has(number)) return this.#refuse(number, 'given_up', 0);
        if (number <= this.#lastNumber) {
            const seq = this.#answers.get(number);
            const first = this.log[seq - 1];
            if (first !== null) {
                assert.deepEqual({ to: first.to, number: first.number, content: first.content }, { to: to.user, number, content }, 'one number for two messages');
            }
            // If it is not committed yet, its commit will answer.
            return seq <= this.#committed ? this.#accept(number, seq) : undefined;
        }
        if (number !== this.#lastNumber + 1) return this.#refuse(number, 'send_gap', 0);
        if (to.user === NOBODY) return this.#refuse(number, 'recipient', 0);
        if (this.closed.has(conversationKey(to))) return this.#refuse(number, 'rate_limited', 60);
        if (this.refusals > 0) {
            this.refusals--;
            return this.#refuse(number, 'overloaded', 40);
        }
        this.#lastNumber = number;
        this.#answers.set(number, this.log.length + 1);
        return this.#append({ kind: 'sent', to: to.user, device: DEVICE, number, content });
    }

    #onGiveUp(number) {
        const seq = this.#answers.get(number);
        if (number > this.#lastNumber + 1) return this.#refuse(number, 'send_gap', 0);
        if (seq === undefined && this.refusals > 0 && number === this.#lastNumber + 1) {
            this.refusals--;
            return this.#refuse(number, 'overloaded', 40);
        }
        if (seq !== undefined) return seq > this.#committed ? undefined : this.say('given_up', { number, seq });
        this.#lastNumber = Math.max(this.#lastNumber, number);
        this.void.add(number);
        this.connection.awaiting.delete(number);
        return this.say('given_up', { number, seq: 0 });
    }

    #refuse(number, code, retryAfterMs) {
        this.say('refused', { number, code: CODES[code], retry_after_ms: retryAfterMs, expected: this.#lastNumber + 1 });
        this.connection.awaiting.delete(number);
    }

    #accept(number, seq) {
        const { connection } = this;
        connection.awaiting.delete(number);
        if (connection.offered + 1 === seq) {
            connection.offered = seq;
            this.#tellEpochs(seq, seq);
        }
        this.say('accepted', { number, seq, time: seq, durability: 'committed', recipient: 'offline' });
    }

    #append(event) {
        const seq = this.log.length + 1;
        if (this.#starts[this.#starts.length - 1]?.epoch !== this.#epoch) this.#starts.push({ first: seq, epoch: this.#epoch });
        this.log.push({ ...event, seq, time: seq });
    }

    othersWrite(text) {
        this.#append({ kind: 'received', from: PEER, origin: this.log.length + 1, content: { text } });
    }

    receipt() {
        this.#append({ kind: 'delivered', peer: PEER, up_to: this.log.length });
        // Superseding is part of the commit in the real server; here a receipt is committed at once.
        this.commit();
        if (this.#lastDelivered !== undefined) this.log[this.#lastDelivered] = null;
        this.#lastDelivered = this.log.length - 1;
    }

    /** Everything appended is durable: answer and push it. */
    commit() {
        const from = this.#committed;
        this.#committed = this.log.length;
        const { connection } = this;
        if (!connection?.isWelcome) return;
        for (const entry of this.log.slice(from)) {
            const { seq } = entry;
            const isNext = connection.isLive && connection.position + 1 === seq;
            if (isNext) connection.position = seq;
            // The sending connection learns its own entry by `accepted`; what an older one sent is pushed like any other.
            if (entry.kind === 'sent' && connection.awaiting.has(entry.number)) {
                this.#accept(entry.number, seq);
            } else if (isNext) {
                connection.offered = Math.max(connection.offered, seq);
                this.#tellEpochs(seq, seq);
                this.say('deliver', { entry });
            }
        }
    }

    /** The socket has drained: the next page, until the push has caught up. */
    push(entriesMax) {
        const { connection } = this;
        if (!connection?.isWelcome || connection.isLive) return;
        const first = connection.position + 1;
        const last = Math.min(connection.position + entriesMax, this.#committed);
        connection.isLive = last === this.#committed;
        connection.position = last;
        connection.offered = Math.max(connection.offered, last);
        if (first > last) return;
        this.#tellEpochs(first, last);
        this.say('page', this.#page(0, first, last));
    }

    ping() {
        if (this.connection?.isWelcome) this.say('ping', { nonce: 5n });
    }

    /** The user moves, in so many milliseconds. */
    redirect(afterMs) {
        if (this.connection?.isWelcome) this.#sayRedirect(afterMs);
    }

    #sayRedirect(afterMs) {
        this.say('redirect', { address: 'other:2', reason: 'moving', after_ms: afterMs, map_version: 1 });
    }

    #page(request, first, last) {
        const entries = this.log.slice(Math.max(first - 1, 0), Math.max(last, first - 1)).filter((entry) => entry !== null);
        return { request, first, last, more: last < this.#committed, entries, delivered_up_to: 0 };
    }
}

/** What a client and the server have between them: bytes that arrive as far as it is said, a link that is cut when it is said. */
export class Pipe {
    server = new Server();
    /** Bytes on their way to the server; undefined without a link. */
    toServer = undefined;
    #isOpening = false;

    /** What the client does to its link. */
    carry({ bytes, link }) {
        if (bytes !== null && this.toServer !== undefined) this.toServer.push(...bytes);
        if (link === 'open') this.#isOpening = true;
        if (link === 'close') this.cut();
    }

    cut() {
        this.toServer = undefined;
        this.#isOpening = false;
        this.server.cut();
    }

    /** A new connection comes to the server, or at most so many bytes. What the client is to be told, if anything. */
    serverHears(bytes) {
        if (this.#isOpening) {
            this.#isOpening = false;
            this.server.connect();
            this.toServer = [];
            return { kind: 'connected' };
        }
        if (this.toServer !== undefined) this.server.receive(Uint8Array.from(this.toServer.splice(0, bytes)));
        return undefined;
    }

    /** The bytes that come to the client, at most so many. */
    clientHears(bytes) {
        return Uint8Array.from(this.server.out.splice(0, bytes));
    }

    /** There is a link, and nothing is on its way nor to be done. */
    get isQuiet() {
        return this.toServer?.length === 0 && this.server.isIdle;
    }
}
