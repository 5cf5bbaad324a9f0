// A browser's globals from jsdom. Import this before react-dom, which looks for them when it loads.
// fetch stays Node's own: jsdom has none.

import { JSDOM } from 'jsdom';

const { window } = new JSDOM('<!doctype html>', { url: 'http://localhost/' });
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator })) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}
