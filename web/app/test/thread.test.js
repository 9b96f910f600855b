// What a conversation shows, in whichever order its parts come.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Thread, counted } from '../model/thread.js';

const [ME, PEER] = [7n, 8n];
const received = (seq, content) => ({ kind: 'received', seq, time: seq * 1_000, from: PEER, origin: seq + 100, content });
const sent = (seq, content) => ({ kind: 'sent', seq, time: seq * 1_000, to: PEER, device: 1n, number: seq, content });
const of = (place, author_seq, author = PEER) => ({ author, author_seq, place, written: place * 1_000 });
const page = (first, more, entries, up = {}) => ({ first, last: 99, more, entries, delivered_up_to: 0, seen_up_to: 0, ...up });

const shown = (thread) =>
    thread.items.map(({ place, content, reactions }) => [place, content?.text, ...reactions.map(({ reaction }) => reaction)]);

test('a conversation is the same in whichever order its page and its entries come', () => {
    const entries = [
        received(1, { text: 'one' }),
        sent(2, { text: 'two' }),
        received(4, { edit: { ...of(1, 101), content: { text: 'one, better' } } }),
        received(5, { reaction: { ...of(2, 2, ME), reaction: '👍' } }),
        received(6, { reaction: { ...of(2, 2, ME), reaction: '🎉' } }),
        sent(7, { reaction: { ...of(1, 101), reaction: '❤️' } }),
    ];
    const orders = [entries, [...entries].reverse(), [3, 5, 0, 4, 2, 1].map((at) => entries[at])];
    for (const order of orders) {
        for (const cut of order.keys()) {
            const thread = new Thread(ME);
            for (const entry of order.slice(0, cut)) thread.entry(entry);
            thread.page(page(1, false, order.slice(cut)));
            assert.deepEqual(shown(thread), [
                [1, 'one, better', '❤️'],
                [2, 'two', '🎉'],
            ]);
            assert.equal(thread.items[0].time, 1_000, 'when it was written, not when it was edited');
        }
    }
});

test('what was taken back says nothing and has no reactions, and what was deleted does not come again', () => {
    const thread = new Thread(ME);
    thread.page(
        page(1, false, [
            received(1, { text: 'one' }),
            sent(2, { text: 'two' }),
            received(3, { reaction: { ...of(2, 2, ME), reaction: '👍' } }),
        ]),
    );
    thread.entry(sent(4, { unsend: of(2, 2, ME) }));
    thread.entry({ kind: 'deleted', seq: 5, time: 5, peer: PEER, author: PEER, author_seq: 101, place: 1, unread: 0 });
    // A page that was on its way meanwhile.
    thread.page(page(1, false, [received(1, { text: 'one' }), sent(2, { text: 'two' })]));
    assert.deepEqual(shown(thread), [[2, undefined]]);
});

test('a change of a message that is not loaded shows with it, and not before', () => {
    const thread = new Thread(ME);
    thread.page(page(10, true, [received(10, { text: 'ten' })]));
    thread.entry(received(12, { edit: { ...of(3, 103), content: { text: 'three, better' } } }));
    assert.deepEqual(shown(thread), [[10, 'ten']]);
    assert.equal(thread.older, 9);
    thread.page(page(1, false, [received(2, { text: 'two' }), received(3, { text: 'three' })]));
    assert.deepEqual(shown(thread), [
        [2, 'two'],
        [3, 'three, better'],
        [10, 'ten'],
    ]);
    assert.equal(thread.older, undefined);
});

test('ticks follow what the other side has and has read, and only what changed is another item', () => {
    const thread = new Thread(ME);
    thread.page(
        page(1, false, [sent(1, { text: 'one' }), sent(2, { text: 'two' }), sent(3, { text: 'three' })], {
            delivered_up_to: 2,
            seen_up_to: 1,
        }),
    );
    const before = thread.items;
    assert.deepEqual(
        before.map(({ tick }) => tick),
        ['read', 'delivered', 'logged'],
    );
    thread.entry({ kind: 'seen', seq: 4, time: 4, peer: PEER, up_to: 2 });
    const after = thread.items;
    assert.deepEqual(
        after.map(({ tick }) => tick),
        ['read', 'read', 'logged'],
    );
    assert.deepEqual(
        after.map((item, at) => item === before[at]),
        [true, false, true],
    );
});

test('what this device has done itself names its message by its author, and shows where that stands', () => {
    const thread = new Thread(ME);
    thread.page(page(1, false, [received(1, { text: 'one' }), sent(2, { text: 'two' })]));
    thread.entry(sent(3, { reaction: { author: PEER, author_seq: 101, reaction: '👍' } }));
    thread.entry(sent(4, { edit: { author: ME, author_seq: 2, content: { text: 'two, better' } } }));
    assert.deepEqual(shown(thread), [
        [1, 'one', '👍'],
        [2, 'two, better'],
    ]);
    assert.equal(thread.items[1].time, 2_000, 'when it was written');
});

test('reactions are counted, those of most users first, and what was taken back counts nothing', () => {
    const felt = counted(
        new Map([
            [1n, '👍'],
            [2n, '❤️'],
            [3n, '❤️'],
            [4n, ''],
        ]),
    );
    assert.deepEqual(felt, [
        { reaction: '❤️', users: [2n, 3n] },
        { reaction: '👍', users: [1n] },
    ]);
});
