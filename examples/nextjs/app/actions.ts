'use server';

import { getCompletion } from '../lib/ai';

export async function complete(_: string | null, form: FormData) {
  try {
    const { text, provider } = await getCompletion('auto', String(form.get('prompt')));
    return `${provider}: ${text}`;
  } catch (error) {
    return error instanceof Error ? error.message : 'It did not work.';
  }
}
