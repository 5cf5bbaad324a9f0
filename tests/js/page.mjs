// A React component around one hook, mounted in jsdom, and what it showed.

import './window.mjs';

import { createElement, useEffect, useLayoutEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

const DEADLINE_MS = 60_000;

// A client is {use, actions, see}: the hook to render, what a user can do with what it returned, and what of that to
// report as an object with `idle`, which says whether the hook itself shows that it is at rest.
export class Page {
  #client;
  #root;
  #view;
  #begun = 0;
  #over = 0;
  #countOver;
  #watchers = new Set();

  static async open(client, complain) {
    const page = new Page();
    const mounted = withResolvers();
    const onUncaughtError = error => {
      complain(error);
      mounted.reject(error);
    };
    const Component = () => {
      const view = client.use();
      const [over, setOver] = useState(0);
      page.#countOver = () => setOver(count => count + 1);
      useLayoutEffect(() => page.#show(view, over));
      // Comes after the hook's own effects, in which it subscribes to its store.
      useEffect(mounted.resolve, []);
      return null;
    };
    page.#client = client;
    page.#root = createRoot(document.createElement('div'), { onUncaughtError });
    page.#root.render(createElement(Component));
    await mounted.promise;
    return page;
  }

  // Begins the action. `idle` is false until it is over and the page shows what came of it: its end is counted in
  // React's own state, so that it is rendered after, or with, all that the action changed.
  act(name, ...details) {
    this.#begun += 1;
    Promise.resolve(this.#client.actions[name](this.#view, ...details)).then(this.#countOver, this.#countOver);
  }

  // What is to see once its fields have these values. Rejects when they never will: nothing is under way, or too long.
  async until(wanted) {
    const { promise, resolve, reject } = withResolvers();
    const giveUp = () => reject(new Error(`never ${JSON.stringify(wanted)}, but ${JSON.stringify(this.#see())}`));
    const look = () => {
      const seen = this.#see();
      if (matches(seen, wanted)) resolve(seen);
      else if (seen.idle) giveUp();
    };
    const timer = setTimeout(giveUp, DEADLINE_MS);
    this.#watchers.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#watchers.delete(look);
    }
  }

  close() {
    this.#root.unmount();
  }

  #show(view, over) {
    this.#view = view;
    this.#over = over;
    this.#client.shown?.(view);
    this.#watchers.forEach(look => look());
  }

  #see() {
    const seen = this.#client.see(this.#view);
    return { ...seen, idle: seen.idle && this.#over === this.#begun };
  }
}

function matches(seen, wanted) {
  return Object.entries(wanted).every(([name, value]) => JSON.stringify(seen[name]) === JSON.stringify(value));
}

// The error as a page's code finds it.
export function described(error) {
  return error ? { name: error.name, message: error.message, statusCode: error.statusCode } : null;
}

// Promise.withResolvers, which Node 20 lacks.
function withResolvers() {
  const resolvers = {};
  resolvers.promise = new Promise((resolve, reject) => Object.assign(resolvers, { resolve, reject }));
  return resolvers;
}
