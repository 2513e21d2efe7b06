/** A list that is fetched once, and again when an event says that it has changed. */

import { signal } from "@preact/signals";
import { Failure } from "../api/http";

const QUIET_MS = 120;

export class Resource<T> {
  readonly data = signal<T | null>(null);
  readonly error = signal<Failure | null>(null);
  private wanted = false;
  private asked = false;
  private busy = false;

  constructor(private readonly fetch: () => Promise<T>) {}

  /** Fetch it when nobody has yet. */
  want(): void {
    if (this.wanted) return;
    this.wanted = true;
    void this.refresh();
  }

  /** It may have changed: many of these in short order are one fetch, and one more after a fetch that was under way. */
  changed(): void {
    if (!this.wanted || this.asked) return;
    this.asked = true;
    setTimeout(() => {
      if (!this.busy) void this.refresh();
    }, QUIET_MS);
  }

  forget(): void {
    this.data.value = null;
  }

  async refresh(): Promise<void> {
    this.wanted = true;
    this.asked = false;
    this.busy = true;
    try {
      this.data.value = await this.fetch();
      this.error.value = null;
    } catch (error) {
      this.error.value = error instanceof Failure ? error : new Failure(String(error), 0);
    } finally {
      this.busy = false;
    }
    if (this.asked) {
      this.asked = false;
      this.changed();
    }
  }
}
