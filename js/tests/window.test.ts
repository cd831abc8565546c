import { describe, expect, it } from "vitest";
import { MESSAGE_HEIGHT, offsetOf, ROW_HEIGHT, rowAt, tallRows, visibleRange } from "../src/window.ts";

describe("window", () => {
  it("is plain arithmetic where no row carries a message", () => {
    expect(offsetOf(100_000, [])).toBe(100_000 * ROW_HEIGHT);
    expect(rowAt(0, 100_000, [])).toBe(0);
    expect(rowAt(ROW_HEIGHT - 1, 100_000, [])).toBe(0);
    expect(rowAt(ROW_HEIGHT, 100_000, [])).toBe(1);
    expect(rowAt(50_000 * ROW_HEIGHT + 3, 100_000, [])).toBe(50_000);
    expect(rowAt(1e9, 10, [])).toBe(9);
    expect(rowAt(5, 0, [])).toBe(0);
  });

  it("moves what lies below a tall row, and nothing above", () => {
    const tall = [
      { index: 2, extra: 40 },
      { index: 5, extra: 10 },
    ];
    expect([0, 2, 3, 5, 6].map((index) => offsetOf(index, tall))).toEqual([0, 48, 112, 160, 194]);
    expect(rowAt(111, 10, tall)).toBe(2);
    expect(rowAt(112, 10, tall)).toBe(3);
    for (let index = 0; index < 10; index++) expect(rowAt(offsetOf(index, tall), 10, tall)).toBe(index);
  });

  it("lists visible troubled rows from top to bottom, measured where they were", () => {
    const rows = ["/", "/a", "/b", "/c"];
    const troubled = new Set(["/c", "/hidden", "/a"]);
    expect(tallRows((path) => rows.indexOf(path), troubled, new Map([["/c", 70]]))).toEqual([
      { index: 1, extra: MESSAGE_HEIGHT },
      { index: 3, extra: 70 },
    ]);
  });

  it("draws a little more than is seen, within the rows there are", () => {
    expect(visibleRange(0, 240, 5, [])).toEqual({ first: 0, last: 4 });
    expect(visibleRange(0, 240, 100, [])).toEqual({ first: 0, last: 18 });
    expect(visibleRange(2_400, 240, 100_000, [])).toEqual({ first: 92, last: 118 });
  });
});
