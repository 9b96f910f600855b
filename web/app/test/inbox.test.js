// How the list of conversations is loaded.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { INBOX_FIRST_ROWS, INBOX_ROWS_MAX } from '../limits.js';
import { Inbox } from '../model/inbox.js';

/** The row of the conversation with this user, whose last message stands there. */
const row = (user) => ({
    conversation: { user },
    last: { kind: 'received', seq: Number(user), time: 1, from: user, origin: 1, content: { text: 'x' } },
    left_out: 0,
    settings: 0n,
    unread: 0,
    read_up_to: 0,
    delivered_up_to: 0,
    seen_up_to: 0,
});

test('the first answer has what a screen shows, and no more is asked for before that is seen', async () => {
    const asked = [];
    let next = 200;
    const request = async (name, { before, limit }) => {
        if (name === 'fetch_groups') return { more: false, rows: [] };
        asked.push([before, limit]);
        const rows = Array.from({ length: Math.min(limit, next) }, () => row(BigInt(next--)));
        return { at: 200, more: next > 0, rows };
    };
    let see;
    const inbox = new Inbox(request, () => new Promise((resolve) => (see = resolve)));
    const loaded = inbox.load();
    const soon = () => new Promise(setImmediate);
    await soon();
    assert.ok(inbox.isLoaded);
    assert.deepEqual(asked, [[0, INBOX_FIRST_ROWS]]);
    for (let pages = 0; pages < 3; pages++) {
        see();
        await soon();
    }
    await loaded;
    // Each begins before the last row of the one before.
    const above = 200 - INBOX_FIRST_ROWS + 1;
    assert.deepEqual(asked.slice(1), [
        [above, INBOX_ROWS_MAX],
        [above - INBOX_ROWS_MAX, INBOX_ROWS_MAX],
    ]);
    assert.equal(inbox.rows(7n).length, 200);
});
