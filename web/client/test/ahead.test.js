// A link that is opened ahead of whoever speaks on it, over a transport of the test's own.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ahead } from '../src/transport/ahead.js';

const URL = 'wss://host/v1/ws';

function world() {
    const links = [];
    const transport = (url, handlers) => {
        const link = { url, handlers, isOpen: true, close: () => (link.isOpen = false) };
        links.push(link);
        return link;
    };
    const heard = [];
    const handlers = {
        opened: () => heard.push('opened'),
        bytes: (bytes) => heard.push(bytes),
        closed: (words) => heard.push(`closed: ${words}`),
    };
    return { links, transport, heard, handlers };
}

const soon = () => new Promise((resolve) => queueMicrotask(resolve));

test('the first link is the one that was opened ahead, and what it told meanwhile comes first and in order', async () => {
    const { links, transport, heard, handlers } = world();
    const first = ahead(transport, URL);
    links[0].handlers.opened();
    assert.equal(first.transport(URL, handlers), links[0]);
    links[0].handlers.bytes('before the turn is over');
    assert.deepEqual(heard, [], 'whoever opens a link is told of it later');
    await soon();
    links[0].handlers.bytes('after it');
    links[0].handlers.closed('gone');
    assert.deepEqual(heard, ['opened', 'before the turn is over', 'after it', 'closed: gone']);
    first.drop();
    assert.ok(links[0].isOpen, 'it is not ours to close any more');
    assert.equal(first.transport(URL, handlers), links[1], 'the next one is opened when it is asked for');
});

test('a link that has ended before it was needed, or leads elsewhere, is not given', async () => {
    const { links, transport, heard, handlers } = world();
    const ended = ahead(transport, URL);
    links[0].handlers.opened();
    links[0].handlers.closed('nobody said hello');
    assert.equal(ended.transport(URL, handlers), links[1]);
    const elsewhere = ahead(transport, URL);
    assert.equal(elsewhere.transport('wss://other/v1/ws', handlers), links[3]);
    assert.ok(!links[2].isOpen && links[3].isOpen);
    await soon();
    assert.deepEqual(heard, []);
});

test('a link that nobody needs is closed', () => {
    const { links, transport } = world();
    ahead(transport, URL).drop();
    assert.ok(!links[0].isOpen);
});

test('where no link can be made, whoever asks for one is told why', () => {
    const { handlers } = world();
    const first = ahead(() => {
        throw new SyntaxError('no address');
    }, 'nowhere');
    first.drop();
    assert.throws(() => first.transport('nowhere', handlers), /no address/);
});
