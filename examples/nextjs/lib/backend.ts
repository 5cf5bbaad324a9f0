/** Where the functions are: `make run`, unless the environment names a deployment. */
export const BACKEND_URL = process.env.BACKEND_URL ?? 'http://127.0.0.1:8000';
