import { describe, expect, it } from "vitest";
// The cases by which the kernel's own rule is tested.
import CASES from "../../tests/tree/child_names.json";
import { parseChildPath } from "../src/naming.ts";

it.each(CASES)("reads $name below $parent as the kernel does", ({ parent, name, path }) => {
  const parsed = parseChildPath(parent, name);
  expect("path" in parsed ? parsed.path : null).toBe(path);
});

it("counts the whole path", () => {
  const parent = `/${"p".repeat(1000)}`;
  expect(parseChildPath(parent, "c".repeat(21))).toEqual({ path: `${parent}/${"c".repeat(21)}` });
  expect(parseChildPath(parent, "c".repeat(22))).toEqual({
    fault: "The whole path would have 1024 characters; 1023 are allowed.",
  });
});

describe("says in words what is wrong", () => {
  it.each([
    ["", "Give the stream a name."],
    ["Slack", "Paths are in lower case."],
    ["two words", "A space cannot stand in a path: use a–z, 0–9, - and _."],
    ["café", "“é” cannot stand in a path: use a–z, 0–9, - and _."],
    ["\u{1F600}", "“\u{1F600}” cannot stand in a path: use a–z, 0–9, - and _."],
    ["a/", "One slash between two names, and none at the ends."],
  ])("%j", (name, fault) => {
    expect(parseChildPath("/agents", name)).toEqual({ fault });
  });
});

it("creates nothing below a path that is odd itself", () => {
  expect(parseChildPath("/Odd", "child")).toEqual({
    fault: "The path above is not one in which streams can be created.",
  });
});
