import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    setupFiles: ["test/patience.ts"],
    restoreMocks: true,
    // A limit for tests that hang, also on a busy machine.
    testTimeout: 60_000,
  },
});
