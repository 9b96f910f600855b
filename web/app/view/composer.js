// Where a message is written: a text for each conversation, which stays until it is sent; a reply, or an edit.

import { conversationKey } from '/client/index.js';
import { TEXT_BYTES_MAX } from '/client/limits.js';
import * as words from '../model/words.js';
import { h, iconButton, setText } from './dom.js';

/** Lines of a text that are seen while it is written. */
const ROWS_MAX = 8;

export class Composer {
    element = h('form', { class: 'composer', submit: (event) => this.#onSubmit(event) });
    #model;
    #drafts;
    #about = h('p', { class: 'about', hidden: true });
    #text = h('textarea', {
        rows: 1,
        'aria-label': 'Message',
        placeholder: 'Message',
        enterkeyhint: 'send',
        autocomplete: 'off',
        dir: 'auto',
        'data-focus': 'composer',
        input: () => this.#onInput(),
        keydown: (event) => this.#onKey(event),
    });
    #lock = h('p', { class: 'lock', hidden: true });
    #key;
    /** { reply: item } or { edit: item }. */
    #purpose = {};

    /** `drafts`: a Map from conversations to what was begun there. */
    constructor(model, drafts) {
        this.#model = model;
        this.#drafts = drafts;
        const send = iconButton('send', 'Send', () => this.element.requestSubmit(), { class: 'icon-button send' });
        this.element.append(this.#about, h('div', { class: 'line' }, this.#text, send), this.#lock);
    }

    render() {
        const { open } = this.#model;
        const key = open === undefined ? undefined : conversationKey(open);
        if (key !== this.#key) {
            this.#key = key;
            this.#purpose = {};
            this.#text.value = this.#drafts.get(key) ?? '';
            this.#fit();
            this.#showPurpose();
        }
        const lock = open === undefined ? undefined : this.#model.lockOf(open);
        this.#lock.hidden = lock === undefined;
        setText(this.#lock, lock ?? '');
        this.#text.disabled = lock !== undefined;
    }

    focus() {
        this.#text.focus();
    }

    reply(item) {
        this.#begin({ reply: item }, this.#text.value);
    }

    edit(item) {
        this.#begin({ edit: item }, words.textOf(item.content));
    }

    /** Whether there was something to let go of. */
    cancel() {
        if (this.#purpose.reply === undefined && this.#purpose.edit === undefined) return false;
        const wasEdit = this.#purpose.edit !== undefined;
        this.#begin({}, wasEdit ? (this.#drafts.get(this.#key) ?? '') : this.#text.value);
        return true;
    }

    #begin(purpose, text) {
        this.#purpose = purpose;
        this.#text.value = text;
        this.#fit();
        this.#showPurpose();
        this.focus();
        this.#text.setSelectionRange(text.length, text.length);
    }

    #showPurpose() {
        const { reply, edit } = this.#purpose;
        const item = reply ?? edit;
        this.#about.hidden = item === undefined;
        if (item === undefined) return void this.#about.replaceChildren();
        const says =
            edit === undefined
                ? `Reply to ${this.#model.nameOf(item.name.author)}: ${words.excerpt(item.content, this.#model.nameOf)}`
                : 'Edit your message';
        return this.#about.replaceChildren(
            h('span', {}, says),
            iconButton('close', 'Let go of it', () => this.cancel()),
        );
    }

    #onInput() {
        this.#fit();
        if (this.#purpose.edit === undefined) this.#keep();
        if (this.#text.value !== '') this.#model.typing();
    }

    #keep() {
        if (this.#text.value === '') this.#drafts.delete(this.#key);
        else this.#drafts.set(this.#key, this.#text.value);
    }

    /** As high as its text, where the browser does not do that by itself. */
    #fit() {
        this.#text.rows = 1;
        while (this.#text.rows < ROWS_MAX && this.#text.scrollHeight > this.#text.clientHeight + 1) this.#text.rows++;
    }

    #onKey(event) {
        if (event.isComposing) return;
        if (event.key === 'Enter' && !event.shiftKey && !event.altKey && !matchMedia('(pointer: coarse)').matches) {
            event.preventDefault();
            this.element.requestSubmit();
        } else if (event.key === 'ArrowUp' && this.#text.value === '') {
            const last = this.#model
                .items()
                .findLast(
                    ({ isMine, place, content }) =>
                        isMine && place !== undefined && content !== undefined && words.textOf(content) !== undefined,
                );
            if (last === undefined) return;
            event.preventDefault();
            this.edit(last);
        }
    }

    #onSubmit(event) {
        event.preventDefault();
        const text = this.#text.value.trim();
        if (text === '' || this.#text.disabled) return;
        if (new TextEncoder().encode(text).length > TEXT_BYTES_MAX) {
            this.#lock.hidden = false;
            return void setText(this.#lock, words.refused('text_length'));
        }
        const { reply, edit } = this.#purpose;
        if (edit !== undefined) this.#model.edit(edit, text);
        else if (reply !== undefined) this.#model.reply(reply, text);
        else this.#model.send({ text });
        this.#text.value = '';
        if (edit === undefined) this.#keep();
        this.#begin({}, this.#drafts.get(this.#key) ?? '');
        return undefined;
    }
}
