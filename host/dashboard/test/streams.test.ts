import { describe, expect, it } from "vitest";
import { pieces, plain } from "../src/lib/ansi";
import { Lines } from "../src/lib/lines";
import { LogReader } from "../src/lib/logstream";
import { children, parseStat } from "../src/lib/listing";
import { jsonLines, serverEvents } from "../src/lib/streams";
import { archive, entries } from "../src/lib/tar";

const line = (text: string) => ({ text, time: "", stderr: false });
const bytes = (text: string) => new TextEncoder().encode(text);

function stream(...parts: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(part);
      controller.close();
    },
  });
}

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of from) found.push(one);
  return found;
}

function frame(side: 1 | 2, text: string): Uint8Array {
  const data = bytes(text);
  const head = new Uint8Array(8 + data.length);
  head[0] = side;
  new DataView(head.buffer).setUint32(4, data.length);
  head.set(data, 8);
  return head;
}

describe("lines that are kept", () => {
  it("are the last, under their numbers", () => {
    const lines = new Lines(3);
    for (let number = 0; number < 5000; number += 1) lines.add(line(`line ${number}`));
    expect([lines.first, lines.end, lines.length]).toEqual([4997, 5000, 3]);
    expect(lines.at(4996)).toBeUndefined();
    expect(lines.at(4997)?.text).toBe("line 4997");
    expect(lines.at(4999)?.text).toBe("line 4999");
  });

  it("take no more than so many bytes, and the last stays however long it is", () => {
    const lines = new Lines(100, 10);
    for (const text of ["12345", "12345", "12345", "a line that is too long"]) lines.add(line(text));
    expect(lines.length).toBe(1);
    expect(lines.at(3)?.text).toBe("a line that is too long");
  });

  it("are found by words", () => {
    const lines = new Lines();
    for (const text of ["One", "two", "one more"]) lines.add(line(text));
    expect([...lines.matching("one", 0)]).toEqual([0, 2]);
    expect([...lines.matching("one", 1)]).toEqual([2]);
  });
});

describe("a log's stream", () => {
  it("has lines whose frames, and whose letters, come in parts", () => {
    const reader = new LogReader(false);
    const whole = new Uint8Array([
      ...frame(1, "2026-01-02T03:04:05.678901234Z gr"),
      ...frame(2, "2026-01-02T03:04:06.678901234Z wrong\n"),
      ...frame(1, "üß dich\r\nno time\n"),
    ]);
    const found = [...whole].flatMap((_, at) => reader.read(whole.slice(at, at + 1)));
    expect(found).toEqual([
      { text: "wrong", time: "2026-01-02T03:04:06.678901234Z", stderr: true },
      { text: "grüß dich", time: "2026-01-02T03:04:05.678901234Z", stderr: false },
      { text: "no time", time: "", stderr: false },
    ]);
  });

  it("of a terminal is bytes, and its last line may have no end", () => {
    const reader = new LogReader(true);
    expect(reader.read(bytes("one\r\ntw")).map(({ text }) => text)).toEqual(["one"]);
    expect(reader.read(bytes("o")).concat(reader.end()).map(({ text }) => text)).toEqual(["two"]);
  });
});

describe("colours of a line", () => {
  it("are those of SGR; what else a terminal would do is left out", () => {
    expect(pieces("\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x1b[2Kplain\x1b[38;5;196mx\x1b[39my")).toEqual([
      { text: "red", style: "ansi-1 bold" },
      { text: " ", style: "" },
      { text: "plain", style: "" },
      { text: "x", style: "" },
      { text: "y", style: "" },
    ]);
    expect(plain("\x1b[32mGET\x1b[0m /")).toBe("GET /");
  });
});

describe("streams", () => {
  it("of JSON are parted by lines", async () => {
    expect(await all(jsonLines(stream(bytes('{"a":1}\n{"a"'), bytes(':2}\n\n{"a":3}'))))).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }]);
  });

  it("of events are parted by empty lines", async () => {
    const found = await all(serverEvents(stream(bytes(": comment\nevent: state\nda"), bytes('ta: {"a":\ndata: 1}\n\ndata: 2\n\n'))));
    expect(found).toEqual([
      { event: "state", data: { a: 1 } },
      { event: "message", data: 2 },
    ]);
  });
});

describe("archives", () => {
  it("that are written can be read, whatever their files are called", async () => {
    const name = `${"long/".repeat(40)}名前.txt`;
    const made = archive([
      { name: "a", data: new Blob(["first"]), modified: 1_700_000_000 },
      { name, data: new Blob(["second"]), modified: 1 },
    ]);
    const found: [string, number, string][] = [];
    for await (const { entry, content } of entries(made.stream() as ReadableStream<Uint8Array>)) {
      found.push([entry.path, entry.modified, new TextDecoder().decode(await content())]);
    }
    expect(found).toEqual([
      ["a", 1_700_000_000, "first"],
      [name, 1, "second"],
    ]);
  });

  it("are passed over without their content", async () => {
    const made = archive(["./", "./one", "./deep/two", "./three"].map((name) => ({ name, data: new Blob(["x".repeat(1000)]), modified: 0 })));
    const listing = await children(made.stream() as ReadableStream<Uint8Array>);
    expect(listing.entries.map(({ path }) => path)).toEqual(["one", "three"]);
    expect(listing.whole).toBe(true);
  });
});

describe("what stat tells", () => {
  it("is kinds, sizes, times and names", () => {
    const found = parseStat("41ed 4096 1700000000 bin\r\n81a4 12 1700000001 with a space\r\na1ff 3 1 link\r\nstat: cannot stat\r\n");
    expect(found.map(({ path, kind, size, mode }) => [path, kind, size, mode])).toEqual([
      ["bin", "folder", 4096, 0o755],
      ["with a space", "file", 12, 0o644],
      ["link", "link", 3, 0o777],
    ]);
  });
});
