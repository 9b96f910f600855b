// The messages of the open conversation.
//
// It is laid out from its end (`column-reverse` around one block): what is loaded above moves nothing that is seen. Messages are in chunks, of
// which those out of sight are neither laid out nor painted (`content-visibility`): with ten thousand, to skip each of them by itself takes
// longer than to show what is seen. Messages that say what they said before keep their element.

import { conversationKey } from '/client/index.js';
import * as words from '../model/words.js';
import { h, setChildren } from './dom.js';
import { messageOf } from './message.js';
import { Tools } from './tools.js';

/** Pixels from the oldest message at which older ones are loaded: some screens. */
const LOAD_WITHIN_PX = 3_000;

/** Messages of one author within so long stand closer together. */
const FOLLOWS_WITHIN_MS = 5 * 60 * 1_000;

/** Pixels from the end that still count as the end. */
const END_WITHIN_PX = 40;

/** One message of so many begins a chunk: some screens of them. */
const CHUNK_MESSAGES = 48;

/** Whether a message begins a chunk: by its place alone, so that the chunks are the same whatever was loaded before or behind it. */
const beginsChunk = ({ place }) => place !== undefined && Math.imul(place, 0x9e3779b1) >>> 0 < 2 ** 32 / CHUNK_MESSAGES;

export class ThreadView {
    element = h('div', { class: 'thread', tabindex: 0, role: 'region', 'aria-label': 'Messages', scroll: () => this.#onScroll() });
    #model;
    #now;
    #inner = h('div', { class: 'messages', role: 'log', 'aria-label': 'Messages', keydown: (event) => this.#onKey(event) });
    #tools;
    #key;
    /** By key: { item, element, follows }. */
    #made = new Map();
    /** By the key of the message that begins them. */
    #chunks = new Map();
    #target;

    /** `tools`: what can be done with a message, see tools.js. */
    constructor(model, does, now = Date.now) {
        this.#model = model;
        this.#now = now;
        this.#tools = new Tools(model, does);
        this.element.append(this.#inner);
        const pointed = ({ target }) => this.#point(target.closest?.('.message'));
        this.#inner.addEventListener('pointerover', pointed);
        this.#inner.addEventListener('focusin', pointed);
        this.#inner.addEventListener(
            'click',
            ({ target }) => target.closest('.bubble') !== null && this.#point(target.closest('.message')),
        );
    }

    /** Shows where a message stands, as soon as it is there. */
    goTo(place) {
        this.#target = place;
        this.render();
    }

    get isAtEnd() {
        return this.element.scrollTop > -END_WITHIN_PX;
    }

    toEnd() {
        this.element.scrollTop = 0;
    }

    render() {
        const { open } = this.#model;
        if (open === undefined) return;
        const key = conversationKey(open);
        const isOther = key !== this.#key;
        if (isOther) {
            this.#made.clear();
            this.#chunks.clear();
            this.#key = key;
        }
        const items = this.#model.items();
        const sent = items.at(-1);
        const isNewOfMine = sent?.isMine && !this.#made.has(sent.key) && !isOther;
        const focused = this.#inner.contains(document.activeElement)
            ? document.activeElement.closest('[data-key]')?.dataset.key
            : undefined;
        this.#lay(items, open.group !== undefined);
        if (focused !== undefined && !this.#inner.contains(document.activeElement)) this.#made.get(focused)?.element.focus();
        if (isOther || isNewOfMine) this.toEnd();
        if (this.#target !== undefined) this.#goToTarget();
        this.#loadIfNear();
    }

    #lay(items, isOfGroup) {
        const chunks = new Map([['first', []]]);
        let elements = chunks.get('first');
        const seen = new Set();
        let before;
        let isNewSaid = false;
        for (const item of items) {
            if (beginsChunk(item)) chunks.set(item.key, (elements = []));
            const isOtherDay = before === undefined || words.daysAgo(before.time, item.time) !== 0;
            if (isOtherDay) elements.push(this.#separator(words.day(item.time, this.#now()), seen));
            if (!isNewSaid && !item.isMine && item.place > this.#model.openedAt && this.#model.openedAt > 0) {
                isNewSaid = true;
                elements.push(this.#separator('New', seen));
            }
            const isSameAuthor =
                before?.name.author === item.name.author && before.act === undefined && item.time - before.time < FOLLOWS_WITHIN_MS;
            elements.push(this.#elementOf(item, isSameAuthor && !isOtherDay, isOfGroup));
            seen.add(item.key);
            before = item;
        }
        for (const key of this.#made.keys()) if (!seen.has(key)) this.#made.delete(key);
        for (const key of this.#chunks.keys()) if (!chunks.has(key)) this.#chunks.delete(key);
        const laid = [...chunks].map(([key, of]) => {
            const chunk = this.#chunks.get(key) ?? h('div', { class: 'chunk' });
            this.#chunks.set(key, chunk);
            setChildren(chunk, of);
            return chunk;
        });
        setChildren(this.#inner, laid);
    }

    #elementOf(item, follows, isOfGroup) {
        const known = this.#made.get(item.key);
        if (known?.item === item) {
            if (known.follows !== follows) known.element.classList.toggle('follows', (known.follows = follows));
            return known.element;
        }
        const element = messageOf(item, this.#model, isOfGroup, (of, reaction) => this.#model.react(of, reaction));
        element.classList.toggle('follows', follows);
        this.#made.set(item.key, { item, element, follows });
        return element;
    }

    #separator(text, seen) {
        const key = `separator ${text}`;
        seen.add(key);
        const known = this.#made.get(key);
        if (known !== undefined) return known.element;
        const element = h('div', { class: text === 'New' ? 'separator is-new' : 'separator' }, h('span', {}, text));
        this.#made.set(key, { element });
        return element;
    }

    #goToTarget() {
        const { element } = this.#made.get(`at ${this.#target}`) ?? {};
        if (element === undefined) return;
        this.#target = undefined;
        element.scrollIntoView({ block: 'center' });
        element.focus({ preventScroll: true });
    }

    /** The message of an element is the one that something can be done with. */
    #point(element) {
        const { item } = this.#made.get(element?.dataset.key) ?? {};
        if (item !== undefined) this.#tools.attach(element, item);
    }

    #onScroll() {
        this.#loadIfNear();
        if (this.isAtEnd) this.element.dispatchEvent(new Event('seen', { bubbles: true }));
        this.element.parentElement.classList.toggle('is-above-end', !this.isAtEnd);
    }

    #loadIfNear() {
        const { scrollTop, scrollHeight, clientHeight } = this.element;
        if (scrollHeight + scrollTop - clientHeight < LOAD_WITHIN_PX && this.#model.hasOlder) this.#model.loadOlder();
    }

    /** Up and down through the messages, Enter to what can be done with one. */
    #onKey(event) {
        const all = this.#inner.querySelectorAll('[data-key]');
        const at = [...all].indexOf(event.target);
        const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
        if (at >= 0 && to !== undefined) all[to]?.focus();
        else if (at >= 0 && event.key === 'Enter') this.#tools.focus();
        else if (event.key === 'Escape' && at < 0) event.target.closest('[data-key]')?.focus();
        else return;
        event.preventDefault();
        event.stopPropagation();
    }

    /** The last message gets the focus: from there the keys go on. */
    focusLast() {
        const all = this.#inner.querySelectorAll('[data-key]');
        all[all.length - 1]?.focus();
    }
}
