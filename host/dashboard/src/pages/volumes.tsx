import { useEffect, useRef, useState } from "preact/hooks";
import { docker, nameOf, type Volume } from "../api/docker";
import { ask, Failure, Mistake } from "../api/http";
import { t } from "../i18n";
import { ago, bytes, moment } from "../lib/format";
import { everything, single, sorted, type Listing } from "../lib/listing";
import { save } from "../lib/save";
import { go, path } from "../router";
import { containers, usage, volumes } from "../state/engine";
import { want } from "../state/resource";
import { Button, Check, Crumbs, Empty, Facts, Header, Loading, Problem } from "../ui/basics";
import { Field, FormDialog } from "../ui/dialog";
import { Icon } from "../ui/icon";
import { RemoveButton, Things } from "../ui/things";
import { told } from "../ui/toasts";
import { Entries, HELD, Path } from "./files";
import { PruneButton } from "./prune";

export function Volumes() {
  useEffect(() => want(volumes, containers, usage), []);
  // Who uses what is known when the containers are.
  const unused = (containers.data.value ? (volumes.data.value ?? []) : []).filter(({ Name }) => usersOf(Name).length === 0);
  return (
    <Things
      kind="volumes"
      resource={volumes}
      texts={({ Name }) => [Name]}
      columns={[{ text: t("name") }, { text: t("usedBy"), class: "wide" }, { text: t("created"), class: "wide" }, { text: t("size"), class: "end" }]}
      row={(volume) => <Row key={volume.Name} volume={volume} />}
      tools={
        <>
          {unused.length > 0 && (
            <PruneButton
              what="volumes"
              filters={{ all: ["true"] }}
              items={unused.map(({ Name }) => {
                const size = sizeOf(Name);
                return size === undefined ? { name: Name } : { name: Name, size };
              })}
              done={() => volumes.refresh()}
            />
          )}
          <ImportButton />
        </>
      }
      add={<CreateButton />}
    />
  );
}

function usersOf(name: string): string[] {
  return (containers.data.value ?? []).filter(({ Mounts }) => Mounts.some((mount) => mount.Type === "volume" && mount.Name === name)).map(nameOf);
}

function sizeOf(name: string): number | undefined {
  const size = usage.data.value?.Volumes?.find(({ Name }) => Name === name)?.UsageData?.Size;
  return size === undefined || size < 0 ? undefined : size;
}

function Row({ volume }: { volume: Volume }) {
  const users = usersOf(volume.Name);
  const size = sizeOf(volume.Name);
  return (
    <tr>
      <td><a class="name mono" data-row href={path("volumes", volume.Name)}><span>{volume.Name}</span></a></td>
      <td class="wide clip" title={users.join(", ")}>{users.length ? users.join(", ") : <span class="muted">{t("unused")}</span>}</td>
      <td class="wide nowrap">{volume.CreatedAt ? ago(Date.parse(volume.CreatedAt) / 1000) : "–"}</td>
      <td class="end nowrap">{size === undefined ? "–" : bytes(size)}</td>
      <td class="end">
        <div class="row-actions">
          <a class="button quiet bare" href={docker.volumeUrl(volume.Name)} download={`${volume.Name}.tar`} aria-label={t("volumes.exportOf", { name: volume.Name })} title={t("volumes.exportOf", { name: volume.Name })}><Icon name="download" /></a>
          <RemoveVolume name={volume.Name} bare />
        </div>
      </td>
    </tr>
  );
}

function RemoveVolume({ name, ...more }: { name: string; bare?: boolean; gone?: () => void }) {
  return <RemoveButton kind="volumes" name={name} remove={() => docker.removeVolume(name)} {...more} />;
}

function CreateButton() {
  const [open, set] = useState(false);
  const [name, call] = useState("");
  return (
    <>
      <Button kind="primary" icon="add" label={t("volumes.create")} onClick={() => set(true)} />
      {open && (
        <FormDialog title={t("volumes.create")} action={t("create")} ready={name.trim() !== ""} close={() => set(false)} run={() => docker.createVolume(name.trim())}>
          <Field label={t("name")} hint={t("volumes.name.hint")}><input required autofocus class="mono" pattern="[a-zA-Z0-9][a-zA-Z0-9_.\-]+" value={name} onInput={(event) => call(event.currentTarget.value)} /></Field>
        </FormDialog>
      )}
    </>
  );
}

function ImportButton({ into = "", done }: { into?: string; done?: () => void }) {
  const [file, pick] = useState<File | null>(null);
  const [name, call] = useState(into);
  const [replace, set] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <Button icon="upload" label={t("volumes.import")} onClick={() => input.current!.click()} />
      <input
        ref={input}
        type="file"
        hidden
        data-import
        accept=".tar,.gz,.tgz,.zst,.bz2,.xz"
        onChange={(event) => {
          const picked = event.currentTarget.files?.[0] ?? null;
          event.currentTarget.value = "";
          pick(picked);
          if (picked && !into) call(picked.name.replace(/\.(tar|tgz|gz|zst|bz2|xz)/g, ""));
        }}
      />
      {file && (
        <FormDialog
          title={t("volumes.import.title", { file: file.name })}
          action={t("volumes.import.action")}
          danger={replace}
          ready={name.trim() !== ""}
          close={() => pick(null)}
          after={done}
          run={async () => {
            await docker.importVolume(name.trim(), file, replace);
            told(t("volumes.imported", { name }));
            await volumes.refresh();
          }}
        >
          <Field label={t("volumes.import.into")}><input required class="mono" value={name} readOnly={into !== ""} onInput={(event) => call(event.currentTarget.value)} /></Field>
          <Check label={t("volumes.import.replace")} checked={replace} onChange={set} />
        </FormDialog>
      )}
    </>
  );
}

export function VolumePage({ name }: { name: string }) {
  const [listing, set] = useState<Listing | null>(null);
  const [error, fail] = useState<Failure | null>(null);
  const [folder, enter] = useState("/");
  const [round, again] = useState(0);
  useEffect(() => want(volumes, containers, usage), []);
  useEffect(() => {
    const controller = new AbortController();
    const look = async () => {
      try {
        const { body } = await ask(docker.volumeUrl(name), { signal: controller.signal });
        const found = await everything(body!);
        if (controller.signal.aborted) return;
        set(found);
        fail(null);
      } catch (reason) {
        if (!controller.signal.aborted) fail(reason instanceof Failure ? reason : new Failure(String(reason), 500));
      }
    };
    void look();
    return () => controller.abort();
  }, [name, round]);

  const volume = volumes.data.value?.find(({ Name }) => Name === name);
  if (volumes.data.value && !volume)
    return <Empty whole icon="volumes" title={t("volumes.gone")} text={t("volumes.gone.text")}><a class="button primary" href={path("volumes")}>{t("volumes.back")}</a></Empty>;
  const prefix = folder === "/" ? "" : `${folder.slice(1)}/`;
  const here = sorted(
    (listing?.entries ?? []).filter(({ path: each }) => each.startsWith(prefix) && each !== prefix && !each.slice(prefix.length).includes("/"))
      .map((entry) => ({ ...entry, path: entry.path.slice(prefix.length) })),
  );
  const users = usersOf(name);
  const size = sizeOf(name);
  return (
    <>
      <Crumbs page="volumes" />
      <Header title={name}>
        <ImportButton into={name} done={() => { enter("/"); again((before) => before + 1); }} />
        <a class="button plain" href={docker.volumeUrl(name)} download={`${name}.tar`}><Icon name="download" /><span>{t("volumes.export")}</span></a>
        <RemoveVolume name={name} gone={() => go("volumes")} />
      </Header>
      {volume && (
        <Facts
          facts={[
            [t("created"), volume.CreatedAt ? moment(volume.CreatedAt) : ""],
            [t("size"), size === undefined ? "" : bytes(size)],
            [t("volumes.driver"), volume.Driver],
            [t("usedBy"), users.length ? <span>{containers.data.value!.filter((one) => users.includes(nameOf(one))).map((one) => <a key={one.Id} class="listed" href={path("containers", one.Id.slice(0, 12))}>{nameOf(one)}</a>)}</span> : t("unused")],
          ]}
        />
      )}
      <section class="block">
        <div class="toolbar"><Path folder={folder} enter={enter} /></div>
        {listing && !listing.whole && <p class="notice">{t("volumes.part")}</p>}
        {error ? <Problem error={error} again={async () => again(round + 1)} /> : !listing ? <Loading /> : here.length === 0 ? <Empty icon="files" title={t("files.none")} text={t("volumes.files.none")} /> : (
          <Entries
            key={folder}
            entries={here}
            enter={(inner) => enter(folder === "/" ? `/${inner}` : `${folder}/${inner}`)}
            download={async (entry) => {
              // An archive has no index: it is read up to the file, and no further.
              if (entry.size > HELD) throw new Mistake(t("volumes.file.large"));
              const { body } = await ask(docker.volumeUrl(name));
              save(await single(body!, prefix + entry.path), entry.path);
            }}
          />
        )}
      </section>
    </>
  );
}
