// Which of two transports is used, by what was heard: with transports and a clock of the test's own.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { withFallback } from '../src/index.js';
import { SILENT_AFTER_MS, WEBSOCKET_AGAIN_AFTER_MS } from '../src/limits.js';

class World {
    time = 0;
    links = [];
    timers = new Map();
    heard = [];

    constructor() {
        const transport = (kind) => (url, handlers) => {
            const link = { kind, handlers, isOpen: true, close: () => (link.isOpen = false), write() {}, buffered: 0 };
            this.links.push(link);
            return link;
        };
        let id = 0;
        const timers = {
            setTimeout: (then, ms) => (this.timers.set(++id, { then, at: this.time + ms }), id),
            clearTimeout: (of) => this.timers.delete(of),
        };
        this.transport = withFallback({ first: transport('websocket'), second: transport('polling'), now: () => this.time, timers });
    }

    /** Another attempt of the client: the kind of the link, and the link. */
    open() {
        const closed = [];
        const link = this.transport('wss://host/v1/ws', { opened() {}, bytes: (bytes) => this.heard.push(bytes), closed: (words) => closed.push(words) });
        return { link, closed, below: this.links.at(-1) };
    }

    pass(ms) {
        this.time += ms;
        for (const [id, { then, at }] of this.timers) {
            if (at <= this.time) {
                this.timers.delete(id);
                then();
            }
        }
    }

    /** Attempts that end without a word: of which kind they were. */
    fails(count) {
        return Array.from({ length: count }, () => {
            const { below } = this.open();
            below.handlers.closed('gone');
            return below.kind;
        });
    }
}

test('after two WebSockets on which nothing was heard one polls, and if nothing is heard there either, WebSocket is next', () => {
    const world = new World();
    assert.deepEqual(world.fails(7), ['websocket', 'websocket', 'polling', 'websocket', 'websocket', 'polling', 'websocket']);
});

test('a WebSocket on which something was heard is one that gets through', () => {
    const world = new World();
    for (let n = 0; n < 5; n++) {
        const { below } = world.open();
        assert.equal(below.kind, 'websocket');
        below.handlers.bytes('welcome');
        below.handlers.closed('gone');
        assert.deepEqual(world.fails(1), ['websocket']);
    }
});

test('one that the client gives up late counts, and one that it gives up soon does not', () => {
    const world = new World();
    for (let n = 0; n < 5; n++) world.open().link.close();
    for (let n = 0; n < 2; n++) {
        const { link, below } = world.open();
        assert.equal(below.kind, 'websocket');
        world.pass(SILENT_AFTER_MS);
        link.close();
        assert.equal(below.isOpen, false);
    }
    assert.equal(world.open().below.kind, 'polling');
});

test('where polling works it stays until a WebSocket opens again', () => {
    const world = new World();
    world.fails(2);
    const { below, closed } = world.open();
    below.handlers.bytes('welcome');
    // The connection is lost, and polling still works.
    below.handlers.closed('gone');
    assert.deepEqual(world.fails(1), ['polling']);
    const polled = world.open();
    polled.below.handlers.bytes('welcome');
    world.pass(WEBSOCKET_AGAIN_AFTER_MS - 1);
    assert.equal(world.links.at(-1), polled.below);
    world.pass(1);
    const first = world.links.at(-1);
    assert.equal(first.kind, 'websocket');
    first.handlers.closed('refused');
    world.pass(2 * WEBSOCKET_AGAIN_AFTER_MS - 1);
    assert.equal(world.links.at(-1), first, 'it takes longer than the time before');
    world.pass(1);
    const second = world.links.at(-1);
    assert.notEqual(second, first);
    second.handlers.opened();
    assert.deepEqual([polled.closed, polled.below.isOpen, second.isOpen], [['WebSocket gets through again'], false, false]);
    assert.deepEqual([closed.length, world.open().below.kind], [1, 'websocket']);
});

test('a WebSocket that opens and brings nothing is not believed twice', () => {
    const world = new World();
    world.fails(2);
    world.open().below.handlers.bytes('welcome');
    world.pass(WEBSOCKET_AGAIN_AFTER_MS);
    world.links.at(-1).handlers.opened();
    assert.deepEqual(world.fails(1), ['websocket']);
    const { below } = world.open();
    assert.equal(below.kind, 'polling');
    below.handlers.bytes('welcome');
    world.pass(WEBSOCKET_AGAIN_AFTER_MS);
    assert.equal(world.links.at(-1), below, 'the next one is later');
});

test('who closes leaves no timer and no WebSocket behind', () => {
    const world = new World();
    world.fails(2);
    const { link, below } = world.open();
    below.handlers.bytes('welcome');
    world.pass(WEBSOCKET_AGAIN_AFTER_MS);
    const probe = world.links.at(-1);
    link.close();
    assert.deepEqual([below.isOpen, probe.isOpen, world.timers.size], [false, false, 0]);
});
