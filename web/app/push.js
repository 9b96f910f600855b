// How this browser is told of what comes while the page is closed: what a person has chosen, the browser's subscription, and the server's.
// Chosen is chosen for a user: whoever signs in as another one is told nothing of the one before.
//
// The page subscribes whenever it is connected anew (SPEC 8.13). The browser's subscription is bound to the server's key: with another key it
// is made anew.

import { PROVIDERS } from '/client/index.js';
import { forgetNames, keepNames } from './kept_names.js';
import { PUSH_WITHIN_MS } from './limits.js';
import * as words from './model/words.js';
import { NOT_ALLOWED, NO_WORKER, PUSH_KEY, startWorker } from './notices.js';
import { takeOff } from './screen.js';

/** What may be chosen: the levels of `show` (SPEC 4.49), or none. */
export const OFF = 'off';
const LEVELS = ['nothing', 'sender', 'text'];

const NO_SERVICE = 'The push service of this browser does not answer: it has none, or it can not be reached. Try again later.';
const NO_SERVER = 'The server does not answer. Try again when the page is connected.';
const NOT_OFFERED = 'The server does not send to browsers any more.';

/** Words for a person about why it does not work. */
class Failed extends Error {}

export class Push {
    /** Why what was chosen does not work, in words; undefined: it does. */
    why;
    #user;
    #names;
    #request;
    #world;
    #last = Promise.resolve();

    /** `names`: a Map from users to what the person calls them; `request`: as of `Tabs`; `world`: another one than this browser, for tests. */
    constructor({ user, names, request }, world = thisBrowser()) {
        this.#user = user;
        this.#names = names;
        this.#request = request;
        this.#world = world;
    }

    /** Whether the server sends to browsers. */
    async isOffered() {
        try {
            return (await this.#request('fetch_subscription', {})).server_key.length > 0;
        } catch {
            return false;
        }
    }

    /** What the user of this page has chosen: 'off', 'nothing', 'sender' or 'text'. */
    get chosen() {
        const [user, show] = (this.#world.storage.getItem(PUSH_KEY) ?? '').split(' ');
        return user === String(this.#user) && LEVELS.includes(show) ? show : OFF;
    }

    /** Chooses; `why` says afterwards whether it works. Who chooses has been asked for permission. */
    choose(show) {
        return this.#after(async () => {
            if (show === OFF) {
                await this.#end();
                // A server that does not hear of it learns from the push service that the subscription is gone.
                return this.#ask('unsubscribe', {}).catch(() => {});
            }
            await this.#subscribe(show);
            return this.#world.storage.setItem(PUSH_KEY, `${this.#user} ${show}`);
        });
    }

    /** Makes true what was chosen: with each connection, when the browser has ended a subscription, and when somebody has another name. */
    keep() {
        return this.#after(() => (this.chosen === OFF ? this.#end() : this.#subscribe(this.chosen)));
    }

    /** Nothing of it is left in this browser: who signs out takes the device, and so the server's part, away. */
    end() {
        return this.#after(() => this.#end());
    }

    /** One after the other. */
    #after(does) {
        this.#last = this.#last.then(does).then(
            () => (this.why = undefined),
            (error) => (this.why = error instanceof Failed ? error.message : `The browser said no: ${error.message}`),
        );
        return this.#last;
    }

    async #subscribe(show) {
        const { worker, permission, keepNames: keep } = this.#world;
        if (permission() !== 'granted') throw new Failed(NOT_ALLOWED);
        await keep(this.#names);
        const started = worker().catch(() => {
            throw new Failed(NO_WORKER);
        });
        const { pushManager } = await this.#within(started, NO_WORKER);
        const { server_key: key } = await this.#ask('fetch_subscription', {});
        if (key.length === 0) throw new Failed(NOT_OFFERED);
        const { endpoint, keys } = (await this.#subscription(pushManager, key)).toJSON();
        await this.#ask('subscribe', {
            provider: PROVIDERS.web_push,
            show,
            address: endpoint,
            key: bytesIn(keys.p256dh),
            secret: bytesIn(keys.auth),
        });
    }

    /** The browser's subscription: the one that it has, if that is bound to this key. */
    async #subscription(manager, key) {
        const known = await manager.getSubscription();
        if (known !== null && isSame(new Uint8Array(known.options.applicationServerKey ?? []), key)) return known;
        await known?.unsubscribe();
        // Where there is permission and no push service it never settles.
        const made = manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
        return this.#within(made, NO_SERVICE);
    }

    async #end() {
        const { storage, registered, forgetNames: forget } = this.#world;
        storage.removeItem(PUSH_KEY);
        const registration = await registered();
        await (await registration?.pushManager?.getSubscription())?.unsubscribe();
        await forget();
        if (registration !== undefined) await takeOff(registration, () => true);
    }

    #ask(name, fields) {
        const asked = this.#request(name, fields).catch(({ code, message }) => {
            throw new Failed(code === undefined ? message : words.refused(code));
        });
        return this.#within(asked, NO_SERVER);
    }

    /** What a promise gives, or `late` if that takes too long. */
    async #within(promise, late) {
        let timer;
        const isLate = new Promise((_, reject) => (timer = setTimeout(() => reject(new Failed(late)), this.#world.withinMs)));
        try {
            return await Promise.race([promise, isLate]);
        } finally {
            clearTimeout(timer);
        }
    }
}

const thisBrowser = () => ({
    storage: localStorage,
    worker: startWorker,
    registered: () => navigator.serviceWorker.getRegistration(),
    permission: () => Notification.permission,
    keepNames,
    forgetNames,
    withinMs: PUSH_WITHIN_MS,
});

const isSame = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

const bytesIn = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
