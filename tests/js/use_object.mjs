// useObject over POST /api/generate, which it needs as plain text.

import { experimental_useObject as useObject } from '@ai-sdk/react';
import { jsonSchema } from 'ai';

import { described } from './page.mjs';

export function client({ url, schema }) {
  const finishes = [];
  const options = {
    api: `${url}/api/generate`,
    // Pages with the same id would share their state.
    id: crypto.randomUUID(),
    schema: jsonSchema(schema),
    headers: { accept: 'text/plain' },
    onFinish: ({ object, error }) => finishes.push({ object, error: described(error) }),
  };
  return {
    use: () => useObject(options),
    actions: { submit: (hook, input) => hook.submit(input) },
    see: ({ object, error, isLoading }) => ({ object, error: described(error), finishes, idle: !isLoading }),
  };
}
