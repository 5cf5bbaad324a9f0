// Carries out commands, one line of JSON each, and answers each with one line: {"ok": ...} or {"error": "..."}.
//
//   ["read", {url, body}]            read one stream below the hooks (read_stream.mjs)
//   ["convert", messages]            what the AI SDK makes of a page's messages for a model
//   ["edge_config", {connection, key}], ["no_edge_config", {connection}]   read_edge_config.mjs
//   ["statsig", {url, headers, experiment, gate}]                         start_statsig.mjs
//   ["open", hook, options]          show a page with this hook (use_chat.mjs and the like)
//   ["act", action, ...details]      do something on the page, without waiting for what comes of it
//   ["until", {field: value, ...}]   wait for what the page then shows
//   ["close"]                        leave the page; answers with what the libraries complained of

import { createInterface } from 'node:readline';

import { convertToModelMessages } from 'ai';

import { Page } from './page.mjs';
import { failToReadEdgeConfig, readEdgeConfig } from './read_edge_config.mjs';
import { readStream } from './read_stream.mjs';
import { startStatsig } from './start_statsig.mjs';
import * as use_chat from './use_chat.mjs';
import * as use_completion from './use_completion.mjs';
import * as use_object from './use_object.mjs';

const HOOKS = { use_chat, use_completion, use_object };
const complaints = [];
const complain = (...what) => complaints.push(what.map(String).join(' '));
Object.assign(console, { log: complain, warn: complain, error: complain });

let page;
const COMMANDS = {
  read: readStream,
  convert: messages => convertToModelMessages(messages),
  edge_config: readEdgeConfig,
  no_edge_config: failToReadEdgeConfig,
  statsig: startStatsig,
  open: async (hook, options) => {
    page = await Page.open(HOOKS[hook].client(options), complain);
  },
  act: (...details) => page.act(...details),
  until: wanted => page.until(wanted),
  close: () => {
    page?.close();
    page = undefined;
    return complaints.splice(0);
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
