/** Builds that are under way and that have been, as the engine tells of them. */

import { signal } from "@preact/signals";
import { builds, type Build } from "../api/builds";
import { Failure } from "../api/http";
import { lasting } from "./lasting";

/** By their names; null is not known yet. */
export const known = signal<ReadonlyMap<string, Build> | null>(null);
export const failed = signal<Failure | null>(null);

/** Keeps it current until the signal says that nobody looks any more. */
export async function followBuilds(signal: AbortSignal): Promise<void> {
  const read = async (wanted = signal) => {
    // What is there is told anew with each connection: of what went meanwhile nobody tells.
    const found = new Map<string, Build>();
    let ready = false;
    for await (const { Build, Removed, Ready } of await builds.follow(wanted)) {
      if (Build) found.set(Build.Ref, Build);
      if (Removed) found.delete(Removed);
      ready ||= Ready === true;
      failed.value = null;
      if (ready) known.value = new Map(found);
    }
    if (!wanted.aborted) throw new Failure("", 0);
  };
  try {
    await lasting(read, signal, () => {});
  } catch (error) {
    if (!signal.aborted) failed.value = error instanceof Failure ? error : new Failure(String(error), 0);
  }
}
