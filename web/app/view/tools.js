// What can be done with a message: one row of buttons, which goes to the message that is pointed at or has the focus.

import * as words from '../model/words.js';
import { h, iconButton } from './dom.js';

const REACTIONS = ['👍', '❤️', '😂', '😮', '😢', '🎉'];

export class Tools {
    #model;
    #does;
    #element;

    /** `does`: { reply, edit, info } of an item, which the rest of the page does. */
    constructor(model, does) {
        this.#model = model;
        this.#does = does;
    }

    attach(element, item) {
        if (this.#element?.parentElement === element && this.#element.item === item) return;
        // Somebody is in the midst of it.
        if (this.#element?.contains(document.activeElement) && !element.contains(document.activeElement)) return;
        this.#remove();
        this.#element = h('div', { class: 'tools', role: 'toolbar', 'aria-label': 'What to do with this message' }, this.#buttons(item));
        this.#element.item = item;
        element.append(this.#element);
        // A chunk that may be skipped shows nothing beyond its edge.
        element.closest('.chunk').classList.add('is-pointed');
    }

    #remove() {
        this.#element?.closest('.chunk')?.classList.remove('is-pointed');
        this.#element?.remove();
        this.#element = undefined;
    }

    focus() {
        this.#element?.querySelector('button')?.focus();
    }

    #buttons(item) {
        if (item.failed !== undefined)
            return [this.#plain('Send again', () => this.#model.sendAgain(item)), this.#plain('Let go', () => this.#model.drop(item))];
        if (item.tick === 'waiting' && item.place === undefined)
            return item.id === undefined ? [] : [this.#plain('Do not send', () => this.#model.drop(item))];
        const isLocked = this.#model.lockOf(this.#model.open) !== undefined;
        const isThere = item.content !== undefined;
        return [
            isThere && !isLocked
                ? iconButton('smile', 'React', () => this.#choose(REACTIONS.map((of) => [of, () => this.#model.react(item, of)])))
                : undefined,
            isThere && !isLocked ? iconButton('reply', 'Reply', () => this.#do(() => this.#does.reply(item))) : undefined,
            iconButton('more', 'More', () => this.#choose(this.#more(item, isLocked))),
        ];
    }

    #more(item, isLocked) {
        const text = item.content === undefined ? undefined : words.textOf(item.content);
        const isMine = item.isMine && item.content !== undefined && !isLocked;
        return [
            text === undefined ? undefined : ['Copy', () => navigator.clipboard?.writeText(text)],
            isMine && text !== undefined && item.content.attachment === undefined ? ['Edit', () => this.#does.edit(item)] : undefined,
            isMine ? ['Take back', () => this.#model.unsend(item)] : undefined,
            isMine && this.#model.open.group !== undefined ? ['Who has it', () => this.#does.info(item)] : undefined,
            ['Delete for me', () => this.#model.deleteForMe(item)],
        ].filter((of) => of !== undefined);
    }

    #plain = (name, does) => h('button', { type: 'button', class: 'tool', click: () => this.#do(does) }, name);

    /** Shows these choices in place of what was there. */
    #choose(choices) {
        this.#element.replaceChildren(...choices.map(([name, does]) => this.#plain(name, does)));
        this.focus();
    }

    #do(does) {
        const message = this.#element.parentElement;
        this.#remove();
        // The focus goes on from the message, unless what is done takes it.
        message?.focus({ preventScroll: true });
        does();
    }
}
