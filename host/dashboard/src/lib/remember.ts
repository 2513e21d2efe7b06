/** Choices of how the page looks, kept in this browser. */

export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(`cove.${key}`);
  } catch {
    return null; // a browser may refuse to keep anything
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`cove.${key}`, value);
  } catch {
    // then it counts for this visit
  }
}
