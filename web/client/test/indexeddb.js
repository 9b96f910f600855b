// As much of IndexedDB as the store uses, in memory: one transaction at a time, each made whole or not at all, and one that is aborted in
// the middle.

export class FakeKeyRange {
    constructor(from, to) {
        this.from = from;
        this.to = to;
    }

    static upperBound = (to) => new FakeKeyRange(undefined, to);
    static lowerBound = (from) => new FakeKeyRange(from, undefined);

    has(key) {
        return !(key < this.from) && !(key > this.to);
    }
}

export class FakeIndexedDb {
    #databases = new Map();

    open(name) {
        const request = {};
        setImmediate(() => {
            const isNew = !this.#databases.has(name);
            if (isNew) this.#databases.set(name, new Database());
            request.result = this.#databases.get(name);
            if (isNew) request.onupgradeneeded();
            request.onsuccess();
        });
        return request;
    }
}

class Database {
    stores = {};
    #before = Promise.resolve();

    createObjectStore(name) {
        this.stores[name] = new Map();
    }

    transaction() {
        const transaction = new Transaction(this.stores);
        this.#before = this.#before.then(() => transaction.run());
        return transaction;
    }

    close() {}
}

class Transaction {
    #stores;
    #pending = [];
    #undo = [];
    #isOver = false;

    constructor(stores) {
        this.#stores = stores;
    }

    async run() {
        await new Promise(setImmediate);
        while (this.#pending.length > 0) {
            for (const { request, does } of this.#pending.splice(0)) {
                request.result = does();
                request.onsuccess?.();
            }
            await new Promise(setImmediate);
        }
        if (this.#isOver) return;
        this.#isOver = true;
        this.oncomplete();
    }

    abort() {
        if (this.#isOver) throw new Error('the transaction is over');
        this.#isOver = true;
        for (const undo of this.#undo.reverse()) undo();
        for (const { request } of this.#pending.splice(0)) request.onerror?.();
        this.onabort();
    }

    objectStore(name) {
        const values = this.#stores[name];
        const keys = (range, limit) => [...values.keys()].filter((key) => range?.has(key) ?? true).sort((a, b) => (a < b ? -1 : 1)).slice(0, limit);
        const ask = (does) => {
            if (this.#isOver) throw new Error('the transaction is over');
            const request = {};
            this.#pending.push({ request, does });
            return request;
        };
        const change = (key, does) => {
            const [isThere, value] = [values.has(key), values.get(key)];
            this.#undo.push(() => (isThere ? values.set(key, value) : values.delete(key)));
            does();
        };
        const remove = (key) => change(key, () => values.delete(key));
        return {
            get: (key) => ask(() => structuredClone(values.get(key))),
            getAll: (range, limit) => ask(() => structuredClone(keys(range, limit).map((key) => values.get(key)))),
            getAllKeys: (range, limit) => ask(() => keys(range, limit)),
            count: () => ask(() => values.size),
            put: (value, key) => ask(() => change(key, () => values.set(key, structuredClone(value)))),
            delete: (of) => ask(() => (of instanceof FakeKeyRange ? keys(of) : [of]).forEach(remove)),
            clear: () => ask(() => keys().forEach(remove)),
        };
    }
}
