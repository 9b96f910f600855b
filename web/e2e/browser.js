// A real Chromium, driven by the DevTools protocol over a pipe: JSON messages, each ended by NUL, on file descriptors 3 and 4.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const PROGRAM = process.env.RINGPOST_CHROMIUM ?? '/usr/bin/chromium';

const FLAGS = [
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--remote-debugging-pipe',
    '--window-size=1280,800',
];

/** What is waited for comes within so long, in milliseconds, on a machine that has much else to do. */
const PATIENCE_MS = 60_000;

export async function until(what, happened) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
        const value = await happened();
        if (value) return value;
        if (Date.now() > end) throw new Error(`it did not happen: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 25));
    }
}

/** A browser with a profile of its own. */
export class Browser {
    #child;
    #profile;
    #last = 0;
    #calls = new Map();
    #listeners = new Map();
    #rest = '';

    static async start() {
        const browser = new Browser();
        browser.#profile = await mkdtemp(join(tmpdir(), 'ringpost-chromium-'));
        browser.#child = spawn(PROGRAM, [...FLAGS, `--user-data-dir=${browser.#profile}`, 'about:blank'], {
            stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
        });
        browser.#child.stdio[4].setEncoding('utf8').on('data', (data) => browser.#onData(data));
        await browser.call('Browser.getVersion');
        return browser;
    }

    /** A command, for one page if `sessionId` is its. */
    call(method, params = {}, sessionId = undefined) {
        const id = ++this.#last;
        return new Promise((resolve, reject) => {
            this.#calls.set(id, { method, resolve, reject });
            this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
        });
    }

    onEvent(sessionId, listener) {
        this.#listeners.set(sessionId, listener);
    }

    /** A new tab. */
    async open(url) {
        const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' });
        const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
        const page = new Page(this, targetId, sessionId);
        await page.begin();
        if (url !== undefined) await page.go(url);
        return page;
    }

    /** A function that gives the value of an expression in a service worker, which from now on is not ended for idleness. */
    async insideWorker(url) {
        const { targetInfos } = await this.call('Target.getTargets');
        const { targetId } = targetInfos.find((of) => of.type === 'service_worker' && of.url === url);
        const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
        return async (expression) => {
            const asked = { expression, awaitPromise: true, returnByValue: true };
            const { result, exceptionDetails } = await this.call('Runtime.evaluate', asked, sessionId);
            if (exceptionDetails !== undefined) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
            return result.value;
        };
    }

    async close() {
        const ended = new Promise((resolve) => this.#child.once('exit', resolve));
        await this.call('Browser.close').catch(() => {});
        await ended;
        await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
    }

    #onData(data) {
        const parts = (this.#rest + data).split('\0');
        this.#rest = parts.pop();
        for (const part of parts) {
            const { id, result, error, ...event } = JSON.parse(part);
            const { method, resolve, reject } = this.#calls.get(id) ?? {};
            this.#calls.delete(id);
            if (error !== undefined) reject?.(new Error(`${method}: ${error.message}`));
            else resolve?.(result);
            if (event.method !== undefined) this.#listeners.get(event.sessionId)?.(event);
        }
    }
}

/** A tab. */
export class Page {
    /** What its scripts did not catch, or it was not allowed to do. */
    faults = [];
    /** Called with whatever its domains tell: their method, and its parameters. */
    onEvent = () => {};
    #browser;
    #target;
    #session;

    constructor(browser, target, session) {
        this.#browser = browser;
        this.#target = target;
        this.#session = session;
        browser.onEvent(session, ({ method, params }) => this.#onEvent(method, params));
    }

    async begin() {
        for (const domain of ['Page', 'Runtime', 'Log']) await this.call(`${domain}.enable`);
    }

    call(method, params) {
        return this.#browser.call(method, params, this.#session);
    }

    go(url) {
        return this.call('Page.navigate', { url });
    }

    /** The browser shows what the page announces, without asking. */
    allowNotices(origin) {
        return this.#browser.call('Browser.grantPermissions', { origin, permissions: ['notifications'] });
    }

    /** The value of an expression, which may be a promise. A page that is loaded anew meanwhile has none. */
    async evaluate(expression) {
        const { result, exceptionDetails } = await this.call('Runtime.evaluate', {
            expression,
            awaitPromise: true,
            returnByValue: true,
            userGesture: true,
        });
        if (exceptionDetails !== undefined)
            throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
        return result.value;
    }

    /** Waits until an expression is true. */
    waits(what, expression) {
        return until(what, () => this.evaluate(expression).catch(() => false));
    }

    /** Types as a person does, into what has the focus. */
    async type(text) {
        await this.call('Input.insertText', { text });
    }

    async press(key, more = {}) {
        const text = key === 'Enter' ? '\r' : undefined;
        const of = { key, code: key, windowsVirtualKeyCode: { Enter: 13, Escape: 27, ArrowUp: 38, ArrowDown: 40, Tab: 9 }[key], ...more };
        await this.call('Input.dispatchKeyEvent', { type: 'keyDown', text, ...of });
        await this.call('Input.dispatchKeyEvent', { type: 'keyUp', ...of });
    }

    /** How large it is, and in which theme: 'light' or 'dark'. */
    async look(width, height, theme) {
        await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 700 });
        await this.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: theme }] });
    }

    async picture() {
        const { data } = await this.call('Page.captureScreenshot', { format: 'png' });
        return Buffer.from(data, 'base64');
    }

    close() {
        return this.#browser.call('Target.closeTarget', { targetId: this.#target });
    }

    #onEvent(method, params) {
        this.onEvent(method, params);
        if (method === 'Runtime.exceptionThrown')
            this.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
        // A connection that is lost is no fault of the page.
        if (method === 'Log.entryAdded' && params.entry.level === 'error' && params.entry.source !== 'network')
            this.faults.push(params.entry.text);
    }
}
