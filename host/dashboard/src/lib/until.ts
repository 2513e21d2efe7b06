import { effect } from "@preact/signals";

/** Waits until the signals say so. Raises when it is not wanted any more. */
export function until(check: () => boolean, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let over = false;
    let end = () => {};
    const stop = () => {
      end();
      reject(new DOMException("not wanted any more", "AbortError"));
    };
    signal?.addEventListener("abort", stop, { once: true });
    end = effect(() => {
      if (over || !check()) return;
      over = true;
      signal?.removeEventListener("abort", stop);
      resolve();
      queueMicrotask(() => end());
    });
  });
}
