// POST /api/generate below the hooks: every event held against the SDK's own schema, then read into a message.

import { parseJsonEventStream, readUIMessageStream, uiMessageChunkSchema } from 'ai';

export async function readStream({ url, body }) {
  const response = await fetch(`${url}/api/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const [forChunks, forText] = response.body.tee();
  const [raw, results] = await Promise.all([new Response(forText).text(), collect(parse(forChunks))]);
  const chunks = results.filter(result => result.success).map(result => result.value);
  const errors = [];
  const stream = ReadableStream.from(chunks);
  const messages = await collect(readUIMessageStream({ stream, onError: error => errors.push(error.message) }));
  return {
    headers: Object.fromEntries(response.headers),
    raw,
    chunks,
    rejected: results.filter(result => !result.success).map(result => result.error.message),
    message: messages.at(-1),
    errors,
  };
}

function parse(stream) {
  return parseJsonEventStream({ stream, schema: uiMessageChunkSchema });
}

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
