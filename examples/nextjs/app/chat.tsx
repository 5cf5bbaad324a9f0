'use client';

import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport, type UIMessage } from 'ai';
import { type FormEvent, useState } from 'react';

/** What the functions say of an answer: who gives it when it starts, the rest when it ends. */
type Facts = {
  provider?: string;
  model?: string;
  cost_usd?: number | null;
  usage?: { input_tokens: number; output_tokens: number } | null;
  timing_ms?: { ttft: number | null };
};
type Message = UIMessage<Facts>;

const transport = new DefaultChatTransport<Message>({ api: '/api/generate' });

export function Chat() {
  const [typed, setTyped] = useState('');
  const { messages, sendMessage, status, stop, regenerate, error } = useChat<Message>({ transport });
  const isRunning = status === 'submitted' || status === 'streaming';

  function submit(event: FormEvent) {
    event.preventDefault();
    if (isRunning || !typed.trim()) return;
    sendMessage({ text: typed });
    setTyped('');
  }

  return (
    <section className="chat" aria-label="Chat">
      <div role="log" aria-busy={isRunning} data-status={status}>
        {messages.length === 0 && <p className="empty">Ask something. The answer streams through Next’s rewrite.</p>}
        {messages.map((message) => (
          <article key={message.id} className={message.role}>
            <p dir="auto">{message.parts.map((part) => (part.type === 'text' ? part.text : ''))}</p>
            {message.metadata?.provider && <p className="facts">{inWords(message.metadata)}</p>}
          </article>
        ))}
        {error && (
          <p role="alert" className="error">
            {reasonOf(error)}
          </p>
        )}
      </div>
      <form onSubmit={submit}>
        <input
          aria-label="Your prompt"
          placeholder="Write a prompt…"
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
          autoComplete="off"
        />
        {isRunning ? (
          <button type="button" onClick={stop}>
            Stop
          </button>
        ) : (
          <button>Send</button>
        )}
        <button type="button" className="quiet" disabled={isRunning || !messages.length} onClick={() => regenerate()}>
          Regenerate
        </button>
      </form>
    </section>
  );
}

function inWords({ provider, model, cost_usd: cost, usage, timing_ms: timing }: Facts) {
  const parts = [provider, model];
  if (timing?.ttft != null) parts.push(`first token ${Math.round(timing.ttft)} ms`);
  if (usage) parts.push(`${usage.input_tokens} in / ${usage.output_tokens} out`);
  if (cost != null) parts.push(cost === 0 ? 'free' : `$${Number(cost.toPrecision(3))}`);
  return parts.join(' · ');
}

/** A refusal's message is the functions' problem document; an error in mid-stream is plain words. */
function reasonOf(error: Error) {
  try {
    return JSON.parse(error.message).detail ?? error.message;
  } catch {
    return error.message;
  }
}
