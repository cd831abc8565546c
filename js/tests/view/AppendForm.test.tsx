import { expect, it } from "vitest";
import { show } from "../helpers/panel.tsx";
import { byRole, drawn, press } from "../helpers/queries.ts";
import { failure } from "../helpers/values.ts";

const TYPE = "Type of the event";
const PAYLOAD = "Payload as JSON";

async function open() {
  const panel = show();
  panel.store.select("/agents/slack");
  await drawn();
  const form = () => panel.el.querySelector<HTMLFormElement>('form[aria-label="Append to /agents/slack"]');
  const field = (name: string) => {
    const found = form()?.querySelector<HTMLInputElement>(`[aria-label="${name}"]`);
    if (!found) throw new Error(`no field ${name}`);
    return found;
  };
  const type = async (name: string, text: string) => {
    field(name).value = text;
    field(name).dispatchEvent(new Event("input", { bubbles: true }));
    await drawn();
  };
  const answer = (more: object) => {
    const asked = panel.sent.filter((message) => message.kind === "append").at(-1);
    panel.store.receive({ offset: null, error: null, ...asked, ...more, kind: "appended" });
    return drawn();
  };
  const append = async () => {
    byRole(form() as HTMLElement, "button", "Append").click();
    await drawn();
  };
  const appends = () => panel.sent.filter((message) => message.kind === "append");
  return { ...panel, form, field, type, answer, append, appends };
}

it("appends what is typed and says where it is", async () => {
  const { type, append, answer, appends, field, form } = await open();
  await type(TYPE, "demo.paid");
  await type(PAYLOAD, '{"n": 1}');
  await append();
  expect(appends()).toMatchObject([{ path: "/agents/slack", type: "demo.paid", payload: '{"n": 1}' }]);
  expect(form()?.textContent).toContain("Appending…");
  expect(field(PAYLOAD).readOnly).toBe(true);
  await answer({ offset: 13 });
  expect(form()?.textContent).toContain("Appended as event 13.");
  expect([field(TYPE).value, field(PAYLOAD).value]).toEqual(["demo.paid", ""]);
});

it("says in words what is wrong with the payload while it is typed", async () => {
  const { type, field, append, appends } = await open();
  await type(TYPE, "demo");
  await type(PAYLOAD, '{"n": 1,\n}');
  const fault = document.getElementById(field(PAYLOAD).getAttribute("aria-describedby") ?? "");
  expect(fault?.textContent).toBe("Line 1, column 8: no comma may stand before “}”.");
  expect(field(PAYLOAD).getAttribute("aria-invalid")).toBe("true");
  await append();
  expect([appends(), document.activeElement]).toEqual([[], field(PAYLOAD)]);
  await type(PAYLOAD, '{"n": 1\n}');
  expect(field(PAYLOAD).getAttribute("aria-invalid")).toBe("false");
});

it("says that a type is missing only when somebody tried", async () => {
  const { type, field, append, form } = await open();
  await type(PAYLOAD, "1");
  expect(form()?.textContent).not.toContain("needs a type");
  await append();
  expect(form()?.textContent).toContain("The event needs a type: a word for what happened.");
  expect(document.activeElement).toBe(field(TYPE));
});

it("appends at Ctrl+Enter and ⌘Enter, which the notebook does not get", async () => {
  for (const modifier of [{ ctrlKey: true }, { metaKey: true }]) {
    const { type, field, appends, el } = await open();
    await type(TYPE, "demo");
    expect(press(field(PAYLOAD), "Enter").defaultPrevented).toBe(false);
    let isHeard = false;
    el.addEventListener("keydown", () => {
      isHeard = true;
    });
    const event = press(field(PAYLOAD), "Enter", modifier);
    expect([event.defaultPrevented, isHeard, appends().length]).toEqual([true, false, 1]);
  }
});

it("goes from the type to the payload at Enter, and appends nothing by it", async () => {
  const { type, field, form, appends } = await open();
  await type(TYPE, "demo");
  expect(press(field(TYPE), "Enter").defaultPrevented).toBe(true);
  const submitted = new Event("submit", { bubbles: true, cancelable: true });
  form()?.dispatchEvent(submitted);
  expect(submitted.defaultPrevented).toBe(true);
  expect([document.activeElement, appends()]).toEqual([field(PAYLOAD), []]);
});

it("shows the refusal with its remedy, loses nothing, and tries again", async () => {
  const { type, append, answer, appends, field, form } = await open();
  await type(TYPE, "demo");
  await type(PAYLOAD, "[1, 2]");
  await append();
  await answer({ error: failure("You may not append here.", { hint: "Ask the owner." }) });
  expect(byRole(form() as HTMLElement, "alert").textContent).toContain(
    "You may not append here. Ask the owner.",
  );
  expect([field(TYPE).value, field(PAYLOAD).value]).toEqual(["demo", "[1, 2]"]);
  byRole(form() as HTMLElement, "button", "Retry").click();
  expect(appends().length).toBe(2);
  expect(appends()[1]).toEqual(appends()[0]);
});

it("keeps what is typed while another stream is looked at", async () => {
  const { type, field, store } = await open();
  await type(PAYLOAD, "[1");
  store.select("/agents");
  await drawn();
  store.select("/agents/slack");
  await drawn();
  expect(field(PAYLOAD).value).toBe("[1");
});

it("is not there where nothing may be written", async () => {
  const { form, store, beat } = await open();
  store.isReadOnly = true;
  beat();
  store.showDetails("/agents/slack");
  await drawn();
  expect(form()).toBe(null);
});

it("waits for somebody to ask", async () => {
  const { type, clock, form, field, appends } = await open();
  await type(TYPE, "demo");
  clock.advance(6_000);
  await drawn();
  const button = byRole(form() as HTMLElement, "button", "Append");
  expect([button.hasAttribute("disabled"), button.title]).toEqual([
    true,
    "Nobody to ask: run the cell first",
  ]);
  press(field(PAYLOAD), "Enter", { ctrlKey: true });
  expect(appends()).toEqual([]);
});
