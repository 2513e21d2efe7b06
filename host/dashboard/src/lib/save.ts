/** Gives the browser a file to keep. */
export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  fetchTo(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Has the browser fetch a file to keep: when that fails, the page stays. */
export function fetchTo(address: string, name: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}
