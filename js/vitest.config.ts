import { defineConfig } from "vitest/config";

export default defineConfig({
  define: { STYLES: '""' },
  test: {
    environment: "happy-dom",
    include: ["tests/**/*.test.{ts,tsx}"],
    testTimeout: 10_000,
    // A rejected promise nobody waits for fails the run: a widget that swallows one goes silent in the notebook.
    dangerouslyIgnoreUnhandledErrors: false,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
