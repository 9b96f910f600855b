// The transport over WebSocket, with a WebSocket of the test's own: what a browser does with one is told to the client, once.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SUBPROTOCOL, websocket } from '../src/index.js';

class FakeSocket {
    static last;
    readyState = 0;
    bufferedAmount = 0;
    sent = [];
    closes = 0;

    constructor(url, protocol) {
        Object.assign(this, { url, protocol });
        FakeSocket.last = this;
    }

    send(bytes) {
        this.sent.push(bytes);
        this.bufferedAmount += bytes.length;
    }

    close() {
        this.closes++;
    }
}

function open() {
    globalThis.WebSocket = FakeSocket;
    const told = [];
    const link = websocket('wss://host/v1/ws', {
        opened: () => told.push('opened'),
        bytes: (bytes) => told.push([...bytes]),
        closed: (words) => told.push(words),
    });
    return { link, told, socket: FakeSocket.last };
}

test('bytes go both ways, and what was not written is told', () => {
    const { link, told, socket } = open();
    assert.deepEqual([socket.url, socket.protocol, socket.binaryType], ['wss://host/v1/ws', SUBPROTOCOL, 'arraybuffer']);
    link.write(Uint8Array.of(1));
    assert.deepEqual(socket.sent, [], 'it is not open yet');
    socket.readyState = 1;
    socket.onopen();
    link.write(Uint8Array.of(1, 2));
    socket.onmessage({ data: Uint8Array.of(3, 4).buffer });
    assert.deepEqual([socket.sent.length, link.buffered, told], [1, 2, ['opened', [3, 4]]]);
});

test('a close without an error is the end, told once', () => {
    const { told, socket } = open();
    socket.onopen();
    const { onclose } = socket;
    onclose({ code: 1006, reason: '' });
    onclose({ code: 1006, reason: '' });
    assert.deepEqual(told, ['opened', 'the WebSocket to wss://host/v1/ws was closed with 1006']);
});

test('one that is given up is not waited for', () => {
    const { link, told, socket } = open();
    socket.onopen();
    link.close();
    link.close();
    assert.deepEqual([socket.closes, socket.onclose, socket.onmessage, told], [1, null, null, ['opened']]);
});

test('who does not speak the subprotocol, or sends text, is no server', () => {
    const other = open();
    other.socket.protocol = '';
    other.socket.onopen();
    assert.match(other.told[0], /does not speak ringpost.v1; check the address/);
    const text = open();
    text.socket.onopen();
    text.socket.onmessage({ data: 'hello' });
    assert.match(text.told[1], /sent a text message/);
    assert.equal(text.socket.closes, 1);
});
