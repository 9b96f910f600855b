// The transport by long polling, with a server and a network of the test's own, which loses requests and answers: both streams arrive whole.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { polling } from '../src/index.js';
import { POLL_BODY_BYTES_MAX, POLL_TRIES_MAX } from '../src/limits.js';
import { mulberry32 } from './random.js';

// Pauses before another try are as short as can be.
Math.random = () => 0.001;

const ID = 'AbCdEfGhIjKlMnOpQrStUv';

/** What SPEC 1.5 says of a server, with a network before it. `loses()`: whether this request or answer is lost, but never so many in a row that
 * the link is given up. */
class Server {
    said = [];
    waiting = [];
    let_go = 0;
    isOver = false;
    requests = [];
    lost = { GET: 0, POST: 0 };
    wake = () => {};

    constructor({ loses = () => false, lostMax = POLL_TRIES_MAX - 1, takes = (count) => count } = {}) {
        Object.assign(this, { loses, lostMax, takes });
        globalThis.fetch = (url, options) => this.fetch(url, options);
    }

    async fetch(url, { method = 'GET', body = new Uint8Array(0), signal }) {
        this.requests.push({ url, method });
        await undefined;
        if (this.isLost(method)) throw new TypeError('fetch failed');
        const answer = await this.answer(new URL(url), method, body, signal);
        if (this.isLost(method)) throw new TypeError('fetch failed');
        this.lost[method] = 0;
        return new Response(answer.status === 204 ? null : (answer.body ?? ''), { status: answer.status });
    }

    isLost(method) {
        const isLost = this.loses() && this.lost[method] < this.lostMax;
        this.lost[method] += isLost;
        return isLost;
    }

    async answer({ searchParams }, method, body, signal) {
        const at = Number(searchParams.get('at') ?? 0);
        if (searchParams.has('session') && searchParams.get('session') !== ID) return { status: 410 };
        if (method === 'POST') {
            if (at > this.said.length) return { status: 409 };
            const fresh = body.subarray(this.said.length - at);
            this.said.push(...fresh.subarray(0, this.takes(fresh.length)));
            return searchParams.has('session') ? { status: 200, body: `${this.said.length}` } : { status: 201, body: `${ID} ${this.said.length}` };
        }
        assert.ok(at >= this.let_go && at <= this.let_go + this.waiting.length, 'what was let go of is not asked for');
        this.waiting.splice(0, at - this.let_go);
        this.let_go = at;
        if (this.waiting.length === 0 && !this.isOver) {
            await new Promise((resolve, reject) => {
                this.wake = resolve;
                signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
            });
        }
        if (this.waiting.length > 0) return { status: 200, body: Uint8Array.from(this.waiting) };
        return { status: this.isOver ? 410 : 204 };
    }

    tell(...bytes) {
        this.waiting.push(...bytes);
        this.wake();
    }

    end() {
        this.isOver = true;
        this.wake();
    }
}

function open(url = 'wss://host/v1/ws') {
    const told = { opened: 0, bytes: [], closed: [] };
    const link = polling(url, {
        opened: () => told.opened++,
        bytes: (bytes) => told.bytes.push(...bytes),
        closed: (words) => told.closed.push(words),
    });
    return { link, told };
}

async function until(happened) {
    while (!happened()) await new Promise((resolve) => setTimeout(resolve, 1));
}

test('what is said and told goes through, with the end behind it', async () => {
    const server = new Server();
    const { link, told } = open();
    await until(() => told.opened === 1);
    link.write(Uint8Array.of(1, 2));
    link.write(Uint8Array.of(3));
    await until(() => server.said.length === 3);
    server.tell(4, 5);
    await until(() => told.bytes.length === 2);
    server.tell(6);
    server.end();
    await until(() => told.closed.length === 1);
    assert.deepEqual([server.said, told.bytes, link.buffered], [[1, 2, 3], [4, 5, 6], 0]);
    assert.match(told.closed[0], /has ended/);
    assert.ok(server.requests[0].url === 'https://host/v1/frames' && server.requests.slice(1).every(({ url }) => url.startsWith(`https://host/v1/frames?session=${ID}&at=`)));
});

test('both streams arrive whole, whatever the network loses and however little the server takes', async () => {
    for (let seed = 1; seed <= 30; seed++) {
        const random = mulberry32(seed);
        const server = new Server({ loses: () => random() < 0.3, takes: (count) => Math.ceil(count * random()) });
        const { link, told } = open();
        const bytes = (count) => Array.from({ length: count }, () => Math.floor(random() * 256));
        const [said, heard] = [bytes(400), bytes(400)];
        for (let at = 0; at < 400; at += 20) {
            link.write(Uint8Array.from(said.slice(at, at + 20)));
            server.tell(...heard.slice(at, at + 20));
            if (random() < 0.5) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        await until(() => server.said.length === 400 && told.bytes.length === 400);
        assert.deepEqual([server.said, told.bytes, told.closed], [said, heard, []], `seed ${seed}`);
        link.close();
    }
});

test('what is long is cut', async () => {
    const server = new Server();
    const bodies = [];
    const fetch = globalThis.fetch;
    globalThis.fetch = (url, options) => {
        if (options.method === 'POST') bodies.push(options.body.length);
        return fetch(url, options);
    };
    const { link } = open();
    link.write(new Uint8Array(POLL_BODY_BYTES_MAX + 1));
    await until(() => server.said.length === POLL_BODY_BYTES_MAX + 1);
    assert.deepEqual(bodies, [POLL_BODY_BYTES_MAX, 1]);
    link.close();
});

test('a network that stays away ends the link, once and with words', async () => {
    new Server({ loses: () => true, lostMax: POLL_TRIES_MAX });
    const { link, told } = open();
    link.write(Uint8Array.of(1));
    await until(() => told.closed.length > 0);
    assert.match(told.closed[0], /no answer from https:\/\/host\/v1\/frames/);
    link.write(Uint8Array.of(2));
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(told.closed.length, 1);
});

test('a server that refuses ends it with what it says', async () => {
    globalThis.fetch = async () => new Response('overloaded: too many sessions\n', { status: 503 });
    const { link, told } = open();
    link.write(Uint8Array.of(1));
    await until(() => told.closed.length > 0);
    assert.equal(told.closed[0], 'https://host/v1/frames answered 503: overloaded: too many sessions');
});

test('who closes hears nothing more, and what was written still goes out', async () => {
    const server = new Server();
    const { link, told } = open();
    link.write(Uint8Array.of(1));
    await until(() => server.said.length === 1);
    link.write(Uint8Array.of(2));
    link.close();
    server.tell(3);
    await until(() => server.said.length === 2);
    assert.deepEqual([told.bytes, told.closed], [[], []]);
});

test('who stands still asks for nothing until it goes on', async () => {
    const server = new Server();
    const { link, told } = open();
    link.write(Uint8Array.of(1));
    await until(() => server.requests.some(({ method }) => method === 'GET'));
    link.pause();
    server.tell(1);
    await until(() => told.bytes.length === 1);
    server.tell(2);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(told.bytes.length, 1);
    link.resume();
    await until(() => told.bytes.length === 2);
    link.close();
});

test('an address that is none is refused with what to give', () => {
    assert.throws(() => open('tcp://host:1'), /give wss:\/\/host\/v1\/ws or https:\/\/host\/v1\/frames/);
});
