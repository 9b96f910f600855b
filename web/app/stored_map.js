// A Map that a browser's storage keeps, such as what a person calls others.

export class StoredMap extends Map {
    #storage;
    #key;
    #written;

    /** `keyOf`: what a key was before it was written down as a string; `written`: called after each change. */
    constructor(storage, key, keyOf, written = () => {}) {
        super();
        this.#storage = storage;
        this.#key = key;
        this.#written = written;
        for (const [name, value] of entriesIn(storage.getItem(key))) super.set(keyOf(name), value);
    }

    set(key, value) {
        super.set(key, value);
        this.#write();
        return this;
    }

    delete(key) {
        const wasThere = super.delete(key);
        if (wasThere) this.#write();
        return wasThere;
    }

    #write() {
        this.#storage.setItem(this.#key, JSON.stringify([...this].map(([key, value]) => [String(key), value])));
        this.#written();
    }
}

/** What somebody else has written there counts for nothing. */
function entriesIn(text) {
    try {
        const all = JSON.parse(text ?? '[]');
        return all.filter(([key, value]) => typeof key === 'string' && typeof value === 'string');
    } catch {
        return [];
    }
}
