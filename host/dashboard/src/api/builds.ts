/** What was built: Cove's own part of the engine's API. */

import { jsonLines } from "../lib/streams";
import { ask, listen } from "./http";

/** With BuildKit's names (BuildHistoryRecord). */
export interface Build {
  Ref: string;
  State: "running" | "completed" | "failed" | "canceled";
  /** What the folder was called that was built. */
  Context?: string;
  FrontendAttrs?: Record<string, string>;
  Exporters?: { Type: string; Attrs?: Record<string, string> }[];
  ExporterResponse?: Record<string, string>;
  CreatedAt: string;
  CompletedAt?: string;
  Error?: { Message?: string; Source?: { Filename: string; Text: string; First: number; Last: number } };
  Steps: { Total: number; Cached: number; Completed: number };
  Warnings: number;
}

/** One of: a build as it is now, one that is gone, or that all have been told that there are. */
export interface BuildNews {
  Build?: Build;
  Removed?: string;
  Ready?: boolean;
}

/** BuildKit's client.SolveStatus. */
export interface SolveStatus {
  vertexes?: { digest: string; name: string; started?: string; completed?: string; cached?: boolean; error?: string }[];
  statuses?: { id: string; vertex: string; name?: string; current: number; total?: number; started?: string; completed?: string }[];
  logs?: { vertex: string; stream: number; data: string; timestamp: string }[];
  warnings?: { vertex: string; short?: string; detail?: string[]; url?: string }[];
}

const BASE = "docker/cove/builds";
const of = (ref: string) => `${BASE}/${encodeURIComponent(ref)}`;

export const builds = {
  follow: async (signal: AbortSignal) => jsonLines<BuildNews>(await listen(`${BASE}?follow=1`, signal)),
  progress: async (ref: string, signal: AbortSignal) => jsonLines<SolveStatus>(await listen(`${of(ref)}/progress`, signal)),
  remove: async (ref: string) => {
    await ask(of(ref), { method: "DELETE" });
  },
};
