/** What the engine has, kept current by the events that it tells. */

import { signal } from "@preact/signals";
import { docker, type DockerEvent } from "../api/docker";
import { until } from "../lib/until";
import { Resource } from "./resource";
import { seen, whileSeen } from "./sight";

export const containers = new Resource(docker.containers);
export const images = new Resource(docker.images);
export const volumes = new Resource(docker.volumes);
export const networks = new Resource(docker.networks);
/** Counted anew each time, and that takes a while: not at each of a row of events. */
export const usage = new Resource(docker.usage, 5000);

const ALL = [containers, images, volumes, networks, usage];
const KEPT = 200;
const LONGEST_WAIT_MS = 30_000;

/** The newest first. */
export const happened = signal<readonly DockerEvent[]>([]);
/** Whether what is shown is current: there is a stream that tells of changes. */
export const connected = signal(false);

const heard = new Set<(event: DockerEvent) => void>();

export function onEvent(listener: (event: DockerEvent) => void): () => void {
  heard.add(listener);
  return () => heard.delete(listener);
}

function take(event: DockerEvent): void {
  if (event.Action.startsWith("exec_")) return;
  for (const listener of heard) listener(event);
  if (event.Type === "container") {
    containers.changed();
    if (/^(create|destroy|start|die)/.test(event.Action)) usage.changed();
    if (event.Action === "destroy" || event.Action === "create") images.changed();
  } else if (event.Type === "image") images.changed();
  else if (event.Type === "volume") volumes.changed();
  else if (event.Type === "network") {
    networks.changed();
    containers.changed();
  }
  if (event.Type === "image" || event.Type === "volume") usage.changed();
  happened.value = [event, ...happened.value.slice(0, KEPT - 1)];
}

let again = () => {};
let resting = false;

/** The machine runs (again): connect now rather than after the wait. */
export function reconnect(): void {
  resting = false;
  again();
}

/** The machine does not run: nothing is asked until it does. */
export function rest(): void {
  resting = true;
}

/** Follows the engine's events for as long as the page is there and in sight. */
export async function follow(): Promise<never> {
  for (let wait = 500; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    await until(() => seen.value);
    const { signal, release } = whileSeen();
    try {
      const events = await docker.events(signal);
      connected.value = true;
      wait = 500;
      for (const resource of ALL) resource.changed();
      for await (const event of events) take(event);
    } catch {
      // The engine is away; the state of the machine tells why.
    } finally {
      release();
    }
    connected.value = false;
    if (!seen.value) {
      wait = 500;
      continue;
    }
    await new Promise<void>((resolve) => {
      again = resolve;
      if (!resting) setTimeout(resolve, wait);
    });
  }
}
