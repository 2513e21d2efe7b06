/** Something that is fetched when it is wanted, and again when an event says that it has changed. */

import { signal } from "@preact/signals";
import { Failure } from "../api/http";

export class Resource<T> {
  readonly data = signal<T | null>(null);
  readonly error = signal<Failure | null>(null);
  private wanting = 0;
  /** What is there may be of before. */
  private stale = true;
  private due: ReturnType<typeof setTimeout> | null = null;
  private fetching: Promise<void> | null = null;

  constructor(
    private readonly fetch: () => Promise<T>,
    /** What changes within so long of each other is one change. */
    private readonly quietMs = 120,
  ) {}

  /** Keep it current, until what is given back is called: nothing is fetched that nobody looks at. */
  want(): () => void {
    this.wanting += 1;
    if (this.stale && !this.fetching) void this.refresh();
    return () => {
      this.wanting -= 1;
    };
  }

  changed(): void {
    this.stale = true;
    if (this.wanting > 0 && this.due === null) this.due = setTimeout(() => void this.refresh(), this.quietMs);
  }

  /** As of now. One at a time: an answer that was asked for before never comes after. */
  async refresh(): Promise<void> {
    while (this.fetching) await this.fetching;
    this.fetching = this.take();
    await this.fetching;
  }

  private async take(): Promise<void> {
    if (this.due !== null) clearTimeout(this.due);
    this.due = null;
    this.stale = false;
    try {
      this.data.value = await this.fetch();
      this.error.value = null;
    } catch (error) {
      this.stale = true;
      this.error.value = error instanceof Failure ? error : new Failure(String(error), 0);
    } finally {
      this.fetching = null;
    }
  }
}

/** For the time that a part of the page is there. */
export function want(...resources: readonly Resource<unknown>[]): () => void {
  const releases = resources.map((resource) => resource.want());
  return () => releases.forEach((release) => release());
}
