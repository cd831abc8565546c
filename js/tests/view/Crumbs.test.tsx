import { expect, it } from "vitest";
import type { Outgoing, Snapshot } from "../../src/channel.ts";
import { ASK_AGAIN_MS, PATIENCE_MS } from "../../src/navigation.ts";
import { type Shown, show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, nameOf, namesOf, press } from "../helpers/queries.ts";
import { blank, failure, loaded } from "../helpers/values.ts";

const at = (selected: string | null, more: Partial<Snapshot> = {}) => show({ selected, ...more });

const bar = ({ el }: Shown) => {
  const found = el.querySelector<HTMLElement>('[role="group"][aria-label="Path"]');
  if (!found) throw new Error("no breadcrumbs");
  return found;
};

const steps = (shown: Shown) =>
  [...bar(shown).querySelectorAll("li > button")]
    .filter((button) => !button.hasAttribute("aria-haspopup"))
    .map((button) => button.textContent);

const options = (shown: Shown) =>
  allByRole(bar(shown), "option").map(
    (option) => `${option.textContent}${option.getAttribute("aria-selected") === "true" ? " ✓" : ""}`,
  );

async function open(shown: Shown, name: string): Promise<HTMLElement> {
  byRole(bar(shown), "button", name).click();
  await drawn();
  return byRole(bar(shown), "dialog", name);
}

const input = (shown: Shown) => {
  const found = bar(shown).querySelector("input");
  if (!found) throw new Error("no field for a new child");
  return found;
};

async function type(field: HTMLInputElement, text: string): Promise<void> {
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  await drawn();
}

const asked = ({ sent }: Shown, kind: string) => sent.filter((message) => message.kind === kind);

it("has a step for each ancestor, the current one marked", () => {
  const shown = at("/agents/slack");
  expect(steps(shown)).toEqual(["/", "agents", "slack"]);
  expect(bar(shown).querySelector('[aria-current="page"]')?.textContent).toBe("slack");
  expect(bar(shown).querySelector("[aria-current]")?.getAttribute("title")).toBe("/agents/slack");
  expect(steps(at(null))).toEqual(["/"]);
  expect(steps(at("/agents/slack", { root: "/agents" }))).toEqual(["/agents", "slack"]);
  expect(steps(at("/elsewhere", { root: "/agents" }))).toEqual(["/agents"]);
});

it("goes to an ancestor", async () => {
  const shown = at("/agents/slack");
  byRole(bar(shown), "button", "agents").click();
  await drawn();
  expect(shown.store.selected).toBe("/agents");
  expect(steps(shown)).toEqual(["/", "agents"]);
  expect(asked(shown, "select")).toEqual([{ kind: "select", path: "/agents" }]);
});

it("lists the siblings in their order with a mark on the current one, and goes to another", async () => {
  const shown = at("/agents/slack");
  await open(shown, "Siblings of /agents/slack");
  expect(options(shown)).toEqual(["mail", "slack ✓"]);
  expect(document.activeElement).toBe(byRole(bar(shown), "listbox"));
  press(byRole(bar(shown), "listbox"), "ArrowUp");
  await drawn();
  press(byRole(bar(shown), "listbox"), "Enter");
  await drawn();
  expect(shown.store.selected).toBe("/agents/mail");
  expect(allByRole(bar(shown), "dialog")).toEqual([]);
  expect(document.activeElement?.textContent).toBe("mail");
});

it("only closes when the current one is chosen", async () => {
  const shown = at("/agents/slack");
  await open(shown, "Siblings of /agents/slack");
  allByRole(bar(shown), "option")[1]?.click();
  await drawn();
  expect(allByRole(bar(shown), "dialog")).toEqual([]);
  expect(asked(shown, "select")).toEqual([]);
  expect(nameOf(document.activeElement ?? document.body)).toBe("Siblings of /agents/slack");
});

it("names the current one among the siblings although the parent does not know it yet", async () => {
  const shown = at("/agents/new");
  await open(shown, "Siblings of /agents/new");
  expect(options(shown)).toEqual(["mail", "new ✓", "slack"]);
});

it("walks a list by keys, and by the letters of names", async () => {
  const names = ["alpha", "beta", "bravo", "charlie"];
  const shown = at(null, { nodes: { "/": loaded(1, names) } });
  await open(shown, "Children of /");
  expect(document.activeElement).toBe(input(shown));
  press(input(shown), "ArrowDown");
  const list = byRole(bar(shown), "listbox");
  expect(document.activeElement).toBe(list);
  const walk = async (key: string) => {
    press(list, key);
    await drawn();
    const id = list.getAttribute("aria-activedescendant");
    return list.querySelector(`[id="${id}"]`)?.textContent;
  };
  expect(await walk("End")).toBe("charlie");
  expect(await walk("ArrowDown")).toBe("charlie");
  expect(await walk("Home")).toBe("alpha");
  expect(await walk("b")).toBe("beta");
  expect(await walk("r")).toBe("bravo");
  expect(await walk("ArrowUp")).toBe("beta");
  expect(await walk("Home")).toBe("alpha");
  await walk("ArrowUp");
  expect(document.activeElement).toBe(input(shown));
});

it("closes on Escape and gives the focus back, and keeps the key to itself", async () => {
  const shown = at("/agents/slack");
  const dialog = await open(shown, "Children of /agents/slack");
  const heard: string[] = [];
  document.body.addEventListener("keydown", ({ key }) => heard.push(key), { once: true });
  expect(press(dialog, "Escape").defaultPrevented).toBe(true);
  await drawn();
  expect(heard).toEqual([]);
  expect(allByRole(bar(shown), "dialog")).toEqual([]);
  expect(nameOf(document.activeElement ?? document.body)).toBe("Children of /agents/slack");
});

it("closes on a press elsewhere, and not on one inside", async () => {
  const shown = at("/agents/slack");
  const dialog = await open(shown, "Children of /agents/slack");
  dialog.dispatchEvent(new Event("pointerdown", { bubbles: true, composed: true }));
  await drawn();
  expect(allByRole(bar(shown), "dialog").length).toBe(1);
  byRole(shown.el, "tree").dispatchEvent(new Event("pointerdown", { bubbles: true, composed: true }));
  await drawn();
  expect(allByRole(bar(shown), "dialog")).toEqual([]);
});

it("asks for the children when the list opens, and lets them go when it closes", async () => {
  const shown = at(null, { nodes: { "/": loaded(1, []) } });
  const dialog = await open(shown, "Children of /");
  expect(dialog.textContent).toContain("No children yet");
  press(dialog, "Escape");
  await drawn();
  expect(asked(shown, "look")).toEqual([
    { kind: "look", path: "/" },
    { kind: "look", path: null },
  ]);
});

it("says that children are loading, that they do not come, and what went wrong; each ends", async () => {
  const shown = at("/agents/slack", { nodes: { "/": loaded(1, ["agents"]), "/agents/slack": blank() } });
  const dialog = await open(shown, "Children of /agents/slack");
  expect(byRole(dialog, "status").textContent).toBe("Loading…");
  for (let waited = 0; waited <= PATIENCE_MS; waited += ASK_AGAIN_MS) {
    shown.clock.advance(ASK_AGAIN_MS);
    shown.beat();
  }
  await drawn();
  expect(byRole(dialog, "status").textContent).toContain("The kernel has not answered.");
  byRole(dialog, "button", "Retry").focus();
  byRole(dialog, "button", "Retry").click();
  await drawn();
  expect(byRole(dialog, "status").textContent).toBe("Loading…");
  // Its button is gone, and the keys still come here.
  expect(dialog.contains(document.activeElement)).toBe(true);
  shown.patch({ nodes: { "/agents/slack": { state: "error", error: failure("no such stream") } } });
  await drawn();
  expect(dialog.textContent).toContain("no such stream");
  byRole(dialog, "button", "Retry").click();
  expect(asked(shown, "refresh").at(-1)).toEqual({ kind: "refresh", path: "/agents/slack" });
  shown.patch({ nodes: { "/agents/slack": { state: "loaded", error: null, count: 2, children: ["a"] } } });
  await drawn();
  expect(options(shown)).toEqual(["a"]);
});

it("says at once that there is nobody to ask", async () => {
  const shown = at("/agents/slack", { nodes: { "/": loaded(1, ["agents"]) } });
  shown.clock.advance(6_000);
  await drawn();
  const dialog = await open(shown, "Children of /agents/slack");
  expect(dialog.textContent).toContain("Not loaded: run the cell first.");
  expect(byRole(dialog, "button", "Create").hasAttribute("disabled")).toBe(true);
});

it("finds a child by what is typed, and says in words why a name is none", async () => {
  const shown = at("/agents");
  const dialog = await open(shown, "Children of /agents");
  expect(options(shown)).toEqual(["mail", "slack"]);
  await type(input(shown), "sla");
  expect(options(shown)).toEqual(["slack"]);
  await type(input(shown), "Slack!");
  expect(dialog.textContent).toContain("Paths are in lower case.");
  expect(input(shown).getAttribute("aria-invalid")).toBe("true");
  press(input(shown), "Enter");
  await type(input(shown), "");
  expect(dialog.textContent).toContain("Give the stream a name.");
  expect(asked(shown, "create")).toEqual([]);
});

it("makes a child, goes there, and says it when that fails", async () => {
  const shown = at("/agents");
  const dialog = await open(shown, "Children of /agents");
  await type(input(shown), "fax/in");
  press(input(shown), "Enter");
  await drawn();
  const created = asked(shown, "create");
  const { request } = created[0] as Extract<Outgoing, { kind: "create" }>;
  expect(created).toEqual([{ kind: "create", request, parent: "/agents", name: "fax/in" }]);
  expect(byRole(dialog, "button", "Creating…").getAttribute("aria-disabled")).toBe("true");
  const refusal = failure("paused", { hint: "Resume it." });
  // Of another page, which asks at the same time.
  shown.store.receive({ kind: "created", request: 1, path: "/other", error: null });
  expect(shown.store.selected).toBe("/agents");
  shown.store.receive({ kind: "created", request, path: null, error: refusal });
  await drawn();
  expect(dialog.textContent).toContain("paused Resume it.");
  expect(input(shown).value).toBe("fax/in");
  byRole(dialog, "button", "Create").click();
  shown.store.receive({ kind: "created", request: request + 1, path: "/agents/fax/in", error: null });
  await drawn();
  await drawn();
  expect(allByRole(bar(shown), "dialog")).toEqual([]);
  expect(steps(shown)).toEqual(["/", "agents", "fax", "in"]);
  expect(shown.store.selected).toBe("/agents/fax/in");
  expect(document.activeElement?.textContent).toBe("in");
});

it("offers nothing to make where nothing may be written", async () => {
  const shown = at("/agents");
  shown.store.isReadOnly = true;
  await drawn();
  await open(shown, "Children of /agents");
  expect(bar(shown).querySelector("input")).toBe(null);
  expect(document.activeElement).toBe(byRole(bar(shown), "listbox"));
  expect(namesOf(shown.el, "button").filter((name) => name.startsWith("New child"))).toEqual([]);
});

it("draws what is in sight of a hundred thousand names", async () => {
  const names = Array.from({ length: 100_000 }, (_, i) => `n${String(i).padStart(6, "0")}`);
  const shown = at(`/${names[99_999]}`, { nodes: { "/": loaded(1, names) } });
  await open(shown, `Siblings of /${names[99_999]}`);
  expect(options(shown).length).toBeLessThan(40);
  expect(options(shown).at(-1)).toBe("n099999 ✓");
  expect(allByRole(bar(shown), "option").at(-1)?.getAttribute("aria-setsize")).toBe("100000");
});

it("opens from a row, by its button or the menu key, and gives the focus back to the tree", async () => {
  const shown = at(null);
  const tree = byRole(shown.el, "tree");
  press(tree, "ArrowDown");
  await drawn();
  press(tree, "F10", { shiftKey: true });
  await drawn();
  const dialog = byRole(shown.el, "dialog", "Children of /agents");
  expect(document.activeElement).toBe(dialog.querySelector("input"));
  press(dialog, "Escape");
  await drawn();
  expect(allByRole(shown.el, "dialog")).toEqual([]);
  expect(document.activeElement).toBe(tree);
  byRole(shown.el, "button", "New child of /billing").click();
  await drawn();
  expect(byRole(shown.el, "dialog", "Children of /billing").textContent).toContain("Loading…");
});
