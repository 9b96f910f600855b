// WebSocket, and long polling where that does not get through: some proxies refuse the upgrade, some let it through and then bring nothing.
// A transport as each of the two is one.
//
// What counts is whether anything was heard. After a few WebSockets on which nothing was, one connection polls; if something is heard on
// that, polling it is, and now and then a WebSocket is tried beside it. If nothing is heard on that either, it is the server that is away,
// or the network, and WebSocket is tried next.

import { SILENT_AFTER_MS, SILENT_MAX, WEBSOCKET_AGAIN_AFTER_MS, WEBSOCKET_AGAIN_MAX_MS } from '../limits.js';
import { polling } from './polling.js';
import { websocket } from './websocket.js';

/** Gives a transport for one client. The two, and the clock, are arguments for tests. */
export function withFallback({ first = websocket, second = polling, now = () => performance.now(), timers = globalThis } = {}) {
    /** WebSockets in a row on which nothing was heard. */
    let silent = 0;
    /** Polling works here; the next WebSocket is tried after so long, which is then. */
    let polls = false;
    let againAfter = WEBSOCKET_AGAIN_AFTER_MS;
    let againAt = 0;

    function overWebSocket(url, handlers) {
        const begun = now();
        /** Something was heard, or it is known that nothing will be. */
        let isSettled = false;
        const settle = (isSilent) => {
            if (!isSettled && isSilent) silent++;
            isSettled = true;
        };
        const link = first(url, {
            opened: handlers.opened,
            bytes(bytes) {
                if (!isSettled) [silent, polls, againAfter] = [0, false, WEBSOCKET_AGAIN_AFTER_MS];
                settle(false);
                handlers.bytes(bytes);
            },
            closed(words) {
                settle(true);
                handlers.closed(words);
            },
        });
        return linkOver(link, {
            close() {
                // Who gives up soon has reasons of their own.
                if (now() - begun >= SILENT_AFTER_MS) settle(true);
                link.close();
            },
        });
    }

    function overPolling(url, handlers) {
        let timer;
        let probe;
        let hears = false;
        const stop = () => {
            timers.clearTimeout(timer);
            probe?.close();
            probe = undefined;
        };
        const arm = () => (timer = timers.setTimeout(tryWebSocket, Math.max(0, againAt - now())));
        const later = () => {
            againAfter = Math.min(againAfter * 2, WEBSOCKET_AGAIN_MAX_MS);
            againAt = now() + againAfter;
        };
        function tryWebSocket() {
            const over = () => {
                probe = undefined;
                later();
                arm();
            };
            probe = first(url, {
                opened() {
                    // Whether anything is heard on it is seen when it is used; if not, the next try is later.
                    later();
                    silent = SILENT_MAX - 1;
                    stop();
                    link.close();
                    handlers.closed('WebSocket gets through again');
                },
                bytes() {},
                closed: over,
            });
        }
        const link = second(url, {
            opened: handlers.opened,
            bytes(bytes) {
                if (!hears) {
                    hears = true;
                    if (!polls) againAt = now() + againAfter;
                    polls = true;
                    arm();
                }
                handlers.bytes(bytes);
            },
            closed(words) {
                stop();
                // The server is away as well.
                if (!hears && !polls) silent = 0;
                handlers.closed(words);
            },
        });
        return linkOver(link, {
            close() {
                stop();
                link.close();
            },
        });
    }

    return (url, handlers) => (silent < SILENT_MAX ? overWebSocket : overPolling)(url, handlers);
}

/** A link that ends otherwise than the one below it. */
function linkOver(link, { close }) {
    const over = {
        write: (bytes) => link.write(bytes),
        close,
        get buffered() {
            return link.buffered;
        },
    };
    if (link.pause !== undefined) Object.assign(over, { pause: () => link.pause(), resume: () => link.resume() });
    return over;
}
