// Which node of a server to connect to (SPEC 8.11): the first address, the one of the last welcome, or where redirects lead.

import { REDIRECTS_MAX } from '../limits.js';

export class Nodes {
    #first;
    #address;
    /** Redirects in a row, without a welcome between, that have led there. */
    #redirects = 0;
    /** The newest map that one of them was by. */
    #mapVersion = 0;
    #follows;

    constructor(first, follows) {
        this.#first = first;
        this.#address = first;
        this.#follows = follows;
    }

    get follows() {
        return this.#follows;
    }

    get address() {
        return this.#address;
    }

    /** What the hello says of how it came there. */
    get hops() {
        return this.#follows ? 1 + this.#redirects : 0;
    }

    welcome() {
        this.#redirects = 0;
        this.#mapVersion = 0;
    }

    /** The next connection goes to where a redirect leads. False: it leads in a circle, and is not followed. */
    follow({ address, map_version: mapVersion }) {
        if (this.#redirects >= REDIRECTS_MAX || mapVersion < this.#mapVersion) return false;
        this.#redirects++;
        this.#mapVersion = mapVersion;
        this.#address = address;
        return true;
    }

    /** The next connection goes to the first address. */
    beginAgain() {
        this.#address = this.#first;
        this.welcome();
    }
}
