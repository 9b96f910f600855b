// Announces what comes while nobody looks at the page, as long as it is open. What comes while it is closed the service worker announces, if
// that was chosen (see `push.js`). Both do not tell the same: what an open page has it acknowledges, and the server pushes nothing of it. If
// that goes wrong, or the page is opened while a push is on its way, the later of both takes the place of the other without a sound.

import { hashOf } from './model/address.js';
import { show, takeOff } from './screen.js';

const KEY = 'ringpost notices';

/** Where is kept what the worker announces, for whom. */
export const PUSH_KEY = 'ringpost push';

/** Words for a person about why there are none. */
export const NOT_ALLOWED = 'This browser does not let the page notify you. Allow it in the settings of the browser for this page.';
export const NO_WORKER = 'This browser can not run what shows notices. A newer version may.';

/** The worker by which notices are shown, as soon as it can. A browser that has it answers at once. */
export async function startWorker() {
    await navigator.serviceWorker.register('/service-worker.js', { type: 'module' });
    return navigator.serviceWorker.ready;
}

export class Notices {
    #storage;
    /** What the conversations are called that were read a moment ago. */
    #read = new Set();

    constructor(storage) {
        this.#storage = storage;
    }

    get isPossible() {
        return 'Notification' in globalThis && 'serviceWorker' in navigator;
    }

    get isOn() {
        return this.isPossible && Notification.permission === 'granted' && this.#storage.getItem(KEY) === 'on';
    }

    /** Turns them on, which the browser may ask the person about, or off. Gives words if it did not work. */
    async turn(isOn) {
        if (isOn) {
            if ((await Notification.requestPermission()) !== 'granted') return NOT_ALLOWED;
            const isStarted = await startWorker().then(Boolean, () => false);
            if (!isStarted) return NO_WORKER;
        }
        this.#storage.setItem(KEY, isOn ? 'on' : 'off');
        return undefined;
    }

    /** Announces what somebody wrote at `at`, in milliseconds since 1970. */
    async announce(conversation, title, body, at) {
        if (!this.isOn) return;
        await show(await startWorker(), { title, body, at, about: hashOf(conversation), tag: undefined });
    }

    /** A conversation was read, here or elsewhere: its notice is taken off the screen, with those of all that are read at that time. */
    read(conversation) {
        this.#read.add(hashOf(conversation));
        if (this.#read.size > 1) return;
        setTimeout(() => {
            const read = this.#read;
            this.#read = new Set();
            this.takeOff((about) => read.has(about));
        });
    }

    /** Takes those off the screen for which `isMeant`, called with what they are about, is true. */
    async takeOff(isMeant) {
        if (!this.isPossible || Notification.permission !== 'granted') return;
        const registration = await navigator.serviceWorker.getRegistration();
        if (registration !== undefined) await takeOff(registration, isMeant);
    }
}
