/** What all containers carry together, for a chart: told by the engine for as long as the chart is in sight. */

import { signal } from "@preact/signals";
import { docker } from "../api/docker";
import { Failure } from "../api/http";
import { lasting } from "./lasting";

/** Ten minutes at one every two seconds. */
const KEPT = 300;

export interface Carried {
  readonly time: number;
  readonly received: number | null;
  readonly sent: number | null;
}

/** Oldest first. */
export const traffic = signal<readonly Carried[]>([]);

/** Raises what is no cut: an engine of before does not tell it. */
export async function follow(wanted: AbortSignal): Promise<void> {
  const keep = (received: number | null, sent: number | null) => {
    traffic.value = [...traffic.value.slice(1 - KEPT), { time: Date.now() / 1000, received, sent }];
  };
  await lasting(async (seen) => {
    const told = await docker.traffic(seen);
    // Of the time in between nobody knows.
    if (traffic.value.length > 0) keep(null, null);
    for await (const { received, sent } of told) keep(received, sent);
    // It has no end of its own: an engine that stops ends it in order.
    if (!seen.aborted) throw new Failure("", 0);
  }, wanted, () => {});
}
