// Several tabs of one page, of which one leads: it has the connection, the others follow it by BroadcastChannel (see `lease.js` for who
// leads). Each tab has the same face, and hears the same events.
//
// A message goes into the store first, and the leader is told to look: so it is there once, whoever leads by then. Requests go to the leader, and again to the next one if it has gone: to ask twice does no harm. What a tab wishes, whom it watches
// and whether somebody looks at it, it says to each new leader, which does what all of them wish together.
//
// A page that is put away may run no more after its last event: what must be done then, `suspend` does before it waits for anything.

import { RingpostEvent, TOKEN_AGAIN_AFTER_MS, checkProvider, connect } from './client.js';
import { RENEW_AFTER_MS, claimed, isFree, leads, looksAfter, released, renewed } from './lease.js';
import { ANSWERS_KEPT_MAX, BACKOFF_MAX_MS, TEXT_BYTES_MAX, WATCHED_MAX } from './limits.js';
import { placeOf } from './codec/entries.js';
import { checkMessage } from './session/capabilities.js';
import { discardsIn } from './store/changes.js';
import { nextMessageId } from './store/device.js';
import { ahead } from './transport/ahead.js';
import { withFallback } from './transport/fallback.js';

const LEASE = 'lease';
/** The events that say what became of a message, besides `log_replaced`. */
const ANSWERS = ['accepted', 'refused', 'cancelled', 'returned'];
/** What a leader tells its followers, as it is. */
const TOLD = [
    'welcome', 'disconnected', 'ended', 'entry', 'accepted', 'refused', 'cancelled', 'returned', 'committed', 'log_replaced', 'skipped', 'epoch',
    'group_entry', 'presence', 'typing', 'typing_ended', 'server_error', 'token_expiring', 'token_wanted', 'token_refused', 'token_failed',
    'token_refreshed',
];

/** What a follower may have its leader do. */
const CALLS = ['request', 'cancel', 'typing', 'reconnectNow', 'probe'];

export class Tabs extends EventTarget {
    #url;
    #token;
    #options;
    #store;
    #tab = nextMessageId('');
    #name;
    #locks;
    /** Undefined while this tab stands still: a page that something is posted to is not kept in the back/forward cache. */
    #channel;
    #Channel;
    #clock;
    /** { client, term, state, presence, wishes } while this tab leads: what it told last of the connection and of whom, and what tabs wish. */
    #leading;
    /**
     * { letGo, released, isOut } while this tab wants to lead, or does: another object each time that it asks for the lock. isOut: it had the
     * lock while another tab had the lease, and waits for the lock no more.
     */
    #candidate;
    /** The lease as this tab has read it last. */
    #lease;
    /** Lets go of the lock that says that this tab lives. */
    #rest;
    #isClosed = false;
    /** Why this tab has ended, until it begins anew. */
    #failure;
    #timer;
    #lastId = '';
    #calls = new Map();
    #lastCall = 0;
    #user;
    #wishes = { status: undefined, watched: [] };
    /** Up to where this tab has heard the log, and how often that had been discarded; undefined until the store was asked. */
    #heard;
    #discards;
    /** By the id of a message that this tab sent, or that waited when it began: whether it has heard what became of it. */
    #isAnswered = new Map();
    /** What comes while the store is asked for what this tab has missed, and when that is done. */
    #held;
    #caughtUp = Promise.resolve();

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
        this.#Channel = Channel;
        this.#begin();
    }

    /** The types of all events. */
    static EVENTS = TOLD;

    get isLeading() {
        return this.#leading !== undefined;
    }

    /** Whether somebody looks at any tab, as far as the one that leads knows. */
    get isLookedAt() {
        return [...(this.#leading?.wishes.values() ?? [])].some(({ status }) => status === 'here');
    }

    /** Who the user is; undefined before the first welcome that this tab heard of. */
    get user() {
        return this.#user;
    }

    /** As `Client.send`; it settles with the message's id when it is in the store. What becomes of it is told by an event with this id. */
    async send(to, content) {
        checkMessage(to, content, TEXT_BYTES_MAX);
        // It could tell nobody to look.
        if (this.#failure !== undefined) throw this.#failure;
        const id = (this.#lastId = nextMessageId(this.#lastId));
        // What becomes of it may be told before this tab hears that it is stored.
        this.#expectAnswer(id);
        await this.#store.commit([{ op: 'message', id, number: null, to, content }]);
        if (this.#leading === undefined) this.#say({ look: true });
        else this.#leading.client.look();
        return id;
    }

    /** As `Client.request`. */
    request(name, fields) {
        return this.#call('request', [name, fields]);
    }

    cancel(id) {
        return this.#call('cancel', [id]);
    }

    typing(conversation) {
        return this.#call('typing', [conversation]);
    }

    reconnectNow() {
        return this.#call('reconnectNow', []);
    }

    probe() {
        return this.#call('probe', []);
    }

    /** Whom this tab shows. */
    watch(users) {
        this.#wish({ watched: users });
    }

    /** 'here' if somebody looks at this tab, else 'away'. */
    setStatus(status) {
        this.#wish({ status });
    }

    /** As `Client.entries`. What is stored after they were read is told: a tab that begins asks first up to where that is. */
    async entries(from, limit) {
        await this.#caughtUp;
        return this.#store.entries(from, limit);
    }

    /** This tab is about to stand still: another one may lead. */
    suspend() {
        this.#store.pause();
        // What is left of it is done when the tab goes on, and fails if another one leads by then, as it may.
        this.#stop().catch(() => {});
    }

    /** It goes on: it hears what it has missed, and leads again when it can. */
    resume() {
        this.#store.resume();
        if (!this.#isClosed && this.#candidate === undefined) this.#begin();
    }

    async close() {
        this.#isClosed = true;
        try {
            await this.#stop();
        } finally {
            this.#rejectCalls(closedError());
        }
    }

    #rejectCalls(error) {
        for (const { reject } of this.#calls.values()) reject(error);
        this.#calls.clear();
    }

    /** From now on this tab neither leads nor wants to. */
    async #stop() {
        if (this.#candidate === undefined) return;
        this.#say({ gone: this.#tab });
        this.#channel.close();
        this.#channel = undefined;
        clearTimeout(this.#timer);
        this.#rest?.();
        const { letGo } = this.#candidate;
        this.#candidate = undefined;
        letGo();
        await this.#stopLeading();
    }

    /** From now on this tab lives, and stands for the lead. */
    #begin() {
        this.#failure = undefined;
        this.#channel = new this.#Channel(this.#name);
        this.#channel.onmessage = ({ data }) => this.#hear(data);
        // It may be put away before it has the lock.
        const rests = new Promise((resolve) => (this.#rest = resolve));
        this.#locks.request(`${this.#name} ${this.#tab}`, () => rests).catch(() => {});
        this.#stand({});
        this.#lookIntoStore();
        this.#wish({});
        // What this tab stored in the moment in which it was put away, it said to nobody.
        this.#say({ look: true });
        this.#askAgain();
    }

    /** Wants to lead, as soon as nobody does. */
    #stand(options) {
        this.#candidate?.letGo();
        const candidate = {};
        candidate.released = new Promise((resolve) => (candidate.letGo = resolve));
        this.#candidate = candidate;
        // Who is put away while it is about to lead keeps nobody waiting: what it waits for may come when it goes on.
        const lead = async () => {
            try {
                await Promise.race([candidate.released, this.#lead(candidate)]);
            } catch (error) {
                // Whatever it is called, it does not say that the lock was lost.
                if (this.#candidate === candidate) await this.#onFailed(error);
            }
        };
        this.#locks.request(this.#name, options, lead).catch((error) => this.#onLockLost(candidate, error));
        this.#watchLease();
    }

    #watchLease() {
        clearTimeout(this.#timer);
        const afterMs = this.#leading === undefined ? looksAfter(this.#lease, this.#clock()) : RENEW_AFTER_MS;
        const again = () => this.#candidate !== undefined && this.#watchLease();
        this.#timer = setTimeout(() => this.checkLease().catch((error) => this.#onFailed(error)).finally(again), afterMs);
    }

    /**
     * Renews the lease of a tab that leads. One that does not takes the lock from a leader whose lease is over: it stands still, or it would
     * have renewed it. A timer calls this.
     */
    async checkLease() {
        const living = await this.#living();
        if (this.#leading !== undefined) return this.#renew(living);
        const lease = await this.#store.update(LEASE, (known) => known);
        this.#lease = lease;
        if (lease === undefined || this.#candidate === undefined || this.#leading !== undefined) return undefined;
        if (isFree(lease, living, this.#clock())) this.#stand({ steal: true });
        else this.#standAgain();
        return undefined;
    }

    /** Waits for the lock if this tab does not. */
    #standAgain() {
        if (this.#candidate?.isOut) this.#stand({});
    }

    /** The tabs that have not ended nor been put away, as their locks say. */
    async #living() {
        const start = `${this.#name} `;
        const { held } = await this.#locks.query();
        return new Set(held.filter(({ name }) => name.startsWith(start)).map(({ name }) => name.slice(start.length)));
    }

    /** Holds the lock as long as this tab leads. */
    async #lead(candidate) {
        if (this.#candidate !== candidate || this.#leading !== undefined) return;
        // Who has the lock leads almost always: the connection is made while the store says so.
        const link = ahead(this.#options.transport ?? withFallback(), this.#url);
        candidate.released.then(() => link.drop());
        try {
            await this.#leadOver(link.transport, candidate);
        } finally {
            link.drop();
        }
    }

    async #leadOver(transport, candidate) {
        const isOver = () => this.#candidate !== candidate;
        const living = await this.#living();
        const lease = await this.#store.update(LEASE, (known) => claimed(known, this.#tab, living, this.#clock()));
        if (isOver()) return;
        if (!leads(lease, this.#tab, lease.term)) {
            // Who has it asks for the lock again, so this tab lets go of it until then, or until the lease is over.
            candidate.isOut = true;
            this.#lease = lease;
            return void this.#watchLease();
        }
        const { term } = lease;
        // Who leads no more tells nobody what it stores: the next one does.
        const only = { key: LEASE, holds: (known) => !isOver() && leads(known, this.#tab, term) };
        // Nobody else discards while this tab leads.
        let discards;
        const guarded = {
            load: async () => {
                const kept = await this.#store.load();
                ({ discards } = kept);
                return kept;
            },
            commit: async (changes) => {
                await this.#store.commit(changes, only);
                discards += discardsIn(changes);
            },
            entries: (...args) => this.#store.entries(...args),
            // It is this tab's, leading or not.
            close: async () => {},
        };
        let isFirst = true;
        const token = () => {
            if (!isFirst) return this.#token();
            isFirst = false;
            return this.#firstToken(candidate);
        };
        const client = await connect(this.#url, token, { ...this.#options, transport, store: guarded });
        if (isOver()) return void (await client.close());
        const leading = { client, term, state: undefined, presence: new Map(), wishes: new Map([[this.#tab, this.#wishes]]) };
        this.#leading = leading;
        const onTold = ({ type, detail }) => this.#leading === leading && this.#onTold(type, detail, discards);
        for (const type of TOLD) client.addEventListener(type, onTold);
        this.#say({ leader: this.#tab });
        // What others have stored while this tab was about to lead, nobody heard of.
        client.look();
        this.#lookIntoStore();
        this.#doWishes();
        this.#askAgain();
        this.#watchLease();
        await candidate.released;
    }

    /** The token to lead with. As long as there is none, it is asked for again after a while: another tab would not have one either. */
    async #firstToken(candidate) {
        for (let againMs = TOKEN_AGAIN_AFTER_MS; ; againMs = Math.min(againMs * 2, BACKOFF_MAX_MS)) {
            try {
                return await this.#token();
            } catch (error) {
                if (this.#candidate !== candidate) throw error;
                this.#onTokenFailed({ error });
                await atMost(againMs, candidate.released);
                if (this.#candidate !== candidate) throw error;
            }
        }
    }

    /** Not all that a provider throws can be posted: a response of `fetch` can not. So others are told its name and message. */
    #onTokenFailed({ error }) {
        const [name, message] = [String(error?.name ?? 'Error'), String(error?.message ?? error)];
        this.#say({ type: 'token_failed', detail: { error: { name, message } } });
        this.#tell('token_failed', { error });
    }

    async #renew(living) {
        const { term, wishes } = this.#leading;
        for (const tab of wishes.keys()) if (!living.has(tab) && tab !== this.#tab) this.#onGone(tab);
        const lease = await this.#store.update(LEASE, (known) => renewed(known, this.#tab, term, this.#clock()));
        if (!leads(lease, this.#tab, term)) await this.#onLeaseLost();
    }

    async #stopLeading() {
        const leading = this.#leading;
        if (leading === undefined) return;
        this.#leading = undefined;
        await leading.client.close().catch(() => {});
        await this.#store.update(LEASE, (known) => (leads(known, this.#tab, leading.term) ? released(known, this.#tab) : known));
    }

    /** Another tab has taken the lock from this one, which had stood still; it stands for it again. */
    async #onLockLost(candidate, error) {
        if (this.#candidate !== candidate) return;
        if (error.name !== 'AbortError') return this.#onFailed(error);
        this.#stand({});
        await this.#stopLeading();
    }

    /** The same, when the store was the first to say so. */
    async #onLeaseLost() {
        if (this.#candidate !== undefined) this.#stand({});
        await this.#stopLeading();
    }

    /** This tab can not lead, and another one may. */
    async #onFailed(error) {
        if (this.#candidate === undefined) return;
        this.#failure = error;
        this.#rejectCalls(error);
        await this.#stop().catch(() => {});
        this.#tell('ended', { reason: { kind: 'failed', words: error.message, error } });
    }

    // ---- What tabs tell each other ----

    #say(what) {
        this.#channel?.postMessage(what);
    }

    /** `discards`: how often the log had been discarded when this was told. */
    #onTold(type, detail, discards) {
        if (type === 'ended' && detail.reason.kind === 'failed') {
            const { error } = detail.reason;
            const isLost = error?.name === 'CommitRefused';
            return void (isLost ? this.#onLeaseLost() : this.#onFailed(error)).catch(() => {});
        }
        if (type === 'token_failed') return this.#onTokenFailed(detail);
        // An error does not travel as what it is.
        const told = detail.why instanceof Error ? { ...detail, why: { code: detail.why.code, message: detail.why.message } } : detail;
        if (['welcome', 'disconnected', 'token_wanted', 'ended'].includes(type)) this.#leading.state = { type, detail: told };
        if (type === 'presence') this.#leading.presence.set(told.user, told);
        this.#say({ type, detail: told, discards });
        return this.#tell(type, told, discards);
    }

    #tell(type, detail, discards) {
        if (this.#held !== undefined) return void this.#held.push([type, detail, discards]);
        if (type === 'welcome') this.#user = detail.user;
        if (type === 'entry') {
            // It was told already, or is of a log that is discarded by now.
            if (detail.entry.seq <= this.#heard || discards < this.#discards) return undefined;
            this.#heard = detail.entry.seq;
        }
        if (type === 'log_replaced') this.#heard = 0;
        if (type === 'skipped') this.#heard = detail.up_to;
        if (type === 'log_replaced' || type === 'skipped') this.#discards = discards;
        if (ANSWERS.includes(type) && !this.#isNews(detail.id)) return undefined;
        const isReplaced = type === 'log_replaced';
        const news = isReplaced ? { ...detail, dropped: detail.dropped.filter((id) => this.#isNews(id)) } : detail;
        this.dispatchEvent(new RingpostEvent(type, news));
        return undefined;
    }

    #expectAnswer(id) {
        this.#isAnswered.set(id, false);
        if (this.#isAnswered.size <= ANSWERS_KEPT_MAX) return;
        const [oldest] = [...this.#isAnswered].find(([, isAnswered]) => isAnswered) ?? [];
        this.#isAnswered.delete(oldest);
    }

    /** Whether this tab has not heard yet what became of this message; now it has. */
    #isNews(id) {
        const isAnswered = this.#isAnswered.get(id);
        if (isAnswered === false) this.#isAnswered.set(id, true);
        return isAnswered !== true;
    }

    /** Whoever led before may have stored what it did not come to tell. One after the other: this tab may stand still meanwhile. */
    #lookIntoStore() {
        this.#caughtUp = this.#caughtUp.then(() => this.#catchUp()).catch((error) => this.#onFailed(error));
    }

    /** Tells what other tabs have stored and this one has not heard. A tab that begins has missed nothing: it reads what it shows. */
    async #catchUp() {
        const told = [];
        this.#held = [];
        try {
            const { position, discards, messages } = await this.#store.load();
            const [after, last] = [this.#heard, position ?? 0];
            if (after === undefined) {
                [this.#heard, this.#discards] = [last, discards];
                for (const { id } of messages) if (!this.#isAnswered.has(id)) this.#expectAnswer(id);
            }
            // As always, an answer comes before the entry that it stands for.
            const { answers, dropped } = await this.#missedAnswers();
            told.push(...answers);
            if (dropped.length > 0) told.push(['log_replaced', { detail: 'it was replaced while this tab was away', dropped }, discards]);
            if (this.#discards !== discards) {
                // What was heard may be of another log, whatever its seqs are.
                told.push(['skipped', { after: 0, up_to: last }, discards]);
            } else if (after !== undefined) {
                const missed = await this.#store.entries(after + 1);
                told.push(...missed.map((entry) => ['entry', { entry, place: placeOf(entry) }, discards]));
            }
        } finally {
            told.push(...this.#held);
            this.#held = undefined;
            for (const news of told) this.#tell(...news);
        }
    }

    /** What became of messages while nobody told it to this tab, as events; and those that went with a log that was replaced. */
    async #missedAnswers() {
        if (![...this.#isAnswered.values()].includes(false)) return { answers: [], dropped: [] };
        const missed = (await this.#store.answers()).filter(({ id }) => this.#isAnswered.get(id) === false);
        const answers = missed.filter(({ type }) => type !== 'dropped').map(({ type, ...detail }) => [type, detail]);
        return { answers, dropped: missed.filter(({ type }) => type === 'dropped').map(({ id }) => id) };
    }

    #wish(news) {
        this.#wishes = { ...this.#wishes, ...news };
        if (this.#candidate === undefined) return;
        if (this.#leading === undefined) return void this.#say({ wishes: this.#wishes, of: this.#tab });
        this.#leading.wishes.set(this.#tab, this.#wishes);
        this.#doWishes();
    }

    /** Somebody looks if anybody does, and each is watched whom any tab shows, as far as a server takes it. */
    #doWishes() {
        const { client, wishes, presence } = this.#leading;
        const all = [...wishes.values()];
        const watched = new Set(all.flatMap((of) => of.watched).slice(0, WATCHED_MAX));
        for (const user of presence.keys()) if (!watched.has(user)) presence.delete(user);
        client.watch([...watched]);
        const said = all.map(({ status }) => status).filter((status) => status !== undefined);
        if (said.length > 0) client.setStatus(said.includes('here') ? 'here' : 'away');
    }

    /** Says to a tab that comes what was told before. */
    #greet(tab, { watched }) {
        const { wishes, state, presence } = this.#leading;
        const known = wishes.get(tab);
        if (known === undefined && state !== undefined) this.#say({ ...state, only: tab });
        const others = watched.filter((user) => presence.has(user) && !known?.watched.includes(user));
        for (const user of others) this.#say({ type: 'presence', detail: presence.get(user), only: tab });
    }

    #onGone(tab) {
        this.#leading.wishes.delete(tab);
        this.#doWishes();
        // It may have stored a message and come no more to say so.
        this.#leading.client.look();
    }

    async #call(name, args) {
        const leading = this.#leading;
        try {
            if (leading !== undefined) return await leading.client[name](...args);
        } catch (error) {
            // Who was put away meanwhile asks the one who leads now.
            if (this.#leading === leading) throw error;
        }
        if (this.#isClosed) throw closedError();
        if (this.#failure !== undefined) throw this.#failure;
        if (this.#leading !== undefined) return this.#call(name, args);
        const call = ++this.#lastCall;
        return new Promise((resolve, reject) => {
            this.#calls.set(call, { name, args, resolve, reject });
            this.#say({ call, from: this.#tab, name, args });
        });
    }

    /** There is another leader: what nobody has answered is asked of it, or done if it is this tab. */
    #askAgain() {
        for (const [call, { name, args, resolve, reject }] of this.#calls) {
            if (this.#leading === undefined) {
                this.#say({ call, from: this.#tab, name, args });
                continue;
            }
            this.#calls.delete(call);
            this.#call(name, args).then(resolve, reject);
        }
    }

    async #hear(said) {
        if (said.only !== undefined && said.only !== this.#tab) return undefined;
        if (said.type === 'token_failed') {
            const { name, message } = said.detail.error;
            return this.#tell(said.type, { error: Object.assign(new Error(message), { name }) });
        }
        if (said.type !== undefined) return this.#tell(said.type, said.detail, said.discards);
        if (said.leader !== undefined) {
            this.#standAgain();
            this.#lookIntoStore();
            this.#wish({});
            return this.#askAgain();
        }
        if (said.to === this.#tab) return this.#onAnswer(said);
        const leading = this.#leading;
        if (leading === undefined) return said.gone === undefined ? undefined : this.#standAgain();
        if (said.look !== undefined) return leading.client.look();
        if (said.gone !== undefined) return this.#onGone(said.gone);
        if (said.wishes !== undefined) {
            this.#greet(said.of, said.wishes);
            leading.wishes.set(said.of, said.wishes);
            return this.#doWishes();
        }
        if (said.from === undefined || !CALLS.includes(said.name)) return undefined;
        const answer = { to: said.from, call: said.call };
        try {
            answer.value = await leading.client[said.name](...said.args);
        } catch ({ message, code }) {
            // Who led is put away: the next one is asked.
            if (this.#leading !== leading) return undefined;
            answer.error = { message, code };
        }
        return this.#say(answer);
    }

    #onAnswer({ call, value, error }) {
        const asked = this.#calls.get(call);
        this.#calls.delete(call);
        if (error === undefined) asked?.resolve(value);
        else asked?.reject(Object.assign(new Error(error.message), { code: error.code }));
    }
}

/** Settles when `promise` does, or after so long. */
function atMost(ms, promise) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const closedError = () => new Error('the tab was closed before the answer came');
