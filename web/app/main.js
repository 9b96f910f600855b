// Where the page begins: who is signed in, with which store and connection, and what is shown of it.

import { IndexedDbStore, Tabs, deleteIndexedDbStore, followPage, isMessage } from '/client/index.js';
import { userOf, tokenIn } from './model/account.js';
import { conversationIn, hashOf } from './model/address.js';
import { KEPT } from './model/inbox.js';
import { Messenger } from './model/messenger.js';
import * as words from './model/words.js';
import { Notices, PUSH_KEY } from './notices.js';
import { Push } from './push.js';
import { StoredMap } from './stored_map.js';
import { SKIP_ABOVE } from './limits.js';
import { App } from './view/app.js';
import { signInView } from './view/sign_in.js';

const TOKEN = 'ringpost token';

/** A server that is asked to forget this browser has so long to answer, in milliseconds. */
const FORGET_WITHIN_MS = 1_000;

/** The token of a link is taken out of the address at once: nobody who looks at it, or at the history, finds it there. */
function takeToken() {
    if (!location.hash.startsWith('#token=')) return;
    const token = tokenIn(location.hash);
    history.replaceState(null, '', location.pathname);
    if (token !== undefined) localStorage.setItem(TOKEN, token);
}

function signIn(why) {
    const begin = (token) => {
        localStorage.setItem(TOKEN, token);
        location.reload();
    };
    document.body.append(signInView(begin, why));
}

async function begin(token) {
    const user = userOf(token);
    const name = `${location.host}/${user}`;
    const store = new IndexedDbStore(name);
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const tabs = new Tabs(`${scheme}://${location.host}/v1/ws`, () => localStorage.getItem(TOKEN) ?? token, {
        name,
        store,
        skip_above: SKIP_ABOVE,
        follows_redirects: false,
    });
    const request = (name, fields) => tabs.request(name, fields);
    const names = new StoredMap(localStorage, `ringpost names of ${user}`, BigInt, () => isPushed() && push.keep());
    /** What is announced while the page is closed. */
    const push = new Push({ user, names, request });
    const model = new Messenger({
        me: user,
        client: tabs,
        names,
        changed: () => app?.due(),
        notice: (text) => app?.notice(text),
    });
    const show = (conversation) => {
        if (hashOf(conversation) !== location.hash) history.pushState(null, '', `${location.pathname}${hashOf(conversation)}`);
        model.show(conversation);
        app.shown();
    };
    const notices = new Notices(localStorage);
    listen(tabs, model, notices);
    // With a connection there is a server, which may have another key by now.
    tabs.addEventListener('welcome', () => isPushed() && tabs.isLeading && push.keep());
    followPage(tabs);
    let app;
    // Nothing is shown before the store is open, and until then the connection is made and the first words.
    words.prepare();
    const { device, messages } = await store.load();
    const signOut = async () => {
        const late = new Promise((resolve) => setTimeout(resolve, FORGET_WITHIN_MS));
        const isEnded = isPushed() ? push.end() : undefined;
        const forgotten = [tabs.request('remove_device', { device }), isEnded, notices.takeOff(() => true)];
        await Promise.race([Promise.allSettled(forgotten), late]);
        await tabs.close();
        localStorage.removeItem(TOKEN);
        await deleteIndexedDbStore(name);
        location.replace(location.pathname);
    };
    const toSignIn = () => {
        localStorage.removeItem(TOKEN);
        location.reload();
    };
    const does = {
        show,
        notices,
        push,
        device,
        signOut,
        signIn: toSignIn,
        reload: () => location.reload(),
        reconnect: () => tabs.reconnectNow(),
    };
    app = new App(model, does, new StoredMap(sessionStorage, `ringpost drafts of ${user}`, String));
    document.body.append(app.element);
    model.show(conversationIn(location.hash));
    window.addEventListener('popstate', () => show(conversationIn(location.hash)));
    model.start(messages);
    app.shown();
    nameDevice(tabs, device);
    followWorker(model, show, push);
    // Who looks at the page sees all that a notice says that names no conversation.
    const onLook = () => document.visibilityState === 'visible' && notices.takeOff((about) => about === undefined);
    document.addEventListener('visibilitychange', onLook);
    onLook();
}

const isPushed = () => localStorage.getItem(PUSH_KEY) !== null;

/** Does what the service worker asks for: see there. */
function followWorker(model, show, push) {
    navigator.serviceWorker?.addEventListener('message', ({ data: { ringpost, about }, ports: [port] }) => {
        if (ringpost === 'open' && about !== undefined) show(conversationIn(about));
        if (ringpost === 'is it seen') {
            const isShown = about === undefined || about === hashOf(model.open);
            port.postMessage(isShown && model.connection.state === 'ready' && document.hasFocus());
        }
        if (ringpost === 'subscribe') push.keep();
    });
}

/** All that the client tells goes to the model; and what is new while nobody looks is announced. */
function listen(tabs, model, notices) {
    let since = Infinity;
    const announce = (conversation, { from, content, time }, settings) => {
        const isNamed = content.mention?.users.includes(model.me) && (settings & KEPT.mentions) !== 0n;
        const isWanted = (settings & KEPT.mentions) !== 0n ? isNamed : (settings & KEPT.muted) === 0n;
        if (from === model.me || !isMessage(content) || !isWanted || !tabs.isLeading || tabs.isLookedAt) return;
        const by = conversation.group === undefined ? '' : `${model.nameOf(from)}: `;
        notices.announce(conversation, model.titleOf(conversation), `${by}${words.excerpt(content, model.nameOf)}`, time);
    };
    const onEntry = (entry) => {
        const { kind, seq, from, peer, group, unread } = entry;
        if (kind === 'received' && seq > since) announce({ user: from }, entry, model.settingsOf({ user: from }));
        if ((kind === 'read' && unread === 0) || kind === 'group_read') notices.read({ user: peer, group });
    };
    for (const type of Tabs.EVENTS) {
        tabs.addEventListener(type, ({ detail }) => {
            model.handle(type, detail);
            if (type === 'welcome') since = Math.min(since, detail.head);
            if (type === 'entry') onEntry(detail.entry);
            if (type === 'group_entry') {
                const { group, entry } = detail;
                announce({ group }, entry, model.settingsOf({ group }));
            }
        });
    }
}

/** What the list of devices calls this browser. */
function nameDevice(tabs, device) {
    const KEY = 'ringpost device is named';
    if (localStorage.getItem(KEY) === String(device)) return;
    const [browser = 'Browser'] = /Firefox|Edg|OPR|Chrome|Safari/.exec(navigator.userAgent) ?? [];
    const [system = 'unknown system'] = /Android|iPhone|iPad|Windows|Mac OS|Linux/.exec(navigator.userAgent) ?? [];
    tabs.request('name_device', { device, name: `${browser} on ${system}` }).then(
        () => localStorage.setItem(KEY, String(device)),
        () => {},
    );
}

takeToken();
window.addEventListener('hashchange', () => {
    if (!location.hash.startsWith('#token=')) return;
    takeToken();
    location.reload();
});
// Another tab has signed in or out.
window.addEventListener('storage', ({ key }) => (key === TOKEN || key === null) && location.reload());

const token = localStorage.getItem(TOKEN);
if (token === null) signIn();
else begin(token).catch(({ message }) => signIn(message));
