// What of the account says which messages are announced, while nobody looks at the page and while it is closed.

import { NOT_ALLOWED } from '../notices.js';
import { OFF } from '../push.js';
import { h, setText } from './dom.js';

/** What a notice shows while the page is closed, by what the server calls it. */
const SHOWN = [
    [OFF, 'Nothing'],
    ['nothing', 'That something came'],
    ['sender', 'Who wrote'],
    ['text', 'Who wrote, and the text'],
];

/** `notices`, `push`: see there; `toggle`: makes a switch. Gives the parts of a dialog. */
export async function notifying({ notices, push }, toggle) {
    if (!notices.isPossible) return [];
    const heading = h('h3', {}, 'Notifications');
    if (Notification.permission === 'denied') return [heading, h('p', { class: 'hint' }, NOT_ALLOWED)];
    const says = h('p', { role: 'status' });
    const say = (text = '', looks = 'hint is-wrong') => {
        setText(says, text);
        says.className = text === '' ? 'unseen' : looks;
    };
    say();
    const whileOpen = toggle('While the page is open and nobody looks', notices.isOn, async (isOn) => {
        say(await notices.turn(isOn));
        whileOpen.querySelector('input').checked = notices.isOn;
    });
    return [heading, whileOpen, await whileClosed(push, say), says];
}

/** One choice; undefined if this browser or the server can not. */
async function whileClosed(push, say) {
    if (!('PushManager' in window) || !(await push.isOffered())) return undefined;
    const group = h('fieldset', { class: 'choice' }, h('legend', {}, 'While the page is closed, show'));
    const showChosen = () => {
        for (const input of group.querySelectorAll('input')) input.checked = input.value === push.chosen;
        group.removeAttribute('aria-busy');
        say(push.why);
    };
    let choices = 0;
    const choose = async ({ currentTarget: { value } }) => {
        const choice = ++choices;
        group.setAttribute('aria-busy', 'true');
        say('One moment…', 'hint');
        // The browser wants to be asked while it still knows that somebody did something.
        if (value !== OFF) await Notification.requestPermission();
        await push.choose(value);
        // Who goes through them with the keys has chosen another one meanwhile.
        if (choice === choices) showChosen();
    };
    for (const [value, name] of SHOWN) {
        group.append(h('label', {}, h('input', { type: 'radio', name: 'show', value, change: choose }), h('span', {}, name)));
    }
    showChosen();
    return group;
}
