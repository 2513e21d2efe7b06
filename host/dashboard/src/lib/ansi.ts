/** A line's colours and weights as pieces; whatever else a terminal would do with it is left out. */

export interface Piece {
  readonly text: string;
  readonly style: string;
}

// eslint-disable-next-line no-control-regex
const SEQUENCE = /\x1b\[([0-9;?]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;

export function pieces(line: string): Piece[] {
  if (!/[\x00-\x08\x0b-\x1f\x7f]/.test(line)) return [{ text: line, style: "" }];
  const found: Piece[] = [];
  let at = 0;
  let colour = "";
  let weight = "";
  const put = (text: string) => text && found.push({ text, style: [colour, weight].filter(Boolean).join(" ") });
  for (const match of line.matchAll(SEQUENCE)) {
    put(line.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] !== "m") continue;
    const codes = (match[1] || "0").split(";").map(Number);
    for (let index = 0; index < codes.length; index += 1) {
      const code = codes[index]!;
      if (code === 0) colour = weight = "";
      else if (code === 1) weight = "bold";
      else if (code === 2) weight = "dim";
      else if (code === 22) weight = "";
      else if (code === 39) colour = "";
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) colour = `ansi-${code % 10}`;
      else if (code === 38 || code === 48) {
        const basic = codes[index + 2]!;
        if (codes[index + 1] === 5 && code === 38) colour = basic < 16 ? `ansi-${basic % 8}` : "";
        index += codes[index + 1] === 5 ? 2 : 4;
      }
    }
  }
  put(line.slice(at));
  return found;
}

export function plain(line: string): string {
  return line.replace(SEQUENCE, "");
}
