import { plain } from "./ansi";

/** The last lines of a log: as many as fit, the oldest fall out. Numbers of lines go on counting. */

export interface Line {
  readonly text: string;
  readonly time: string;
  readonly stderr: boolean;
}

export class Lines {
  private ring: (Line | undefined)[] = [];
  private start = 0;
  private bytes = 0;
  /** The number of the oldest line that is kept. */
  first = 0;

  constructor(
    private readonly most = 200_000,
    private readonly mostBytes = 32 << 20,
  ) {}

  get length(): number {
    return this.ring.length - this.start;
  }

  get end(): number {
    return this.first + this.length;
  }

  add(line: Line): void {
    this.ring.push(line);
    this.bytes += line.text.length;
    while (this.length > this.most || (this.bytes > this.mostBytes && this.length > 1)) this.drop();
  }

  at(number: number): Line | undefined {
    return this.ring[number - this.first + this.start];
  }

  /** Numbers of the lines from `from` on that have the (lower-case) words. */
  *matching(words: string, from: number): Generator<number> {
    for (let number = Math.max(from, this.first); number < this.end; number += 1) {
      const { text } = this.at(number)!;
      if ((text.includes("\x1b") ? plain(text) : text).toLowerCase().includes(words)) yield number;
    }
  }

  private drop(): void {
    this.bytes -= this.ring[this.start]!.text.length;
    this.ring[this.start] = undefined;
    this.start += 1;
    this.first += 1;
    // Moving all costs as much as there is: seldom enough that a line costs next to nothing.
    if (this.start > 1024 && this.start * 2 > this.ring.length) {
      this.ring = this.ring.slice(this.start);
      this.start = 0;
    }
  }
}
