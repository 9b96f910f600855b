// Where somebody gives a token who has none in this browser.

import { userOf, tokenIn } from '../model/account.js';
import { h } from './dom.js';

/** `signIn`: called with a token that can be read. `why`: what was wrong with the one before. */
export function signInView(signIn, why) {
    const wrong = h('p', { class: 'wrong', role: 'alert' }, why ?? '');
    const submit = (event) => {
        event.preventDefault();
        const token = tokenIn(new FormData(event.currentTarget).get('token'));
        try {
            if (token === undefined) throw new Error('This is no token. Paste the whole line or link that you were given.');
            userOf(token);
            signIn(token);
        } catch ({ message }) {
            wrong.textContent = message;
        }
    };
    return h(
        'main',
        { class: 'sign-in' },
        h('img', { src: '/app/icon.svg', alt: '', width: 72, height: 72 }),
        h('h1', {}, 'Ringpost'),
        h('p', {}, 'Paste the token or the link that you were given.'),
        h(
            'form',
            { submit },
            h('textarea', {
                name: 'token',
                rows: 4,
                required: true,
                'aria-label': 'Token or link',
                autocomplete: 'off',
                spellcheck: 'false',
                autofocus: true,
            }),
            wrong,
            h('button', { class: 'button is-main' }, 'Sign in'),
        ),
        h(
            'p',
            { class: 'hint' },
            'Who runs the server makes one with ',
            h('code', {}, `ringpost token --user 7 --web ${location.origin}`),
            '. It stays in this browser until you sign out.',
        ),
    );
}
