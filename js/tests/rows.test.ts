import { describe, expect, it } from "vitest";
import { findRow, replaceRows, rowsBelow, subtreeEnd, visibleRows } from "../src/rows.ts";

const CHILDREN: Record<string, string[]> = {
  "/": ["/a", "/b"],
  "/a": ["/a/x", "/a/y"],
  "/a/x": ["/a/x/deep"],
};
const childrenOf = (path: string) => CHILDREN[path] ?? [];

describe("rows", () => {
  it("shows the children of what is expanded, and nothing below what is not", () => {
    expect(visibleRows("/", childrenOf, new Set())).toEqual(["/"]);
    expect(visibleRows("/", childrenOf, new Set(["/"]))).toEqual(["/", "/a", "/b"]);
    expect(visibleRows("/", childrenOf, new Set(["/", "/a/x"]))).toEqual(["/", "/a", "/b"]);
    expect(visibleRows("/", childrenOf, new Set(["/", "/a", "/a/x"]))).toEqual([
      "/",
      "/a",
      "/a/x",
      "/a/x/deep",
      "/a/y",
      "/b",
    ]);
  });

  it("starts at whatever root it is given", () => {
    expect(visibleRows("/a", childrenOf, new Set(["/a"]))).toEqual(["/a", "/a/x", "/a/y"]);
    expect(rowsBelow("/a", childrenOf, new Set(["/a"]))).toEqual(["/a/x", "/a/y"]);
  });

  it("finds a row, or the place it would have", () => {
    const rows = ["/", "/a", "/a/x", "/b"];
    expect(rows.map((row) => findRow(rows, row))).toEqual([0, 1, 2, 3]);
    expect(findRow(rows, "/a/y")).toBe(-4);
    expect(findRow(rows, "/z")).toBe(-5);
  });

  it("finds the end of a subtree", () => {
    const rows = ["/", "/a", "/a/x", "/a/x/deep", "/a-b", "/b"];
    expect(rows.map((_, index) => subtreeEnd(rows, index))).toEqual([6, 4, 4, 4, 5, 6]);
  });

  it("replaces few rows and more than fit on the stack alike", () => {
    const many = Array.from({ length: 300_000 }, (_, i) => `/m/${i}`);
    const rows = ["/", "/a", "/b"];
    replaceRows(rows, 1, 1, many);
    expect(rows.length).toBe(300_002);
    expect([rows[0], rows[1], rows[300_000], rows[300_001]]).toEqual(["/", "/m/0", "/m/299999", "/b"]);
    replaceRows(rows, 1, 300_000, ["/c"]);
    expect(rows).toEqual(["/", "/c", "/b"]);
  });
});
