// Which of several tabs leads: has the connection and writes what the session says. The others follow.
//
// Web Locks alone do not say it: a frozen tab keeps its lock, and leads nobody. So the leader also has a lease in the store, with a time
// until when, which it renews; a tab whose lease is over has lost it, whatever lock it has. So has one that has ended without giving it
// back, as a page does that is loaded anew: each tab has a lock of its own as long as it lives. Who wants to lead waits for the lock, or
// takes it from a leader whose lease is free. And the leader looks at its lease before each commit, in the same transaction: a tab that was
// frozen, and goes on as if nothing was, writes nothing.
//
// Pure: times come in, and what stands in the store. The store makes each of these in one transaction.

/** How long a lease is good. A tab in the background has its timers run once a minute at worst. */
export const LEASE_MS = 90_000;

/** A leader renews when so much is over. */
export const RENEW_AFTER_MS = 20_000;

/** A timer may be this early by the clock of a lease. */
const TIMER_EARLY_MS = 100;

/** When a tab that does not lead looks at the lease that it has read again: soon after it may be over, and now and then before. */
export function looksAfter(lease, now) {
    const leftMs = (lease?.until ?? 0) - now;
    return leftMs > 0 ? Math.min(leftMs + TIMER_EARLY_MS, LEASE_MS / 3) : LEASE_MS / 3;
}

/** Whether nobody leads by this lease: there is none, it is over, or its tab is not among the `living`. */
export const isFree = (lease, living, now) => lease === undefined || lease.until <= now || !living.has(lease.tab);

/** The lease after a tab that wants to lead has asked for it: its own in a new term if it is free or was its own; else what it was. */
export function claimed(lease, tab, living, now) {
    if (lease?.tab !== tab && !isFree(lease, living, now)) return lease;
    return { tab, until: now + LEASE_MS, term: (lease?.term ?? 0) + 1 };
}

/** The lease after the tab that leads in this term has renewed it; what it was, if that is another one by now. */
export const renewed = (lease, tab, term, now) => (leads(lease, tab, term) ? { ...lease, until: now + LEASE_MS } : lease);

/** The lease that is left when a tab gives its own back. */
export function released(lease, tab) {
    return lease?.tab === tab ? { ...lease, until: 0 } : lease;
}

/** Whether a tab leads by this lease, in this term: who lost it and got it again is not who had it before. */
export const leads = (lease, tab, term) => lease !== undefined && lease.tab === tab && lease.term === term;
