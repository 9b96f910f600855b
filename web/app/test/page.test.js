// What the page is made of: it keeps to its policy, and all that is there is used.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { userOf, tokenIn } from '../model/account.js';
import * as words from '../model/words.js';
import { StoredMap } from '../stored_map.js';
import { fileOf } from './serve.js';

const read = (path) => readFileSync(fileOf(path), 'utf8');
const html = read('/');

/** All modules that the page imports, by their paths. */
function modules(path, all = new Set()) {
    if (all.has(path)) return all;
    all.add(path);
    for (const [, to] of read(path).matchAll(/^(?:import|export)\s[^;]*?from '([./][^']+)'/gm))
        modules(new URL(to, `http://page${path}`).pathname, all);
    return all;
}

test('every file of the page is used by it', () => {
    const linked = [...html.matchAll(/(?:href|src)="(\/app\/[^"]+)"/g)].map(([, path]) => path);
    const used = [...modules('/app/main.js'), ...modules('/service-worker.js'), ...linked, '/'].map(fileOf);
    for (const folder of ['', 'model/', 'view/']) {
        const files = readdirSync(new URL(`../${folder}`, import.meta.url), { withFileTypes: true }).filter(
            (file) => file.isFile() && file.name !== 'README.md',
        );
        for (const { name } of files)
            assert.ok(used.includes(fileOf(name === 'index.html' ? '/' : `/app/${folder}${name}`)), `${folder}${name}`);
    }
});

test('nothing in the page needs what its policy forbids', () => {
    assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?:/);
    for (const path of [...modules('/app/main.js'), ...modules('/service-worker.js'), ...modules('/app/push.js')]) {
        const text = read(path);
        assert.doesNotMatch(
            text,
            /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\('style'/,
            path,
        );
    }
});

const tokenOf = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`;

test('a token is found in what somebody pastes, and names its user', () => {
    const token = tokenOf({ sub: '18446744073709551615' });
    for (const text of [token, ` ${token}\n`, `https://chat.example.org/#token=${token}`]) assert.equal(tokenIn(text), token);
    assert.equal(userOf(token), 18446744073709551615n);
    for (const text of ['', 'hello', 'a.b', 'a.b.c d', `${'a'.repeat(4096)}.b.c`, 'https://chat.example.org/'])
        assert.equal(tokenIn(text), undefined, text);
    for (const claims of [{}, { sub: 7 }, { sub: '07' }, { sub: '0' }, null])
        assert.throws(() => userOf(tokenOf(claims)), /names no user/);
    assert.throws(() => userOf('e30.no json.c2ln'), /names no user/);
});

test('a quote has what fits, and no half of a character', () => {
    assert.equal(words.quoteOf('short'), 'short');
    assert.equal(words.quoteOf('é'.repeat(200)), 'é'.repeat(128));
    assert.equal(words.quoteOf(`${'a'.repeat(255)}🎉`), 'a'.repeat(255));
});

test('days are told as people tell them', () => {
    const now = new Date(2026, 10, 30, 9).getTime();
    assert.equal(words.day(new Date(2026, 10, 30, 0).getTime(), now), 'Today');
    assert.equal(words.day(new Date(2026, 10, 29, 23).getTime(), now), 'Yesterday');
    assert.match(words.day(new Date(2025, 10, 29).getTime(), now), /2025/);
    assert.doesNotMatch(words.day(new Date(2026, 10, 2).getTime(), now), /2026/);
    assert.equal(words.presence({ state: 'unknown' }, now), undefined);
    assert.equal(words.presence({ state: 'offline', last_seen: 0 }, now), 'Offline');
});

test('a stored map is the same after the page was loaded again, and takes nothing that is none', () => {
    const kept = new Map();
    const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
    let changes = 0;
    const map = new StoredMap(storage, 'names', BigInt, () => changes++);
    map.set(7n, 'Anna').set(8n, 'Ben');
    map.delete(8n);
    map.delete(9n);
    assert.equal(changes, 3);
    assert.deepEqual([...new StoredMap(storage, 'names', BigInt)], [[7n, 'Anna']]);
    for (const text of ['{', '{}', '[1]', 'null', '[["7",8]]']) {
        kept.set('names', text);
        assert.equal(new StoredMap(storage, 'names', BigInt).size, 0, text);
    }
});
