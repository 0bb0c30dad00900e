import { defineConfig } from "vite";

// Builds the demo page only, which the service serves under /demo.
export default defineConfig({
  root: "demo",
  base: "/demo/",
  build: {
    outDir: "dist",
    emptyOutDir: true,
    // The page's policy forbids inline data, and the service caches files by their hashed names.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
  },
});
