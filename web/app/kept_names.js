// What a person calls others, for the service worker: `localStorage`, where the page has it, can not be read there. So the page leaves a copy
// in a cache, which is of this browser as well.

const CACHE = 'ringpost';
const NAMES = '/names';

/** `names`: a Map from users to names. */
export async function keepNames(names) {
    const text = JSON.stringify([...names].map(([user, name]) => [String(user), name]));
    await (await caches.open(CACHE)).put(NAMES, new Response(text));
}

/** A Map from the numbers of users, as text, to names: empty if nothing is kept. */
export async function keptNames() {
    const found = await caches.match(NAMES, { cacheName: CACHE });
    return new Map(found === undefined ? [] : await found.json());
}

export const forgetNames = () => caches.delete(CACHE);
