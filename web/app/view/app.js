// The page of somebody who is signed in: the list at one side and the open conversation at the other, or one of both on a narrow screen.

import { conversationKey } from '/client/index.js';
import { NOTICE_MS } from '../limits.js';
import * as words from '../model/words.js';
import { Composer } from './composer.js';
import { openAccount, openDetails, openInfo, openNew } from './dialogs.js';
import { avatar, button, h, icon, iconButton, setText } from './dom.js';
import { inFrame } from './frame.js';
import { List } from './list.js';
import { ThreadView } from './thread.js';

/** As in style.css: below it one pane is seen at a time. */
const NARROW = '(max-width: 700px)';

export class App {
    element;
    #model;
    #does;
    #list;
    #thread;
    #composer;
    #status = h('div', { class: 'status', role: 'status' });
    #notice = h('p', { class: 'notice', role: 'alert', hidden: true });
    #noticeTimer;
    #statusTimer;
    #search;
    #head = {
        avatar: h('span', { class: 'head-avatar' }),
        title: h('h1', {}),
        says: h('p', { class: 'head-says', 'aria-live': 'polite' }),
    };
    /** While something is due: settles when it is seen. */
    #isDrawn;
    /** The conversation that was chosen last. */
    #shown;
    #headOf;

    /** `does`: { show, reconnect, reload, signOut, signIn, notices, push, device }. */
    constructor(model, does, drafts) {
        this.#model = model;
        this.#does = does;
        this.#list = new List(model, (conversation, place) => this.#open(conversation, place));
        this.#composer = new Composer(model, drafts);
        this.#thread = new ThreadView(model, {
            reply: (item) => this.#composer.reply(item),
            edit: (item) => this.#composer.edit(item),
            info: (item) => openInfo(model, model.open.group, item),
        });
        this.#search = h('input', {
            type: 'search',
            placeholder: 'Search',
            'aria-label': 'Search conversations and loaded messages',
            input: () => this.#list.search(this.#search.value),
            keydown: (event) => this.#onSearchKey(event),
        });
        this.element = h('main', { class: 'app', keydown: (event) => this.#onKey(event) }, this.#side(), this.#main(), this.#notice);
        document.addEventListener('visibilitychange', () => this.#markRead());
        window.addEventListener('focus', () => this.#markRead());
    }

    #side() {
        const account = iconButton('more', 'Account', () => openAccount(this.#model, this.#does));
        const begin = iconButton('add', 'New conversation', () => openNew(this.#model, (conversation) => this.#open(conversation)));
        return h(
            'div',
            { class: 'side' },
            h(
                'div',
                { class: 'bar' },
                h('h1', {}, h('img', { src: '/app/icon.svg', alt: '', width: 28, height: 28 }), 'Ringpost'),
                begin,
                account,
            ),
            h('div', { class: 'search' }, icon('search'), this.#search),
            this.#status,
            this.#list.element,
        );
    }

    #main() {
        const { avatar: of, title, says } = this.#head;
        const back = iconButton('back', 'Back to the list', () => this.#does.show(undefined), { class: 'icon-button back' });
        const details = iconButton('more', 'Details', () => openDetails(this.#model, this.#model.open));
        const toEnd = iconButton('down', 'To the newest message', () => this.#thread.toEnd(), { class: 'icon-button to-end' });
        const nothing = h(
            'div',
            { class: 'nothing' },
            h('img', { src: '/app/icon.svg', alt: '', width: 64, height: 64 }),
            h('p', {}, 'Choose a conversation, or begin one.'),
        );
        const talk = h(
            'div',
            { class: 'talk' },
            h('div', { class: 'bar' }, back, of, h('div', { class: 'head' }, title, says), details),
            h('div', { class: 'thread-frame', seen: () => this.#markRead() }, this.#thread.element, toEnd),
            this.#composer.element,
        );
        return h('section', { class: 'main', 'aria-label': 'Conversation' }, nothing, talk);
    }

    /** Shows what the model has, once for all that happened since the last frame. Settles when it is seen. */
    due() {
        this.#isDrawn ??= new Promise((seen) => {
            inFrame(() => {
                this.#isDrawn = undefined;
                this.render();
                setTimeout(seen);
            });
        });
        return this.#isDrawn;
    }

    render() {
        const { open } = this.#model;
        this.element.classList.toggle('has-open', open !== undefined);
        this.#list.render();
        this.#showStatus();
        this.#composer.render();
        if (open === undefined) return;
        this.#showHead(open);
        this.#thread.render();
        this.#markRead();
    }

    /** Another conversation was chosen. */
    shown() {
        this.render();
        const { open } = this.#model;
        if (open === undefined) this.#list.focus(this.#shown);
        else if (!matchMedia(NARROW).matches) this.#composer.focus();
        this.#shown = open;
    }

    goTo(place) {
        this.#thread.goTo(place);
    }

    notice(text) {
        this.#notice.hidden = false;
        setText(this.#notice, text);
        clearTimeout(this.#noticeTimer);
        this.#noticeTimer = setTimeout(() => (this.#notice.hidden = true), NOTICE_MS);
    }

    #open(conversation, place) {
        this.#does.show(conversation);
        if (place !== undefined) this.goTo(place);
    }

    #showHead(open) {
        const title = this.#model.titleOf(open);
        const isGroup = open.group !== undefined;
        const key = `${conversationKey(open)} ${title}`;
        if (key !== this.#headOf) {
            this.#headOf = key;
            setText(this.#head.title, title);
            this.#head.avatar.replaceChildren(avatar(open.user ?? open.group, title, isGroup));
        }
        const presence = this.#model.presenceOf(open.user);
        this.#head.avatar.dataset.presence = presence?.state ?? 'unknown';
        const members = isGroup ? this.#model.groupOf(open.group).row?.members : undefined;
        const stands = isGroup
            ? members > 0
                ? `${members} ${members === 1 ? 'member' : 'members'}`
                : ''
            : words.presence(presence, Date.now());
        setText(this.#head.says, words.typing(this.#model.typingIn(open), this.#model.nameOf) ?? stands ?? '');
    }

    #showStatus() {
        const { state, words: why, againAt } = this.#model.connection;
        this.element.dataset.connection = state;
        clearTimeout(this.#statusTimer);
        const waiting = this.#model.waitingCount;
        const waits = waiting === 0 || state === 'ready' ? '' : ` · ${waiting} ${waiting === 1 ? 'message waits' : 'messages wait'}`;
        this.#status.hidden = state === 'ready';
        switch (state) {
            case 'ready':
                return this.#say('');
            case 'connecting':
                return this.#say(`Connecting…${waits}`);
            case 'waiting': {
                const seconds = Math.max(0, Math.ceil((againAt - Date.now()) / 1_000));
                if (seconds > 0) this.#statusTimer = setTimeout(() => this.#showStatus(), 1_000);
                this.#status.title = why;
                return this.#say(`${seconds === 0 ? 'Connecting again…' : `Offline, again in ${seconds} s`}${waits}`, [
                    'Now',
                    this.#does.reconnect,
                ]);
            }
            case 'token':
                return this.#say(why, ['Sign in', this.#does.signIn]);
            case 'failed':
                return this.#say(why, ['Load again', this.#does.reload]);
            case 'ended':
                return this.#say(why, ['Sign in', this.#does.signOut]);
        }
        return undefined;
    }

    #say(text, [name, does] = []) {
        const parts = text === '' ? [] : [h('span', {}, text), name === undefined ? undefined : button(name, does)];
        if (this.#status.textContent !== `${text}${name ?? ''}`)
            this.#status.replaceChildren(...parts.filter((part) => part !== undefined));
    }

    /** What is at the end of the open conversation has been read if somebody looks there. */
    #markRead() {
        if (document.visibilityState === 'visible' && document.hasFocus() && this.#thread.isAtEnd) this.#model.markRead();
    }

    #onSearchKey(event) {
        if (event.key === 'Enter') this.#list.openFirst();
        else if (event.key === 'ArrowDown') this.#list.element.querySelector('button')?.focus();
        else return;
        event.preventDefault();
    }

    #onKey(event) {
        const isTyping = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
        if (event.key === 'Escape') {
            if (event.target === this.#search) {
                this.#search.value = '';
                this.#list.search('');
            } else if (!this.#composer.cancel() && this.#model.open !== undefined) {
                this.#does.show(undefined);
            }
        } else if ((event.key === '/' && !isTyping) || (event.key === 'k' && (event.ctrlKey || event.metaKey))) {
            this.#search.focus();
            event.preventDefault();
        } else if (event.key === 'ArrowUp' && event.altKey) {
            this.#thread.focusLast();
            event.preventDefault();
        }
    }
}
