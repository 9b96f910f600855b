// What is shown on the screen while nobody looks at the page, and while it is closed: by the page, and by its service worker.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { until } from './browser.js';
import { World } from './world.js';

const [ALICE, BOB] = [7, 8];

let world;
afterEach(() => world.end());

/**
 * In page and worker: what is under way is counted, since Chromium forgets a notice that it is about to show when it is asked which stand.
 * And a notice stays, which a browser that nobody sees takes off the screen after some seconds: a slow machine would miss it.
 */
const OBSERVED = `(() => {
    self.shown = 0;
    const show = ServiceWorkerRegistration.prototype.showNotification;
    ServiceWorkerRegistration.prototype.showNotification = async function (title, options) {
        await show.call(this, title, { ...options, requireInteraction: true });
        self.shown++;
    };
    self.done = 0;
    const { waitUntil } = self.ExtendableEvent?.prototype ?? {};
    if (waitUntil !== undefined) ExtendableEvent.prototype.waitUntil = function (promise) {
        waitUntil.call(this, promise.finally(() => self.done++));
    };
})()`;

/** A page that a notice may be shown for, with its service worker. */
class Watched {
    #registration;
    /** See `Browser.insideWorker`. */
    inWorker;

    constructor(person) {
        this.person = person;
        this.page = person.page;
    }

    /** Turns on what the page announces, as a person does. */
    static async start(person) {
        const watched = new Watched(person);
        const { page } = person;
        page.onEvent = (method, { registrations }) => {
            if (method === 'ServiceWorker.workerRegistrationUpdated') watched.#registration = registrations.at(-1)?.registrationId;
        };
        await page.call('ServiceWorker.enable');
        await openAccount(person);
        await person.clicks('.toggle', 'Announce messages');
        await page.waits('the worker runs', `navigator.serviceWorker.getRegistration().then((of) => of?.active?.state === 'activated')`);
        await page.press('Escape');
        await until('it is known', () => watched.#registration);
        watched.inWorker = await person.browser.insideWorker(`${person.world.origin}/service-worker.js`);
        await watched.inWorker(OBSERVED);
        return watched;
    }

    /** The browser gives its worker a push, as if it came from the server, and the worker does what it does with it. */
    async push(payload) {
        const data = typeof payload === 'string' ? payload : JSON.stringify({ v: 1, ...payload });
        const before = await this.inWorker('done');
        await this.page.call('ServiceWorker.deliverPushMessage', {
            origin: this.person.world.origin,
            registrationId: this.#registration,
            data,
        });
        await until('the worker is done', () => this.inWorker(`done > ${before}`));
    }

    /** What stands on the screen: title and text of each. */
    notices() {
        return this.page.evaluate(
            `navigator.serviceWorker.ready.then((of) => of.getNotifications()).then((all) => all.map(({ title, body }) => title + ': ' + body))`,
        );
    }

    /** Waits until these are shown, and no others. */
    shows(...notices) {
        const wanted = JSON.stringify(notices.sort());
        const shown = new Set();
        const isShown = async () => {
            const now = JSON.stringify((await this.notices()).sort());
            shown.add(now);
            return now === wanted;
        };
        return until(`these are shown: ${wanted}`, isShown).catch((error) => {
            throw new Error(`${error.message}, but ${[...shown].join(', then ')}`);
        });
    }

    /**
     * Clicks the only notice. A browser that nobody sees has nothing to click at: its worker is told as by the browser, but that such an
     * event may bring no window to the front, nor open one. Gives the address that was to be opened.
     */
    click() {
        return this.inWorker(`(async () => {
            let opened;
            clients.openWindow = async (url) => (opened = url);
            WindowClient.prototype.focus = async () => {};
            const [notification] = await registration.getNotifications();
            const event = new NotificationEvent('notificationclick', { notification });
            const done = new Promise((resolve) => (event.waitUntil = resolve));
            self.dispatchEvent(event);
            await done;
            return opened;
        })()`);
    }
}

async function openAccount(person) {
    await person.clicks('.icon-button', 'Account');
    await person.reads('dialog', 'this browser');
}

async function watched() {
    const alice = await world.person(ALICE, async (page) => {
        await page.allowNotices(world.origin);
        await page.call('Page.addScriptToEvaluateOnNewDocument', { source: OBSERVED });
    });
    return Watched.start(alice);
}

/** Another tab hides the page. */
async function hide({ person, page }) {
    await person.browser.open('about:blank');
    await page.waits('nobody looks', `document.visibilityState === 'hidden'`);
}

const look = ({ page }) => page.call('Page.bringToFront');

test('what comes while nobody looks is announced, once for all tabs, unless it is muted or read', async () => {
    world = await World.start();
    const alice = await watched();
    const { person } = alice;
    await person.tab();
    const bob = await world.person(BOB);
    await bob.opens(ALICE);
    await bob.writes('while she looks');
    await person.reads('.row', 'while she looks');
    await hide(alice);
    await bob.writes('while she does not');
    await alice.page.waits('it is announced', 'shown === 1');
    await alice.shows(`User ${BOB}: while she does not`);
    await bob.writes('nor now');
    await alice.page.waits('it is announced', 'shown === 2');
    await alice.shows(`User ${BOB}: nor now`);
    // On another device she reads it.
    const phone = await world.client(BigInt(ALICE));
    const { entries } = await phone.fetchLog();
    await phone.markRead({ user: BigInt(BOB) }, Math.max(...entries.filter(({ kind }) => kind === 'received').map(({ seq }) => seq)));
    await alice.shows();
    await phone.setConversation({ user: BigInt(BOB) }, { set: 1n });
    await alice.page.waits('it is muted', `document.querySelector('.row.is-muted') !== null`);
    await bob.writes('while it is muted');
    await person.reads('.row', 'while it is muted');
    assert.deepEqual(await alice.notices(), []);
    assert.deepEqual(alice.page.faults, []);
});

test('a push shows a notice, a later one of its conversation replaces it, and a clear takes it away', async () => {
    world = await World.start();
    const alice = await watched();
    await hide(alice);
    const ofBob = { tag: 'of Bob', conversation: String(BOB), from: String(BOB) };
    await alice.push({ ...ofBob, at: 1_000, count: 1, text: 'Are you there?' });
    await alice.shows(`User ${BOB}: Are you there?`);
    await alice.push({ ...ofBob, at: 2_000, count: 2, text: 'Hello?' });
    await alice.shows(`User ${BOB} (2): Hello?`);
    await alice.push({ tag: 'of somebody', at: 3_000, count: 1 });
    await alice.shows(`User ${BOB} (2): Hello?`, 'Ringpost: A new message');
    await alice.push({ tag: ofBob.tag, at: 4_000, clear: true });
    await alice.shows('Ringpost: A new message');
    await alice.push({ v: 2, tag: 'of the future', at: 5_000 });
    await alice.push('not even JSON');
    await alice.shows('Ringpost: A new message', 'Ringpost: There is something new');
    // Who looks at the page sees what is new there.
    await look(alice);
    await alice.shows();
    assert.deepEqual(alice.page.faults, []);
});

test('what somebody sees in the page is not announced, and what they do not see there is', async () => {
    world = await World.start();
    const alice = await watched();
    await alice.person.opens(BOB);
    await alice.page.waits('somebody looks', 'document.hasFocus()');
    const ofBob = { tag: 'of Bob', at: 1_000, count: 1, conversation: String(BOB), from: String(BOB) };
    await alice.push(ofBob);
    await alice.push({ tag: 'of somebody', at: 2_000, count: 1 });
    await alice.push({ tag: 'of nine', at: 3_000, count: 1, conversation: '9', from: '9' });
    await alice.shows('User 9: A new message');
    // A page that is not connected has nothing new.
    world.cut();
    await alice.page.waits('it is not connected', `document.querySelector('.app').dataset.connection !== 'ready'`);
    await alice.push(ofBob);
    await alice.shows('User 9: A new message', `User ${BOB}: A new message`);
});

test('a click on a notice opens the conversation, in the page if there is one', async () => {
    world = await World.start();
    const alice = await watched();
    await hide(alice);
    const push = { tag: 'of Bob', at: 1_000, count: 1, conversation: String(BOB), from: String(BOB), text: 'Are you there?' };
    await alice.push(push);
    await alice.shows(`User ${BOB}: Are you there?`);
    assert.equal(await alice.click(), undefined, 'no other window');
    await alice.page.waits('it is open', `location.hash === '#/user/${BOB}' && document.querySelector('.app.has-open') !== null`);
    await alice.shows();
    await alice.push(push);
    await alice.shows(`User ${BOB}: Are you there?`);
    await alice.page.go('about:blank');
    await until('no window is left', () =>
        alice.inWorker(`clients.matchAll({ includeUncontrolled: true }).then(({ length }) => length === 0)`),
    );
    assert.equal(await alice.click(), `/#/user/${BOB}`);
});
