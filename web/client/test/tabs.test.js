// Several tabs over one store and one model server: one leads, and none that stood still writes.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { MemoryStore, Tabs, followPage } from '../src/index.js';
import { CODES } from '../src/codes.js';
import { LEASE_MS, claimed, leads, looksAfter, released, renewed } from '../src/lease.js';
import { DEVICE, NOBODY, PEER, Server } from './model.js';

const TO = { user: PEER };

test('a lease is for one tab until it is over, given back, or its tab is gone, and counts its terms', () => {
    const living = new Set(['a', 'b']);
    const first = claimed(undefined, 'a', living, 1_000);
    assert.deepEqual(first, { tab: 'a', until: 1_000 + LEASE_MS, term: 1 });
    assert.deepEqual(claimed(first, 'b', living, 1_000 + LEASE_MS - 1), first, 'it is not free');
    assert.deepEqual(renewed(first, 'a', 1, 5_000), { tab: 'a', until: 5_000 + LEASE_MS, term: 1 });
    assert.deepEqual(renewed(first, 'b', 1, 5_000), first, 'it is of another tab');
    assert.deepEqual(claimed(first, 'a', living, 5_000), { tab: 'a', until: 5_000 + LEASE_MS, term: 2 }, 'what it left undone is of the term before');
    assert.deepEqual(claimed(first, 'b', new Set(['b']), 5_000), { tab: 'b', until: 5_000 + LEASE_MS, term: 2 }, 'its tab is gone');
    const second = claimed(first, 'b', living, 1_000 + LEASE_MS);
    assert.ok(leads(second, 'b', 2) && !leads(second, 'a', 1));
    assert.deepEqual(released(second, 'a'), second);
    const third = claimed(released(second, 'b'), 'a', living, 0);
    assert.ok(leads(third, 'a', 3) && !leads(third, 'a', 1), 'who got it again is not who had it');
});

test('a lease that is not free is looked at again when it may be over, and others now and then', () => {
    const lease = { tab: 'a', until: 5_000, term: 1 };
    assert.ok(looksAfter(lease, 4_000) > 1_000 && looksAfter(lease, 4_000) < 2_000);
    for (const now of [5_000, 9_000, 5_000 - LEASE_MS]) assert.equal(looksAfter(lease, now), LEASE_MS / 3);
    assert.equal(looksAfter(undefined, 4_000), LEASE_MS / 3);
});

/** `navigator.locks`, as far as it is used. */
class Locks {
    #held = new Map();
    #queues = new Map();

    request(name, ...rest) {
        const does = rest.pop();
        const queue = this.#queues.get(name) ?? this.#queues.set(name, []).get(name);
        return new Promise((resolve, reject) => {
            const wants = { does, resolve, reject };
            if (rest[0]?.steal && this.#held.has(name)) {
                this.#held.get(name).reject(Object.assign(new Error('stolen'), { name: 'AbortError' }));
                this.#held.delete(name);
                queue.unshift(wants);
            } else {
                queue.push(wants);
            }
            this.#next(name);
        });
    }

    async query() {
        return { held: [...this.#held.keys()].map((name) => ({ name })) };
    }

    /** What a browser does with the locks of a page that has ended. */
    drop(isOfPage) {
        for (const [name, holder] of [...this.#held]) {
            if (!isOfPage(holder)) continue;
            this.#held.delete(name);
            this.#next(name);
        }
    }

    get holders() {
        return new Set(this.#held.values());
    }

    #next(name) {
        if (this.#held.has(name) || this.#queues.get(name).length === 0) return;
        const holder = this.#queues.get(name).shift();
        this.#held.set(name, holder);
        const done = () => {
            if (this.#held.get(name) !== holder) return;
            this.#held.delete(name);
            this.#next(name);
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
    locks = new Locks();
    #Channel = channels();
    #link;

    /** A tab; `frozen.is` stops whatever it would do, `frozen.isMute` what it would say to others. `token`: may be a promise. */
    open(frozen = { is: false }, token = 'token', options = {}) {
        return new Tabs('wss://first/v1/ws', () => token, { ...this.optionsOf(frozen), ...options });
    }

    optionsOf(frozen) {
        const Channel = class extends this.#Channel {
            postMessage(data) {
                if (!frozen.isMute) super.postMessage(data);
            }
        };
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
        return {
            name: 'test', store: this.store, transport, device: DEVICE, backoff_max_ms: 0,
            locks: this.locks, Channel, clock: () => this.now,
        };
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
    tabs[0].resume();
    assert.equal((await asked).first, 1);
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

test('what a leader has stored and was put away before it told others is told when another one leads', async () => {
    const browser = new Browser();
    const frozen = { is: false, isMute: false };
    const tabs = [browser.open(frozen), browser.open(), browser.open()];
    const heard = tabs.map((tab) => told(tab, 'entry'));
    await until('the first one leads', () => tabs[0].isLeading);
    await tabs[0].send(TO, { text: 'told' });
    await until('all have it', () => heard.every((of) => of.length === 1));
    frozen.isMute = true;
    await tabs[0].send(TO, { text: 'stored' });
    await until('it has it', () => heard[0].length === 2);
    browser.now += LEASE_MS;
    frozen.is = true;
    await tabs[1].checkLease();
    await until('the second one leads', () => tabs[1].isLeading);
    const texts = (of) => of.map(({ entry }) => entry.content.text);
    await until('the others have it', () => heard[1].length + heard[2].length === 4);
    assert.deepEqual(heard.slice(1).map(texts), [['told', 'stored'], ['told', 'stored']]);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('a tab that has the lock while the lease of another one is good leads as soon as that is over', async () => {
    const browser = new Browser();
    // It stands still, and its lock was taken by one that has ended.
    browser.locks.request('ringpost test frozen', () => new Promise(() => {}));
    await browser.store.update('lease', () => ({ tab: 'frozen', until: browser.now + 200, term: 1 }));
    const tab = browser.open();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.ok(!tab.isLeading && !(await browser.locks.query()).held.some(({ name }) => name === 'ringpost test'));
    browser.now += 200;
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.ok(tab.isLeading);
    await tab.close();
});

test('of two tabs that take the lock at once one leads, and the other one when that ends', async () => {
    const browser = new Browser();
    const frozen = { is: false };
    const tabs = [browser.open(frozen), browser.open(), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading);
    browser.now += LEASE_MS;
    frozen.is = true;
    await Promise.all([tabs[1].checkLease(), tabs[2].checkLease()]);
    await until('one of them leads', () => tabs[1].isLeading || tabs[2].isLeading);
    await tabs[0].close();
    const [leader, other] = tabs[1].isLeading ? [tabs[1], tabs[2]] : [tabs[2], tabs[1]];
    await until('nothing', async () => true);
    assert.equal(other.isLeading, false);
    await leader.close();
    await until('the other one leads', () => other.isLeading);
    await other.close();
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

test('a tab that ends without a word is followed at once', async () => {
    const browser = new Browser();
    const frozen = { is: false };
    const first = browser.open(frozen);
    await until('it leads', () => first.isLeading);
    const itsLocks = browser.locks.holders;
    // Nothing of it runs any more, and its lease is good for long.
    frozen.is = true;
    const second = browser.open();
    await until('nothing', async () => true);
    assert.equal(second.isLeading, false);
    browser.locks.drop((holder) => itsLocks.has(holder));
    await until('the second one leads', () => second.isLeading);
    await second.send(TO, { text: 'by the new leader' });
    await until('it is accepted', () => browser.texts.length === 1);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('a tab that comes later is told who the user is and how the connection stands', async () => {
    const browser = new Browser();
    const first = browser.open();
    const welcomes = told(first, 'welcome');
    await until('the first one is welcome', () => welcomes.length === 1);
    const second = browser.open();
    await until('the second one is told', () => second.user !== undefined);
    assert.equal(second.user, first.user);
    assert.equal(welcomes.length, 1, 'nobody else is told again');
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('a tab that stood still is told once, in order, what it has missed', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    const heard = tabs.map((tab) => told(tab, 'entry'));
    const send = async (tab, count) => {
        await tab.send(TO, { text: `message ${count}` });
        await until('it is in the log', () => browser.texts.length === count);
    };
    await until('the first one leads', () => tabs[0].isLeading);
    await send(tabs[0], 1);
    await until('both have heard', () => heard.every((all) => all.length === 1));
    await tabs[0].suspend();
    await until('the second one leads', () => tabs[1].isLeading);
    await send(tabs[1], 2);
    await send(tabs[1], 3);
    tabs[0].resume();
    await send(tabs[0], 4);
    const seqs = () => heard.map((all) => all.map(({ entry }) => entry.seq));
    await until('both have heard all', () => seqs().every((all) => all.length === 4));
    assert.deepEqual(seqs(), [[1, 2, 3, 4], [1, 2, 3, 4]]);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('that one tab is put away ends nothing for the others', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    const ended = tabs.map((tab) => told(tab, 'ended'));
    await until('the first one leads', () => tabs[0].isLeading);
    await tabs[0].close();
    await until('the second one leads', () => tabs[1].isLeading);
    await tabs[1].suspend();
    assert.deepEqual(ended, [[], []]);
    await tabs[1].close();
});

test('a tab that is put away while it begins to lead does not lead', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    const away = tabs[0].suspend();
    await until('the second one leads', () => tabs[1].isLeading);
    await away;
    assert.equal(tabs[0].isLeading, false);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('what is stored while a tab begins to lead is sent, though nobody hears of it', async () => {
    const browser = new Browser();
    let loads = 0;
    const load = browser.store.load.bind(browser.store);
    browser.store.load = () => (loads++, load());
    let gives;
    const first = browser.open({ is: false }, new Promise((resolve) => (gives = resolve)));
    await until('it has read the store twice, and waits for its token', () => loads === 2);
    const second = browser.open();
    await second.send(TO, { text: 'into the gap' });
    await new Promise(setImmediate);
    assert.ok(!first.isLeading && !second.isLeading);
    gives('token');
    await until('it is in the log', () => browser.texts.length === 1);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('the server is told what all tabs wish together, whoever leads', async () => {
    const browser = new Browser();
    const { presence } = browser.server;
    const watched = () => presence.filter(({ name }) => name === 'watch').map(({ users }) => users.join(' '));
    const tabs = [browser.open(), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading);
    tabs[0].watch([8n]);
    tabs[1].watch([9n, 8n]);
    tabs[1].setStatus('here');
    await until('both are watched', () => watched().at(-1) === '8 9');
    tabs[0].setStatus('away');
    await until('nothing', async () => true);
    assert.ok(presence.every(({ status }) => status !== 'away'), 'somebody looks at the second one');
    await tabs[0].suspend();
    await until('the second one leads, with its own', () => watched().at(-1) === '9 8');
    tabs[1].setStatus('away');
    await until('nobody looks', () => presence.at(-1).status === 'away');
    await tabs[1].close();
});

/** A tab's next message is in the store, and `then` puts the tab away before it hears of that. */
function storesLate(store, then) {
    const commit = store.commit.bind(store);
    store.commit = async (changes, only) => {
        if (changes[0]?.op !== 'message' || only !== undefined) return commit(changes, only);
        store.commit = commit;
        await commit(changes);
        then();
        await new Promise(setImmediate);
        return undefined;
    };
}

test('what a follower has stored when it is put away is sent, though it does not come to say so', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading);
    storesLate(browser.store, () => tabs[1].suspend());
    await tabs[1].send(TO, { text: 'in the last moment' });
    await until('it is in the log', () => browser.texts.length === 1);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('what a follower has stored when it is killed is sent when the leader sees that it is gone', async () => {
    const browser = new Browser();
    const killed = { is: false, isMute: false };
    const first = browser.open();
    await until('it leads', () => first.isLeading);
    const locksBefore = browser.locks.holders;
    const second = browser.open(killed);
    await until('the leader knows the second one', () => browser.locks.holders.size > locksBefore.size && second.user !== undefined);
    killed.isMute = true;
    await second.send(TO, { text: 'in the last moment' });
    browser.locks.drop((holder) => !locksBefore.has(holder));
    await first.checkLease();
    await until('it is in the log', () => browser.texts.length === 1);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('what a tab has stored and said to nobody is sent when it goes on', async () => {
    const browser = new Browser();
    const mute = { is: false, isMute: false };
    const tabs = [browser.open(), browser.open(mute)];
    await until('the first one leads', () => tabs[0].isLeading && tabs[1].user !== undefined);
    mute.isMute = true;
    storesLate(browser.store, () => tabs[1].suspend());
    await tabs[1].send(TO, { text: 'in the last moment' });
    mute.isMute = false;
    tabs[1].resume();
    await until('it is in the log', () => browser.texts.length === 1);
    await Promise.all(tabs.map((tab) => tab.close()));
});

/** Has the leader put away, or whatever `then` does, when it has stored what became of a message and before it tells that. */
function answersLate(store, then) {
    const commit = store.commit.bind(store);
    store.commit = async (changes, only) => {
        await commit(changes, only);
        if (!changes.some(({ op }) => op === 'answered')) return;
        store.commit = commit;
        then();
    };
}

for (const how of ['close', 'suspend']) {
    test(`what became of a message is told once to who sent it, though the leader did not come to tell it: ${how}`, async () => {
        const browser = new Browser();
        const tabs = [browser.open(), browser.open()];
        const order = [];
        for (const type of ['accepted', 'entry']) tabs[1].addEventListener(type, () => order.push(type));
        const accepted = tabs.map((tab) => told(tab, 'accepted'));
        await until('the first one leads', () => tabs[0].isLeading);
        answersLate(browser.store, () => tabs[0][how]());
        const id = await tabs[1].send(TO, { text: 'hello' });
        await until('the second one leads', () => tabs[1].isLeading);
        await until('it is told', () => accepted[1].length > 0);
        for (let n = 0; n < 20; n++) await new Promise(setImmediate);
        assert.deepEqual(accepted[1].map((of) => [of.id, of.seq]), [[id, 1]]);
        assert.deepEqual(order, ['accepted', 'entry'], 'in the order in which they are told otherwise');
        assert.deepEqual(browser.texts, ['hello']);
        await Promise.all(tabs.map((tab) => tab.close()));
    });
}

test('a tab that was put away before its message was answered is told once what became of it', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    const all = tabs.map((tab) => [told(tab, 'accepted'), told(tab, 'refused')]);
    await until('the first one leads', () => tabs[0].isLeading);
    // Nothing of it leaves.
    const receive = browser.server.receive.bind(browser.server);
    browser.server.receive = () => {};
    const ids = [await tabs[0].send(TO, { text: 'hello' }), await tabs[0].send({ user: NOBODY }, { text: 'nobody' })];
    await tabs[0].suspend();
    browser.server.receive = receive;
    await until('both are answered', () => all[1].flat().length === 2);
    tabs[0].resume();
    await until('both are told', () => all[0].flat().length === 2);
    assert.deepEqual(all[0].map(([{ id }]) => id), ids);
    for (const tab of [tabs[1], tabs[0]]) await tab.suspend();
    tabs[0].resume();
    await until('it leads', () => tabs[0].isLeading);
    for (let n = 0; n < 20; n++) await new Promise(setImmediate);
    assert.equal(all[0].flat().length, 2, 'not again');
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('a page that begins with what an earlier one left is told what became of it, though it was away', async () => {
    const browser = new Browser();
    const id = '0000000000000001-00000000';
    await browser.store.commit([{ op: 'message', id, number: null, to: TO, content: { text: 'of an earlier page' } }]);
    const receive = browser.server.receive.bind(browser.server);
    browser.server.receive = () => {};
    const tabs = [browser.open(), browser.open()];
    const accepted = tabs.map((tab) => told(tab, 'accepted'));
    await until('the first one leads', () => tabs[0].isLeading);
    await tabs[0].suspend();
    browser.server.receive = receive;
    await until('it is accepted', () => accepted[1].length === 1);
    tabs[0].resume();
    await until('it is told', () => accepted[0].length === 1);
    assert.equal(accepted[0][0].id, id);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('a message that went with a log that was replaced is told of to the tab that was away', async () => {
    const browser = new Browser();
    const tab = browser.open();
    await until('it leads', () => tab.isLeading);
    browser.server.receive = () => {};
    const id = await tab.send(TO, { text: 'hello' });
    const replaced = told(tab, 'log_replaced');
    const skipped = told(tab, 'skipped');
    await tab.suspend();
    await browser.store.commit([{ op: 'discard' }, { op: 'answered', id, answer: { id, type: 'dropped' } }]);
    tab.resume();
    await until('it is told', () => skipped.length === 1);
    assert.deepEqual(replaced.map(({ dropped }) => dropped), [[id]]);
    await tab.close();
});

test('a tab that was away when the log was replaced by a longer one begins from nothing, and one that was told does so once', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open(), browser.open()];
    const order = tabs.map(() => []);
    for (const type of ['entry', 'log_replaced', 'skipped']) {
        tabs.forEach((tab, at) => tab.addEventListener(type, ({ detail }) => order[at].push(detail.entry?.content.text ?? type)));
    }
    const skipped = told(tabs[0], 'skipped');
    await until('the first one leads', () => tabs[0].isLeading && tabs[2].user !== undefined);
    const saved = browser.server.save();
    for (const text of ['old 1', 'old 2']) {
        await tabs[0].send(TO, { text });
        await until('all have it', () => order.every((of) => of.at(-1) === text));
    }
    await tabs[0].suspend();
    browser.server.setBack(saved);
    for (const text of ['new 1', 'new 2', 'new 3']) browser.server.othersWrite(text);
    await until('the others have the new log', () => order.slice(1).every((of) => of.at(-1) === 'new 3'));
    tabs[0].resume();
    await until('it is told', () => order[0].length > 2);
    await tabs[2].suspend();
    tabs[2].resume();
    await tabs[0].send(TO, { text: 'new 4' });
    await until('all have it', () => order.every((of) => of.at(-1) === 'new 4'));
    assert.deepEqual(order[0], ['old 1', 'old 2', 'skipped', 'new 4']);
    assert.deepEqual(skipped, [{ after: 0, up_to: 3 }]);
    const replaced = ['old 1', 'old 2', 'log_replaced', 'new 1', 'new 2', 'new 3', 'new 4'];
    assert.deepEqual(order.slice(1), [replaced, replaced]);
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('a tab that begins is given or told each entry, though one is stored while it begins', async () => {
    const browser = new Browser();
    const first = browser.open();
    await until('it leads', () => first.isLeading);
    await first.send(TO, { text: 'first' });
    await until('it is stored', async () => (await browser.store.entries()).length === 1);
    let goOn;
    const going = new Promise((resolve) => (goOn = resolve));
    const { store } = browser;
    const slow = Object.fromEntries(['commit', 'entries', 'answers', 'update', 'pause', 'resume', 'close'].map((name) => [name, (...args) => store[name](...args)]));
    const second = browser.open({ is: false }, 'token', { store: { ...slow, load: () => going.then(() => store.load()) } });
    const heard = told(second, 'entry');
    const given = second.entries();
    await first.send(TO, { text: 'second' });
    await until('it is stored', async () => (await store.entries()).length === 2);
    goOn();
    const texts = [...(await given), ...heard.map(({ entry }) => entry)].map(({ content }) => content.text);
    assert.deepEqual(texts, ['first', 'second']);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('a tab that leads no more stores nothing, or nobody would tell it', async () => {
    const browser = new Browser();
    const tab = browser.open();
    const all = [told(tab, 'accepted'), told(tab, 'entry')];
    await until('it leads', () => tab.isLeading);
    const commit = browser.store.commit.bind(browser.store);
    let goOn;
    const going = new Promise((resolve) => (goOn = resolve));
    let refused;
    // The page stands still in the middle: the commit is made when it goes on.
    browser.store.commit = async (changes, only) => {
        if (only !== undefined && changes.some(({ op }) => op === 'answered')) {
            browser.store.commit = commit;
            tab.suspend();
            await going;
        }
        return commit(changes, only).catch((error) => {
            refused = error;
            throw error;
        });
    };
    await tab.send(TO, { text: 'hello' });
    await until('it is put away', () => !tab.isLeading);
    goOn();
    await until('the commit is refused', () => refused?.name === 'CommitRefused');
    tab.resume();
    await until('all is told', () => all.every((of) => of.length > 0));
    for (let n = 0; n < 20; n++) await new Promise(setImmediate);
    assert.deepEqual([all.map((of) => of.length), browser.texts], [[1, 1], ['hello']]);
    await tab.close();
});

test('a tab that is put away while it is about to lead lets another one lead at once, and ends the connection that it had begun', async () => {
    const browser = new Browser();
    let isClosed = false;
    const transport = () => ({ buffered: 0, write() {}, close: () => (isClosed = true) });
    const first = browser.open({ is: false }, new Promise(() => {}), { transport });
    const second = browser.open();
    for (let n = 0; n < 20; n++) await new Promise(setImmediate);
    assert.ok(!first.isLeading && !second.isLeading && !isClosed);
    first.suspend();
    await until('the second one leads', () => second.isLeading);
    assert.ok(isClosed);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('a tab that is put away as soon as it goes on counts as living no more', async () => {
    const browser = new Browser();
    const tab = browser.open();
    await until('it leads', () => tab.isLeading);
    await tab.suspend();
    tab.resume();
    tab.suspend();
    for (let n = 0; n < 20; n++) await new Promise(setImmediate);
    assert.deepEqual((await browser.locks.query()).held, []);
    await tab.close();
});

test('a tab whose token provider fails when it is about to lead says so, and asks it again after a while', async () => {
    const browser = new Browser();
    const wrong = Object.assign(new Error('no network'), { name: 'AbortError' });
    const tokens = [Promise.reject(wrong), 'token'];
    tokens[0].catch(() => {});
    let asked = 0;
    const tab = new Tabs('wss://first/v1/ws', () => tokens[asked++], browser.optionsOf({ is: false }));
    const [failed, ended] = [told(tab, 'token_failed'), told(tab, 'ended')];
    await until('it is told', () => failed.length === 1);
    for (let n = 0; n < 50; n++) await new Promise(setImmediate);
    assert.deepEqual([failed[0].error, asked, tab.isLeading], [wrong, 1, false]);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await until('it leads', () => tab.isLeading);
    assert.deepEqual([asked, ended], [2, []]);
    await tab.close();
});

test('what a token provider throws is told in all tabs, though it holds what can not be posted', async () => {
    const browser = new Browser();
    const wrong = { name: 'RequestError', message: 'no network', again() {} };
    const answers = [wrong, 'token', wrong];
    const token = async () => {
        const answer = answers.shift() ?? 'token';
        if (answer === wrong) throw wrong;
        return answer;
    };
    // It fails when the tab is about to lead, and when it leads.
    const first = new Tabs('wss://first/v1/ws', token, browser.optionsOf({ is: false }));
    const second = browser.open();
    const [failed, followed] = [first, second].map((tab) => told(tab, 'token_failed'));
    await until('both are told', () => failed.length === 1 && followed.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await until('it leads', () => first.isLeading && second.user !== undefined);
    browser.server.say('bye', { code: CODES.token_expired, retry_after_ms: 0, detail: '', devices: [] });
    first.probe();
    await until('both are told again', () => failed.length === 2 && followed.length === 2);
    assert.deepEqual(failed.map(({ error }) => error), [wrong, wrong]);
    for (const { error } of followed) assert.deepEqual([error instanceof Error, `${error}`], [true, 'RequestError: no network']);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('a tab that is put away while it has no token lets another one lead, and asks for none meanwhile', async () => {
    const browser = new Browser();
    let asked = 0;
    const first = new Tabs('wss://first/v1/ws', () => Promise.reject(new Error(`no ${++asked}`)), browser.optionsOf({ is: false }));
    const failed = told(first, 'token_failed');
    await until('it is told', () => failed.length === 1);
    const second = browser.open();
    const followed = told(second, 'token_failed');
    first.suspend();
    await until('the second one leads', () => second.isLeading);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    assert.deepEqual([asked, followed], [1, []]);
    await Promise.all([first, second].map((tab) => tab.close()));
});

test('nobody waits for a tab that has failed, and one that goes on after that may be asked again', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading && tabs[1].user !== undefined);
    // Nobody answers.
    const receive = browser.server.receive.bind(browser.server);
    browser.server.receive = () => {};
    const outcomes = [];
    const ask = () => {
        const at = outcomes.push('waits') - 1;
        tabs[1].request('fetch_log', { from: 1, direction: 'forwards', limit: 3 }).then(() => (outcomes[at] = 'answered'), ({ message }) => (outcomes[at] = message));
    };
    ask();
    const { update } = browser.store;
    browser.store.update = () => Promise.reject(new Error('the disk is full'));
    const ended = told(tabs[1], 'ended');
    tabs[1].suspend();
    tabs[1].resume();
    await tabs[0].suspend();
    await until('it has failed', () => ended.length === 1);
    ask();
    for (let n = 0; n < 10; n++) await new Promise(setImmediate);
    assert.deepEqual(outcomes, ['the disk is full', 'the disk is full']);
    await assert.rejects(tabs[1].send(TO, { text: 'hello' }), /the disk is full/);
    delete browser.store.update;
    assert.equal(browser.store.update, update);
    browser.server.receive = receive;
    tabs[1].resume();
    ask();
    await until('it is answered', () => outcomes[2] === 'answered');
    await Promise.all(tabs.map((tab) => tab.close()));
});

test('a message that a follower takes back as soon as it is stored is not sent, though the leader has not read it yet', async () => {
    const browser = new Browser();
    const tabs = [browser.open(), browser.open()];
    await until('the first one leads', () => tabs[0].isLeading && tabs[1].user !== undefined);
    for (let n = 0; n < 20; n++) await new Promise(setImmediate);
    const load = browser.store.load.bind(browser.store);
    let goOn;
    const going = new Promise((resolve) => (goOn = resolve));
    browser.store.load = () => going.then(load);
    const cancelled = told(tabs[1], 'cancelled');
    const ids = [await tabs[1].send(TO, { text: 'oops' }), await tabs[1].send(TO, { text: 'meant' })];
    assert.equal(await tabs[1].cancel(ids[0]), true);
    goOn();
    await until('it is told', () => cancelled.length === 1);
    await until('the other one is sent', () => browser.texts.length === 1);
    assert.deepEqual([cancelled[0].id, browser.texts], [ids[0], ['meant']]);
    assert.equal(await tabs[1].cancel(ids[0]), false, 'it has its answer');
    await Promise.all(tabs.map((tab) => tab.close()));
});
