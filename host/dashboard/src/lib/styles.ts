/** xterm.js writes its styles into `<style>` elements as it opens. The page's policy allows none of these, and allows style sheets that a
 *  script makes: so the elements that are made meanwhile stand for such sheets. */

export function withSheets(open: () => void): () => void {
  const sheets: CSSStyleSheet[] = [];
  const create = document.createElement.bind(document);
  document.createElement = ((tag: string, options?: ElementCreationOptions) => {
    if (tag !== "style") return create(tag, options);
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    document.adoptedStyleSheets.push(sheet);
    const stand = create("div");
    stand.hidden = true;
    let text = "";
    Object.defineProperty(stand, "textContent", {
      get: () => text,
      set: (value: string) => {
        text = value;
        sheet.replaceSync(value);
      },
    });
    return stand;
  }) as typeof document.createElement;
  try {
    open();
  } finally {
    Reflect.deleteProperty(document, "createElement");
  }
  return () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => !sheets.includes(sheet));
  };
}
