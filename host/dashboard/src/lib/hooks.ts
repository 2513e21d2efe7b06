import { useEffect, useState } from "preact/hooks";
import { remember, remembered, type Choice } from "./remember";

/** Runs something for as long as the component is there and these values are the same; the signal ends it. */
export function useWhile(run: (signal: AbortSignal) => Promise<void> | void, values: readonly unknown[]): void {
  useEffect(() => {
    const controller = new AbortController();
    Promise.resolve(run(controller.signal)).catch((error: unknown) => {
      if ((error as Error).name !== "AbortError") throw error;
    });
    return () => controller.abort();
  }, values);
}

/** A yes or no that is as it was chosen last. */
export function useRemembered(choice: Choice): [boolean, (on: boolean) => void] {
  const [on, set] = useState(remembered(choice) === "yes");
  const choose = (chosen: boolean) => {
    set(chosen);
    remember(choice, chosen ? "yes" : "no");
  };
  return [on, choose];
}

/** A time that goes on every half minute, for what is told as "3 minutes ago". */
export function useNow(): number {
  const [now, set] = useState(Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => set(Date.now() / 1000), 30_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

const AT_ONCE = 60;

/** A long list in parts, one a picture: the first is there at once, however long the list is. */
export function useGrowing<T>(list: readonly T[]): readonly T[] {
  const [many, set] = useState(AT_ONCE);
  useEffect(() => {
    if (many >= list.length) {
      set(Math.max(AT_ONCE, list.length));
      return;
    }
    const next = requestAnimationFrame(() => set(many + AT_ONCE));
    return () => cancelAnimationFrame(next);
  }, [many, list.length]);
  return list.slice(0, many);
}
