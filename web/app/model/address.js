// The open conversation, as the address of the page says it: `#/user/8`, `#/group/12`. Pure.

/** The conversation of a fragment; undefined: it names none. */
export function conversationIn(hash) {
    const [, kind, id] = /^#\/(user|group)\/([1-9]\d{0,19})$/.exec(hash) ?? [];
    return kind === undefined ? undefined : { [kind]: BigInt(id) };
}

/** The fragment of a conversation, and of none. */
export function hashOf(conversation) {
    if (conversation === undefined) return '';
    return conversation.group === undefined ? `#/user/${conversation.user}` : `#/group/${conversation.group}`;
}
