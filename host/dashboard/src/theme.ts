/** Light or dark: as the system is, or as was chosen. */

import { signal } from "@preact/signals";
import { remember, remembered } from "./lib/remember";

export type Theme = "system" | "light" | "dark";

function first(): Theme {
  const chosen = remembered("theme");
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

const dark = matchMedia("(prefers-color-scheme: dark)");

export const theme = signal<Theme>(first());
/** What that is now; charts and terminals are drawn in its colours. */
export const shade = signal<"light" | "dark">("light");

function apply(): void {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
  shade.value = theme.value === "system" ? (dark.matches ? "dark" : "light") : theme.value;
}

export function wear(chosen: Theme): void {
  theme.value = chosen;
  remember("theme", chosen);
  apply();
}

dark.addEventListener("change", apply);
apply();
