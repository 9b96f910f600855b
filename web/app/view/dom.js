// How elements are made. What people wrote becomes text nodes and nothing else, here and in all views.

const SVG = 'http://www.w3.org/2000/svg';

/** An element. `attributes`: functions listen to the event of their name, `true` and `false` set and leave out, null leaves out. */
export function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === 'function') element.addEventListener(name, value);
        else if (value === true) element.setAttribute(name, '');
        else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
    return element;
}

/** A symbol of index.html; with `words` it says something by itself. */
export function icon(name, words) {
    const svg = document.createElementNS(SVG, 'svg');
    svg.classList.add('icon');
    if (words === undefined) {
        svg.setAttribute('aria-hidden', 'true');
    } else {
        svg.setAttribute('role', 'img');
        svg.setAttribute('aria-label', words);
    }
    const use = document.createElementNS(SVG, 'use');
    use.setAttribute('href', `#${name}`);
    svg.append(use);
    return svg;
}

/** A button with a symbol, which is called so. */
export const iconButton = (name, words, click, attributes = {}) =>
    h('button', { type: 'button', class: 'icon-button', 'aria-label': words, title: words, click, ...attributes }, icon(name));

export const button = (words, click, attributes = {}) => h('button', { type: 'button', class: 'button', click, ...attributes }, words);

/** Makes these the children, and touches none that is where it belongs. */
export function setChildren(parent, children) {
    let at = parent.firstChild;
    for (const child of children) {
        if (child === at) at = at.nextSibling;
        else parent.insertBefore(child, at);
    }
    while (at !== null) {
        const next = at.nextSibling;
        at.remove();
        at = next;
    }
}

/** Sets a text where it is another one: a screen reader says what has changed. */
export function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

/** How many colours of people there are in style.css. */
const HUES = 8;
export const hueOf = (id) => `hue-${id % BigInt(HUES)}`;

/** A ring with the initials of a name, which shows whether its user is there. */
export function avatar(id, name, isGroup) {
    const letters = isGroup || !/^User \d+$/.test(name) ? [...name].slice(0, 1).join('').toUpperCase() : String(id).slice(-2);
    return h('span', { class: `avatar ${hueOf(id)}${isGroup ? ' of-group' : ''}`, 'aria-hidden': 'true' }, letters);
}
