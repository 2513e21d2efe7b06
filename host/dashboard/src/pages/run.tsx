/** The dialog that makes and starts a container. */

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { Mistake } from "../api/http";
import { docker } from "../api/docker";
import { t } from "../i18n";
import { parseLines, parsePorts, parseWords } from "../lib/words";
import { go } from "../router";
import { images } from "../state/engine";
import { Button, Check } from "../ui/basics";
import { Field, FormDialog } from "../ui/dialog";

/** The image that it was asked for; null: nobody asks. */
const asked = signal<string | null>(null);

export function RunButton({ image = "", primary = false, bare = false }: { image?: string; primary?: boolean; bare?: boolean }) {
  return (
    <Button
      bare={bare}
      kind={bare ? "quiet" : "primary"}
      icon={bare ? "play" : "add"}
      label={bare ? t("run.of", { name: image }) : primary ? t("run.first") : t("run")}
      onClick={() => (asked.value = image)}
    />
  );
}

/** Apart from its buttons: the one of an empty list goes as soon as the container is there. */
export function Running() {
  return asked.value === null ? null : <RunDialog image={asked.value} close={() => (asked.value = null)} />;
}

function RunDialog({ image, close }: { image: string; close: () => void }) {
  const [form, set] = useState({ image, name: "", command: "", ports: "", env: "", binds: "", remove: false });
  const change = (values: Partial<typeof form>) => set({ ...form, ...values });
  useEffect(() => images.want(), []);
  const known = (images.data.value ?? []).flatMap(({ RepoTags }) => RepoTags ?? []);
  return (
    <FormDialog
      title={t("run")}
      action={t("run.action")}
      ready={form.image.trim() !== ""}
      close={close}
      run={async () => {
        const { exposed, bound, wrong } = parsePorts(form.ports);
        if (wrong) throw new Mistake(t("run.ports.bad", { word: wrong }));
        const words = parseWords(form.command);
        const { Id } = await docker.createContainer(form.name.trim(), {
          Image: form.image.trim(),
          ...(words.length > 0 && { Cmd: words }),
          Env: parseLines(form.env),
          ExposedPorts: exposed,
          HostConfig: { PortBindings: bound, Binds: parseLines(form.binds), AutoRemove: form.remove },
        });
        try {
          await docker.act(Id, "start");
        } catch (error) {
          // Nobody has seen it, and its name is wanted for the next try. Why it did not start is what is told.
          await docker.removeContainer(Id, true).catch(() => undefined);
          throw error;
        }
        return Id;
      }}
      after={(made) => go("containers", made.slice(0, 12), "logs")}
    >
      <Field label={t("image")} hint={t("run.image.hint")}>
        <input required list="known-images" value={form.image} onInput={(event) => change({ image: event.currentTarget.value })} autofocus={!image} />
      </Field>
      <datalist id="known-images">{known.map((tag) => <option key={tag} value={tag} />)}</datalist>
      <div class="columns">
        <Field label={t("name")} hint={t("run.name.hint")}>
          <input pattern="[a-zA-Z0-9][a-zA-Z0-9_.\-]*" value={form.name} onInput={(event) => change({ name: event.currentTarget.value })} />
        </Field>
        <Field label={t("ports")} hint={t("run.ports.hint")}>
          <input placeholder="8080:80" value={form.ports} onInput={(event) => change({ ports: event.currentTarget.value })} />
        </Field>
      </div>
      <Field label={t("command")} hint={t("run.command.hint")}>
        <input class="mono" value={form.command} onInput={(event) => change({ command: event.currentTarget.value })} />
      </Field>
      <div class="columns">
        <Field label={t("environment")} hint={t("run.env.hint")}>
          <textarea class="mono" rows={3} value={form.env} onInput={(event) => change({ env: event.currentTarget.value })} />
        </Field>
        <Field label={t("run.folders")} hint={t("run.folders.hint")}>
          <textarea class="mono" rows={3} value={form.binds} onInput={(event) => change({ binds: event.currentTarget.value })} />
        </Field>
      </div>
      <Check label={t("run.remove")} checked={form.remove} onChange={(remove) => change({ remove })} />
    </FormDialog>
  );
}
