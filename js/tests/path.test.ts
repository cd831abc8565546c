import { describe, expect, it } from "vitest";
import { comparePaths, depthBelow, isBelow, joinPath, lastSegment, parentOf } from "../src/path.ts";

describe("path", () => {
  it("joins, splits and measures paths around the root", () => {
    expect(joinPath("/", "a")).toBe("/a");
    expect(joinPath("/a", "b")).toBe("/a/b");
    expect(parentOf("/a/b")).toBe("/a");
    expect(parentOf("/a")).toBe("/");
    expect(parentOf("/")).toBe("/");
    expect(lastSegment("/a/b")).toBe("b");
    expect(lastSegment("/")).toBe("");
    expect(depthBelow("/", "/")).toBe(0);
    expect(depthBelow("/a/b", "/")).toBe(2);
    expect(depthBelow("/a/b/c", "/a")).toBe(2);
  });

  it("takes a node for below another only at a slash", () => {
    expect(isBelow("/a/b", "/a")).toBe(true);
    expect(isBelow("/a", "/")).toBe(true);
    expect(isBelow("/ab", "/a")).toBe(false);
    expect(isBelow("/a", "/a")).toBe(false);
    expect(isBelow("/", "/")).toBe(false);
  });

  it("orders a node before its descendants, and those before its next sibling", () => {
    const paths = ["/a-b", "/a/z", "/", "/a", "/a/-", "/B", "/a0"];
    expect([...paths].sort(comparePaths)).toEqual(["/", "/B", "/a", "/a/-", "/a/z", "/a-b", "/a0"]);
  });

  it("orders siblings by code point, beyond the basic plane too", () => {
    const segments = ["\u{1F600}", "\uFF21", "\uE000", "\uD7FF", "z", "\u{10000}"];
    const byCodePoint = [...segments].sort((a, b) => (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0));
    expect([...segments].sort(comparePaths)).toEqual(byCodePoint);
  });
});
