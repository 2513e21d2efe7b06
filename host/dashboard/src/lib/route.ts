/** Addresses below the hash: `#/containers/ID/logs`. */

export type Page =
  | "overview" | "containers" | "images" | "builds" | "cache" | "volumes" | "networks" | "settings" | "diagnose" | "tour"; // prettier-ignore

export const PAGES: readonly Page[] = [
  "overview", "containers", "images", "builds", "cache", "volumes", "networks", "settings", "diagnose", "tour",
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

export function path(page: Page, id = "", tab = ""): string {
  return `#/${[page, id, tab].filter(Boolean).map(encodeURIComponent).join("/")}`;
}
