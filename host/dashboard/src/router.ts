/** Where the page is. */

import { signal } from "@preact/signals";
import { parse, path, type Page, type Route } from "./lib/route";

export { path, type Page };

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

export function go(page: Page, id = "", tab = ""): void {
  location.hash = path(page, id, tab);
}
