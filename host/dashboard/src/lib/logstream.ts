/** What `logs` sends, as lines: frames of stdout and stderr (or the plain bytes of a terminal), each line with its time. */

import type { Line } from "./lines";

export class LogReader {
  private readonly sides = [new Side(false), new Side(true)] as const;
  private rest: Uint8Array = new Uint8Array();

  constructor(private readonly tty: boolean) {}

  read(chunk: Uint8Array): Line[] {
    const lines: Line[] = [];
    if (this.tty) {
      this.sides[0].read(chunk, lines);
      return lines;
    }
    let data = chunk;
    if (this.rest.length) {
      data = new Uint8Array(this.rest.length + chunk.length);
      data.set(this.rest);
      data.set(chunk, this.rest.length);
    }
    let at = 0;
    while (data.length - at >= 8) {
      const size = new DataView(data.buffer, data.byteOffset + at + 4, 4).getUint32(0);
      if (data.length - at - 8 < size) break;
      this.sides[data[at] === 2 ? 1 : 0].read(data.subarray(at + 8, at + 8 + size), lines);
      at += 8 + size;
    }
    this.rest = data.slice(at);
    return lines;
  }

  end(): Line[] {
    const lines: Line[] = [];
    for (const side of this.sides) side.end(lines);
    return lines;
  }
}

class Side {
  private readonly decoder = new TextDecoder();
  private rest = "";

  constructor(private readonly stderr: boolean) {}

  read(bytes: Uint8Array, lines: Line[]): void {
    const parts = (this.rest + this.decoder.decode(bytes, { stream: true })).split("\n");
    this.rest = parts.pop()!;
    for (const part of parts) lines.push(this.line(part));
  }

  end(lines: Line[]): void {
    if (this.rest) lines.push(this.line(this.rest));
    this.rest = "";
  }

  private line(raw: string): Line {
    const text = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    const space = text.indexOf(" ");
    const stamped = space >= 20 && text[10] === "T";
    return { time: stamped ? text.slice(0, space) : "", text: stamped ? text.slice(space + 1) : text, stderr: this.stderr };
  }
}
