// Announces what comes while nobody looks at the page, as long as it is open. What comes while it is closed is for a service worker: that is
// registered here, in `turn`, and shows its notices under the same tags.

const KEY = 'ringpost notices';

export class Notices {
    #storage;
    #open;

    /** `open`: called with what a notice that somebody clicks is about. */
    constructor(storage, open) {
        this.#storage = storage;
        this.#open = open;
    }

    get isPossible() {
        return 'Notification' in globalThis && Notification.permission !== 'denied';
    }

    get isOn() {
        return this.isPossible && Notification.permission === 'granted' && this.#storage.getItem(KEY) === 'on';
    }

    /** Turns them on, which the browser may ask the person about, or off. */
    async turn(isOn) {
        if (isOn && (await Notification.requestPermission()) !== 'granted') return;
        this.#storage.setItem(KEY, isOn ? 'on' : 'off');
    }

    /** One for each conversation, `tag`: a later one takes the place of the one before. */
    announce(tag, title, body, about) {
        if (!this.isOn) return;
        const notice = new Notification(title, { body, tag, icon: '/app/icon.svg' });
        notice.addEventListener('click', () => {
            window.focus();
            notice.close();
            this.#open(about);
        });
    }
}
