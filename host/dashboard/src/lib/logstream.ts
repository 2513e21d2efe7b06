/** What `logs` sends, as lines: frames of stdout and stderr (or the plain bytes of a terminal), each line with its time. */

import type { Line } from "./lines";

/** Longer lines are cut: a program may write without ever ending one. */
export const LONGEST_LINE = 64 << 10;
const HEAD = 8;

export class LogReader {
  private readonly sides = [new Side(false), new Side(true)] as const;
  private readonly head = new Uint8Array(HEAD);
  private headed = 0;
  /** What of the frame is yet to come. A frame is read as it comes, whatever size it says that it has. */
  private left = 0;

  constructor(private readonly tty: boolean) {}

  read(chunk: Uint8Array): Line[] {
    const lines: Line[] = [];
    if (this.tty) {
      this.sides[0].read(chunk, lines);
      return lines;
    }
    let at = 0;
    while (at < chunk.length) {
      if (this.left > 0) {
        const part = chunk.subarray(at, at + this.left);
        this.sides[this.head[0] === 2 ? 1 : 0].read(part, lines);
        this.left -= part.length;
        at += part.length;
        continue;
      }
      const part = chunk.subarray(at, at + HEAD - this.headed);
      this.head.set(part, this.headed);
      this.headed += part.length;
      at += part.length;
      if (this.headed < HEAD) break;
      this.left = new DataView(this.head.buffer).getUint32(4);
      this.headed = 0;
    }
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
  /** The rest of a line that was cut has the line's time, and begins with none. */
  private cut = "";

  constructor(private readonly stderr: boolean) {}

  read(bytes: Uint8Array, lines: Line[]): void {
    const parts = (this.rest + this.decoder.decode(bytes, { stream: true })).split("\n");
    this.rest = parts.pop()!;
    for (const part of parts) this.whole(part, lines);
    while (this.rest.length > LONGEST_LINE) this.rest = this.part(this.rest, lines);
  }

  end(lines: Line[]): void {
    if (this.rest) this.whole(this.rest, lines);
    this.rest = "";
  }

  private whole(raw: string, lines: Line[]): void {
    let text = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    while (text.length > LONGEST_LINE) text = this.part(text, lines);
    lines.push(this.line(text));
    this.cut = "";
  }

  /** The first part of a long line; what is left of it is given back. */
  private part(text: string, lines: Line[]): string {
    const line = this.line(text.slice(0, LONGEST_LINE));
    lines.push(line);
    this.cut = line.time;
    return text.slice(LONGEST_LINE);
  }

  private line(text: string): Line {
    if (this.cut) return { time: this.cut, text, stderr: this.stderr };
    const space = text.indexOf(" ");
    const stamped = space >= 20 && space <= 40 && text[10] === "T";
    return { time: stamped ? text.slice(0, space) : "", text: stamped ? text.slice(space + 1) : text, stderr: this.stderr };
  }
}

/** A log that is asked for again after its stream was cut: from the last line's time on, without the lines of that time that are there. */
export class Seen {
  private last = "";
  private many = 0;
  private again = 0;

  /** What to ask `logs` for, as seconds with their nanoseconds; nothing at first. To be called before each stream. */
  since(): string | undefined {
    this.again = this.many;
    const [, second, fraction = "0"] = /^(.{19})(?:\.(\d+))?Z$/.exec(this.last) ?? [];
    return second && `${Date.parse(`${second}Z`) / 1000}.${fraction.padEnd(9, "0")}`;
  }

  fresh(lines: readonly Line[]): Line[] {
    return lines.filter((line) => {
      if (line.time !== this.last) {
        if (this.again > 0 && line.time < this.last) return false;
        this.again = 0;
        this.last = line.time;
        this.many = 1;
        return true;
      }
      if (this.again > 0) {
        this.again -= 1;
        return false;
      }
      this.many += 1;
      return true;
    });
  }
}
