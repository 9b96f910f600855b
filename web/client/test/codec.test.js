// What the golden vectors do not say of the codec.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Framer, Refused, contentBytes, decode, encode, placeOf, saturated } from '../src/codec.js';
import { mulberry32 } from './random.js';

const reread = (direction, name, fields, wide) => decode(direction, [...new Framer(direction).frames(encode(direction, name, fields))][0], wide);

test('a length above the limit is refused as soon as it is read, and before that nothing is', () => {
    const framer = new Framer('server');
    // 65537 in three bytes.
    assert.deepEqual([...framer.frames(Uint8Array.of(0x81, 0x80))], []);
    assert.throws(() => [...framer.frames(Uint8Array.of(0x04))], (refused) => refused.error === 'frame_too_large');
});

test('ids keep all 64 bits, and counts that no number holds saturate in a session alone', () => {
    const most = 2n ** 64n - 1n;
    const redirect = { address: 'a:1', reason: 'moving', after_ms: most, map_version: 7 };
    assert.equal(reread('server', 'redirect', redirect).fields.after_ms, most);
    assert.equal(reread('server', 'redirect', redirect, saturated).fields.after_ms, Number.MAX_SAFE_INTEGER);
    assert.equal(reread('server', 'pong', { nonce: most }, saturated).fields.nonce, most);
    for (const bits of [0, 6, 7, 13, 14, 48, 49, 50, 52]) {
        for (const seq of [2 ** bits - 1, 2 ** bits, 2 ** bits + 1]) assert.equal(reread('client', 'acknowledge', { seq }).fields.seq, seq);
    }
    assert.equal(reread('client', 'acknowledge', { seq: Number.MAX_SAFE_INTEGER }).fields.seq, Number.MAX_SAFE_INTEGER);
    assert.equal(reread('client', 'acknowledge', { seq: 2n ** 53n }).fields.seq, 2n ** 53n);
});

test('a value of another type is refused with the field and what to give instead', () => {
    assert.throws(() => encode('client', 'typing', { conversation: { user: 7 } }), /field user is 7 \(number\); give a bigint/);
    assert.throws(() => encode('client', 'acknowledge', { seq: 7n }), /field seq is 7; it counts/);
    assert.throws(() => encode('client', 'acknowledge', { seq: -1 }), /it counts/);
    assert.throws(() => encode('client', 'set_status', { status: 'gone' }), /give one of: here, away/);
    assert.throws(() => encode('client', 'send', { number: 1, to: { user: 8n }, content: {} }), /this is no content/);
    assert.throws(() => encode('client', 'send', { number: 1, to: {}, content: { text: '' } }), /field to is no conversation/);
    assert.throws(() => encode('client', 'wave', {}), /no frame of a client is called wave/);
});

test('a frame beyond the limit of its direction is not made', () => {
    const content = { text: 'x'.repeat(17_000) };
    assert.throws(() => encode('client', 'send', { number: 1, to: { user: 8n }, content }), RangeError);
});

test('a byte order mark is part of a text', () => {
    const content = { text: '\ufeffhello' };
    assert.deepEqual(reread('client', 'send', { number: 1, to: { user: 8n }, content }).fields.content, content);
});

test('the bytes of a content are counted without its head', () => {
    for (const size of [1, 127, 128, 16_383, 16_384, 16_500]) assert.equal(contentBytes({ text: 'x'.repeat(size) }), size);
});

test('a change stands where its message does', () => {
    const edit = (place) => ({ edit: { author: 7n, author_seq: 3, content: { text: 'x' }, place, written: 0 } });
    assert.equal(placeOf({ kind: 'received', seq: 9, content: edit(4) }), 4);
    assert.equal(placeOf({ kind: 'received', seq: 9, content: edit(0) }), undefined, 'it is to be shown nowhere');
    for (const content of [edit(0), edit(undefined)]) assert.equal(placeOf({ kind: 'sent', seq: 9, content }), 3, 'accepted stands for it');
    const reaction = { reaction: { author: 8n, author_seq: 3, reaction: 'x' } };
    assert.equal(placeOf({ kind: 'sent', seq: 9, content: reaction }), undefined, 'it names a place in the log of somebody else');
    assert.equal(placeOf({ kind: 'delivered', seq: 9 }), undefined);
});

test('noise is refused or read, and nothing else', () => {
    const random = mulberry32(1);
    for (let run = 0; run < 20_000; run++) {
        const direction = random() < 0.5 ? 'client' : 'server';
        const kind = (direction === 'client' ? 0 : 0x80) + 1 + Math.floor(random() * 0x1b);
        const body = Uint8Array.from({ length: Math.floor(random() * 40) }, () => (random() < 0.5 ? random() * 12 : random() * 256));
        try {
            const { name, fields } = decode(direction, { kind, body });
            // What was read can be written, and reads as the same again, but for what a later version may have.
            const again = reread(direction, name, fields);
            assert.deepEqual(again, { name, fields });
        } catch (error) {
            if (!(error instanceof Refused)) throw new Error(`kind ${kind}, body ${body}: ${error.stack}`);
        }
    }
});
