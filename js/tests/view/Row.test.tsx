import { expect, it } from "vitest";
import { formatTime } from "../../src/status.ts";
import { outline, show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, namesOf } from "../helpers/queries.ts";
import { blank, failure, loaded } from "../helpers/values.ts";

const rowOf = (el: Element, path: string) => {
  const row = el.querySelector<HTMLElement>(`[data-path="${path}"]`);
  if (!row) throw new Error(`no row for ${path}`);
  return row;
};

it("draws names, counts and depth, siblings by code point", () => {
  const { el } = show({
    nodes: { "/": loaded(1827, ["b", "a", "B"]), "/a": loaded(1, ["x"]), "/b": loaded(12345) },
    expanded: ["/", "/a"],
  });
  expect(outline(el)).toEqual(["/, 1,827 events", "  B", "  a, 1 event", "    x", "  b, 12,345 events"]);
  expect(rowOf(el, "/b").querySelector(".itx-badge")?.textContent).toBe("12,345");
  expect(rowOf(el, "/a").querySelector(".itx-badge")?.getAttribute("title")).toBe("1 event");
  expect(rowOf(el, "/a/x").querySelector(".itx-label")?.getAttribute("title")).toBe("/a/x");
});

it("tells a reader where in the tree a row stands", () => {
  const { el } = show({ selected: "/agents" });
  const row = rowOf(el, "/agents/slack");
  const facts = (element: Element) =>
    ["level", "setsize", "posinset", "expanded", "selected"].map((name) =>
      element.getAttribute(`aria-${name}`),
    );
  expect(facts(rowOf(el, "/"))).toEqual(["1", "1", "1", "true", "false"]);
  expect(facts(rowOf(el, "/agents"))).toEqual(["2", "2", "1", "true", "true"]);
  expect(facts(row)).toEqual(["3", "2", "2", null, "false"]);
  expect(facts(rowOf(el, "/billing"))).toEqual(["2", "2", "2", "false", "false"]);
});

it("offers to load, expand or collapse, and nothing on a node without children", () => {
  const { el } = show({ expanded: ["/"] });
  const offers = namesOf(el, "button").filter((name) => /^(Load|Expand|Collapse)/.test(name));
  expect(offers).toEqual(["Collapse /", "Expand /agents", "Load /billing"]);
  const { el: other } = show();
  expect(namesOf(other, "button")).not.toContain("Expand /agents/slack");
});

it("toggles by its disclosure without selecting", async () => {
  const { el, sent } = show();
  byRole(el, "button", "Collapse /agents").click();
  await drawn();
  expect(outline(el)).toEqual(["/, 1,827 events", "  agents, 1 event", "  billing"]);
  byRole(el, "button", "Load /billing").click();
  expect(sent).toEqual([
    { kind: "collapse", path: "/agents" },
    { kind: "expand", path: "/billing" },
  ]);
});

it("selects by its label without toggling", async () => {
  const { el, sent } = show();
  rowOf(el, "/agents").querySelector<HTMLElement>(".itx-label")?.click();
  await drawn();
  expect(rowOf(el, "/agents").getAttribute("aria-selected")).toBe("true");
  expect(rowOf(el, "/agents").getAttribute("aria-expanded")).toBe("true");
  expect(sent.map(({ kind }) => kind)).toEqual(["select", "events"]);
});

it("refreshes one node", () => {
  const { el, sent } = show();
  byRole(el, "button", "Refresh /agents/slack").click();
  expect(sent).toEqual([{ kind: "refresh", path: "/agents/slack" }]);
});

it("shortens a long name in its middle and keeps it whole for a reader", () => {
  const name = `${"x".repeat(40)}-tail-of-name`;
  const emoji = "\u{1F600}".repeat(40);
  const { el } = show({ nodes: { "/": loaded(1, [name, emoji]) }, expanded: ["/"] });
  const [head, tail] = [...rowOf(el, `/${name}`).querySelectorAll(".itx-label > span")];
  expect([head?.textContent, tail?.textContent]).toEqual([name.slice(0, -14), name.slice(-14)]);
  expect(byRole(el, "treeitem", name)).toBeTruthy();
  const tailOfEmoji = rowOf(el, `/${emoji}`).querySelector(".itx-label-tail")?.textContent;
  expect(tailOfEmoji).toBe("\u{1F600}".repeat(14));
});

it("says that a row loads only as long as somebody could answer", async () => {
  const nodes = { "/": loaded(1, ["a", "b"]), "/a": blank({ state: "loading" }), "/b": loaded(2) };
  const { el, clock, patch } = show({ nodes, expanded: ["/", "/c"] });
  expect(outline(el)).toEqual(["/, 1 event", "  a, loading…", "  b, 2 events"]);
  expect(el.querySelectorAll(".itx-pending").length).toBe(1);
  patch({ nodes: { "/b": { state: "loading" }, "/": { added: ["c"] } } });
  await drawn();
  expect(outline(el)).toEqual(["/, 1 event", "  a, loading…", "  b, 2 events, refreshing…", "  c"]);
  clock.advance(6_000);
  await drawn();
  expect(outline(el)).toEqual(["/, 1 event", "  a, not loaded", "  b, 2 events", "  c, not loaded"]);
  expect(el.querySelectorAll(".itx-pending").length).toBe(0);
});

it("does not pulse while the kernel itself is cut off", async () => {
  const nodes = { "/": loaded(1, ["a"]), "/a": blank({ state: "loading" }) };
  const { el, patch } = show({ nodes, expanded: ["/"] });
  patch({ connection: { state: "reconnecting", since: 0, detail: null } });
  await drawn();
  expect(el.querySelectorAll(".itx-pending").length).toBe(0);
});

it("shows an error on its row, with what to do, folded details and a retry", () => {
  const error = failure('no stream "/a" here', { hint: "Ask the owner.", details: "Traceback" });
  const { el, sent } = show({
    nodes: { "/": loaded(1, ["a"]), "/a": blank({ state: "error", error }) },
    expanded: ["/"],
  });
  const row = rowOf(el, "/a");
  expect(row.textContent).toContain('no stream "/a" here Ask the owner.');
  expect(byRole(row, "group").querySelector("pre")?.textContent).toBe("Traceback");
  expect(row.hasAttribute("aria-expanded")).toBe(false);
  byRole(row, "button", "Retry").click();
  expect(sent).toEqual([{ kind: "refresh", path: "/a" }]);
  expect(byRole(el, "treeitem", 'a, no stream "/a" here')).toBe(row);
});

it("keeps data and subtree beside a failed refresh, and says of when they are", () => {
  const { el } = show({
    nodes: {
      "/": loaded(1, ["a"]),
      "/a": loaded(5, ["x"], { error: failure("timed out"), updated_at: 1_000 }),
    },
    expanded: ["/", "/a"],
  });
  expect(outline(el)).toEqual(["/, 1 event", "  a, 5 events, timed out", "    x"]);
  expect(rowOf(el, "/a").textContent).toContain(`Not up to date since ${formatTime(1_000)}: timed out`);
});

it("offers nothing that nobody could do", async () => {
  const error = failure("no");
  const { el, clock } = show({
    nodes: { "/": loaded(1, ["a", "b"]), "/a": blank({ state: "error", error }) },
    expanded: ["/"],
  });
  clock.advance(6_000);
  await drawn();
  const enabled = allByRole(byRole(el, "tree"), "button").filter(
    (button) => !button.hasAttribute("disabled"),
  );
  expect(enabled.map((button) => button.getAttribute("aria-label"))).toEqual(["Collapse /"]);
});

it("tells how long ago something happened, by the kernel's clock and without a timer of its own", async () => {
  const now = Date.UTC(2026, 10, 23, 12);
  const nodes = { "/": loaded(1, ["a"]), "/a": loaded(3, [], { active_at: now - 3 * 60_000 }) };
  const { el, clock, beat } = show({ nodes, expanded: ["/", "/a"] });
  const activity = () => rowOf(el, "/a").querySelector("[title^='Last event']")?.textContent;
  expect(activity()).toBe("3 min");
  const waiting = clock.pending;
  for (let waited = 0; waited < 60_000; waited += 2_000) {
    clock.advance(2_000);
    beat();
  }
  await drawn();
  expect(activity()).toBe("4 min");
  expect(clock.pending).toBe(waiting);
  clock.advance(6_000);
  await drawn();
  expect(activity()).toMatch(/^\d\d:\d\d$/);
});

it("lights a count up when it moves, and not when it comes into view", async () => {
  const { el, patch } = show();
  const badge = () => rowOf(el, "/agents/slack").querySelector<HTMLElement>(".itx-badge");
  expect(badge()?.dataset.moved).toBeUndefined();
  patch({ nodes: { "/agents/slack": { count: 13 } } });
  await drawn();
  expect([badge()?.textContent, badge()?.dataset.moved]).toEqual(["13", "true"]);
});

it("tells a count of an earlier moment from one that is followed", async () => {
  const nodes = { "/": loaded(5, ["a", "b"]), "/a": loaded(3), "/b": loaded(2) };
  const { el, clock } = show({ nodes, expanded: ["/", "/a"] });
  const facts = (path: string) => {
    const badge = rowOf(el, path).querySelector<HTMLElement>(".itx-badge");
    return [
      badge?.dataset.old,
      badge?.title.includes("as of"),
      rowOf(el, path).getAttribute("aria-description"),
    ];
  };
  expect(facts("/a")).toEqual([undefined, false, null]);
  expect(facts("/b")).toEqual(["true", true, expect.stringMatching(/^as of 1970-01-0/)]);
  clock.advance(6_000);
  await drawn();
  expect(facts("/a").slice(0, 2)).toEqual(["true", true]);
});
