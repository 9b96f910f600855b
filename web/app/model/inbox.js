// The list of all conversations, with users and with groups, and how it is loaded: pages of both lists, laid under what is pushed (SPEC 8.6,
// 8.12). Asks through `request`, which gives promises.

import { Conversations, Groups, conversationKey, isMessage } from '/client/index.js';
import { GROUP_ROWS_MAX, INBOX_FIRST_ROWS, INBOX_PAGES_MAX, INBOX_ROWS_MAX } from '../limits.js';

/** Bits of how a conversation is kept (SPEC 5.7). */
export const KEPT = { muted: 1n, archived: 2n, pinned: 4n, blocked: 8n, mentions: 16n };

export class Inbox {
    groups = new Groups();
    /** The first page has come. */
    isLoaded = false;
    #conversations = new Conversations();
    #request;
    #changed;
    /** Entries that came since a page was asked for: it may be older than they are. */
    #gathered = [];
    #asked = 0;
    /** By key: what is on its way. A newer question about the same waits for it. */
    #running = new Map();

    /** `changed`: called when there is something else to show; it may give a promise that settles when it is shown. */
    constructor(request, changed) {
        this.#request = request;
        this.#changed = changed;
    }

    /** Asks for everything. */
    async load() {
        await Promise.all([this.#loadConversations(), this.#loadGroups()]);
    }

    /** Nothing that is held counts any more. */
    discard() {
        this.#conversations = new Conversations();
        this.groups.discard();
        this.#gathered = [];
        this.isLoaded = false;
    }

    /** Takes an entry of the own log, in its order. */
    entry(entry) {
        if (this.#asked > 0) this.#gathered.push(entry);
        this.groups.entry(entry);
        const before = this.#conversations.entry(entry);
        if (before !== undefined) this.#once(`before ${before}`, () => this.#page(before, entry.kind === 'deleted' ? INBOX_ROWS_MAX : 1));
        if (entry.kind === 'group') this.#onPointer(entry);
    }

    /** Takes an entry that a group pushed. */
    groupEntry(group, entry) {
        this.groups.pushed(group, entry);
        // A name, a role, how many there are.
        if (entry.content.act !== undefined) this.refreshGroup(group);
    }

    /** The row of a conversation with a user, if there is one. */
    rowOf(user) {
        return this.#conversations.rows.find(({ conversation }) => conversation.user === user);
    }

    /** Asks how a group stands now. */
    refreshGroup(group) {
        this.#once(conversationKey({ group }), async () =>
            this.groups.rows(await this.#request('fetch_groups', { after: group - 1n, limit: 1 })),
        );
    }

    /**
     * All conversations, those first that are pinned, then those with the newest message: { conversation, settings, unread, time, last }
     * and `row` or `group`. `last` is { from, content } or undefined; a `from` of undefined is oneself.
     */
    rows(me) {
        // They come by the places of their last messages; one that this device changed does not say when it was written.
        let latest = Infinity;
        const users = this.#conversations.rows.map((row) => {
            latest = Math.min(latest, timeOf(row.last));
            return { conversation: row.conversation, row, settings: row.settings, unread: row.unread, time: latest, last: row.last };
        });
        const groups = this.groups.all
            .filter(([, { row }]) => row !== undefined)
            .map(([id, group]) => ({
                conversation: { group: id },
                group,
                settings: group.settings,
                ...ofGroup(group, me),
            }));
        const isPinned = ({ settings }) => Number((settings & KEPT.pinned) !== 0n);
        return [...users, ...groups].sort((a, b) => isPinned(b) - isPinned(a) || b.time - a.time);
    }

    #onPointer({ group, standing, up_to: upTo }) {
        const { row, lacks } = this.groups.get(group);
        if (row === undefined || row.standing !== standing || (lacks !== undefined && upTo > row.head)) this.refreshGroup(group);
    }

    /** One of each kind at a time; what is wanted meanwhile is done once more after that. */
    #once(key, does) {
        if (this.#running.has(key)) return void this.#running.set(key, true);
        this.#running.set(key, false);
        does()
            .then(
                () => this.#changed(),
                () => {},
            )
            .finally(() => {
                const isWanted = this.#running.get(key);
                this.#running.delete(key);
                if (isWanted) this.#once(key, does);
            });
        return undefined;
    }

    async #page(before, limit) {
        this.#asked++;
        try {
            const conversations = this.#conversations;
            const page = await this.#request('fetch_inbox', { before, limit, messages: 0 });
            conversations.page(before, page);
            for (const entry of this.#gathered) conversations.entry(entry);
        } finally {
            if (--this.#asked === 0) this.#gathered = [];
        }
    }

    async #loadConversations() {
        const conversations = this.#conversations;
        for (let pages = 0, before = 0; pages < INBOX_PAGES_MAX && before !== undefined; pages++) {
            await this.#page(before, pages === 0 ? INBOX_FIRST_ROWS : INBOX_ROWS_MAX);
            if (this.#conversations !== conversations) return;
            this.isLoaded = true;
            // What has come is seen before more is asked for.
            await this.#changed();
            before = conversations.older;
        }
    }

    async #loadGroups() {
        for (let after = 0n, more = true; more;) {
            const page = await this.#request('fetch_groups', { after, limit: GROUP_ROWS_MAX });
            this.groups.rows(page);
            this.#changed();
            more = page.more && page.rows.length > 0;
            after = page.rows.at(-1)?.group;
        }
    }
}

/** When a message was written: of an edit, `time` says when it was edited. */
const timeOf = ({ time, content }) => (content.edit ?? content.unsend)?.written || time;

/** What a row shows of a group: of what was pushed, or as it was asked for last. */
function ofGroup(group, me) {
    const { row } = group;
    const pushed = group.lacks === undefined ? group.messages : [];
    const newest = pushed.findLast(
        ({ entry: { content } }) => isMessage(content) || content.edit !== undefined || content.unsend !== undefined,
    );
    const last = newest?.entry ?? row.last ?? pushed.at(-1)?.entry;
    const above = pushed.filter(({ place, author, entry }) => place > row.head && author !== me && isMessage(entry.content)).length;
    // The row counts one's own, too; and who wrote last has seen what was there.
    const counted = group.readUpTo >= group.reached || last?.from === me ? 0 : row.unread + above;
    return {
        unread: group.standing === 'member' ? (group.unread(me) ?? counted) : 0,
        time: last === undefined ? 0 : timeOf(last),
        last: last === undefined ? undefined : { from: last.from === me ? undefined : last.from, content: last.content },
    };
}
