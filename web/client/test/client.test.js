// The client with its store, over a link to the model server that a test cuts.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, MemoryStore, NotSent, RequestRefused, Tabs, connect } from '../src/index.js';
import { CODES } from '../src/codes.js';
import { BACKOFF_MAX_MS, EVENTS_WAITING_MAX } from '../src/limits.js';
import { DEVICE, PEER, Server } from './model.js';

/** A transport that leads to a model server, which commits and pushes at once. */
class Network {
    server = new Server();
    links = [];
    urls = [];
    /** Frames are cut into pieces of so many bytes. */
    cut = 7;

    transport = (url, handlers) => {
        this.urls.push(url);
        const link = {
            buffered: 0,
            isOpen: true,
            write: (bytes) => {
                if (!link.isOpen) return;
                this.server.receive(bytes);
                this.move();
            },
            close: () => {
                if (!link.isOpen) return;
                link.isOpen = false;
                this.server.cut();
            },
            handlers,
        };
        this.links.push(link);
        queueMicrotask(() => {
            if (!link.isOpen) return;
            this.server.connect();
            handlers.opened();
        });
        return link;
    };

    get link() {
        return this.links[this.links.length - 1];
    }

    /** Whatever the server has to say arrives. */
    move() {
        this.server.commit();
        this.server.push(3);
        const { link } = this;
        queueMicrotask(() => {
            while (link?.isOpen && this.server.out.length > 0) link.handlers.bytes(Uint8Array.from(this.server.out.splice(0, this.cut)));
            if (link?.isOpen && this.server.connection?.isWelcome && !this.server.connection.isLive) this.move();
        });
    }

    break() {
        const { link } = this;
        link.isOpen = false;
        this.server.cut();
        link.handlers.closed('cut');
    }
}

const open = (network, options = {}) =>
    connect('tcp://first:1', () => 'token', { transport: network.transport, device: DEVICE, backoff_max_ms: 0, ...options });
const next = (client, type) => new Promise((resolve) => client.addEventListener(type, ({ detail }) => resolve(detail), { once: true }));
const texts = async (store) => (await store.entries()).map(({ content }) => content.text);

test('a message is answered, and its answer and its entry are in the store before anybody hears of it', async () => {
    const network = new Network();
    const store = new MemoryStore();
    const client = await open(network, { store });
    const seen = next(client, 'accepted').then(async () => [await texts(store), (await store.load()).messages]);
    const { id, answer } = client.text({ user: PEER }, 'hello');
    const accepted = await answer;
    assert.deepEqual([accepted.type, accepted.seq, accepted.id], ['accepted', 1, id]);
    assert.deepEqual(await seen, [['hello'], []]);
    assert.equal(client.user, 7n);
    await client.close();
    assert.equal(client.phase, 'ended');
});

test('a number is in the store before its message leaves', async () => {
    const network = new Network();
    const store = new MemoryStore();
    const client = await open(network, { store });
    await next(client, 'welcome');
    const commits = [];
    let letGo;
    store.commit = (changes) => {
        commits.push(changes);
        return new Promise((resolve) => (letGo = resolve));
    };
    client.text({ user: PEER }, 'hello');
    await new Promise(setImmediate);
    assert.deepEqual(commits[0].map(({ op, number }) => [op, number]), [['message', null], ['message', 1]]);
    assert.deepEqual(network.server.log, [], 'nothing has left');
    delete store.commit;
    letGo();
    await next(client, 'accepted');
    assert.equal(network.server.log.length, 1);
    await client.close();
});

test('where a device stands is written down when that has changed, and not when it connects and has missed nothing', async () => {
    const network = new Network();
    const store = new MemoryStore();
    const positions = [];
    const commit = store.commit.bind(store);
    store.commit = (changes) => {
        for (const { op, position } of changes) if (op === 'position') positions.push(position);
        return commit(changes);
    };
    for (const missed of [[], [], ['one', 'two'], []]) {
        for (const text of missed) network.server.othersWrite(text);
        const client = await open(network, { store });
        await next(client, 'welcome');
        while ((await store.load()).position < network.server.log.length) await new Promise(setImmediate);
        await client.close();
    }
    assert.equal(positions[0], 0, 'a new device stands at the beginning');
    assert.equal(positions.at(-1), 2);
    assert.equal(positions.length, new Set(positions).size, 'none is written twice');
});

test('what a program left unanswered when it was killed is in the log once', async () => {
    const store = new MemoryStore();
    const network = new Network();
    // Killed after each number of commits.
    for (let commits = 0; commits < 12; commits++) {
        let left = commits;
        const dying = {
            load: () => store.load(),
            entries: (...args) => store.entries(...args),
            commit: (changes) => (left-- > 0 ? store.commit(changes) : new Promise(() => {})),
            close: async () => {},
        };
        const client = await open(network, { store: dying });
        client.text({ user: PEER }, `message ${commits}`);
        for (let n = 0; n < 30; n++) await new Promise(setImmediate);
        network.link.close();
        // Its timers are all that is left of it.
        client.close();
    }
    const client = await open(network, { store });
    client.text({ user: PEER }, 'last');
    for (let n = 0; client.unanswered.length > 0 && n < 500; n++) await new Promise(setImmediate);
    await client.close();
    const sent = network.server.log.map(({ content }) => content.text);
    assert.equal(new Set(sent).size, sent.length, 'none is there twice');
    assert.deepEqual(await texts(store), sent, 'and the device has all');
    assert.ok(sent.length > 5 && sent[sent.length - 1] === 'last', sent.join());
    assert.deepEqual((await store.load()).messages, []);
});

test('a connection that breaks is made anew, and goes on where the last one was', async () => {
    const network = new Network();
    const client = await open(network);
    network.server.othersWrite('first');
    assert.equal((await next(client, 'entry')).entry.content.text, 'first');
    await new Promise(setImmediate);
    network.break();
    network.server.othersWrite('second');
    const { entry, place } = await next(client, 'entry');
    assert.deepEqual([entry.content.text, place], ['second', 2]);
    await client.close();
});

test('a request gives the fields of its answer, or why it was refused', async () => {
    const network = new Network();
    const client = await open(network);
    network.server.othersWrite('first');
    await next(client, 'entry');
    const page = await client.fetchLog({ from: 1, direction: 'forwards' });
    assert.deepEqual([page.first, page.last, page.entries.length], [1, 1, 1]);
    const say = network.server.say.bind(network.server);
    network.server.say = (name, fields) => {
        if (name !== 'page') return say(name, fields);
        return say('error', { code: CODES.storage_failed, kind: 4, request: fields.request, retry_after_ms: 0, detail: 'the disk' });
    };
    await assert.rejects(client.fetchLog({ from: 1, direction: 'forwards' }), (error) => error instanceof RequestRefused && error.code === CODES.storage_failed);
    const late = client.fetchLog();
    const closed = client.close();
    await assert.rejects(late);
    await closed;
});

test('when the server wants another token the provider is asked, again if it has none', async () => {
    const network = new Network();
    const tokens = ['first', new Error('no network'), 'second'];
    const asked = [];
    const token = () => {
        const given = tokens.shift();
        asked.push(given);
        if (given instanceof Error) throw given;
        return given;
    };
    const client = await connect('tcp://first:1', token, { transport: network.transport, device: DEVICE, backoff_max_ms: 0 });
    await next(client, 'welcome');
    const failed = next(client, 'token_failed');
    network.server.say('bye', { code: CODES.token_expired, retry_after_ms: 0, detail: '', devices: [] });
    network.move();
    assert.equal((await failed).error.message, 'no network');
    await next(client, 'welcome');
    assert.equal(asked.length, 3);
    await client.close();
});

test('a token provider that goes on failing is asked again ever later, but no later than a server is connected to', async (t) => {
    const network = new Network();
    const failures = 8;
    let asked = 0;
    const token = () => {
        if (asked++ === 0 || asked > failures + 1) return 'token';
        throw new Error('no network');
    };
    const client = await connect('tcp://first:1', token, { transport: network.transport, device: DEVICE, backoff_max_ms: 0 });
    await next(client, 'welcome');
    const pauses = [];
    const { setTimeout } = globalThis;
    t.after(() => (globalThis.setTimeout = setTimeout));
    globalThis.setTimeout = (does, ms) => {
        if (pauses.length === failures) return setTimeout(does, ms);
        pauses.push(ms);
        return setTimeout(does, 0);
    };
    network.server.say('bye', { code: CODES.token_expired, retry_after_ms: 0, detail: '', devices: [] });
    network.move();
    await next(client, 'welcome');
    assert.deepEqual(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, BACKOFF_MAX_MS, BACKOFF_MAX_MS]);
    await client.close();
});

test('a store that fails ends the client, which tells nothing that is not kept', async () => {
    const network = new Network();
    const store = new MemoryStore();
    const client = await open(network, { store });
    await next(client, 'welcome');
    store.commit = () => Promise.reject(new Error('the disk is full'));
    const told = [];
    for (const type of ['accepted', 'entry']) client.addEventListener(type, () => told.push(type));
    const ended = next(client, 'ended');
    client.text({ user: PEER }, 'hello');
    assert.equal((await ended).reason.kind, 'failed');
    assert.deepEqual([told, network.server.log], [[], []]);
});

test('nobody waits for a client whose store failed', async () => {
    const network = new Network();
    const store = new MemoryStore();
    const client = await open(network, { store });
    await next(client, 'welcome');
    store.commit = () => Promise.reject(new Error('the disk is full'));
    const ended = next(client, 'ended');
    const { answer } = client.text({ user: PEER }, 'hello');
    await ended;
    let became;
    answer.catch(({ message }) => (became = message));
    for (let n = 0; n < 10; n++) await new Promise(setImmediate);
    assert.equal(became, 'the disk is full');
    assert.throws(() => client.text({ user: PEER }, 'hello'), /the disk is full/);
    assert.throws(() => client.fetchLog(), /the disk is full/);
});

test('nobody waits for a client that was closed, and what it did not send stays for the next one', async () => {
    const network = new Network();
    const store = new MemoryStore();
    const id = '0000000000000001-00000000';
    await store.commit([{ op: 'message', id, number: null, to: { user: PEER }, content: { text: 'of an earlier client' } }]);
    const receive = network.server.receive.bind(network.server);
    network.server.receive = () => {};
    const client = await open(network, { store });
    const waited = [client.text({ user: PEER }, 'hello').answer, client.fetchLog()];
    await client.close();
    const became = await Promise.race([Promise.allSettled(waited), new Promise((resolve) => setTimeout(resolve, 100, []))]);
    for (const { status, reason } of became) assert.match(`${status}: ${reason.message}`, /^rejected: the client was closed before the answer came/);
    assert.equal(became.length, 2);
    assert.match(became[0].reason.message, /the next client sends it/);
    network.server.receive = receive;
    const again = await open(network, { store });
    for (let n = 0; n < 100 && again.unanswered.length > 0; n++) await new Promise(setImmediate);
    await again.close();
    assert.deepEqual(await texts(store), ['of an earlier client', 'hello']);
});

test('what is put into the store of a client that is being closed stays there for the next one', async () => {
    const network = new Network();
    const store = new MemoryStore();
    let isRead = () => {};
    const reading = new Promise((resolve) => (isRead = resolve));
    let goOn;
    const slow = new Promise((resolve) => (goOn = resolve));
    let isSlow = false;
    const load = async () => {
        const kept = await store.load();
        if (!isSlow) return kept;
        isRead();
        await slow;
        return kept;
    };
    const shared = { load, commit: (changes) => store.commit(changes), entries: () => store.entries(), close: async () => {} };
    const client = await open(network, { store: shared });
    await next(client, 'welcome');
    const id = '0000000000001-00000000';
    await store.commit([{ op: 'message', id, number: null, to: { user: PEER }, content: { text: 'in the last moment' } }]);
    const returned = [];
    client.addEventListener('returned', ({ detail }) => returned.push(detail));
    isSlow = true;
    client.look();
    await reading;
    const closed = client.close();
    goOn();
    await closed;
    assert.deepEqual((await store.load()).messages.map((message) => message.id), [id]);
    assert.deepEqual(returned, []);

    isSlow = false;
    const again = await open(network, { store: shared });
    await next(again, 'accepted');
    assert.deepEqual(await texts(store), ['in the last moment']);
    await again.close();
});

test('one that is suspended is not connected, and goes on when it is resumed', async () => {
    const network = new Network();
    const client = await open(network);
    await next(client, 'welcome');
    client.suspend();
    assert.deepEqual([client.phase, network.link.isOpen], ['suspended', false]);
    client.text({ user: PEER }, 'later');
    network.server.othersWrite('meanwhile');
    client.resume();
    await next(client, 'accepted');
    await client.close();
    assert.deepEqual(network.server.log.map(({ content }) => content.text), ['meanwhile', 'later']);
});

/** A client whose store is so slow at first that reading is stopped; `letGo` has the store go on. The transport has no `pause`. */
async function fallenBehind() {
    const network = new Network();
    network.cut = 100_000;
    const { server } = network;
    const push = server.push.bind(server);
    server.push = () => push(400);
    for (let count = 0; count < EVENTS_WAITING_MAX + 2_000; count++) server.othersWrite('missed');
    const store = new MemoryStore();
    const commit = store.commit.bind(store);
    let letGo;
    const going = new Promise((resolve) => (letGo = resolve));
    store.commit = async (changes) => {
        if (changes.some(({ op }) => op === 'entry')) await going;
        return commit(changes);
    };
    const client = await open(network, { store });
    const entries = [];
    client.addEventListener('entry', ({ detail }) => entries.push(detail.entry.seq));
    for (let n = 0; n < 1_000 && client.phase !== 'suspended'; n++) await new Promise(setImmediate);
    return { network, client, entries, letGo };
}

test('a client that was stopped because its store was behind goes on by itself when the store has caught up', async () => {
    const { network, client, entries, letGo } = await fallenBehind();
    const { length } = network.server.log;
    assert.equal(client.phase, 'suspended');
    letGo();
    for (let n = 0; n < 500 && entries.length < length; n++) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual([entries.length, entries.at(-1), network.urls.length], [length, length, 2]);
    await client.close();
});

test('one that the application has suspended does not go on because the store has caught up, nor before', async () => {
    const { network, client, entries, letGo } = await fallenBehind();
    client.suspend();
    client.resume();
    assert.equal(client.phase, 'suspended', 'the store is behind');
    client.suspend();
    letGo();
    for (let n = 0; n < 50; n++) await new Promise((resolve) => setTimeout(resolve, 2));
    client.setStatus('away');
    assert.deepEqual([client.phase, network.urls.length], ['suspended', 1]);
    client.resume();
    for (let n = 0; n < 500 && entries.length < network.server.log.length; n++) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(entries.length, network.server.log.length);
    await client.close();
});

test('a redirect leads to the same kind of address at another host', async () => {
    const network = new Network();
    network.server.redirects = 1;
    const client = await connect('wss://first/v1/ws', () => 'token', { transport: network.transport, device: DEVICE, backoff_max_ms: 0 });
    await next(client, 'welcome');
    assert.deepEqual(network.urls, ['wss://first/v1/ws', 'wss://other:2/v1/ws']);
    await client.close();
});

test('a message that is not sent is told by an error that says what to do', async () => {
    const client = await open(new Network());
    assert.throws(() => client.text({ user: PEER }, ''), (error) => error instanceof NotSent && error.code === 'text_length');
    assert.throws(() => client.edit({ user: PEER }, 1, { text: 'x' }), /wait for the event `welcome`/);
    await next(client, 'welcome');
    const { id, answer } = client.text({ user: PEER }, 'oops');
    client.cancel(id);
    assert.ok(['cancelled', 'accepted'].includes((await answer).type));
    assert.equal(client.cancel(id), false);
    await client.close();
    assert.throws(() => client.text({ user: PEER }, 'late'), (error) => error.code === 'ended');
});

test('a token in place of its provider is refused with what to give', async () => {
    for (const token of ['a token', undefined]) {
        await assert.rejects(connect('tcp://first:1', token), /give a function that returns it/);
        assert.throws(() => new Tabs('wss://first/v1/ws', token, { name: 'one', locks: {}, Channel: class {} }), /give a function/);
    }
});

test('a client is made by `connect` or of its parts, and is an EventTarget', async () => {
    const client = await open(new Network());
    assert.ok(client instanceof Client && client instanceof EventTarget);
    await client.close();
});
