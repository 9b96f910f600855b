// The list of conversations against what the whole log says, however its pages are laid under what is pushed.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Conversations, placeOf } from '../src/index.js';
import { mulberry32 } from './random.js';

const ME = 7n;

/** A log as a server may make it, of four conversations. */
function logOf(random, length) {
    const upTo = (n) => Math.floor(random() * n);
    const log = [];
    /** By peer, where messages stand that can be changed: { place, isOwn }. */
    const messages = new Map([1n, 2n, 3n, 4n].map((peer) => [peer, []]));
    while (log.length < length) {
        const seq = log.length + 1;
        const peer = BigInt(1 + upTo(4));
        const of = messages.get(peer);
        const head = { seq, time: seq };
        const message = of[upTo(of.length)];
        const sent = (content) => ({ kind: 'sent', ...head, to: peer, device: 1n, number: seq, content });
        const received = (content) => ({ kind: 'received', ...head, from: peer, origin: seq, content });
        const change = (of) => (message.isOwn ? sent : received)(of({ author: message.isOwn ? ME : peer, author_seq: message.place, place: message.place, written: message.place }));
        switch (upTo(9)) {
            case 0:
            case 1:
                of.push({ place: seq, isOwn: false });
                log.push(received({ text: `${seq}` }));
                break;
            case 2:
                of.push({ place: seq, isOwn: true });
                log.push(sent({ text: `${seq}` }));
                break;
            case 3: {
                const read = rowsOf(log).get(peer)?.read_up_to ?? 0;
                const to = Math.max(read, upTo(seq));
                log.push({ kind: 'read', ...head, peer, up_to: to, unread: unreadOf(log, peer, to), told: 0 });
                break;
            }
            case 4:
                log.push({ kind: random() < 0.5 ? 'delivered' : 'seen', ...head, peer, up_to: upTo(seq) });
                break;
            case 5:
                log.push({ kind: 'settings', ...head, peer, settings: BigInt(upTo(16)) });
                break;
            case 6:
                if (message !== undefined) log.push(change((name) => ({ edit: { ...name, content: { text: `${seq}, changed` } } })));
                break;
            case 7:
                if (message === undefined) break;
                of.splice(of.indexOf(message), 1);
                log.push(change((name) => ({ unsend: name })));
                break;
            case 8:
                if (message !== undefined) log.push(change((name) => ({ reaction: { ...name, reaction: '!' } })));
        }
    }
    return log;
}

const peerOf = (entry) => entry.from ?? entry.to ?? entry.peer;
const says = (entry) => (entry.kind === 'sent' || entry.kind === 'received') && entry.content.reaction === undefined;

function unreadOf(log, peer, readUpTo) {
    const unread = new Set();
    for (const entry of log) {
        if (entry.kind !== 'received' || entry.from !== peer || !says(entry)) continue;
        if (entry.content.unsend !== undefined) unread.delete(placeOf(entry));
        else if (placeOf(entry) > readUpTo) unread.add(placeOf(entry));
    }
    return unread.size;
}

/** The rows of a log, by peer. */
function rowsOf(log) {
    const rows = new Map();
    for (const entry of log) {
        const peer = peerOf(entry);
        const row = rows.get(peer) ?? { conversation: { user: peer }, settings: 0n, read_up_to: 0, delivered_up_to: 0, seen_up_to: 0, left_out: 0, last: undefined };
        rows.set(peer, row);
        if (entry.kind === 'read') row.read_up_to = entry.up_to;
        if (entry.kind === 'delivered') row.delivered_up_to = entry.up_to;
        if (entry.kind === 'seen') row.seen_up_to = entry.up_to;
        if (entry.kind === 'settings') row.settings = entry.settings;
        if (says(entry) && (row.last === undefined || placeOf(entry) >= placeOf(row.last))) row.last = entry;
    }
    for (const [peer, row] of rows) row.unread = unreadOf(log, peer, row.read_up_to);
    return rows;
}

function pageOf(log, before, limit) {
    const listed = [...rowsOf(log).values()].filter(({ last }) => last !== undefined && (before === 0 || placeOf(last) < before));
    listed.sort((a, b) => placeOf(b.last) - placeOf(a.last));
    return { at: log.length, more: listed.length > limit, rows: listed.slice(0, limit) };
}

test('the list is what the log says, however its pages are laid under what is pushed', () => {
    let asked = 0;
    for (let seed = 1; seed <= 3_000; seed++) {
        const random = mulberry32(seed);
        const log = logOf(random, 5 + Math.floor(random() * 60));
        const list = new Conversations();
        // A page comes behind what was pushed before it was made, and before what is pushed later.
        const waiting = [0];
        const answer = (pushed) => {
            const at = pushed + Math.floor(random() * (log.length - pushed + 1));
            for (const before of waiting.splice(0)) list.page(before, pageOf(log.slice(0, at), before, 2));
        };
        for (let at = Math.floor(random() * log.length); at < log.length; at++) {
            if (random() < 0.5) answer(at);
            const before = list.entry(log[at]);
            if (before !== undefined) waiting.push(before);
        }
        answer(log.length);
        while (list.older !== undefined) {
            asked++;
            const { older } = list;
            list.page(older, pageOf(log, older, 2));
        }
        assert.deepEqual(list.rows, pageOf(log, 0, 100).rows, `seed ${seed}`);
    }
    assert.ok(asked > 500, 'older pages are asked for');
});

test('a message that is deleted may leave the row to be asked for again', () => {
    const list = new Conversations();
    const received = (seq) => ({ kind: 'received', seq, time: 1, from: 8n, origin: seq, content: { text: `${seq}` } });
    const row = { conversation: { user: 8n }, settings: 0n, unread: 2, read_up_to: 0, delivered_up_to: 0, seen_up_to: 0, left_out: 0, last: received(2) };
    list.page(0, { at: 2, more: false, rows: [row] });
    const deleted = (seq, place, unread) => ({ kind: 'deleted', seq, time: 1, peer: 8n, author: 8n, author_seq: place, place, unread });
    assert.equal(list.entry(deleted(3, 1, 1)), undefined);
    assert.equal(list.rows[0].unread, 1);
    assert.equal(list.entry(deleted(4, 2, 0)), 2);
    assert.deepEqual([list.rows, list.older], [[], 2]);
});

test('beyond what is counted exactly, only a page or a read mark says how many are unread', () => {
    const list = new Conversations();
    const received = (seq) => ({ kind: 'received', seq, time: 1, from: 8n, origin: seq, content: { text: `${seq}` } });
    const row = { conversation: { user: 8n }, settings: 0n, unread: 999, read_up_to: 0, delivered_up_to: 0, seen_up_to: 0, left_out: 9, last: received(2_000) };
    list.page(0, { at: 2_000, more: false, rows: [row] });
    for (const seq of [2_001, 2_002, 2_003]) list.entry(received(seq));
    assert.deepEqual([list.rows[0].unread, list.rows[0].left_out], [1_000, 0]);
    list.entry({ kind: 'read', seq: 2_004, time: 1, peer: 8n, up_to: 2_002, unread: 1, told: 0 });
    assert.equal(list.rows[0].unread, 1);
});
