// When something is drawn.

import { FRAME_WITHIN_MS } from '../limits.js';

/**
 * Calls `draw` once: in the next frame, or when it should long have come. A page that nobody sees gets no frames, nor does one that was seen
 * when it asked for one and is not any more. `view`: for tests.
 */
export function inFrame(draw, view = window) {
    const once = () => {
        view.cancelAnimationFrame(frame);
        view.clearTimeout(late);
        draw();
    };
    const frame = view.requestAnimationFrame(once);
    const late = view.setTimeout(once, FRAME_WITHIN_MS);
}
