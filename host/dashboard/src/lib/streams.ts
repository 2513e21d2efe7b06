/** Streams of an answer: lines of JSON, and server-sent events. */

export async function* jsonLines<T>(body: ReadableStream<Uint8Array>): AsyncGenerator<T> {
  for await (const line of textLines(body)) {
    if (line.trim()) yield JSON.parse(line) as T;
  }
}

export interface ServerEvent<T> {
  readonly event: string;
  readonly data: T;
}

export async function* serverEvents<T>(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent<T>> {
  let event = "message";
  let data = "";
  for await (const line of textLines(body)) {
    if (line.startsWith("data:")) data += (data && "\n") + line.slice(5).trimStart();
    else if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line === "" && data) {
      yield { event, data: JSON.parse(data) as T };
      event = "message";
      data = "";
    }
  }
}

async function* textLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = parts.pop()!;
      for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
    }
    if (rest) yield rest;
  } finally {
    await reader.cancel().catch(() => {});
  }
}
