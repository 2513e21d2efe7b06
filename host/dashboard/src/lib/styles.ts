/** A document for xterm.js, which writes its styles into `<style>` elements: the page's policy allows none of these, and allows style
 *  sheets that a script makes. So what it writes into such an element goes into a sheet of the document's. */

export function styledDocument(): { page: Document; release: () => void } {
  const sheets: CSSStyleSheet[] = [];
  const element = (): HTMLElement => {
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    document.adoptedStyleSheets.push(sheet);
    const stand = document.createElement("div");
    stand.hidden = true;
    let text = "";
    const write = (value: string) => {
      text = value;
      sheet.replaceSync(value);
    };
    for (const name of ["textContent", "innerHTML", "innerText"]) Object.defineProperty(stand, name, { get: () => text, set: write });
    return stand;
  };
  const page = new Proxy(document, {
    get(target, name) {
      if (name === "createElement")
        return (tag: string, options?: ElementCreationOptions) =>
          tag === "style" ? element() : target.createElement(tag, options);
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value as (...values: unknown[]) => unknown).bind(target) : value;
    },
  });
  return {
    page,
    release: () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => !sheets.includes(sheet));
    },
  };
}
