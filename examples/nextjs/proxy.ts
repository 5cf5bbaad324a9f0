import { type NextRequest, NextResponse } from 'next/server';

import { BACKEND_URL } from './lib/backend';

export const config = { matcher: ['/'] };

/**
 * Makes a new visitor known to the functions before the page is rendered, so that the flags of the page are those of
 * the calls that follow: a Server Component can't set the cookie that says who it is.
 */
export async function proxy(request: NextRequest) {
  if (request.cookies.has('guest')) return NextResponse.next();
  const answer = await fetch(`${BACKEND_URL}/api/flags`, { cache: 'no-store' }).catch(() => null);
  const cookie = answer?.headers.getSetCookie().find((each) => each.startsWith('guest='));
  if (!cookie) return NextResponse.next();
  const headers = new Headers(request.headers);
  headers.set('cookie', [request.headers.get('cookie'), cookie.split(';')[0]].filter(Boolean).join('; '));
  const response = NextResponse.next({ request: { headers } });
  response.headers.append('set-cookie', cookie);
  return response;
}
