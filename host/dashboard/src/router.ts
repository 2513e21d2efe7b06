/** Where the page is, from the address's hash: `#/containers/ID/logs`. */

import { signal } from "@preact/signals";

export type Page =
  | "overview" | "containers" | "images" | "builds" | "volumes" | "networks" | "settings" | "diagnose" | "tour"; // prettier-ignore

export const PAGES: readonly Page[] = [
  "overview", "containers", "images", "builds", "volumes", "networks", "settings", "diagnose", "tour",
]; // prettier-ignore

export interface Route {
  readonly page: Page;
  readonly id: string;
  readonly tab: string;
}

export function parse(hash: string): Route {
  const [page = "", id = "", tab = ""] = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return { page: (PAGES as readonly string[]).includes(page) ? (page as Page) : "overview", id, tab };
}

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

export function path(page: Page, id = "", tab = ""): string {
  return `#/${[page, id, tab].filter(Boolean).map(encodeURIComponent).join("/")}`;
}

export function go(page: Page, id = "", tab = ""): void {
  location.hash = path(page, id, tab);
}
