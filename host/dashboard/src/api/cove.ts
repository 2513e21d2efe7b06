/** What is Cove's own: the machine, its settings, its diagnosis. */

import { serverEvents } from "../lib/streams";
import { ask, Failure, json, listen, sending } from "./http";

/** As `cove machine status --json` has it. */
export interface Machine {
  machine: string;
  state: string;
  /** Why it is in trouble, when it is. */
  trouble?: string;
  hint?: string;
  /** It has yet to be made: the first start does that. */
  missing?: boolean;
  crash?: { how: string; words: string };
  ended_with_computer?: boolean;
  last_crash?: { text: string; see: string; at: number };
  suspended_at?: number;
  started_at?: number;
  accelerator?: string;
  architecture?: string;
  engine_version?: string;
  api_version?: string;
  settings?: { cpus: number; memory: number; disk: number };
  disk_used?: number | null;
  folders?: { path: string }[];
  folders_not_shared?: unknown[];
  lost_ports?: { port?: number; [more: string]: unknown }[];
}

/** What the machine takes of this computer: CPU in percent of one processor, bytes, and bytes a second. */
export interface Figures {
  cpu: number | null;
  memory: number | null;
  disk: number | null;
  read: number | null;
  written: number | null;
}

export interface Progress {
  phase: string;
  text: string;
  done: number | null;
  total: number | null;
}

export interface Setting {
  key: string;
  type: "boolean" | "integer" | "choice" | "list" | "size" | "span" | "text";
  kind: string;
  default: unknown;
  value: unknown;
  origin: string;
  place: string;
  text: string;
  choices: string[];
  secret: boolean;
  needs_restart: boolean;
  locked: boolean;
  variable: string;
}

export interface Form {
  file: string;
  restart_needed: boolean;
  settings: Setting[];
}

export interface Finding {
  check: string;
  state: "ok" | "note" | "warning" | "problem";
  text: string;
  fix: string;
}

/** What `watch` and the actions tell, one at a time. */
export interface News {
  state?: Machine;
  progress?: Progress;
  figures?: Figures;
  finding?: Finding;
  done?: boolean;
  error?: string;
  hint?: string;
}

export type Verb = "start" | "stop" | "suspend" | "restart";

export const cove = {
  async *watch(signal: AbortSignal): AsyncGenerator<News> {
    for await (const { data } of serverEvents<News>(await listen("api/machine/watch", signal))) yield data;
  },
  async move(verb: Verb, tell: (progress: Progress) => void): Promise<void> {
    const { body } = await ask(`api/machine/${verb}`, { method: "POST" });
    for await (const { data } of serverEvents<News>(body!)) {
      if (data.error) throw new Failure(data.error, 500, data.hint ?? "");
      if (data.progress) tell(data.progress);
      if (data.done) return;
    }
    throw new Failure("", 0);
  },
  settings: () => json<Form>("api/settings"),
  change: (values: Record<string, unknown>) =>
    json<{ warnings: string[]; overridden: string[]; restart_needed: boolean }>("api/settings", sending("PUT", values)),
  async *diagnose(signal: AbortSignal): AsyncGenerator<Finding> {
    for await (const { data } of serverEvents<News>(await listen("api/diagnose", signal))) if (data.finding) yield data.finding;
  },
};
