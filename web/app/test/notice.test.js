// What a push becomes on the screen, and that a conversation has one notice there, whoever shows it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { conversationIn, hashOf } from '../model/address.js';
import { Messenger } from '../model/messenger.js';
import { mustShow, pushed } from '../model/notice.js';
import { show, takeOff } from '../screen.js';

const NOW = 1_764_531_009_000;
const AT = 1_764_531_000_000;
const payload = (more) => JSON.stringify({ v: 1, tag: 'TAG', at: AT, ...more });
const shown = (more, names = new Map()) => pushed(payload(more), names, NOW).notice;

test('a notice says as much as its payload, and calls people what the page calls them', () => {
    const said = (more, names) => {
        const { title, body, about } = shown(more, names);
        return [title, body, about];
    };
    const names = new Map([['8', 'Anna']]);
    const sender = { conversation: '8', from: '8' };
    assert.deepEqual(said({ count: 1 }), ['Ringpost', 'A new message', undefined]);
    assert.deepEqual(said({ count: 3 }), ['Ringpost', '3 unread messages', undefined]);
    assert.deepEqual(said({ count: 1_000, ...sender }, names), ['Anna', '999+ unread messages', '#/user/8']);
    assert.deepEqual(said({ count: 1, ...sender, text: 'Hello' }, names), ['Anna', 'Hello', '#/user/8']);
    assert.deepEqual(said({ count: 3, ...sender, text: 'Hello' }, names), ['Anna (3)', 'Hello', '#/user/8']);
    assert.equal(said({ count: 1, conversation: '#12', from: '8' })[2], '#/group/12');
    const page = new Messenger({ me: 7n, client: {}, names: new Map() });
    assert.equal(said({ count: 1, ...sender })[0], page.nameOf(8n));
});

test('a conversation stands in the address as it is found there, with all bits of its number', () => {
    for (const conversation of [{ user: 8n }, { group: 18446744073709551615n }])
        assert.deepEqual(conversationIn(hashOf(conversation)), conversation);
    assert.equal(hashOf(undefined), '');
    for (const hash of ['', '#', '#/user/0', '#/user/08', '#/user/-1', '#/nobody/8', '#/user/8/9'])
        assert.equal(conversationIn(hash), undefined, hash);
});

test('the payloads of docs/PUSH.md are read as that says', () => {
    const text = readFileSync(new URL('../../../docs/PUSH.md', import.meta.url), 'utf8');
    const payloads = text.match(/^\{"v":1,.*$/gm);
    assert.deepEqual(
        payloads.map((of) => pushed(of, new Map(), NOW)),
        [{ notice: { title: 'User 7 (3)', body: 'Are you there?', at: AT, about: '#/group/12', tag: 'TAG' } }, { clear: 'TAG' }],
    );
});

test('a clear names what is taken off the screen', () => {
    assert.deepEqual(pushed(payload({ clear: true }), new Map(), NOW), { clear: 'TAG' });
});

test('what can not be read shows that there is something new, and no more', () => {
    const sender = { conversation: '8', from: '8', text: 'Hello' };
    const unreadable = [
        undefined,
        '',
        '{',
        'null',
        '[]',
        '"text"',
        payload({ v: 2, count: 1, ...sender }),
        payload({ v: 2, clear: true }),
        payload({ count: 1, tag: '' }),
        payload({ count: 1, tag: 7 }),
        payload({ count: 1, at: 'now' }),
        payload({ clear: false }),
        payload({ count: '3' }),
        payload({ count: 0 }),
        payload({ count: 1, conversation: 8 }),
        payload({ count: 1, conversation: '08' }),
        payload({ count: 1, conversation: '##8' }),
        payload({ count: 1, from: 'Anna' }),
        payload({ count: 1, text: { toString: 'no text' } }),
    ];
    const notice = { title: 'Ringpost', body: 'There is something new', at: NOW, about: undefined, tag: 'ringpost' };
    for (const text of unreadable) assert.deepEqual(pushed(text, new Map(), NOW), { notice }, text);
});

test('Safari alone needs a notice for each push', () => {
    assert.equal(mustShow('https://web.push.apple.com/QGuQyavXutnMH'), true);
    for (const endpoint of [undefined, 'https://fcm.googleapis.com/x.push.apple.com', 'https://push.apple.com.example/'])
        assert.equal(mustShow(endpoint), false, endpoint);
});

/** A registration that shows notices as a browser does: one with a tag that stands takes its place. */
class Screen {
    standing = new Map();
    sounds = 0;

    async getNotifications() {
        return [...this.standing].map(([tag, { options, title }]) => ({
            tag,
            title,
            data: options.data,
            close: () => this.standing.delete(tag),
        }));
    }

    async showNotification(title, options) {
        assert.ok(options.tag, 'no notice is without a tag');
        if (!options.silent && (options.renotify || !this.standing.has(options.tag))) this.sounds++;
        this.standing.set(options.tag, { title, options });
    }

    get texts() {
        return [...this.standing.values()].map(({ options: { body } }) => body);
    }
}

const ofPage = (body, at) => ({ title: 'Anna', body, at, about: '#/user/8', tag: undefined });
const ofWorker = (body, at) => ({ title: 'Anna', body, at, about: '#/user/8', tag: 'TAG' });

test('a conversation has one notice, which makes a sound for each message and for none twice, whoever tells of it first', async () => {
    for (const [one, other] of [
        [ofPage, ofWorker],
        [ofWorker, ofPage],
        [ofWorker, ofWorker],
    ]) {
        const screen = new Screen();
        await show(screen, one('one', 1));
        await show(screen, other('one', 1));
        assert.deepEqual([screen.texts, screen.sounds], [['one'], 1], 'the same message');
        await show(screen, other('two', 2));
        assert.deepEqual([screen.texts, screen.sounds], [['two'], 2], 'another one');
        await show(screen, one('one', 1));
        assert.deepEqual([screen.texts, screen.sounds], [['two'], 2], 'one that comes late');
        // What the server pushed it can clear, whatever took its place.
        assert.ok(screen.standing.has('TAG'));
    }
});

test('pushes that come together are shown one after the other, and one that fails holds up no other', async () => {
    const screen = new Screen();
    let isShowing = false;
    const shownAtOnce = screen.showNotification.bind(screen);
    screen.showNotification = async (title, options) => {
        isShowing = true;
        for (let n = 0; n < 4; n++) await new Promise(setImmediate);
        isShowing = false;
        if (options.body === 'two') throw new Error('the browser shows no more');
        return shownAtOnce(title, options);
    };
    const standing = screen.getNotifications.bind(screen);
    screen.getNotifications = () => {
        assert.equal(isShowing, false);
        return standing();
    };
    const shows = [];
    for (const [at, body] of ['one', 'two', 'three'].entries()) {
        shows.push(show(screen, ofWorker(body, at + 1)));
        await new Promise(setImmediate);
    }
    const together = await Promise.allSettled(shows);
    assert.deepEqual(
        together.map(({ status }) => status),
        ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(screen.texts, ['three']);
});

test('notices of other conversations stay', async () => {
    const screen = new Screen();
    await show(screen, { ...ofPage('to nine', 1), about: '#/user/9' });
    for (const at of [2, 3]) await show(screen, { title: 'Ringpost', body: 'A new message', at, about: undefined, tag: `of ${at}` });
    await show(screen, ofWorker('to eight', 4));
    assert.deepEqual(screen.texts, ['to nine', 'A new message', 'A new message', 'to eight']);
    await takeOff(screen, (about) => about === '#/user/8');
    await takeOff(screen, (_, tag) => tag === 'of 2');
    assert.deepEqual(screen.texts, ['to nine', 'A new message']);
});

test('what is shown for the sake of the browser alone makes no sound', async () => {
    const screen = new Screen();
    await show(screen, { ...ofWorker('one', 1), isSilent: true });
    assert.deepEqual([screen.texts, screen.sounds], [['one'], 0]);
});
