/** Whether somebody can see the page. As a client of docker's it keeps the machine from suspending itself: after a while out of sight it is none. */

import { effect, signal } from "@preact/signals";

const HIDDEN_MS = 60_000;

export const seen = signal(true);

export function follow(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => (seen.value = false), HIDDEN_MS);
    else seen.value = true;
  };
  document.addEventListener("visibilitychange", look);
  look();
}

/** A signal that ends something when the page goes out of sight, or when it is not wanted any more. */
export function whileSeen(wanted?: AbortSignal): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  wanted?.addEventListener("abort", abort, { once: true });
  if (wanted?.aborted) abort();
  const end = effect(() => {
    if (!seen.value) abort();
  });
  return {
    signal: controller.signal,
    release: () => {
      end();
      wanted?.removeEventListener("abort", abort);
    },
  };
}
