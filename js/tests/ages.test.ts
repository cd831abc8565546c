import { expect, it } from "vitest";
import { formatAge, formatFixed } from "../src/ages.ts";

const NOW = new Date(2026, 10, 23, 12, 30, 5).getTime();
const MINUTE = 60_000;

it.each([
  [-5_000, "now"],
  [0, "now"],
  [59_999, "now"],
  [MINUTE, "1 min"],
  [59.9 * MINUTE, "59 min"],
  [60 * MINUTE, "1 h"],
  [23.9 * 60 * MINUTE, "23 h"],
  [24 * 60 * MINUTE, "1 d"],
  [364 * 24 * 60 * MINUTE, "364 d"],
  [365 * 24 * 60 * MINUTE, "2025-11-23"],
])("says %d ms as %s", (age, text) => {
  expect(formatAge(NOW - age, NOW)).toBe(text);
});

it("names a moment so that it does not grow wrong", () => {
  expect(formatFixed(NOW, NOW + MINUTE)).toBe("12:30");
  expect(formatFixed(NOW - 24 * 60 * MINUTE, NOW)).toBe("2026-11-22");
});
