import { describe, expect, it } from "vitest";
import { hasData, NodeTable, troubleOf } from "../src/nodes.ts";
import { joinPath } from "../src/path.ts";
import { visibleRows } from "../src/rows.ts";
import { seeded } from "./helpers/random.ts";
import { blank, failure, loaded } from "./helpers/values.ts";

function tableOf(
  nodes = { "/": loaded(3, ["b", "a"]), "/a": loaded(1, ["x"]) },
  expanded = ["/"],
): NodeTable {
  const table = new NodeTable();
  table.load("/", nodes, expanded);
  return table;
}

describe("NodeTable", () => {
  it("sorts children and drops the doubles when it loads", () => {
    const table = tableOf({ "/": loaded(3, ["b", "a", "b"]), "/a": loaded(1) });
    expect(table.childrenOf("/")).toEqual(["a", "b"]);
    expect(table.rows).toEqual(["/", "/a", "/b"]);
  });

  it("leaves the row list alone when only counts change", () => {
    const table = tableOf();
    const before = [...table.rows];
    table.patch("/a", { count: 99, updated_at: 5 });
    expect(table.get("/a")).toMatchObject({ count: 99, updated_at: 5, state: "loaded" });
    expect(table.rows).toEqual(before);
  });

  it("puts added children where they belong, with what was open below them", () => {
    const table = tableOf({ "/": loaded(3, ["a", "c"]), "/b": loaded(1, ["inner"]) } as never, ["/", "/b"]);
    table.patch("/", { added: ["b", "a"] });
    expect(table.rows).toEqual(["/", "/a", "/b", "/b/inner", "/c"]);
  });

  it("adds a few and a great many with the same outcome", () => {
    const segments = Array.from({ length: 500 }, (_, i) => `s${(i * 7919) % 1000}`);
    const [few, many] = [tableOf(), tableOf()];
    for (const segment of segments) few.patch("/", { added: [segment] });
    many.patch("/", { added: segments });
    expect(many.rows).toEqual(few.rows);
  });

  it("remembers children of a closed node without drawing them", () => {
    const table = tableOf();
    table.patch("/a", { added: ["y"] });
    expect(table.rows).toEqual(["/", "/a", "/b"]);
    table.expand("/a");
    expect(table.rows).toEqual(["/", "/a", "/a/x", "/a/y", "/b"]);
  });

  it("keeps what is open below a closed node for the next time", () => {
    const table = tableOf(undefined, ["/", "/a"]);
    expect(table.collapse("/")).toBe(true);
    expect(table.collapse("/")).toBe(false);
    expect(table.rows).toEqual(["/"]);
    expect(table.expand("/")).toBe(true);
    expect(table.expand("/")).toBe(false);
    expect(table.rows).toEqual(["/", "/a", "/a/x", "/b"]);
  });

  it("forgets a node but not its row", () => {
    const table = tableOf(undefined, ["/", "/a"]);
    table.patch("/a", null);
    expect(table.get("/a")).toBeUndefined();
    expect(table.rows).toEqual(["/", "/a", "/b"]);
  });

  it("knows which nodes are in trouble", () => {
    const table = tableOf({ "/": loaded(3, ["a"]), "/a": blank({ state: "error", error: failure("gone") }) });
    table.patch("/b", { error: failure("late") });
    expect([...table.troubled]).toEqual(["/a", "/b"]);
    table.patch("/a", { state: "loaded", error: null });
    table.patch("/b", null);
    expect([...table.troubled]).toEqual([]);
  });

  it("gives out copies that later patches do not reach", () => {
    const table = tableOf();
    const copy = table.copy();
    table.patch("/", { count: 77, added: ["new"] });
    expect(copy).toEqual({
      nodes: { "/": loaded(3, ["a", "b"]), "/a": loaded(1, ["x"]) },
      expanded: ["/"],
    });
  });

  it("keeps its rows equal to those worked out from scratch, through any sequence of changes", () => {
    const random = seeded(20261123);
    const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
    const segments = ["a", "a-b", "b", "B", "\u{1F600}", "\uFF21", "0"];
    const paths = ["/", ...segments.flatMap((s) => [`/${s}`, ...segments.map((t) => `/${s}/${t}`)])];
    const table = tableOf({ "/": loaded(0, segments) } as never, ["/"]);
    const expanded = new Set(["/"]);
    for (let step = 0; step < 3_000; step++) {
      const path = pick(paths);
      switch (Math.floor(random() * 5)) {
        case 0:
          table.patch(path, { state: "loaded", added: [pick(segments), pick(segments)] });
          break;
        case 1:
          table.patch(path, { children: segments.filter(() => random() < 0.5) });
          break;
        case 2:
          if (random() < 0.3) table.patch(path, null);
          break;
        case 3:
          table.expand(path);
          expanded.add(path);
          break;
        default:
          table.collapse(path);
          expanded.delete(path);
      }
      const childrenOf = (p: string) => table.childrenOf(p).map((segment) => joinPath(p, segment));
      expect(table.rows).toEqual(visibleRows("/", childrenOf, expanded));
    }
  });
});

describe("what a node has to say", () => {
  it("counts as data whatever was once learnt", () => {
    expect(hasData(undefined)).toBe(false);
    expect(hasData(blank({ state: "loading" }))).toBe(false);
    expect(hasData(blank({ state: "loaded" }))).toBe(true);
    expect(hasData(blank({ count: 0 }))).toBe(true);
    expect(hasData(blank({ state: "error", children: ["a"] }))).toBe(true);
  });

  it("has a reason for every node in error", () => {
    expect(troubleOf(undefined)).toBeNull();
    expect(troubleOf(loaded(1))).toBeNull();
    expect(troubleOf(loaded(1, [], { error: failure("stale") }))?.message).toBe("stale");
    expect(troubleOf(blank({ state: "error" }))?.message).toBe("The stream state could not be read.");
  });
});
