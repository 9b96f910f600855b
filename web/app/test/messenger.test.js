// What the page makes of events, in whatever order they come.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Messenger } from '../model/messenger.js';

const TO = { user: 8n };
const id = '0000000000000001-00000000';
const content = { text: 'hello' };
const soon = () => new Promise(setImmediate);

/** A page that looks at a conversation, of which nothing is loaded; `send` is that of its client. */
function pageWith(send) {
    const client = { request: () => new Promise(() => {}), watch() {}, send };
    const page = new Messenger({ me: 7n, client, names: new Map(), changed() {}, notice() {} });
    page.show(TO);
    return page;
}

test('what becomes of a message that an earlier page left is not missed while that is read', async () => {
    for (const [type, detail, ticks] of [
        ['accepted', { id, seq: 1 }, []],
        ['cancelled', { id }, []],
        ['refused', { id, code: 12 }, ['failed']],
        ['committed', { up_to: 1 }, ['waiting']],
    ]) {
        const page = pageWith();
        page.handle(type, detail);
        page.start([{ id, to: TO, content }]);
        const shown = page.items().map(({ tick }) => tick);
        assert.deepEqual([type, shown, page.waitingCount], [type, ticks, ticks.includes('waiting') ? 1 : 0]);
    }
});

test('what is told in the order of a log is taken in it, though it came while messages were read', () => {
    const page = pageWith();
    const to = { group: 12n };
    page.handle('accepted', { id, seq: 5 });
    page.handle('entry', { entry: { kind: 'group', seq: 6, group: 12n, standing: 'member', first: 1, up_to: 1, sent_up_to: 5 } });
    page.start([{ id, to, content }]);
    assert.equal(page.waitingCount, 0);
});

test('a message whose answer comes before it is known to be stored waits no more, nor one that is not stored at all', async () => {
    const stored = [];
    const page = pageWith(() => new Promise((resolve, reject) => stored.push({ resolve, reject })));
    page.start([]);
    page.send(content);
    page.send(content);
    await soon();
    page.handle('accepted', { id, seq: 1 });
    page.handle('presence', { user: 8n, state: 'online', last_seen: 0 });
    assert.equal(page.presenceOf(8n).state, 'online', 'what is about no message waits for none');
    stored[0].resolve(id);
    stored[1].reject(new Error('the disk is full'));
    await soon();
    assert.deepEqual([page.items(), page.waitingCount], [[], 0]);
});
