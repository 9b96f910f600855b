// Fetches, marks and changes of devices from their request to their answer. Each is in the table until it is answered; a lost connection or
// a refusal that passes makes it wait again, for asking twice does no harm.

import { FETCHES_IN_FLIGHT_MAX, QUEUED_FETCHES_MAX } from '../limits.js';

/** What may be asked for, and which frames answer it. */
const ANSWERS = {
    fetch_log: ['page'],
    fetch_conversation: ['page', 'group_page'],
    fetch_inbox: ['inbox'],
    mark_read: ['marked'],
    set_conversation: ['marked'],
    delete_message: ['marked'],
    set_visibility: ['marked'],
    fetch_devices: ['devices'],
    remove_device: ['devices'],
    name_device: ['devices'],
    subscribe: ['subscription'],
    unsubscribe: ['subscription'],
    fetch_subscription: ['subscription'],
    fetch_digest: ['digest'],
    fetch_presence: ['presence'],
    fetch_groups: ['groups'],
    fetch_members: ['members'],
};

export const isFetch = (name) => name in ANSWERS;

/** Whether it names a place in a log. */
export const isPlaced = ({ from, up_to: upTo, before, place, first, last, seq }) =>
    [from, upTo, before, place, first, last, seq].some((value) => value > 0);

const namesGroup = ({ name, fields }) =>
    fields.conversation?.group !== undefined || (name === 'fetch_digest' && (fields.group ?? 0n) !== 0n);

export class Fetches {
    /** { request, name, fields, isInFlight, mayBeDone, notBefore }; mayBeDone: it was in flight when a connection was lost. */
    #waiting = [];
    /** 0 names pushed pages, so the first request is 1. */
    #lastRequest = 0;

    /** The request, by which the answer is known; undefined if the table is full. */
    push(name, fields) {
        if (this.#waiting.length >= QUEUED_FETCHES_MAX) return undefined;
        const request = this.nextRequest();
        this.#waiting.push({ request, name, fields, isInFlight: false, mayBeDone: false, notBefore: 0 });
        return request;
    }

    /** An id for a request that is not in this table. */
    nextRequest() {
        return ++this.#lastRequest;
    }

    /** The connection is gone, and with it the answers. */
    disconnected() {
        for (const fetch of this.#waiting) {
            fetch.mayBeDone ||= fetch.isInFlight;
            fetch.isInFlight = false;
        }
    }

    /** The log was replaced: takes out what names a place in it, which is another one now. */
    dropPlaced() {
        const dropped = this.#waiting.filter((fetch) => isPlaced(fetch.fields));
        this.#waiting = this.#waiting.filter((fetch) => !dropped.includes(fetch));
        return dropped.map((fetch) => fetch.request);
    }

    /** Takes out the requests that this server does not have, each with what it lacks. */
    takeUntaken(server) {
        const untaken = [];
        this.#waiting = this.#waiting.filter((fetch) => {
            let lacks;
            if (!server.takesFrame(fetch.name)) lacks = fetch.name;
            else if (namesGroup(fetch) && !server.takesConversation({ group: 0n })) lacks = 'group';
            if (lacks !== undefined) untaken.push({ request: fetch.request, lacks });
            return lacks === undefined;
        });
        return untaken;
    }

    /** The next request that may leave now: { name, fields }, or undefined. */
    nextFrame(now) {
        if (this.#waiting.filter((fetch) => fetch.isInFlight).length >= FETCHES_IN_FLIGHT_MAX) return undefined;
        const fetch = this.#waiting.find((candidate) => !candidate.isInFlight && candidate.notBefore <= now);
        if (fetch === undefined) return undefined;
        fetch.isInFlight = true;
        return { name: fetch.name, fields: { ...fetch.fields, request: fetch.request } };
    }

    /** When a fetch that was put off may leave. */
    deadline(now) {
        const times = this.#waiting.filter((fetch) => !fetch.isInFlight && fetch.notBefore > now).map((fetch) => fetch.notBefore);
        return times.length > 0 ? Math.min(...times) : undefined;
    }

    #inFlight(request) {
        return this.#waiting.find((fetch) => fetch.request === request && fetch.isInFlight);
    }

    #remove(fetch) {
        this.#waiting = this.#waiting.filter((other) => other !== fetch);
    }

    /**
     * A frame answers a request: what was asked for, as { name, fields, isLast }; undefined if it was not asked for on this connection.
     * `isLast` is false where a page is still to come.
     */
    answered(answer, { request, rows }) {
        const fetch = this.#inFlight(request);
        if (fetch === undefined || !ANSWERS[fetch.name].includes(answer)) return undefined;
        const { name, fields } = fetch;
        if (answer === 'inbox' && fields.messages > 0 && rows.length > 0) {
            // Should the connection end before it, that page alone is asked for.
            fetch.name = 'fetch_conversation';
            fetch.fields = { conversation: rows[0].conversation, from: 0, direction: 'backwards', limit: fields.messages };
            return { name, fields, isLast: false };
        }
        this.#remove(fetch);
        return { name, fields, isLast: true };
    }

    /** A request was refused for good: whether it was in flight. */
    refused(request) {
        const fetch = this.#inFlight(request);
        if (fetch !== undefined) this.#remove(fetch);
        return fetch !== undefined;
    }

    /** A request was refused for now. */
    putOff(request, notBefore) {
        const fetch = this.#inFlight(request);
        if (fetch === undefined) return;
        fetch.isInFlight = false;
        fetch.notBefore = notBefore;
    }

    /**
     * The device of this request is not there. If it was to be removed and that may have been done before, it has been: what is left to ask
     * for is the list.
     */
    wasRemovedBefore(request) {
        const fetch = this.#inFlight(request);
        if (fetch?.name !== 'remove_device' || !fetch.mayBeDone) return false;
        fetch.name = 'fetch_devices';
        fetch.fields = {};
        fetch.isInFlight = false;
        return true;
    }

    /** The requests of this kind in flight. A server that does not know the kind can not read their ids. */
    inFlightOf(name) {
        return this.#waiting.filter((fetch) => fetch.isInFlight && fetch.name === name).map((fetch) => fetch.request);
    }
}
