// useCompletion over POST /api/generate, in both of its protocols.

import { useCompletion } from '@ai-sdk/react';

import { described } from './page.mjs';

export function client({ url, streamProtocol }) {
  const finishes = [];
  const options = {
    api: `${url}/api/generate`,
    // Pages with the same id would share their state.
    id: crypto.randomUUID(),
    streamProtocol,
    headers: streamProtocol === 'text' ? { accept: 'text/plain' } : {},
    onFinish: (_, completion) => finishes.push(completion),
  };
  return {
    use: () => useCompletion(options),
    actions: {
      complete: (hook, prompt) => hook.complete(prompt),
      stop: hook => hook.stop(),
    },
    see: ({ completion, error, isLoading }) => ({
      text: completion,
      error: described(error),
      finishes,
      idle: !isLoading,
    }),
  };
}
