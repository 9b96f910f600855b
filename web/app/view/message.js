// One message, or one act, as an element.

import * as words from '../model/words.js';
import { h, hueOf, icon } from './dom.js';

const TICKS = { waiting: 'Waiting', logged: 'Sent', delivered: 'Delivered', read: 'Read', failed: 'Not sent' };

/** `model`: what names people; `react`: called with an item and a reaction. */
export function messageOf(item, model, isOfGroup, react) {
    if (item.act !== undefined) {
        return h('div', { class: 'act', tabindex: -1, 'data-key': item.key }, words.act(item.act, item.name.author, model.nameOf));
    }
    const { content, isMine, name } = item;
    const author =
        isOfGroup && !isMine
            ? h('span', { class: `author ${hueOf(name.author)}` }, model.nameOf(name.author))
            : h('span', { class: 'author unseen' }, model.nameOf(name.author));
    const classes = [
        'message',
        isMine ? 'is-mine' : 'is-theirs',
        content === undefined ? 'is-gone' : '',
        item.failed === undefined ? '' : 'is-failed',
    ];
    return h(
        'div',
        { class: classes.filter((of) => of !== '').join(' '), tabindex: -1, 'data-key': item.key, 'data-place': item.place },
        h(
            'div',
            { class: 'bubble' },
            author,
            content?.reply === undefined ? undefined : quote(content.reply, model),
            body(content),
            h(
                'span',
                { class: 'meta' },
                item.isEdited ? 'edited ' : undefined,
                h('time', { datetime: new Date(item.time).toISOString() }, words.clock(item.time)),
                item.tick === undefined ? undefined : icon(item.tick, TICKS[item.tick]),
            ),
            item.failed === undefined ? undefined : h('p', { class: 'why' }, item.failed),
        ),
        reactions(item, model, react),
    );
}

function body(content) {
    if (content === undefined) return h('p', { class: 'text' }, 'This message was taken back');
    const text = words.textOf(content);
    if (content.attachment !== undefined) return attachment(content.attachment, text);
    if (text === undefined) return h('p', { class: 'text is-foreign' }, 'A message that this page can not show');
    // A few emoji by themselves are what is said.
    const isLarge = /^(?:\p{Extended_Pictographic}[\p{Emoji_Modifier}\u200d\ufe0f]*){1,3}$/u.test(text);
    return h('p', { class: isLarge ? 'text is-large' : 'text', dir: 'auto' }, linked(text));
}

function attachment(of, caption) {
    const what = words.attachment(of);
    const link = safeLink(of.location);
    return h(
        'p',
        { class: 'text', dir: 'auto' },
        link === undefined ? `${what}: ${of.location}` : h('a', anchor(link), what),
        caption ? ` ${caption}` : undefined,
    );
}

function quote({ author, quote: says }, model) {
    return h(
        'blockquote',
        { class: hueOf(author) },
        h('span', { class: 'author' }, model.nameOf(author)),
        h('span', { class: 'quoted', dir: 'auto' }, says),
    );
}

function reactions(item, model, react) {
    if (item.reactions.length === 0) return undefined;
    const one = ({ reaction, users }) => {
        const isMine = users.includes(model.me);
        const who = users.map(model.nameOf).join(', ');
        return h(
            'button',
            {
                type: 'button',
                class: 'reaction',
                'aria-pressed': String(isMine),
                title: who,
                'aria-label': `${reaction}, ${who}`,
                click: () => react(item, reaction),
            },
            reaction,
            users.length > 1 ? h('span', { class: 'reaction-count' }, String(users.length)) : undefined,
        );
    };
    return h('div', { class: 'reactions' }, item.reactions.map(one));
}

const anchor = (href) => ({ href, target: '_blank', rel: 'noopener noreferrer' });

/** Only what leads to a page of the web. */
function safeLink(text) {
    try {
        const url = new URL(text);
        return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : undefined;
    } catch {
        return undefined;
    }
}

/** A text in parts: what is an address of the web becomes a link. */
function linked(text) {
    return text.split(/(https?:\/\/[^\s<>"]+[^\s<>"'.,:;!?)\]])/u).map((part, at) => {
        const link = at % 2 === 1 ? safeLink(part) : undefined;
        return link === undefined ? part : h('a', anchor(link), part);
    });
}
