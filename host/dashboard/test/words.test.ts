// @vitest-environment node
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { en } from "../src/i18n/en";
import { ja } from "../src/i18n/ja";

const blanks = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

it("the languages say the same things, with the same values in them", () => {
  expect(Object.keys(ja).sort()).toEqual(Object.keys(en).sort());
  for (const [key, text] of Object.entries(en)) expect([key, blanks(ja[key as keyof typeof en])]).toEqual([key, blanks(text)]);
});

it("no text is kept that nobody says", () => {
  const folder = join(import.meta.dirname, "../src");
  const code = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name) && !name.includes("i18n"))
    .map((name) => readFileSync(join(folder, name), "utf8"))
    .join("\n");
  const made = [...code.matchAll(/`([\w.]+)\.\$\{/g)].map(([, start]) => `${start}.`);
  const ends = new Set([...code.matchAll(/`\$\{kind\}\.([\w.]+)`/g)].map(([, end]) => end));
  const things = /^(builds|images|volumes|networks)\.(.+)$/;
  const unsaid = Object.keys(en).filter(
    (key) => !code.includes(`"${key}"`) && !made.some((start) => key.startsWith(start)) && !ends.has(things.exec(key)?.[2] ?? "") && !/^tour\./.test(key),
  );
  expect(unsaid).toEqual([]);
});
