// The types name what is there: what they declare exists, and everything that is exported is declared.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import * as all from '../src/index.js';
import { tcp, tcpWith } from '../src/transport/tcp.js';

const read = (name) => readFileSync(new URL(`../src/${name}`, import.meta.url), 'utf8');

test('everything that is exported is declared, and the other way round', () => {
    const declared = [...read('index.d.ts').matchAll(/^export declare (?:class|function|const|namespace) (\w+)/gm)].map(([, name]) => name);
    assert.deepEqual([...new Set(declared)].sort(), Object.keys(all).sort());
    const ofTcp = [...read('transport/tcp.d.ts').matchAll(/^export declare (?:function|const) (\w+)/gm)].map(([, name]) => name);
    assert.deepEqual(ofTcp, ['tcp', 'tcpWith']);
    assert.ok(typeof tcp === 'function' && typeof tcpWith === 'function');
});

test('a declared class has the declared members, and no others that are public', () => {
    for (const [, name, body] of read('index.d.ts').matchAll(/^export declare class (\w+)[^{]*\{\n([\s\S]*?)^\}/gm)) {
        const isError = all[name].prototype instanceof Error || name === 'RingpostEvent';
        if (isError) continue;
        const declared = new Set([...body.matchAll(/^ {4}(?:readonly )?(\w+)[(<:]/gm)].map(([, member]) => member));
        // Fields are there from the beginning.
        const fields = name === 'Group' ? Object.keys(new all.Group()) : [];
        const there = [...Object.getOwnPropertyNames(all[name].prototype), ...fields];
        const isMember = (member) => member !== 'constructor';
        assert.deepEqual([...declared].filter(isMember).sort(), there.filter(isMember).sort(), name);
    }
});
