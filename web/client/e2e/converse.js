// A device that a test in another language plays: it connects to a real server and does what its standard input says, one line each. What
// happens is told on standard output, one line each.
//
//   node converse.js URL DEVICE        with the token in RINGPOST_TOKEN; tcp://HOST:PORT, or http://HOST:PORT/v1/frames for long polling
//
//   say USER TEXT      a message to a user                        -> accepted SEQ, once it is
//   say-group ID TEXT  a message to a group                       -> accepted SEQ
//   create NAME        begins a group                             -> created ID
//   add ID USER        adds a member to it                        -> accepted SEQ
//   group ID COUNT     fetches the group until it has so many     -> group FROM/TEXT FROM/TEXT …, of what are texts
//   log SEQ            waits until everything up to SEQ is stored -> log HEX HEX …, each entry as a `deliver` carries it
//   restart            as if its process was killed: a new client on the same store, while the old one does nothing more
//   quit               says bye                                   -> bye
//
// And unasked: connected, lost WORDS.

import { createInterface } from 'node:readline';

import { codec, connect, polling } from '../src/index.js';
import { MemoryStore } from '../src/store/memory.js';
import { tcp } from '../src/transport/tcp.js';

const [url, device] = process.argv.slice(2);
const store = new MemoryStore();
const tell = (line) => process.stdout.write(`${line}\n`);
const hexOf = (bytes) => Buffer.from(bytes).toString('hex');
let client;
let runs = 0;

/** A store that a killed process uses no more. */
function storeOfRun(run) {
    const whileAlive = (does) => (...args) => (run === runs ? does(...args) : new Promise(() => {}));
    return {
        load: () => store.load(),
        commit: whileAlive((changes) => store.commit(changes)),
        entries: (...args) => store.entries(...args),
        close: async () => {},
    };
}

/** A transport whose connections break when the process is killed. */
let breakLinks = [];
function breakable(url, handlers) {
    const link = (url.startsWith('tcp:') ? tcp : polling)(url, handlers);
    breakLinks.push(() => link.close());
    return link;
}

async function start() {
    const run = ++runs;
    for (const breakLink of breakLinks.splice(0)) breakLink();
    // Of the old one nothing is left but its timers: it has no link, and its store takes nothing more.
    client?.close();
    const options = { store: storeOfRun(run), device: BigInt(device), transport: breakable };
    client = await connect(url, () => process.env.RINGPOST_TOKEN, options);
    const ifAlive = (does) => (event) => run === runs && does(event.detail);
    client.addEventListener('welcome', ifAlive(() => tell('connected')));
    client.addEventListener('disconnected', ifAlive(({ reason }) => tell(`lost ${reason.words}`)));
    client.addEventListener('accepted', ifAlive(({ seq }) => tell(`accepted ${seq}`)));
    client.addEventListener('ended', ifAlive(({ reason }) => tell(`ended ${reason.words}`)));
    for (const type of ['refused', 'returned', 'server_error', 'log_replaced']) {
        client.addEventListener(type, ifAlive((detail) => tell(`unexpected ${type} ${detail.code ?? detail.why ?? detail.detail}`)));
    }
}

async function until(happened) {
    while (!(await happened())) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function group(id, count) {
    let texts = [];
    await until(async () => {
        texts = [];
        for (let from = 0, more = true; more; ) {
            const page = await client.fetchConversation({ group: id }, { from, direction: 'forwards', limit: 3 });
            for (const { from: author, content } of page.entries) if (content.text !== undefined) texts.push(`${author}/${content.text}`);
            more = page.more;
            from = page.last + 1;
        }
        return texts.length >= count;
    });
    tell(`group ${texts.join(' ')}`);
}

async function log(seq) {
    await until(async () => {
        const { position } = await store.load();
        return position >= seq;
    });
    const entries = await store.entries();
    tell(`log ${entries.map((entry) => hexOf(codec.encode('server', 'deliver', { entry }))).join(' ')}`);
}

async function run(line) {
    const [command, first, ...rest] = line.split(' ');
    const text = rest.join(' ');
    switch (command) {
        case 'say':
            return client.text({ user: BigInt(first) }, text);
        case 'say-group':
            return client.text({ group: BigInt(first) }, text);
        case 'create': {
            const { group: id, answer } = client.createGroup(first);
            await answer;
            return tell(`created ${id}`);
        }
        case 'add':
            return client.act(BigInt(first), { act: 'add', user: BigInt(text) });
        case 'group':
            return group(BigInt(first), Number(text));
        case 'log':
            return log(Number(first));
        case 'restart':
            // What a program was told of that is not in its store is lost when it is killed, and nothing here is to be lost.
            await until(async () => {
                const stored = new Set((await store.load()).messages.map(({ id }) => id));
                return client.unanswered.every(({ id }) => stored.has(id));
            });
            return start();
        case 'quit':
            await client.close();
            tell('bye');
            return process.exit(0);
        default:
            throw new Error(`no command is called ${command}`);
    }
}

await start();
for await (const line of createInterface({ input: process.stdin })) await run(line);
