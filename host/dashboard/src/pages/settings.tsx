/** A form made of the settings' schema. */

import { useEffect, useState } from "preact/hooks";
import { cove, type Form, type Setting } from "../api/cove";
import { Failure } from "../api/http";
import { t } from "../i18n";
import { move, running } from "../state/machine";
import { Button, Doing, Header, Loading, Problem } from "../ui/basics";
import { confirm } from "../ui/dialog";
import { failed, told } from "../ui/toasts";

type Draft = ReadonlyMap<string, unknown>;

export function Settings() {
  const [form, set] = useState<Form | null>(null);
  const [error, fail] = useState<Failure | null>(null);
  const [draft, edit] = useState<Draft>(new Map());
  const [wrong, mark] = useState<Record<string, string>>({});
  const [busy, work] = useState(false);
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
    if (JSON.stringify(value) === JSON.stringify(settings.find((each) => each.key === key)!.value)) next.delete(key);
    else next.set(key, value);
    edit(next);
  };
  const save = async (event: Event) => {
    event.preventDefault();
    work(true);
    mark({});
    try {
      const { warnings, overridden } = await cove.change(Object.fromEntries(draft));
      edit(new Map());
      await look();
      told([t("settings.saved"), ...warnings, ...overridden.map((key) => t("settings.overridden", { key }))].join(" "));
    } catch (reason) {
      if (reason instanceof Failure && Object.keys(reason.errors).length > 0) mark(reason.errors);
      else failed(reason);
    }
    work(false);
  };
  return (
    <form onSubmit={save} class="settings" noValidate>
      <Header title={t("nav.settings")} note={<>{t("settings.note")} <code>{form.file}</code></>}>
        {draft.size > 0 && <Button label={t("settings.discard")} onClick={() => { edit(new Map()); mark({}); }} />}
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
      <div class="setting-list">
        {settings.map((setting) => (
          <Row key={setting.key} setting={setting} value={draft.has(setting.key) ? draft.get(setting.key) : setting.value} edited={draft.has(setting.key)} wrong={wrong[setting.key]} change={(value) => change(setting.key, value)} />
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
        <p class="muted" id={`${id}-text`}>{setting.text}</p>
      </div>
      <div class="setting-value">
        <Input id={id} setting={setting} value={value} wrong={wrong} change={change} />
        {wrong && <span class="field-error" id={`${id}-wrong`} role="alert">{wrong}</span>}
        <span class="muted setting-note">
          {setting.locked ? t("settings.locked") : setting.origin === "environment" ? t("settings.environment", { name: setting.variable }) : setting.needs_restart ? t("settings.later") : t("settings.atOnce")}
          {!initial && !setting.locked && <> · <button type="button" class="as-link" onClick={() => change(setting.default)}>{t("settings.default")}<span class="hidden"> {setting.key}</span></button></>}
        </span>
      </div>
    </div>
  );
}

function Input({ id, setting, value, wrong, change }: { id: string; setting: Setting; value: unknown; wrong: string | undefined; change: (value: unknown) => void }) {
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
      return <textarea {...shared} class="mono" rows={Math.max(2, Math.min(6, lines.length + 1))} value={lines.join("\n")} placeholder={t("settings.lines")} onChange={(event) => change(event.currentTarget.value.split("\n").map((line) => line.trim()).filter(Boolean))} />;
    }
    case "choice":
      return <select {...shared} value={String(value)} onChange={(event) => change(event.currentTarget.value)}>{setting.choices.map((choice) => <option key={choice}>{choice}</option>)}</select>;
    case "integer":
      return <input {...shared} type="number" class="mono" value={String(value)} onInput={(event) => change(event.currentTarget.value === "" ? null : event.currentTarget.valueAsNumber)} />;
    default:
      return <input {...shared} class="mono" value={String(value ?? "")} onInput={(event) => change(event.currentTarget.value)} />;
  }
}
