// People with browsers converse, and whatever happens to connections, servers, tabs and storage, all hold one history.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { until } from './browser.js';
import { World } from './world.js';

const [ALICE, BOB] = [7, 8];
let world;
beforeEach(async () => (world = await World.start()));
afterEach(() => world.end());

/** Alice and Bob, each with the conversation open. */
async function both() {
    const [alice, bob] = [await world.person(ALICE), await world.person(BOB)];
    await alice.opens(BOB);
    await bob.opens(ALICE);
    return [alice, bob];
}

/** The same, and Alice has two tabs, of which the first one leads. */
async function twoTabs() {
    const [first, bob] = await both();
    const second = await first.tab();
    await second.opens(BOB);
    return [first, second, bob];
}

/**
 * Waits until all of them show these messages, each once, and hold what the server has. All that a user looks at has one order; what two of them
 * write at the same time each may see in another one, but what one has written the other sees in the order of the writing.
 */
async function agree(people, texts) {
    for (const person of people) for (const text of texts) await person.sees(text);
    const all = await Promise.all(people.map(async (person) => ({ user: person.user, shown: await person.shown() })));
    const written = ({ shown }, isMine) => shown.filter((message) => message.isMine === isMine).map((message) => message.text);
    for (const one of all) {
        assert.deepEqual(one.shown.map((message) => message.text).sort(), [...texts].sort());
        for (const other of all) {
            if (other.user === one.user) assert.deepEqual(other.shown, one.shown);
            else assert.deepEqual(written(other, true), written(one, false));
        }
    }
    for (const person of people) {
        await person.holdsTheSame();
        assert.deepEqual(person.page.faults, []);
    }
}

test('two browsers and a chat hold one history, though connections are cut and the server is killed', async () => {
    const [alice, bob] = await both();
    const chat = world.chat(BOB, ALICE);
    const texts = [];
    const talk = async (when) => {
        for (const [who, name] of [
            [alice, 'alice'],
            [bob, 'bob'],
        ]) {
            await who.writes(`${name} ${when}`);
            texts.push(`${name} ${when}`);
        }
        chat.say(`chat ${when}`);
        texts.push(`chat ${when}`);
    };
    await talk('at first');
    await agree([alice, bob], texts);

    world.cut();
    await alice.reads('.status', 'Offline');
    await talk('while the browsers are cut off');
    await alice.reads('.status', '1 message waits');
    world.restore();
    await alice.isConnected();
    await agree([alice, bob], texts);

    await world.killServer();
    await talk('while there is no server');
    await world.startServer();
    await talk('after the server was killed');
    await agree([alice, bob], texts);

    const sent = (line) => /^accepted /.test(line);
    await until('the chat has all', () => chat.texts.size + chat.lines.filter(sent).length >= texts.length);
    const shown = await bob.texts();
    const own = texts.filter((text) => text.startsWith('chat'));
    assert.deepEqual(
        [...chat.texts].sort(([a], [b]) => a - b).map(([, text]) => text),
        shown.filter((text) => !own.includes(text)),
    );
});

test('of two tabs one leads and the other follows; whichever is closed, the other goes on', async () => {
    const [first, second, bob] = await twoTabs();
    await first.writes('from the tab that leads');
    await second.writes('from the tab that follows');
    await bob.writes('to both');
    const texts = ['from the tab that leads', 'from the tab that follows', 'to both'];
    await agree([first, second, bob], texts);

    await first.page.close();
    await second.writes('from the one that is left');
    await bob.writes('to the one that is left');
    texts.push('from the one that is left', 'to the one that is left');
    await agree([second, bob], texts);

    // Loaded anew it is another tab, and leads at once.
    await second.page.call('Page.reload');
    await second.isConnected();
    await second.writes('from a tab that was loaded anew');
    texts.push('from a tab that was loaded anew');
    await agree([second, bob], texts);
});

test('a tab that is frozen holds up nobody, and has everything when it goes on', async () => {
    const [first, second, bob] = await twoTabs();
    const texts = [];
    const say = async (who, text) => {
        await who.writes(text);
        texts.push(text);
    };
    await say(first, 'before');
    await agree([first, second, bob], texts);
    // The one that leads.
    await first.page.call('Page.setWebLifecycleState', { state: 'frozen' });
    await say(second, 'while it is frozen');
    await say(bob, 'to who is not frozen');
    await agree([second, bob], texts);
    await first.page.call('Page.setWebLifecycleState', { state: 'active' });
    await agree([first, second, bob], texts);
});

test('a tab that is frozen in the moment in which something is written there loses nothing', async () => {
    const [first, second, bob] = await twoTabs();
    const texts = ['before', 'in its last moment', 'by another tab', 'to the tab that goes on'];
    await first.writes('before');
    await agree([first, second, bob], texts.slice(0, 1));
    await first.page.call('Page.setWebLifecycleState', { state: 'frozen' });
    await bob.sees('before');
    await first.page.call('Page.setWebLifecycleState', { state: 'active' });
    await second.writes('in its last moment');
    await second.page.call('Page.setWebLifecycleState', { state: 'frozen' });
    await first.writes('by another tab');
    await bob.writes('to the tab that goes on');
    await second.page.call('Page.setWebLifecycleState', { state: 'active' });
    await agree([first, second, bob], texts);
});

test('a page that comes back from the back/forward cache goes on where it was', async () => {
    const [alice, bob] = await both();
    await alice.writes('before');
    await agree([alice, bob], ['before']);
    await alice.page.evaluate('window.marker = 1');
    await alice.page.go('about:blank');
    await alice.page.waits('it is away', `location.href === 'about:blank'`);
    await bob.writes('while it is away');
    await bob.sees('while it is away');
    const { entries, currentIndex } = await alice.page.call('Page.getNavigationHistory');
    await alice.page.call('Page.navigateToHistoryEntry', { entryId: entries[currentIndex - 1].id });
    await agree([alice, bob], ['before', 'while it is away']);
    // Not loaded anew: nothing that the page holds open keeps it out of the cache.
    assert.equal(await alice.page.evaluate('window.marker'), 1);
    await alice.writes('and on');
    await agree([alice, bob], ['before', 'while it is away', 'and on']);
});

test('who has cleared their storage signs in again and has everything', async () => {
    const [alice, bob] = await both();
    await alice.writes('before');
    await agree([alice, bob], ['before']);
    await alice.page.call('Storage.clearDataForOrigin', { origin: world.origin, storageTypes: 'all' });
    await bob.writes('after');
    await alice.page.go('about:blank');
    await alice.page.waits('it is away', `location.href === 'about:blank'`);
    await alice.page.go(world.link(ALICE));
    await alice.isConnected();
    await alice.opens(BOB);
    await agree([alice, bob], ['before', 'after']);
    await alice.writes('and on');
    await agree([alice, bob], ['before', 'after', 'and on']);
});

test('where WebSocket does not get through a browser polls, and its history is the same', async () => {
    world.breakWebSockets();
    const alice = await world.person(ALICE);
    await alice.opens(BOB);
    const chat = world.chat(BOB, ALICE);
    await alice.writes('by polling');
    chat.say('by TCP');
    await agree([alice], ['by polling', 'by TCP']);
    await world.killServer();
    await alice.writes('while there is no server');
    await world.startServer();
    await agree([alice], ['by polling', 'by TCP', 'while there is no server']);
});
