// Types of `index.js`. Names are those of SPEC.md; what a type means is said there and beside the code.

/** Names something (a user, device, group or epoch): all 64 bits. */
export type Id = bigint;
/** A set of bits: settings, rules, kinds. */
export type Bits = bigint;
/** Counts: a seq, number, time or duration. */
export type Count = number;

export type Conversation = { user: Id; group?: undefined } | { group: Id; user?: undefined };
export type Role = 'member' | 'admin' | 'owner';
export type Standing = 'unknown' | 'member' | 'left' | 'removed' | 'banned';
export type PresenceState = 'unknown' | 'offline' | 'away' | 'online';

/** The name of a message (SPEC 3.6). */
export interface MessageName {
    author: Id;
    author_seq: Count;
}

/** Where what a change is about stands (SPEC 5.4.5): in entries; a client leaves it out. */
export interface Stands {
    place?: Count;
    written?: Count;
}

export type Act =
    | { act: 'create'; name: string; picture: string; rules: Bits }
    | { act: 'add' | 'remove' | 'ban' | 'unban'; user: Id }
    | { act: 'set_role'; user: Id; role: Role }
    | { act: 'describe'; name: string; picture: string }
    | { act: 'set_rules'; rules: Bits }
    | { act: 'invite'; digest: Uint8Array }
    | { act: 'join'; secret: Uint8Array }
    | { act: 'end' };

export interface Attachment {
    attachment_kind: 'file' | 'image' | 'video' | 'audio';
    size: Count;
    sha256: Uint8Array;
    content_type: string;
    location: string;
    width: Count;
    height: Count;
    duration_ms: Count;
    thumbnail: string;
    caption: string;
}

/** Exactly one of these, or `kind` and `bytes` of a content that version 1 does not have. */
export interface Content {
    text?: string;
    reply?: MessageName & { quote: string; text: string };
    attachment?: Attachment;
    opaque?: Uint8Array;
    edit?: MessageName & Stands & { content: Content };
    unsend?: MessageName & Stands;
    reaction?: MessageName & Stands & { reaction: string };
    act?: Act;
    mention?: { users: Id[]; text: string };
    kind?: number;
    bytes?: Uint8Array;
}

export type Entry = { seq: Count; time: Count } & (
    | { kind: 'received'; from: Id; origin: Count; content: Content }
    | { kind: 'sent'; to: Id; device: Id; number: Count; content: Content }
    | { kind: 'delivered' | 'seen'; peer: Id; up_to: Count }
    | { kind: 'read'; peer: Id; up_to: Count; unread: Count; told: Count }
    | { kind: 'settings'; peer: Id; settings: Bits }
    | { kind: 'deleted'; peer: Id; author: Id; author_seq: Count; place: Count; unread: Count }
    | { kind: 'visibility'; visibility: Bits }
    | { kind: 'sent_to_group'; group: Id; device: Id; number: Count; content: Content }
    | { kind: 'devices'; removed: Id; why: 'user' | 'room' | 'operator'; devices: Id[] }
    | { kind: 'group'; group: Id; standing: Standing; first: Count; up_to: Count; sent_up_to: Count }
    | { kind: 'group_refused'; group: Id; origin: Count; code: Count }
    | { kind: 'group_read'; group: Id; up_to: Count }
    | { kind: 'group_settings'; group: Id; settings: Bits }
    | { kind: 'group_deleted'; group: Id; place: Count }
    /** Of a kind that version 1 does not have. */
    | { kind: number }
);

export interface GroupEntry {
    seq: Count;
    time: Count;
    from: Id;
    origin: Count;
    messages: Count;
    content: Content;
}

export interface Page {
    request: Count;
    first: Count;
    last: Count;
    more: boolean;
    entries: Entry[];
    delivered_up_to: Count;
    seen_up_to: Count;
}

export interface GroupPage {
    request: Count;
    group: Id;
    first: Count;
    last: Count;
    more: boolean;
    head: Count;
    entries: GroupEntry[];
}

export interface InboxRow {
    conversation: Conversation;
    settings: Bits;
    unread: Count;
    read_up_to: Count;
    delivered_up_to: Count;
    seen_up_to: Count;
    left_out: Count;
    last: Entry;
}

export interface Inbox {
    request: Count;
    at: Count;
    more: boolean;
    rows: InboxRow[];
}

export interface GroupRow {
    group: Id;
    standing: Standing;
    role: Role;
    rules: Bits;
    members: Count;
    head: Count;
    name: string;
    picture: string;
    last: GroupEntry | null;
    settings: Bits;
    read_up_to: Count;
    unread: Count;
}

/** The answer to a `fetch_groups`. */
export interface GroupList {
    request: Count;
    at: Count;
    more: boolean;
    rows: GroupRow[];
}

export interface Member {
    user: Id;
    role: Role;
    since: Count;
    read_up_to: Count;
    delivered_up_to: Count;
}

export interface Members {
    request: Count;
    group: Id;
    more: boolean;
    at: Count;
    members: Member[];
    delivered: Count;
    read: Count;
}

export type Provider = 'web_push' | 'webhook' | 'fcm' | 'apns';
export type Show = 'nothing' | 'sender' | 'text';

/** How a device is subscribed to notifications: by the number of the provider in `PROVIDERS`; `0n`: it is not. */
export interface PushState {
    request: Count;
    /** A sum of `1n << provider`. */
    providers: Bits;
    server_key: Uint8Array;
    provider: Id;
    show: Show;
    address: string;
}

export interface Device {
    device: Id;
    seen_day: Count;
    connected: boolean;
    cursor: Count;
    name: string;
}

export interface Presence {
    user: Id;
    state: PresenceState;
    last_seen: Count;
}

/** Why a connection ended, or the client did. `words` is for a person. */
export interface Reason {
    kind:
        | 'link' | 'open_timeout' | 'welcome_timeout' | 'silent' | 'protocol' | 'hole' | 'not_ringpost' | 'other_log' | 'redirected' | 'circle'
        | 'bye' | 'suspended' | 'closed' | 'version' | 'failed';
    words: string;
    /** Of a bye (SPEC 6). */
    code?: Count;
    detail?: string;
    devices?: Device[];
    error?: Error;
}

export interface Welcome {
    version: Count;
    user: Id;
    device: Id;
    server_time: Count;
    head: Count;
    cursor: Count;
    last_number: Count;
    send_window: Count;
    text_bytes_max: Count;
    page_entries_max: Count;
    idle_timeout_ms: Count;
    committed: Count;
    epoch: Id;
    content_kinds: Bits;
    conversation_kinds: Bits;
    frame_kinds: Bits;
    edit_within_s: Count;
    unsend_within_s: Count;
    skipped: Count;
    visibility: Bits;
    /** 0: the server does not tell how often it pings. */
    ping_after_ms: Count;
    address: string;
}

export interface Accepted {
    id: string;
    number: Count;
    seq: Count;
    time: Count;
    durability: 'memory' | 'local' | 'committed';
    recipient: 'offline' | 'online' | 'yourself';
}

/** What a client tells, by the type of the event: its `detail`. */
export interface Told {
    welcome: Welcome;
    disconnected: { reason: Reason; retry_in_ms: Count | null };
    ended: { reason: Reason };
    /** `place`: where the message stands that it is or is about; undefined if there is none. */
    entry: { entry: Entry; place: Count | undefined };
    accepted: Accepted;
    refused: { id: string; code: Count };
    cancelled: { id: string };
    returned: { id: string; to: Conversation; content: Content; why: NotSent };
    committed: { up_to: Count };
    /** What is held of the log is void; `dropped`: changes of messages of it that were not sent. */
    log_replaced: { detail: string; dropped: string[] };
    /** What stands between was not pushed: what is shown is fetched anew (SPEC 8.8). Of a tab that was away when the log was discarded, all. */
    skipped: { after: Count; up_to: Count };
    epoch: { first: Count; epoch: Id };
    group_entry: { group: Id; entry: GroupEntry };
    presence: Presence;
    typing: { conversation: Conversation; user: Id };
    typing_ended: { conversation: Conversation; user: Id };
    token_expiring: { expires_in_ms: Count };
    token_wanted: { reason: Reason; retry_in_ms: Count };
    token_refreshed: { expires: Count };
    token_refused: { code: Count; detail: string };
    /** What the provider threw; in a tab that does not lead, an Error of the same name and message. */
    token_failed: { error: Error };
    server_error: { code: Count; kind: Count; detail: string };
}

export declare class RingpostEvent<Type extends keyof Told = keyof Told> extends Event {
    constructor(type: Type, detail: Told[Type]);
    readonly detail: Told[Type];
}

/** Not there at run time: `Client` and `Tabs` are each an EventTarget. */
declare abstract class Teller extends EventTarget {
    addEventListener<Type extends keyof Told>(
        type: Type,
        listener: (event: RingpostEvent<Type>) => void,
        options?: boolean | AddEventListenerOptions,
    ): void;
    addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
    removeEventListener<Type extends keyof Told>(
        type: Type,
        listener: (event: RingpostEvent<Type>) => void,
        options?: boolean | EventListenerOptions,
    ): void;
    removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** What became of a message. */
export type Answer =
    | ({ type: 'accepted'; handle: number } & Accepted)
    | { type: 'refused'; id: string; code: Count }
    | { type: 'cancelled' | 'dropped'; id: string }
    | { type: 'returned'; id: string; to: Conversation; content: Content; why: NotSent };

export interface Sent {
    id: string;
    /** Rejected when the client fails, as its store did, or ends before there is one: the next client with this store sends the message. */
    answer: Promise<Answer>;
}

export type Token = () => string | Promise<string>;

export interface Link {
    write(bytes: Uint8Array): void;
    close(): void;
    readonly buffered: number;
    pause?(): void;
    resume?(): void;
}

export interface LinkHandlers {
    opened(): void;
    bytes(bytes: Uint8Array): void;
    closed(words: string): void;
}

export type Transport = (url: string, handlers: LinkHandlers) => Link;

export interface StoredMessage {
    id: string;
    number: Count | null;
    to: Conversation;
    content: Content;
}

/** What became of a message, as a store keeps it: an `Answer` in which `why` is no error any more. */
export type KeptAnswer = { id: string; type: Answer['type']; [field: string]: unknown };

export type Change =
    | ({ op: 'message' } & StoredMessage)
    | { op: 'answered'; id: string; answer: KeptAnswer }
    | { op: 'entry'; entry: Entry }
    | { op: 'position'; position: Count; epoch: Id; since: Count }
    | { op: 'discard' };

export interface Store {
    /** `discards`: how often the log was discarded. */
    load(): Promise<{ device: Id; epoch: Id; since: Count; position: Count | null; discards: Count; messages: StoredMessage[] }>;
    commit(changes: Change[], only?: { key: string; holds(value: unknown): boolean }): Promise<void>;
    entries(from?: Count, limit?: number): Promise<Entry[]>;
    close(): Promise<void>;
}

/** A store that several tabs share. */
export interface SharedStore extends Store {
    /** What became of messages, the newest 1,024. */
    answers(): Promise<KeptAnswer[]>;
    update<Value>(key: string, change: (value: Value | undefined) => Value): Promise<Value>;
    /** The page stands still between them: what is asked meanwhile, or was not done before, is done then. */
    pause(): void;
    resume(): void;
}

export declare class MemoryStore implements SharedStore {
    load: Store['load'];
    commit: Store['commit'];
    entries: Store['entries'];
    close: Store['close'];
    answers: SharedStore['answers'];
    update: SharedStore['update'];
    pause: SharedStore['pause'];
    resume: SharedStore['resume'];
}

export declare class IndexedDbStore implements SharedStore {
    /** It opens meanwhile: what it is asked waits for that, and fails if it does not open. */
    constructor(name: string, options?: { factory?: IDBFactory });
    /** Settles when it is open. */
    readonly opened: Promise<void>;
    load: Store['load'];
    commit: Store['commit'];
    entries: Store['entries'];
    close: Store['close'];
    answers: SharedStore['answers'];
    update: SharedStore['update'];
    pause: SharedStore['pause'];
    resume: SharedStore['resume'];
}

/** Deletes what a store of this name holds, for good. */
export declare function deleteIndexedDbStore(name: string, options?: { factory?: IDBFactory }): Promise<void>;
export declare function openIndexedDbStore(name: string, options?: { factory?: IDBFactory }): Promise<IndexedDbStore>;

export interface Options {
    store?: Store;
    transport?: Transport;
    device?: Id;
    /** Where a device without a position begins; the beginning of the log by default. */
    resume?: 'live' | 'stored' | { after: Count };
    skip_above?: Count;
    follows_redirects?: boolean;
    backoff_max_ms?: Count;
}

export declare function connect(url: string, token: Token, options?: Options): Promise<Client>;

export interface FetchOptions {
    from?: Count;
    direction?: 'forwards' | 'backwards';
    limit?: Count;
}

export declare class Client extends Teller {
    private constructor();
    readonly user: Id | undefined;
    readonly device: Id;
    readonly phase: Phase;
    readonly unanswered: { id: string; to: Conversation; content: Content }[];
    entries(from?: Count, limit?: number): Promise<Entry[]>;

    send(to: Conversation, content: Content): Sent;
    text(to: Conversation, text: string): Sent;
    reply(to: Conversation, message: MessageName & { quote?: string }, text: string): Sent;
    edit(to: Conversation, seq: Count, content: Content): Sent;
    unsend(to: Conversation, seq: Count): Sent;
    react(to: Conversation, message: MessageName, reaction: string): Sent;
    look(): void;
    cancel(id: string): boolean;
    createGroup(name: string, options?: { picture?: string; rules?: Bits }): Sent & { group: Id };
    act(group: Id, act: Act): Sent;

    request(name: string, fields: object): Promise<unknown>;
    fetchLog(options?: FetchOptions): Promise<Page>;
    fetchConversation(conversation: { user: Id }, options?: FetchOptions): Promise<Page>;
    fetchConversation(conversation: { group: Id }, options?: FetchOptions): Promise<GroupPage>;
    fetchInbox(options?: { before?: Count; limit?: Count }): Promise<Inbox>;
    fetchGroups(options?: { after?: Id; limit?: Count }): Promise<GroupList>;
    fetchMembers(group: Id, options?: { after?: Id; limit?: Count; seq?: Count }): Promise<Members>;
    markRead(conversation: Conversation, seq: Count, options?: { tell?: boolean }): Promise<{ request: Count }>;
    setConversation(conversation: Conversation, bits: { set?: Bits; cleared?: Bits }): Promise<{ request: Count }>;
    deleteMessage(conversation: Conversation, place: Count): Promise<{ request: Count }>;
    fetchDevices(): Promise<{ request: Count; devices: Device[] }>;
    removeDevice(device: Id): Promise<{ request: Count; devices: Device[] }>;
    nameDevice(device: Id, name: string): Promise<{ request: Count; devices: Device[] }>;

    fetchSubscription(): Promise<PushState>;
    subscribe(subscription: {
        provider: Provider;
        show: Show;
        address: string;
        key?: Uint8Array;
        secret?: Uint8Array;
    }): Promise<PushState>;
    unsubscribe(): Promise<PushState>;

    watch(users: Id[]): void;
    fetchPresence(users: Id[]): Promise<{ request: Count; lifetime_ms: Count; states: Presence[] }>;
    setStatus(status: 'here' | 'away'): void;
    setVisibility(bits: { set?: Bits; cleared?: Bits }): Promise<{ request: Count }>;
    typing(conversation: Conversation): void;

    reconnectNow(): void;
    probe(): void;
    suspend(): void;
    resume(): void;
    close(): Promise<void>;
}

export interface TabsOptions extends Omit<Options, 'store'> {
    name: string;
    store: SharedStore;
    locks?: LockManager;
    Channel?: typeof BroadcastChannel;
    clock?: () => number;
}

export declare class Tabs extends Teller {
    constructor(url: string, token: Token, options: TabsOptions);
    static readonly EVENTS: readonly (keyof Told)[];
    readonly isLeading: boolean;
    readonly isLookedAt: boolean;
    readonly user: Id | undefined;
    send(to: Conversation, content: Content): Promise<string>;
    request(name: string, fields: object): Promise<unknown>;
    cancel(id: string): Promise<boolean>;
    watch(users: Id[]): void;
    typing(conversation: Conversation): Promise<void>;
    setStatus(status: 'here' | 'away'): void;
    reconnectNow(): Promise<void>;
    probe(): Promise<void>;
    entries(from?: Count, limit?: number): Promise<Entry[]>;
    checkLease(): Promise<void>;
    suspend(): void;
    resume(): void;
    close(): Promise<void>;
}

/** Ends the connection when a page is put away, and goes on when it is shown. Gives a function that stops that. */
export declare function followPage(
    client: Pick<Client | Tabs, 'suspend' | 'resume' | 'probe' | 'reconnectNow' | 'setStatus'>,
    options?: { page?: Document; view?: Window },
): () => void;

export type Phase = 'waiting' | 'opening' | 'greeting' | 'ready' | 'token' | 'suspended' | 'ended';

export interface SessionConfig extends Omit<Options, 'store' | 'transport'> {
    device: Id;
    token: string;
    address: string;
    epoch?: Id;
    since?: Count;
    acknowledging?: 'when_handed_out' | 'by_application';
    keeping?: 'in_memory' | 'by_application';
    unanswered?: { number: Count | null; to: Conversation; content: Content }[];
}

export type Input =
    | { kind: 'connected' }
    | { kind: 'bytes'; bytes: Uint8Array }
    | { kind: 'disconnected'; words: string }
    | { kind: 'tick' };

export interface Effects {
    bytes: Uint8Array | null;
    link: 'open' | 'close' | null;
    events: { type: string; [field: string]: unknown }[];
}

/** The protocol as a pure state machine: for who brings links, clocks and stores of their own. */
export declare class Session {
    constructor(config: SessionConfig);
    handle(turn: { now: number; random: number; unwritten?: number }, input: Input): Effects;
    deadline(now: number): number | undefined;
    readonly address: string;
    readonly device: Id;
    readonly phase: Phase;
    readonly position: Count | undefined;
    readonly epoch: Id;
    readonly since: Count;
    readonly unanswered: { handle: number; number: Count | null; to: Conversation; content: Content }[];
    readonly unaskedAnswers: number;
    send(to: Conversation, content: Content): number;
    cancel(handle: number): boolean;
    fetch(name: string, fields: object): number;
    watch(users: Id[]): void;
    setStatus(status: 'here' | 'away'): void;
    typing(conversation: Conversation): void;
    acknowledge(seq: Count): void;
    acknowledgeGroup(group: Id, seq: Count): void;
    filled(since: Count): void;
    kept(handle: number, number: number): void;
    logDiscarded(): void;
    setToken(token: string): void;
    reconnectNow(): void;
    probe(): void;
    suspend(): void;
    resume(): void;
    close(): void;
}

/** Nothing has left: `code` says why, the message what to do. */
export declare class NotSent extends Error {
    constructor(code: string, message: string);
    readonly code: string;
}

/** `code` of SPEC 6. */
export declare class RequestRefused extends Error {
    constructor(refused: { code: Count; detail: string });
    readonly code: Count;
}

/** The list of conversations with users (SPEC 8.6): pages laid under entries. */
export declare class Conversations {
    readonly rows: InboxRow[];
    readonly older: Count | undefined;
    page(before: Count, inbox: Pick<Inbox, 'at' | 'more' | 'rows'>): void;
    entry(entry: Entry): Count | undefined;
}

/** What is known of a group (SPEC 8.12): pushes and pages of its log laid together. */
export declare class Group {
    standing: Standing;
    first: Count;
    reached: Count;
    readUpTo: Count;
    settings: Bits;
    row: GroupRow | undefined;
    unanswered: Map<Count, Content>;
    span: { readonly first: Count | undefined; readonly last: Count | undefined; readonly entries: Map<Count, GroupEntry> };
    readonly lacks: { from: Count; direction: 'forwards' | 'backwards' } | undefined;
    readonly older: { from: Count; direction: 'backwards' } | undefined;
    readonly messages: { place: Count; author: Id; entry: GroupEntry; reactions: Map<Id, string> }[];
    entry(entry: Entry): void;
    pushed(entry: GroupEntry): void;
    page(direction: 'forwards' | 'backwards', page: GroupPage): void;
    setRow(at: Count, row: GroupRow): void;
    unread(me: Id): Count | undefined;
}

export declare class Groups {
    readonly all: [Id, Group][];
    get(group: Id): Group;
    entry(entry: Entry): void;
    pushed(group: Id, entry: GroupEntry): void;
    page(direction: 'forwards' | 'backwards', page: GroupPage): void;
    rows(page: Pick<GroupList, 'at' | 'rows'>): void;
    discard(): void;
}

export declare const PROVIDERS: { readonly [name in Provider]: Id };
export declare const CODES: { readonly [name: string]: Count };
export declare function codeName(code: Count): string;
export declare function conversationKey(conversation: Conversation): string;
export declare function conversationOf(entry: Entry): Conversation | undefined;
export declare function placeOf(entry: Entry): Count | undefined;
export declare function isMessage(content: Content): boolean;
export declare function randomId(): Id;
export declare const SUBPROTOCOL: 'ringpost.v1';
export declare const websocket: Transport;
export declare const polling: Transport;
/** WebSocket, and long polling where that does not get through: the transport of a client that names none. */
export declare function withFallback(of?: { first?: Transport; second?: Transport }): Transport;

export declare namespace codec {
    type Direction = 'client' | 'server';
    class Refused extends Error {
        readonly error: string;
        readonly field: string | undefined;
    }
    class Framer {
        constructor(direction: Direction);
        frames(bytes: Uint8Array): IterableIterator<{ kind: number; body: Uint8Array }>;
        readonly isHolding: boolean;
        readonly heldKind: number | undefined;
    }
    /** `wide`: what a count above 2^53 - 1 becomes; `exact` by default. */
    function decode(
        direction: Direction,
        frame: { kind: number; body: Uint8Array },
        wide?: (value: bigint) => number | bigint,
    ): { name: string; fields: Record<string, unknown> };
    function encode(direction: Direction, name: string, fields: object): Uint8Array;
    function exact(value: bigint): bigint;
    function saturated(value: bigint): number;
}
