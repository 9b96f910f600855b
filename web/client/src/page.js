// What a browser does to a page, told to its client.
//
// A page in the back/forward cache and a frozen tab keep their connection: the browser answers for them, and nobody reads. So the client
// has no connection there: it ends it at `pagehide` and `freeze`, and goes on by its cursor at `pageshow` and `resume`.

/** Follows the life of a page. Gives a function that stops it. `page` and `view` are for tests. */
export function followPage(client, { page = document, view = window } = {}) {
    const listeners = [
        [view, 'pagehide', () => client.suspend()],
        [page, 'freeze', () => client.suspend()],
        [view, 'pageshow', () => client.resume()],
        [page, 'resume', () => client.resume()],
        // A connection of another network may be dead and not know it; without one, the wait for the next attempt is over.
        [view, 'online', () => {
            client.probe();
            client.reconnectNow();
        }],
        [page, 'visibilitychange', () => client.setStatus(page.visibilityState === 'visible' ? 'here' : 'away')],
    ];
    for (const [target, type, listener] of listeners) target.addEventListener(type, listener);
    client.setStatus(page.visibilityState === 'visible' ? 'here' : 'away');
    return () => {
        for (const [target, type, listener] of listeners) target.removeEventListener(type, listener);
    };
}
