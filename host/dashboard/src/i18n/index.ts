/** The page's words, in the language that was chosen or that the browser asks for. */

import { computed, signal } from "@preact/signals";
import { remembered, remember } from "../lib/remember";
import { en } from "./en";
import { ja } from "./ja";

export type Key = keyof typeof en;
export type Catalogue = Record<Key, string>;
export type Language = "en" | "ja";

const CATALOGUES: Record<Language, Catalogue> = { en, ja };

function first(): Language {
  const chosen = remembered("language");
  if (chosen === "en" || chosen === "ja") return chosen;
  return navigator.languages.find((tag) => /^(en|ja)\b/.test(tag))?.startsWith("ja") ? "ja" : "en";
}

export const language = signal<Language>(first());
const words = computed(() => CATALOGUES[language.value]);

export function speak(chosen: Language): void {
  language.value = chosen;
  remember("language", chosen);
}

/** The text with that key; `{name}` in it is replaced by the value with this name. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return words.value[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}
