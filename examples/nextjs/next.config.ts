import type { NextConfig } from 'next';

import { BACKEND_URL } from './lib/backend';

const config: NextConfig = {
  // The destination is fixed when the app is built. Nothing of this app may lie below /api.
  rewrites: async () => [{ source: '/api/:path*', destination: `${BACKEND_URL}/api/:path*` }],
  turbopack: { root: import.meta.dirname },
};

export default config;
