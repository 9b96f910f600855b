// What can be said of a page by looking at it: nobody is kept out (axe), and how fast it is, which is measured and printed.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { World } from './world.js';

const [ALICE, BOB] = [7, 8];

/** The file axe.min.js of the npm package axe-core, and a folder for pictures of what is seen. */
const { RINGPOST_AXE, RINGPOST_PICTURES } = process.env;

const SIZES = { desktop: [1280, 800], phone: [390, 844] };

/** Somebody with a conversation of every kind of message, a group, and two that are unread. */
async function furnished(world) {
    const [me, bob, carol] = [await world.client(BigInt(ALICE)), await world.client(BigInt(BOB)), await world.client(9n)];
    const say = async (who, to, content) => (await who.send(to, content).answer).seq;
    const [toAlice, toBob] = [{ user: BigInt(ALICE) }, { user: BigInt(BOB) }];
    await say(bob, toAlice, { text: 'Are you there?' });
    const seq = await say(me, toBob, { text: 'Yes, just back. What did I miss?' });
    await say(me, toBob, { text: 'I have the train at ten' });
    const quote = 'Yes, just back. What did I miss?';
    const name = { author: BigInt(ALICE), author_seq: seq };
    await say(bob, toAlice, {
        reply: {
            ...name,
            quote,
            text: 'The new release is out. We moved the history to the database last night, and nobody has noticed: https://example.org/notes',
        },
    });
    await say(bob, toAlice, { reaction: { ...name, reaction: '👍' } });
    await say(me, toBob, { text: '🎉' });
    const wrong = await say(me, toBob, { text: 'To somebody else' });
    await say(me, toBob, { unsend: { author: BigInt(ALICE), author_seq: wrong } });
    const { group, answer } = me.createGroup('Hiking crew');
    await answer;
    for (const user of [8n, 9n]) await me.act(group, { act: 'add', user }).answer;
    await say(me, { group }, { text: 'Saturday, 8:15 at the station? The forecast is better than for Sunday.' });
    await say(carol, toAlice, { text: 'Did you read the draft?' });
    await say(carol, toAlice, { text: '好的！ Prima. See you at nine, at the usual place by the river' });
}

async function violations(page) {
    const found = await page.evaluate(
        `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map(({ id, help, nodes }) => [id, help, nodes.slice(0, 3).map(({ html, any }) => html.slice(0, 200) + ' ' + (any[0]?.message ?? ''))]))`,
    );
    return JSON.stringify(found, null, 1);
}

test('nobody is kept out by how the page is made, in both themes and on a phone', async () => {
    if (RINGPOST_AXE === undefined) console.log('NOT RUN: axe; RINGPOST_AXE does not name the axe.min.js of the npm package axe-core');
    const world = await World.start('[push.web_push]\ncontact = "mailto:operator@ringpost.org"');
    try {
        await furnished(world);
        const browser = await world.browser();
        const signIn = await browser.open(`${world.origin}/`);
        await signIn.waits('it asks for a token', `document.querySelector('.sign-in textarea') !== null`);
        const alice = await world.person(ALICE, (page) => page.allowNotices(world.origin));
        await alice.reads('.row', 'Hiking crew');
        const views = [
            ['sign-in', signIn, async () => {}],
            ['list', alice.page, async () => {}],
            [
                'conversation',
                alice.page,
                async () => {
                    await alice.opens(BOB);
                    await alice.sees('🎉');
                    await alice.does('🎉');
                },
            ],
            ['group', alice.page, async () => alice.clicks('.row', 'Hiking crew')],
            [
                'details',
                alice.page,
                async () => {
                    await alice.clicks('.talk .icon-button', 'Details');
                    await alice.reads('dialog', 'Members');
                },
            ],
            [
                'account',
                alice.page,
                async () => {
                    await alice.page.evaluate(`document.querySelector('dialog').close()`);
                    await alice.clicks('.icon-button', 'Account');
                    await alice.reads('dialog', 'this browser');
                },
            ],
        ];
        for (const [name, page, show] of views) {
            await show();
            for (const [size, [width, height]] of Object.entries(SIZES)) {
                for (const theme of ['light', 'dark']) {
                    await page.look(width, height, theme);
                    if (RINGPOST_PICTURES !== undefined)
                        writeFileSync(join(RINGPOST_PICTURES, `${name}-${size}-${theme}.png`), await page.picture());
                    if (RINGPOST_AXE === undefined) continue;
                    await page.evaluate(readFileSync(RINGPOST_AXE, 'utf8'));
                    assert.equal(await violations(page), '[]', `${name}, ${size}, ${theme}`);
                }
            }
        }
        for (const page of [signIn, alice.page]) assert.deepEqual(page.faults, []);
    } finally {
        await world.end();
    }
});

/** Conversations of the inbox that is loaded cold, and messages of the one that is scrolled. */
const [CONVERSATIONS, MESSAGES] = [1_000, 10_000];

const COLD_LOADS = 5;

/** Messages that are on their way to the server at a time. */
const AT_A_TIME = 200;

/**
 * Loads the page with nothing in the browser's cache: { ms, listedMs, files, bytes }, until the first conversations are painted, and until
 * all are listed.
 */
async function loadCold(page, url) {
    const loaded = { ms: 0, listedMs: 0, files: 0, bytes: 0 };
    await page.call('Network.enable');
    await page.call('Network.setCacheDisabled', { cacheDisabled: true });
    page.onEvent = (method, { encodedDataLength }) => {
        if (method !== 'Network.loadingFinished') return;
        loaded.files++;
        loaded.bytes += encodedDataLength;
    };
    await page.call('Page.addScriptToEvaluateOnNewDocument', {
        source: `{
            const whenRows = (count, then) => new MutationObserver((_, observer) => {
                if (document.querySelectorAll('.row').length < count) return;
                observer.disconnect();
                requestAnimationFrame(() => setTimeout(then));
            }).observe(document, { subtree: true, childList: true });
            whenRows(1, () => (window.usableAt = performance.now()));
            whenRows(${CONVERSATIONS}, () => (window.listedAt = performance.now()));
        }`,
    });
    await page.go(url);
    loaded.listedMs = Math.round(await page.waits('all conversations are listed', 'window.listedAt'));
    loaded.ms = Math.round(await page.evaluate('window.usableAt'));
    return loaded;
}

async function inParts(count, does) {
    for (let from = 0; from < count; from += AT_A_TIME)
        await Promise.all(Array.from({ length: Math.min(AT_A_TIME, count - from) }, (_, at) => does(from + at)));
}

test('how long the page takes to a usable inbox, and how it scrolls, is told', async () => {
    const world = await World.start();
    try {
        const [me, bob] = [await world.client(BigInt(ALICE)), await world.client(BigInt(BOB))];
        await inParts(CONVERSATIONS, (at) => me.text({ user: BigInt(1_000 + at) }, `Message to number ${at}`).answer);
        await inParts(
            MESSAGES,
            (at) =>
                (at % 3 === 0 ? bob : me).text(
                    { user: BigInt(at % 3 === 0 ? ALICE : BOB) },
                    `Message ${at}: ${'and so on '.repeat(at % 17)}`,
                ).answer,
        );

        const { browser, page } = await world.person(ALICE);
        const loads = [];
        let cold = page;
        for (let n = 0; n < COLD_LOADS; n++) {
            await cold.close();
            cold = await browser.open();
            loads.push(await loadCold(cold, `${world.origin}/`));
        }
        loads.sort((a, b) => a.ms - b.ms);
        const [{ ms, listedMs, files, bytes }] = loads;
        console.log(
            `cold load to a usable inbox of ${CONVERSATIONS} conversations: ${ms} ms, all of them listed after ${listedMs}, the fastest of ${COLD_LOADS} (the median ${loads[COLD_LOADS >> 1].ms}); ${files} answers, ${bytes} bytes with their heads`,
        );
        await cold.waits('the last one is listed', `document.querySelectorAll('.row').length > ${CONVERSATIONS}`);

        await cold.evaluate(`location.hash = '#/user/${BOB}'`);
        await cold.waits('it is open', `document.querySelector('.message') !== null`);
        const scrolled = await cold.evaluate(`(async () => {
            const thread = document.querySelector('.thread');
            const frame = () => new Promise(requestAnimationFrame);
            const frames = [];
            const scroll = async (step, isOver) => {
                for (let last = performance.now(); !isOver(); ) {
                    thread.scrollTop += step;
                    const now = await frame();
                    frames.push(now - last);
                    last = now;
                }
            };
            const isAtTop = () => document.querySelectorAll('.message').length >= ${MESSAGES} && thread.scrollTop <= thread.clientHeight - thread.scrollHeight + 1;
            await scroll(-2_000, isAtTop);
            const loading = frames.splice(0);
            await scroll(1_000, () => thread.scrollTop >= 0);
            const told = (of) => ({ frames: of.length, above50ms: of.filter((ms) => ms > 50).length, longestMs: Math.round(Math.max(...of)) });
            return { loading: told(loading), held: told(frames), messages: document.querySelectorAll('.message').length };
        })()`);
        console.log(
            `scrolled through ${scrolled.messages} messages while they are loaded: ${JSON.stringify(scrolled.loading)}; and back: ${JSON.stringify(scrolled.held)}`,
        );
        assert.deepEqual(cold.faults, []);
    } finally {
        await world.end();
    }
});
