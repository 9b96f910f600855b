// What lies between browsers and a server, which a test cuts: a browser's own switch leaves open WebSockets alone.

import { connect, createServer } from 'node:net';

/** Leads to `host:port` from a port of 127.0.0.1: { port, cut, restore, breakWebSockets, close }. */
export async function proxyTo(host, port) {
    const open = new Set();
    let isCut = false;
    let breaks = false;
    const server = createServer((here) => {
        if (isCut) return void here.destroy();
        const there = connect(port, host);
        for (const [end, other] of [
            [here, there],
            [there, here],
        ]) {
            open.add(end);
            end.on('error', () => {});
            end.on('close', () => {
                open.delete(end);
                other.destroy();
            });
            end.pipe(other);
        }
        here.once('data', (head) => {
            if (breaks && /^upgrade: websocket/im.test(head.toString('latin1'))) here.destroy();
        });
        return undefined;
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const cut = () => {
        isCut = true;
        for (const end of open) end.destroy();
    };
    return {
        port: server.address().port,
        /** Ends every connection, and lets none through until `restore`. */
        cut,
        restore() {
            isCut = false;
        },
        /** From now on a connection that asks for WebSocket ends. */
        breakWebSockets() {
            breaks = true;
        },
        close() {
            cut();
            server.close();
        },
    };
}
