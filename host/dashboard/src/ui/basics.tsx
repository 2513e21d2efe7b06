/** The small parts that every page is made of. */

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Machine } from "../api/cove";
import type { Failure } from "../api/http";
import { t } from "../i18n";
import { ago } from "../lib/format";
import { arrival, path, type Page } from "../router";
import { machine, move, moving, served, step } from "../state/machine";
import { Icon, type IconName } from "./icon";
import { handOn } from "./rows";
import { attempt } from "./toasts";

interface ButtonProps {
  label: string;
  icon?: IconName;
  kind?: "plain" | "primary" | "danger" | "quiet";
  /** Only the icon shows; the label is its name and its tooltip. */
  bare?: boolean;
  busy?: boolean;
  disabled?: boolean;
  class?: string;
  type?: "button" | "submit";
  pressed?: boolean;
  element?: { current: HTMLButtonElement | null };
  onClick?: (event: MouseEvent) => void;
}

export function Button(props: ButtonProps) {
  const { label, icon, kind = "plain", bare = false, busy = false, disabled = false, type = "button", onClick } = props;
  return (
    <button
      ref={props.element ?? null}
      type={type}
      class={`button ${kind} ${bare ? "bare" : ""} ${props.class ?? ""}`}
      // Not `disabled`: a button that is busy, or has done its work, keeps the focus.
      aria-disabled={disabled || busy}
      aria-busy={busy}
      aria-pressed={props.pressed}
      aria-label={bare ? label : undefined}
      title={bare ? label : undefined}
      onClick={(event) => (disabled || busy ? event.preventDefault() : onClick?.(event))}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {!bare && <span>{label}</span>}
    </button>
  );
}

export function Check({ label, checked, onChange }: { label: string; checked: boolean; onChange: (checked: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.currentTarget.checked)} />
      {label}
    </label>
  );
}

/** A button for something that takes its time: busy until it is done, and its failure is told. */
export function Doing({ run, ...props }: Omit<ButtonProps, "busy" | "onClick"> & { run: () => Promise<unknown> }) {
  const [busy, set] = useState(false);
  const there = useRef(true);
  const element = useRef<HTMLButtonElement>(null);
  useEffect(() => () => void (there.current = false), []);
  useLayoutEffect(() => () => handOn(element.current), []);
  return (
    <Button
      {...props}
      element={element}
      busy={busy}
      onClick={async () => {
        set(true);
        await attempt(run);
        if (there.current) set(false);
      }}
    />
  );
}

/** The head of a page. It is the same while the page loads and after, so that the focus on it stays. */
export function Header({ title, dot, note, children }: {
  title: string;
  dot?: string;
  note?: ComponentChildren;
  children?: ComponentChildren;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (arrival.due) heading.current!.focus({ preventScroll: true });
    arrival.due = false;
  }, []);
  return (
    <header class="page-head">
      <div class="page-title">
        <h1 tabIndex={-1} ref={heading}>{dot && <Dot state={dot} />}{title}</h1>
        {note && <p class="muted">{note}</p>}
      </div>
      <div class="actions">{children}</div>
    </header>
  );
}

export function Crumbs({ page, more = "" }: { page: Page; more?: string }) {
  return (
    <nav class="crumbs" aria-label={t("crumbs")}>
      <a href={path(page)}>{t(`nav.${page}`)}</a>
      {more && <span>{more}</span>}
    </nav>
  );
}

export function Search({ value, onInput, label }: { value: string; onInput: (value: string) => void; label: string }) {
  return (
    <label class="search">
      <Icon name="search" />
      <input
        type="search"
        data-search
        placeholder={label}
        aria-label={label}
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      <kbd aria-hidden="true">/</kbd>
    </label>
  );
}

export function Dot({ state }: { state: string }) {
  return <span class={`dot ${state}`} aria-hidden="true" />;
}

export function Empty({ icon, title, text, children, whole = false }: {
  icon: IconName;
  title: string;
  /** It is all that the page has. */
  whole?: boolean;
  text?: ComponentChildren;
  children?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <Icon name={icon} />
      {whole ? <h1>{title}</h1> : <h2>{title}</h2>}
      {text && <p>{text}</p>}
      {children && <div class="actions">{children}</div>}
    </div>
  );
}

/** What went wrong, and what to do about it. */
export function Problem({ error, again }: { error: Failure; again: () => Promise<unknown> }) {
  if (error.stopped && machine.value && machine.value.state !== "running") return <NotRunning />;
  if (error.status === 401 || error.status === 403)
    return <Empty icon="warning" title={t("problem.session")} text={<>{t("problem.session.text")} <code>cove dashboard</code></>} />;
  const away = error.status === 0 || !served.value;
  return (
    <div role="alert">
      <Empty
        icon="warning"
        title={away ? t("problem.away") : t("problem.title")}
        text={
          <>
            {away ? t("problem.away.text") : <span lang="en">{error.message}</span>}
            {error.hint && <span class="hint" lang="en">{error.hint}</span>}
          </>
        }
      >
        <Doing label={t("problem.again")} icon="restart" run={again} />
      </Empty>
    </div>
  );
}

export function NotRunning() {
  const told = step.value;
  const known = machine.value;
  const busy = moving.value !== null || told !== null || (known !== null && !["stopped", "suspended", "unknown"].includes(known.state));
  return (
    <div class="empty">
      <Icon name="suspend" />
      <div role="status"><h2>
        {busy ? t("machine.moving") : known?.missing ? t("machine.isMissing") : known?.state === "suspended" ? t("machine.isSuspended") : t("machine.isStopped")}
      </h2></div>
      {busy && told ? (
        <>
          <p lang="en">{told.text}</p>
          {told.total ? <progress max={told.total} value={told.done ?? 0} aria-label={told.text} lang="en" /> : <span class="spinner" aria-hidden="true" />}
        </>
      ) : (
        <p>{why(known) || (known?.missing ? t("machine.missing.text") : t("machine.stopped.text"))}</p>
      )}
      {!busy && (
        <div class="actions">
          <Doing kind="primary" icon="play" label={t("machine.start")} run={() => move("start")} />
        </div>
      )}
    </div>
  );
}

/** Why the machine is as it is, where there is something to say. */
export function why(known: Machine | null): ComponentChildren {
  if (!known) return null;
  if (known.trouble) return <span lang="en">{[known.trouble, known.hint].filter(Boolean).join(" – ")}</span>;
  if (known.crash) return <>{t("machine.crashed")} <span lang="en">{known.crash.how}</span></>;
  if (known.ended_with_computer) return t("machine.withComputer");
  if (known.suspended_at) return t("machine.since", { when: ago(known.suspended_at) });
  return null;
}

export function Loading() {
  return (
    <div class="loading" role="status">
      <span class="hidden">{t("loading")}</span>
      {[72, 54, 64, 40].map((_, index) => (
        <span key={index} class={`bone bone-${index}`} />
      ))}
    </div>
  );
}

export function Tabs({ label, tabs, current }: {
  label: string;
  tabs: { id: string; text: string; href: string; icon?: IconName }[];
  current: string;
}) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map(({ id, text, href, icon }) => (
        <a key={id} href={href} aria-current={id === current ? "page" : undefined}>
          {icon && <Icon name={icon} />}
          {text}
        </a>
      ))}
    </nav>
  );
}

export function Choice<T extends string>({ label, value, options, onChange }: {
  label: string;
  value: T;
  options: { value: T; text: string }[];
  onChange: (value: T) => void;
}) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map((option) => (
        <button type="button" key={option.value} aria-pressed={option.value === value} onClick={() => onChange(option.value)}>
          {option.text}
        </button>
      ))}
    </div>
  );
}

export function Copy({ text, label }: { text: string; label?: string }) {
  const [done, set] = useState(false);
  return (
    <Button
      bare
      kind="quiet"
      icon={done ? "good" : "copy"}
      label={done ? t("copied") : (label ?? t("copy"))}
      onClick={async () => {
        if (!(await attempt(() => navigator.clipboard.writeText(text)))) return;
        set(true);
        setTimeout(() => set(false), 1500);
      }}
    />
  );
}

export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value === "" || value === null || value === undefined ? "–" : value}</dd>
        </div>
      ))}
    </dl>
  );
}
