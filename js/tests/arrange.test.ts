import { expect, it } from "vitest";
import { arrangeRows, foundIn } from "../src/arrange.ts";
import { NodeTable } from "../src/nodes.ts";
import { loaded } from "./helpers/values.ts";

const nodes = () => ({
  "/": loaded(9, ["agents", "orders"]),
  "/agents": loaded(2, ["cows", "pigs"]),
  "/agents/pigs": loaded(5, [], { active_at: 1 }),
  "/agents/cows": loaded(3, [], { active_at: 2 }),
});

function rowsOf(text: string, sort: "name" | "count" | "activity" = "name", expanded: string[] = ["/"]) {
  return arrangeRows("/", { text, sort }, new Map(Object.entries(nodes())), new Set(expanded));
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
