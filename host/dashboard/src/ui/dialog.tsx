/** Dialogs, on the browser's own: it holds the focus in, Escape closes, and the focus goes back to where it was. */

import { signal } from "@preact/signals";
import { cloneElement, type ComponentChildren, type VNode } from "preact";
import { createPortal } from "preact/compat";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { Button } from "./basics";
import { neighbour } from "./rows";
import { failed, words, type Words } from "./toasts";

interface DialogProps {
  title: string;
  children: ComponentChildren;
  close: () => void;
  /** Where the focus goes afterwards, if not to where it was. */
  leave?: { current: (() => void) | null };
}

export function Dialog({ title, children, close, leave }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current!.showModal();
    return () => {
      if (leave?.current) leave.current();
      else if (before instanceof HTMLElement && before.isConnected) before.focus();
      else document.querySelector<HTMLElement>("h1")?.focus();
    };
  }, []);
  // At the end of the page, wherever its button is: a row has its own looks and its own keys.
  return createPortal(
    <dialog
      ref={element}
      aria-labelledby={id}
      onClose={close}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onMouseDown={(event) => event.target === element.current && outside(event, element.current!) && close()}
    >
      <div class="dialog-body">
        <header>
          <h2 id={id}>{title}</h2>
          <Button bare kind="quiet" icon="close" label={t("close")} onClick={close} />
        </header>
        {children}
      </div>
    </dialog>,
    document.body,
  );
}

/** Its own scroll bar is a part of it. */
function outside({ clientX, clientY }: MouseEvent, element: HTMLElement): boolean {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}

interface FormProps<T> {
  title: string;
  action: string;
  danger?: boolean;
  ready?: boolean;
  run: () => Promise<T>;
  /** What follows when it went well, and the dialog is still there. */
  after?: ((result: T) => void) | undefined;
  /** Ends what is under way; without it that goes on when the dialog is closed. */
  stop?: () => void;
  close: () => void;
  children: ComponentChildren;
}

/** A form in a dialog: closed when `run` succeeds, and else what was wrong is told in it. */
export function FormDialog<T>({ title, action, danger = false, ready = true, run, after, stop, close, children }: FormProps<T>) {
  const [busy, set] = useState(false);
  const [wrong, tell] = useState<Words | null>(null);
  const there = useRef(true);
  const leave = useRef<(() => void) | null>(null);
  const alert = useRef<HTMLDivElement>(null);
  const [next] = useState(() => danger && document.activeElement && neighbour(document.activeElement));
  useEffect(() => () => void (there.current = false), []);
  useEffect(() => {
    if (wrong) alert.current!.focus();
  }, [wrong]);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy || !ready) return;
    set(true);
    tell(null);
    try {
      const result = await run();
      if (!there.current) return;
      if (next) leave.current = next;
      close();
      after?.(result);
    } catch (error) {
      if ((error as Error).name === "AbortError") {
        if (there.current) set(false);
        return;
      }
      // Closed meanwhile: then the page tells it.
      if (!there.current) return failed(error);
      set(false);
      tell(words(error));
    }
  };
  return (
    <Dialog title={title} close={close} leave={leave}>
      <form onSubmit={submit}>
        <div class="dialog-content">
          {children}
          <div role="alert" tabIndex={-1} ref={alert} class={wrong ? "notice bad" : ""}>
            {wrong && <div lang={wrong.lang}>{wrong.text}{wrong.hint && <p class="muted">{wrong.hint}</p>}</div>}
          </div>
        </div>
        <footer>
          {busy && <span class="muted dialog-note">{stop ? t("dialog.stop") : t("dialog.goesOn")}</span>}
          <Button label={!busy ? t("cancel") : stop ? t("stop") : t("close")} onClick={busy && stop ? stop : close} />
          <Button type="submit" kind={danger ? "danger" : "primary"} label={action} busy={busy} disabled={!ready} />
        </footer>
      </form>
    </Dialog>
  );
}

interface Question {
  title: string;
  text: ComponentChildren;
  action: string;
  run: () => Promise<unknown>;
  after?: (() => void) | undefined;
}

const question = signal<Question | null>(null);

/** Asks before something that cannot be undone. */
export function confirm(asked: Question): void {
  question.value = asked;
}

let asking = 0;
const keys = new WeakMap<Question, number>();

export function Confirmation() {
  const asked = question.value;
  if (!asked) return null;
  if (!keys.has(asked)) keys.set(asked, (asking += 1));
  const close = () => {
    // What was asked since is another question.
    if (question.value === asked) question.value = null;
  };
  return (
    <FormDialog key={keys.get(asked)!} danger title={asked.title} action={asked.action} run={asked.run} after={asked.after} close={close}>
      {asked.text}
    </FormDialog>
  );
}

/** One control with its label; the hint describes it, and is no part of its name. */
export function Field({ label, hint, children }: { label: string; hint?: string; children: VNode<Record<string, unknown>> }) {
  const id = useId();
  return (
    <div class="field">
      <label class="field-label" for={id}>{label}</label>
      {cloneElement(children, { id, "aria-describedby": hint ? `${id}-hint` : undefined })}
      {hint && <span class="muted field-hint" id={`${id}-hint`}>{hint}</span>}
    </div>
  );
}
