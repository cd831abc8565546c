import { expect, it } from "vitest";
import { ROW_HEIGHT } from "../../src/window.ts";
import { layOut, show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, press } from "../helpers/queries.ts";
import { blank, failure, loaded } from "../helpers/values.ts";

const activePath = (el: Element) => {
  const id = byRole(el, "tree").getAttribute("aria-activedescendant");
  return el.querySelector<HTMLElement>(`[id="${id}"]`)?.dataset.path;
};

const many = (count: number) => Array.from({ length: count }, (_, i) => `s${String(i).padStart(6, "0")}`);

const paths = (el: Element) => allByRole(el, "treeitem").map((row) => row.dataset.path ?? "");

async function scrollTo(list: HTMLElement, top: number): Promise<void> {
  list.scrollTop = top;
  list.dispatchEvent(new Event("scroll"));
  await drawn();
}

it("is one stop for the Tab key, at the selected row or else the root", () => {
  expect(activePath(show().el)).toBe("/");
  const { el } = show({ selected: "/agents/slack" });
  expect(activePath(el)).toBe("/agents/slack");
  expect(byRole(el, "tree").tabIndex).toBe(0);
  const stops = allByRole(el, "button").filter(
    (button) => button.tabIndex === 0 && button.closest(".itx-list"),
  );
  expect(stops.map((button) => button.getAttribute("aria-label"))).toEqual([
    "New child of /agents/slack",
    "Refresh /agents/slack",
  ]);
});

it("walks, opens, closes and selects by keys", async () => {
  const { el, sent } = show();
  const tree = byRole(el, "tree");
  const walk = async (key: string) => {
    expect(press(tree, key).defaultPrevented).toBe(true);
    await drawn();
    return activePath(el);
  };
  expect(await walk("ArrowDown")).toBe("/agents");
  expect(await walk("ArrowRight")).toBe("/agents/mail");
  expect(await walk("ArrowUp")).toBe("/agents");
  expect(await walk("End")).toBe("/billing");
  expect(await walk("ArrowDown")).toBe("/billing");
  expect(await walk("Home")).toBe("/");
  expect(await walk("ArrowUp")).toBe("/");
  await walk("End");
  await walk("ArrowUp");
  expect(activePath(el)).toBe("/agents/slack");
  expect(await walk("ArrowLeft")).toBe("/agents");
  expect(await walk("ArrowLeft")).toBe("/agents");
  expect(paths(el)).toEqual(["/", "/agents", "/billing"]);
  expect(await walk("ArrowRight")).toBe("/agents");
  expect(await walk("Enter")).toBe("/agents");
  expect(await walk("ArrowDown")).toBe("/agents/mail");
  expect(await walk(" ")).toBe("/agents/mail");
  expect(sent.filter(({ kind }) => kind !== "events")).toEqual([
    { kind: "collapse", path: "/agents" },
    { kind: "expand", path: "/agents" },
    { kind: "select", path: "/agents" },
    { kind: "select", path: "/agents/mail" },
  ]);
});

it("leaves other keys, and keys with modifiers, to the browser", () => {
  const { el, sent } = show();
  const tree = byRole(el, "tree");
  for (const key of ["F2", "Tab", "Escape", "PageDown"])
    expect(press(tree, key).defaultPrevented).toBe(false);
  expect(press(tree, "Enter", { shiftKey: true }).defaultPrevented).toBe(false);
  expect(press(tree, "ArrowDown", { ctrlKey: true }).defaultPrevented).toBe(false);
  expect(sent).toEqual([]);
});

it("lets a button in the tree have its Enter, and walks on from there by arrows", async () => {
  const { el } = show();
  const button = byRole(el, "button", "Refresh /agents");
  button.focus();
  await drawn();
  expect(activePath(el)).toBe("/agents");
  expect(press(button, "Enter").defaultPrevented).toBe(false);
  press(button, "ArrowDown");
  await drawn();
  expect(activePath(el)).toBe("/agents/mail");
  expect(document.activeElement).toBe(byRole(el, "tree"));
});

it("draws only what is in sight of 100,000 rows, and the active row", async () => {
  const { el } = show({ nodes: { "/": loaded(9, many(100_000)) }, expanded: ["/"] }, { height: 240 });
  const tree = byRole(el, "tree");
  layOut(tree, 240);
  expect(paths(el).length).toBeLessThan(40);
  await scrollTo(tree, 50_001 * ROW_HEIGHT);
  const [active, ...seen] = paths(el);
  expect(active).toBe("/");
  expect(seen.length).toBeLessThan(40);
  expect(seen).toContain("/s050000");
  expect(activePath(el)).toBe("/");
  press(tree, "End");
  await drawn();
  expect(activePath(el)).toBe("/s099999");
  expect(tree.scrollTop).toBe(100_001 * ROW_HEIGHT - 240);
});

it("keeps its place when rows arrive above, and the focus when they leave", async () => {
  const { el, patch } = show({ nodes: { "/": loaded(9, many(1_000)) }, expanded: ["/"] }, { height: 240 });
  const tree = byRole(el, "tree");
  layOut(tree, 240);
  await scrollTo(tree, 501 * ROW_HEIGHT + 7);
  const top = paths(el);
  patch({ nodes: { "/": { added: ["a", "b", "c"] } } });
  await drawn();
  expect(tree.scrollTop).toBe(504 * ROW_HEIGHT + 7);
  expect(paths(el)).toEqual(top);
  patch({ nodes: { "/": { children: many(1_000).slice(400) } } });
  await drawn();
  expect(tree.scrollTop).toBe(101 * ROW_HEIGHT + 7);
});

it("gives way to a row that turned out taller", async () => {
  const nodes = {
    "/": loaded(9, ["a", "b"]),
    "/a": blank({ state: "error", error: failure("a rather long story") }),
  };
  const { el, patch } = show({ nodes, expanded: ["/"] });
  const row = el.querySelector<HTMLElement>('[data-path="/a"]');
  if (!row) throw new Error("no row");
  Object.defineProperty(row, "offsetHeight", { value: 100 });
  patch({});
  await drawn();
  const topOf = (path: string) => el.querySelector<HTMLElement>(`[data-path="${path}"]`)?.style.top;
  expect([topOf("/a"), topOf("/b")]).toEqual([`${ROW_HEIGHT}px`, `${ROW_HEIGHT + 100}px`]);
  patch({ nodes: { "/a": loaded(1) } });
  await drawn();
  expect(topOf("/b")).toBe(`${2 * ROW_HEIGHT}px`);
});

it("gives the focus to the tree when the focused button went with its row", async () => {
  const { el, patch } = show();
  byRole(el, "button", "Refresh /agents/slack").focus();
  patch({ collapse: ["/agents"] });
  await drawn();
  expect(document.activeElement).toBe(byRole(el, "tree"));
  expect(activePath(el)).toBe("/agents");
});

it("keeps the focused element through patches that change its row", async () => {
  const { el, patch } = show();
  const button = byRole(el, "button", "Refresh /agents/slack");
  button.focus();
  patch({ nodes: { "/agents/slack": { count: 13 }, "/": { added: ["a", "aa"] } } });
  await drawn();
  expect(document.activeElement).toBe(button);
});

it("has ids that hold no space and differ between paths", () => {
  const names = ["a b", "a.20.b", "a.b", "A", "\uD800"];
  const { el } = show({ nodes: { "/": loaded(1, names) }, expanded: ["/"] });
  const ids = allByRole(el, "treeitem").map((row) => row.id);
  expect(new Set(ids).size).toBe(names.length + 1);
  expect(ids.filter((id) => /\s/.test(id))).toEqual([]);
});

it("is no higher than its trait says", () => {
  const { el } = show({}, { height: 123 });
  expect(byRole(el, "tree").style.maxHeight).toBe("123px");
});

it("opens all siblings by an asterisk, and none that is known to be empty", async () => {
  const { el, sent } = show({
    nodes: { "/": loaded(1, ["a", "b", "c"]), "/a": loaded(1, ["x"]), "/b": loaded(1) },
    expanded: ["/"],
  });
  const tree = byRole(el, "tree");
  press(tree, "ArrowDown");
  await drawn();
  expect(press(tree, "*", { shiftKey: true }).defaultPrevented).toBe(true);
  expect(sent).toEqual([
    { kind: "expand", path: "/a" },
    { kind: "expand", path: "/c" },
  ]);
});

it("goes to the next row whose name begins with what is typed", async () => {
  const { el } = show({ nodes: { "/": loaded(1, ["mail", "map", "slack"]) }, expanded: ["/"] });
  const tree = byRole(el, "tree");
  const type = async (...keys: string[]) => {
    for (const key of keys) press(tree, key);
    await drawn();
    return activePath(el);
  };
  expect(await type("m")).toBe("/mail");
  expect(await type("A", "p")).toBe("/map");
  await new Promise((resolve) => setTimeout(resolve, 650));
  expect(await type("m")).toBe("/mail");
  expect(await type("m")).toBe("/map");
  expect(await type("m")).toBe("/mail");
  await new Promise((resolve) => setTimeout(resolve, 650));
  expect(await type("q")).toBe("/mail");
  expect(press(tree, "m", { ctrlKey: true }).defaultPrevented).toBe(false);
});

it("does not close by keys or buttons what a search opened", async () => {
  const { el, store, sent } = show();
  store.search("slack");
  await drawn();
  const tree = byRole(el, "tree");
  press(tree, "End");
  await drawn();
  press(tree, "ArrowLeft");
  await drawn();
  expect(activePath(el)).toBe("/agents");
  press(tree, "ArrowLeft");
  await drawn();
  expect(activePath(el)).toBe("/");
  expect(byRole(el, "button", "Collapse /agents").hasAttribute("disabled")).toBe(true);
  expect(sent).toEqual([]);
});

it("brings into view what the kernel reveals, once its way is loaded", async () => {
  const { el, patch } = show({ nodes: { "/": loaded(1, ["a", "b"]) }, expanded: ["/"] });
  patch({ expand: ["/b"], reveal: "/b/deep" });
  await drawn();
  expect(activePath(el)).toBe("/");
  patch({ nodes: { "/b": loaded(1, ["deep"]) } });
  await drawn();
  expect(activePath(el)).toBe("/b/deep");
  press(byRole(el, "tree"), "Home");
  await drawn();
  patch({ nodes: { "/": { count: 2 } } });
  await drawn();
  expect(activePath(el)).toBe("/");
});

it("opens to the left and closes to the right where names begin at the right", async () => {
  const { el } = show();
  const tree = byRole(el, "tree");
  tree.style.direction = "rtl";
  const walk = async (key: string) => {
    press(tree, key);
    await drawn();
    return [activePath(el), paths(el).length];
  };
  await walk("ArrowDown");
  expect(await walk("ArrowRight")).toEqual(["/agents", 3]);
  expect(await walk("ArrowLeft")).toEqual(["/agents", 5]);
  expect(await walk("ArrowLeft")).toEqual(["/agents/mail", 5]);
  expect(await walk("ArrowRight")).toEqual(["/agents", 5]);
});
