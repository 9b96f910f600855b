// What every store must do. IndexedDB is there in browsers alone, so in Node its part runs over as much of one as the store uses, unless
// somebody has put a real one into `globalThis.indexedDB`.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { FakeIndexedDb, FakeKeyRange } from './indexeddb.js';
import { MemoryStore, openIndexedDbStore } from '../src/index.js';
import { ANSWERS_KEPT_MAX } from '../src/limits.js';
import { CommitRefused, LOG_ENTRIES_MAX } from '../src/store/changes.js';

const entry = (seq) => ({ kind: 'received', seq, time: 1, from: 2n ** 64n - 1n, origin: seq, content: { opaque: Uint8Array.of(1, 2) } });
const message = (id, number) => ({ op: 'message', id, number, to: { user: 8n }, content: { text: id } });
const answered = (id) => ({ op: 'answered', id, answer: { id, type: 'refused', code: 7 } });
const stored = ({ op: _, ...of }) => of;

if (typeof indexedDB === 'undefined') {
    console.log('NOT RUN: the store over a real IndexedDB; there is none here');
    globalThis.indexedDB = new FakeIndexedDb();
    globalThis.IDBKeyRange = FakeKeyRange;
}
const stores = {
    'a store in memory': async () => new MemoryStore(),
    'a store in IndexedDB': () => openIndexedDbStore(String(Math.random())),
};

for (const [name, open] of Object.entries(stores)) {
    describe(name, () => {
        test('begins with nothing but a device of its own', async () => {
            const store = await open();
            const { device, ...rest } = await store.load();
            assert.deepEqual(rest, { epoch: 0n, since: 0, position: null, discards: 0, messages: [] });
            assert.ok(typeof device === 'bigint' && device > 0n);
            assert.equal((await store.load()).device, device);
        });

        test('has what was committed, messages in the order of their ids and entries in that of their seqs', async () => {
            const store = await open();
            await store.commit([message('b', null), message('a', null), { op: 'entry', entry: entry(1) }, { op: 'entry', entry: entry(3) }]);
            await store.commit([message('b', 7), { op: 'position', position: 3, epoch: 2n ** 63n, since: 1 }]);
            const { position, epoch, since, messages } = await store.load();
            assert.deepEqual([position, epoch, since], [3, 2n ** 63n, 1]);
            assert.deepEqual(messages, [stored(message('a', null)), stored(message('b', 7))]);
            assert.deepEqual(await store.entries(), [entry(1), entry(3)]);
            assert.deepEqual(await store.entries(2, 5), [entry(3)]);
            await store.commit([answered('a')]);
            assert.deepEqual((await store.load()).messages, [stored(message('b', 7))]);
        });

        test('lets go of a log that was replaced, and of no message', async () => {
            const store = await open();
            await store.commit([message('a', 1), { op: 'entry', entry: entry(9) }, { op: 'position', position: 9, epoch: 1n, since: 0 }]);
            await store.commit([{ op: 'discard' }, { op: 'entry', entry: entry(1) }]);
            const { position, messages } = await store.load();
            assert.deepEqual([position, messages.length, await store.entries()], [null, 1, [entry(1)]]);
        });

        test('counts how often the log was discarded, and not what was refused', async () => {
            const store = await open();
            await store.commit([{ op: 'discard' }, { op: 'entry', entry: entry(1) }]);
            await assert.rejects(store.commit([{ op: 'discard' }], { key: 'lease', holds: () => false }), CommitRefused);
            assert.equal((await store.load()).discards, 1);
            await store.commit([{ op: 'discard' }, { op: 'discard' }]);
            assert.equal((await store.load()).discards, 3);
        });

        test('changes nothing for a tab that has lost the lease', async () => {
            const store = await open();
            assert.equal(await store.update('lease', (known) => known ?? 'first'), 'first');
            const only = (tab) => ({ key: 'lease', holds: (lease) => lease === tab });
            await store.commit([message('a', 1)], only('first'));
            await assert.rejects(store.commit([message('b', 2), answered('a')], only('second')), CommitRefused);
            assert.deepEqual((await store.load()).messages, [stored(message('a', 1))]);
        });

        test('keeps what became of messages, the newest, and not that of a commit that was refused', async () => {
            const store = await open();
            assert.deepEqual(await store.answers(), []);
            await store.commit([message('a', 1), message('b', 2)]);
            await store.commit([answered('a')]);
            await assert.rejects(store.commit([answered('b')], { key: 'lease', holds: () => false }), CommitRefused);
            assert.deepEqual(await store.answers(), [{ id: 'a', type: 'refused', code: 7 }]);
            const ids = Array.from({ length: ANSWERS_KEPT_MAX }, (_, at) => `of many ${at}`);
            await store.commit(ids.map(answered));
            assert.deepEqual((await store.answers()).map(({ id }) => id), ids);
        });

        test('keeps the newest entries, and no more than the bound', async () => {
            const store = await open();
            const page = 2_000;
            for (let from = 1; from <= LOG_ENTRIES_MAX + page; from += page) {
                await store.commit(Array.from({ length: page }, (_, at) => ({ op: 'entry', entry: entry(from + at) })));
            }
            const kept = await store.entries();
            assert.ok(kept.length <= LOG_ENTRIES_MAX && kept.length >= LOG_ENTRIES_MAX * 0.8, String(kept.length));
            assert.equal(kept[kept.length - 1].seq, LOG_ENTRIES_MAX + page);
        });
    });
}

const entries = (from, count) => Array.from({ length: count }, (_, at) => ({ op: 'entry', entry: entry(from + at) }));

test('a tab drops nothing of what another one has stored in IndexedDB, whatever it had counted itself', async () => {
    const name = String(Math.random());
    const [first, second] = [await openIndexedDbStore(name), await openIndexedDbStore(name)];
    await first.commit(entries(1, LOG_ENTRIES_MAX - 1));
    await second.commit([{ op: 'discard' }, ...entries(1, 100)]);
    await first.commit(entries(101, 2));
    assert.equal((await first.entries()).length, 102);
    await second.commit(entries(103, LOG_ENTRIES_MAX - 102));
    await first.commit(entries(LOG_ENTRIES_MAX + 1, 1));
    const kept = await first.entries();
    assert.ok(kept.length < LOG_ENTRIES_MAX && kept.at(-1).seq === LOG_ENTRIES_MAX + 1, 'the bound is that of all tabs together');
});
