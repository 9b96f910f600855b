// What is shown on the screen while nobody looks at the page, and while it is closed: by the page, and by its service worker.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';

import { PROVIDERS } from '../client/src/index.js';
import { until } from './browser.js';
import { World } from './world.js';

const [ALICE, BOB] = [7, 8];

/** A server that sends to browsers. No message is due while the page is connected, so it sends nothing. */
const WEB_PUSH = '[push.web_push]\ncontact = "mailto:operator@ringpost.org"';

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
        await person.clicks('.toggle', 'While the page is open');
        await page.waits('the worker runs', `navigator.serviceWorker.getRegistration().then((of) => of?.active?.state === 'activated')`);
        await page.press('Escape');
        await until('it is known', () => watched.#registration);
        watched.inWorker = await person.browser.insideWorker(`${person.world.origin}/service-worker.js`);
        await watched.inWorker(OBSERVED);
        return watched;
    }

    /** The browser gives its worker pushes, together and as if they came from the server, and the worker does what it does with them. */
    async push(...payloads) {
        const before = await this.inWorker('done');
        const to = { origin: this.person.world.origin, registrationId: this.#registration };
        const dataOf = (payload) => (typeof payload === 'string' ? payload : JSON.stringify({ v: 1, ...payload }));
        await Promise.all(payloads.map((of) => this.page.call('ServiceWorker.deliverPushMessage', { ...to, data: dataOf(of) })));
        await until('the worker is done', () => this.inWorker(`done === ${before + payloads.length}`));
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

async function watched(prepare = async () => {}) {
    const alice = await world.person(ALICE, async (page) => {
        await page.allowNotices(world.origin);
        await page.call('Page.addScriptToEvaluateOnNewDocument', { source: OBSERVED });
        await prepare(page);
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
    const follower = await person.tab();
    await follower.page.evaluate(OBSERVED);
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
    assert.deepEqual([await alice.page.evaluate('shown'), await follower.page.evaluate('shown')], [2, 0]);
    for (const { page } of [alice, follower]) assert.deepEqual(page.faults, []);
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
    await alice.push({ v: 2, tag: 'of the future', at: 5_000 }, 'not even JSON', { ...ofBob, at: 6_000, count: 1, text: 'Together' });
    await alice.shows('Ringpost: A new message', 'Ringpost: There is something new', `User ${BOB}: Together`);
    // Who looks at the page sees that something is new, and goes on to what.
    await look(alice);
    await alice.shows(`User ${BOB}: Together`);
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

/** A push service as browsers have one, of which this one has none. It makes a subscription for each key. */
const PUSH_SERVICE = `(() => {
    const made = () => JSON.parse(localStorage.getItem('made') ?? 'null');
    const base64 = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    const subscription = ({ endpoint, key }) => ({
        options: { applicationServerKey: Uint8Array.from(key).buffer },
        toJSON: () => ({ endpoint, keys: { p256dh: 'BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU', auth: base64(new Array(16).fill(7)) } }),
        unsubscribe: async () => localStorage.removeItem('made'),
    });
    PushManager.prototype.getSubscription = async () => made() && subscription(made());
    PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
        if (!userVisibleOnly) throw new Error('userVisibleOnly is missing');
        const key = [...applicationServerKey];
        localStorage.setItem('made', JSON.stringify({ endpoint: 'https://fcm.googleapis.com/fcm/send/' + crypto.randomUUID(), key }));
        return subscription(made());
    };
})()`;

const chosen = `document.querySelector('.choice input:checked')?.value`;

/** Chooses what a notice shows while the page is closed, and waits until that is done. */
async function chooses({ person, page }, name) {
    await openAccount(person);
    await person.clicks('.choice label', name);
    await page.waits('it is done', `document.querySelector('.choice').ariaBusy !== 'true'`);
    await page.evaluate(`document.querySelector('dialog').close()`);
}

test('what is chosen for a closed page is known to the server: anew with its next key, and no more when it is off', async () => {
    world = await World.start(WEB_PUSH);
    const alice = await watched((page) => page.call('Page.addScriptToEvaluateOnNewDocument', { source: PUSH_SERVICE }));
    const { person, page } = alice;
    const bob = await world.client(BigInt(BOB));
    const { seq } = await bob.text({ user: BigInt(ALICE) }, 'Hello').answer;
    assert.ok(seq > 0);
    await person.reads('.row', 'Hello');
    const { entries } = await (await world.client(BigInt(ALICE))).fetchLog();
    const at = String(entries.find(({ kind }) => kind === 'received').seq);
    const subscribed = () => /devices subscribed +(.*)/.exec(world.command('push', 'why', '--user', String(ALICE), at))[1];
    const endpoint = () => page.evaluate(`JSON.parse(localStorage.getItem('made'))?.endpoint`);

    await openAccount(person);
    assert.equal(await page.evaluate(chosen), 'off');
    await page.evaluate(`document.querySelector('dialog').close()`);
    assert.equal(subscribed(), 'none');
    await chooses(alice, 'Who wrote, and the text');
    const device = subscribed();
    assert.match(device, /^\d+$/);
    const first = await endpoint();

    // A name that the person gives is in the notice.
    await person.opens(BOB);
    await person.clicks('.talk .icon-button', 'Details');
    await page.waits('the dialog is there', `document.querySelector('dialog input[name=called]') !== null`);
    await page.evaluate(`document.querySelector('dialog input[name=called]').value = 'Robert'`);
    await person.clicks('dialog button', 'Call them so');
    await page.waits('the worker knows', `caches.match('/names').then((of) => of.text()).then((text) => text.includes('Robert'))`);
    await hide(alice);
    await alice.push({ tag: 'of Bob', at: 1_000, count: 1, conversation: String(BOB), from: String(BOB), text: 'Hello' });
    await alice.shows('Robert: Hello');
    await look(alice);

    // A start with the same key of the server changes nothing; with another key it subscribes anew.
    await page.call('Page.reload');
    await person.isConnected();
    assert.equal(await endpoint(), first);
    await world.killServer();
    rmSync(join(world.folder, 'web-push-key.pem'));
    await world.startServer();
    await page.waits('it has subscribed anew', `JSON.parse(localStorage.getItem('made')).endpoint !== ${JSON.stringify(first)}`);
    await until('the server knows', () => subscribed() === device);
    await openAccount(person);
    assert.equal(await page.evaluate(chosen), 'text');
    await page.evaluate(`document.querySelector('dialog').close()`);

    // The browser drops its subscription, and says so.
    await page.evaluate(`localStorage.removeItem('made')`);
    await alice.inWorker(`void self.dispatchEvent(new ExtendableEvent('pushsubscriptionchange'))`);
    await page.waits('there is another one', `localStorage.getItem('made') !== null`);

    await chooses(alice, 'Nothing');
    assert.deepEqual([subscribed(), await endpoint()], ['none', undefined]);
    await chooses(alice, 'That something came');
    const last = await endpoint();
    assert.deepEqual(page.faults, []);
    await page.close();
    const asTheBrowser = await world.client(BigInt(ALICE), BigInt(device));
    const { provider, show, address } = await asTheBrowser.fetchSubscription();
    assert.deepEqual([provider, show, address], [PROVIDERS.web_push, 'nothing', last]);
});

test('who signs out leaves neither a subscription nor a notice in the browser', async () => {
    world = await World.start(WEB_PUSH);
    const alice = await watched((page) => page.call('Page.addScriptToEvaluateOnNewDocument', { source: PUSH_SERVICE }));
    await chooses(alice, 'Who wrote');
    await hide(alice);
    await alice.push({ tag: 'of Bob', at: 1_000, count: 1, conversation: String(BOB), from: String(BOB) });
    await alice.shows(`User ${BOB}: A new message`);
    assert.notEqual(await alice.page.evaluate(`localStorage.getItem('made')`), null);
    await openAccount(alice.person);
    await alice.person.clicks('dialog button', 'Sign out');
    await alice.page.waits('it asks for a token', `document.querySelector('.sign-in textarea') !== null`);
    await alice.shows();
    assert.deepEqual(await alice.page.evaluate(`caches.keys().then((names) => [names, Object.keys(localStorage).sort()])`), [
        [],
        ['ringpost device is named', 'ringpost notices'],
    ]);
});

test('a browser without a push service, and one that does not allow notices, are told of in words', async () => {
    world = await World.start(WEB_PUSH);
    const alice = await watched();
    // Debian's Chromium has no push service: it never answers.
    await chooses(alice, 'Who wrote');
    await openAccount(alice.person);
    await alice.person.reads('dialog [role=status]', 'push service of this browser does not answer');
    assert.equal(await alice.page.evaluate(chosen), 'off');
    await alice.page.call('Browser.setPermission', {
        origin: world.origin,
        permission: { name: 'notifications' },
        setting: 'denied',
    });
    await alice.page.evaluate(`document.querySelector('dialog').close()`);
    await openAccount(alice.person);
    await alice.person.reads('dialog', 'does not let the page notify you');
});

test('a server that does not send to browsers offers nothing of it', async () => {
    world = await World.start();
    const alice = await watched();
    await openAccount(alice.person);
    await alice.person.reads('dialog .toggle', 'While the page is open');
    assert.equal(await alice.page.evaluate(`document.querySelector('.choice')`), null);
});
