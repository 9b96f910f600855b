// What the page knows and does, without anything that is shown: one account, its conversations, and the one that is looked at.
//
// `client` has the face of `Tabs`; its events come by `handle`. `changed` is called when there is something else to show, and may give a
// promise that settles when it is shown; `notice` is called with words for a person about something that they asked for and that went wrong.

import { conversationKey, conversationOf, isMessage } from '/client/index.js';
import { FOUND_MAX, PAGE_MESSAGES, THREADS_MAX, WATCHED_MAX } from '../limits.js';
import { Inbox, KEPT } from './inbox.js';
import { groupItems } from './group_items.js';
import { Thread } from './thread.js';
import * as words from './words.js';

/** The events that may say what became of a message, or stand in one order with them. */
const OF_MESSAGES = ['accepted', 'refused', 'cancelled', 'returned', 'log_replaced', 'skipped', 'entry', 'group_entry'];

export class Messenger {
    me;
    /** { state: 'connecting', 'ready', 'waiting', 'token', 'failed' or 'ended', words, againAt }. */
    connection = { state: 'connecting' };
    /** The conversation that is looked at, or undefined. */
    open;
    /** Where it was read up to when it was opened. */
    openedAt = 0;
    visibility = 0n;
    #client;
    #names;
    #now;
    #changed;
    #notice;
    #inbox;
    /** By key, in the order in which they were looked at. */
    #threads = new Map();
    /** By id: { id, to, content, time, accepted, failed } of what has no place in a log. */
    #waiting = new Map();
    #presence = new Map();
    /** By key: the users who type. */
    #typing = new Map();
    /** Up to where reading was told, by key. */
    #told = new Map();
    #isLoading = new Set();
    /** Settles when the list is loaded; undefined: nobody has asked for it. */
    #isListing;
    /** What an earlier page left, and messages that are being stored, of which it is not known here yet that they wait. */
    #unknown = 1;
    /** Those of OF_MESSAGES that came meanwhile. */
    #held = [];

    /** `names`: a Map from users to what the person calls them. */
    constructor({ me, client, names, changed, notice, now = Date.now }) {
        Object.assign(this, { me });
        this.#client = client;
        this.#names = names;
        this.#now = now;
        this.#changed = changed;
        this.#notice = notice;
        this.#inbox = new Inbox(
            (name, fields) => client.request(name, fields),
            () => this.#onList(),
        );
    }

    /** Begins, with the messages that an earlier page left without an answer. */
    start(unanswered) {
        for (const { id, to, content } of unanswered) this.#wait(id, to, content);
        this.#onKnown();
        this.#load();
    }

    // ---- What is shown ----

    get isLoaded() {
        return this.#inbox.isLoaded;
    }

    get names() {
        return this.#names;
    }

    get waitingCount() {
        return [...this.#waiting.values()].filter(({ failed }) => failed === undefined).length;
    }

    rows() {
        return this.#inbox.rows(this.me);
    }

    nameOf = (user) => (user === this.me ? 'You' : (this.#names.get(user) ?? `User ${user}`));

    titleOf({ user, group }) {
        if (group === undefined) return user === this.me ? 'Notes to self' : this.nameOf(user);
        return this.groupOf(group).row?.name || 'Group';
    }

    groupOf(group) {
        return this.#inbox.groups.get(group);
    }

    presenceOf(user) {
        return this.#presence.get(user);
    }

    typingIn(conversation) {
        return [...(this.#typing.get(conversationKey(conversation)) ?? [])];
    }

    settingsOf({ user, group }) {
        return group === undefined ? (this.#inbox.rowOf(user)?.settings ?? 0n) : this.groupOf(group).settings;
    }

    /** Why nobody can write there; undefined: one can. */
    lockOf({ user, group }) {
        if (group === undefined) {
            return (this.settingsOf({ user }) & KEPT.blocked) === 0n
                ? undefined
                : 'You have blocked them. Nothing that they write comes here.';
        }
        const { standing, row } = this.groupOf(group);
        if (row === undefined) return undefined;
        const isSilent = standing === 'member' && (row.rules & 2n) !== 0n && row.role === 'member';
        return isSilent ? 'Only admins write here.' : words.standing(standing);
    }

    /** The messages of the open conversation, as items; those that wait stand at the end. */
    items() {
        if (this.open === undefined) return [];
        const key = conversationKey(this.open);
        const held = this.open.group === undefined ? this.#threadOf(this.open).items : groupItems(this.groupOf(this.open.group), this.me);
        const waiting = [...this.#waiting.values()].filter(({ to, content }) => conversationKey(to) === key && isMessage(content));
        return [...held, ...waiting.map((of) => this.#itemOfWaiting(of))];
    }

    get hasOlder() {
        if (this.open === undefined) return false;
        return (this.open.group === undefined ? this.#threadOf(this.open).older : this.groupOf(this.open.group).older) !== undefined;
    }

    /** Messages with these words among those that are held: { conversation, item }, the newest first. */
    found(text) {
        const wanted = text.toLocaleLowerCase();
        const all = [];
        for (const [key, thread] of this.#threads) {
            const conversation = { user: BigInt(key.slice('user '.length)) };
            for (const item of thread.items) all.push({ conversation, item });
        }
        for (const [id, group] of this.#inbox.groups.all) {
            for (const item of groupItems(group, this.me)) all.push({ conversation: { group: id }, item });
        }
        const has = ({ item: { content } }) => content !== undefined && words.textOf(content)?.toLocaleLowerCase().includes(wanted);
        return all
            .filter(has)
            .sort((a, b) => b.item.time - a.item.time)
            .slice(0, FOUND_MAX);
    }

    // ---- What a person does ----

    /** Looks at a conversation, or at none. */
    show(conversation) {
        this.open = conversation;
        if (conversation !== undefined) {
            const { user, group } = conversation;
            this.openedAt = (group === undefined ? this.#inbox.rowOf(user)?.read_up_to : this.groupOf(group).readUpTo) ?? 0;
            this.#loadOpen();
        }
        this.#watch();
        this.#changed();
    }

    /** More of what was before. */
    async loadOlder() {
        const { open } = this;
        if (open === undefined || !this.hasOlder) return;
        const { from } = open.group === undefined ? { from: this.#threadOf(open).older } : this.groupOf(open.group).older;
        await this.#fetch(open, { from, direction: 'backwards' });
    }

    async send(content, to = this.open) {
        this.#unknown++;
        try {
            const id = await this.#client.send(to, content);
            // What changes a message shows when it is there.
            this.#wait(id, to, content);
            this.#changed();
        } catch (error) {
            this.#notice(error.code === undefined ? error.message : words.refused(error.code));
        } finally {
            this.#onKnown();
        }
    }

    reply({ name, content }, text) {
        return this.send({ reply: { ...name, quote: words.quoteOf(words.excerpt(content, this.nameOf)), text } });
    }

    edit({ name, content }, text) {
        const [kind] = Object.keys(content);
        return this.send({ edit: { ...name, content: kind === 'text' ? { text } : { [kind]: { ...content[kind], text } } } });
    }

    unsend({ name }) {
        return this.send({ unsend: { ...name } });
    }

    /** Feels something about a message, or no more if that is what it was. */
    react({ name, reactions }, reaction) {
        const isFelt = reactions.some((of) => of.reaction === reaction && of.users.includes(this.me));
        return this.send({ reaction: { ...name, reaction: isFelt ? '' : reaction } });
    }

    deleteForMe({ place }) {
        return this.ask('delete_message', { conversation: this.open, place });
    }

    /** Sends what has failed once more. */
    async sendAgain({ id, content }) {
        const { to } = this.#waiting.get(id);
        this.#waiting.delete(id);
        await this.send(content, to);
    }

    /** Lets go of what has failed, or takes back what has not left yet. */
    async drop({ id, failed }) {
        if (failed === undefined) await this.#client.cancel(id);
        else this.#waiting.delete(id);
        this.#changed();
    }

    typing() {
        if (this.open !== undefined) this.#client.typing(this.open).catch(() => {});
    }

    /** Somebody has seen the end of the open conversation. */
    markRead() {
        if (this.open === undefined) return;
        const { user, group } = this.open;
        const key = conversationKey(this.open);
        const row = group === undefined ? this.#inbox.rowOf(user) : undefined;
        const held = group === undefined ? undefined : this.groupOf(group);
        const upTo = held === undefined ? (this.#threadOf(this.open).last?.place ?? 0) : held.reached;
        const isRead = held === undefined ? row === undefined || row.unread === 0 : held.row === undefined || held.readUpTo >= upTo;
        if (isRead || upTo === 0 || (this.#told.get(key) ?? 0) >= upTo) return;
        this.#told.set(key, upTo);
        this.#client.request('mark_read', { conversation: this.open, up_to: upTo, tell: true }).catch(() => this.#told.delete(key));
    }

    keep(conversation, { set = 0n, cleared = 0n }) {
        return this.ask('set_conversation', { conversation, set, cleared });
    }

    call(user, name) {
        if (name === '') this.#names.delete(user);
        else this.#names.set(user, name);
        this.#changed();
    }

    /** Asks the server for something that a person wants; undefined if it refused, which they are told. */
    async ask(name, fields) {
        try {
            return await this.#client.request(name, fields);
        } catch (error) {
            this.#notice(error.code === undefined ? error.message : words.refused(error.code));
            return undefined;
        }
    }

    // ---- What happens ----

    /** Takes an event of the client. */
    handle(type, detail) {
        if (this.#unknown > 0 && OF_MESSAGES.includes(type)) return void this.#held.push([type, detail]);
        switch (type) {
            case 'welcome':
                this.connection = { state: 'ready' };
                this.visibility = detail.visibility;
                this.#load();
                break;
            case 'disconnected':
                this.connection = { state: 'waiting', words: detail.reason.words, againAt: this.#now() + (detail.retry_in_ms ?? 0) };
                this.#typing.clear();
                break;
            case 'token_wanted':
                this.connection = { state: 'token', words: words.tokenWanted(detail.reason) };
                break;
            case 'ended':
                this.connection = { state: detail.reason.kind === 'failed' ? 'failed' : 'ended', words: words.ended(detail.reason) };
                break;
            case 'entry':
                this.#onEntry(detail.entry);
                break;
            case 'group_entry':
                this.#onGroupEntry(detail.group, detail.entry);
                break;
            case 'accepted':
                this.#onAccepted(detail);
                break;
            case 'refused':
                this.#onFailed(detail.id, words.refused(detail.code));
                break;
            case 'returned':
                this.#onFailed(detail.id, words.refused(detail.why.code));
                break;
            case 'cancelled':
                this.#waiting.delete(detail.id);
                break;
            case 'log_replaced':
                for (const id of detail.dropped) this.#onFailed(id, words.refused('other_log'));
                this.#discard();
                break;
            case 'skipped':
                this.#discard();
                break;
            case 'presence':
                this.#presence.set(detail.user, detail);
                break;
            case 'typing':
            case 'typing_ended':
                this.#onTyping(detail, type === 'typing');
                break;
            default:
                return undefined;
        }
        return void this.#changed();
    }

    /** Some of the messages are known by now. */
    #onKnown() {
        if (--this.#unknown > 0) return;
        for (const [type, detail] of this.#held.splice(0)) this.handle(type, detail);
    }

    #onEntry(entry) {
        if (entry.kind === 'group_refused') {
            const of = [...this.#waiting.values()].find(({ accepted }) => accepted === entry.origin);
            if (of !== undefined) this.#onFailed(of.id, words.refused(entry.code));
        }
        if (entry.kind === 'group') {
            for (const { id, to, accepted, failed } of this.#waiting.values()) {
                if (to.group === entry.group && accepted <= entry.sent_up_to && failed === undefined) this.#waiting.delete(id);
            }
        }
        if (entry.kind === 'visibility') this.visibility = entry.visibility;
        this.#inbox.entry(entry);
        const conversation = conversationOf(entry) ?? (entry.peer === undefined ? undefined : { user: entry.peer });
        if (conversation?.user !== undefined) this.#threads.get(conversationKey(conversation))?.entry(entry);
        if (entry.group !== undefined && entry.group === this.open?.group) this.#loadOpen();
    }

    #onGroupEntry(group, entry) {
        for (const { id, accepted } of this.#waiting.values())
            if (entry.from === this.me && accepted === entry.origin) this.#waiting.delete(id);
        this.#inbox.groupEntry(group, entry);
        if (group === this.open?.group) this.#loadOpen();
    }

    #onAccepted({ id, seq }) {
        const of = this.#waiting.get(id);
        if (of?.to.group !== undefined) of.accepted = seq;
        else this.#waiting.delete(id);
    }

    #onFailed(id, why) {
        const of = this.#waiting.get(id);
        if (of === undefined) return;
        if (isMessage(of.content)) return void (of.failed = why);
        this.#waiting.delete(id);
        this.#notice(why);
    }

    #onTyping({ conversation, user }, isTyping) {
        const key = conversationKey(conversation);
        const users = this.#typing.get(key) ?? this.#typing.set(key, new Set()).get(key);
        users[isTyping ? 'add' : 'delete'](user);
    }

    // ---- Loading ----

    #load() {
        this.#isListing ??= this.#inbox.load().catch(() => {
            // What is refused is asked for again with the next welcome.
            this.#isListing = undefined;
        });
        this.#loadOpen();
    }

    #discard() {
        this.#inbox.discard();
        this.#isListing = undefined;
        this.#threads.clear();
        this.#told.clear();
        this.#load();
    }

    /** Whatever lacks of the newest part of the open conversation. */
    #loadOpen() {
        const { open } = this;
        if (open === undefined) return;
        if (open.group === undefined) {
            if (!this.#threadOf(open).isLoaded) this.#fetch(open, { from: 0, direction: 'backwards' });
            return;
        }
        const group = this.groupOf(open.group);
        if (group.row === undefined) this.#inbox.refreshGroup(open.group);
        const { lacks } = group;
        if (lacks !== undefined) this.#fetch(open, lacks).then((isMore) => isMore && open === this.open && this.#loadOpen());
    }

    /** A page of a conversation: whether it came. */
    async #fetch(conversation, { from, direction }) {
        const key = conversationKey(conversation);
        if (this.#isLoading.has(key)) return false;
        this.#isLoading.add(key);
        try {
            const page = await this.#client.request('fetch_conversation', { conversation, from, direction, limit: PAGE_MESSAGES });
            if (conversation.group === undefined) this.#threadOf(conversation).page(page);
            else this.#inbox.groups.page(direction, page);
            this.#changed();
            return true;
        } catch {
            return false;
        } finally {
            this.#isLoading.delete(key);
        }
    }

    #threadOf(conversation) {
        const key = conversationKey(conversation);
        const thread = this.#threads.get(key) ?? new Thread(this.me);
        this.#threads.delete(key);
        this.#threads.set(key, thread);
        if (this.#threads.size > THREADS_MAX) this.#threads.delete(this.#threads.keys().next().value);
        return thread;
    }

    #onList() {
        this.#watch();
        return this.#changed();
    }

    /** Whom the list and the open conversation show. */
    #watch() {
        const shown = this.rows().map(({ conversation }) => conversation.user);
        const users = [this.open?.user, ...shown].filter((user) => user !== undefined && user !== this.me);
        this.#client.watch([...new Set(users)].slice(0, WATCHED_MAX));
    }

    #wait(id, to, content) {
        this.#waiting.set(id, { id, to, content, time: this.#now() });
    }

    #itemOfWaiting({ id, content, time, failed }) {
        return {
            key: `waiting ${id}`,
            id,
            isMine: true,
            name: { author: this.me },
            time,
            content,
            tick: failed === undefined ? 'waiting' : 'failed',
            failed,
            reactions: [],
        };
    }
}
