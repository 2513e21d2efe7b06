import { defineConfig } from "vite";

export default defineConfig({
  // The page's address has a secret part, and what it loads is named from there.
  base: "./",
  build: {
    outDir: "../cove/dashboard/assets",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // Nothing inline: the page's policy allows only what is a file of its own.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    // What is bundled asks for its notice to go with it.
    license: { fileName: "licenses.md" },
  },
});
