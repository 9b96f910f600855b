// The stream of SPEC 1.1 within the binary messages of a WebSocket, which cut it anywhere. Works wherever there is a global `WebSocket`.
//
// A transport is a function `open(url, handlers)` that gives a link: `write(bytes)`, `close()`, `buffered` (bytes that it has not written
// yet), and where it can, `pause()` and `resume()` reading. It calls `handlers.opened()`, `handlers.bytes(bytes)` and, once and last,
// `handlers.closed(words)`; after `close()` it calls nothing.

/** What both sides speak; a server that does not answer with it is another one. */
export const SUBPROTOCOL = 'ringpost.v1';

export function websocket(url, handlers) {
    const socket = new WebSocket(url, SUBPROTOCOL);
    socket.binaryType = 'arraybuffer';
    let isOver = false;
    const end = () => {
        isOver = true;
        socket.onopen = null;
        socket.onmessage = null;
        socket.onclose = null;
        // Its answer is not waited for: a browser may take a minute to say that a dead connection is closed.
        socket.close();
    };
    const fail = (words) => {
        if (isOver) return;
        end();
        handlers.closed(words);
    };
    socket.onopen = () => {
        if (socket.protocol === SUBPROTOCOL) handlers.opened();
        else fail(`the server at ${url} does not speak ${SUBPROTOCOL}; check the address`);
    };
    socket.onmessage = ({ data }) => {
        if (data instanceof ArrayBuffer) handlers.bytes(new Uint8Array(data));
        else fail(`the server at ${url} sent a text message, and Ringpost has none; check the address`);
    };
    // A connection that is reset gives `close` without `error`, so `error` says nothing that counts.
    socket.onclose = ({ code, reason }) => fail(`the WebSocket to ${url} was closed with ${code}${reason === '' ? '' : ` (${reason})`}`);
    return {
        write(bytes) {
            if (socket.readyState === 1) socket.send(bytes);
        },
        close() {
            if (!isOver) end();
        },
        get buffered() {
            return socket.bufferedAmount;
        },
    };
}
