/** Up, down, Home and End move among the rows of a table; Enter follows the row's link, as links do. */

export function moveAmongRows(event: KeyboardEvent): void {
  const table = event.currentTarget as HTMLElement;
  const target = event.target as HTMLElement;
  if (target.matches("input, select, textarea")) return;
  const rows = [...table.querySelectorAll<HTMLElement>("[data-row]")];
  const here = rows.findIndex((row) => row === target || row.closest("tr")?.contains(target));
  const next = { ArrowDown: here + 1, ArrowUp: here - 1, j: here + 1, k: here - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  const row = rows[Math.max(0, Math.min(next, rows.length - 1))];
  if (!row) return;
  event.preventDefault();
  row.focus();
}

/** When what has the focus goes, it does not get lost: it goes to what is beside, in the same row or the next. */
export function handOn(element: HTMLElement | null): void {
  if (!element || element !== document.activeElement) return;
  const beside = element.closest(".row-actions");
  const next = neighbour(element);
  setTimeout(() => {
    if (document.activeElement !== document.body) return; // somebody else has it
    const other = beside?.isConnected ? beside.querySelector("button") : null;
    if (other) other.focus();
    else next?.();
  });
}

/** Where the focus goes when the row that it was in goes: to the next row, or the one before, or the page's heading. */
export function neighbour(element: Element): (() => void) | null {
  const row = element.closest("tr, li");
  if (!row) return null;
  const around = [...row.parentElement!.children];
  const here = around.indexOf(row);
  const others = [...around.slice(here + 1), ...around.slice(0, here).reverse()];
  return () => {
    const next = others.find((other) => other.isConnected && other.querySelector("[data-row], a.name"));
    (next?.querySelector<HTMLElement>("[data-row], a.name") ?? document.querySelector<HTMLElement>("h1"))?.focus();
  };
}
