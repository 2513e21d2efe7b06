/** What a build says of itself, step by step: where its time went, and what was not in the cache. */

import type { Build, SolveStatus } from "../api/builds";
import type { Line } from "./lines";
import { LONGEST_LINE } from "./logstream";

export interface Step {
  readonly digest: string;
  readonly name: string;
  /** In milliseconds since the epoch; 0 is not yet. */
  readonly started: number;
  readonly completed: number;
  readonly cached: boolean;
  readonly error: string;
}

/** A transfer, or another part of a step. */
export interface Part {
  readonly name: string;
  readonly current: number;
  readonly total: number;
  readonly over: boolean;
}

export interface Warning {
  readonly short: string;
  readonly detail: string;
  readonly url: string;
}

const LONGEST_HEADING = 200;
const SOURCE = /^\[((?:.*\s)?)(\d+)\/\d+\] ([\s\S]*)$/;

/** Of a step that is an instruction of the Dockerfile: its stage, its place in it, and what it says. */
export function instruction(name: string): { stage: string; number: number; text: string } | null {
  const [, stage, number, text] = SOURCE.exec(name) ?? [];
  return text === undefined ? null : { stage: stage!.trim(), number: Number(number), text };
}

/** A step's name on one line: a heredoc has several, and a line of the log is no higher than one. */
export function heading(name: string): string {
  const [first = "", more] = name.split("\n", 2);
  const cut = first.slice(0, LONGEST_HEADING);
  return more === undefined && cut === first ? name : `${cut} …`;
}

/** All that is told of one build, as it comes. */
export class Trace {
  private readonly found = new Map<string, Step>();
  private readonly parts = new Map<string, Map<string, Part>>();
  private readonly outputs = new Map<string, Output>();
  readonly warnings: Warning[] = [];

  /** Gives the lines of output that are whole now, with the steps that have written them. */
  take(status: SolveStatus): { step: string; line: Line }[] {
    const lines: { step: string; line: Line }[] = [];
    for (const { digest, name, started, completed, cached = false, error = "" } of status.vertexes ?? []) {
      this.found.set(digest, { digest, name, started: time(started), completed: time(completed), cached, error });
    }
    for (const { id, vertex, name, current, total = 0, completed } of status.statuses ?? []) {
      let parts = this.parts.get(vertex);
      if (!parts) this.parts.set(vertex, (parts = new Map()));
      parts.set(id, { name: name || id, current, total, over: completed !== undefined });
    }
    for (const { vertex, stream, data, timestamp } of status.logs ?? []) {
      const key = `${stream} ${vertex}`;
      let output = this.outputs.get(key);
      if (!output) this.outputs.set(key, (output = new Output(stream === 2)));
      for (const line of output.read(bytes(data), timestamp)) lines.push({ step: vertex, line });
    }
    for (const { short = "", detail = [], url = "" } of status.warnings ?? []) {
      this.warnings.push({ short: text(short), detail: detail.map(text).join(" "), url });
    }
    return lines;
  }

  /** What has no end yet, when there will be no more. */
  end(): { step: string; line: Line }[] {
    return [...this.outputs].flatMap(([key, output]) => output.end().map((line) => ({ step: key.slice(key.indexOf(" ") + 1), line })));
  }

  /** In the order in which they began. */
  get steps(): Step[] {
    return [...this.found.values()].filter(({ started }) => started > 0).sort((one, other) => one.started - other.started);
  }

  nameOf(digest: string): string {
    return this.found.get(digest)?.name ?? "";
  }

  /** What a step does just now. */
  doing(digest: string): Part | null {
    let last: Part | null = null;
    for (const part of this.parts.get(digest)?.values() ?? []) if (!part.over) last = part;
    return last;
  }
}

/** Bytes of one stream of one step, as lines. */
class Output {
  private readonly decoder = new TextDecoder();
  private rest = "";
  private time = "";

  constructor(private readonly stderr: boolean) {}

  read(data: Uint8Array, timestamp: string): Line[] {
    const parts = (this.rest + this.decoder.decode(data, { stream: true })).split("\n");
    this.time = timestamp;
    this.rest = parts.pop()!;
    const lines = parts.flatMap((part) => this.cut(part));
    if (this.rest.length > LONGEST_LINE) {
      const pieces = this.cut(this.rest);
      this.rest = pieces.pop()!.text;
      lines.push(...pieces);
    }
    return lines;
  }

  end(): Line[] {
    const lines = this.rest ? this.cut(this.rest) : [];
    this.rest = "";
    return lines;
  }

  /** What is written over itself (`\r`) is shown as it was at last. */
  private cut(raw: string): Line[] {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    const shown = line.slice(line.lastIndexOf("\r") + 1);
    const lines: Line[] = [];
    for (let at = 0; at === 0 || at < shown.length; at += LONGEST_LINE) {
      lines.push({ text: shown.slice(at, at + LONGEST_LINE), time: this.time, stderr: this.stderr });
    }
    return lines;
  }
}

function time(value: string | undefined): number {
  return value ? Date.parse(value) : 0;
}

function bytes(data: string): Uint8Array {
  return Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
}

function text(data: string): string {
  return new TextDecoder().decode(bytes(data));
}

/** From the begin of the build to its end, or to now. */
export function span(build: Build, now: number): number {
  return Math.max(0, (time(build.CompletedAt) || now) - time(build.CreatedAt));
}

export function duration(step: Step, now: number): number {
  return Math.max(0, (step.completed || now) - step.started);
}

/** A step's place in the time that the build took: parts of the whole. */
export function place(step: Step, build: Build, now: number): { from: number; share: number } {
  const whole = span(build, now) || 1;
  const from = Math.min(1, Math.max(0, (step.started - time(build.CreatedAt)) / whole));
  return { from, share: Math.min(1 - from, duration(step, now) / whole) };
}

export interface Miss {
  readonly step: Step;
  /** The word that it begins with. */
  readonly verb: string;
  /** How many others ran then, of those that come after it in the Dockerfile's order. */
  readonly after: number;
  /** What these and itself took, in milliseconds. */
  readonly took: number;
}

/** The first instruction that had to be carried out. From there on the cache is of no use to its stage, and what copies from that. */
export function firstMiss(steps: readonly Step[], now: number): Miss | null {
  const ran = steps.filter(({ name, cached }) => !cached && carriedOut(name));
  const [step, ...others] = ran;
  if (!step) return null;
  const { stage, number, text: words } = instruction(step.name)!;
  const after = others.filter(({ name, started }) => {
    const other = instruction(name)!;
    return other.stage === stage ? other.number > number : started >= (step.completed || now);
  });
  const took = [step, ...after].reduce((sum, each) => sum + duration(each, now), 0);
  return { step, verb: words.split(/\s/, 1)[0]!.toUpperCase(), after: after.length, took };
}

/** Whether a step is one that the cache may have: a base image is there or comes, and the rest of a build is done each time. */
export function carriedOut(name: string): boolean {
  const told = instruction(name);
  return told !== null && !/^FROM\s/i.test(told.text);
}

/** What it is called: the names that the image was given, else what was built. */
export function title(build: Build): string {
  const attributes = build.FrontendAttrs ?? {};
  const target = attributes.target ? ` (${attributes.target})` : "";
  return names(build)[0] ?? (`${build.Context || remote(attributes.context) || attributes.filename || build.Ref.slice(0, 12)}${target}`);
}

/** Every other name. */
export function otherNames(build: Build): string[] {
  return names(build).slice(1);
}

function names({ Exporters = [] }: Build): string[] {
  return Exporters.flatMap(({ Attrs }) => (Attrs?.name ?? "").split(",")).filter(Boolean);
}

function remote(url: string | undefined): string {
  return url?.startsWith("http://buildkit-session/") ? "" : (url ?? "");
}

/** Arguments of a kind, such as `build-arg:`. */
export function withPrefix(build: Build, prefix: string): [string, string][] {
  return Object.entries(build.FrontendAttrs ?? {}).filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]);
}

/** The image that came of it. */
export function imageOf(build: Build): string {
  return build.ExporterResponse?.["containerimage.config.digest"] ?? "";
}
