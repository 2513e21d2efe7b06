/** Requests to the server that this page came from. */

export class Failure extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly hint = "",
    /** What is wrong with single fields. */
    readonly errors: Record<string, string> = {},
  ) {
    super(message);
  }

  /** Whether the machine does not run, and so nothing of Docker's can be told. */
  get stopped(): boolean {
    return this.status === 503;
  }
}

/** What this page itself finds wrong, in the page's language. */
export class Mistake extends Failure {
  constructor(message: string) {
    super(message, 400);
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
  if (!response.ok) throw failure(response.status, await response.text(), response.statusText);
  return response;
}

function failure(status: number, text: string, otherwise: string): Failure {
  try {
    const { message = otherwise, hint = "", errors = {} } = JSON.parse(text) as Partial<Failure>;
    return new Failure(message, status, hint, errors);
  } catch {
    // Not everything between the page and the engine speaks JSON: then it is the text.
    return new Failure(text.trim() || otherwise, status);
  }
}

export function socketUrl(path: string): string {
  return new URL(path, document.baseURI).href.replace(/^http/, "ws");
}

/** Bytes that wait in the page, before the server is asked to hold what follows. */
export const MOST_WAITING = 1 << 20;

/** The body of an answer that goes on. By a WebSocket, for of other connections a browser has six for all its tabs: a text frame tells
 *  status and headers, binary frames are the body. */
export function listen(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(socketUrl(path));
    socket.binaryType = "arraybuffer";
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    let status = 0;
    let wrong = "";
    let ended = false;
    let held = false;
    const hold = (on: boolean) => {
      if (held === on || socket.readyState !== WebSocket.OPEN) return;
      held = on;
      socket.send(JSON.stringify({ hold: on }));
    };
    const body = new ReadableStream<Uint8Array>(
      {
        start: (made) => void (controller = made),
        pull: () => hold(false),
        cancel: () => socket.close(),
      },
      { highWaterMark: MOST_WAITING, size: (chunk) => chunk!.byteLength },
    );
    const fail = (error: Error) => {
      if (ended) return;
      ended = true;
      controller.error(error);
      reject(error);
    };
    const decoder = new TextDecoder();
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === "string") {
        ({ status } = JSON.parse(data) as { status: number });
        if (status < 300) resolve(body);
      } else if (status >= 300) wrong += decoder.decode(data, { stream: true });
      else if (!ended) {
        controller.enqueue(new Uint8Array(data));
        // A browser reads a WebSocket whether the page has time for it or not: the server is told to wait.
        if (controller.desiredSize! < 0) hold(true);
      }
    };
    socket.onclose = ({ code }) => {
      if (status >= 300) fail(failure(status, wrong, String(status)));
      else if (status === 0 || code !== 1000) fail(new Failure("", 0));
      else if (!ended) {
        ended = true;
        controller.close();
      }
    };
    signal.addEventListener("abort", () => {
      fail(new DOMException("not wanted any more", "AbortError"));
      socket.close();
    });
  });
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
