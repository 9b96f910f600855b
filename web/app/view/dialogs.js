// What is asked and told beside the messages: a new conversation, how one is kept, a group's members, the account.

import { randomId } from '/client/index.js';
import { NAME_CHARS_MAX } from '../limits.js';
import { KEPT } from '../model/inbox.js';
import * as words from '../model/words.js';
import { button, h, iconButton } from './dom.js';
import { notifying } from './notifying.js';

/** Opens a dialog; `fill` gives its parts, and is called again with each `again()`. Gives a function that closes it. */
function open(title, fill) {
    const body = h('div', { class: 'dialog-body' });
    const close = () => dialog.close();
    const heading = h('h2', { id: 'dialog-title' }, title);
    const dialog = h(
        'dialog',
        { 'aria-labelledby': 'dialog-title', close: () => dialog.remove(), click: (event) => event.target === dialog && close() },
        h('header', {}, heading, iconButton('close', 'Close', close)),
        body,
    );
    const again = async () => body.replaceChildren(...[await fill({ close, again })].flat().filter((part) => part !== undefined));
    document.body.append(dialog);
    again();
    dialog.showModal();
    return close;
}

/** A form with one button; `does` gets the values of its fields by their names. */
function form(does, name, ...parts) {
    const submit = (event) => {
        event.preventDefault();
        does(Object.fromEntries(new FormData(event.currentTarget)));
    };
    return h('form', { class: 'field', submit }, ...parts, h('button', { class: 'button is-main' }, name));
}

const field = (label, attributes) => h('label', {}, h('span', {}, label), h('input', { autocomplete: 'off', ...attributes }));
const NUMBER = { inputmode: 'numeric', pattern: '[1-9][0-9]{0,19}', required: true };

function toggle(label, isOn, does) {
    return h(
        'label',
        { class: 'toggle' },
        h('span', {}, label),
        h('input', { type: 'checkbox', checked: isOn, change: (event) => does(event.currentTarget.checked) }),
    );
}

const numbersIn = (text) => (text.match(/[1-9]\d{0,19}/g) ?? []).map(BigInt);

/** `show`: opens a conversation. */
export function openNew(model, show) {
    open('New conversation', ({ close }) => [
        form(
            ({ user }) => {
                close();
                show({ user: BigInt(user) });
            },
            'Write',
            field('Number of a user', { name: 'user', ...NUMBER }),
        ),
        form(
            async ({ name, users }) => {
                close();
                const group = randomId();
                await model.send({ act: { act: 'create', name, picture: '', rules: 0n } }, { group });
                for (const user of numbersIn(users)) await model.send({ act: { act: 'add', user } }, { group });
                show({ group });
            },
            'Begin a group',
            field('Name of a group', { name: 'name', maxlength: NAME_CHARS_MAX, required: true }),
            field('Numbers of its members', { name: 'users', inputmode: 'numeric' }),
        ),
    ]);
}

export function openDetails(model, conversation) {
    const { user, group } = conversation;
    open(model.titleOf(conversation), async ({ close, again }) => {
        const settings = model.settingsOf(conversation);
        const keep = (bit) => (isOn) => model.keep(conversation, isOn ? { set: bit } : { cleared: bit });
        const kept = (label, bit) => toggle(label, (settings & bit) !== 0n, keep(bit));
        const parts = [kept('Pinned', KEPT.pinned), kept('Muted', KEPT.muted), kept('Archived', KEPT.archived)];
        if (group === undefined) {
            if (user === model.me) return parts;
            const name = form(
                ({ called }) => (model.call(user, called.trim()), close()),
                'Call them so',
                field(`Your name for user ${user}`, { name: 'called', maxlength: NAME_CHARS_MAX, value: model.names.get(user) ?? '' }),
            );
            return [name, ...parts, kept('Blocked', KEPT.blocked)];
        }
        return [...parts, kept('Announce only what names you', KEPT.mentions), ...(await ofGroup(model, group, close, again))];
    });
}

async function ofGroup(model, group, close, again) {
    const { row, standing } = model.groupOf(group);
    if (standing !== 'member' || row === undefined) return [];
    const answer = await model.ask('fetch_members', { group, after: 0n, limit: 1000, seq: 0 });
    const act = async (of) => {
        await model.send({ act: of }, { group });
        // The group does it, a moment later.
        setTimeout(again, 300);
    };
    const mayAdd = row.role !== 'member' || (row.rules & 1n) === 0n;
    const mayDescribe = row.role !== 'member' || (row.rules & 4n) === 0n;
    const mayRemove = (member) => member.user !== model.me && (row.role === 'owner' || (row.role === 'admin' && member.role === 'member'));
    const one = (member) =>
        h(
            'li',
            {},
            h('span', {}, model.nameOf(member.user), member.role === 'member' ? undefined : h('span', { class: 'role' }, member.role)),
            row.role === 'owner' && member.user !== model.me
                ? button(member.role === 'admin' ? 'Make member' : 'Make admin', () =>
                      act({ act: 'set_role', user: member.user, role: member.role === 'admin' ? 'member' : 'admin' }),
                  )
                : undefined,
            row.role === 'owner' && member.role === 'admin'
                ? button('Hand over', () => act({ act: 'set_role', user: member.user, role: 'owner' }))
                : undefined,
            mayRemove(member) ? button('Remove', () => act({ act: 'remove', user: member.user })) : undefined,
        );
    return [
        mayDescribe
            ? form(
                  ({ name }) => act({ act: 'describe', name, picture: row.picture }),
                  'Call it so',
                  field('Name of the group', { name: 'name', maxlength: NAME_CHARS_MAX, value: row.name, required: true }),
              )
            : undefined,
        h('h3', {}, `Members (${row.members})`),
        h('ul', { class: 'plain' }, (answer?.members ?? []).map(one)),
        mayAdd
            ? form(({ user }) => act({ act: 'add', user: BigInt(user) }), 'Add', field('Number of a user', { name: 'user', ...NUMBER }))
            : undefined,
        button('Leave the group', () => (act({ act: 'remove', user: model.me }), close()), { class: 'button is-grave' }),
    ];
}

/** Who has a message of a group. */
export function openInfo(model, group, item) {
    open('Who has it', async () => {
        const answer = await model.ask('fetch_members', { group, after: 0n, limit: 1000, seq: item.place });
        if (answer === undefined) return [];
        const state = ({ read_up_to: read, delivered_up_to: delivered }) =>
            read >= item.place ? 'has read it' : delivered >= item.place ? 'has it' : 'not yet';
        const others = answer.members.filter(({ user }) => user !== model.me);
        return [
            h('p', {}, `${answer.delivered} of ${others.length} have it, ${answer.read} have read it.`),
            h(
                'ul',
                { class: 'plain' },
                others.map((member) => h('li', {}, h('span', {}, model.nameOf(member.user)), h('span', { class: 'role' }, state(member)))),
            ),
        ];
    });
}

/** `notices`: see notices.js; `push`: see push.js; `device`: of this browser; `signOut`: ends everything here. */
export function openAccount(model, { notices, push, device, signOut }) {
    open(`User ${model.me}`, async ({ again }) => {
        const [answer, ofNotices] = await Promise.all([model.ask('fetch_devices', {}), notifying({ notices, push }, toggle)]);
        const remove = async (of) => {
            await model.ask('remove_device', { device: of });
            again();
        };
        const one = (of) =>
            h(
                'li',
                {},
                h(
                    'span',
                    {},
                    of.name || `Device ${of.device % 10_000n}`,
                    of.device === device
                        ? h('span', { class: 'role' }, 'this browser')
                        : of.connected
                          ? h('span', { class: 'role' }, 'connected')
                          : undefined,
                ),
                of.device === device ? undefined : button('Remove', () => remove(of.device)),
            );
        const show = (bit) => (isOn) => model.ask('set_visibility', isOn ? { set: bit, cleared: 0n } : { set: 0n, cleared: bit });
        return [
            ...ofNotices,
            h('h3', {}, 'What others see'),
            toggle('Invisible: nobody sees whether you are here', (model.visibility & 1n) !== 0n, show(1n)),
            toggle('Nobody sees when you were last here', (model.visibility & 2n) !== 0n, show(2n)),
            h('h3', {}, 'Devices'),
            h('ul', { class: 'plain' }, (answer?.devices ?? []).map(one)),
            h('p', { class: 'hint' }, 'To sign out removes your messages and the token from this browser.'),
            button('Sign out', signOut, { class: 'button is-grave' }),
        ];
    });
}
