// What a person does with messages and conversations, and what the other one sees of it.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { until } from './browser.js';
import { World } from './world.js';

const [ALICE, BOB, CAROL] = [7, 8, 9];
let world;
beforeEach(async () => (world = await World.start()));
afterEach(() => world.end());

const gone = 'This message was taken back';

test('a message is edited, answered, felt about and taken back, and both see the same', async () => {
    const [alice, bob] = [await world.person(ALICE), await world.person(BOB)];
    await alice.opens(BOB);
    await bob.opens(ALICE);
    await alice.writes('See you at nine');
    await bob.sees('See you at nine');
    // Somebody looks at it there.
    await alice.page.waits('it is read', `document.querySelector('.message .icon[aria-label="Read"]') !== null`);

    await alice.does('See you at nine', 'More', 'Edit');
    await alice.page.evaluate(`document.querySelector('.composer textarea').value = ''`);
    await alice.writes('See you at ten');
    for (const person of [alice, bob]) {
        await person.sees('See you at ten');
        await person.reads('.meta', 'edited');
    }
    await bob.does('See you at ten', 'React', '👍');
    for (const person of [alice, bob]) await person.reads('.reaction', '👍');
    await bob.does('See you at ten', 'Reply');
    await bob.writes('Fine with me');
    await alice.reads('blockquote', 'See you at ten');

    await alice.does('See you at ten', 'More', 'Take back');
    for (const person of [alice, bob]) await person.sees(gone);
    await bob.page.waits('nothing is felt any more', `document.querySelector('.reaction') === null`);
    await alice.does('Fine with me', 'More', 'Delete for me');
    await alice.page.waits('it is deleted', `document.querySelectorAll('.message').length === 1`);
    assert.deepEqual(await bob.texts(), [gone, 'Fine with me']);
    for (const person of [alice, bob]) assert.deepEqual(person.page.faults, []);
});

test('who looks elsewhere sees how many are unread, who is there and who types', async () => {
    const [alice, bob] = [await world.person(ALICE), await world.person(BOB)];
    await bob.opens(ALICE);
    await bob.writes('one');
    await bob.writes('two');
    await alice.reads('.row .count', '2 unread');
    assert.equal(await alice.page.evaluate('document.title'), '(2) Ringpost');
    await alice.page.waits('Bob is there', `document.querySelector('.row').dataset.presence === 'online'`);
    // It is said every three seconds at most, while somebody types.
    const isTyping = `document.querySelector('.row-says').textContent.includes('is typing')`;
    await until('Alice sees that Bob types', async () => {
        await bob.page.type('t');
        return alice.page.evaluate(isTyping);
    });
    await alice.opens(BOB);
    await alice.page.waits('nothing is unread', `document.querySelector('.row .count') === null && document.title === 'Ringpost'`);
    await bob.page.evaluate(`document.querySelector('.composer textarea').value = ''`);
    // What is loaded is found, and a search that ends leaves the list as it was.
    await alice.page.evaluate(
        `(() => { const search = document.querySelector('.search input'); search.value = 'tw'; search.dispatchEvent(new Event('input')); })()`,
    );
    await alice.reads('.found .row', 'two');
    await alice.page.evaluate(`document.querySelector('.search input').focus()`);
    await alice.page.press('Escape');
    await alice.page.waits(
        'the list is as it was',
        `document.querySelector('.found').hidden && document.querySelectorAll('.row').length >= 1`,
    );
    // Kept out of sight.
    await alice.clicks('.talk .icon-button', 'Details');
    await alice.clicks('.toggle', 'Archived');
    await alice.reads('.archive', 'Archived (1)');
});

test('a group is begun, written to, and left', async () => {
    const [alice, bob] = [await world.person(ALICE), await world.person(BOB)];
    await alice.clicks('.icon-button', 'New conversation');
    await alice.page.waits('the dialog is open', `document.querySelector('dialog input[name=name]') !== null`);
    await alice.page.evaluate(
        `document.querySelector('dialog input[name=name]').value = 'Hiking crew'; document.querySelector('dialog input[name=users]').value = '${BOB}, ${CAROL}'`,
    );
    await alice.clicks('dialog button', 'Begin a group');
    await alice.reads('.head h1', 'Hiking crew');
    await alice.writes('Saturday at eight?');
    await bob.reads('.row', 'Hiking crew');
    await bob.clicks('.row', 'Hiking crew');
    await bob.sees('Saturday at eight?');
    await bob.writes('I am in');
    await alice.sees('I am in');
    await alice.does('Saturday at eight?', 'More', 'Who has it');
    await alice.reads('dialog', '1 of 2 have it');
    await alice.page.press('Escape');

    await bob.clicks('.talk .icon-button', 'Details');
    await bob.reads('dialog', 'Members (3)');
    await bob.clicks('dialog button', 'Leave the group');
    await bob.reads('.lock', 'You have left this group.');
    await alice.reads('.act', `User ${BOB} left`);
    await alice.reads('.head-says', '2 members');
    for (const person of [alice, bob]) assert.deepEqual(person.page.faults, []);
});

test('a link signs in and is taken out of the address at once; a pasted token does, too; signing out leaves nothing', async () => {
    const browser = await world.browser();
    const page = await browser.open(`${world.origin}/`);
    await page.waits('it asks for a token', `document.querySelector('.sign-in textarea') !== null`);
    const paste = async (text) => {
        await page.evaluate(
            `document.querySelector('.sign-in textarea').value = ${JSON.stringify(text)}; document.querySelector('.sign-in button').click()`,
        );
    };
    await paste('nonsense');
    await page.waits('it says what is wrong', `document.querySelector('.wrong').textContent.includes('no token')`);
    await paste(world.token(ALICE));
    const isReady = `document.querySelector('.app')?.dataset.connection === 'ready'`;
    await page.waits('Alice is connected', isReady);

    await page.evaluate(`[...document.querySelectorAll('.icon-button')].find((of) => of.title === 'Account').click()`);
    const signOut = `[...document.querySelectorAll('dialog button')].find((of) => of.textContent === 'Sign out')`;
    await page.waits('the dialog has it', `${signOut} !== undefined`);
    await page.evaluate(`${signOut}.click()`);
    await page.waits('it asks for a token again', `document.querySelector('.sign-in textarea') !== null`);
    assert.deepEqual(await page.evaluate(`indexedDB.databases().then((all) => [all.length, localStorage.getItem('ringpost token')])`), [
        0,
        null,
    ]);

    // The same page with another fragment: it is loaded anew by itself.
    await page.go(world.link(BOB));
    await page.waits('Bob is connected', isReady);
    assert.equal(await page.evaluate('location.href'), `${world.origin}/`);
    const { entries } = await page.call('Page.getNavigationHistory');
    assert.ok(
        entries.slice(-1).every(({ url }) => !url.includes('token')),
        'nor is it in the history',
    );
    assert.deepEqual(page.faults, []);
});

test('text of others is text, whatever it says', async () => {
    const alice = await world.person(ALICE);
    const bob = await world.client(BigInt(BOB));
    const texts = ['<img src=x onerror=alert(1)>', '<script>window.hurt = 1</script>', 'javascript:alert(1)', 'https://example.org/?a=<b>'];
    for (const text of texts) await bob.text({ user: BigInt(ALICE) }, text).answer;
    await alice.opens(BOB);
    for (const text of texts) await alice.sees(text);
    const { links, images, hurt } = await alice.page.evaluate(`({
        links: [...document.querySelectorAll('.text a')].map((of) => of.href), images: document.querySelectorAll('.message img').length, hurt: window.hurt,
    })`);
    assert.deepEqual([links, images, hurt], [['https://example.org/?a='], 0, undefined]);
    assert.deepEqual(alice.page.faults, []);
});
