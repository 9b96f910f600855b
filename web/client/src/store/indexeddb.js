// A store in IndexedDB, which all tabs of a page share (SPEC 8.2: what belongs together is one transaction).
//
// An upgrade of the layout needs all connections to the database closed, and one of a frozen tab never is: its script does not run, and no
// `blocked` is told either. So each layout has a database of its own name: a program with a newer layout makes that, and reads what it
// moves out of the old one, which is opened as it is. Nothing is upgraded in place, and nobody waits for a tab that stands still.
//
// Nor for its transactions, which would hold up those of all other tabs for a minute: `pause` aborts them, and what they were for is done
// anew when the page goes on.

import { CommitRefused, LOG_ENTRIES_MAX, answersAfter, discardsIn } from './changes.js';
import { randomId } from './device.js';

/**
 * The layout: `log` has entries by seq, `messages` those without an answer by id, and `state` one value each under `device`, `position`,
 * `answers`, `entries` (how many the log has), `discards` (how often it was discarded), and what tabs agree on. A program with another
 * layout counts on, and adds how to move messages from the one before. Another key in `state` is no other layout: who does not know it
 * leaves it alone.
 */
const LAYOUT = 1;

/** A database that does not open in this time does not open: something else holds it. */
const OPEN_TIMEOUT_MS = 5_000;

const promiseOf = (request) =>
    new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });

const committed = (transaction) =>
    new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onabort = () => reject(transaction.error ?? new Error('the transaction was aborted; is the disk full?'));
    });

const databaseName = (name) => `ringpost ${LAYOUT} ${name}`;

/** A store that is open, or an error that says why not. `name` and `factory` as below. */
export async function openIndexedDbStore(name, options) {
    const store = new IndexedDbStore(name, options);
    await store.opened;
    return store;
}

async function opened(name, factory) {
    const full = databaseName(name);
    const request = factory.open(full, 1);
    request.onupgradeneeded = () => {
        const database = request.result;
        database.createObjectStore('log');
        database.createObjectStore('messages');
        database.createObjectStore('state');
    };
    let timer;
    const late = new Promise((_, reject) => {
        const words = `the database ${full} does not open; close other tabs of this page and try again`;
        timer = setTimeout(() => reject(new Error(words)), OPEN_TIMEOUT_MS);
    });
    const database = await Promise.race([promiseOf(request), late]).finally(() => clearTimeout(timer));
    // Somebody deletes it, as when storage is cleared: what is held open would hold that up.
    database.onversionchange = () => database.close();
    return database;
}

/** Deletes what a store of this name holds, for good; other tabs let go of it. */
export async function deleteIndexedDbStore(name, { factory = indexedDB } = {}) {
    await promiseOf(factory.deleteDatabase(databaseName(name)));
}

export class IndexedDbStore {
    /** A promise of it. */
    #database;
    /** Transactions that are not over, and those that `pause` has ended. */
    #open = new Set();
    #aborted = new WeakSet();
    /** While the page stands still: settles when it goes on. */
    #going;
    #go;

    /**
     * `name`: one for each user and server, such as `chat.example.org/7`. `factory`: for tests. It opens meanwhile: what it is asked waits for
     * that, and fails if it does not open.
     */
    constructor(name, { factory = indexedDB } = {}) {
        this.#database = opened(name, factory);
        // Who asks it for something hears of it.
        this.#database.catch(() => {});
    }

    /** Settles when it is open. */
    get opened() {
        return this.#database.then(() => {});
    }

    /** The page is about to stand still: nothing is done until `resume`. */
    pause() {
        this.#going ??= new Promise((resolve) => (this.#go = resolve));
        for (const transaction of this.#open) {
            try {
                transaction.abort();
                this.#aborted.add(transaction);
            } catch {
                // It is over, or needs no script any more.
            }
        }
    }

    resume() {
        this.#go?.();
        this.#going = undefined;
    }

    async load() {
        const read = (transaction) =>
            Promise.all([
                promiseOf(transaction.objectStore('state').get('device')),
                promiseOf(transaction.objectStore('state').get('position')),
                promiseOf(transaction.objectStore('state').get('discards')),
                promiseOf(transaction.objectStore('messages').getAll()),
            ]);
        const [device, position, discards = 0, messages] = await this.#in(['state', 'messages'], 'readonly', read);
        const own = device ?? (await this.#update('device', (known) => known ?? randomId(), 'strict'));
        return { device: own, epoch: 0n, since: 0, position: null, ...position, discards, messages };
    }

    /** See `changes.js`. */
    async commit(changes, only) {
        try {
            await this.#in(['log', 'messages', 'state'], 'readwrite', (transaction) => this.#commitIn(transaction, changes, only));
        } catch (error) {
            if (error instanceof CommitRefused) throw error;
            throw new Error(`the browser could not store what came (${error.name}: ${error.message}); free some space and load the page again`);
        }
    }

    async #commitIn(transaction, changes, only) {
        const state = transaction.objectStore('state');
        if (only !== undefined && !only.holds(await promiseOf(state.get(only.key)))) throw new CommitRefused(only.key);
        const isLogChanged = changes.some(({ op }) => op === 'entry' || op === 'discard');
        // Other tabs write too, so it stands beside the entries; to count them all takes longer than most commits.
        const known = isLogChanged ? await this.#countIn(transaction) : 0;
        if (changes.some(({ op }) => op === 'answered')) {
            state.put(answersAfter((await promiseOf(state.get('answers'))) ?? [], changes), 'answers');
        }
        const discards = discardsIn(changes);
        if (discards > 0) state.put(((await promiseOf(state.get('discards'))) ?? 0) + discards, 'discards');
        for (const change of changes) this.#make(change, transaction);
        if (!isLogChanged) return;
        const count = changes.reduce((before, { op }) => (op === 'discard' ? 0 : before + (op === 'entry' ? 1 : 0)), known);
        const dropped = count > LOG_ENTRIES_MAX ? await this.#dropOldest(transaction.objectStore('log'), count) : 0;
        state.put(count - dropped, 'entries');
    }

    /** How many entries the log has; they are counted once. */
    async #countIn(transaction) {
        return (await promiseOf(transaction.objectStore('state').get('entries'))) ?? promiseOf(transaction.objectStore('log').count());
    }

    /** What `does` gives, when all that it did in a transaction is as durable as it must be: 'strict' survives a power cut. */
    async #in(stores, mode, does, durability = 'strict') {
        const database = await this.#database;
        for (;;) {
            await this.#going;
            const transaction = database.transaction(stores, mode, { durability });
            const done = committed(transaction);
            // It is awaited below, unless `does` fails first.
            done.catch(() => {});
            this.#open.add(transaction);
            try {
                const value = await does(transaction);
                await done;
                return value;
            } catch (error) {
                if (this.#aborted.has(transaction)) continue;
                if (error instanceof CommitRefused) transaction.abort();
                throw error;
            } finally {
                this.#open.delete(transaction);
            }
        }
    }

    #make({ op, ...change }, transaction) {
        switch (op) {
            case 'message':
                return transaction.objectStore('messages').put(change, change.id);
            case 'answered':
                return transaction.objectStore('messages').delete(change.id);
            case 'entry':
                return transaction.objectStore('log').put(change.entry, change.entry.seq);
            case 'position':
                return transaction.objectStore('state').put(change, 'position');
            case 'discard':
                transaction.objectStore('log').clear();
                return transaction.objectStore('state').delete('position');
            default:
                throw new TypeError(`no change is called ${op}`);
        }
    }

    /** A tenth more than has to go, so that it is not done for each entry. How many have gone. */
    async #dropOldest(log, count) {
        const keys = await promiseOf(log.getAllKeys(undefined, count - LOG_ENTRIES_MAX + LOG_ENTRIES_MAX / 10));
        if (keys.length > 0) log.delete(IDBKeyRange.upperBound(keys[keys.length - 1]));
        return keys.length;
    }

    entries(from = 1, limit = LOG_ENTRIES_MAX) {
        return this.#in('log', 'readonly', (transaction) => promiseOf(transaction.objectStore('log').getAll(IDBKeyRange.lowerBound(from), limit)));
    }

    async answers() {
        const known = await this.#in('state', 'readonly', (transaction) => promiseOf(transaction.objectStore('state').get('answers')));
        return known ?? [];
    }

    /**
     * What several tabs agree on: reads the value under a key and writes what `change` makes of it, in one transaction. No tab lives longer
     * than the machine runs, so nobody waits for the disk.
     */
    update(key, change) {
        return this.#update(key, change, 'relaxed');
    }

    #update(key, change, durability) {
        const does = async (transaction) => {
            const state = transaction.objectStore('state');
            const value = change(await promiseOf(state.get(key)));
            state.put(value, key);
            return value;
        };
        return this.#in('state', 'readwrite', does, durability);
    }

    async close() {
        (await this.#database).close();
    }
}
