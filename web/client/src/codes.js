// Error codes (SPEC 6), by name and by number.

export const CODES = {
    malformed: 1, frame_too_large: 2, unknown_kind: 3, version: 4, not_now: 5, handshake_timeout: 6, tls_required: 7,
    token_missing: 10, token_invalid: 11, token_expired: 12, device_refused: 13, cursor_ahead: 14, revoked: 15, other_log: 16,
    device_removed: 17, no_such_device: 18,
    send_gap: 20, text_length: 21, content_kind: 22, recipient: 23, window_full: 24, acknowledge_ahead: 25, too_many_fetches: 26,
    number_used: 27, given_up: 28, content_limits: 29,
    overloaded: 30, storage_full: 31, storage_failed: 32, too_many_connections: 33, rate_limited: 34, no_such_message: 35,
    not_the_author: 36, too_late: 37, other_kind: 38, taken_back: 39,
    replaced: 40, idle_timeout: 41, stopping: 42, slow_consumer: 43,
    reactions_full: 50, unwanted: 51, elsewhere: 52,
    no_such_group: 60, not_allowed: 61, group_exists: 62, group_full: 63, no_such_member: 64, member_already: 65, banned: 66,
    not_invited: 67, group_ended: 68, too_many_groups: 69,
    bad_subscription: 70,
};
const NAMES = Object.fromEntries(Object.entries(CODES).map(([name, code]) => [code, name]));

/** The name of a code; of one that version 1 does not have, `code n`. */
export const codeName = (code) => NAMES[code] ?? `code ${code}`;

/**
 * What a client does after a bye (SPEC 6), beside waiting for as long as the bye says:
 * `retry` with backoff, `long`: back off for long, `token`: get another token first, `anew`: begin the log anew, `end`: there is
 * nothing that this program can do by itself.
 */
export function afterBye(code, retryAfterMs) {
    switch (codeName(code)) {
        case 'version':
        case 'tls_required':
        case 'device_refused':
        case 'device_removed':
            return 'end';
        case 'token_missing':
        case 'token_invalid':
        case 'token_expired':
        case 'revoked':
            return 'token';
        case 'cursor_ahead':
        case 'other_log':
            return 'anew';
        case 'malformed':
        case 'frame_too_large':
        case 'not_now':
            return 'long';
        case 'handshake_timeout':
        case 'overloaded':
        case 'storage_failed':
        case 'too_many_connections':
        case 'rate_limited':
        case 'replaced':
        case 'idle_timeout':
        case 'stopping':
        case 'slow_consumer':
        case 'elsewhere':
            return 'retry';
        // Of other frames, or of a later version.
        default:
            return retryAfterMs > 0 ? 'retry' : 'long';
    }
}
