import { expect, it } from "vitest";
import { ECHO_MS } from "../../src/latest.ts";
import { TYPING_MS } from "../../src/store.ts";
import { outline, show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, press } from "../helpers/queries.ts";

function type(el: Element, text: string): HTMLInputElement {
  const input = el.querySelector<HTMLInputElement>('input[aria-label="Search paths"]');
  if (!input) throw new Error("no search field");
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  return input;
}

it("searches at once, marks what was found, and gives the tree back", async () => {
  const { el } = show({ expanded: ["/"] });
  const before = outline(el);
  type(el, "LACK");
  await drawn();
  expect(outline(el)).toEqual(["/, 1,827 events", "  agents, 1 event", "    slack, 12 events"]);
  expect([...el.querySelectorAll("mark")].map((mark) => mark.textContent)).toEqual(["lack"]);
  expect(el.textContent).toContain("1 stream");
  byRole(el, "button", "Clear search").click();
  await drawn();
  expect(outline(el)).toEqual(before);
});

it("tells the kernel when the typing rests, and keeps what is typed against older echoes", async () => {
  const { el, sent, clock, patch } = show();
  type(el, "s");
  clock.advance(TYPING_MS);
  expect(sent).toEqual([{ kind: "filter", text: "s" }]);
  const input = type(el, "sl");
  patch({ filter: "s" });
  await drawn();
  expect(input.value).toBe("sl");
  clock.advance(TYPING_MS);
  expect(sent.at(-1)).toEqual({ kind: "filter", text: "sl" });
  patch({ filter: "s" });
  await drawn();
  expect(input.value).toBe("sl");
  patch({ filter: "mail" });
  clock.advance(ECHO_MS);
  await drawn();
  expect(input.value).toBe("mail");
});

it("says that nothing was found, and ends the search with Escape", async () => {
  const { el } = show();
  const input = type(el, "horses");
  await drawn();
  expect(el.textContent).toContain("No streams found.");
  expect(outline(el)).toEqual(["/, 1,827 events"]);
  press(input, "Escape");
  await drawn();
  expect(input.value).toBe("");
  expect(allByRole(el, "treeitem").length).toBe(5);
});

it("orders by count and tells the kernel", async () => {
  const { el, sent } = show();
  const select = el.querySelector("select");
  if (!select) throw new Error("no order");
  select.value = "count";
  select.dispatchEvent(new Event("change", { bubbles: true }));
  await drawn();
  expect(sent).toEqual([{ kind: "sort", by: "count" }]);
  expect(outline(el).slice(0, 4)).toEqual([
    "/, 1,827 events",
    "  agents, 1 event",
    "    slack, 12 events",
    "    mail",
  ]);
});
