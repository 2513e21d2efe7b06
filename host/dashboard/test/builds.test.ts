// @vitest-environment node
import { expect, it } from "vitest";
import type { Build, SolveStatus } from "../src/api/builds";
import { duration, firstMiss, heading, instruction, otherNames, place, span, title, Trace, withPrefix } from "../src/lib/build";
import { LONGEST_LINE } from "../src/lib/logstream";

const BEGIN = Date.parse("2026-11-27T10:00:00Z");
const at = (seconds: number) => new Date(BEGIN + seconds * 1000).toISOString();
const base64 = (text: string | Uint8Array) => Buffer.from(text).toString("base64");

function build(more: Partial<Build> = {}): Build {
  return { Ref: "0123456789abcdef", State: "completed", CreatedAt: at(0), CompletedAt: at(10), Steps: { Total: 0, Cached: 0, Completed: 0 }, Warnings: 0, ...more };
}

function step(name: string, started: number, completed: number, cached = false): NonNullable<SolveStatus["vertexes"]>[number] {
  return { digest: name, name, started: at(started), completed: at(completed), cached };
}

function steps(...vertexes: NonNullable<SolveStatus["vertexes"]>) {
  const trace = new Trace();
  trace.take({ vertexes });
  return trace.steps;
}

it("knows an instruction of the Dockerfile by its name, whatever its stage is called", () => {
  expect(instruction("[2/4] RUN make")).toEqual({ stage: "", number: 2, text: "RUN make" });
  expect(instruction("[build 3/4] RUN a\nb")).toEqual({ stage: "build", number: 3, text: "RUN a\nb" });
  expect(instruction("[linux/arm64 build 1/1] FROM x")).toEqual({ stage: "linux/arm64 build", number: 1, text: "FROM x" });
  expect(instruction("[internal] load .dockerignore")).toBeNull();
  expect(instruction("exporting to image")).toBeNull();
});

it("heads the output of a step with one line of its name", () => {
  expect(heading("[2/4] RUN make")).toBe("[2/4] RUN make");
  expect(heading("[2/4] RUN <<EOF\nmake\nEOF")).toBe("[2/4] RUN <<EOF …");
  expect(heading("x".repeat(5000)).length).toBeLessThan(250);
});

it("tells the first cache miss, and what ran because of it", () => {
  const miss = firstMiss(
    steps(
      step("[internal] load build context", 0, 1),
      step("[1/4] FROM busybox", 1, 2),
      step("[2/4] RUN one", 2, 2, true),
      step("[3/4] copy . .", 3, 4),
      step("[4/4] RUN two", 4, 7),
      // A stage of its own, beside it: it has nothing to do with that.
      step("[docs 2/2] RUN doc", 3, 9),
      step("[out 2/2] COPY --from=b /x /", 7, 8),
      step("exporting to image", 9, 10),
    ),
    BEGIN,
  )!;
  expect(miss.step.name).toBe("[3/4] copy . .");
  expect([miss.verb, miss.after, miss.took]).toEqual(["COPY", 2, 5000]);
});

it("tells of no miss where all is in the cache", () => {
  expect(firstMiss(steps(step("[1/2] FROM a", 0, 1), step("[2/2] RUN b", 1, 1, true)), BEGIN)).toBeNull();
  expect(firstMiss([], BEGIN)).toBeNull();
});

it("places steps in the time of the build, one that runs until now", () => {
  const [whole] = steps(step("one", 2, 7));
  expect(place(whole!, build(), 0)).toEqual({ from: 0.2, share: 0.5 });
  const [running] = steps({ digest: "r", name: "r", started: at(5) });
  const { CompletedAt: _, ...going } = build({ State: "running" });
  expect(span(going, BEGIN + 20_000)).toBe(20_000);
  expect(duration(running!, BEGIN + 20_000)).toBe(15_000);
  expect(place(running!, going, BEGIN + 20_000)).toEqual({ from: 0.25, share: 0.75 });
  // Clocks of two computers are not the same.
  expect(span(going, BEGIN - 5000)).toBe(0);
  expect(place(running!, going, BEGIN - 5000).share).toBe(0);
});

it("takes the last that is told of a step, and leaves out what has not begun", () => {
  const trace = new Trace();
  trace.take({ vertexes: [{ digest: "a", name: "a" }] });
  expect(trace.steps).toEqual([]);
  trace.take({ vertexes: [{ digest: "a", name: "a", started: at(1) }], statuses: [{ id: "transferring context:", vertex: "a", current: 5, total: 10 }] });
  expect(trace.doing("a")).toEqual({ name: "transferring context:", current: 5, total: 10, over: false });
  trace.take({ vertexes: [{ digest: "a", name: "a", started: at(1), completed: at(2), error: "no" }], statuses: [{ id: "transferring context:", vertex: "a", current: 10, completed: at(2) }] });
  expect(trace.steps.map(({ completed, error }) => [completed, error])).toEqual([[BEGIN + 2000, "no"]]);
  expect(trace.doing("a")).toBeNull();
});

it("makes lines of what comes in pieces, each step's and stream's own", () => {
  const trace = new Trace();
  const log = (vertex: string, stream: number, data: string | Uint8Array) => ({ vertex, stream, data: base64(data), timestamp: at(1) });
  const text = (found: ReturnType<Trace["take"]>) => found.map(({ step: of, line }) => [of, line.stderr, line.text]);
  const euro = Buffer.from("€ 1\n");
  expect(text(trace.take({ logs: [log("a", 1, "one\nt"), log("b", 1, "other\n"), log("a", 2, "bad\n"), log("a", 1, "wo\r\n")] }))).toEqual([
    ["a", false, "one"], ["b", false, "other"], ["a", true, "bad"], ["a", false, "two"],
  ]);
  expect(text(trace.take({ logs: [log("a", 1, euro.subarray(0, 2))] }))).toEqual([]);
  expect(text(trace.take({ logs: [log("a", 1, euro.subarray(2))] }))).toEqual([["a", false, "€ 1"]]);
  expect(text(trace.take({ logs: [log("a", 1, "10%\r50%\r100%\nno end")] }))).toEqual([["a", false, "100%"]]);
  expect(text(trace.end())).toEqual([["a", false, "no end"]]);
});

it("cuts lines that never end", () => {
  const trace = new Trace();
  const found = trace.take({ logs: [{ vertex: "a", stream: 1, data: base64("x".repeat(LONGEST_LINE * 2 + 5)), timestamp: at(1) }] });
  expect(found.map(({ line }) => line.text.length)).toEqual([LONGEST_LINE, LONGEST_LINE]);
  expect(trace.end().map(({ line }) => line.text.length)).toEqual([5]);
});

it("reads warnings", () => {
  const trace = new Trace();
  trace.take({ warnings: [{ vertex: "a", short: base64("JSONArgs: …"), detail: [base64("one"), base64("two")], url: "https://x" }] });
  expect(trace.warnings).toEqual([{ short: "JSONArgs: …", detail: "one two", url: "https://x" }]);
});

it("calls a build by what the image is called, or by what was built", () => {
  expect(title(build({ Exporters: [{ Type: "moby", Attrs: { name: "shop,shop:2" } }], Context: "src" }))).toBe("shop");
  expect(otherNames(build({ Exporters: [{ Type: "moby", Attrs: { name: "shop,shop:2" } }] }))).toEqual(["shop:2"]);
  expect(title(build({ Context: "src", FrontendAttrs: { target: "test" } }))).toBe("src (test)");
  expect(title(build({ FrontendAttrs: { context: "https://github.com/a/b" } }))).toBe("https://github.com/a/b");
  expect(title(build({ FrontendAttrs: { context: "http://buildkit-session/xyz", filename: "Dockerfile" } }))).toBe("Dockerfile");
  expect(title(build())).toBe("0123456789ab");
  expect(withPrefix(build({ FrontendAttrs: { "build-arg:A": "1", "label:L": "2" } }), "build-arg:")).toEqual([["A", "1"]]);
});
