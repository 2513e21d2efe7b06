/** Streams that go on after a connection was lost, or while nobody saw the page. */

import { Failure } from "../api/http";
import { until } from "../lib/until";
import { connected } from "./engine";
import { seen, whileSeen } from "./sight";

const PAUSE_MS = 1000;

/** Runs it, and again whenever it was cut, as soon as there is an engine to ask and somebody to see it; until it comes to its own end. Raises
 *  what is no cut. */
export async function lasting(run: (signal: AbortSignal) => Promise<void>, wanted: AbortSignal, cut: (is: boolean) => void): Promise<void> {
  for (;;) {
    const { signal, release } = whileSeen(wanted);
    try {
      await run(signal);
      return;
    } catch (error) {
      if (wanted.aborted) throw error;
      if (!signal.aborted) {
        if (!(error instanceof Failure) || !(error.status === 0 || error.stopped)) throw error;
        cut(true);
        await after(PAUSE_MS, wanted);
      }
    } finally {
      release();
    }
    await until(() => seen.value && connected.value, wanted);
  }
}

function after(span: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("not wanted any more", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, span);
    signal.addEventListener("abort", stop, { once: true });
  });
}
