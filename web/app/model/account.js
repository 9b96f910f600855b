// Who somebody is, by their token. Pure.
//
// A token is a JWT, which the server alone checks. Here it is only read: the page must know the user before there is a connection, since each
// user has a store of their own.

import { TOKEN_BYTES_MAX } from '/client/limits.js';

/** The token in what somebody pasted: the token itself, or a link with it. Undefined: there is none. */
export function tokenIn(text) {
    const [, token = text] = /#token=(.*)$/s.exec(text) ?? [];
    const trimmed = token.trim();
    return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(trimmed) && trimmed.length <= TOKEN_BYTES_MAX ? trimmed : undefined;
}

/** Whose token it is. Throws words for a person. */
export function userOf(token) {
    const { sub } = claimsOf(token);
    if (typeof sub !== 'string' || !/^[1-9]\d{0,19}$/.test(sub)) {
        throw new Error('This token names no user. Paste the whole line that you were given.');
    }
    return BigInt(sub);
}

function claimsOf(token) {
    try {
        const [, payload] = token.split('.');
        const bytes = atob(payload.replaceAll('-', '+').replaceAll('_', '/'));
        const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0))));
        return typeof claims === 'object' && claims !== null ? claims : {};
    } catch {
        return {};
    }
}
