/** Requests to the server that this page came from. */

export class Failure extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly hint = "",
  ) {
    super(message);
  }

  /** Whether the machine does not run, and so nothing of Docker's can be told. */
  get stopped(): boolean {
    return this.status === 503;
  }
}

export async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new Failure("", 0);
  }
  if (!response.ok) {
    const text = await response.text();
    let message = text.trim() || response.statusText;
    let hint = "";
    try {
      const told = JSON.parse(text) as { message?: string; hint?: string };
      message = told.message ?? message;
      hint = told.hint ?? "";
    } catch {
      // Not everything between the page and the engine speaks JSON: then it is the text.
    }
    throw new Failure(message, response.status, hint);
  }
  return response;
}

export async function json<T>(path: string, options: RequestInit = {}): Promise<T> {
  const response = await ask(path, options);
  return (await response.json()) as T;
}

export function sending(method: string, body?: unknown): RequestInit {
  if (body === undefined) return { method };
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

export function query(values: Record<string, string | number | boolean | undefined>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== undefined) search.set(key, String(value));
  const text = search.toString();
  return text && `?${text}`;
}
