// The codec: bytes of SPEC 2 to 5 and values, both ways, and nothing else. Pure.

export { Refused, exact, saturated, utf8Bytes } from './codec/bytes.js';
export { CONTENT_KINDS, aboutMessage, contentBytes, contentKind, isMessage } from './codec/content.js';
export { conversationOf, isReaction, placeOf } from './codec/entries.js';
export { CLIENT_KINDS, FRAMES, PROVIDERS } from './codec/frames.js';
export { Framer, decode, encode } from './codec/framing.js';
export { conversationKey } from './codec/types.js';
