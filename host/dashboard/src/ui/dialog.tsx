/** Dialogs, on the browser's own: it holds the focus in, Escape closes, and the focus goes back to where it was. */

import { signal } from "@preact/signals";
import { cloneElement, type ComponentChildren, type VNode } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { Button } from "./basics";
import { attempt } from "./toasts";

interface DialogProps {
  title: string;
  children: ComponentChildren;
  close: () => void;
  wide?: boolean;
}

export function Dialog({ title, children, close, wide = false }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current!.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      class={wide ? "wide" : ""}
      aria-labelledby={id}
      onClose={close}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onMouseDown={(event) => event.target === element.current && close()}
    >
      <div class="dialog-body">
        <header>
          <h2 id={id}>{title}</h2>
          <Button bare kind="quiet" icon="close" label={t("close")} onClick={close} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** A form in a dialog: closed when `run` succeeds, and else what was wrong is told in it. */
export function FormDialog({ title, action, danger = false, ready = true, run, close, children, wide = false }: {
  title: string;
  action: string;
  danger?: boolean;
  ready?: boolean;
  wide?: boolean;
  run: () => Promise<unknown>;
  close: () => void;
  children: ComponentChildren;
}) {
  const [busy, set] = useState(false);
  return (
    <Dialog title={title} close={close} wide={wide}>
      <form
        onSubmit={async (event) => {
          event.preventDefault();
          set(true);
          const done = await attempt(run);
          set(false);
          if (done) close();
        }}
      >
        <div class="dialog-content">{children}</div>
        <footer>
          <Button label={t("cancel")} onClick={close} />
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
}

const question = signal<Question | null>(null);

/** Asks before something that cannot be undone. */
export function confirm(asked: Question): void {
  question.value = asked;
}

export function Confirmation() {
  const asked = question.value;
  if (!asked) return null;
  return (
    <FormDialog danger title={asked.title} action={asked.action} run={asked.run} close={() => (question.value = null)}>
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
