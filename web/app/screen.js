// The notices on the screen, those of the page and those of its service worker: both show them by the worker's registration, so each finds
// those of the other, and a conversation has one.

import { placed } from './model/notice.js';

/** Pushes come together when a browser was away, and Chromium forgets a notice that it is about to show when it is asked which stand. */
let last = Promise.resolve();
const oneByOne = (does) => {
    const done = last.then(does);
    last = done.catch(() => {});
    return done;
};

/** Shows a notice (see `model/notice.js`) in the place of what stands of its conversation; without a sound if it `isSilent`. */
export const show = (registration, notice) => oneByOne(() => showIn(registration, notice));

/** Takes those off the screen for which `isMeant`, called with what they are about and their tag, is true. */
export const takeOff = (registration, isMeant) =>
    oneByOne(async () => {
        for (const of of await registration.getNotifications()) if (isMeant(of.data?.about, of.tag)) of.close();
    });

async function showIn(registration, notice) {
    const standing = (await registration.getNotifications()).map((of) => ({ tag: of.tag, ...of.data, close: () => of.close() }));
    const { tag, isNew, isLate, closed } = placed(notice, standing);
    if (isLate) return;
    const { title, body, at, about, isSilent = false } = notice;
    const makesSound = isNew && !isSilent;
    await registration.showNotification(title, {
        body,
        tag,
        renotify: makesSound,
        silent: !makesSound,
        timestamp: at,
        icon: '/app/icon.svg',
        data: { at, about },
    });
    for (const of of closed) of.close();
}
