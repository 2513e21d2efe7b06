/** Archives as docker's `archive` gives and takes them: read while they come, written for single files. */

export interface Entry {
  readonly path: string;
  readonly kind: "file" | "folder" | "link" | "other";
  readonly size: number;
  readonly mode: number;
  readonly modified: number;
  readonly target: string;
  /** Of a link: whether it is to a folder, where that is known. */
  readonly into?: boolean;
}

const BLOCK = 512;

class Bytes {
  private chunks: Uint8Array[] = [];
  private held = 0;
  constructor(private readonly reader: ReadableStreamDefaultReader<Uint8Array>) {}

  /** Exactly as many, or nothing when the stream ends before. */
  async take(size: number): Promise<Uint8Array | null> {
    while (this.held < size) {
      const { value, done } = await this.reader.read();
      if (done) return null;
      this.chunks.push(value);
      this.held += value.length;
    }
    const out = new Uint8Array(size);
    this.move(size, (part, at) => out.set(part, at));
    return out;
  }

  async skip(size: number): Promise<boolean> {
    let left = size;
    for (;;) {
      const now = Math.min(left, this.held);
      this.move(now, () => {});
      left -= now;
      if (left === 0) return true;
      const { value, done } = await this.reader.read();
      if (done) return false;
      this.chunks.push(value);
      this.held += value.length;
    }
  }

  private move(size: number, to: (part: Uint8Array, at: number) => void): void {
    let at = 0;
    while (at < size) {
      const chunk = this.chunks[0]!;
      const part = chunk.subarray(0, size - at);
      to(part, at);
      at += part.length;
      if (part.length === chunk.length) this.chunks.shift();
      else this.chunks[0] = chunk.subarray(part.length);
    }
    this.held -= size;
  }
}

/** The entries in their order. `content` reads one's bytes, and must be called (if it is) before the next entry is asked for. */
export async function* entries(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<{ entry: Entry; content: () => Promise<Uint8Array> }> {
  const reader = stream.getReader();
  const bytes = new Bytes(reader);
  let extended: Record<string, string> = {};
  let longName = "";
  let longTarget = "";
  try {
    for (;;) {
      const head = await bytes.take(BLOCK);
      if (!head || head.every((byte) => byte === 0)) return;
      const type = String.fromCharCode(head[156] || 48);
      const size = extended.size === undefined ? number(head, 124, 12) : Number(extended.size);
      const padded = Math.ceil(size / BLOCK) * BLOCK;
      if (type === "x" || type === "g" || type === "L" || type === "K") {
        const data = await bytes.take(padded);
        if (!data) return;
        if (type === "x") extended = records(data.subarray(0, size));
        else if (type === "L") longName = text(data, 0, size);
        else if (type === "K") longTarget = text(data, 0, size);
        continue;
      }
      const prefix = text(head, 257, 5) === "ustar" ? text(head, 345, 155) : "";
      const name = text(head, 0, 100);
      const entry: Entry = {
        path: extended.path ?? (longName || (prefix ? `${prefix}/${name}` : name)),
        kind: type === "0" || type === "7" ? "file" : type === "5" ? "folder" : type === "1" || type === "2" ? "link" : "other",
        size,
        mode: number(head, 100, 8),
        modified: extended.mtime === undefined ? number(head, 136, 12) : Number(extended.mtime),
        target: extended.linkpath ?? (longTarget || text(head, 157, 100)),
      };
      extended = {};
      longName = longTarget = "";
      let read = false;
      yield {
        entry,
        content: async () => {
          read = true;
          const data = await bytes.take(padded);
          if (!data) throw new Error("the archive ends early");
          return data.subarray(0, size);
        },
      };
      if (!read && !(await bytes.skip(padded))) return;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function text(head: Uint8Array, at: number, size: number): string {
  const part = head.subarray(at, at + size);
  const end = part.indexOf(0);
  return new TextDecoder().decode(end < 0 ? part : part.subarray(0, end));
}

function number(head: Uint8Array, at: number, size: number): number {
  if (head[at]! & 0x80) {
    let value = 0;
    for (let index = at + 1; index < at + size; index += 1) value = value * 256 + head[index]!;
    return value;
  }
  return Number.parseInt(text(head, at, size).trim() || "0", 8);
}

function records(data: Uint8Array): Record<string, string> {
  const found: Record<string, string> = {};
  let at = 0;
  while (at < data.length) {
    const space = data.indexOf(32, at);
    const length = Number(new TextDecoder().decode(data.subarray(at, space)));
    if (!length) break;
    const record = new TextDecoder().decode(data.subarray(space + 1, at + length - 1));
    const equals = record.indexOf("=");
    found[record.slice(0, equals)] = record.slice(equals + 1);
    at += length;
  }
  return found;
}

/** An archive of files, for `PUT archive`; names beyond 100 bytes get a record of their own. */
export function archive(files: readonly { name: string; data: Blob; modified: number }[]): Blob {
  const parts: BlobPart[] = [];
  for (const { name, data, modified } of files) {
    const encoded = new TextEncoder().encode(name);
    if (encoded.length > 100) {
      const record = paxRecord("path", name);
      parts.push(header("pax", record.length, 0, "x"), record, padding(record.length));
    }
    parts.push(header(encoded.length > 100 ? "long" : name, data.size, modified, "0"), data, padding(data.size));
  }
  parts.push(new Uint8Array(BLOCK * 2));
  return new Blob(parts, { type: "application/x-tar" });
}

function paxRecord(key: string, value: string): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(` ${key}=${value}\n`);
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return new TextEncoder().encode(`${length} ${key}=${value}\n`);
}

function padding(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

function header(name: string, size: number, modified: number, type: string): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(BLOCK);
  const put = (at: number, value: string) => head.set(new TextEncoder().encode(value), at);
  const octal = (at: number, width: number, value: number) => put(at, value.toString(8).padStart(width - 1, "0"));
  put(0, name);
  octal(100, 8, 0o644);
  octal(108, 8, 0);
  octal(116, 8, 0);
  if (size < 8 ** 11) octal(124, 12, size);
  else {
    head[124] = 0x80;
    for (let index = 0, left = size; index < 11; index += 1, left = Math.floor(left / 256)) head[135 - index] = left % 256;
  }
  octal(136, 12, Math.floor(modified));
  put(148, "        ");
  put(156, type);
  put(257, "ustar\0" + "00");
  octal(148, 7, head.reduce((sum, byte) => sum + byte, 0));
  return head;
}
