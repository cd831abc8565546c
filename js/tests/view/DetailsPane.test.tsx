import { expect, it } from "vitest";
import { show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, press } from "../helpers/queries.ts";

const EVENT = { offset: 2, type: "demo.paid", createdAt: "2026-11-23T12:00:00.000Z", payload: { n: [1] } };

async function open() {
  const panel = show();
  panel.store.select("/agents/slack");
  const request = (more: object = {}) => {
    const asked = panel.sent.filter((message) => message.kind === "events").at(-1);
    panel.store.receive({ kind: "events", before: null, metadata: {}, error: null, ...asked, ...more });
    return drawn();
  };
  await drawn();
  return { ...panel, answer: request };
}

it("shows the events of the selected stream and unfolds them", async () => {
  const { el, answer } = await open();
  expect(el.textContent).toContain("Loading…");
  await answer({ events: [EVENT, { ...EVENT, offset: 1, bytes: 9_000 }], metadata: { owner: "me" } });
  const pane = byRole(el, "region");
  expect(pane.textContent).not.toContain("payload");
  for (const event of pane.querySelectorAll("details")) event.open = true;
  for (const event of pane.querySelectorAll("details")) event.dispatchEvent(new Event("toggle"));
  await drawn();
  expect(pane.textContent).toContain("/agents/slack 12 events");
  expect(pane.textContent).toContain("2 demo.paid 2026-11-23");
  expect(pane.textContent).toContain("9000 bytes: too large to show. Read it with get_event(1).");
  expect(pane.textContent).toContain("payload: {1}n: [1]");
  expect(pane.textContent).toContain("metadata: {1}");
  expect(allByRole(pane, "button").map((button) => button.textContent)).toContain("Copy Python");
});

it("pauses, closes, and says that there is nothing or that it failed", async () => {
  const { el, answer, patch } = await open();
  await answer({ events: [] });
  expect(el.textContent).toContain("No events.");
  byRole(el, "button", "Pause").click();
  patch({ nodes: { "/agents/slack": { count: 15 } } });
  await drawn();
  byRole(el, "button", "Resume (3)").click();
  const error = { code: "INTERNAL", message: "the disk is full", hint: null, details: null };
  await answer({ events: [], error });
  expect(el.textContent).toContain("the disk is full");
  byRole(el, "button", "Close details").click();
  await drawn();
  expect(allByRole(el, "region")).toEqual([]);
});

it("asks for one type", async () => {
  const { el, sent, answer, beat } = await open();
  await answer({ events: [] });
  const input = el.querySelector<HTMLInputElement>('input[aria-label="Only events of the type"]');
  if (!input) throw new Error("no field for the type");
  input.value = " demo.paid ";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  beat();
  await drawn();
  expect(input.value).toBe(" demo.paid ");
  press(input, "Enter");
  expect(sent.at(-1)).toMatchObject({ kind: "events", type: "demo.paid" });
});
