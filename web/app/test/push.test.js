// What a person chooses to be told while the page is closed, against a browser and a server that are made up.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CODES } from '/client/index.js';
import { Push } from '../push.js';

const KEY = Uint8Array.from({ length: 65 }, (_, at) => at);
const OTHER_KEY = Uint8Array.from({ length: 65 }, (_, at) => at + 1);

/** A browser and a server, which remember what they were asked. */
class World {
    asked = [];
    kept = new Map();
    key = KEY;
    allowed = 'granted';
    /** Of the browser: { endpoint, key }. */
    subscription = null;
    made = 0;
    refuses;
    subscribe = async ({ applicationServerKey }) => {
        if (this.subscription !== null) throw new Error('there is one already, with another key');
        this.subscription = this.#subscriptionOf(`https://push.example/${++this.made}`, applicationServerKey);
        return this.subscription;
    };

    #subscriptionOf(endpoint, key) {
        return {
            options: { applicationServerKey: Uint8Array.from(key).buffer },
            toJSON: () => ({ endpoint, keys: { p256dh: 'AQI_', auth: '-_8' } }),
            unsubscribe: async () => (this.subscription = null),
        };
    }

    push(user = 7n) {
        const registration = {
            pushManager: { getSubscription: async () => this.subscription, subscribe: (options) => this.subscribe(options) },
            getNotifications: async () => [],
        };
        const request = async (name, fields) => {
            this.asked.push([name, fields]);
            if (this.refuses === name) throw Object.assign(new Error('no'), { code: CODES.bad_subscription });
            return { server_key: this.key };
        };
        return new Push(
            { user, names: new Map([[8n, 'Anna']]), request },
            {
                storage: {
                    getItem: (key) => this.kept.get(key) ?? null,
                    setItem: (key, value) => this.kept.set(key, value),
                    removeItem: (key) => this.kept.delete(key),
                },
                worker: async () => registration,
                registered: async () => registration,
                permission: () => this.allowed,
                keepNames: async (names) => (this.names = names),
                forgetNames: async () => (this.names = undefined),
                withinMs: 50,
            },
        );
    }

    /** What the server was told, and forgotten with that. */
    told() {
        const told = this.asked.splice(0).filter(([name]) => name !== 'fetch_subscription');
        return told.map(([name, { show, address }]) => [name, show, address].filter((of) => of !== undefined).join(' '));
    }
}

test('what is chosen is told to the server with the subscription of the browser, which is made once', async () => {
    const world = new World();
    const push = world.push();
    assert.equal(push.chosen, 'off');
    await push.choose('sender');
    assert.deepEqual([push.chosen, push.why, world.names.get(8n)], ['sender', undefined, 'Anna']);
    const [, [, { provider, key, secret }]] = world.asked;
    assert.deepEqual([provider, [...key], [...secret]], [1n, [1, 2, 63], [251, 255]]);
    await push.choose('text');
    assert.deepEqual(world.told(), ['subscribe sender https://push.example/1', 'subscribe text https://push.example/1']);
    // Whether the server hears of it or not, nothing comes any more.
    world.refuses = 'unsubscribe';
    await push.choose('off');
    assert.deepEqual([push.chosen, push.why], ['off', undefined]);
    assert.deepEqual([world.subscription, world.names, world.told()], [null, undefined, ['unsubscribe']]);
});

test('each start subscribes again, and anew with another key of the server or after the browser has dropped it', async () => {
    const world = new World();
    await world.push().choose('text');
    world.told();
    await world.push().keep();
    assert.deepEqual(world.told(), ['subscribe text https://push.example/1']);
    world.key = OTHER_KEY;
    await world.push().keep();
    assert.deepEqual(world.told(), ['subscribe text https://push.example/2']);
    world.subscription = null;
    await world.push().keep();
    assert.deepEqual(world.told(), ['subscribe text https://push.example/3']);
});

test('who signs in as another user is told nothing of the one before, and a start with nothing chosen asks nobody', async () => {
    const world = new World();
    await world.push(7n).choose('text');
    world.told();
    const push = world.push(9n);
    await push.keep();
    assert.deepEqual([push.chosen, world.subscription, world.names, world.told()], ['off', null, undefined, []]);
    for (const text of ['', '9', '9 loud', 'text', '9  text']) {
        world.kept.set('ringpost push', text);
        assert.equal(push.chosen, 'off', text);
    }
});

test('each failure is told in words, and what was chosen before stays chosen', async () => {
    const never = () => new Promise(() => {});
    const ways = [
        [(world) => (world.allowed = 'denied'), /does not let the page notify you/],
        [(world) => (world.subscribe = never), /push service of this browser does not answer/],
        [(world) => (world.subscribe = () => Promise.reject(new Error('no room'))), /The browser said no: no room/],
        [(world) => (world.key = new Uint8Array()), /does not send to browsers/],
        [(world) => (world.refuses = 'subscribe'), /does not send to the push service/],
    ];
    for (const [fail, why] of ways) {
        const world = new World();
        fail(world);
        const push = world.push();
        await push.choose('text');
        assert.match(push.why, why);
        assert.equal(push.chosen, 'off');
    }
    const world = new World();
    const push = world.push();
    await push.choose('text');
    world.allowed = 'default';
    await push.keep();
    assert.match(push.why, /does not let/);
    assert.equal(push.chosen, 'text', 'it works again when the browser is asked');
    world.allowed = 'granted';
    await push.keep();
    assert.equal(push.why, undefined);
});

test('what is chosen while something is under way waits for it', async () => {
    const world = new World();
    const push = world.push();
    await Promise.all([push.choose('text'), push.choose('off'), push.choose('nothing')]);
    assert.deepEqual(world.told(), ['subscribe text https://push.example/1', 'unsubscribe', 'subscribe nothing https://push.example/2']);
    assert.equal(push.chosen, 'nothing');
});

test('a server that lacks the frame offers nothing', async () => {
    const world = new World();
    assert.equal(await world.push().isOffered(), true);
    world.key = new Uint8Array();
    assert.equal(await world.push().isOffered(), false);
    world.refuses = 'fetch_subscription';
    assert.equal(await world.push().isOffered(), false);
});
