// Lets Node find what the page finds by the paths of its server: `node --import ./hooks.js`.

import { register } from 'node:module';

const CLIENT = new URL('../../client/src/', import.meta.url).href;
const code = `export const resolve = (to, of, next) => next(to.startsWith('/client/') ? ${JSON.stringify(CLIENT)} + to.slice(8) : to, of);`;
register(`data:text/javascript,${encodeURIComponent(code)}`);
