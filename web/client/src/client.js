// What an application uses: one device, its connection and its store.
//
// Events come by `EventTarget`, as everything else in a browser does: several parts of a page listen to one client, each to what it shows,
// and a part that does not listen holds nothing up. An async iterator would have one reader and a queue, whose bound somebody would
// have to choose. Each event has what it says in `detail`, and comes after what it implies is in the store.
//
// The order of a turn: the session says what has happened, the store keeps it in one step, then the session may tell the server (a number
// leaves after it was kept, an entry is acknowledged after it was stored), and then the application hears of it.

import { placeOf } from './codec/entries.js';
import { PROVIDERS } from './codec/frames.js';
import { BACKOFF_MAX_MS, EVENTS_WAITING_MAX } from './limits.js';
import { Session } from './session.js';
import { nextMessageId, randomId } from './store/device.js';
import { MemoryStore } from './store/memory.js';
import { withFallback } from './transport/fallback.js';

/** Something that a client tells: `type` is that of the session's event, `detail` has its fields. */
export class RingpostEvent extends Event {
    constructor(type, detail) {
        super(type);
        this.detail = detail;
    }
}

/** Why a request was refused: `code` of SPEC 6. */
export class RequestRefused extends Error {
    constructor({ code, detail }) {
        super(`the server refused the request with code ${code}${detail === '' ? '' : `: ${detail}`}`);
        this.name = 'RequestRefused';
        this.code = code;
    }
}

/** A token itself would be good until it expires, and nobody could give a newer one then. */
export function checkProvider(token) {
    if (typeof token !== 'function') {
        throw new TypeError(`the token is a ${typeof token}: give a function that returns it, or a promise of it, as in () => token`);
    }
}

/**
 * A client that connects to `url` (`wss://host/v1/ws`, or what its transport takes) and goes on connecting until `close`.
 *
 * `token`: a function that gives a token, or a promise of one; it is called again when the server wants a newer one.
 * `options.store`: a MemoryStore by default. `options.device`: a bigint; by default one that the store has made at random.
 * `options.transport`: WebSocket by default, and long polling where that does not get through. `options.skip_above`: as in SPEC 8.8. `options.follows_redirects`: true by default.
 */
export async function connect(url, token, options = {}) {
    checkProvider(token);
    const { store = new MemoryStore(), transport = withFallback(), device, ...more } = options;
    const [kept, firstToken] = await Promise.all([store.load(), token()]);
    return new Client({ url, token, store, transport, kept, firstToken, device: device ?? kept.device, more });
}

export class Client extends EventTarget {
    #url;
    #token;
    #store;
    #transport;
    #session;
    #link;
    #timer;
    /** Events of the session that are not in the store yet. */
    #waiting = [];
    #isFlushing = false;
    /** Reading was stopped until the store has caught up; and whether its link had to be ended for that. */
    #isHeld = false;
    #isCut = false;
    /** The application wants no connection until `resume`. */
    #isSuspended = false;
    /** Up to where the log is in the store, or about to be. */
    #stored = 0;
    /** What the store has of that, or is about to: { position, epoch, since }; undefined: nothing. */
    #recorded;
    #isAskingForToken = false;
    #failure;
    /** By handle: { id, to, content, answer }, of messages without an answer. */
    #messages = new Map();
    #lastId = '';
    /** While the store is looked into for messages that others have put there: ids of such that were taken back already. */
    #isLooking = false;
    #cancelledAhead = new Set();
    /** By request: { resolve, reject, parts }. */
    #requests = new Map();
    #user;
    #ended;

    /** See `connect`. */
    constructor({ url, token, store, transport, kept, firstToken, device, more }) {
        super();
        this.#url = url;
        this.#token = token;
        this.#store = store;
        this.#transport = transport;
        this.#ended = deferred();
        this.#stored = kept.position ?? 0;
        this.#recorded = kept;
        const resume = kept.position === null ? (more.resume ?? { after: 0 }) : { after: kept.position };
        this.#session = new Session({
            ...more,
            device,
            token: firstToken,
            address: hostOf(url),
            resume,
            epoch: kept.epoch,
            since: kept.since,
            acknowledging: 'by_application',
            keeping: 'by_application',
            unanswered: kept.messages,
        });
        this.#session.unanswered.forEach(({ handle }, at) => {
            const { id, to, content } = kept.messages[at];
            this.#messages.set(handle, { id, to, content, answer: deferred() });
            this.#lastId = id;
        });
        // Whoever made it can listen first.
        queueMicrotask(() => this.#turn({ kind: 'tick' }));
    }

    /** Who the user is; undefined before the first welcome. */
    get user() {
        return this.#user;
    }

    get device() {
        return this.#session.device;
    }

    /** waiting, opening, greeting, ready, token, suspended or ended. */
    get phase() {
        return this.#session.phase;
    }

    /** The messages without an answer: { id, to, content }. */
    get unanswered() {
        return [...this.#messages.values()].map(({ id, to, content }) => ({ id, to, content }));
    }

    /** Entries of the log that the store has, from a seq on. */
    entries(from, limit) {
        return this.#store.entries(from, limit);
    }

    // ---- Messages. They are kept, and sent as soon and as often as it takes; each is in the log once ----

    /**
     * Takes a message for { user } or { group }. Gives its `id`, and `answer`: a promise of what becomes of it, an object with the `type`
     * accepted (with `seq`), refused (with `code`), cancelled, returned (with `why`) or dropped. Throws NotSent for what no server takes.
     * When the store fails, `answer` is rejected with why, and this throws it. When the client ends first, `answer` is rejected, too: the next
     * one that has the store sends the message.
     */
    send(to, content) {
        this.#checkNotFailed();
        const handle = this.#session.send(to, content);
        const message = { id: this.#nextId(), to, content, answer: deferred() };
        this.#messages.set(handle, message);
        this.#waiting.push({ type: 'queued', handle });
        this.#turn({ kind: 'tick' });
        return { id: message.id, answer: message.answer.promise };
    }

    text(to, text) {
        return this.send(to, { text });
    }

    /** Answers a message, named by its author and its seq in the author's log, or in the group's. */
    reply(to, { author, author_seq, quote = '' }, text) {
        return this.send(to, { reply: { author, author_seq, quote, text } });
    }

    /** Says something else in a message of one's own: `seq` is where it stood first in the own log, or in the group's. */
    edit(to, seq, content) {
        return this.send(to, { edit: { author: this.#me, author_seq: seq, content } });
    }

    /** Takes a message of one's own back. */
    unsend(to, seq) {
        return this.send(to, { unsend: { author: this.#me, author_seq: seq } });
    }

    /** What one feels about a message; an empty `reaction` takes it back. */
    react(to, { author, author_seq }, reaction) {
        return this.send(to, { reaction: { author, author_seq, reaction } });
    }

    /** Somebody else has put a message into the store: it is sent as if it came by `send`. */
    look() {
        this.#waiting.push({ type: 'look' });
        this.#turn({ kind: 'tick' });
    }

    /** Takes back a message that has no answer yet: whether there is one, or may be in the store. Its answer says whether it was in time. */
    cancel(id) {
        const of = [...this.#messages].find(([, message]) => message.id === id);
        if (of === undefined && (this.#isLooking || this.#isToLook)) {
            this.#cancelledAhead.add(id);
            return true;
        }
        const isThere = of !== undefined && this.#session.cancel(of[0]);
        this.#turn({ kind: 'tick' });
        return isThere;
    }

    /** Begins a group; its id, and what became of the message. Members are added with `act(group, { act: 'add', user })`. */
    createGroup(name, { picture = '', rules = 0n } = {}) {
        const group = randomId();
        return { group, ...this.act(group, { act: 'create', name, picture, rules }) };
    }

    /** Does something to a group (SPEC 5.4.8). */
    act(group, act) {
        return this.send({ group }, { act });
    }

    get #me() {
        if (this.#user === undefined) throw new Error('who the user is, is not known yet; wait for the event `welcome`');
        return this.#user;
    }

    // ---- Requests. Each gives a promise of the fields of the frame that answers it, and is asked again over all connections ----

    /** A request by the name of its frame (SPEC 4). Throws NotSent; rejects with RequestRefused. */
    request(name, fields) {
        this.#checkNotFailed();
        const request = this.#session.fetch(name, fields);
        const answer = deferred();
        this.#requests.set(request, { ...answer, parts: [] });
        this.#turn({ kind: 'tick' });
        return answer.promise;
    }

    /** A page of the own log. */
    fetchLog({ from = 0, direction = 'backwards', limit = 50 } = {}) {
        return this.request('fetch_log', { from, direction, limit });
    }

    /** A page of a conversation; by default the newest. */
    fetchConversation(conversation, { from = 0, direction = 'backwards', limit = 50 } = {}) {
        return this.request('fetch_conversation', { conversation, from, direction, limit });
    }

    /** A page of the conversations with users. */
    fetchInbox({ before = 0, limit = 50 } = {}) {
        return this.request('fetch_inbox', { before, limit, messages: 0 });
    }

    fetchGroups({ after = 0n, limit = 100 } = {}) {
        return this.request('fetch_groups', { after, limit });
    }

    fetchMembers(group, { after = 0n, limit = 1000, seq = 0 } = {}) {
        return this.request('fetch_members', { group, after, limit, seq });
    }

    /** The user has read everything up to `seq`; `tell`: the other side may know. */
    markRead(conversation, seq, { tell = true } = {}) {
        return this.request('mark_read', { conversation, up_to: seq, tell });
    }

    setConversation(conversation, { set = 0n, cleared = 0n }) {
        return this.request('set_conversation', { conversation, set, cleared });
    }

    /** Deletes a message for this user alone. */
    deleteMessage(conversation, place) {
        return this.request('delete_message', { conversation, place });
    }

    fetchDevices() {
        return this.request('fetch_devices', {});
    }

    removeDevice(device) {
        return this.request('remove_device', { device });
    }

    nameDevice(device, name) {
        return this.request('name_device', { device, name });
    }

    // ---- Notifications ----

    /** How this device is subscribed, and what it needs to be: a page gives `server_key` to its browser's `subscribe`. */
    fetchSubscription() {
        return this.request('fetch_subscription', {});
    }

    /** Has notifications for this device sent there from now on. `key` and `secret` are `p256dh` and `auth` of a browser, else left out. */
    subscribe({ provider, show, address, key = new Uint8Array(), secret = new Uint8Array() }) {
        const number = PROVIDERS[provider];
        if (number === undefined) {
            throw new TypeError(`provider is ${String(provider)}; give one of: ${Object.keys(PROVIDERS).join(', ')}`);
        }
        return this.request('subscribe', { provider: number, show, address, key, secret });
    }

    /** This device wants no notifications any more. */
    unsubscribe() {
        return this.request('unsubscribe', {});
    }

    // ---- Presence and typing ----

    /** From now on these users are watched, and no others: `presence` tells of them. */
    watch(users) {
        this.#session.watch(users);
        this.#turn({ kind: 'tick' });
    }

    fetchPresence(users) {
        return this.request('fetch_presence', { users });
    }

    /** 'here' or 'away'. */
    setStatus(status) {
        this.#session.setStatus(status);
        this.#turn({ kind: 'tick' });
    }

    setVisibility({ set = 0n, cleared = 0n }) {
        return this.request('set_visibility', { set, cleared });
    }

    /** To be called with each key. */
    typing(conversation) {
        this.#session.typing(conversation);
        this.#turn({ kind: 'tick' });
    }

    // ---- The connection ----

    /** Somebody asks for another attempt now. */
    reconnectNow() {
        this.#session.reconnectNow();
        this.#turn({ kind: 'tick' });
    }

    /** Asks the server whether it is still there, instead of waiting for the next ping: after the network has changed. */
    probe() {
        this.#session.probe();
        this.#turn({ kind: 'tick' });
    }

    /** Ends the connection until `resume`: before the page stands still. */
    suspend() {
        this.#isSuspended = true;
        this.#goOnIfAllowed();
        this.#turn({ kind: 'tick' });
    }

    resume() {
        this.#isSuspended = false;
        this.#goOnIfAllowed();
        this.#turn({ kind: 'tick' });
    }

    /** Says bye, and settles when everything that has come is in the store, which is closed then. Messages without an answer stay there. */
    async close() {
        this.#session.close();
        this.#turn({ kind: 'tick' });
        await this.#ended.promise;
        await this.#store.close();
    }

    // ---- Turns ----

    #turn(input) {
        if (this.#failure !== undefined) return;
        const now = performance.now();
        const unwritten = this.#link?.buffered ?? 0;
        const { bytes, link, events } = this.#session.handle({ now, random: Math.random(), unwritten }, input);
        if (bytes !== null) this.#link?.write(bytes);
        if (link !== null) {
            this.#link?.close();
            this.#link = undefined;
        }
        this.#waiting.push(...events);
        if (link === 'open') this.#open();
        // What is held or let go changes when the next turn is due.
        this.#hold();
        this.#arm();
        if (!this.#isFlushing && this.#waiting.length > 0) this.#flush().catch((error) => this.#fail(error));
    }

    #open() {
        const lost = (words) => {
            this.#link = undefined;
            this.#turn({ kind: 'disconnected', words });
        };
        const ifCurrent = (then) => (what) => this.#link === link && then(what);
        let link;
        try {
            link = this.#transport(urlAt(this.#url, this.#session.address), {
                opened: ifCurrent(() => this.#turn({ kind: 'connected' })),
                bytes: ifCurrent((bytes) => this.#turn({ kind: 'bytes', bytes })),
                closed: ifCurrent(lost),
            });
        } catch (error) {
            // An address that cannot be read is one that cannot be reached (SPEC 8.11).
            queueMicrotask(() => this.#link === undefined && lost(`no connection can be made: ${error.message}`));
        }
        this.#link = link;
        if (this.#isHeld) link?.pause?.();
    }

    #arm() {
        clearTimeout(this.#timer);
        const now = performance.now();
        const deadline = this.#session.deadline(now);
        // A timer takes 31 bits.
        if (deadline !== undefined) this.#timer = setTimeout(() => this.#turn({ kind: 'tick' }), Math.min(Math.max(0, deadline - now), 2 ** 31 - 1));
    }

    /** Stops reading while the store is behind: what waits is bounded, and the server pushes at this client's pace. */
    #hold() {
        const isBehind = this.#waiting.length > EVENTS_WAITING_MAX;
        if (isBehind === this.#isHeld) return;
        this.#isHeld = isBehind;
        const isPausable = this.#link?.pause !== undefined;
        if (isPausable) this.#link[isBehind ? 'pause' : 'resume']();
        // A link that cannot stand still is ended, and resumed from what was stored.
        this.#isCut = isBehind && !isPausable;
        this.#goOnIfAllowed();
    }

    /** The session goes on if neither the application nor a store that is behind has stopped it. */
    #goOnIfAllowed() {
        if (this.#isSuspended || this.#isCut) this.#session.suspend();
        else this.#session.resume();
    }

    /** Everything that has happened goes into the store, then to the server, then to the application. */
    async #flush() {
        this.#isFlushing = true;
        while (this.#waiting.length > 0) {
            // Here nothing is about to be answered, so what the store has and this client has not is new.
            while (this.#isToLook) await this.#takeQueued();
            const events = this.#waiting.splice(0);
            const { changes, kept, position } = this.#changesOf(events);
            if (changes.length > 0) await this.#store.commit(changes);
            for (const { handle, number } of kept) this.#session.kept(handle, number);
            if (events.some(({ type }) => type === 'log_replaced')) this.#session.logDiscarded();
            if (position !== undefined) this.#session.acknowledge(position);
            for (const event of events) this.#tell(event);
            this.#turn({ kind: 'tick' });
        }
        this.#isFlushing = false;
        if (this.#session.phase === 'ended') this.#end();
    }

    get #isToLook() {
        return this.#waiting.some(({ type }) => type === 'look');
    }

    async #takeQueued() {
        this.#isLooking = true;
        this.#waiting = this.#waiting.filter(({ type }) => type !== 'look');
        const { messages } = await this.#store.load();
        const known = new Set([...this.#messages.values()].map(({ id }) => id));
        for (const { id, to, content } of messages.filter((message) => !known.has(message.id))) {
            try {
                const handle = this.#session.send(to, content);
                this.#messages.set(handle, { id, to, content, answer: deferred() });
                if (this.#cancelledAhead.has(id)) this.#session.cancel(handle);
            } catch (why) {
                // It stays, for whoever opens the store next.
                if (why.code === 'ended') return;
                await this.#store.commit([answeredChange({ id }, { type: 'returned', to, content, why })]);
                this.dispatchEvent(new RingpostEvent('returned', { id, to, content, why }));
            }
        }
        this.#isLooking = false;
        // What was not there has its answer. Another one may have come since the store was read.
        if (!this.#isToLook) this.#cancelledAhead.clear();
        this.#turn({ kind: 'tick' });
    }

    /** What events imply for the store, as one commit. */
    #changesOf(events) {
        const changes = [];
        const kept = [];
        let isMoved = false;
        for (const event of events) {
            const message = this.#messages.get(event.handle);
            switch (event.type) {
                case 'queued':
                    if (message !== undefined) changes.push(messageChange(message, null));
                    break;
                case 'numbered':
                    changes.push(messageChange(message, event.number));
                    if (event.number !== null) kept.push(event);
                    break;
                case 'accepted':
                case 'refused':
                case 'cancelled':
                case 'returned':
                    changes.push(answeredChange(message, event));
                    break;
                case 'skipped':
                    // What is held may have been changed in the gap, and is fetched anew (SPEC 8.8).
                    changes.push({ op: 'discard' });
                    this.#recorded = undefined;
                    isMoved = true;
                    break;
                case 'log_replaced':
                    this.#stored = 0;
                    this.#recorded = undefined;
                    changes.push({ op: 'discard' });
                    for (const handle of event.dropped) changes.push(answeredChange(this.#messages.get(handle), { type: 'dropped' }));
                    isMoved = true;
                    break;
                case 'entry':
                    changes.push({ op: 'entry', entry: event.entry });
                    isMoved = true;
                    break;
                case 'welcome':
                case 'epoch':
                    isMoved = true;
            }
        }
        const { position, epoch, since } = this.#session;
        // A session that is about to begin another log stands at 0 already; these events are of the old one.
        if (!isMoved || position === undefined || position < this.#stored) return { changes, kept };
        this.#stored = position;
        const known = this.#recorded;
        this.#recorded = { position, epoch, since };
        // A device that missed nothing has nothing to write down, and its first answers do not wait for that.
        if (known?.position !== position || known.epoch !== epoch || known.since !== since) changes.push({ op: 'position', ...this.#recorded });
        return { changes, kept, position };
    }

    #tell(event) {
        const { type, ...detail } = event;
        switch (type) {
            case 'queued':
                return;
            case 'welcome':
                this.#user = event.user;
                break;
            case 'accepted':
            case 'refused':
            case 'cancelled':
            case 'returned':
                detail.id = this.#answered(event.handle, event);
                break;
            case 'log_replaced':
                detail.dropped = event.dropped.map((handle) => this.#answered(handle, { type: 'dropped' }));
                break;
            case 'numbered':
                return;
            case 'entry':
                detail.place = placeOf(event.entry);
                break;
            case 'group_entry':
                this.#session.acknowledgeGroup(event.group, event.entry.seq);
                break;
            case 'answer':
                return this.#onAnswer(event);
            case 'fetch_refused':
                this.#requests.get(event.fetch)?.reject(new RequestRefused(event));
                this.#requests.delete(event.fetch);
                return;
            case 'token_expiring':
                this.#askForToken(0);
                break;
            case 'token_wanted':
                this.#askForToken(event.retry_in_ms);
                break;
        }
        this.dispatchEvent(new RingpostEvent(type, detail));
    }

    #answered(handle, event) {
        const message = this.#messages.get(handle);
        this.#messages.delete(handle);
        message.answer.resolve({ ...event, id: message.id });
        return message.id;
    }

    #onAnswer({ fetch, name, answer, isLast }) {
        if (name === 'group_page') {
            const last = answer.entries[answer.entries.length - 1];
            if (last !== undefined) this.#session.acknowledgeGroup(answer.group, last.seq);
        }
        const asked = this.#requests.get(fetch);
        if (asked === undefined) return;
        asked.parts.push(answer);
        if (!isLast) return;
        this.#requests.delete(fetch);
        asked.resolve(asked.parts.length === 1 ? answer : asked.parts);
    }

    /** Gets another token; as long as there is none, again after a while. */
    #askForToken(againInMs) {
        if (this.#isAskingForToken) return;
        this.#isAskingForToken = true;
        const ask = async () => this.#token();
        ask().then(
            (token) => {
                this.#isAskingForToken = false;
                this.#session.setToken(token);
                this.#turn({ kind: 'tick' });
            },
            (error) => {
                this.#isAskingForToken = false;
                this.dispatchEvent(new RingpostEvent('token_failed', { error }));
                const againMs = Math.min(Math.max(againInMs * 2, TOKEN_AGAIN_AFTER_MS), BACKOFF_MAX_MS);
                setTimeout(() => this.#session.phase !== 'ended' && this.#askForToken(againMs), againMs);
            },
        ).catch((error) => this.#fail(error));
    }

    #end() {
        clearTimeout(this.#timer);
        const closed = new Error('the client was closed before the answer came; connect anew and ask again');
        for (const { reject } of this.#requests.values()) reject(closed);
        this.#requests.clear();
        const left = new Error('the client was closed before the answer came; the message is in the store, and the next client sends it');
        for (const { answer } of this.#messages.values()) answer.reject(left);
        this.#ended.resolve();
    }

    /** The store failed, or a listener did: what would follow could not be kept, so nothing follows. */
    #fail(error) {
        if (this.#failure !== undefined) return;
        this.#failure = error;
        clearTimeout(this.#timer);
        this.#link?.close();
        this.#link = undefined;
        for (const { reject } of this.#requests.values()) reject(error);
        this.#requests.clear();
        // What the store has of them the next client sends.
        for (const { answer } of this.#messages.values()) answer.reject(error);
        this.dispatchEvent(new RingpostEvent('ended', { reason: { kind: 'failed', words: `the store failed: ${error.message}`, error } }));
        this.#ended.reject(error);
    }

    #checkNotFailed() {
        if (this.#failure !== undefined) throw this.#failure;
    }

    #nextId() {
        this.#lastId = nextMessageId(this.#lastId);
        return this.#lastId;
    }
}

/** A token provider that fails is not asked again sooner. */
export const TOKEN_AGAIN_AFTER_MS = 1_000;

const messageChange = ({ id, to, content }, number) => ({ op: 'message', id, number, to, content });

/** What became of a message is kept with that: the tab that sent it may be away when it is told. An error does not travel as what it is. */
function answeredChange({ id }, { handle: _, why, ...event }) {
    const answer = why === undefined ? { ...event, id } : { ...event, id, why: { code: why.code, message: why.message } };
    return { op: 'answered', id, answer };
}

const hostOf = (url) => new URL(url).host;

/** The URL of another node: the same but for its host and port. */
function urlAt(url, address) {
    const { protocol, pathname } = new URL(url);
    return `${protocol}//${address}${pathname === '/' ? '' : pathname}`;
}

function deferred() {
    let resolve;
    let reject;
    const promise = new Promise((onResolve, onReject) => {
        resolve = onResolve;
        reject = onReject;
    });
    // Whoever looks at it learns of a failure; nobody has to.
    promise.catch(() => {});
    return { promise, resolve, reject };
}
