// Reads [{initData, cases: [{rootArgs, field, fieldArgs}]}] from stdin; writes a list of lists of values, in which
// "__fallback__" says that the SDK used the caller's fallback and {"$number": "…"} is a number that JSON does not know.
import { text } from 'node:stream/consumers';

import hypertune from 'hypertune';

const silent = { localLogger: () => {}, logsHandler: () => {}, remoteLogging: { mode: 'off', flushIntervalMs: null } };

function values({ initData, cases }) {
  const node = hypertune.create({ token: 'none', options: { ...silent, initData, initDataProvider: null } });
  return cases.map(({ rootArgs, field, fieldArgs }) =>
    node
      .getFieldNode('root', { fieldArguments: rootArgs })
      .getFieldNode(field, { fieldArguments: fieldArgs ?? {} })
      .getValue({ fallback: '__fallback__' }),
  );
}

const finite = (_, value) =>
  typeof value === 'number' && !Number.isFinite(value) ? { $number: String(value) } : value;

const batches = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(batches.map(values), finite), () => process.exit(0));
