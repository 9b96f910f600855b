// All that an application needs. `ringpost-client/node` has the transport over TCP.

export { Client, RequestRefused, RingpostEvent, connect } from './client.js';
export { CODES, codeName } from './codes.js';
export { PROVIDERS, conversationKey, conversationOf, isMessage, placeOf } from './codec.js';
export * as codec from './codec.js';
export { NotSent, Session } from './session.js';
export { Conversations } from './conversations.js';
export { Group, Groups } from './groups.js';
export { MemoryStore } from './store/memory.js';
export { randomId } from './store/device.js';
export { withFallback } from './transport/fallback.js';
export { polling } from './transport/polling.js';
export { SUBPROTOCOL, websocket } from './transport/websocket.js';
export { IndexedDbStore, deleteIndexedDbStore, openIndexedDbStore } from './store/indexeddb.js';
export { followPage } from './page.js';
export { Tabs } from './tabs.js';
