/** What is Cove's own: the machine, its settings, its diagnosis. */

import { serverEvents } from "../lib/streams";
import { ask, Failure, json, sending } from "./http";

export interface Machine {
  name: string;
  state: string;
  why?: string | null;
  cpus?: number;
  memory?: number;
  disk?: number;
  accelerator?: string;
  versions?: Record<string, string>;
  folders?: { path?: string; [more: string]: unknown }[];
  lost_ports?: unknown[];
  crash?: unknown;
  [more: string]: unknown;
}

/** The VM as this computer sees it, now. Rates are per second. */
export interface Figures {
  cpu?: number;
  memory?: number;
  disk_read?: number;
  disk_written?: number;
  received?: number;
  sent?: number;
}

export interface Setting {
  key: string;
  type: string;
  default: unknown;
  value: unknown;
  origin: string;
  text: string;
  choices?: string[] | null;
  needs_restart?: boolean;
  locked?: boolean;
}

export interface Finding {
  state: string;
  name: string;
  text: string;
  fix?: string | null;
}

export interface Step {
  text?: string;
  done?: boolean;
  error?: string;
  hint?: string;
}

export type Verb = "start" | "stop" | "suspend" | "restart";

async function stream<T>(path: string, options: RequestInit) {
  return serverEvents<T>((await ask(path, options)).body!);
}

export const cove = {
  machine: () => json<Machine>("/api/machine"),
  watch: (signal: AbortSignal) => stream<Machine & { figures?: Figures }>("/api/machine/watch", { signal }),
  async move(verb: Verb, told: (step: Step) => void): Promise<void> {
    for await (const { data } of await stream<Step>(`/api/machine/${verb}`, { method: "POST" })) {
      if (data.error) throw new Failure(data.error, 500, data.hint ?? "");
      told(data);
    }
  },
  settings: () => json<Setting[]>("/api/settings"),
  change: (values: Record<string, unknown>) => json<unknown>("/api/settings", sending("PUT", values)),
  diagnose: (signal: AbortSignal) => stream<Finding & { done?: boolean; error?: string }>("/api/diagnose", { signal }),
  builds: () => json<unknown[]>("/api/builds"),
};
