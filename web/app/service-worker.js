// What runs while the page is closed: shows what the server pushes (docs/PUSH.md), and opens the page where a notice is clicked. It has no
// connection and keeps nothing; it is served at `/service-worker.js`, since a worker serves the pages below its own path.

import { keptNames } from '/app/kept_names.js';
import { SEEN_WITHIN_MS } from '/app/limits.js';
import { mustShow, pushed } from '/app/model/notice.js';
import { show, takeOff } from '/app/screen.js';

const { registration, clients } = self;
const windows = () => clients.matchAll({ type: 'window', includeUncontrolled: true });

// No page is served by it, so a newer one need not wait until all are closed.
self.addEventListener('install', () => self.skipWaiting());

self.addEventListener('push', (event) => event.waitUntil(onPush(event.data?.text())));

async function onPush(text) {
    const names = await keptNames().catch(() => new Map());
    const { clear, notice } = pushed(text, names, Date.now());
    if (clear !== undefined) return takeOff(registration, (_, tag) => tag === clear);
    const isSeen = await isSeenInPage(notice.about);
    // Safari wants a notice for each push; other browsers want none while a window of the page is visible.
    if (isSeen && !mustShow((await registration.pushManager.getSubscription())?.endpoint)) return undefined;
    return show(registration, { ...notice, isSilent: isSeen });
}

/**
 * Whether somebody sees in a window of the page what a notice would tell them. The windows are asked: the address that a browser tells of
 * them may be an older one, and a page that is not connected shows nothing new.
 */
async function isSeenInPage(about) {
    const looked = (await windows()).filter(({ focused, visibilityState }) => focused && visibilityState === 'visible');
    const answers = looked.map(
        (of) =>
            new Promise((resolve) => {
                const { port1, port2 } = new MessageChannel();
                port1.onmessage = ({ data }) => resolve(data === true);
                setTimeout(() => resolve(false), SEEN_WITHIN_MS);
                of.postMessage({ ringpost: 'is it seen', about }, [port2]);
            }),
    );
    return (await Promise.all(answers)).includes(true);
}

self.addEventListener('notificationclick', (event) => {
    event.notification.close();
    event.waitUntil(open(event.notification.data?.about));
});

/** Brings the page to the front, with a conversation open in it if that is known. */
async function open(about) {
    const all = await windows();
    const first = all.find(({ visibilityState }) => visibilityState === 'visible') ?? all[0];
    if (first === undefined) return clients.openWindow(`/${about ?? ''}`);
    first.postMessage({ ringpost: 'open', about });
    return first.focus();
}

// The browser has ended a subscription by itself, and there is another one. A page tells the server of it: one that is open at once, else the
// next one that is opened.
self.addEventListener('pushsubscriptionchange', (event) => event.waitUntil(onChange(event)));

async function onChange({ oldSubscription, newSubscription }) {
    if (!newSubscription && oldSubscription) await registration.pushManager.subscribe(oldSubscription.options).catch(() => {});
    for (const of of await windows()) of.postMessage({ ringpost: 'subscribe' });
}
