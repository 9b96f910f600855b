// Serves the page as a Ringpost server does, but from the files as they are now, for who changes them.
//
//   node web/app/test/serve.js PORT HOST:PORT        the second one: where the server's WebSocket listens
//
// The upgrade to WebSocket goes on to the server as it is.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { extname, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const WEB = fileURLToPath(new URL('../..', import.meta.url));

export const POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "manifest-src 'self'",
    "worker-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
].join('; ');

const TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.svg': 'image/svg+xml',
    '.webmanifest': 'application/manifest+json',
};

/** The file of a path of the page; undefined: there is none. */
export function fileOf(path) {
    if (path === '/') return `${WEB}app/index.html`;
    if (path === '/service-worker.js') return `${WEB}app${path}`;
    const [, folder, rest] = /^\/(app|client)\/([\w./-]+)$/.exec(path) ?? [];
    if (folder === undefined || normalize(rest) !== rest || rest.startsWith('..') || rest.startsWith('test/')) return undefined;
    return folder === 'app' ? `${WEB}app/${rest}` : `${WEB}client/src/${rest}`;
}

async function answer(request, response) {
    const file = fileOf(new URL(request.url, 'http://page').pathname);
    const type = file === undefined ? undefined : TYPES[extname(file)];
    const body = type === undefined ? undefined : await readFile(file).catch(() => undefined);
    if (body === undefined) return response.writeHead(404).end('there is no such page\n');
    const headers = {
        'content-type': type,
        'content-security-policy': POLICY,
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
    };
    return response.writeHead(200, headers).end(body);
}

/** Serves on `port` of 127.0.0.1; `to`: the server's `host:port`, of its WebSocket. Gives the port. */
export async function serve(port, to) {
    const [host, toPort] = to.split(':');
    const server = createServer((request, response) => void answer(request, response));
    server.on('upgrade', (request, socket, head) => {
        const there = connect(Number(toPort), host);
        for (const [end, other] of [
            [socket, there],
            [there, socket],
        ]) {
            end.on('error', () => {});
            end.on('close', () => other.destroy());
        }
        there.write(`GET ${request.url} HTTP/1.1\r\n`);
        for (let at = 0; at < request.rawHeaders.length; at += 2)
            there.write(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}\r\n`);
        there.write('\r\n');
        there.write(head);
        socket.pipe(there);
        there.pipe(socket);
    });
    await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
    return server.address().port;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const [port, to] = process.argv.slice(2);
    console.log(`http://127.0.0.1:${await serve(Number(port), to)}/`);
}
