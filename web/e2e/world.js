// A real server, people with real browsers who use its page, and somebody at `ringpost chat`.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { codec, connect } from '../client/src/index.js';
import { tcp } from '../client/src/transport/tcp.js';
import { Browser, until } from './browser.js';
import { proxyTo } from './proxy.js';

const PROGRAM = process.env.RINGPOST_PROGRAM;

/** Ports of addresses that nobody else has, so that a server that is started again finds them free. */
const [LISTEN, WEBSOCKET] = [7700, 7780];
let worlds = 0;
const ownAddress = () => `127.${100 + worlds++}.${(process.pid >> 8) & 255}.${process.pid & 255}`;

/** An entry as a `deliver` carries it. */
const inHex = (entry) => Buffer.from(codec.encode('server', 'deliver', { entry })).toString('hex');

export class World {
    #folder = mkdtempSync(join(tmpdir(), 'ringpost-e2e-'));
    #address = ownAddress();
    #more;
    #server;
    #proxy;
    #browsers = [];
    #chats = [];
    #clients = [];

    /** `more`: of the server's configuration, beside its limits. */
    static async start(more = '') {
        const world = new World();
        world.#more = more;
        await world.startServer();
        world.#proxy = await proxyTo(world.#address, WEBSOCKET);
        return world;
    }

    /** Where the server's data lie. */
    get folder() {
        return join(this.#folder, 'data');
    }

    get origin() {
        return `http://127.0.0.1:${this.#proxy.port}`;
    }

    async startServer() {
        // Most tests are faster than people.
        const limits = ['device_sends_per_s', 'user_sends_per_s', 'opened_per_s', 'fetches_per_s', 'logins_per_s'].map(
            (key) => `${key} = 100000`,
        );
        const config = join(this.#folder, 'ringpost.toml');
        writeFileSync(config, `[limits]\n${limits.join('\n')}\n${this.#more}\n`);
        const flags = [
            '--config',
            config,
            '--data',
            this.folder,
            '--listen',
            `${this.#address}:${LISTEN}`,
            '--websocket-listen',
            `${this.#address}:${WEBSOCKET}`,
            '--admin-listen',
            'off',
            '--cores',
            '1',
        ];
        this.#server = spawn(PROGRAM, ['serve', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
        let said = '';
        this.#server.stderr.setEncoding('utf8').on('data', (data) => (said += data));
        await until('the server serves', () => {
            if (this.#server.exitCode !== null) throw new Error(`the server has ended:\n${said}`);
            return /\bserving\b/.test(said);
        });
    }

    /** Ends the server as a power cut would: `kill -9`. */
    async killServer() {
        const ended = new Promise((resolve) => this.#server.once('exit', resolve));
        this.#server.kill('SIGKILL');
        await ended;
    }

    cut() {
        this.#proxy.cut();
    }

    restore() {
        this.#proxy.restore();
    }

    breakWebSockets() {
        this.#proxy.breakWebSockets();
    }

    /** What a command says that works on the server's data. */
    command(...words) {
        return execFileSync(PROGRAM, [...words, '--data', this.folder], { encoding: 'utf8' }).trim();
    }

    token(user, ...more) {
        return this.command('token', '--user', String(user), ...more);
    }

    /** What signs a user in. */
    link(user) {
        return this.token(user, '--web', this.origin);
    }

    async browser() {
        const browser = await Browser.start();
        this.#browsers.push(browser);
        return browser;
    }

    /** Somebody in a browser of their own. `prepare`: called with the page before it is there. */
    async person(user, prepare = async () => {}) {
        const browser = await this.browser();
        const person = new Person(this, user, browser, await browser.open());
        await prepare(person.page);
        await person.page.go(this.link(user));
        await person.isConnected();
        return person;
    }

    /** A client of the library that connects by TCP, as another device unless one is named. */
    async client(user, device = undefined) {
        const options = { transport: tcp, resume: 'live', device };
        const client = await connect(`tcp://${this.#address}:${LISTEN}`, () => this.token(user), options);
        this.#clients.push(client);
        await new Promise((resolve) => client.addEventListener('welcome', resolve, { once: true }));
        return client;
    }

    /** Somebody at a terminal, from a pipe. */
    chat(user, to) {
        const file = join(this.#folder, `token-${user}`);
        writeFileSync(file, this.token(user), { mode: 0o600 });
        const chat = new Chat(
            spawn(PROGRAM, ['chat', '--token-file', file, '--to', String(to), '--device', '2', '--server', `${this.#address}:${LISTEN}`], {
                stdio: ['pipe', 'pipe', 'inherit'],
            }),
        );
        this.#chats.push(chat);
        return chat;
    }

    /** All entries of a user's log, as the server has it: hex of each as a `deliver` carries it, by its seq. */
    async log(user) {
        const client = await this.client(user);
        const log = new Map();
        for (let from = 1, more = true; more;) {
            const page = await client.fetchLog({ from, direction: 'forwards', limit: 500 });
            for (const entry of page.entries) log.set(entry.seq, inHex(entry));
            more = page.more;
            from = page.last + 1;
        }
        await client.close();
        return log;
    }

    async end() {
        for (const client of this.#clients) await client.close().catch(() => {});
        for (const chat of this.#chats) chat.end();
        for (const browser of this.#browsers) await browser.close();
        this.#proxy.close();
        if (this.#server.exitCode === null && this.#server.signalCode === null) await this.killServer();
        rmSync(this.#folder, { recursive: true, force: true });
    }
}

/** `ringpost chat`, from a pipe. */
class Chat {
    lines = [];
    #child;
    #rest = '';

    constructor(child) {
        this.#child = child;
        child.stdout.setEncoding('utf8').on('data', (data) => {
            const lines = (this.#rest + data).split('\n');
            this.#rest = lines.pop();
            this.lines.push(...lines);
        });
    }

    say(text) {
        this.#child.stdin.write(`${text}\n`);
    }

    /** The messages that it has, by their seqs; those that it sent itself it knows by what it was answered. */
    get texts() {
        const messages = this.lines.map((line) => /^(?:sent|received) \d+ (\d+) \S+ (.*)$/.exec(line)).filter((of) => of !== null);
        return new Map(messages.map(([, seq, text]) => [Number(seq), text]));
    }

    end() {
        this.#child.kill();
    }
}

/** Somebody who uses a page. */
export class Person {
    constructor(world, user, browser, page) {
        Object.assign(this, { world, user, browser, page });
    }

    isConnected() {
        return this.page.waits(`user ${this.user} is connected`, `document.querySelector('.app')?.dataset.connection === 'ready'`);
    }

    /** Another tab of the same browser. */
    async tab() {
        const person = new Person(this.world, this.user, this.browser, await this.browser.open(`${this.world.origin}/`));
        await person.isConnected();
        return person;
    }

    /** Opens a conversation, by its number if it is with a user. */
    async opens(user) {
        await this.page.evaluate(`location.hash = '#/user/${user}'`);
        await this.page.waits('the conversation is open', `document.querySelector('.app.has-open') !== null`);
    }

    async writes(text) {
        await this.page.evaluate(`document.querySelector('.composer textarea').focus()`);
        await this.page.type(text);
        await this.page.press('Enter');
    }

    /** Clicks what is called so. */
    async clicks(selector, name) {
        const found = `[...document.querySelectorAll(${JSON.stringify(selector)})].find((of) => (of.getAttribute('aria-label') ?? of.textContent).includes(${JSON.stringify(name)}))`;
        await this.page.waits(`there is ${selector} ${name}`, `${found} !== undefined`);
        await this.page.evaluate(`${found}.click()`);
    }

    /** Does something with the last message that says this. */
    async does(text, ...names) {
        const message = `[...document.querySelectorAll('.message')].findLast((of) => of.querySelector('.text').textContent === ${JSON.stringify(text)})`;
        await this.page.waits(`there is ${text}`, `${message} !== undefined`);
        await this.page.evaluate(`${message}.focus()`);
        for (const name of names) await this.clicks('.tools button', name);
    }

    /** What the open conversation says. */
    texts() {
        return this.page.evaluate(`[...document.querySelectorAll('.message .text')].map((of) => of.textContent)`);
    }

    /** The same, and which of it this person has written. */
    shown() {
        const said = "({ text: of.querySelector('.text').textContent, isMine: of.classList.contains('is-mine') })";
        return this.page.evaluate(`[...document.querySelectorAll('.message')].map((of) => ${said})`);
    }

    sees(text) {
        return this.page.waits(
            `user ${this.user} sees ${text}`,
            `[...document.querySelectorAll('.message .text')].some((of) => of.textContent === ${JSON.stringify(text)})`,
        );
    }

    /** Waits until a part of the page says this. */
    reads(selector, text) {
        return this.page.waits(
            `${selector} says ${text}`,
            `[...document.querySelectorAll(${JSON.stringify(selector)})].some((of) => of.textContent.includes(${JSON.stringify(text)}))`,
        );
    }

    /** The log that its browser holds, as `World.log` has it. */
    async held() {
        const entries = await this.page.evaluate(`(async () => {
            const answer = (request) => new Promise((resolve, reject) => {
                request.onsuccess = () => resolve(request.result);
                request.onerror = () => reject(request.error);
            });
            const opening = indexedDB.open('ringpost 1 ' + location.host + '/${this.user}');
            opening.onupgradeneeded = () => opening.transaction.abort();
            const database = await answer(opening);
            const entries = await answer(database.transaction('log').objectStore('log').getAll());
            database.close();
            return JSON.stringify(entries, (_, of) =>
                typeof of === 'bigint' ? { $bigint: String(of) } : of instanceof Uint8Array ? { $bytes: [...of] } : of);
        })()`);
        const revived = (_, of) =>
            of?.$bigint !== undefined ? BigInt(of.$bigint) : of?.$bytes !== undefined ? Uint8Array.from(of.$bytes) : of;
        return new Map(JSON.parse(entries, revived).map((entry) => [entry.seq, inHex(entry)]));
    }

    /** Waits until the browser holds all that the server has of the log, byte for byte. What was superseded since it came it holds beside it. */
    async holdsTheSame() {
        let differs;
        const isSame = async () => {
            const log = await this.world.log(this.user);
            const held = await this.held();
            differs = [...log].filter(([seq, entry]) => held.get(seq) !== entry);
            return differs.length === 0;
        };
        await until(`the browser of user ${this.user} holds what the server has`, isSame).catch((error) => {
            throw new Error(`${error.message}; it differs in ${JSON.stringify(differs.slice(0, 3))}`);
        });
    }
}
