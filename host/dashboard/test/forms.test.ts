import { describe, expect, it } from "vitest";
import { point } from "../src/lib/point";
import { parse, path } from "../src/lib/route";
import { publishedPorts } from "../src/api/docker";
import { linesText, parseLines, parsePorts, parseReference, parseWords } from "../src/lib/words";

describe("addresses", () => {
  it("have a page, what it is of, and a tab; unknown ones are the overview", () => {
    expect(parse("#/containers/abc/logs")).toEqual({ page: "containers", id: "abc", tab: "logs" });
    expect(parse(path("volumes", "a/b c"))).toEqual({ page: "volumes", id: "a/b c", tab: "" });
    expect(parse("#/nonsense").page).toBe("overview");
  });
});

describe("the dialog that runs", () => {
  it("takes ports as docker does, and says which are none", () => {
    expect(parsePorts("8080:80, 53:53/udp 443")).toEqual({
      exposed: { "80/tcp": {}, "53/udp": {}, "443/tcp": {} },
      wrong: "",
      bound: { "80/tcp": [{ HostPort: "8080" }], "53/udp": [{ HostPort: "53" }], "443/tcp": [{ HostPort: "" }] },
    });
    expect(parsePorts("80 http").wrong).toBe("http");
  });

  it("parts words as a shell would", () => {
    expect(parseWords(`sh -c 'echo "$A"; exit' "two words" ""`)).toEqual(["sh", "-c", 'echo "$A"; exit', "two words", ""]);
    expect(parseWords(`--name="two words" a\\ b`)).toEqual(["--name=two words", "a b"]);
  });
});

describe("names of images", () => {
  it("are parted into name and tag", () => {
    expect(parseReference("debian")).toEqual({ name: "debian", tag: "latest" });
    expect(parseReference("localhost:5000/app")).toEqual({ name: "localhost:5000/app", tag: "latest" });
    expect(parseReference("localhost:5000/app:2")).toEqual({ name: "localhost:5000/app", tag: "2" });
    expect(parseReference("app@sha256:00")).toEqual({ name: "app@sha256:00", tag: "" });
  });
});

describe("figures of a container", () => {
  it("are rates of what was counted, and CPU as docker tells it", () => {
    const told = (second: number, cpu: number, received: number) => ({
      read: `2026-01-01T00:00:0${second}Z`,
      cpu_stats: { cpu_usage: { total_usage: cpu }, system_cpu_usage: second * 4e9, online_cpus: 4 },
      precpu_stats: { cpu_usage: { total_usage: cpu - 1e9 }, system_cpu_usage: (second - 1) * 4e9 },
      memory_stats: { usage: 300, limit: 1000, stats: { inactive_file: 100 } },
      networks: { eth0: { rx_bytes: received, tx_bytes: 0 } },
    });
    const before = told(2, 2e9, 1000);
    expect(point(before, null)).toMatchObject({ cpu: 100, memory: 200, received: null });
    expect(point(told(4, 3e9, 5000), before)).toMatchObject({ received: 2000, sent: 0 });
  });
});

describe("a field of lines", () => {
  it("shows what is typed, ends of lines and blanks too, and takes the lines", () => {
    let typed = "";
    let value: string[] = [];
    const shown = () => linesText(typed, value);
    for (const key of "one\n two \n") {
      typed = shown() + key;
      value = parseLines(typed);
    }
    expect([shown(), value]).toEqual(["one\n two \n", ["one", "two"]]);
  });

  it("shows the value when that has become another", () => {
    expect(linesText("one\n two \n", ["other"])).toBe("other");
  });
});

describe("ports of a container", () => {
  it("are links to where they answer", () => {
    const port = (IP: string, PublicPort: number, PrivatePort = 80) => ({ IP, PublicPort, PrivatePort, Type: "tcp" });
    const found = publishedPorts([port("0.0.0.0", 1), port("::", 1), port("127.0.0.2", 2), port("127.0.0.1", 2), port("192.0.2.7", 3), port("2001:db8::1", 4, 443)]);
    expect(found.map(({ link }) => link)).toEqual(["http://localhost:1/", "http://localhost:2/", "http://192.0.2.7:3/", "https://[2001:db8::1]:4/"]);
  });
});
