// Reads an Edge Config with Vercel's own client: everything, some items, one, one that is missing, and the digest.

import { createClient } from '@vercel/edge-config';

export async function readEdgeConfig({ connection, key }) {
  const client = createClient(connection);
  return {
    id: client.connection.id,
    all: await client.getAll(),
    some: await client.getAll([key]),
    one: await client.get(key),
    again: await client.get(key),
    consistent: await client.get(key, { consistentRead: true }),
    missing: (await client.get('missing')) ?? null,
    has: [await client.has(key), await client.has('missing')],
    digest: await client.digest(),
  };
}

export async function failToReadEdgeConfig({ connection }) {
  try {
    await createClient(connection).getAll();
    return null;
  } catch (error) {
    return error.message;
  }
}
