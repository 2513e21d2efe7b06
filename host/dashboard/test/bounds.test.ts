import { describe, expect, it } from "vitest";
import { Lines } from "../src/lib/lines";
import { everything, parseStat } from "../src/lib/listing";
import { LogReader, LONGEST_LINE, Seen } from "../src/lib/logstream";
import { archive } from "../src/lib/tar";

const bytes = (text: string) => new TextEncoder().encode(text);
const TIME = "2026-01-02T03:04:05.678901234Z";

describe("a log without ends of lines", () => {
  it("is cut into lines, which have the time of the first", () => {
    const reader = new LogReader(true);
    const lines = reader.read(bytes(`${TIME} `));
    for (let part = 0; part < 40; part += 1) lines.push(...reader.read(bytes("x".repeat(10_000))));
    lines.push(...reader.read(bytes("end\nnext\n")));
    expect(Math.max(...lines.map(({ text }) => text.length))).toBeLessThanOrEqual(LONGEST_LINE);
    expect(lines.slice(0, -1).map(({ text }) => text).join("")).toBe(`${"x".repeat(400_000)}end`);
    expect(new Set(lines.slice(0, -1).map(({ time }) => time))).toEqual(new Set([TIME]));
    expect(lines.at(-1)).toEqual({ text: "next", time: "", stderr: false });
  });

  it("and one line that comes whole is cut as well", () => {
    const found = new LogReader(true).read(bytes(`${"y".repeat(2 * LONGEST_LINE + 1)}\n`));
    expect(found.map(({ text }) => text.length)).toEqual([LONGEST_LINE, LONGEST_LINE, 1]);
  });
});

describe("a frame that says it is huge", () => {
  it("is read as it comes, and not gathered", () => {
    const reader = new LogReader(false);
    const head = new Uint8Array([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    expect(reader.read(head)).toEqual([]);
    expect(reader.read(bytes("one\ntwo\nthr")).map(({ text }) => text)).toEqual(["one", "two"]);
    expect(reader.read(bytes("ee\n")).map(({ text }) => text)).toEqual(["three"]);
  });
});

describe("a log that was cut", () => {
  const line = (second: number, text: string) => ({ time: `2026-01-02T03:04:0${second}.500000000Z`, text, stderr: false });

  it("goes on after its last line, with none twice and none lost", () => {
    const seen = new Seen();
    expect(seen.since()).toBeUndefined();
    const first = [line(1, "a"), line(2, "b"), line(2, "c")];
    expect(seen.fresh(first)).toEqual(first);
    expect(seen.since()).toBe(`${Date.parse("2026-01-02T03:04:02Z") / 1000}.500000000`);
    expect(seen.fresh([line(2, "b"), line(2, "c"), line(2, "d"), line(3, "e")]).map(({ text }) => text)).toEqual(["d", "e"]);
    seen.since();
    expect(seen.fresh([line(3, "e"), line(4, "f")]).map(({ text }) => text)).toEqual(["f"]);
  });
});

describe("what is looked for in a log", () => {
  it("is what is seen, and no code of a colour", () => {
    const lines = new Lines();
    for (const text of ["\x1b[31mred\x1b[0m 31m", "\x1b[31mGE\x1b[1mT\x1b[0m /", "plain"]) lines.add({ text, time: "", stderr: false });
    expect([...lines.matching("31m", 0)]).toEqual([0]);
    expect([...lines.matching("get /", 0)]).toEqual([1]);
  });
});

describe("an archive that is large", () => {
  it("is read up to a bound, and what is told of it is said to be a part", async () => {
    const made = archive(["./a", "./b/c", "./d"].map((name) => ({ name, data: new Blob(["x".repeat(1000)]), modified: 0 })));
    const part = await everything(made.stream() as ReadableStream<Uint8Array>, 1500);
    expect(part).toMatchObject({ whole: false });
    expect(part.entries.map(({ path }) => path)).toEqual(["a", "b/c"]);
    const whole = await everything(made.stream() as ReadableStream<Uint8Array>);
    expect(whole).toMatchObject({ whole: true });
  });
});

describe("links in a folder", () => {
  it("are entered when they are to a folder", () => {
    const found = parseStat("> a1ff 3 1 lib\r\na1ff 9 1 os-release\r\n41ed 4096 1 etc\r\n");
    expect(found.map(({ path, kind, into }) => [path, kind, into])).toEqual([
      ["lib", "link", true],
      ["os-release", "link", false],
      ["etc", "folder", undefined],
    ]);
  });
});
