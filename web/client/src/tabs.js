// Several tabs of one page, of which one leads: it has the connection, the others follow it by BroadcastChannel (see `lease.js` for who
// leads). Each tab has the same face, and hears the same events.
//
// A message of a follower goes into the store first, as an own one would, and the leader is told to look: so it is there once, whoever leads
// by then. Requests go to the leader, and again to the next one if it has gone: to ask twice does no harm.

import { RingpostEvent, checkProvider, connect } from './client.js';
import { LEASE_MS, RENEW_AFTER_MS, claimed, leads, released } from './lease.js';
import { TEXT_BYTES_MAX } from './limits.js';
import { checkMessage } from './session/capabilities.js';
import { nextMessageId } from './store/device.js';

const LEASE = 'lease';
/** What a leader tells its followers, as it is. */
const TOLD = [
    'welcome', 'disconnected', 'ended', 'entry', 'accepted', 'refused', 'cancelled', 'returned', 'committed', 'log_replaced', 'skipped', 'epoch',
    'group_entry', 'presence', 'typing', 'typing_ended', 'server_error', 'token_refused', 'token_failed',
];

/** What a follower may have its leader do. */
const CALLS = ['request', 'cancel', 'watch', 'typing', 'setStatus', 'reconnectNow', 'probe'];

export class Tabs extends EventTarget {
    #url;
    #token;
    #options;
    #store;
    #tab = nextMessageId('');
    #name;
    #locks;
    #channel;
    #clock;
    /** { client, term } while this tab leads. */
    #leading;
    #isStanding = false;
    #isClosed = false;
    #letGo;
    #timer;
    #lastId = '';
    #calls = new Map();
    #lastCall = 0;
    #user;

    /** As `connect`, with a store that all tabs share and a `name` for it. `locks`, `Channel` and `clock` are for tests. */
    constructor(url, token, { name, store, locks = navigator.locks, Channel = BroadcastChannel, clock = Date.now, ...options }) {
        super();
        checkProvider(token);
        this.#url = url;
        this.#token = token;
        this.#store = store;
        this.#options = options;
        this.#name = `ringpost ${name}`;
        this.#locks = locks;
        this.#clock = clock;
        this.#channel = new Channel(this.#name);
        this.#channel.onmessage = ({ data }) => this.#hear(data);
        this.#stand();
    }

    get isLeading() {
        return this.#leading !== undefined;
    }

    /** Who the user is; undefined before the first welcome that this tab heard of. */
    get user() {
        return this.#user;
    }

    /** As `Client.send`; it settles with the message's id when it is in the store. What becomes of it is told by an event with this id. */
    async send(to, content) {
        if (this.#leading !== undefined) return this.#leading.client.send(to, content).id;
        checkMessage(to, content, TEXT_BYTES_MAX);
        this.#lastId = nextMessageId(this.#lastId);
        await this.#store.commit([{ op: 'message', id: this.#lastId, number: null, to, content }]);
        this.#channel.postMessage({ look: true });
        return this.#lastId;
    }

    /** As `Client.request`. */
    request(name, fields) {
        return this.#call('request', [name, fields]);
    }

    cancel(id) {
        return this.#call('cancel', [id]);
    }

    watch(users) {
        return this.#call('watch', [users]);
    }

    typing(conversation) {
        return this.#call('typing', [conversation]);
    }

    setStatus(status) {
        return this.#call('setStatus', [status]);
    }

    reconnectNow() {
        return this.#call('reconnectNow', []);
    }

    probe() {
        return this.#call('probe', []);
    }

    entries(from, limit) {
        return this.#store.entries(from, limit);
    }

    /** This tab is about to stand still: another one may lead. */
    async suspend() {
        this.#isStanding = false;
        clearTimeout(this.#timer);
        await this.#stopLeading();
    }

    /** It goes on: it leads again when it can. */
    resume() {
        if (!this.#isClosed) this.#stand();
    }

    async close() {
        this.#isClosed = true;
        await this.suspend();
        this.#channel.close();
        for (const { reject } of this.#calls.values()) reject(new Error('the tab was closed before the answer came'));
        this.#calls.clear();
    }

    /** Wants to lead, as soon as nobody does. */
    #stand() {
        if (this.#isStanding) return;
        this.#isStanding = true;
        this.#locks.request(this.#name, () => this.#lead()).catch((error) => this.#onLockLost(error));
        this.#watchLease();
    }

    #watchLease() {
        clearTimeout(this.#timer);
        const afterMs = this.#leading === undefined ? LEASE_MS / 3 : RENEW_AFTER_MS;
        this.#timer = setTimeout(() => this.checkLease().finally(() => this.#isStanding && this.#watchLease()), afterMs);
    }

    /**
     * Renews the lease of a tab that leads. One that does not takes the lock from a leader whose lease is over: it stands still, or it would
     * have renewed it. A timer calls this.
     */
    async checkLease() {
        if (this.#leading !== undefined) return this.#renew();
        const lease = await this.#store.update(LEASE, (known) => known);
        if (lease === undefined || lease.until > this.#clock() || !this.#isStanding || this.#leading !== undefined) return undefined;
        this.#locks.request(this.#name, { steal: true }, () => this.#lead()).catch((error) => this.#onLockLost(error));
        return undefined;
    }

    /** Holds the lock as long as this tab leads. */
    async #lead() {
        if (!this.#isStanding || this.#leading !== undefined) return;
        const lease = await this.#store.update(LEASE, (known) => claimed(known, this.#tab, this.#clock()));
        if (!leads(lease, this.#tab, lease.term)) return;
        const { term } = lease;
        const only = { key: LEASE, holds: (known) => leads(known, this.#tab, term) };
        const guarded = {
            load: () => this.#store.load(),
            commit: (changes) => this.#store.commit(changes, only),
            entries: (...args) => this.#store.entries(...args),
            // It is this tab's, leading or not.
            close: async () => {},
        };
        const client = await connect(this.#url, this.#token, { ...this.#options, store: guarded });
        this.#leading = { client, term };
        for (const type of TOLD) client.addEventListener(type, ({ detail }) => this.#tellAll(type, detail));
        client.addEventListener('ended', ({ detail }) => detail.reason.kind === 'failed' && this.#stopLeading());
        this.#channel.postMessage({ leader: this.#tab });
        this.#askAgain();
        this.#watchLease();
        await new Promise((resolve) => (this.#letGo = resolve));
    }

    async #renew() {
        const { term } = this.#leading;
        const lease = await this.#store.update(LEASE, (known) => (leads(known, this.#tab, term) ? claimed(known, this.#tab, this.#clock()) : known));
        if (!leads(lease, this.#tab, term)) await this.#stopLeading();
    }

    async #stopLeading() {
        const leading = this.#leading;
        this.#leading = undefined;
        if (leading !== undefined) {
            await leading.client.close().catch(() => {});
            await this.#store.update(LEASE, (known) => (leads(known, this.#tab, leading.term) ? released(known, this.#tab) : known));
        }
        this.#letGo?.();
        this.#letGo = undefined;
    }

    /** The lock was taken from this tab, which had stood still; it stands for it again. */
    async #onLockLost(error) {
        await this.#stopLeading();
        if (!this.#isStanding) return;
        this.#isStanding = false;
        if (error.name === 'AbortError') this.#stand();
        else this.dispatchEvent(new RingpostEvent('ended', { reason: { kind: 'failed', words: error.message, error } }));
    }

    #tellAll(type, detail) {
        // An error does not travel as what it is.
        const told = detail.why instanceof Error ? { ...detail, why: { code: detail.why.code, message: detail.why.message } } : detail;
        this.#channel.postMessage({ type, detail: told });
        this.#tell(type, told);
    }

    #tell(type, detail) {
        if (type === 'welcome') this.#user = detail.user;
        this.dispatchEvent(new RingpostEvent(type, detail));
    }

    #call(name, args) {
        if (this.#leading !== undefined) return Promise.resolve(this.#leading.client[name](...args));
        const call = ++this.#lastCall;
        return new Promise((resolve, reject) => {
            this.#calls.set(call, { name, args, resolve, reject });
            this.#channel.postMessage({ call, from: this.#tab, name, args });
        });
    }

    /** There is another leader: what nobody has answered is asked of it, or done if it is this tab. */
    #askAgain() {
        for (const [call, { name, args, resolve, reject }] of this.#calls) {
            if (this.#leading === undefined) {
                this.#channel.postMessage({ call, from: this.#tab, name, args });
                continue;
            }
            this.#calls.delete(call);
            Promise.resolve()
                .then(() => this.#leading.client[name](...args))
                .then(resolve, reject);
        }
    }

    async #hear(said) {
        if (said.type !== undefined) return this.#tell(said.type, said.detail);
        if (said.leader !== undefined) return this.#askAgain();
        if (said.look !== undefined) return this.#leading?.client.look();
        if (said.to === this.#tab) {
            const asked = this.#calls.get(said.call);
            this.#calls.delete(said.call);
            if (said.error === undefined) asked?.resolve(said.value);
            else asked?.reject(Object.assign(new Error(said.error.message), { code: said.error.code }));
            return undefined;
        }
        if (said.from === undefined || this.#leading === undefined || !CALLS.includes(said.name)) return undefined;
        const answer = { to: said.from, call: said.call };
        try {
            answer.value = await this.#leading.client[said.name](...said.args);
        } catch ({ message, code }) {
            answer.error = { message, code };
        }
        return this.#isClosed ? undefined : this.#channel.postMessage(answer);
    }
}
