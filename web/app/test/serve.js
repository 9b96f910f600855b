// Serves the page as a Ringpost server does, from the files, for who changes them; and is the proxy in which tests cut connections.
//
//   node web/app/test/serve.js PORT HOST:PORT        the second one: where the server's WebSocket listens
//
// The upgrade to WebSocket goes on to the server as it is. What a browser's own switch does not do, this does: cut what is open.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { extname, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const WEB = fileURLToPath(new URL('../..', import.meta.url));

export const POLICY = [
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'", "manifest-src 'self'",
    "worker-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
].join('; ');

const TYPES = {
    '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml',
    '.webmanifest': 'application/manifest+json',
};

/** The file of a path of the page; undefined: there is none. */
export function fileOf(path) {
    if (path === '/') return `${WEB}app/index.html`;
    const [, folder, rest] = /^\/(app|client)\/([\w./-]+)$/.exec(path) ?? [];
    if (folder === undefined || normalize(rest) !== rest || rest.startsWith('..') || rest.startsWith('test/')) return undefined;
    return folder === 'app' ? `${WEB}app/${rest}` : `${WEB}client/src/${rest}`;
}

async function answer(request, response) {
    const file = fileOf(new URL(request.url, 'http://page').pathname);
    const type = file === undefined ? undefined : TYPES[extname(file)];
    const body = type === undefined ? undefined : await readFile(file).catch(() => undefined);
    if (body === undefined) return response.writeHead(404).end('there is no such page\n');
    const headers = { 'content-type': type, 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' };
    return response.writeHead(200, headers).end(body);
}

/** Serves on `port` of 127.0.0.1: { port, cut, restore, close }. `to`: the server's `host:port`, of its WebSocket. */
export async function serve(port, to) {
    const [host, toPort] = to.split(':');
    const open = new Set();
    let isCut = false;
    const through = (request, socket, head) => {
        if (isCut) return socket.destroy();
        const there = connect(Number(toPort), host);
        for (const end of [socket, there]) {
            open.add(end);
            end.on('error', () => {});
            end.on('close', () => {
                open.delete(end);
                socket.destroy();
                there.destroy();
            });
        }
        there.write(`${request.method} ${request.url} HTTP/1.1\r\n`);
        for (let at = 0; at < request.rawHeaders.length; at += 2) there.write(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}\r\n`);
        there.write('\r\n');
        there.write(head);
        socket.pipe(there);
        there.pipe(socket);
        return undefined;
    };
    const server = createServer((request, response) => {
        // To poll is to wait for answers: a page gets none here, and goes on with its WebSocket.
        if (request.url.startsWith('/v1/')) return void response.writeHead(503, { connection: 'close' }).end('only WebSocket goes through here\n');
        return void answer(request, response);
    });
    server.on('upgrade', through);
    await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
    return {
        port: server.address().port,
        /** Ends every connection to the server, and lets none through until `restore`. */
        cut() {
            isCut = true;
            for (const end of open) end.destroy();
        },
        restore() {
            isCut = false;
        },
        close() {
            for (const end of open) end.destroy();
            server.closeAllConnections();
            server.close();
        },
    };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const [port, to] = process.argv.slice(2);
    const { port: served } = await serve(Number(port), to);
    console.log(`http://127.0.0.1:${served}/`);
}
