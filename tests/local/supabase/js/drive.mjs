// Calls supabase-js as it is told, one line of JSON each, and answers each with one line: {"ok": ...} or {"error": "..."}.
//
//   ["client", name, url, key]       make a client, which keeps its session in memory
//   ["call", name, chain]            go along a chain: a string is a property, a list a method and its arguments
//
// Bytes are {"$bytes": base64}, a file {"$file": base64, "type": ...}, both ways.

import { createInterface } from 'node:readline';

import { createClient } from '@supabase/supabase-js';

const clients = {};

function decoded(value) {
  if (Array.isArray(value)) return value.map(decoded);
  if (value === null || typeof value !== 'object') return value;
  if ('$bytes' in value) return Buffer.from(value.$bytes, 'base64');
  if ('$file' in value) return new Blob([Buffer.from(value.$file, 'base64')], { type: value.type });
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, decoded(each)]));
}

async function encoded(value) {
  if (value instanceof Blob) return { $file: Buffer.from(await value.arrayBuffer()).toString('base64'), type: value.type };
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('base64') };
  if (value instanceof Error) return { ...value, name: value.name, message: value.message };
  if (Array.isArray(value)) return Promise.all(value.map(encoded));
  if (value === null || typeof value !== 'object') return value ?? null;
  const entries = Object.entries(value).filter(([, each]) => typeof each !== 'function');
  return Object.fromEntries(await Promise.all(entries.map(async ([key, each]) => [key, await encoded(each)])));
}

const COMMANDS = {
  client: (name, url, key) => {
    clients[name] = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false } });
  },
  call: async (name, chain) => {
    let here = clients[name];
    for (const step of chain) here = typeof step === 'string' ? here[step] : here[step[0]](...decoded(step.slice(1)));
    return encoded(await here);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...details] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await COMMANDS[name](...details)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit();
