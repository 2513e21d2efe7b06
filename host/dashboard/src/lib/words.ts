/** What is typed into forms, as docker's API takes it. */

export interface Ports {
  readonly exposed: Record<string, object>;
  readonly bound: Record<string, { HostPort: string }[]>;
  /** The first word that is no port. */
  readonly wrong: string;
}

/** `8080:80`, `53:53/udp`, `80` (on any free port), parted by blanks or commas. */
export function parsePorts(text: string): Ports {
  const exposed: Record<string, object> = {};
  const bound: Record<string, { HostPort: string }[]> = {};
  let wrong = "";
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const [, host = "", inside, type = "tcp"] = /^(?:(\d+):)?(\d+)(?:\/(tcp|udp))?$/.exec(word) ?? [];
    if (inside === undefined) {
      wrong ||= word;
      continue;
    }
    const port = `${inside}/${type}`;
    exposed[port] = {};
    (bound[port] ??= []).push({ HostPort: host });
  }
  return { exposed, bound, wrong };
}

/** One a line, without blanks around and empty ones. */
export function parseLines(text: string): string[] {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

/** What a field of lines shows: what was typed, as long as it is the value; blanks and empty lines are typed on the way to more. */
export function linesText(typed: string, value: readonly string[]): string {
  return JSON.stringify(parseLines(typed)) === JSON.stringify(value) ? typed : value.join("\n");
}

/** Words as a shell would part them: quotes and backslashes hold together. */
export function parseWords(text: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (const [, single, double, escaped, blank, other] of text.matchAll(/'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|(\s+)|(.)/gs)) {
    if (blank !== undefined) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? "") + (single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? other ?? "");
  }
  if (word !== null) words.push(word);
  return words;
}

/** `host:5000/name:tag` parted; a digest stays with the name. */
export function parseReference(text: string): { name: string; tag: string } {
  const reference = text.trim();
  if (reference.includes("@")) return { name: reference, tag: "" };
  const colon = reference.lastIndexOf(":");
  if (colon <= reference.lastIndexOf("/")) return { name: reference, tag: "latest" };
  return { name: reference.slice(0, colon), tag: reference.slice(colon + 1) };
}
