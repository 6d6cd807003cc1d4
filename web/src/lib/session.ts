/** Who this page is to the daemon: nobody special on the same machine, else a session from `claude-loop open`. */

const KEY = "claude-loop-token";

export class RequestFailed extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

export const token = (): string | null => sessionStorage.getItem(KEY);

/** Sessions end with the daemon that opened them. */
export const forget = (): void => sessionStorage.removeItem(KEY);

/** Trades the code that `claude-loop open` put behind the address. Throws `RequestFailed`. */
export async function enter(): Promise<void> {
  const code = location.hash.slice(1);
  if (!code) return;
  history.replaceState(null, "", location.pathname + location.search);
  const body = await call("/api/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code }),
  });
  sessionStorage.setItem(KEY, (body as { token: string }).token);
}

/** Asks the daemon. Throws `RequestFailed`, and `TypeError` when nobody answers. */
export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await authorized(path, signal ? { signal } : {})) as T;
}

export async function send<T>(path: string, value: unknown): Promise<T> {
  const body = JSON.stringify(value);
  return (await authorized(path, { method: "POST", headers: { "Content-Type": "application/json" }, body })) as T;
}

async function authorized(path: string, options: RequestInit): Promise<unknown> {
  const mine = token();
  if (!mine) return call(path, options);
  try {
    return await call(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${mine}` } });
  } catch (failure) {
    // The successor of the daemon that opened the session may know this browser by its connection.
    if (!(failure instanceof RequestFailed) || failure.code !== "unauthorized") throw failure;
    forget();
    return call(path, options);
  }
}

async function call(path: string, options: RequestInit): Promise<unknown> {
  const answer = await fetch(path, options);
  const body: unknown = await answer.json();
  if (answer.ok) return body;
  const { code, message, hint } = (body as { error: { code: string; message: string; hint?: string } }).error;
  throw new RequestFailed(code, message, hint ?? "");
}
