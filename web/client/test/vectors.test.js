// The golden vectors of proto-spec/vectors: every one decodes to its fields and encodes to its bytes, or is refused as it says.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { FRAMES, Framer, Refused, decode, encode } from '../src/codec.js';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../proto-spec/vectors/${name}.json`, import.meta.url), 'utf8'));
const bytesOf = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
const hexOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Values as the vectors write them (SPEC 9). */
function plain(value) {
    if (typeof value === 'bigint' || typeof value === 'number') return String(value);
    if (typeof value === 'boolean') return value ? 'yes' : 'no';
    if (value instanceof Uint8Array) return hexOf(value);
    if (Array.isArray(value)) return value.map(plain);
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

function frameOf(direction, bytes, cut = bytes.length) {
    const framer = new Framer(direction);
    const frames = [];
    for (let at = 0; at < bytes.length; at += cut) frames.push(...framer.frames(bytes.subarray(at, at + cut)));
    assert.equal(framer.isHolding, false, 'the frame is incomplete');
    assert.equal(frames.length, 1);
    return frames[0];
}

for (const direction of ['client', 'server']) {
    const all = vectors(direction);

    test(`every ${direction} vector decodes to its fields and encodes to its bytes`, () => {
        for (const { name, kind, fields, hex, decode_only: isDecodedOnly } of all) {
            const decoded = decode(direction, frameOf(direction, bytesOf(hex)));
            assert.deepEqual([decoded.name, plain(decoded.fields)], [kind, fields], name);
            if (!isDecodedOnly) assert.equal(hexOf(encode(direction, decoded.name, decoded.fields)), hex, name);
        }
    });

    test(`every kind of ${direction} frames has a vector`, () => {
        const covered = new Set(all.map((vector) => vector.kind));
        for (const [name] of Object.values(FRAMES[direction])) assert.ok(covered.has(name), name);
    });

    test(`${direction} vectors are the same in every cut, and no part of one is a frame`, () => {
        for (const { name, hex } of all) {
            const bytes = bytesOf(hex);
            const whole = frameOf(direction, bytes);
            for (const cut of [1, 2, 3, 7, 100]) assert.deepEqual(frameOf(direction, bytes, cut), whole, name);
            for (let end = 0; end < Math.min(bytes.length, 300); end++) {
                assert.deepEqual([...new Framer(direction).frames(bytes.subarray(0, end))], [], name);
            }
        }
    });

    test(`two ${direction} frames in one piece are two, wherever it is cut`, () => {
        const [first, second] = [all[0], all[all.length - 1]].map((vector) => bytesOf(vector.hex));
        const both = new Uint8Array([...first, ...second]);
        for (let cut = 1; cut < both.length; cut++) {
            const framer = new Framer(direction);
            const frames = [...framer.frames(both.subarray(0, cut)), ...framer.frames(both.subarray(cut))];
            assert.deepEqual(frames, [frameOf(direction, first), frameOf(direction, second)]);
        }
    });
}

test('every refused vector is refused with its error and field', () => {
    for (const { name, direction, hex, error, field } of vectors('refused')) {
        assert.throws(
            () => {
                const frames = [...new Framer(direction).frames(bytesOf(hex))];
                assert.equal(frames.length, 1, `${name}: no frame`);
                decode(direction, frames[0]);
            },
            (refused) => {
                assert.ok(refused instanceof Refused, `${name}: ${refused.stack}`);
                assert.deepEqual([refused.error, refused.field], [error, field], name);
                return true;
            },
            name,
        );
    }
});
