// A link that is opened before there is somebody to speak on it, so that a connection is made while a store opens. What it tells waits.

/**
 * Opens the first link of a transport. Gives `transport`, which gives this link first if it still stands, and `drop`, for when it is not
 * needed.
 */
export function ahead(transport, url) {
    const told = [];
    let hear = (type, what) => told.push([type, what]);
    let link;
    const taken = () => {
        const of = link;
        link = undefined;
        return of;
    };
    try {
        link = transport(url, {
            opened: () => hear('opened'),
            bytes: (bytes) => hear('bytes', bytes),
            closed(words) {
                taken();
                hear('closed', words);
            },
        });
    } catch {
        // Who wants one has it fail again, and is told.
    }
    return {
        transport(to, handlers) {
            const first = taken();
            if (first === undefined || to !== url) {
                first?.close();
                return transport(to, handlers);
            }
            queueMicrotask(() => {
                hear = (type, what) => handlers[type](what);
                for (const [type, what] of told) hear(type, what);
            });
            return first;
        },
        drop: () => taken()?.close(),
    };
}
