// useChat over POST /api/generate.

import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from 'ai';

import { described } from './page.mjs';

// `outputs` are the page's tools: what each answers, by its name; {errorText} where it fails.
export function client({ url, body, messages, outputs }) {
  const transport = new DefaultChatTransport({ api: `${url}/api/generate`, body });
  const statuses = [];
  const finishes = [];
  const onFinish = ({ isAbort, isDisconnect, isError, finishReason }) =>
    finishes.push({ isAbort, isDisconnect, isError, finishReason });
  let chat;
  const onToolCall = ({ toolCall: { toolName: tool, toolCallId } }) => {
    const output = outputs?.[tool];
    if (output === undefined) return;
    const failed = output?.errorText !== undefined;
    // Awaited, it would wait for the stream that waits for it.
    void chat.addToolOutput({ tool, toolCallId, ...(failed ? { state: 'output-error', ...output } : { output }) });
  };
  const sendAutomaticallyWhen = lastAssistantMessageIsCompleteWithToolCalls;
  return {
    use: () => (chat = useChat({ transport, messages, onFinish, onToolCall, sendAutomaticallyWhen })),
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
      tools: toolsOf(messages.at(-1)),
      error: described(error),
      finishes,
      idle: status === 'ready' || status === 'error',
    }),
  };
}

function textOf(message) {
  return (message?.parts ?? []).map(part => (part.type === 'text' ? part.text : '')).join('');
}

function toolsOf(message) {
  const isTool = part => part.type.startsWith('tool-') || part.type === 'dynamic-tool';
  return (message?.parts ?? []).filter(isTool).map(({ type, state, input }) => [type, state, input ?? null]);
}
