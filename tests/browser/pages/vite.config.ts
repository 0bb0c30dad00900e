import { defineConfig } from "vite";

// Built where web/node_modules is found, see ../frontend.py.
export default defineConfig({
  build: {
    rolldownOptions: { input: ["plain.html", "starter.html"] },
    chunkSizeWarningLimit: 2000,
  },
});
