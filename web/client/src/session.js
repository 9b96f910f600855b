// The client's side of the protocol as a pure state machine: arguments in, effects out. No socket, no timer, no clock, no randomness.
//
// Owns the life of the connection: opening, greeting, keepalive, when to try again. What it knows about messages is in `session/outbox`,
// about the log in `session/position`, about requests in `session/fetches`.
//
//   waiting -> opening -> greeting -> ready     any of them -> waiting, token (another token is wanted), suspended, or ended

import { CLIENT_KINDS } from './codec/frames.js';
import { Framer, decode, encode } from './codec/framing.js';
import { isMessage } from './codec/content.js';
import { Refused, saturated, utf8Bytes } from './codec/bytes.js';
import { CODES, afterBye, codeName } from './codes.js';
import {
    ACKNOWLEDGE_AFTER_MS, ANEW_MAX, ANEW_WITHIN_MS, BACKOFF_LONG_MS, BACKOFF_MAX_MS, FETCH_AGAIN_AFTER_MS, MOMENT_MS, NAME_BYTES_MAX,
    OPEN_TIMEOUT_MS, PING_AFTER_MIN_MS, PING_AFTER_MS, PONG_TIMEOUT_MS, PRESENCE_USERS_MAX, PROTOCOL_VERSION, QUEUED_FETCHES_MAX,
    QUEUED_MESSAGES_MAX, REPLACED_MAX, REPLACED_WITHIN_MS, RETRY_AFTER_MAX_MS, SEND_WINDOW, STABLE_AFTER_MS, TEXT_BYTES_MAX, TOKEN_BYTES_MAX,
    UNWRITTEN_AGAIN_AFTER_MS, UNWRITTEN_BYTES_MAX, WATCHED_MAX, WELCOME_TIMEOUT_MS,
} from './limits.js';
import { Backoff } from './session/backoff.js';
import { Capabilities, NotSent, checkMessage, contentFault } from './session/capabilities.js';
import { Fetches, isFetch, isPlaced } from './session/fetches.js';
import { Nodes } from './session/nodes.js';
import { Outbox } from './session/outbox.js';
import { Position, checkGroupPage, checkPage } from './session/position.js';
import { Receipts } from './session/receipts.js';
import { Renewal } from './session/renewal.js';
import { Lately, Stop, notRingpost, protocolFault, retryAfter } from './session/stop.js';
import { Typing } from './session/typing.js';
import { Watching } from './session/watching.js';

export { NotSent };

/** Kinds of frames below it are never a server's (SPEC 4). */
const SERVER_KIND_MIN = 0x81;

/** One device of one user, through all its connections. */
export class Session {
    #device;
    #acknowledging;
    #renewal;
    #nodes;
    #phase = { name: 'waiting', openAt: 0 };
    #framer;
    #outbox;
    #position;
    #receipts = new Receipts();
    #fetches = new Fetches();
    #watching = new Watching();
    #typing = new Typing();
    /** Whether somebody looks at the application, and what this connection was told of that. */
    #status = 'here';
    #saidStatus = 'here';
    #backoff;
    /** A server's wish to be left alone until then. */
    #notBefore = 0;
    #textBytesMax = TEXT_BYTES_MAX;
    /** How another log was found, until the application is told; and how often it was told and has not yet discarded the old one. */
    #untold;
    #undiscarded = 0;
    #anew = new Lately();
    #replaced = new Lately();
    /** What the application wants: to go on, to be suspended, or to end. */
    #wish = 'go on';
    #lastNonce = 0n;
    #unaskedAnswers = 0;
    /** When to look whether the link has room again. */
    #roomAt;
    /** Of the turn that goes on. */
    #now = 0;
    #out;

    /**
     * device: bigint; token: string; address: `host:port` or whatever the link is opened with.
     * resume: 'stored' (where the server remembers this device), 'live', or { after: seq } with the `epoch` and `since` stored beside it.
     * skip_above: as in the hello. acknowledging: 'when_handed_out' or 'by_application' (`acknowledge`).
     * keeping: 'in_memory' or 'by_application' (each message leaves after `kept`). unanswered: what an earlier run left.
     */
    constructor({
        device, token, address, resume = 'stored', epoch = 0n, since = 0, skip_above = 0, acknowledging = 'when_handed_out',
        keeping = 'in_memory', unanswered = [], follows_redirects = true, backoff_max_ms = BACKOFF_MAX_MS,
    }) {
        if (typeof device !== 'bigint' || device <= 0n) throw new TypeError(`device is ${String(device)}; give a bigint that is not 0`);
        checkToken(token);
        this.#device = device;
        this.#acknowledging = acknowledging;
        this.#renewal = new Renewal(token);
        this.#nodes = new Nodes(address, follows_redirects);
        this.#outbox = new Outbox(keeping, unanswered);
        this.#position = new Position({ resume, epoch, since, skip_above, acknowledging });
        this.#backoff = new Backoff(backoff_max_ms);
    }

    // ---- What happens to the link, and time ----

    /**
     * One turn. `now`: milliseconds of a clock that never goes back. `random`: from 0 to 1. `unwritten`: bytes that the link has not
     * written yet. `input.kind`: 'connected', 'bytes' (with `bytes`, in any cut), 'disconnected' (with `words`), or 'tick'.
     *
     * Returns the effects: `bytes` to write, or null; then `link`: 'open' (to `address`; answer with 'connected' or 'disconnected'), 'close'
     * (after these bytes, if they can be written at once; no answer is expected), or null; and `events` for the application, in this order.
     */
    handle({ now, random, unwritten = 0 }, input) {
        this.#now = now;
        this.#out = { frames: [], bytes: 0, link: null, events: [] };
        try {
            this.#on(input);
            this.#endTurn(unwritten);
        } catch (stop) {
            if (!(stop instanceof Stop)) throw stop;
            this.#stop(stop, random);
        }
        const { frames, bytes, link, events } = this.#out;
        this.#out = undefined;
        return { bytes: bytes > 0 ? concatenated(frames, bytes) : null, link, events };
    }

    /** When the next tick is due if nothing else happens; undefined: never. */
    deadline(now) {
        const phase = this.#phase;
        if (phase.name === 'waiting') return phase.openAt;
        if (phase.name === 'opening' || phase.name === 'greeting') return phase.deadline;
        if (phase.name !== 'ready') return undefined;
        const times = [
            keepaliveDeadline(phase),
            phase.acknowledgeAt,
            phase.redirect?.due,
            this.#receipts.deadline,
            this.#outbox.deadline(now),
            this.#fetches.deadline(now),
            this.#renewal.deadline,
            this.#watching.deadline,
            this.#typing.deadline,
            this.#roomAt,
        ];
        return Math.min(...times.filter((time) => time !== undefined));
    }

    /** Where the link leads to, or the next one will. */
    get address() {
        return this.#nodes.address;
    }

    get device() {
        return this.#device;
    }

    /** waiting, opening, greeting, ready, token, suspended or ended. */
    get phase() {
        return this.#phase.name;
    }

    /** Everything up to here has been handed out; undefined before the first welcome, unless the application said where it was. */
    get position() {
        return this.#position.position;
    }

    get epoch() {
        return this.#position.epoch;
    }

    get since() {
        return this.#position.since;
    }

    /** The messages without an answer: { handle, number or null, to, content }. Also after the end. */
    get unanswered() {
        return this.#outbox.unanswered;
    }

    /** Answers that nothing had asked for. They are passed over; a number that grows points to a fault in the server. */
    get unaskedAnswers() {
        return this.#unaskedAnswers;
    }

    // ---- What the application asks for. It leaves with the next turn, so a tick follows ----

    /** Takes a message and gives its handle. Throws NotSent. */
    send(to, content) {
        this.#checkNotEnded();
        checkMessage(to, content, this.#textBytesMax);
        if (!isMessage(content) && content.act === undefined && this.#isReplacing) {
            throw new NotSent('other_log', 'the history was replaced, and the change names a message of the one before; look again');
        }
        const lacks = this.#phase.name === 'ready' ? this.#phase.server.lacks(to, content) : undefined;
        if (lacks !== undefined) throw lacks;
        const handle = this.#outbox.push(to, content);
        if (handle === undefined) {
            throw new NotSent('queue_full', `${QUEUED_MESSAGES_MAX} messages wait already; send again when some are answered`);
        }
        return handle;
    }

    /** Takes a message back that has no answer yet: whether there is one. It is answered with `cancelled`, or `accepted` if it was too late. */
    cancel(handle) {
        return this.#outbox.cancel(handle);
    }

    /** Makes a request, of a name and with the fields of its frame; gives the request, by which its answer is known. Throws NotSent. */
    fetch(name, fields) {
        this.#checkNotEnded();
        if (!isFetch(name)) throw new TypeError(`${name} is no request; SPEC 4 lists them`);
        checkCount(fields.users, PRESENCE_USERS_MAX);
        if (name === 'name_device' && utf8Bytes(fields.name).length > NAME_BYTES_MAX) {
            throw new NotSent('name_length', `the name has more than ${NAME_BYTES_MAX} bytes; shorten it`);
        }
        encode('client', name, { ...fields, request: 1 });
        if (this.#isReplacing && isPlaced(fields)) {
            throw new NotSent('other_log', 'the history was replaced, and this names a place in the one before; look again');
        }
        const request = this.#fetches.push(name, fields);
        if (request === undefined) {
            throw new NotSent('queue_full', `${QUEUED_FETCHES_MAX} requests wait already; ask again when some are answered`);
        }
        return request;
    }

    /** From now on these users are watched, and no others: `presence` tells of them, over all connections. */
    watch(users) {
        this.#checkNotEnded();
        checkCount(users, WATCHED_MAX);
        this.#watching.watch(users);
    }

    /** 'here': somebody looks at the application; 'away': nobody does. It holds over all connections. */
    setStatus(status) {
        this.#status = status;
    }

    /** Somebody types in this conversation: to be called with each key. */
    typing(conversation) {
        if (this.#phase.name === 'ready' && this.#phase.server.takesConversation(conversation)) this.#typing.want(conversation);
    }

    /** The application has stored everything up to `seq`: for `by_application`. */
    acknowledge(seq) {
        if (!this.#isReplacing) this.#position.confirm(seq);
    }

    /** The application has this entry of a group: for `by_application`. */
    acknowledgeGroup(group, seq) {
        if (!this.#isReplacing) this.#receipts.has(group, seq);
    }

    /** The application has everything that stands after `since` by now: it has fetched what was skipped. */
    filled(since) {
        if (!this.#isReplacing) this.#position.filled(since);
    }

    /** The application has stored that this message has this number: for `by_application`. */
    kept(handle, number) {
        this.#outbox.kept(handle, number);
    }

    /** The application has discarded what it held of the log, as `log_replaced` told it to. */
    logDiscarded() {
        this.#undiscarded = Math.max(0, this.#undiscarded - 1);
    }

    /** The token from now on: for the next connection, and for the one that is there, which goes on with it. */
    setToken(token) {
        checkToken(token);
        this.#renewal.begin(token);
        if (this.#phase.name === 'token') this.#phase = { name: 'waiting', openAt: this.#phase.openAt };
    }

    /** Somebody asks for another attempt now: it is made as soon as the server allows. */
    reconnectNow() {
        if (this.#phase.name === 'waiting') this.#phase.openAt = Math.min(this.#phase.openAt, this.#notBefore);
    }

    /** The network may have changed: asks the server whether it is still there, without waiting for silence. */
    probe() {
        if (this.#phase.name === 'ready') this.#phase.heardAt = -Infinity;
    }

    /** Says bye and has no connection until `resume`: nobody will be there to read. */
    suspend() {
        if (this.#wish === 'go on') this.#wish = 'be suspended';
    }

    resume() {
        if (this.#wish !== 'be suspended') return;
        this.#wish = 'go on';
        if (this.#phase.name === 'suspended') this.#phase = { name: 'waiting', openAt: this.#notBefore };
    }

    /** Says bye and stops with the next turn, whatever is still unanswered. */
    close() {
        this.#wish = 'end';
    }

    #checkNotEnded() {
        if (this.#phase.name === 'ended' || this.#wish === 'end') throw new NotSent('ended', 'the client has stopped; connect anew');
    }

    get #isReplacing() {
        return this.#untold !== undefined || this.#undiscarded > 0;
    }

    // ---- A turn ----

    #write({ name, fields }) {
        const frame = encode('client', name, fields);
        this.#out.frames.push(frame);
        this.#out.bytes += frame.length;
    }

    #tell(type, fields) {
        this.#out.events.push({ type, ...fields });
    }

    #on(input) {
        switch (input.kind) {
            case 'connected':
                return this.#onConnected();
            case 'bytes':
                return this.#onBytes(input.bytes);
            case 'disconnected':
                if (['opening', 'greeting', 'ready'].includes(this.#phase.name)) throw retryAfter({ kind: 'link', words: input.words });
                return undefined;
            case 'tick':
                return undefined;
            default:
                throw new TypeError(`no input is called ${input.kind}; give connected, bytes, disconnected or tick`);
        }
    }

    #onConnected() {
        if (this.#phase.name !== 'opening') return;
        this.#phase = { name: 'greeting', deadline: this.#now + WELCOME_TIMEOUT_MS };
        this.#framer = new Framer('server');
        const hello = {
            ...this.#position.hello,
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            device: this.#device,
            token: this.#renewal.tokenOfHello(),
            hops: this.#nodes.hops,
        };
        this.#write({ name: 'hello', fields: hello });
    }

    #onBytes(bytes) {
        // Without one there is no connection, and these bytes are what was left of the last one.
        const framer = this.#framer;
        if (framer === undefined) return;
        try {
            for (const frame of framer.frames(bytes)) this.#onRawFrame(frame);
        } catch (error) {
            if (!(error instanceof Refused)) throw error;
            throw this.#phase.name === 'greeting' ? foreign(bytes) : protocolFault(error.message);
        }
        if (this.#phase.name === 'ready') {
            this.#phase.hasProgressed ||= this.#out.events.some(({ type }) => type === 'accepted' || type === 'entry');
            this.#phase.heardAt = this.#now;
            this.#phase.pingedAt = undefined;
        }
        // Not waited for until it is whole, which it may never be.
        if (this.#phase.name === 'greeting' && framer.heldKind < SERVER_KIND_MIN) throw foreign(bytes);
    }

    #onRawFrame(raw) {
        if (this.#phase.name === 'greeting' && raw.kind < SERVER_KIND_MIN) throw foreign(raw.body);
        let frame;
        try {
            frame = decode('server', raw, saturated);
        } catch (error) {
            // A kind of a newer server, which promises that nothing is lost by passing it over.
            if (error instanceof Refused && error.error === 'unknown_kind') return;
            throw error instanceof Refused ? protocolFault(error.message) : error;
        }
        if (this.#phase.name === 'greeting') this.#onGreeting(frame);
        else if (this.#phase.name === 'ready') this.#onFrame(frame.name, frame.fields);
    }

    /** What is due by now, whatever the input was. */
    #endTurn(unwritten) {
        for (const handle of this.#outbox.takeCancelled()) this.#tell('cancelled', { handle });
        const phase = this.#phase;
        if (this.#wish !== 'go on' && phase.name !== 'ended' && phase.name !== 'suspended') {
            if (phase.name === 'ready') this.#sayBye();
            throw this.#wish === 'end'
                ? new Stop('end', { kind: 'closed', words: 'closed' })
                : new Stop('suspend', { kind: 'suspended', words: 'nobody looks, and the application is about to stand still' });
        }
        switch (phase.name) {
            case 'waiting':
                if (phase.openAt <= this.#now) {
                    this.#phase = { name: 'opening', deadline: this.#now + OPEN_TIMEOUT_MS };
                    this.#out.link = 'open';
                }
                return;
            case 'opening':
                if (phase.deadline <= this.#now) {
                    throw retryAfter({ kind: 'open_timeout', words: 'the server could not be reached in time' });
                }
                return;
            case 'greeting':
                if (phase.deadline <= this.#now) {
                    throw retryAfter({ kind: 'welcome_timeout', words: 'the server did not answer the hello in time' });
                }
                return;
            case 'ready':
                this.#endReadyTurn(phase, unwritten);
        }
    }

    #endReadyTurn(phase, unwritten) {
        const now = this.#now;
        if (phase.redirect !== undefined && phase.redirect.due <= now) {
            this.#sayBye();
            throw new Stop('redirect', redirected(phase.redirect), { redirect: phase.redirect });
        }
        this.#outbox.number(now, phase.window, (handle, number) => this.#tell('numbered', { handle, number }));
        const hasRoom = () => unwritten + this.#out.bytes < UNWRITTEN_BYTES_MAX;
        for (let frame; hasRoom() && (frame = this.#outbox.nextFrame(now, phase.window)); ) this.#write(frame);
        this.#roomAt = hasRoom() ? undefined : now + UNWRITTEN_AGAIN_AFTER_MS;
        for (const { request, lacks } of this.#fetches.takeUntaken(phase.server)) {
            this.#tell('fetch_refused', { fetch: request, code: CODES.unknown_kind, detail: hasNot(lacks) });
        }
        for (let frame; (frame = this.#fetches.nextFrame(now)); ) this.#write(frame);
        const refresh = this.#renewal.nextFrame(now);
        if (refresh !== undefined && phase.server.takesFrame('refresh')) this.#write(refresh);
        else if (refresh !== undefined) this.#onRefreshRefused(CODES.unknown_kind, 0, hasNot('refresh'));
        this.#sayPresence(phase);
        if (this.#position.unacknowledged !== undefined) {
            phase.acknowledgeAt ??= now + ACKNOWLEDGE_AFTER_MS;
            if (phase.acknowledgeAt <= now) this.#acknowledgeNow(phase);
        }
        if (phase.server.takesFrame('acknowledge_group')) for (const frame of this.#receipts.take(now)) this.#write(frame);
        this.#keepAlive(phase);
    }

    #sayPresence(phase) {
        const { server } = phase;
        for (const ended of this.#typing.ended(this.#now)) this.#tell('typing_ended', ended);
        for (const told of this.#watching.ended(this.#now)) this.#tell('presence', told);
        const watch = this.#watching.nextFrame(this.#now, () => this.#fetches.nextRequest());
        if (watch !== undefined && server.takesFrame('watch')) this.#write(watch);
        else if (watch !== undefined) this.#watching.refused(0, undefined);
        for (const frame of this.#typing.takeFrames(this.#now)) if (server.takesFrame('typing')) this.#write(frame);
        if (this.#status !== this.#saidStatus && server.takesFrame('set_status')) {
            this.#write({ name: 'set_status', fields: { status: this.#status } });
            this.#saidStatus = this.#status;
        }
    }

    #keepAlive(phase) {
        if (this.#out.bytes > 0) phase.spokeAt = this.#now;
        if (this.#now < keepaliveDeadline(phase)) return;
        if (phase.pingedAt !== undefined) throw retryAfter({ kind: 'silent', words: 'the server has fallen silent' });
        phase.pingedAt = this.#now;
        phase.spokeAt = this.#now;
        this.#write({ name: 'ping', fields: { nonce: ++this.#lastNonce } });
    }

    #sayBye() {
        this.#acknowledgeNow(this.#phase);
        if (this.#phase.server.takesFrame('acknowledge_group')) for (const frame of this.#receipts.takeAll()) this.#write(frame);
        this.#write({ name: 'bye', fields: {} });
    }

    #acknowledgeNow(phase) {
        phase.acknowledgeAt = undefined;
        const seq = this.#position.unacknowledged;
        if (seq === undefined) return;
        this.#write({ name: 'acknowledge', fields: { seq } });
        this.#position.acknowledged(seq);
    }

    // ---- The welcome, or what comes instead of it ----

    #onGreeting({ name, fields }) {
        switch (name) {
            case 'welcome':
                return this.#onWelcome(fields);
            case 'bye':
                return this.#onBye(fields);
            case 'redirect':
                return this.#onRedirectInstead(fields);
            case 'error':
                throw retryAfter(
                    { kind: 'protocol', words: `${codeName(fields.code)} before the welcome: ${fields.detail}` },
                    { retryAfterMs: fields.retry_after_ms },
                );
            default:
                throw protocolFault(`${name} before the welcome`);
        }
    }

    #onRedirectInstead(fields) {
        if (!this.#nodes.follows) throw protocolFault('a redirect to a client that follows none');
        const redirect = redirectOf(fields, this.#now);
        throw new Stop('redirect', redirected(redirect), { redirect });
    }

    #onWelcome(welcome) {
        if (welcome.version !== PROTOCOL_VERSION) {
            const words = `the server chose protocol version ${welcome.version}, which was not offered`;
            throw new Stop('end', { kind: 'version', words });
        }
        this.#renewal.welcome();
        if (this.#position.isBeyond(welcome.head)) {
            this.#beginAnew('other_log', `the log ends at ${welcome.head}, before what this device holds`);
        }
        const skippedAfter = this.#position.welcome(welcome);
        this.#nodes.welcome();
        this.#tellOfReplacement(welcome.last_number);
        // What was skipped is of the log that there is now.
        if (skippedAfter !== undefined) this.#tell('skipped', { after: skippedAfter, up_to: welcome.cursor });
        const server = new Capabilities(welcome);
        this.#outbox.connected(welcome.last_number, server.takesFrame('give_up'));
        this.#watching.connected();
        this.#saidStatus = 'here';
        this.#textBytesMax = Math.min(welcome.text_bytes_max, TEXT_BYTES_MAX);
        this.#phase = {
            name: 'ready',
            since: this.#now,
            server,
            // A window of 0 would be a client that never sends.
            window: Math.min(Math.max(welcome.send_window, 1), SEND_WINDOW),
            // Twice in the server's patience, so that one lost ping does not end the connection.
            pingAfterMs: Math.min(Math.max(welcome.idle_timeout_ms / 3, PING_AFTER_MIN_MS), PING_AFTER_MS),
            heardAt: this.#now,
            spokeAt: this.#now,
            pingedAt: undefined,
            acknowledgeAt: undefined,
            hasProgressed: false,
            redirect: undefined,
        };
        this.#tell('welcome', { ...welcome, device: this.#device, epoch: this.#position.epoch, address: this.#nodes.address });
        // What waited for a connection and is nothing for this server goes back before it gets a number.
        const why = (to, content) => contentFault(content, this.#textBytesMax) ?? server.lacks(to, content);
        for (const [{ handle, to, content }, reason] of this.#outbox.takeUntaken(why)) this.#tell('returned', { handle, to, content, why: reason });
        this.#settle();
    }

    /** The welcome to the new log, of which this is the device's last number. */
    #tellOfReplacement(lastNumber) {
        if (this.#untold === undefined) return;
        this.#tell('log_replaced', { detail: this.#untold, dropped: this.#outbox.dropChanges(lastNumber) });
        this.#untold = undefined;
        this.#undiscarded++;
        for (const fetch of this.#fetches.dropPlaced()) {
            this.#tell('fetch_refused', { fetch, code: CODES.other_log, detail: 'it names a place in a log that was replaced' });
        }
    }

    /** What the device holds is not the beginning of the log. It holds nothing from now on; unless that has not helped again and again. */
    #beginAnew(code, detail) {
        if (this.#anew.again(this.#now, ANEW_WITHIN_MS) >= ANEW_MAX) throw new Stop('end', refusedBy(CODES[code], detail));
        this.#position.beginAnew();
        this.#receipts.forget();
        this.#untold = detail;
        throw retryAfter({ kind: 'other_log', words: `the server's log is not the one that this device holds: ${detail}` });
    }

    // ---- What the server says in the state ready ----

    #onFrame(name, fields) {
        const phase = this.#phase;
        switch (name) {
            case 'accepted':
                return this.#onAccepted(fields);
            case 'refused':
                return this.#onRefused(fields);
            case 'given_up':
                if (!this.#outbox.givenUp(fields)) this.#unaskedAnswers++;
                return this.#settle();
            case 'deliver':
                if (this.#position.deliver(fields.entry)) this.#handOut(fields.entry);
                return undefined;
            case 'page':
                if (fields.request !== 0) {
                    checkPage(fields);
                    return this.#answer(name, fields);
                }
                for (const entry of this.#position.page(fields)) this.#handOut(entry);
                return undefined;
            case 'epoch':
                return this.#onEpoch(fields);
            case 'committed':
                return this.#tell('committed', fields);
            case 'group_page': {
                checkGroupPage(fields);
                const last = fields.entries[fields.entries.length - 1];
                if (last !== undefined) this.#handedOutOfGroup(fields.group, last.seq);
                return this.#answer(name, fields);
            }
            case 'inbox':
            case 'marked':
            case 'devices':
            case 'subscription':
            case 'digest':
            case 'groups':
            case 'members':
                return this.#answer(name, fields);
            case 'error':
                return this.#onError(fields);
            case 'ping':
                return this.#write({ name: 'pong', fields });
            // Any byte proves that the link lives; which ping this answers does not matter.
            case 'pong':
                return undefined;
            case 'bye':
                return this.#onBye(fields);
            case 'token_expiring':
                return this.#tell('token_expiring', fields);
            case 'refreshed':
                if (this.#renewal.accepted()) this.#tell('token_refreshed', fields);
                else this.#unaskedAnswers++;
                return undefined;
            case 'presence':
                return this.#onPresence(fields);
            case 'typing':
                return this.#onTyping(fields.conversation, fields);
            case 'typing_in_group':
                return this.#onTyping({ group: fields.group }, fields);
            case 'redirect':
                if (!this.#nodes.follows) throw protocolFault('a redirect to a client that follows none');
                phase.redirect = redirectOf(fields, this.#now);
                return undefined;
            case 'deliver_group': {
                const { group, entry } = fields;
                this.#handedOutOfGroup(group, entry.seq);
                this.#tell('group_entry', { group, entry });
                if (isMessage(entry.content)) this.#wrote({ group }, entry.from);
                return undefined;
            }
            case 'welcome':
                throw protocolFault('a second welcome');
            default:
                throw new Error(`a frame ${name} that the session does not handle`);
        }
    }

    #onAccepted({ number, seq, time, durability, recipient }) {
        const message = this.#outbox.accepted(number);
        if (message === undefined) {
            this.#unaskedAnswers++;
            return;
        }
        const { handle, to, content } = message;
        this.#tell('accepted', { handle, number, seq, time, durability, recipient });
        if (to.user !== undefined && recipient === 'offline') {
            const told = this.#watching.notThere(to.user);
            if (told !== undefined) this.#tell('presence', told);
        }
        if (this.#position.accepted(seq)) {
            const of = to.group === undefined ? { kind: 'sent', to: to.user } : { kind: 'sent_to_group', group: to.group };
            this.#tell('entry', { entry: { ...of, seq, time, device: this.#device, number, content } });
        }
        this.#settle();
    }

    #onRefused(refused) {
        const refusal = this.#outbox.refused(this.#now, refused);
        if (refusal === 'unasked') this.#unaskedAnswers++;
        else if (refusal !== 'later') this.#tell('refused', { handle: refusal, code: refused.code });
        this.#settle();
    }

    #settle() {
        const isSettled = this.#outbox.settle(this.#now, (handle, number) => this.#tell('numbered', { handle, number }));
        if (!isSettled) throw protocolFault('a number was refused that is used up');
    }

    #onEpoch({ first, epoch }) {
        switch (this.#position.epochBegins(first, epoch)) {
            case 'new':
                return this.#tell('epoch', { first, epoch });
            case 'again':
                return undefined;
            default:
                return this.#beginAnew('other_log', `an epoch that this device does not know begins at ${first}`);
        }
    }

    /** Hands out an entry that was pushed. With a message, its author does not type any more. */
    #handOut(entry) {
        this.#tell('entry', { entry });
        if (entry.kind === 'received' && isMessage(entry.content)) this.#wrote({ user: entry.from }, entry.from);
    }

    #handedOutOfGroup(group, seq) {
        if (this.#acknowledging === 'when_handed_out') this.#receipts.has(group, seq);
    }

    #wrote(conversation, user) {
        for (const ended of this.#typing.wrote(conversation, user)) this.#tell('typing_ended', ended);
    }

    #onTyping(conversation, { user, ends_in_ms: endsInMs }) {
        if (this.#typing.types(this.#now, conversation, user, endsInMs)) this.#tell('typing', { conversation, user });
    }

    #onPresence(presence) {
        const news = presence.request === 0 ? this.#watching.changed(presence.states) : this.#watching.answered(this.#now, presence);
        if (news === undefined) return this.#answer('presence', presence);
        for (const told of news) this.#tell('presence', told);
        return undefined;
    }

    /** Hands out the answer to what was asked for; one that nothing has asked for is counted. */
    #answer(name, fields) {
        const asked = this.#fetches.answered(name, fields);
        if (asked === undefined) this.#unaskedAnswers++;
        else this.#tell('answer', { fetch: fields.request, name, answer: fields, asked: asked.fields, isLast: asked.isLast });
    }

    #onError({ code, kind, request, retry_after_ms: retryAfterMs, detail }) {
        if (kind === CLIENT_KINDS.give_up && code === CODES.unknown_kind) {
            this.#outbox.giveUpIsUnknown();
            throw protocolFault('it does not know give_up, which its welcome told');
        }
        if (kind === CLIENT_KINDS.refresh) return this.#onRefreshRefused(code, retryAfterMs, detail);
        const againAt = retryAfterMs > 0 ? this.#now + Math.min(retryAfterMs, RETRY_AFTER_MAX_MS) : undefined;
        if (kind === CLIENT_KINDS.watch) {
            const wasAsked = this.#watching.refused(request, againAt);
            if (!wasAsked) this.#unaskedAnswers++;
            else if (againAt === undefined) this.#tell('server_error', { code, kind, detail });
            return undefined;
        }
        if (code === CODES.no_such_device && this.#fetches.wasRemovedBefore(request)) return undefined;
        const name = Object.keys(CLIENT_KINDS).find((known) => CLIENT_KINDS[known] === kind);
        const requests = request === 0 ? this.#fetches.inFlightOf(name) : [request];
        if (requests.length === 0) return this.#tell('server_error', { code, kind, detail });
        for (const fetch of requests) {
            if (againAt !== undefined) this.#fetches.putOff(fetch, againAt);
            // Another page has to come first; at most as many as there may be are on their way.
            else if (code === CODES.too_many_fetches) this.#fetches.putOff(fetch, this.#now + FETCH_AGAIN_AFTER_MS);
            else if (this.#fetches.refused(fetch)) this.#tell('fetch_refused', { fetch, code, detail });
            else this.#unaskedAnswers++;
        }
        return undefined;
    }

    #onRefreshRefused(code, retryAfterMs, detail) {
        let wasAsked;
        if (retryAfterMs > 0) {
            wasAsked = this.#renewal.putOff(this.#now + Math.min(retryAfterMs, RETRY_AFTER_MAX_MS));
        } else {
            // A server that does not know refreshes takes new tokens in a hello only.
            wasAsked = code === CODES.unknown_kind ? this.#renewal.notKnown() : this.#renewal.refused();
            if (wasAsked) this.#tell('token_refused', { code, detail });
        }
        if (!wasAsked) this.#unaskedAnswers++;
    }

    // ---- How a connection ends, and whether another one follows ----

    #onBye({ code, retry_after_ms: retryAfterMs, detail, devices }) {
        const reason = refusedBy(code, detail, devices);
        const then = afterBye(code, retryAfterMs);
        if (then === 'end') throw new Stop('end', reason);
        if (then === 'anew') this.#beginAnew(codeName(code), detail);
        if (code === CODES.replaced && this.#replaced.again(this.#now, REPLACED_WITHIN_MS) >= REPLACED_MAX) throw new Stop('end', reason);
        // It was the older token's fault: the next hello has the newer one.
        if (then === 'token' && !this.#renewal.hasNewer) throw new Stop('token', reason);
        throw retryAfter(reason, { retryAfterMs, isLong: then === 'long' });
    }

    #stop(stop, random) {
        const phase = this.#phase;
        const hadLink = ['opening', 'greeting', 'ready'].includes(phase.name);
        if (hadLink) this.#out.link = 'close';
        else this.#out.link = null;
        if (phase.name === 'ready' && this.#now - phase.since >= STABLE_AFTER_MS) this.#backoff.reset();
        this.#framer = undefined;
        this.#roomAt = undefined;
        this.#outbox.disconnected();
        this.#fetches.disconnected();
        for (const ended of this.#typing.disconnected()) this.#tell('typing_ended', ended);
        for (const told of this.#watching.disconnected()) this.#tell('presence', told);
        // A redirect that was to come is followed though the connection has ended before.
        const redirect = stop.redirect ?? (stop.then === 'retry' && !stop.isLong ? phase.redirect : undefined);
        if (redirect !== undefined) this.#follow(redirect, random);
        else this.#leave(stop, random, phase.name === 'ready');
    }

    #follow(redirect, random) {
        const phase = this.#phase;
        const wasMoment = phase.name === 'ready' && !phase.hasProgressed && this.#now - phase.since < MOMENT_MS;
        if (!this.#nodes.follow(redirect)) {
            this.#nodes.beginAgain();
            const words = `the nodes of the server do not agree on who serves this user: at last to ${redirect.address}`;
            return this.#wait(this.#backoff.delayMs(random, 0), 0, { kind: 'circle', words });
        }
        let waitMs = Math.max(0, redirect.due - this.#now);
        // Nodes that each send on who is welcome there must not make a loop at the speed of the network.
        if (wasMoment) waitMs = this.#backoff.delayMs(random, waitMs);
        return this.#wait(waitMs, redirect.due - this.#now, redirected(redirect));
    }

    #leave({ then, reason, retryAfterMs, isLong }, random, wasReady) {
        const isElsewhere = reason.code === CODES.elsewhere;
        // Before a welcome, only who has answered as the server keeps the client there (SPEC 8.11).
        const isSaidByTheNode = reason.kind === 'bye' || reason.kind === 'other_log';
        if (then === 'retry' && (isElsewhere || !(wasReady || isSaidByTheNode))) this.#nodes.beginAgain();
        switch (then) {
            case 'end':
                this.#phase = { name: 'ended' };
                return this.#tell('ended', { reason });
            case 'suspend':
                this.#phase = { name: 'suspended' };
                return this.#tell('disconnected', { reason, retry_in_ms: null });
            case 'token': {
                const delayMs = this.#backoff.delayMs(random, 0);
                this.#phase = { name: 'token', openAt: this.#now + delayMs };
                this.#tell('disconnected', { reason, retry_in_ms: null });
                return this.#tell('token_wanted', { reason, retry_in_ms: delayMs });
            }
            default: {
                const waitMs = isLong ? BACKOFF_LONG_MS : this.#backoff.delayMs(random, retryAfterMs);
                return this.#wait(waitMs, isLong ? 0 : retryAfterMs, reason);
            }
        }
    }

    #wait(waitMs, notBeforeMs, reason) {
        this.#phase = { name: 'waiting', openAt: this.#now + waitMs };
        this.#notBefore = this.#now + Math.max(0, Math.min(notBeforeMs, RETRY_AFTER_MAX_MS));
        this.#tell('disconnected', { reason, retry_in_ms: waitMs });
    }
}

function keepaliveDeadline({ pingedAt, heardAt, spokeAt, pingAfterMs }) {
    return pingedAt === undefined ? Math.min(heardAt, spokeAt) + pingAfterMs : pingedAt + PONG_TIMEOUT_MS;
}

function checkToken(token) {
    const size = typeof token === 'string' ? utf8Bytes(token).length : 0;
    if (size < 1 || size > TOKEN_BYTES_MAX) {
        throw new NotSent('token', `the token has ${size} bytes, 1 to ${TOKEN_BYTES_MAX} are allowed; get another one`);
    }
}

function checkCount(users, max) {
    if (users !== undefined && users.length > max) {
        throw new NotSent('too_many_users', `${users.length} users are too many for one request, at most ${max} are allowed`);
    }
}

const hasNot = (what) => `this server does not have \`${what}\``;

const redirectOf = ({ address, reason, after_ms: afterMs, map_version: mapVersion }, now) => ({
    address,
    reason,
    map_version: mapVersion,
    due: now + Math.min(afterMs, RETRY_AFTER_MAX_MS),
});

const redirected = ({ address, reason }) => ({ kind: 'redirected', address, why: reason, words: `another node serves this user: ${address}` });

const refusedBy = (code, detail, devices = []) => ({
    kind: 'bye',
    code,
    detail,
    devices,
    words: `the server closed the connection: ${codeName(code)}${detail === '' ? '' : ` (${detail})`}`,
});

/** What came instead of a welcome is no frame of a server. */
function foreign(bytes) {
    // An alert of TLS, of whatever version.
    return notRingpost(bytes[0] === 0x15 && bytes[1] === 0x03 ? 'it answers in TLS' : 'it answers in another protocol');
}

function concatenated(parts, size) {
    if (parts.length === 1) return parts[0];
    const whole = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
        whole.set(part, at);
        at += part.length;
    }
    return whole;
}
