import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    setupFiles: ["test/patience.ts"],
    restoreMocks: true,
    // A bound for what hangs, also on a machine that does other things meanwhile.
    testTimeout: 60_000,
  },
});
