import { beforeAll, describe, expect, it, vi } from "vitest";

vi.stubGlobal("navigator", { languages: ["en"] });
let ago: (seconds: number, now: number) => string;
let speak: (language: "en" | "ja") => void;

beforeAll(async () => {
  ({ ago } = await import("../src/lib/format"));
  ({ speak } = await import("../src/i18n"));
});

describe("how long ago something was", () => {
  const NOW = 1_000_000;

  it("is told in English", () => {
    speak("en");
    expect(ago(NOW - 300, NOW)).toBe("5 min. ago");
    expect(ago(NOW - 86_400, NOW)).toBe("1 day ago");
    expect([ago(NOW, NOW), ago(NOW + 2, NOW)], "clocks differ: nothing is in the future").toEqual(["1 sec. ago", "1 sec. ago"]);
  });

  it("is told in Japanese by words that take 「に」", () => {
    speak("ja");
    for (const span of [0, 1, 60, 3600, 86_400, 40 * 86_400, 400 * 86_400]) expect(ago(NOW - span, NOW)).toMatch(/^\d+ ?[^\d ]+前$/);
  });
});
