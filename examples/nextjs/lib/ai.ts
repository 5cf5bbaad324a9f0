import { BACKEND_URL } from './backend';

export type Completion = { text: string; provider: string; model: string; cost_usd: number | null };

/** One answer, on the server. A flag other than `auto` pins a provider, which only the holder of a key may. */
export async function getCompletion(providerFlag: string, prompt: string): Promise<Completion> {
  const key = process.env.BACKEND_API_KEY;
  const response = await fetch(`${BACKEND_URL}/api/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
    body: JSON.stringify({ prompt, provider: providerFlag, stream: false }),
  });
  if (!response.ok) throw new Error((await response.json()).detail);
  return response.json();
}
