import { expect, it } from "vitest";
import { foundIn } from "../src/arrange.ts";
import { NodeTable } from "../src/nodes.ts";
import { seeded } from "./helpers/random.ts";
import { loaded } from "./helpers/values.ts";

const nodes = () => ({
  "/": loaded(9, ["agents", "orders"]),
  "/agents": loaded(2, ["cows", "pigs"]),
  "/agents/pigs": loaded(5, [], { active_at: 1 }),
  "/agents/cows": loaded(3, [], { active_at: 2 }),
});

function rowsOf(text: string, sort: "name" | "count" | "activity" = "name", expanded: string[] = ["/"]) {
  const table = new NodeTable();
  table.load("/", nodes(), expanded);
  table.arrange({ text, sort });
  return table.rows;
}

it("keeps what holds the text, with the way to it, whatever is open", () => {
  expect(rowsOf("cows", "name", [])).toEqual(["/", "/agents", "/agents/cows"]);
  expect(rowsOf("agents")).toEqual(["/", "/agents", "/agents/cows", "/agents/pigs"]);
  expect(rowsOf("horses")).toEqual(["/"]);
});

it("orders siblings from the largest down, the unknown last by name", () => {
  expect(rowsOf("", "count", ["/", "/agents"])).toEqual([
    "/",
    "/agents",
    "/agents/pigs",
    "/agents/cows",
    "/orders",
  ]);
  expect(rowsOf("", "activity", ["/", "/agents"]).slice(2, 4)).toEqual(["/agents/cows", "/agents/pigs"]);
});

it("tells which part of the label was found", () => {
  expect(foundIn("/agents/cows", "cow")).toEqual([0, 3]);
  expect(foundIn("/agents/cows", "ts/co")).toEqual([0, 2]);
  expect(foundIn("/agents/cows", "agents")).toBeNull();
  expect(foundIn("/agents/cows", "")).toBeNull();
  expect(foundIn("/agents/cows", "pig")).toBeNull();
});

it("gives the expansion back after a search, and follows patches during one", () => {
  const table = new NodeTable();
  table.load("/", nodes(), ["/"]);
  table.arrange({ text: "s/c", sort: "name" });
  expect(table.rows).toEqual(["/", "/agents", "/agents/cows"]);
  expect([table.find("/agents/cows"), table.find("/orders")]).toEqual([2, -1]);
  table.patch("/agents", { added: ["cats"] });
  expect(table.rows).toEqual(["/", "/agents", "/agents/cats", "/agents/cows"]);
  table.arrange({ text: "", sort: "name" });
  expect(table.rows).toEqual(["/", "/agents", "/orders"]);
});

it("keeps its rows equal to those walked from scratch, through any sequence of changes", () => {
  const random = seeded(20261124);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const segments = ["a", "a-b", "b", "B", "0"];
  const paths = ["/", ...segments.flatMap((s) => [`/${s}`, ...segments.map((t) => `/${s}/${t}`)])];
  const table = new NodeTable();
  table.load("/", { "/": loaded(0, segments) }, ["/"]);
  for (let step = 0; step < 2_000; step++) {
    const path = pick(paths);
    switch (Math.floor(random() * 7)) {
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
        break;
      case 4:
        table.collapse(path);
        break;
      case 5:
        if (random() < 0.2) {
          table.arrange({ text: pick(["", "", "a", "b/0"]), sort: pick(["name", "count", "activity"]) });
        }
        break;
      default:
        table.patch(path, { count: Math.floor(random() * 5), active_at: Math.floor(random() * 5) });
    }
    const fresh = new NodeTable();
    const { nodes, expanded } = table.copy();
    fresh.load("/", nodes, expanded);
    fresh.arrange(table.arrangement);
    expect(table.rows).toEqual(fresh.rows);
    expect(table.found).toBe(fresh.found);
    expect(paths.map((p) => Math.max(-1, table.find(p)))).toEqual(paths.map((p) => table.rows.indexOf(p)));
  }
});

it("finds one row and every row", () => {
  const segments = Array.from({ length: 100 }, (_, n) => `s${100 + n}`);
  const table = new NodeTable();
  table.load("/", { "/": loaded(1, segments) }, ["/"]);
  table.arrange({ text: "s1", sort: "name" });
  expect(table.found).toBe(100);
  expect(table.rows.map((path) => table.find(path))).toEqual(table.rows.map((_, index) => index));
  expect(table.find("/elsewhere")).toBe(-1);
});

it("walks the rows anew only where a rank moves one", () => {
  const table = new NodeTable();
  table.load("/", nodes(), ["/", "/agents"]);
  table.arrange({ text: "", sort: "count" });
  const { rows } = table;
  table.patch("/agents/pigs", { count: 50 });
  table.patch("/agents/cows", { count: 49, active_at: 9 });
  expect(table.rows).toBe(rows);
  table.patch("/agents/cows", { count: 51 });
  expect(table.rows.slice(2, 4)).toEqual(["/agents/cows", "/agents/pigs"]);
  table.patch("/orders", { state: "loaded", count: 3 });
  expect(table.rows).toEqual(["/", "/orders", "/agents", "/agents/cows", "/agents/pigs"]);
});
