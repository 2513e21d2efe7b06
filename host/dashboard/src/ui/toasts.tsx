/** What is told once and goes: that something was done, or why it was not. Screen readers hear it. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Failure, Mistake } from "../api/http";
import { t } from "../i18n";
import { route } from "../router";
import { Button } from "./basics";

interface Toast {
  readonly id: number;
  readonly text: string;
  readonly hint: string;
  readonly lang: string | undefined;
  readonly bad: boolean;
}

export interface Words {
  readonly text: string;
  readonly hint: string;
  /** The server's words are English, whatever the page speaks. */
  readonly lang: string | undefined;
}

const toasts = signal<readonly Toast[]>([]);
/** For screen readers alone. */
const heard = signal("");
let last = 0;

function show({ text, hint, lang }: Words, bad: boolean): void {
  const id = (last += 1);
  toasts.value = [...toasts.value.slice(-3), { id, text, hint, lang, bad }];
  // A failure stays until it is put away, or another page is opened: who looks elsewhere must not miss it.
  if (!bad) setTimeout(() => put(id), 4000);
}

function put(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export function told(text: string): void {
  show({ text, hint: "", lang: undefined }, false);
}

export function words(error: unknown): Words {
  if (!(error instanceof Failure)) return { text: String(error), hint: "", lang: "en" };
  if (error.status === 0) return { text: t("problem.away"), hint: "", lang: undefined };
  return { text: error.message, hint: error.hint, lang: error instanceof Mistake ? undefined : "en" };
}

export function failed(error: unknown): void {
  show(words(error), true);
}

export function announce(text: string): void {
  heard.value = text;
}

/** Whether it went well; a failure is told. */
export async function attempt(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    if ((error as Error).name !== "AbortError") failed(error);
    return false;
  }
}

export function Toasts() {
  const all = toasts.value;
  const { page } = route.value;
  useEffect(() => void (toasts.value = toasts.value.filter((toast) => !toast.bad)), [page]);
  return (
    <>
      <div class="hidden" aria-live="polite" data-heard>
        {heard.value}
      </div>
      <div class="toasts">
        <div role="status">{all.filter((toast) => !toast.bad).map(one)}</div>
        <div role="alert">{all.filter((toast) => toast.bad).map(one)}</div>
      </div>
    </>
  );
}

function one(toast: Toast) {
  return (
    <div key={toast.id} class={`toast ${toast.bad ? "bad" : ""}`}>
      <div lang={toast.lang}>
        {toast.text}
        {toast.hint && <p class="muted">{toast.hint}</p>}
      </div>
      <Button bare kind="quiet" icon="close" label={t("close")} onClick={() => put(toast.id)} />
    </div>
  );
}
