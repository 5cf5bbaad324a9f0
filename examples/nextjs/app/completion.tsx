'use client';

import { useActionState } from 'react';

import { complete } from './actions';

/** A Server Action: no JavaScript of the page takes part in the call, and a key would stay on the server. */
export function Completion() {
  const [answer, submit, isPending] = useActionState(complete, null);
  return (
    <section aria-labelledby="action-title">
      <h2 id="action-title">One answer, by a Server Action</h2>
      <form action={submit}>
        <input name="prompt" aria-label="Prompt for the Server Action" defaultValue="Say hello." required />
        <button disabled={isPending}>{isPending ? 'Asking…' : 'Ask'}</button>
      </form>
      <output>{answer}</output>
    </section>
  );
}
