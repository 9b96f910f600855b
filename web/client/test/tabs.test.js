// Several tabs over one store and one model server: one leads, and none that stood still writes.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { MemoryStore, Tabs, followPage } from '../src/index.js';
import { LEASE_MS, claimed, leads, released } from '../src/lease.js';
import { DEVICE, PEER, Server } from './model.js';

const TO = { user: PEER };

test('a lease is for one tab until it is over or given back, and counts its terms', () => {
    const first = claimed(undefined, 'a', 1_000);
    assert.deepEqual(first, { tab: 'a', until: 1_000 + LEASE_MS, term: 1 });
    assert.deepEqual(claimed(first, 'b', 1_000 + LEASE_MS - 1), first, 'it is not free');
    assert.deepEqual(claimed(first, 'a', 5_000), { tab: 'a', until: 5_000 + LEASE_MS, term: 1 }, 'renewed');
    const second = claimed(first, 'b', 1_000 + LEASE_MS);
    assert.ok(leads(second, 'b', 2) && !leads(second, 'a', 1));
    assert.deepEqual(released(second, 'a'), second);
    const third = claimed(released(second, 'b'), 'a', 0);
    assert.ok(leads(third, 'a', 3) && !leads(third, 'a', 1), 'who got it again is not who had it');
});

/** `navigator.locks`, as far as it is used. */
class Locks {
    #holder;
    #queue = [];

    request(_name, ...rest) {
        const does = rest.pop();
        return new Promise((resolve, reject) => {
            const wants = { does, resolve, reject };
            if (rest[0]?.steal && this.#holder !== undefined) {
                this.#holder.reject(Object.assign(new Error('stolen'), { name: 'AbortError' }));
                this.#holder = undefined;
                this.#queue.unshift(wants);
            } else {
                this.#queue.push(wants);
            }
            this.#next();
        });
    }

    #next() {
        if (this.#holder !== undefined || this.#queue.length === 0) return;
        const holder = this.#queue.shift();
        this.#holder = holder;
        const done = () => {
            if (this.#holder !== holder) return;
            this.#holder = undefined;
            this.#next();
        };
        Promise.resolve().then(holder.does).then(holder.resolve, holder.reject).finally(done);
    }
}

/** BroadcastChannel, within one test; a tab that stands still hears nothing. */
function channels() {
    const all = new Set();
    return class {
        constructor() {
            all.add(this);
        }

        postMessage(data) {
            const copy = structuredClone(data);
            for (const other of all) if (other !== this) queueMicrotask(() => other.onmessage({ data: copy }));
        }

        close() {
            all.delete(this);
        }
    };
}

/** Tabs that share a store, a server, locks and a clock. */
class Browser {
    store = new MemoryStore();
    server = new Server();
    now = 1_000_000;
    #locks = new Locks();
    #Channel = channels();
    #link;

    /** A tab; `frozen.is` stops whatever it would do. */
    open(frozen = { is: false }) {
        const transport = (_url, handlers) => {
            const link = { buffered: 0, handlers, isOpen: true };
            link.write = (bytes) => {
                if (!link.isOpen) return;
                this.server.receive(bytes);
                this.#move();
            };
            link.close = () => (link.isOpen = false);
            queueMicrotask(() => {
                if (!link.isOpen || frozen.is) return;
                if (this.#link !== undefined) this.#link.isOpen = false;
                this.#link = link;
                this.server.connect();
                handlers.opened();
            });
            return link;
        };
        return new Tabs('wss://first/v1/ws', () => 'token', {
            name: 'test', store: this.store, transport, device: DEVICE, backoff_max_ms: 0,
            locks: this.#locks, Channel: this.#Channel, clock: () => this.now,
        });
    }

    #move() {
        this.server.commit();
        this.server.push(3);
        const link = this.#link;
        queueMicrotask(() => {
            while (link.isOpen && this.server.out.length > 0) link.handlers.bytes(Uint8Array.from(this.server.out.splice(0, 50)));
            if (link.isOpen && this.server.connection?.isWelcome && !this.server.connection.isLive) this.#move();
        });
    }

    get texts() {
        return this.server.log.map(({ content }) => content.text);
    }
}

async function until(what, happened) {
    for (let n = 0; n < 1_000; n++) {
        if (await happened()) return;
        await new Promise(setImmediate);
    }
    throw new Error(`it did not happen: ${what}`);
}

const told = (tab, type) => {
    const all = [];
    tab.addEventListener(type, ({ detail }) => all.push(detail));
    return all;
};

test('what a follower sends is in the log once, and every tab hears what becomes of it', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    const accepted = tabs.map((tab) => told(tab, 'accepted'));
    await until('the first one leads', () => tabs[0].isLeading);
    assert.equal(tabs[1].isLeading, false);
    const ids = [await tabs[1].send(TO, { text: 'of the follower' }), await tabs[0].send(TO, { text: 'of the leader' })];
    await until('both are accepted', () => accepted.every((all) => all.length === 2));
    for (const all of accepted) assert.deepEqual(all.map(({ id }) => id).sort(), [...ids].sort());
    assert.deepEqual([...browser.texts].sort(), ['of the follower', 'of the leader']);
    const page = await tabs[1].request('fetch_log', { from: 1, direction: 'forwards', limit: 3 });
    assert.equal(page.entries.length, 2);
    await assert.rejects(tabs[1].request('fetch_nothing', {}), /is no request/);
    await assert.rejects(tabs[1].send(TO, { text: '' }), (error) => error.code === 'text_length');
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('when the leader is put away another one leads, and what waited is sent and asked', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading);
    await tabs[0].suspend();
    const asked = tabs[0].request('fetch_log', { from: 1, direction: 'forwards', limit: 3 });
    await tabs[0].send(TO, { text: 'from a tab that does not lead' });
    await until('the second one leads', () => tabs[1].isLeading);
    await until('it is sent', () => browser.texts.length === 1);
    assert.equal((await asked).first, 1);
    tabs[0].resume();
    await tabs[1].close();
    await until('the first one leads again', () => tabs[0].isLeading);
    await tabs[0].close();
});

test('a leader that stands still loses the lease to another one, and follows it when it goes on', async () => {
    const browser = new Browser();
    const frozen = { is: false };
    const tabs = [browser.open(frozen), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading);
    await tabs[1].checkLease();
    await until('nothing', async () => true);
    assert.ok(tabs[0].isLeading, 'its lease is good');
    // It stands still: it keeps its lock and renews nothing.
    browser.now += LEASE_MS;
    frozen.is = true;
    await tabs[1].checkLease();
    await until('the second one leads', () => tabs[1].isLeading);
    await tabs[1].send(TO, { text: 'by the new leader' });
    await until('it is accepted', () => browser.texts.length === 1);
    // It goes on.
    frozen.is = false;
    await until('the first one has noticed', () => !tabs[0].isLeading);
    await tabs[0].send(TO, { text: 'by the old leader' });
    await until('it is in the log', () => browser.texts.length === 2);
    assert.deepEqual(browser.texts, ['by the new leader', 'by the old leader']);
    assert.ok(tabs[1].isLeading);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('a page that is put away ends the connection, and one that is shown goes on', () => {
    const [page, view, did] = [new EventTarget(), new EventTarget(), []];
    page.visibilityState = 'visible';
    const client = new Proxy({}, { get: (_, name) => (...args) => did.push([name, ...args].join(' ')) });
    const stop = followPage(client, { page, view });
    for (const [target, type] of [[view, 'pagehide'], [view, 'pageshow'], [page, 'freeze'], [page, 'resume'], [view, 'online']]) target.dispatchEvent(new Event(type));
    page.visibilityState = 'hidden';
    page.dispatchEvent(new Event('visibilitychange'));
    assert.deepEqual(did, ['setStatus here', 'suspend', 'resume', 'suspend', 'resume', 'probe', 'reconnectNow', 'setStatus away']);
    stop();
    view.dispatchEvent(new Event('pagehide'));
    assert.equal(did.length, 8);
});
