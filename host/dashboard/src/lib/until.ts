import { effect } from "@preact/signals";

/** Waits until the signals say so. Raises when it is not wanted any more. */
export function until(check: () => boolean, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let over = false;
    let end = () => {};
    end = effect(() => {
      if (over || !check()) return;
      over = true;
      resolve();
      queueMicrotask(() => end());
    });
    signal?.addEventListener("abort", () => {
      end();
      reject(new DOMException("not wanted any more", "AbortError"));
    }, { once: true });
  });
}
