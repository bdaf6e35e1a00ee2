// Speaks with the admin port that served the page. Every address is relative to the page's own, so that a port-forward
// or a path prefix before it does not matter. The token is sent once, in a body; what is kept of it is a cookie.
import { signal } from '@preact/signals';

export const base = new URL('.', document.baseURI);

/** True when the port asks for a token that it has not been given. */
export const loginWanted = signal(false);

/** True once it is known whether a token is asked for: nothing is asked of the port before. */
export const doorKnown = signal(false);

/** What the port said against a request; status 0 when it said nothing at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly remedy = '',
  ) {
    super(message);
  }
}

export async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', 'X-Requested-With': 'dashboard' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(new URL(path, base), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    throw new ApiError(0, 'The sidecar does not answer.', 'Is it running, and is the port-forward still up?');
  }
  if (response.ok) return response;
  let said: { error?: string; remedy?: string } = {};
  try {
    said = await response.json();
  } catch {
    /* not from the sidecar, but from something before it */
  }
  if (response.status === 401 && path !== 'api/v1/session') loginWanted.value = true;
  throw new ApiError(response.status, said.error ?? `The answer was ${response.status} ${response.statusText}.`, said.remedy ?? '');
}

export async function get<T>(path: string): Promise<T> {
  return (await request('GET', path)).json();
}

export async function send<T>(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<T> {
  const response = await request(method, path, body ?? (method === 'DELETE' ? undefined : {}));
  return response.status === 204 ? (undefined as T) : response.json();
}

/** Shows the token; from then on this browser is known by a cookie that no script can read. Throws when refused. */
export async function login(token: string): Promise<void> {
  await send('POST', 'api/v1/session', { token: token.trim() });
  loginWanted.value = false;
}

/** Whether a token is asked for and this browser has shown it. Asks for the login at once where it has not. */
export async function sessionIsHeld(): Promise<boolean> {
  const { guarded, authenticated } = await get<{ guarded: boolean; authenticated: boolean }>('api/v1/session');
  loginWanted.value = guarded && !authenticated;
  return guarded && authenticated;
}

export async function logout(): Promise<void> {
  try {
    await send('DELETE', 'api/v1/session');
  } finally {
    loginWanted.value = true;
  }
}

/** The sentence to show for an error. */
export function sentence(error: unknown): string {
  if (error instanceof ApiError) return error.remedy ? `${error.message} ${error.remedy}` : error.message;
  return error instanceof Error ? error.message : String(error);
}
