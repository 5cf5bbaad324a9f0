// useCompletion over POST /api/generate, in both of its protocols.

import { useCompletion } from '@ai-sdk/react';

import { described } from './page.mjs';

export function client({ url, streamProtocol, headers, id }) {
  const finishes = [];
  const options = { api: `${url}/api/generate`, id, streamProtocol, headers, onFinish: (_, text) => finishes.push(text) };
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
