// What is held of a group against its whole log, whatever of the pushes was lost and however pages come.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Group, Groups } from '../src/index.js';
import { GROUP_ENTRIES_MAX } from '../src/limits.js';
import { mulberry32 } from './random.js';

const ME = 7n;
const entry = (seq, content, from = 9n) => ({ seq, time: seq, from, origin: seq, messages: seq, content });
const pointer = (seq, more) => ({ kind: 'group', seq, time: 1, group: 5n, standing: 'member', first: 1, up_to: 0, sent_up_to: 0, ...more });

/** A log in which changes supersede what said so before: null where nothing is any more. */
function logOf(random, length) {
    const log = [];
    for (let seq = 1; seq <= length; seq++) {
        const from = BigInt(7 + Math.floor(random() * 3));
        const of = log.filter((other) => other?.content.text !== undefined)[Math.floor(random() * 4)];
        const about = of && { author: of.from, author_seq: of.seq, place: of.seq, written: of.seq };
        const drops = (isIt) => log.forEach((other, at) => other !== null && isIt(other) && (log[at] = null));
        const isSaying = (other) => (other.content.edit ?? other.content.unsend)?.author_seq === of.seq || other === of;
        const kind = Math.floor(random() * 8);
        if (about !== undefined && kind === 0) {
            drops(isSaying);
            log.push(entry(seq, { edit: { ...about, content: { text: `${seq}` } } }, of.from));
        } else if (about !== undefined && kind === 1) {
            drops((other) => isSaying(other) || other.content.reaction?.author_seq === of.seq);
            log.push(entry(seq, { unsend: about }, of.from));
        } else if (about !== undefined && kind === 2) {
            drops((other) => other.content.reaction?.author_seq === of.seq && other.from === from);
            log.push(entry(seq, { reaction: { ...about, reaction: random() < 0.3 ? '' : '!' } }, from));
        } else {
            log.push(entry(seq, { text: `${seq}` }, from));
        }
    }
    return log;
}

/** A page, as the server makes it: shorter than was asked for, when it likes. */
function pageOf(log, { from, direction }, limit) {
    const head = log.length;
    const at = direction === 'backwards' && (from === 0 || from > head) ? head : Math.max(from, 1);
    const [first, last] = direction === 'forwards' ? [at, Math.min(at + limit - 1, head)] : [Math.max(1, at - limit + 1), at];
    const more = direction === 'forwards' ? last < head : first > 1;
    return { group: 5n, first, last, more, head, entries: log.slice(first - 1, last).filter((of) => of !== null) };
}

test('what is held is what the log says, whatever pushes were lost and however pages come', () => {
    let lacked = 0;
    for (let seed = 1; seed <= 2_000; seed++) {
        const random = mulberry32(seed);
        const length = 1 + Math.floor(random() * 60);
        const final = logOf(random, length);
        const groups = new Groups();
        const limit = 1 + Math.floor(random() * 9);
        groups.entry(pointer(1, { up_to: 1 }));
        for (let seq = 1; seq <= length; seq++) {
            const then = final[seq - 1];
            if (then !== null && random() < 0.6) groups.pushed(5n, then);
            const { lacks } = groups.get(5n);
            if (random() < 0.2 && lacks !== undefined) {
                lacked++;
                groups.page(lacks.direction, pageOf(final.slice(0, seq), lacks, limit));
            }
        }
        groups.entry(pointer(2, { up_to: length }));
        const group = groups.get(5n);
        for (let ask; (ask = group.lacks ?? group.older) !== undefined; ) groups.page(ask.direction, pageOf(final, ask, limit));
        const whole = new Group();
        whole.page('forwards', { first: 1, last: length, more: false, head: length, entries: final.filter((of) => of !== null) });
        assert.deepEqual([group.span.first, group.span.last, group.messages], [1, length, whole.messages], `seed ${seed}`);
        const unread = final.filter((of) => of !== null && of.from !== ME && (of.content.text ?? of.content.edit) !== undefined);
        assert.equal(group.unread(ME), unread.length, `seed ${seed}`);
    }
    assert.ok(lacked > 500);
});

test('a pointer that goes beyond what is held tells of a gap, and what was pushed behind it is kept', () => {
    const group = new Group();
    group.entry(pointer(1, { up_to: 0 }));
    group.pushed(entry(1, { text: 'a' }));
    group.pushed(entry(3, { text: 'c' }));
    assert.deepEqual([group.lacks, group.unread(ME)], [{ from: 2, direction: 'forwards' }, undefined]);
    group.page('forwards', { first: 2, last: 2, more: true, head: 3, entries: [entry(2, { text: 'b' })] });
    assert.deepEqual([group.lacks, group.messages.map(({ entry: { content } }) => content.text)], [undefined, ['a', 'b', 'c']]);
});

test('who may read more than before fetches it, whatever was fetched before', () => {
    const group = new Group();
    group.entry(pointer(1, { first: 5, up_to: 6 }));
    group.page('backwards', { first: 1, last: 6, more: false, head: 6, entries: [entry(5, { text: 'a' }), entry(6, { text: 'b' })] });
    assert.deepEqual([group.lacks, group.older], [undefined, undefined]);
    group.entry(pointer(2, { first: 1, up_to: 6 }));
    assert.deepEqual(group.lacks, { from: 0, direction: 'backwards' });
});

test('what the group has not answered is held until a pointer or a refusal says what became of it', () => {
    const group = new Group();
    for (const seq of [4, 5, 6]) group.entry({ kind: 'sent_to_group', seq, group: 5n, content: { text: `${seq}` } });
    group.entry({ kind: 'group_refused', seq: 7, group: 5n, origin: 5, code: 61 });
    group.entry(pointer(8, { sent_up_to: 4 }));
    assert.deepEqual([...group.unanswered.keys()], [6]);
});

test('marks and settings of a row stand until an entry above it says otherwise', () => {
    const groups = new Groups();
    const row = { group: 5n, standing: 'member', head: 9, settings: 1n, read_up_to: 4 };
    groups.rows({ at: 20, rows: [row] });
    groups.entry({ kind: 'group_read', seq: 19, group: 5n, up_to: 2 });
    assert.equal(groups.get(5n).readUpTo, 4);
    groups.entry({ kind: 'group_read', seq: 21, group: 5n, up_to: 6 });
    groups.entry({ kind: 'group_settings', seq: 22, group: 5n, settings: 2n });
    assert.deepEqual([groups.get(5n).readUpTo, groups.get(5n).settings, groups.get(5n).reached], [6, 2n, 9]);
    groups.rows({ at: 21, rows: [row] });
    assert.deepEqual([groups.get(5n).readUpTo, groups.get(5n).settings], [4, 2n], 'each by its own seq');
});

test('no more than the bound is held, and a message that is deleted for oneself is not shown', () => {
    const group = new Group();
    for (let seq = 1; seq <= GROUP_ENTRIES_MAX + 5; seq++) group.pushed(entry(seq, { text: `${seq}` }));
    assert.deepEqual([group.span.entries.size, group.span.first, group.older.from], [GROUP_ENTRIES_MAX, 6, 5]);
    group.entry({ kind: 'group_deleted', seq: 3, group: 5n, place: 6 });
    assert.equal(group.messages[0].place, 7);
});
