// The session by hand: one claim a test, every frame and every millisecond chosen.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { CLIENT_KINDS, CONTENT_KINDS, Framer, decode, encode } from '../src/codec.js';
import { CODES } from '../src/codes.js';
import {
    ACKNOWLEDGE_AFTER_MS, ACKNOWLEDGE_GROUPS_AFTER_MS, BACKOFF_FIRST_MS, BACKOFF_LONG_MS, BACKOFF_MAX_MS, FETCHES_IN_FLIGHT_MAX,
    OPEN_TIMEOUT_MS, PONG_TIMEOUT_MS, QUEUED_MESSAGES_MAX, REDIRECTS_MAX, STABLE_AFTER_MS, UNWRITTEN_AGAIN_AFTER_MS, UNWRITTEN_BYTES_MAX,
    WELCOME_TIMEOUT_MS,
} from '../src/limits.js';
import { Session } from '../src/session.js';

const ALL_KINDS = (kinds) => Object.values(kinds).reduce((bits, kind) => bits | (1n << BigInt(kind)), 0n);
const WELCOME = {
    version: 1, user: 7n, server_time: 1, head: 0, cursor: 0, last_number: 0, send_window: 256, text_bytes_max: 16384, page_entries_max: 500,
    idle_timeout_ms: 60_000, committed: 0, content_kinds: ALL_KINDS(CONTENT_KINDS), conversation_kinds: 6n, frame_kinds: ALL_KINDS(CLIENT_KINDS),
};
const PEER = { user: 8n };
const HELLO = { text: 'Hello' };
const entry = (seq) => ({ kind: 'received', seq, time: 1, from: 8n, origin: seq, content: HELLO });
const page = (first, last, seqs) => ({ request: 0, first, last, more: false, entries: seqs.map(entry), delivered_up_to: 0 });
const bye = (code, retryAfterMs = 0, more = {}) => ['bye', { code: CODES[code] ?? code, retry_after_ms: retryAfterMs, detail: '', ...more }];

/** A session, what it wrote last as frames, and what it told. */
class Desk {
    now = 0;
    random = 0;
    unwritten = 0;
    frames = [];
    events = [];
    link = null;
    #framer = new Framer('client');

    constructor(config = {}) {
        this.session = new Session({ device: 3n, token: 'token', address: 'first:1', ...config });
    }

    turn(input = { kind: 'tick' }) {
        const { bytes, link, events } = this.session.handle({ now: this.now, random: this.random, unwritten: this.unwritten }, input);
        this.frames = bytes === null ? [] : [...this.#framer.frames(bytes)].map((frame) => decode('client', frame));
        this.link = link;
        this.events = events;
        return this;
    }

    hear(...frames) {
        const bytes = frames.flatMap(([name, fields]) => [...encode('server', name, fields)]);
        return this.turn({ kind: 'bytes', bytes: Uint8Array.from(bytes) });
    }

    connect(welcome = {}) {
        this.turn();
        assert.equal(this.link, 'open');
        this.turn({ kind: 'connected' });
        this.hello = this.frames[0].fields;
        return this.hear(['welcome', { ...WELCOME, ...welcome }]);
    }

    pass(ms) {
        this.now += ms;
        return this.turn();
    }

    lose() {
        return this.turn({ kind: 'disconnected', words: 'cut' });
    }

    /** Waits for the next attempt and makes it. */
    reconnect(welcome) {
        this.now = this.session.deadline(this.now);
        return this.connect(welcome);
    }

    get names() {
        return this.frames.map(({ name }) => name);
    }

    told(type) {
        return this.events.filter((event) => event.type === type);
    }
}

describe('the connection', () => {
    test('a hello says where the device is, and which epoch it has', () => {
        const desk = new Desk({ resume: { after: 40 }, epoch: 9n, since: 12, skip_above: 500 }).connect({ head: 40, cursor: 40 });
        const { resume, resume_seq, epoch, since, skip_above, hops, version_min, version_max, device } = desk.hello;
        assert.deepEqual([resume, resume_seq, epoch, since, skip_above, hops], ['after', 40, 9n, 12, 500, 1]);
        assert.deepEqual([version_min, version_max, device], [1, 1, 3n]);
        assert.equal(desk.told('welcome')[0].user, 7n);
    });

    test('an attempt that says nothing is given up', () => {
        const desk = new Desk().turn();
        assert.equal(desk.session.deadline(desk.now), OPEN_TIMEOUT_MS);
        desk.pass(OPEN_TIMEOUT_MS);
        assert.deepEqual([desk.link, desk.events[0].reason.kind], ['close', 'open_timeout']);
        desk.now = desk.session.deadline(desk.now);
        desk.turn().turn({ kind: 'connected' }).pass(WELCOME_TIMEOUT_MS);
        assert.deepEqual([desk.link, desk.events[0].reason.kind], ['close', 'welcome_timeout']);
    });

    test('delays double from half a second to a minute, with full jitter, and begin anew after a good minute', () => {
        const desk = new Desk();
        desk.random = 1 - 2 ** -40;
        const delays = [];
        for (let n = 0; n < 9; n++) {
            desk.turn().lose();
            delays.push(desk.told('disconnected')[0].retry_in_ms);
            desk.now = desk.session.deadline(desk.now);
        }
        assert.deepEqual(delays, [500, 1000, 2000, 4000, 8000, 16000, 32000, BACKOFF_MAX_MS, BACKOFF_MAX_MS]);
        desk.connect();
        desk.pass(STABLE_AFTER_MS - 1);
        desk.lose();
        assert.equal(desk.told('disconnected')[0].retry_in_ms, BACKOFF_MAX_MS, 'not a whole minute');
        desk.reconnect();
        for (let passed = 0; passed < STABLE_AFTER_MS; passed += 5_000) {
            desk.pass(5_000);
            desk.hear(['ping', { nonce: 1n }]);
        }
        desk.lose();
        assert.equal(desk.told('disconnected')[0].retry_in_ms, BACKOFF_FIRST_MS);
        desk.random = 0;
        desk.now = desk.session.deadline(desk.now);
        desk.turn().lose();
        assert.equal(desk.told('disconnected')[0].retry_in_ms, 0);
    });

    test('what a bye means', () => {
        const after = (...said) => {
            const desk = new Desk().connect().hear(bye(...said));
            assert.equal(desk.link, 'close');
            return [desk.session.phase, desk.told('disconnected')[0]?.retry_in_ms];
        };
        for (const code of ['version', 'tls_required', 'device_refused', 'device_removed']) assert.deepEqual(after(code), ['ended', undefined], code);
        for (const code of ['token_missing', 'token_invalid', 'token_expired', 'revoked']) assert.deepEqual(after(code), ['token', null], code);
        for (const code of ['malformed', 'frame_too_large', 'not_now', 999]) assert.deepEqual(after(code), ['waiting', BACKOFF_LONG_MS], code);
        for (const code of ['handshake_timeout', 'idle_timeout', 'slow_consumer', 'replaced', 'elsewhere', 'cursor_ahead', 'other_log']) {
            assert.deepEqual(after(code), ['waiting', 0], code);
        }
        for (const code of ['overloaded', 'storage_failed', 'too_many_connections', 'rate_limited', 'stopping', 999]) {
            assert.deepEqual(after(code, 7_000), ['waiting', 7_000], code);
        }
        const devices = [{ device: 1n, seen_day: 1, connected: false, cursor: 0, name: '' }];
        const desk = new Desk().connect().hear(bye('device_refused', 0, { devices }));
        assert.deepEqual(desk.told('ended')[0].reason.devices, devices);
    });

    test('who asks for another attempt gets it as soon as the server allows', () => {
        const desk = new Desk();
        desk.random = 0.5;
        desk.connect().hear(bye('malformed'));
        desk.session.reconnectNow();
        desk.turn();
        assert.equal(desk.link, 'open');
        desk.turn({ kind: 'connected' }).hear(bye('stopping', 5_000));
        assert.ok(desk.session.deadline(desk.now) > 5_000);
        desk.session.reconnectNow();
        assert.equal(desk.session.deadline(desk.now), 5_000);
    });

    test('the third time within five minutes that another connection has this device, it stops', () => {
        const desk = new Desk();
        for (const phase of ['waiting', 'waiting', 'ended']) {
            desk.now = Math.max(desk.now, desk.session.deadline(desk.now));
            desk.connect().hear(bye('replaced'));
            assert.equal(desk.session.phase, phase);
        }
        const slow = new Desk();
        for (let n = 0; n < 6; n++) {
            slow.now += 200_000;
            slow.connect().hear(bye('replaced'));
            assert.equal(slow.session.phase, 'waiting');
        }
    });

    test('who answers in another protocol is no server', () => {
        for (const [answer, words] of [['HTTP/1.1 400 Bad Request\r\n', 'another protocol'], ['\x15\x03\x03\x00\x02\x02\x46', 'in TLS']]) {
            const desk = new Desk().turn().turn({ kind: 'connected' });
            desk.turn({ kind: 'bytes', bytes: new TextEncoder().encode(answer) });
            assert.equal(desk.events[0].reason.kind, 'not_ringpost');
            assert.ok(desk.events[0].reason.words.includes(words), desk.events[0].reason.words);
        }
    });

    test('a frame of a newer server is passed over, and one that cannot be read ends the connection', () => {
        const desk = new Desk().connect();
        desk.turn({ kind: 'bytes', bytes: Uint8Array.of(3, 0xbf, 1, 2) });
        assert.deepEqual([desk.session.phase, desk.events], ['ready', []]);
        desk.turn({ kind: 'bytes', bytes: Uint8Array.of(2, 0x8d, 0x80) });
        assert.deepEqual([desk.link, desk.events[0].reason.kind], ['close', 'protocol']);
        assert.match(desk.events[0].reason.words, /field first cannot be read: truncated/);
    });

    test('each ping is answered, and a server that has fallen silent is pinged and then given up', () => {
        const desk = new Desk().connect().hear(['ping', { nonce: 2n ** 63n }]);
        assert.deepEqual(desk.frames, [{ name: 'pong', fields: { nonce: 2n ** 63n } }]);
        desk.now = desk.session.deadline(desk.now);
        assert.equal(desk.now, 20_000);
        assert.deepEqual(desk.turn().names, ['ping']);
        desk.pass(1).hear(['pong', { nonce: 1n }]);
        desk.now = desk.session.deadline(desk.now);
        desk.turn();
        assert.deepEqual([desk.names, desk.session.deadline(desk.now)], [['ping'], desk.now + PONG_TIMEOUT_MS]);
        desk.pass(PONG_TIMEOUT_MS);
        assert.deepEqual([desk.link, desk.told('disconnected')[0].reason.kind], ['close', 'silent']);
        // Twice in the patience of a server that has less.
        const hasty = new Desk().connect({ idle_timeout_ms: 9_000 });
        assert.equal(hasty.session.deadline(0), 3_000);
    });

    test('one that is suspended says what it has and bye, and has no connection until it is resumed', () => {
        const desk = new Desk().connect().hear(['deliver', { entry: entry(1) }]);
        desk.session.suspend();
        desk.turn();
        assert.deepEqual([desk.names, desk.link, desk.session.phase], [['acknowledge', 'bye'], 'close', 'suspended']);
        assert.equal(desk.session.deadline(desk.now), undefined);
        desk.pass(1_000_000);
        assert.equal(desk.link, null);
        desk.session.resume();
        desk.connect({ head: 1, cursor: 1 });
        assert.deepEqual([desk.hello.resume, desk.hello.resume_seq, desk.session.phase], ['after', 1, 'ready']);
    });

    test('one that is closed says bye and stops', () => {
        const desk = new Desk().connect();
        desk.session.close();
        desk.turn();
        assert.deepEqual([desk.names, desk.link, desk.events[0].type, desk.session.deadline(0)], [['bye'], 'close', 'ended', undefined]);
        assert.throws(() => desk.session.send(PEER, HELLO), (error) => error.code === 'ended');
        assert.throws(() => desk.session.fetch('fetch_devices', {}), (error) => error.code === 'ended');
    });
});

describe('the token', () => {
    test('a newer one goes out on the connection, and the next hello has it', () => {
        const desk = new Desk().connect().hear(['token_expiring', { expires_in_ms: 60_000 }]);
        assert.equal(desk.told('token_expiring')[0].expires_in_ms, 60_000);
        desk.session.setToken('newer');
        assert.deepEqual(desk.turn().frames, [{ name: 'refresh', fields: { token: 'newer' } }]);
        desk.session.setToken('newest');
        assert.deepEqual(desk.turn().frames, [], 'one at a time');
        assert.deepEqual(desk.hear(['refreshed', { expires: 2 ** 40 }]).frames, [{ name: 'refresh', fields: { token: 'newest' } }]);
        desk.hear(['refreshed', { expires: 2n ** 64n - 1n }]);
        assert.equal(desk.told('token_refreshed')[0].expires, Number.MAX_SAFE_INTEGER);
        desk.lose().reconnect();
        assert.equal(desk.hello.token, 'newest');
    });

    test('one that the server does not take is not said hello with', () => {
        const desk = new Desk().connect();
        desk.session.setToken('wrong');
        desk.turn().hear(['error', { code: CODES.token_invalid, kind: CLIENT_KINDS.refresh, request: 0, retry_after_ms: 0, detail: 'no' }]);
        assert.equal(desk.told('token_refused')[0].code, CODES.token_invalid);
        desk.lose().reconnect();
        assert.equal(desk.hello.token, 'token');
    });

    test('without a good one nothing is tried until there is another, and not at once if that was tried before', () => {
        const desk = new Desk();
        desk.random = 1 - 2 ** -40;
        desk.connect().hear(bye('token_expired'));
        assert.equal(desk.told('token_wanted')[0].reason.code, CODES.token_expired);
        assert.deepEqual([desk.session.phase, desk.session.deadline(0)], ['token', undefined]);
        desk.session.setToken('second');
        assert.equal(desk.session.deadline(0), BACKOFF_FIRST_MS);
        desk.now = BACKOFF_FIRST_MS;
        desk.turn().turn({ kind: 'connected' });
        assert.equal(desk.frames[0].fields.token, 'second');
        desk.hear(bye('token_invalid'));
        desk.session.setToken('third');
        assert.equal(desk.session.deadline(0), desk.now + 2 * BACKOFF_FIRST_MS);
    });

    test('one that came while the server spoke of the older one is tried', () => {
        const desk = new Desk().connect();
        desk.session.setToken('newer');
        desk.hear(bye('token_expired'));
        assert.equal(desk.session.phase, 'waiting');
        desk.reconnect();
        assert.equal(desk.hello.token, 'newer');
    });
});

describe('receiving', () => {
    test('what is acknowledged is gathered, and never more than what was stored', () => {
        const desk = new Desk({ resume: { after: 0 }, acknowledging: 'by_application' }).connect({ head: 3 });
        desk.hear(['page', page(1, 3, [1, 3])]);
        assert.deepEqual(desk.told('entry').map(({ entry: { seq } }) => seq), [1, 3]);
        desk.session.acknowledge(1);
        assert.deepEqual(desk.turn().names, []);
        desk.session.acknowledge(2);
        assert.deepEqual(desk.pass(ACKNOWLEDGE_AFTER_MS).frames, [{ name: 'acknowledge', fields: { seq: 2 } }]);
        desk.session.acknowledge(99);
        desk.turn();
        assert.deepEqual(desk.pass(ACKNOWLEDGE_AFTER_MS).frames, [{ name: 'acknowledge', fields: { seq: 3 } }]);
        desk.lose().reconnect({ head: 3, cursor: 3 });
        assert.deepEqual([desk.hello.resume_seq, desk.pass(ACKNOWLEDGE_AFTER_MS).names], [3, []], 'the hello has said it');
    });

    test('a resume from what was stored hands out nothing twice, and acknowledges as the server counts', () => {
        const desk = new Desk({ resume: { after: 0 }, acknowledging: 'by_application' }).connect({ head: 5 });
        desk.hear(['page', page(1, 5, [1, 2, 3, 4, 5])]);
        desk.session.acknowledge(2);
        desk.lose().reconnect({ head: 5, cursor: 2 });
        assert.equal(desk.hello.resume_seq, 2);
        desk.session.acknowledge(5);
        desk.turn();
        assert.deepEqual(desk.pass(ACKNOWLEDGE_AFTER_MS).names, [], 'this connection was brought to 2');
        desk.hear(['page', page(3, 5, [3, 4, 5])]);
        assert.deepEqual(desk.told('entry'), []);
        assert.deepEqual(desk.pass(ACKNOWLEDGE_AFTER_MS).frames, [{ name: 'acknowledge', fields: { seq: 5 } }]);
    });

    test('a hole ends the connection and moves nothing', () => {
        const desk = new Desk({ resume: { after: 4 } }).connect({ head: 9, cursor: 4 });
        desk.hear(['deliver', { entry: entry(6) }]);
        assert.deepEqual([desk.link, desk.events[0].reason.kind, desk.session.position], ['close', 'hole', 4]);
        desk.reconnect({ head: 9, cursor: 4 });
        desk.hear(['page', page(6, 9, [6])]);
        assert.equal(desk.events[0].reason.kind, 'hole');
    });

    test('a page with entries out of range or order is a fault of the server', () => {
        for (const bad of [page(1, 3, [2, 2]), page(1, 3, [3, 1]), page(1, 3, [4]), page(2, 3, [1]), page(1, 0, [1])]) {
            const desk = new Desk({ resume: { after: 0 } }).connect({ head: 9 }).hear(['page', bad]);
            assert.deepEqual([desk.events[0].reason.kind, desk.session.position], ['protocol', 0]);
        }
    });

    test('a seq that no number holds is a hole, and not taken for another one', () => {
        const desk = new Desk().connect({ head: 9 });
        desk.hear(['deliver', { entry: { kind: 77, seq: 2n ** 64n - 1n, time: 0 } }]);
        assert.equal(desk.events[0].reason.kind, 'hole');
    });

    test('what is skipped is told, and claimed by no later hello until it is filled', () => {
        const desk = new Desk({ resume: { after: 4 }, epoch: 1n, skip_above: 10 }).connect({ head: 30, cursor: 30, skipped: 26, epoch: 7n });
        assert.deepEqual(desk.told('skipped'), [{ type: 'skipped', after: 4, up_to: 30 }]);
        desk.lose().reconnect({ head: 30, cursor: 30 });
        assert.deepEqual([desk.hello.resume_seq, desk.hello.since, desk.hello.epoch], [30, 30, 7n]);
        desk.session.filled(4);
        desk.lose().reconnect({ head: 30, cursor: 30 });
        assert.equal(desk.hello.since, 4);
        // Nobody skips unasked, nor more than there is.
        assert.equal(new Desk().connect({ head: 30, cursor: 30, skipped: 1 }).events[0].reason.kind, 'protocol');
        assert.equal(new Desk({ skip_above: 1 }).connect({ head: 3, cursor: 3, skipped: 4 }).events[0].reason.kind, 'protocol');
    });

    test('an epoch that is not known where something is held is another log', () => {
        const start = () => new Desk({ resume: { after: 0 }, acknowledging: 'by_application' }).connect({ head: 9 });
        const told = (first, epoch) => ['epoch', { first, epoch }];
        const desk = start().hear(told(1, 5n), ['page', page(1, 3, [1, 2, 3])], told(4, 6n), ['deliver', { entry: entry(4) }]);
        assert.equal(desk.session.epoch, 6n);
        desk.session.acknowledge(2);
        desk.lose().reconnect({ head: 9, cursor: 2 });
        assert.deepEqual([desk.hello.resume_seq, desk.hello.epoch], [2, 6n], 'the newest of which it holds anything');
        assert.deepEqual(desk.hear(told(4, 6n)).events, [], 'again');
        desk.hear(told(4, 8n));
        assert.equal(desk.events[0].reason.kind, 'other_log');
        desk.reconnect({ head: 9 });
        assert.deepEqual([desk.hello.resume, desk.hello.resume_seq, desk.hello.epoch], ['after', 0, 0n]);
        assert.equal(desk.told('log_replaced').length, 1);
        // What was told for beyond the position may become another one.
        const other = start().hear(told(1, 5n), told(1, 7n), ['deliver', { entry: entry(1) }]);
        assert.equal(other.session.epoch, 7n);
        assert.equal(other.hear(told(1, 5n)).events[0].reason.kind, 'other_log');
    });

    test('a log that ends before the position is another one; three times within a minute, and the client stops', () => {
        const desk = new Desk({ resume: { after: 9 }, epoch: 1n });
        desk.connect({ head: 8, cursor: 8 });
        assert.equal(desk.events[0].reason.kind, 'other_log');
        desk.reconnect({ head: 8 }).hear(bye('other_log'));
        assert.equal(desk.session.phase, 'waiting');
        desk.reconnect({ head: 8 }).hear(bye('cursor_ahead'));
        assert.equal(desk.session.phase, 'ended');
    });

    test('with the log goes what names a place in it, until the application has discarded it', () => {
        const desk = new Desk({ resume: { after: 9 } }).connect({ head: 9, cursor: 9 });
        const change = { reaction: { author: 8n, author_seq: 3, reaction: '👍' } };
        const handle = desk.session.send(PEER, change);
        desk.session.send(PEER, HELLO);
        desk.lose();
        const placed = desk.session.fetch('fetch_log', { from: 5, direction: 'forwards', limit: 3 });
        desk.session.fetch('fetch_devices', {});
        desk.reconnect({ head: 2, cursor: 2 });
        desk.reconnect({ head: 2 });
        assert.deepEqual(desk.told('log_replaced')[0].dropped, [handle]);
        assert.deepEqual(desk.told('fetch_refused').map(({ fetch, code }) => [fetch, code]), [[placed, CODES.other_log]]);
        assert.deepEqual(desk.names, ['send', 'fetch_devices']);
        const isOtherLog = (error) => error.code === 'other_log';
        assert.throws(() => desk.session.fetch('mark_read', { conversation: PEER, up_to: 3, tell: true }), isOtherLog);
        assert.throws(() => desk.session.send(PEER, change), isOtherLog);
        desk.session.logDiscarded();
        desk.session.fetch('mark_read', { conversation: PEER, up_to: 3, tell: true });
        desk.session.send(PEER, change);
    });
});

describe('sending', () => {
    const accept = (number, seq) => ['accepted', { number, seq, time: 1, durability: 'committed', recipient: 'online' }];
    const refuse = (number, code, retryAfterMs, expected) => ['refused', { number, code: CODES[code], retry_after_ms: retryAfterMs, expected }];
    const numbers = (desk) => desk.frames.filter(({ name }) => name === 'send').map(({ fields }) => fields.number);

    test('no more than the window is unanswered', () => {
        const desk = new Desk().connect({ send_window: 2 });
        desk.session.send(PEER, HELLO);
        assert.deepEqual(numbers(desk.turn()), [1]);
        for (let n = 0; n < 4; n++) desk.session.send(PEER, HELLO);
        assert.deepEqual(numbers(desk.turn()), [], 'the first one to a conversation goes alone');
        assert.deepEqual(numbers(desk.hear(accept(1, 1))), [2, 3]);
        assert.deepEqual(numbers(desk.hear(accept(2, 2))), [4]);
    });

    test('nothing leaves before its number was kept', () => {
        const desk = new Desk({ keeping: 'by_application' }).connect({ last_number: 6 });
        const handle = desk.session.send(PEER, HELLO);
        desk.turn();
        assert.deepEqual([desk.told('numbered'), desk.names], [[{ type: 'numbered', handle, number: 7 }], []]);
        desk.session.kept(handle, 6);
        assert.deepEqual(numbers(desk.turn()), [], 'that was another one, confirmed late');
        desk.session.kept(handle, 7);
        assert.deepEqual(numbers(desk.turn()), [7]);
    });

    test('after a reconnect what is unanswered is sent again under its number', () => {
        const desk = new Desk().connect();
        desk.session.send(PEER, HELLO);
        desk.turn().lose().reconnect({ last_number: 1, head: 1, cursor: 0 });
        assert.deepEqual(numbers(desk), [1]);
        desk.hear(['page', page(1, 1, [])], accept(1, 1));
        assert.equal(desk.told('accepted')[0].seq, 1);
        assert.deepEqual(desk.told('entry'), [], 'a page has covered it');
    });

    test('after a refusal nothing leaves until all is answered and the time is over', () => {
        const desk = new Desk().connect();
        const [, second] = [1, 2].map(() => {
            const handle = desk.session.send(PEER, HELLO);
            desk.turn();
            return handle;
        });
        desk.hear(accept(1, 1));
        desk.session.send(PEER, HELLO);
        desk.turn();
        desk.hear(refuse(2, 'overloaded', 500, 2));
        assert.deepEqual(numbers(desk.pass(600)), []);
        desk.hear(refuse(3, 'send_gap', 0, 2));
        assert.deepEqual(numbers(desk), [2, 3]);
        assert.equal(desk.session.unanswered[0].handle, second);
    });

    test('what would be refused again is dropped, and the next one gets its number', () => {
        const desk = new Desk().connect();
        const bad = desk.session.send({ user: 9n }, HELLO);
        desk.turn();
        desk.hear(refuse(1, 'recipient', 0, 1));
        assert.deepEqual(desk.told('refused'), [{ type: 'refused', handle: bad, code: CODES.recipient }]);
        desk.session.send(PEER, HELLO);
        assert.deepEqual(numbers(desk.turn()), [1]);
    });

    test('a number that stands for another message fails its message and no other', () => {
        const desk = new Desk({ unanswered: [{ number: 4, to: PEER, content: HELLO }, { number: 5, to: PEER, content: HELLO }] });
        desk.connect({ last_number: 4 });
        assert.deepEqual(numbers(desk), [4, 5]);
        desk.hear(refuse(4, 'number_used', 0, 5), accept(5, 1));
        assert.deepEqual(desk.events.map(({ type, handle }) => [type, handle]).slice(0, 2), [['refused', 1], ['accepted', 2]]);
        assert.deepEqual(desk.session.unanswered, []);
    });

    test('a void number is given up and its message sent under another one', () => {
        const desk = new Desk({ unanswered: [{ number: 4, to: PEER, content: HELLO }] }).connect({ last_number: 4 });
        assert.deepEqual(numbers(desk), [4]);
        assert.deepEqual(numbers(desk.hear(refuse(4, 'given_up', 0, 5))), [5]);
    });

    test('one that follows those that are sent again waits for them, since the number of the last may be void', () => {
        const unanswered = [4, 5, null].map((number, at) => ({ number, to: PEER, content: { text: `message ${at}` } }));
        const desk = new Desk({ unanswered }).connect({ last_number: 5 });
        assert.deepEqual(numbers(desk), [4, 5]);
        assert.deepEqual(numbers(desk.hear(accept(4, 1))), []);
        desk.hear(refuse(5, 'given_up', 0, 6));
        assert.deepEqual(desk.frames.map(({ fields }) => [fields.number, fields.content.text]), [[6, 'message 1']]);
        assert.deepEqual(numbers(desk.hear(accept(6, 2))), [7]);
    });

    test('who keeps numbers is told that one is void, lest another message gets it from a server that was set back', () => {
        const unanswered = [{ number: 4, to: PEER, content: HELLO }];
        const desk = new Desk({ keeping: 'by_application', unanswered }).connect({ last_number: 4 });
        desk.hear(refuse(4, 'given_up', 0, 5));
        assert.deepEqual(desk.told('numbered').map(({ handle, number }) => [handle, number]), [[1, null], [1, 5]]);
    });

    test('a server that was set back gives numbers anew from where it is', () => {
        const unanswered = [9, 10].map((number) => ({ number, to: PEER, content: HELLO }));
        assert.deepEqual(numbers(new Desk({ unanswered }).connect({ last_number: 2 })), [3, 4]);
    });

    test('the first message to one conversation holds up no other', () => {
        const desk = new Desk().connect();
        desk.session.send(PEER, HELLO);
        desk.session.send({ user: 9n }, HELLO);
        assert.deepEqual(desk.turn().frames.map(({ name, fields }) => [name, fields.number]), [['send', 1], ['give_up', 1], ['send', 2]]);
        desk.hear(refuse(1, 'rate_limited', 60, 1), ['given_up', { number: 1, seq: 0 }], accept(2, 1));
        assert.deepEqual(numbers(desk.pass(59)), []);
        assert.deepEqual(numbers(desk.pass(1)), [3]);
    });

    test('a message that is taken back before it left is in no log', () => {
        const desk = new Desk();
        const handle = desk.session.send(PEER, HELLO);
        assert.equal(desk.session.cancel(handle), true);
        assert.deepEqual(desk.turn().told('cancelled'), [{ type: 'cancelled', handle }]);
        assert.equal(desk.session.cancel(handle), false);
        assert.deepEqual(numbers(desk.turn({ kind: 'connected' }).hear(['welcome', WELCOME])), []);
    });

    test('an accepted message stands for its entry, in a group too', () => {
        const desk = new Desk().connect();
        desk.session.send({ group: 5n }, HELLO);
        desk.turn().hear(accept(1, 1));
        const sent = { kind: 'sent_to_group', group: 5n, device: 3n, number: 1, content: HELLO, seq: 1, time: 1 };
        assert.deepEqual(desk.told('entry'), [{ type: 'entry', entry: sent }]);
    });

    test('what no server takes, or not this one, does not leave', () => {
        const desk = new Desk().connect({ content_kinds: 0n, text_bytes_max: 5 });
        const code = (to, content) => {
            try {
                desk.session.send(to, content);
                return 'taken';
            } catch (error) {
                return error.code ?? error.constructor.name;
            }
        };
        assert.equal(code(PEER, { text: 'abcde' }), 'taken');
        assert.equal(code(PEER, { text: 'abcdef' }), 'text_length');
        assert.equal(code(PEER, { text: '' }), 'text_length');
        assert.equal(code(PEER, { opaque: Uint8Array.of(1) }), 'content_kind');
        assert.equal(code({ group: 5n }, HELLO), 'conversation_kind');
        assert.equal(code({ user: 0n }, HELLO), 'recipient');
        assert.equal(code({ user: 8 }, HELLO), 'TypeError');
        assert.equal(code(PEER, { act: { act: 'end' } }), 'content_kind');
        assert.equal(code(PEER, { opaque: new Uint8Array() }), 'content_limits');
        assert.equal(code(PEER, { opaque: new Uint8Array(16_385) }), 'content_limits');
        assert.equal(code(PEER, { reply: { author: 8n, author_seq: 1, quote: 'x'.repeat(257), text: 'a' } }), 'content_limits');
        assert.equal(code(PEER, { edit: { author: 7n, author_seq: 0, content: HELLO } }), 'content_limits');
        assert.equal(code(PEER, { mention: { users: [0n], text: 'a' } }), 'content_limits');
        assert.equal(code(PEER, { reaction: { author: 8n, author_seq: 1, reaction: 'x'.repeat(65) } }), 'content_limits');
        assert.equal(code({ group: 5n }, { act: { act: 'join', secret: new Uint8Array(3) } }), 'content_limits');
        // What waits for a connection goes back when it is known what the server takes.
        const waiting = new Desk();
        const handle = waiting.session.send(PEER, { opaque: Uint8Array.of(1) });
        waiting.connect({ content_kinds: 0n });
        assert.deepEqual(waiting.told('returned').map((event) => [event.handle, event.why.code]), [[handle, 'content_kind']]);
        assert.deepEqual([waiting.names, waiting.session.unanswered], [[], []]);
    });

    test('the queue is bounded, and so is what waits for the link', () => {
        const desk = new Desk().connect();
        desk.unwritten = UNWRITTEN_BYTES_MAX;
        for (let n = 0; n < QUEUED_MESSAGES_MAX; n++) desk.session.send(PEER, HELLO);
        assert.throws(() => desk.session.send(PEER, HELLO), (error) => error.code === 'queue_full');
        assert.deepEqual([desk.turn().names, desk.session.deadline(desk.now)], [[], desk.now + UNWRITTEN_AGAIN_AFTER_MS]);
        desk.unwritten = 0;
        assert.deepEqual(numbers(desk.pass(UNWRITTEN_AGAIN_AFTER_MS)), [1]);
    });
});

describe('requests', () => {
    const FETCH = { from: 0, direction: 'backwards', limit: 10 };
    const error = (code, kind, request, retryAfterMs = 0) => ['error', { code: CODES[code], kind: CLIENT_KINDS[kind], request, retry_after_ms: retryAfterMs, detail: '' }];

    test('few are on their way at a time, and each is answered once, in any order', () => {
        const desk = new Desk().connect();
        const requests = Array.from({ length: FETCHES_IN_FLIGHT_MAX + 1 }, () => desk.session.fetch('fetch_log', FETCH));
        assert.equal(desk.turn().frames.length, FETCHES_IN_FLIGHT_MAX);
        desk.hear(['page', { ...page(1, 0, []), request: requests[2] }]);
        assert.deepEqual(desk.told('answer').map(({ fetch, name, asked }) => [fetch, name, asked.limit]), [[requests[2], 'page', 10]]);
        assert.deepEqual(desk.frames.map(({ fields }) => fields.request), [requests[FETCHES_IN_FLIGHT_MAX]]);
        assert.equal(desk.session.unaskedAnswers, 0);
        desk.hear(['page', { ...page(1, 0, []), request: requests[2] }], ['marked', { request: requests[0] }]);
        assert.deepEqual([desk.events, desk.session.unaskedAnswers], [[], 2]);
    });

    test('one is asked again after a lost connection, and after the time that the server tells', () => {
        const desk = new Desk().connect();
        const request = desk.session.fetch('fetch_conversation', { conversation: PEER, ...FETCH });
        desk.turn().lose().reconnect();
        assert.deepEqual(desk.names, ['fetch_conversation']);
        desk.hear(error('overloaded', 'fetch_conversation', request, 50));
        assert.deepEqual([desk.pass(49).names, desk.session.deadline(desk.now)], [[], desk.now + 1]);
        assert.deepEqual(desk.pass(1).names, ['fetch_conversation']);
        desk.hear(error('no_such_group', 'fetch_conversation', request));
        assert.deepEqual(desk.told('fetch_refused').map(({ fetch, code }) => [fetch, code]), [[request, CODES.no_such_group]]);
    });

    test('what the server does not have is not asked for', () => {
        const desk = new Desk().connect({ content_kinds: 0n });
        desk.session.fetch('fetch_inbox', { before: 0, limit: 10, messages: 0 });
        desk.session.fetch('fetch_conversation', { conversation: { group: 5n }, ...FETCH });
        desk.session.fetch('fetch_log', FETCH);
        desk.turn();
        assert.deepEqual(desk.names, ['fetch_log']);
        assert.deepEqual(desk.told('fetch_refused').map(({ detail }) => detail), ['this server does not have `fetch_inbox`', 'this server does not have `group`']);
    });

    test('an inbox may have a page behind it, which alone is asked for again', () => {
        const desk = new Desk().connect();
        const request = desk.session.fetch('fetch_inbox', { before: 0, limit: 10, messages: 7 });
        const row = { conversation: PEER, settings: 0n, unread: 1, read_up_to: 0, delivered_up_to: 0, seen_up_to: 0, left_out: 0, last: entry(1) };
        desk.turn().hear(['inbox', { request, at: 1, more: false, rows: [row] }]);
        assert.deepEqual(desk.told('answer').map(({ name, isLast }) => [name, isLast]), [['inbox', false]]);
        desk.lose().reconnect({ head: 1 });
        const { name, fields } = desk.frames[0];
        assert.deepEqual([name, fields.conversation, fields.limit, fields.request], ['fetch_conversation', PEER, 7, request]);
        assert.equal(desk.hear(['page', { ...page(1, 1, [1]), request }]).told('answer')[0].isLast, true);
    });

    test('a removal that was done before its connection was lost is answered with the list', () => {
        const desk = new Desk().connect();
        const request = desk.session.fetch('remove_device', { device: 9n });
        desk.turn().lose().reconnect();
        assert.deepEqual(desk.hear(error('no_such_device', 'remove_device', request)).names, ['fetch_devices']);
        assert.equal(desk.hear(['devices', { request, devices: [] }]).told('answer')[0].fetch, request);
    });

    test('a page of a conversation goes by places, where reactions follow what they are about', () => {
        const reaction = { kind: 'received', seq: 9, time: 1, from: 8n, origin: 4, content: { reaction: { author: 8n, author_seq: 1, reaction: '!', place: 1, written: 1 } } };
        const answered = (entries) => {
            const desk = new Desk().connect({ head: 9, cursor: 9 });
            const request = desk.session.fetch('fetch_conversation', { conversation: PEER, ...FETCH });
            return desk.turn().hear(['page', { ...page(1, 5, []), request, entries }]).events[0].type;
        };
        assert.equal(answered([entry(1), reaction, entry(2)]), 'answer');
        assert.equal(answered([entry(2), reaction]), 'disconnected');
    });
});

describe('presence, typing and groups', () => {
    const state = (user, name, lastSeen = 0) => ({ user, state: name, last_seen: lastSeen, ask_again_ms: 0 });

    test('a watch is renewed at half of its life, and what ends is unknown', () => {
        const desk = new Desk().connect();
        desk.session.watch([8n, 9n]);
        const { request } = desk.turn().frames[0].fields;
        desk.hear(['presence', { request, lifetime_ms: 10_000, states: [state(8n, 'online'), state(9n, 'unknown')] }]);
        assert.deepEqual(desk.told('presence'), [{ type: 'presence', user: 8n, state: 'online', last_seen: 0 }]);
        desk.hear(['presence', { request: 0, lifetime_ms: 0, states: [state(8n, 'offline', 60_000), state(10n, 'online')] }]);
        assert.deepEqual(desk.told('presence'), [{ type: 'presence', user: 8n, state: 'offline', last_seen: 60_000 }]);
        assert.equal(desk.session.deadline(desk.now), 5_000);
        assert.deepEqual(desk.pass(5_000).names, ['watch']);
        desk.pass(5_000);
        assert.deepEqual(desk.told('presence'), [{ type: 'presence', user: 8n, state: 'unknown', last_seen: 0 }]);
        desk.lose().reconnect();
        assert.deepEqual(desk.names, ['watch'], 'the watch of a lost connection is not taken over');
    });

    test('another set follows a watch that is on its way', () => {
        const desk = new Desk().connect();
        desk.session.watch([8n]);
        const { request } = desk.turn().frames[0].fields;
        desk.session.watch([9n]);
        assert.deepEqual(desk.turn().names, []);
        desk.hear(['presence', { request, lifetime_ms: 10_000, states: [state(8n, 'online')] }]);
        assert.deepEqual([desk.events, desk.frames[0].fields.users], [[], [9n]]);
    });

    test('who is offline as an answer says is shown as there no longer', () => {
        const desk = new Desk().connect();
        desk.session.watch([8n]);
        const { request } = desk.turn().frames[0].fields;
        desk.hear(['presence', { request, lifetime_ms: 10_000, states: [state(8n, 'online')] }]);
        desk.session.send(PEER, HELLO);
        desk.turn().hear(['accepted', { number: 1, seq: 1, time: 1, durability: 'local', recipient: 'offline' }]);
        assert.equal(desk.told('presence')[0].state, 'offline');
    });

    test('that somebody types is said every three seconds at most, and shown until it ends or they write', () => {
        const desk = new Desk().connect();
        for (const [ms, names] of [[0, ['typing']], [2_999, []], [1, ['typing']]]) {
            desk.now += ms;
            desk.session.typing(PEER);
            desk.session.typing(PEER);
            assert.deepEqual(desk.turn().names, names);
        }
        desk.hear(['typing', { conversation: PEER, user: 8n, ends_in_ms: 6_000 }]);
        assert.deepEqual(desk.told('typing'), [{ type: 'typing', conversation: PEER, user: 8n }]);
        assert.deepEqual(desk.hear(['typing', { conversation: PEER, user: 8n, ends_in_ms: 6_000 }]).events, []);
        desk.hear(['deliver', { entry: entry(1) }]);
        assert.deepEqual(desk.events.map(({ type }) => type), ['entry', 'typing_ended']);
        desk.hear(['typing_in_group', { group: 5n, user: 9n, ends_in_ms: 6_000 }]);
        assert.deepEqual(desk.pass(6_000).told('typing_ended'), [{ type: 'typing_ended', conversation: { group: 5n }, user: 9n }]);
    });

    test('each connection begins as here, and away is said again', () => {
        const desk = new Desk().connect();
        desk.session.setStatus('away');
        assert.deepEqual(desk.turn().names, ['set_status']);
        desk.lose().reconnect();
        assert.deepEqual(desk.frames, [{ name: 'set_status', fields: { status: 'away' } }]);
    });

    test('what came of groups is handed out, moves no position, and is acknowledged once in a while', () => {
        const desk = new Desk().connect();
        const groupEntry = (seq) => ({ seq, time: 1, from: 9n, origin: 1, messages: seq, content: HELLO });
        desk.hear(['deliver_group', { group: 5n, entry: groupEntry(3) }], ['deliver_group', { group: 5n, entry: groupEntry(4) }]);
        assert.deepEqual(desk.told('group_entry').map(({ entry: { seq } }) => seq), [3, 4]);
        assert.equal(desk.session.position, 0);
        assert.deepEqual(desk.pass(ACKNOWLEDGE_GROUPS_AFTER_MS - 1).names, []);
        assert.deepEqual(desk.pass(1).frames, [{ name: 'acknowledge_group', fields: { group: 5n, up_to: 4 } }]);
        desk.hear(['deliver_group', { group: 5n, entry: groupEntry(4) }]);
        assert.deepEqual(desk.pass(ACKNOWLEDGE_GROUPS_AFTER_MS).names, []);
        const request = desk.session.fetch('fetch_conversation', { conversation: { group: 5n }, from: 0, direction: 'backwards', limit: 9 });
        desk.turn().hear(['group_page', { request, group: 5n, first: 1, last: 6, more: false, head: 6, entries: [groupEntry(2), groupEntry(6)] }]);
        assert.equal(desk.told('answer')[0].answer.head, 6);
        desk.session.close();
        assert.deepEqual(desk.turn().frames.map(({ fields }) => fields.up_to), [6, undefined]);
    });
});

describe('several nodes', () => {
    const redirect = (address, afterMs = 0, mapVersion = 1) => ['redirect', { address, reason: 'moving', after_ms: afterMs, map_version: mapVersion }];
    const greetedWith = (desk, ...frames) => {
        desk.now = Math.max(desk.now, desk.session.deadline(desk.now));
        desk.turn().turn({ kind: 'connected' });
        desk.hops = desk.frames[0].fields.hops;
        return desk.hear(...frames);
    };

    test('one in place of a welcome is followed at once, with one hop more', () => {
        const desk = greetedWith(new Desk(), redirect('second:2'));
        assert.deepEqual([desk.session.address, desk.link, desk.session.deadline(0)], ['second:2', 'close', 0]);
        greetedWith(desk, ['welcome', WELCOME]);
        assert.deepEqual([desk.hops, desk.told('welcome')[0].address], [2, 'second:2']);
        desk.lose();
        assert.equal(desk.session.address, 'second:2', 'that of the last welcome');
    });

    test('one in ready is followed when its time is over, with a bye, and what was not answered is sent again', () => {
        const desk = new Desk().connect();
        desk.session.send(PEER, HELLO);
        desk.turn().hear(redirect('second:2', 500));
        assert.equal(desk.session.phase, 'ready');
        desk.pass(500);
        assert.deepEqual([desk.names, desk.link, desk.session.address], [['bye'], 'close', 'second:2']);
        desk.reconnect();
        assert.deepEqual([desk.hello.hops, desk.names], [2, ['send']]);
    });

    test('one that ends earlier is followed after the rest of the time, unless a bye says what is to be done first', () => {
        const desk = new Desk().connect().hear(redirect('second:2', 500));
        desk.pass(100).lose();
        assert.deepEqual([desk.session.address, desk.session.deadline(desk.now)], ['second:2', 500]);
        const tokenless = new Desk().connect().hear(redirect('second:2', 500), bye('token_expired'));
        assert.deepEqual([tokenless.session.phase, tokenless.session.address], ['token', 'first:1']);
    });

    test('no more than the limit are followed in a row, nor one that knows less than the one before', () => {
        const desk = new Desk();
        for (let n = 1; n <= REDIRECTS_MAX; n++) greetedWith(desk, redirect(`node${n}:1`));
        greetedWith(desk, redirect('one too many:1'));
        assert.deepEqual([desk.events[0].reason.kind, desk.session.address], ['circle', 'first:1']);
        greetedWith(desk, redirect('second:2', 0, 7));
        assert.equal(desk.hops, 1);
        greetedWith(desk, redirect('third:3', 0, 6));
        assert.deepEqual([desk.events[0].reason.kind, desk.session.address], ['circle', 'first:1']);
    });

    test('a node that cannot be reached, or says elsewhere, sends back to the first address; one that is busy does not', () => {
        const away = () => greetedWith(new Desk(), redirect('second:2'));
        const unreachable = away().turn().lose();
        assert.equal(unreachable.session.address, 'first:1');
        assert.equal(greetedWith(away(), bye('elsewhere', 50)).session.address, 'first:1');
        assert.equal(greetedWith(away(), bye('overloaded', 50)).session.address, 'second:2');
        const suspended = greetedWith(away(), ['welcome', WELCOME]).lose();
        suspended.session.suspend();
        assert.equal(suspended.turn().session.address, 'second:2');
    });

    test('who follows none says so, and is sent none', () => {
        const desk = new Desk({ follows_redirects: false });
        greetedWith(desk, redirect('second:2'));
        assert.deepEqual([desk.hops, desk.events[0].reason.kind], [0, 'protocol']);
    });
});
