// The list of conversations, and what a search finds.

import { conversationKey } from '/client/index.js';
import { KEPT } from '../model/inbox.js';
import * as words from '../model/words.js';
import { avatar, h, icon, setChildren, setText } from './dom.js';

export class List {
    element = h('nav', { class: 'list', 'aria-label': 'Conversations' });
    #model;
    #open;
    #now;
    #rows = h('ul', { class: 'rows', keydown: (event) => moveFocus(event) });
    #more;
    #found = h('ul', { class: 'rows found', 'aria-label': 'Messages' });
    #foundTitle = h('h2', { class: 'section' }, 'Messages');
    #empty = h('p', { class: 'empty' });
    #made = new Map();
    #search = '';
    #isArchiveShown = false;

    /** `open`: called with a conversation, and the place of a message in it. */
    constructor(model, open, now = Date.now) {
        this.#model = model;
        this.#open = open;
        this.#now = now;
        this.#more = h('button', { type: 'button', class: 'archive', click: () => this.#toggleArchive() });
        this.element.append(this.#rows, this.#more, this.#foundTitle, this.#found, this.#empty);
    }

    search(text) {
        this.#search = text.trim();
        this.render();
    }

    /** The first that a search has found. */
    openFirst() {
        this.#rows.querySelector('button')?.click();
    }

    /** Goes to the row of a conversation, from which somebody comes back. */
    focus(conversation) {
        if (conversation !== undefined) this.#made.get(conversationKey(conversation))?.element.firstChild.focus();
    }

    #toggleArchive() {
        this.#isArchiveShown = !this.#isArchiveShown;
        this.render();
    }

    render() {
        const all = this.#model.rows();
        const wanted = this.#search.toLocaleLowerCase();
        const isSearching = wanted !== '';
        const matches = (row) =>
            this.#model.titleOf(row.conversation).toLocaleLowerCase().includes(wanted) ||
            String(row.conversation.user ?? '').startsWith(wanted);
        const isArchived = ({ settings }) => (settings & KEPT.archived) !== 0n;
        const archived = all.filter(isArchived);
        const shown = isSearching ? all.filter(matches) : all.filter((row) => this.#isArchiveShown || !isArchived(row));
        const elements = shown.map((row) => this.#rowOf(row));
        if (/^[1-9]\d{0,19}$/.test(wanted) && !shown.some(({ conversation }) => String(conversation.user) === wanted))
            elements.push(this.#newRow(BigInt(wanted)));
        setChildren(this.#rows, elements);
        this.#more.hidden = isSearching || archived.length === 0;
        setText(this.#more, this.#isArchiveShown ? 'Hide archived' : `Archived (${archived.length})`);
        const found = isSearching ? this.#model.found(this.#search) : [];
        setChildren(
            this.#found,
            found.map((of) => this.#foundRow(of)),
        );
        this.#found.hidden = this.#foundTitle.hidden = found.length === 0;
        this.#empty.hidden = elements.length > 0 || found.length > 0;
        if (!this.#model.isLoaded) setText(this.#empty, 'Loading…');
        else
            setText(
                this.#empty,
                isSearching
                    ? 'Nothing is called so, and no loaded message says so.'
                    : 'No conversation yet. Begin one with the plus above.',
            );
        const unread = all
            .filter(({ settings }) => (settings & (KEPT.muted | KEPT.archived)) === 0n)
            .reduce((sum, row) => sum + row.unread, 0);
        document.title = unread === 0 ? 'Ringpost' : `(${words.unreadCount(unread)}) Ringpost`;
    }

    #rowOf(row) {
        const { conversation, settings, unread } = row;
        const key = conversationKey(conversation);
        const isOpen = this.#model.open !== undefined && conversationKey(this.#model.open) === key;
        const title = this.#model.titleOf(conversation);
        const typing = words.typing(this.#model.typingIn(conversation), this.#model.nameOf);
        const says = typing ?? this.#preview(row);
        const when = row.time === 0 ? '' : words.when(row.time, this.#now());
        const presence = this.#model.presenceOf(conversation.user)?.state ?? 'unknown';
        const signature = [
            title,
            says,
            when,
            unread,
            settings,
            presence === 'online',
            isOpen,
            row.row?.seen_up_to,
            row.row?.delivered_up_to,
            typing !== undefined,
        ].join('\n');
        const known = this.#made.get(key);
        const element = known?.element ?? h('li', {}, h('button', { type: 'button', class: 'row', click: () => this.#open(conversation) }));
        const inner = element.firstChild;
        // It comes for each row right after the row itself, and mostly says that nobody is there: nothing is made anew for that.
        if (inner.dataset.presence !== presence) inner.dataset.presence = presence;
        if (known?.signature === signature) return element;
        inner.classList.toggle('is-unread', unread > 0);
        inner.classList.toggle('is-muted', (settings & KEPT.muted) !== 0n);
        if (isOpen) inner.setAttribute('aria-current', 'true');
        else inner.removeAttribute('aria-current');
        inner.replaceChildren(
            avatar(conversation.user ?? conversation.group, title, conversation.group !== undefined),
            h('span', { class: 'row-title' }, title, presence === 'online' ? h('span', { class: 'unseen' }, ', here') : undefined),
            h('span', { class: 'row-time' }, when),
            h(
                'span',
                { class: typing === undefined ? 'row-says' : 'row-says is-typing' },
                typing === undefined ? this.#tick(row) : undefined,
                h('span', { class: 'row-text' }, says),
            ),
            h(
                'span',
                { class: 'row-marks' },
                (settings & KEPT.pinned) === 0n ? undefined : icon('pin', 'Pinned'),
                (settings & KEPT.muted) === 0n ? undefined : icon('mute', 'Muted'),
                unread === 0
                    ? undefined
                    : h('span', { class: 'count' }, words.unreadCount(unread), h('span', { class: 'unseen' }, ' unread')),
            ),
        );
        this.#made.set(key, { signature, element });
        return element;
    }

    #preview({ row, last }) {
        if (last === undefined) return '';
        if (row !== undefined) return words.excerpt(last.content, this.#model.nameOf);
        const { act } = last.content;
        const by = last.from ?? this.#model.me;
        return act === undefined
            ? `${this.#model.nameOf(by)}: ${words.excerpt(last.content, this.#model.nameOf)}`
            : words.act(act, by, this.#model.nameOf);
    }

    #tick({ row, last }) {
        if (row === undefined || last.kind !== 'sent' || last.content.unsend !== undefined || row.conversation.user === this.#model.me)
            return undefined;
        const place = (last.content.edit?.place || undefined) ?? last.seq;
        if (place <= row.seen_up_to) return icon('read', 'Read');
        return place <= row.delivered_up_to ? icon('delivered', 'Delivered') : icon('logged', 'Sent');
    }

    #newRow(user) {
        const click = () => this.#open({ user });
        return h(
            'li',
            {},
            h(
                'button',
                { type: 'button', class: 'row', click },
                avatar(user, `User ${user}`, false),
                h('span', { class: 'row-title' }, `Write to user ${user}`),
            ),
        );
    }

    #foundRow({ conversation, item }) {
        const click = () => this.#open(conversation, item.place);
        const title = `${this.#model.titleOf(conversation)} · ${words.when(item.time, this.#now())}`;
        const says = h('span', { class: 'row-says' }, h('span', { class: 'row-text' }, words.excerpt(item.content, this.#model.nameOf)));
        return h('li', {}, h('button', { type: 'button', class: 'row', click }, h('span', { class: 'row-title' }, title), says));
    }
}

function moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    const all = [...event.currentTarget.querySelectorAll('button')];
    all[all.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
}
