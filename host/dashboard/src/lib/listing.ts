/** What is in a folder of a container: from `stat` in one that runs, else from the archive of the folder. */

import { docker } from "../api/docker";
import { ask } from "../api/http";
import { entries, type Entry } from "./tar";

/** Beyond this an archive is given up: what was found so far is shown, and said to be a part. */
const MOST_BYTES = 512 << 20;
const MOST_ENTRIES = 100_000;
/** Of what `stat` writes of a folder. */
const MOST_STAT = 8 << 20;

export interface Listing {
  readonly entries: readonly Entry[];
  readonly whole: boolean;
}

/** A link to a folder has a `>` before it: only such a link can be entered. */
const STAT = 'cd "$1" || exit 1; for f in .[!.]* ..?* *; do { [ -e "$f" ] || [ -L "$f" ]; } || continue; [ -L "$f" ] && [ -d "$f" ] && printf "> "; stat -c "%f %s %Y %n" "$f"; done; exit 0';
const KINDS: Record<number, Entry["kind"]> = { 0o04: "folder", 0o10: "file", 0o12: "link" };

export function parseStat(output: string): Entry[] {
  const found: Entry[] = [];
  for (const line of output.split(/\r?\n/)) {
    const [, into, mode, size, modified, name] = /^(> )?([0-9a-f]+) (\d+) (\d+) (.+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const bits = Number.parseInt(mode!, 16);
    const kind = KINDS[bits >> 12] ?? "other";
    found.push({ path: name, kind, size: Number(size), mode: bits & 0o7777, modified: Number(modified), target: "", ...(kind === "link" && { into: into !== undefined }) });
  }
  return found;
}

export async function list(id: string, folder: string, running: boolean, signal: AbortSignal): Promise<Listing> {
  if (running) {
    try {
      const output = await docker.output(id, ["/bin/sh", "-c", STAT, "sh", folder], MOST_STAT, signal);
      return { entries: sorted(parseStat(output)), whole: true };
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      // A container without a shell: the archive tells as well, if slower.
    }
  }
  const { body } = await ask(docker.archiveUrl(id, folder === "/" ? "/." : `${folder}/.`), { signal });
  return children(body!);
}

/** The entries right below the root of an archive. */
export async function children(body: ReadableStream<Uint8Array>, most = MOST_BYTES): Promise<Listing> {
  const found = await everything(body, most, (path) => !path.includes("/"));
  return { entries: sorted([...found.entries]), whole: found.whole };
}

/** What an archive has, as far as it is read. */
export async function everything(body: ReadableStream<Uint8Array>, most = MOST_BYTES, wanted: (path: string) => boolean = () => true): Promise<Listing> {
  const found = new Map<string, Entry>();
  let passed = 0;
  for await (const { entry } of entries(body)) {
    const inner = entry.path.replace(/^\.?\/+/, "").replace(/\/$/, "");
    if (inner && inner !== "." && wanted(inner)) found.set(inner, { ...entry, path: inner });
    passed += entry.size;
    if (passed > most || found.size >= MOST_ENTRIES) return { entries: [...found.values()], whole: false };
  }
  return { entries: [...found.values()], whole: true };
}

export function sorted(list: Entry[]): Entry[] {
  return list.sort((one, other) => Number(other.kind === "folder") - Number(one.kind === "folder") || one.path.localeCompare(other.path));
}

/** The one file of an archive. */
export async function single(body: ReadableStream<Uint8Array>, wanted?: string): Promise<Blob> {
  for await (const { entry, content } of entries(body)) {
    const inner = entry.path.replace(/^\.?\/+/, "");
    if (entry.kind === "file" && (wanted === undefined || inner === wanted)) return new Blob([(await content()) as Uint8Array<ArrayBuffer>]);
  }
  throw new Error("there is no such file in the archive");
}
