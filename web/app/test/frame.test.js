// What is drawn is drawn once, whether or not the page gets frames.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FRAME_WITHIN_MS } from '../limits.js';
import { inFrame } from '../view/frame.js';

/** A window whose frames and timers come when a test says so. */
function windowOf() {
    const due = new Map();
    let last = 0;
    const ask = (what) => (of, afterMs) => due.set(++last, { what, of, afterMs }) && last;
    const come = (which) => {
        for (const [id, { what, of }] of due) {
            if (what !== which) continue;
            due.delete(id);
            of();
        }
    };
    const forget = (id) => due.delete(id);
    return {
        due,
        come,
        requestAnimationFrame: ask('frame'),
        setTimeout: ask('timer'),
        cancelAnimationFrame: forget,
        clearTimeout: forget,
    };
}

test('a page that is seen is drawn in its next frame', () => {
    const view = windowOf();
    let drawn = 0;
    inFrame(() => drawn++, view);
    assert.equal(drawn, 0);
    view.come('frame');
    assert.equal(drawn, 1);
    assert.equal(view.due.size, 0);
});

test('a page that gets no frames any more is drawn nevertheless', () => {
    const view = windowOf();
    let drawn = 0;
    inFrame(() => drawn++, view);
    assert.ok([...view.due.values()].some(({ what, afterMs }) => what === 'timer' && afterMs === FRAME_WITHIN_MS));
    view.come('timer');
    assert.equal(drawn, 1);
    // The frame that it asked for comes when somebody looks at it again: nothing is left to be drawn.
    assert.equal(view.due.size, 0);
});
