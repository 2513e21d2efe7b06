/** A container's files: into folders, downloads, uploads. */

import { useEffect, useRef, useState } from "preact/hooks";
import { docker } from "../api/docker";
import { ask, Failure } from "../api/http";
import { t } from "../i18n";
import { bytes, count, moment } from "../lib/format";
import { useGrowing } from "../lib/hooks";
import { list, single, type Listing } from "../lib/listing";
import { fetchTo, save } from "../lib/save";
import { archive, type Entry } from "../lib/tar";
import { Button, Doing, Empty, Loading, Problem } from "../ui/basics";
import { Icon } from "../ui/icon";
import { moveAmongRows } from "../ui/rows";
import { attempt, told } from "../ui/toasts";

/** A larger file is not taken out of its archive by the page, which would hold it whole. */
export const HELD = 256 << 20;

export function Files({ id, running }: { id: string; running: boolean }) {
  const [folder, enter] = useState("/");
  const [held, set] = useState<{ of: string; listing: Listing } | null>(null);
  const [error, fail] = useState<Failure | null>(null);
  const [over, hover] = useState(false);
  const [round, again] = useState(0);
  const picked = useRef<HTMLInputElement>(null);

  // A list is shown as that of its own folder alone.
  const listing = held?.of === folder ? held.listing : null;
  useEffect(() => {
    const controller = new AbortController();
    const look = async () => {
      try {
        const found = await list(id, folder, running, controller.signal);
        if (!controller.signal.aborted) set({ of: folder, listing: found });
      } catch (reason) {
        if (!controller.signal.aborted) fail(reason instanceof Failure ? reason : new Failure(String(reason), 500));
      }
    };
    fail(null);
    void look();
    return () => controller.abort();
  }, [id, folder, running, round]);

  const upload = async (files: readonly File[]) => {
    if (files.length === 0) return;
    const packed = archive(files.map((file) => ({ name: file.name, data: file, modified: file.lastModified / 1000 })));
    const done = await attempt(() => docker.putArchive(id, folder, packed));
    if (done) told(t("files.uploaded", { count: files.length, folder }));
    again((before) => before + 1);
  };

  const inside = (name: string) => (folder === "/" ? `/${name}` : `${folder}/${name}`);
  return (
    <section
      class={`files ${over ? "over" : ""}`}
      aria-label={t("tab.files")}
      onDragOver={(event) => {
        event.preventDefault();
        hover(true);
      }}
      onDragLeave={() => hover(false)}
      onDrop={(event) => {
        event.preventDefault();
        hover(false);
        void upload([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <div class="toolbar">
        <Path folder={folder} enter={enter} />
        <a class="button" href={docker.archiveUrl(id, folder)} download={`${folder.split("/").pop() || "root"}.tar`}>
          <Icon name="download" />
          <span>{t("files.folder")}</span>
        </a>
        <Button icon="upload" label={t("files.upload")} onClick={() => picked.current!.click()} />
        <input
          ref={picked}
          type="file"
          multiple
          hidden
          data-upload
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            event.currentTarget.value = "";
            void upload(files);
          }}
        />
      </div>
      {error ? (
        <Problem error={error} again={async () => again(round + 1)} />
      ) : !listing ? (
        <Loading />
      ) : listing.entries.length === 0 ? (
        <Empty icon="files" title={t("files.none")} text={t("files.none.text")} />
      ) : (
        <>
          {!listing.whole && <p class="notice">{t("files.part")}</p>}
          <Entries key={folder} entries={listing.entries} enter={(name) => enter(inside(name))} download={(entry) => fetchFile(id, inside(entry.path), entry)} />
        </>
      )}
    </section>
  );
}

async function fetchFile(id: string, path: string, entry: Entry): Promise<void> {
  const name = path.split("/").pop()!;
  if (entry.size > HELD) {
    // Too large to be unpacked here: as the archive that docker gives.
    fetchTo(docker.archiveUrl(id, path), `${name}.tar`);
    return;
  }
  const { body } = await ask(docker.archiveUrl(id, path));
  save(await single(body!), name);
}

/** Rows of a table that a browser draws with ease. */
const MOST_ROWS = 2000;

export function Path({ folder, enter }: { folder: string; enter: (folder: string) => void }) {
  const parts = folder.split("/").filter(Boolean);
  return (
    <nav class="path mono" aria-label={t("files.path")}>
      <button type="button" onClick={() => enter("/")} aria-label={t("files.root")}>/</button>
      {parts.map((part, index) => (
        <button type="button" key={index} onClick={() => enter(`/${parts.slice(0, index + 1).join("/")}`)}>{part}</button>
      ))}
    </nav>
  );
}

export function Entries({ entries, enter, download }: {
  entries: readonly Entry[];
  enter: (name: string) => void;
  download: (entry: Entry) => Promise<void>;
}) {
  const shown = useGrowing(entries.slice(0, MOST_ROWS));
  return (
    <>
      <table class="table" onKeyDown={moveAmongRows}>
        <caption class="hidden">{t("tab.files")}</caption>
        <thead>
          <tr>
            <th scope="col">{t("name")}</th>
            <th scope="col" class="end">{t("size")}</th>
            <th scope="col" class="wide">{t("files.mode")}</th>
            <th scope="col" class="wide">{t("files.modified")}</th>
            <th scope="col" class="end"><span class="hidden">{t("actions")}</span></th>
          </tr>
        </thead>
        <tbody>
          {shown.map((entry) => (
            <tr key={entry.path}>
              <td>
                {entry.kind === "folder" || (entry.kind === "link" && entry.into !== false) ? (
                  <button type="button" class="name as-link" data-row onClick={() => enter(entry.path)}><Icon name={entry.kind === "folder" ? "files" : "link"} /><span>{entry.path}</span></button>
                ) : (
                  <span class="name" data-row tabIndex={-1}><Icon name={entry.kind === "link" ? "link" : "file"} /><span>{entry.path}</span></span>
                )}
              </td>
              <td class="end nowrap">{entry.kind === "file" ? bytes(entry.size) : ""}</td>
              <td class="wide mono">{permissions(entry)}</td>
              <td class="wide nowrap">{moment(entry.modified * 1000)}</td>
              <td class="end">{entry.kind === "file" && <Doing bare kind="quiet" icon="download" label={t("files.download", { name: entry.path })} run={() => download(entry)} />}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {entries.length > MOST_ROWS && <p class="muted">{t("files.more", { count: count(entries.length - MOST_ROWS) })}</p>}
    </>
  );
}

function permissions({ mode, kind }: Entry): string {
  const bits = [...(mode & 0o777).toString(2).padStart(9, "0")];
  return ({ folder: "d", link: "l", file: "-", other: "?" }[kind]) + bits.map((bit, index) => (bit === "1" ? "rwx"[index % 3]! : "-")).join("");
}
