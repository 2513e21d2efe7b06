/** Where the page is. */

import { signal } from "@preact/signals";
import { parse, path, type Page, type Route } from "./lib/route";

export { path, type Page };

export const route = signal<Route>(parse(location.hash));

/** Whether the focus is to go to the heading of the page that comes: the eye goes there too. */
export const arrival = { due: false };

addEventListener("hashchange", () => {
  const next = parse(location.hash);
  arrival.due = next.page !== route.value.page || next.id !== route.value.id;
  route.value = next;
});

export function go(page: Page, id = "", tab = ""): void {
  location.hash = path(page, id, tab);
}
