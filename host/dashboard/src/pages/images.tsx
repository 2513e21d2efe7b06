import { useEffect, useState } from "preact/hooks";
import { docker, nameOf, type Image, type Layer, type PullStep } from "../api/docker";
import { Failure, Mistake } from "../api/http";
import { t } from "../i18n";
import { ago, bytes, count, moment, percent, short } from "../lib/format";
import { parseReference } from "../lib/words";
import { go, path } from "../router";
import { containers, images } from "../state/engine";
import { want } from "../state/resource";
import { Button, Copy, Crumbs, Doing, Empty, Facts, Header, Loading, Problem } from "../ui/basics";
import { Field, FormDialog } from "../ui/dialog";
import { Icon } from "../ui/icon";
import { RemoveButton, Things } from "../ui/things";
import { attempt, told } from "../ui/toasts";
import { PruneButton } from "./prune";
import { RunButton } from "./run";

export function Images() {
  useEffect(() => want(images, containers), []);
  const unused = (containers.data.value ? (images.data.value ?? []) : []).filter((image) => usersOf(image).length === 0);
  return (
    <Things
      kind="images"
      resource={images}
      texts={(image) => [image.Id, ...tagsOf(image)]}
      columns={[
        { text: t("name") }, { text: t("id"), class: "wide" }, { text: t("created"), class: "wide" }, { text: t("usedBy"), class: "wide" },
        { text: t("size"), class: "end" },
      ]}
      row={(image) => <Row key={image.Id} image={image} />}
      tools={
        <>
          {unused.length > 0 && <PruneButton what="images" items={unused.map((image) => ({ name: tagsOf(image)[0] ?? short(image.Id), size: image.Size }))} filters={{ dangling: ["false"] }} done={() => images.refresh()} />}
          <LoadButton />
        </>
      }
      add={<PullButton />}
    />
  );
}

export function tagsOf(image: Image): string[] {
  return (image.RepoTags ?? []).filter((tag) => tag !== "<none>:<none>");
}

function usersOf(image: Image): string[] {
  return (containers.data.value ?? []).filter(({ ImageID }) => ImageID === image.Id).map(nameOf);
}

function Row({ image }: { image: Image }) {
  const tags = tagsOf(image);
  const name = tags[0] ?? t("images.untagged");
  const users = usersOf(image);
  return (
    <tr>
      <td>
        <a class="name" data-row href={path("images", short(image.Id))}><span class={tags.length ? "" : "muted"}>{name}</span></a>
        {tags.length > 1 && <span class="under muted">{tags.slice(1).join(", ")}</span>}
      </td>
      <td class="wide mono">{short(image.Id)}</td>
      <td class="wide nowrap">{ago(image.Created)}</td>
      <td class="wide clip" title={users.join(", ")}>{users.length === 0 ? <span class="muted">{t("unused")}</span> : users.join(", ")}</td>
      <td class="end nowrap">{bytes(image.Size)}</td>
      <td class="end">
        <div class="row-actions">
          <RunButton bare image={tags[0] ?? short(image.Id)} />
          <RemoveImage image={image} bare />
        </div>
      </td>
    </tr>
  );
}

/** Of the image with all its names. */
function RemoveImage({ image, ...more }: { image: Image; bare?: boolean; gone?: () => void }) {
  return <RemoveButton kind="images" name={tagsOf(image).join(", ") || short(image.Id)} remove={() => removeWhole(image)} {...more} />;
}

/** All of its names, or none. With more than one the engine wants to be forced, and then minds no containers that are stopped: so it is looked
 *  first. */
async function removeWhole(image: Image): Promise<void> {
  const users = (await docker.containers()).filter(({ ImageID }) => ImageID === image.Id).map(nameOf);
  if (users.length > 0) throw new Mistake(t("images.used", { names: users.join(", ") }));
  await docker.removeImage(image.Id, tagsOf(image).length > 1);
}

function PullButton() {
  const [open, set] = useState(false);
  return (
    <>
      <Button kind="primary" icon="download" label={t("images.pull")} onClick={() => set(true)} />
      {open && <PullDialog close={() => set(false)} />}
    </>
  );
}

interface LayerProgress {
  status: string;
  current: number;
  total: number;
}

function PullDialog({ close }: { close: () => void }) {
  const [reference, set] = useState("");
  const [layers, show] = useState<ReadonlyMap<string, LayerProgress> | null>(null);
  const [said, say] = useState("");
  const [controller, renew] = useState(() => new AbortController());
  return (
    <FormDialog
      title={t("images.pull")}
      action={t("images.pull.action")}
      ready={reference.trim() !== ""}
      close={close}
      stop={() => {
        controller.abort();
        renew(new AbortController());
        say(t("images.stopped"));
      }}
      run={async () => {
        const { name, tag } = parseReference(reference);
        const seen = new Map<string, LayerProgress>();
        show(seen);
        for await (const step of await docker.pull(name, tag, controller.signal)) {
          take(step, seen);
          show(new Map(seen));
          if (!step.id && step.status) say(step.status);
        }
        told(t("images.pulled", { name: reference }));
      }}
    >
      <Field label={t("images.reference")} hint={t("images.reference.hint")}>
        <input required autofocus class="mono" placeholder="debian:13" value={reference} onInput={(event) => set(event.currentTarget.value)} />
      </Field>
      {layers && (
        <div class="progress-list" role="group" aria-label={t("images.progress")}>
          {[...layers].map(([id, { status, current, total }]) => (
            <div key={id} class="progress-row">
              <span class="mono">{id}</span>
              <progress max={1} value={total > 0 ? current / total : undefined} aria-label={id} />
              <span class="muted nowrap" lang="en">{total > 0 && current < total ? percent((current / total) * 100) : status}</span>
            </div>
          ))}
          <p class="muted" role="status" lang={said === t("images.stopped") ? undefined : "en"}>{said}</p>
        </div>
      )}
    </FormDialog>
  );
}

export function take(step: PullStep, seen: Map<string, LayerProgress>): void {
  const wrong = step.errorDetail?.message ?? step.error;
  if (wrong) throw new Failure(wrong, 500);
  if (!step.id || step.status?.startsWith("Pulling from")) return;
  const { current = 0, total = 0 } = step.progressDetail ?? {};
  const done = step.status === "Pull complete" || step.status === "Already exists" || step.status === "Download complete";
  seen.set(step.id, { status: step.status ?? "", current: done ? 1 : current, total: done ? 1 : total });
}

function LoadButton() {
  return (
    <label class="button plain">
      <Icon name="upload" />
      <span>{t("images.load")}</span>
      <input
        type="file"
        class="hidden"
        accept=".tar,.gz,.tgz,.zst,.xz"
        onChange={async (event) => {
          const file = event.currentTarget.files?.[0];
          event.currentTarget.value = "";
          if (!file) return;
          await attempt(async () => {
            for await (const step of await docker.load(file)) take(step, new Map());
            told(t("images.loaded", { name: file.name }));
          });
        }}
      />
    </label>
  );
}

export function ImagePage({ id }: { id: string }) {
  const [layers, set] = useState<Layer[] | null>(null);
  const [detail, know] = useState<Record<string, unknown> | null>(null);
  const [error, fail] = useState<Failure | null>(null);
  const [tagging, tag] = useState(false);
  const look = async () => {
    try {
      const [history, all] = await Promise.all([docker.history(id), docker.image(id)]);
      set(history);
      know(all);
      fail(null);
    } catch (reason) {
      fail(reason as Failure);
    }
  };
  useEffect(() => want(images, containers), []);
  useEffect(() => void look(), [id]);
  const image = images.data.value?.find(({ Id }) => short(Id).startsWith(id) || Id.startsWith(id));
  if (error?.status === 404 || (images.data.value && layers && !image))
    return <Empty whole icon="images" title={t("images.gone")} text={t("images.gone.text")}><a class="button primary" href={path("images")}>{t("images.back")}</a></Empty>;
  if (error) return <Problem error={error} again={look} />;
  if (!layers || !detail || !image) return <><Crumbs page="images" /><Header title={id} /><Loading /></>;
  const tags = tagsOf(image);
  const config = (detail.Config ?? {}) as { Cmd?: string[] | null; Entrypoint?: string[] | null; Env?: string[] | null; ExposedPorts?: object | null; User?: string; WorkingDir?: string };
  const most = Math.max(1, ...layers.map(({ Size }) => Size));
  return (
    <>
      <Crumbs page="images" />
      <Header title={tags[0] ?? short(image.Id)} note={t("images.line", { size: bytes(image.Size), when: ago(image.Created) })}>
        <RunButton image={tags[0] ?? short(image.Id)} />
        <Button icon="tag" label={t("images.tag")} onClick={() => tag(true)} />
        <a class="button plain" href={docker.saveUrl(tags.length ? tags : [image.Id])} download={`${(tags[0] ?? short(image.Id)).replace(/[/:]/g, "-")}.tar`}><Icon name="download" /><span>{t("images.save")}</span></a>
        <RemoveImage image={image} gone={() => go("images")} />
      </Header>
      <Facts
        facts={[
          [t("id"), <><span class="mono">{short(image.Id)}</span> <Copy text={image.Id} /></>],
          [t("images.tags"), <Names image={image} />],
          [t("created"), moment(image.Created * 1000)],
          [t("images.platform"), `${String(detail.Os ?? "")}/${String(detail.Architecture ?? "")}`],
          [t("command"), <code>{[...(config.Entrypoint ?? []), ...(config.Cmd ?? [])].join(" ")}</code>],
          [t("inspect.folder"), <code>{config.WorkingDir || "/"}</code>],
          [t("inspect.user"), config.User || "root"],
          [t("ports"), Object.keys(config.ExposedPorts ?? {}).join(", ")],
          [t("usedBy"), usersOf(image).join(", ")],
        ]}
      />
      <section class="block">
        <h2>{t("images.layers")} <span class="muted">{count(layers.length)}</span></h2>
        <ol class="layers">
          {layers.map((layer, index) => (
            <li key={index}>
              <span class="layer-size nowrap">{bytes(layer.Size)}</span>
              <span class="layer-bar" aria-hidden="true"><span style={{ width: `${(layer.Size / most) * 100}%` }} /></span>
              <code>{instruction(layer.CreatedBy) || layer.Comment || "–"}</code>
            </li>
          ))}
        </ol>
      </section>
      {tagging && <TagDialog id={image.Id} close={() => tag(false)} />}
    </>
  );
}

/** The line of a Dockerfile, without what the builder put around it. */
export function instruction(text: string): string {
  return text.replace(/^\/bin\/sh -c #\(nop\)\s*/, "").replace(/^\/bin\/sh -c /, "RUN ").replace(/\s*# buildkit$/, "").replace(/^RUN \/bin\/sh -c /, "RUN ");
}

/** Each can be taken off but the last, which goes with the image. */
function Names({ image }: { image: Image }) {
  const tags = tagsOf(image);
  if (tags.length < 2) return <>{tags[0] ?? "–"}</>;
  return (
    <ul class="names">
      {tags.map((tag) => (
        <li key={tag}>
          <span>{tag}</span>
          <Doing bare kind="quiet" icon="remove" label={t("images.untag", { name: tag })} run={() => takeOff(image, tag)} />
        </li>
      ))}
    </ul>
  );
}

/** The engine removes an image with its last name, which this may have become since the page was drawn. */
async function takeOff(image: Image, tag: string): Promise<void> {
  const { RepoTags: names } = (await docker.image(image.Id)) as { RepoTags: string[] | null };
  if ((names ?? []).filter((name) => name !== tag).length === 0) throw new Mistake(t("images.untag.last", { name: tag }));
  await docker.removeImage(tag, false);
  told(t("images.nameGone", { name: tag }));
  await images.refresh();
}

function TagDialog({ id, close }: { id: string; close: () => void }) {
  const [reference, set] = useState("");
  return (
    <FormDialog
      title={t("images.tag.title")}
      action={t("images.tag")}
      ready={reference.trim() !== ""}
      close={close}
      run={async () => {
        const { name, tag } = parseReference(reference);
        await docker.tagImage(id, name, tag);
        told(t("images.tagged", { name: reference }));
      }}
    >
      <Field label={t("images.reference")}><input required autofocus class="mono" placeholder="app:good" value={reference} onInput={(event) => set(event.currentTarget.value)} /></Field>
    </FormDialog>
  );
}
