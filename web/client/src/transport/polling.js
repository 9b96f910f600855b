// The stream of SPEC 1.1 by long polling (SPEC 1.5), for networks that break WebSockets. A transport as `websocket` is one; `url` is the one
// of WebSocket (`wss://host/v1/ws`), or that of the frames (`https://host/v1/frames`). Works wherever there is a global `fetch`.
//
// Both sides number the bytes of each stream, so a request whose answer is lost is made again as it was.

import { POLL_AGAIN_AFTER_MS, POLL_BODY_BYTES_MAX, POLL_TRIES_MAX } from '../limits.js';

export function polling(url, handlers) {
    const address = framesAt(url);
    /** What has been written and not been taken; `said` bytes were taken before. */
    let unsaid = new Uint8Array(0);
    let said = 0;
    let heard = 0;
    let session;
    let isSaying = false;
    let isPaused = false;
    let isOver = false;
    let goOn = () => {};
    const asking = new AbortController();

    const fail = (words) => {
        if (isOver) return;
        isOver = true;
        asking.abort();
        handlers.closed(words);
    };
    const at = (place) => `${address}?session=${session}&at=${place}`;

    async function say() {
        isSaying = true;
        while (unsaid.length > 0) {
            const body = unsaid.subarray(0, POLL_BODY_BYTES_MAX);
            const answer = await tried(session === undefined ? address : at(said), { method: 'POST', body, keepalive: true });
            if (answer === undefined) break;
            const { status, text } = { status: answer.status, text: (await answer.text().catch(() => '')).trim() };
            const told = status === 201 && session === undefined ? /^([\w-]{22}) (\d+)$/.exec(text) : status === 200 ? /^()(\d+)$/.exec(text) : null;
            const taken = Number(told?.[2]);
            if (!(taken >= said && taken <= said + unsaid.length)) {
                // What the server said last may still be asked for, if there ever was a session.
                if (status !== 410 || session === undefined) fail(`${address} answered ${status}${text === '' ? '' : `: ${text}`}`);
                break;
            }
            unsaid = unsaid.slice(taken - said);
            said = taken;
            if (status === 201) {
                session = told[1];
                hear();
            }
        }
        isSaying = false;
    }

    async function hear() {
        while (!isOver) {
            if (isPaused) await new Promise((resolve) => (goOn = resolve));
            const asked = performance.now();
            const answer = await tried(at(heard), { signal: asking.signal });
            if (answer === undefined) return;
            if (answer.status === 200) {
                // A body that breaks off is asked for again.
                const bytes = new Uint8Array(await answer.arrayBuffer().catch(() => new ArrayBuffer(0)));
                heard += bytes.length;
                if (!isOver && bytes.length > 0) handlers.bytes(bytes);
            } else if (answer.status === 204) {
                // Something on the way answers in the server's place: that must not become a loop.
                if (performance.now() - asked < POLL_AGAIN_AFTER_MS) await pause(POLL_AGAIN_AFTER_MS);
            } else {
                return fail(answer.status === 410 ? `the session at ${address} has ended` : `${address} answered ${answer.status}`);
            }
        }
    }

    /** The answer to a request, which is made again while the network fails; undefined when the link is over. */
    async function tried(to, options) {
        for (let tries = 1; ; tries++) {
            try {
                return await fetch(to, { cache: 'no-store', credentials: 'omit', redirect: 'error', ...options });
            } catch (error) {
                if (isOver) return undefined;
                if (tries === POLL_TRIES_MAX) return void fail(`no answer from ${address}: ${error.message}`);
            }
            await pause(POLL_AGAIN_AFTER_MS * 2 ** (tries - 1) * Math.random());
            if (isOver) return undefined;
        }
    }

    queueMicrotask(() => isOver || handlers.opened());
    return {
        write(bytes) {
            if (isOver) return;
            const both = new Uint8Array(unsaid.length + bytes.length);
            both.set(unsaid);
            both.set(bytes, unsaid.length);
            unsaid = both;
            if (!isSaying) say();
        },
        // What was written goes out, once.
        close() {
            isOver = true;
            asking.abort();
            goOn();
        },
        get buffered() {
            return unsaid.length;
        },
        pause() {
            isPaused = true;
        },
        resume() {
            isPaused = false;
            goOn();
        },
    };
}

/** Where the frames are of a server whose WebSocket is at `url`. */
function framesAt(url) {
    const { protocol, host, pathname } = new URL(url);
    const http = { 'wss:': 'https:', 'ws:': 'http:', 'https:': 'https:', 'http:': 'http:' }[protocol];
    if (http === undefined) throw new TypeError(`${url} is no address for long polling; give wss://host/v1/ws or https://host/v1/frames`);
    return `${http}//${host}${pathname.replace(/\/v1\/ws$/, '/v1/frames')}`;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
