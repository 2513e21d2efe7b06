/** Choices of how the page is. Cove's server keeps them, and writes them into the page: to a browser each dashboard is another place. */

import { ask, sending } from "../api/http";

export type Choice = "language" | "theme" | "toured" | "letters" | "reader" | "times";

const kept: Partial<Record<Choice, string>> = written();
/** One after the other, so that the last counts. */
let telling: Promise<unknown> = Promise.resolve();

function written(): Partial<Record<Choice, string>> {
  if (typeof document === "undefined") return {}; // tests of parts need no page
  return JSON.parse(document.documentElement.dataset.choices ?? "{}") as Partial<Record<Choice, string>>;
}

export function remembered(choice: Choice): string | null {
  return kept[choice] ?? null;
}

export function remember(choice: Choice, value: string): void {
  kept[choice] = value;
  const tell = () => ask("api/choices", { ...sending("PUT", { [choice]: value }), keepalive: true });
  // What cannot be kept counts for this visit.
  telling = telling.then(tell).catch(() => {});
}
