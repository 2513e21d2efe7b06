/** A form made of the settings' schema. */

import { useEffect, useState } from "preact/hooks";
import { cove, type Form, type Setting } from "../api/cove";
import { Failure } from "../api/http";
import { t } from "../i18n";
import { linesText, parseLines } from "../lib/words";
import { move, running } from "../state/machine";
import { Button, Doing, Header, Loading, Problem } from "../ui/basics";
import { confirm } from "../ui/dialog";
import { told, words, type Words } from "../ui/toasts";

type Draft = ReadonlyMap<string, unknown>;

export function Settings() {
  const [form, set] = useState<Form | null>(null);
  const [error, fail] = useState<Failure | null>(null);
  const [draft, edit] = useState<Draft>(new Map());
  const [wrong, mark] = useState<Record<string, string>>({});
  const [busy, work] = useState(false);
  const [refused, refuse] = useState<Words | null>(null);
  const [notes, note] = useState<readonly { text: string; lang?: string }[]>([]);
  const look = async () => {
    try {
      set(await cove.settings());
      fail(null);
    } catch (reason) {
      fail(reason as Failure);
    }
  };
  useEffect(() => void look(), []);
  if (error) return <div class="settings"><Header title={t("nav.settings")} /><Problem error={error} again={look} /></div>;
  if (!form) return <form class="settings"><Header title={t("nav.settings")} /><Loading /></form>;
  const { settings } = form;

  const change = (key: string, value: unknown) => {
    const next = new Map(draft);
    const setting = settings.find((each) => each.key === key)!;
    if (JSON.stringify(value ?? setting.default) === JSON.stringify(setting.value)) next.delete(key);
    else next.set(key, value);
    edit(next);
  };
  const save = async (event: Event) => {
    event.preventDefault();
    work(true);
    mark({});
    refuse(null);
    note([]);
    try {
      const { warnings, overridden } = await cove.change(Object.fromEntries(draft));
      edit(new Map());
      await look();
      told(t("settings.saved"));
      note([...warnings.map((text) => ({ text, lang: "en" })), ...overridden.map((key) => ({ text: t("settings.overridden", { key }) }))]);
    } catch (reason) {
      if (reason instanceof Failure && Object.keys(reason.errors).length > 0) mark(reason.errors);
      else refuse(words(reason));
    }
    work(false);
  };
  return (
    <form onSubmit={save} class="settings" noValidate>
      <Header title={t("nav.settings")} note={<>{t("settings.note")} <code>{form.file}</code></>}>
        {draft.size > 0 && <Button label={t("settings.discard")} onClick={() => { edit(new Map()); mark({}); refuse(null); }} />}
        <Button type="submit" kind="primary" busy={busy} disabled={draft.size === 0} label={draft.size ? t("settings.save", { count: draft.size }) : t("settings.save.none")} />
      </Header>
      {form.restart_needed && running.value && (
        <p class="notice" role="status">
          <span>{t("settings.restart")}</span>
          <Doing
            icon="restart"
            label={t("settings.restart.now")}
            run={async () => confirm({ title: t("settings.restart.ask"), text: <p>{t("settings.restart.text")}</p>, action: t("restart"), run: async () => { await move("restart"); await look(); } })}
          />
        </p>
      )}
      <div role="alert">{refused && <p class="notice bad" lang={refused.lang}>{[refused.text, refused.hint].filter(Boolean).join(" ")}</p>}</div>
      <div role="status">{notes.map(({ text, lang }) => <p key={text} class="notice" lang={lang}>{text}</p>)}</div>
      <div class="setting-list">
        {settings.map((setting) => (
          <Row key={setting.key} setting={setting} value={draft.has(setting.key) ? (draft.get(setting.key) ?? setting.default) : setting.value} edited={draft.has(setting.key)} wrong={wrong[setting.key]} change={(value) => change(setting.key, value)} />
        ))}
      </div>
    </form>
  );
}

function Row({ setting, value, edited, wrong, change }: {
  setting: Setting;
  value: unknown;
  edited: boolean;
  wrong: string | undefined;
  change: (value: unknown) => void;
}) {
  const id = `setting-${setting.key}`;
  const initial = JSON.stringify(value) === JSON.stringify(setting.default);
  return (
    <div class={`setting ${edited ? "edited" : ""}`}>
      <div>
        <label for={id} class="mono setting-key">{setting.key}</label>
        <p class="muted" id={`${id}-text`} lang="en">{setting.text}</p>
      </div>
      <div class="setting-value">
        <Input id={id} setting={setting} value={value} edited={edited} wrong={wrong} change={change} />
        {wrong && <span class="field-error" id={`${id}-wrong`} role="alert" lang="en">{wrong}</span>}
        <span class="muted setting-note">
          {setting.locked ? t("settings.locked") : setting.origin === "environment" ? t("settings.environment", { name: setting.variable }) : setting.needs_restart ? t("settings.later") : t("settings.atOnce")}
          {!initial && !setting.locked && <> · <button type="button" class="as-link" onClick={() => change(null)}>{t("settings.default")}<span class="hidden"> {setting.key}</span></button></>}
        </span>
      </div>
    </div>
  );
}

function focus(element: HTMLElement | null): void {
  element?.focus();
}

function Input({ id, setting, value, edited, wrong, change }: {
  id: string;
  setting: Setting;
  value: unknown;
  edited: boolean;
  wrong: string | undefined;
  change: (value: unknown) => void;
}) {
  const [typed, type] = useState("");
  const [replacing, replace] = useState(false);
  const shared = {
    id,
    disabled: setting.locked ?? false,
    "aria-describedby": wrong ? `${id}-text ${id}-wrong` : `${id}-text`,
    "aria-invalid": wrong !== undefined,
  };
  switch (setting.type) {
    case "boolean":
      return <input {...shared} type="checkbox" role="switch" class="switch" checked={value === true} onChange={(event) => change(event.currentTarget.checked)} />;
    case "list": {
      const lines = Array.isArray(value) ? (value as string[]) : [];
      return (
        <textarea
          {...shared}
          class="mono"
          rows={Math.max(2, Math.min(6, lines.length + 1))}
          value={linesText(typed, lines)}
          placeholder={t("settings.lines")}
          onInput={(event) => {
            type(event.currentTarget.value);
            change(parseLines(event.currentTarget.value));
          }}
        />
      );
    }
    case "choice":
      return <select {...shared} value={String(value)} onChange={(event) => change(event.currentTarget.value)}>{setting.choices.map((choice) => <option key={choice}>{choice}</option>)}</select>;
    case "integer":
      return <input {...shared} type="number" class="mono" value={String(value)} onInput={(event) => change(event.currentTarget.value === "" ? "" : event.currentTarget.valueAsNumber)} />;
    default:
      // What is secret in it is masked: to change a part of it would be to save the mask.
      if (setting.secret && setting.value && !edited && !replacing)
        return (
          <span class="secret">
            <input {...shared} class="mono" readOnly value={String(value)} />
            {!setting.locked && <Button label={t("settings.replace")} onClick={() => replace(true)} />}
          </span>
        );
      if (setting.secret && setting.value && !edited)
        return <input {...shared} class="mono" value="" placeholder={t("settings.replace.with")} ref={focus} onInput={(event) => { replace(false); change(event.currentTarget.value); }} onBlur={() => replace(false)} />;
      return <input {...shared} class="mono" value={String(value ?? "")} onInput={(event) => change(event.currentTarget.value)} />;
  }
}
