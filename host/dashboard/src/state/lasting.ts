/** Streams that go on after a connection was lost. */

import { effect } from "@preact/signals";
import { Failure } from "../api/http";
import { connected } from "./engine";

const PAUSE_MS = 1000;

/** Runs it, and again whenever it was cut, as soon as there is an engine to ask; until it comes to its own end. Raises what is no cut. */
export async function lasting(run: () => Promise<void>, signal: AbortSignal, cut: (is: boolean) => void): Promise<void> {
  for (;;) {
    try {
      await run();
      return;
    } catch (error) {
      if (signal.aborted || !(error instanceof Failure) || !(error.status === 0 || error.stopped)) throw error;
    }
    cut(true);
    await after(PAUSE_MS, signal);
    await until(() => connected.value, signal);
  }
}

function after(span: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, span);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("not wanted any more", "AbortError"));
    }, { once: true });
  });
}

function until(check: () => boolean, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let over = false;
    let end = () => {};
    end = effect(() => {
      if (over || !check()) return;
      over = true;
      resolve();
      queueMicrotask(() => end());
    });
    signal.addEventListener("abort", () => {
      end();
      reject(new DOMException("not wanted any more", "AbortError"));
    }, { once: true });
  });
}
