// useChat over POST /api/generate.

import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport } from 'ai';

import { described } from './page.mjs';

export function client({ url, body, messages }) {
  const transport = new DefaultChatTransport({ api: `${url}/api/generate`, body });
  const statuses = [];
  const finishes = [];
  const onFinish = ({ isAbort, isDisconnect, isError, finishReason }) =>
    finishes.push({ isAbort, isDisconnect, isError, finishReason });
  return {
    use: () => useChat({ transport, messages, onFinish }),
    actions: {
      send: (chat, message) => chat.sendMessage(message),
      regenerate: chat => chat.regenerate(),
      stop: chat => chat.stop(),
    },
    shown: ({ status }) => {
      if (status !== statuses.at(-1)) statuses.push(status);
    },
    see: ({ messages, status, error }) => ({
      status,
      statuses,
      messages,
      text: textOf(messages.at(-1)),
      error: described(error),
      finishes,
      idle: status === 'ready' || status === 'error',
    }),
  };
}

function textOf(message) {
  return (message?.parts ?? []).map(part => (part.type === 'text' ? part.text : '')).join('');
}
