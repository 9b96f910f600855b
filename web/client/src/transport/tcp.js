// The stream of SPEC 1.1 over TCP, `tcp://host:port`, or within TLS 1.3, `tls://host:port`, for Node. A transport as `websocket` is one.

import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** Offered by ALPN (SPEC 1.1). */
const ALPN = 'ringpost/1';

/** Gives a transport. `ca`: PEM of who may vouch for the server, instead of whom this system trusts. */
export function tcpWith({ ca } = {}) {
    /** The newest ticket of each server, with which a connection is resumed, once (SPEC 1.1). */
    const tickets = new Map();
    return function tcp(url, handlers) {
        const { protocol, hostname, port } = new URL(url);
        if (protocol !== 'tcp:' && protocol !== 'tls:') throw new TypeError(`${url} is no address for TCP; give tcp://host:port or tls://host:port`);
        const host = hostname.replace(/^\[|\]$/g, '');
        const isTls = protocol === 'tls:';
        // An address is no name to ask for; the certificate is checked for it all the same.
        const servername = /^[\d.]+$|:/.test(host) ? '' : host;
        const session = tickets.get(`${host}:${port}`);
        tickets.delete(`${host}:${port}`);
        const socket = isTls
            ? connectTls({ host, port: Number(port), servername, ALPNProtocols: [ALPN], minVersion: 'TLSv1.3', ca, session })
            : connectTcp({ host, port: Number(port), noDelay: true });
        let isOver = false;
        let words = `the connection to ${host}:${port} has ended`;
        socket.on(isTls ? 'secureConnect' : 'connect', () => isOver || handlers.opened());
        if (isTls) {
            socket.on('session', (ticket) => {
                if (tickets.size >= SERVERS_MAX) tickets.clear();
                tickets.set(`${host}:${port}`, ticket);
            });
        }
        socket.on('data', (bytes) => isOver || handlers.bytes(bytes));
        socket.on('error', (error) => (words = `the connection to ${host}:${port} failed: ${error.message}`));
        socket.on('end', () => socket.end());
        socket.on('close', () => {
            if (isOver) return;
            isOver = true;
            handlers.closed(words);
        });
        return {
            write: (bytes) => socket.write(bytes),
            // What was written goes out first; who does not take it is not waited for.
            close() {
                isOver = true;
                socket.end();
                socket.setTimeout(CLOSE_WITHIN_MS, () => socket.destroy());
            },
            get buffered() {
                return socket.writableLength;
            },
            pause: () => socket.pause(),
            resume: () => socket.resume(),
        };
    };
}

/** Servers of which a ticket is kept: a client goes to and fro between few, and without one the handshake is a full one. */
const SERVERS_MAX = 8;

/** What the server does not read within this of a connection that is closed is lost. */
const CLOSE_WITHIN_MS = 3_000;

export const tcp = tcpWith();
