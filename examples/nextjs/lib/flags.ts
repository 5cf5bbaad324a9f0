import { cookies } from 'next/headers';

import { BACKEND_URL } from './backend';
import { EXPERIMENT, GATE } from './names';

type Experiment = { value: { provider?: string; model?: string }; group_name?: string };
type Gate = { value: boolean };

/** What Statsig's client starts from, its names hashed, and the public runtime parameters. */
type Values = {
  user: { userID: string; customIDs: { stableID: string } };
  dynamic_configs: Record<string, Experiment>;
  feature_gates: Record<string, Gate>;
  parameters: Record<string, string | number | null>;
};

/** The flags of this visitor: `text` for Statsig's client, the rest for a Server Component. proxy.ts sees to the cookie. */
export async function readFlags() {
  const headers = { cookie: (await cookies()).toString() };
  const response = await fetch(`${BACKEND_URL}/api/flags`, { headers, cache: 'no-store' });
  if (!response.ok) throw new Error(`The functions at ${BACKEND_URL} answered ${response.status}.`);
  const text = await response.text();
  const values: Values = JSON.parse(text);
  return {
    text,
    user: values.user,
    parameters: values.parameters,
    experiment: values.dynamic_configs[djb2(EXPERIMENT)],
    gate: values.feature_gates[djb2(GATE)]?.value ?? false,
  };
}

/** The hash that Statsig gives names in: DJB2 as an unsigned number of 32 bits, in decimal. */
function djb2(name: string) {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (Math.imul(hash, 31) + name.charCodeAt(i)) | 0;
  return String(hash >>> 0);
}
