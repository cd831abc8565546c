import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Model } from "../src/model.ts";
import factory from "../src/tree.tsx";
import { FakeModel } from "./helpers/FakeModel.ts";
import { outline } from "./helpers/panel.tsx";
import { byRole, drawn } from "./helpers/queries.ts";
import { loaded, snapshotOf } from "./helpers/values.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
});

afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

function widget(traits: Record<string, unknown> = {}) {
  const model = new FakeModel({ snapshot: snapshotOf(), height: 300, ...traits });
  const { initialize, render } = factory();
  return {
    model,
    initialize: (extra: Partial<Model> = {}, signal?: AbortSignal) =>
      initialize({ model: model.proxy(extra), ...(signal && { signal }) }),
    view: (signal?: AbortSignal) => {
      const el = document.body.appendChild(document.createElement("div"));
      return { el, stop: render({ model: model.proxy(), el, ...(signal && { signal }) }) };
    },
  };
}

const beat = (model: FakeModel, seq = 4) =>
  model.emit("msg:custom", { kind: "heartbeat", seq, session: "life-1", now: Date.now() });

/** The next frame, with the test's timers standing still. */
async function frame(): Promise<void> {
  const waiting = drawn();
  await vi.advanceTimersByTimeAsync(0);
  await waiting;
}

it("paints from the snapshot alone, before anything is heard", () => {
  const { model, initialize, view } = widget();
  initialize();
  const { el } = view();
  expect(outline(el)).toEqual([
    "/, 1,827 events",
    "  agents, 1 event",
    "    mail",
    "    slack, 12 events",
    "  billing",
  ]);
  expect(model.sent).toEqual([{ kind: "hello" }, { kind: "views", page: expect.any(String), count: 1 }]);
});

it("sends with the front end's callbacks where there are any", () => {
  const { model, initialize } = widget();
  initialize({ widget_manager: { callbacks: () => "callbacks" } });
  expect(model.callbacks).toEqual(["callbacks"]);
  const other = widget();
  other.initialize({ widget_manager: {} });
  expect(other.model.callbacks).toEqual([undefined]);
});

it("shares one store between its views, and keeps apart what each looks at", async () => {
  const { model, initialize, view } = widget();
  initialize();
  const [one, two] = [view(), view()];
  beat(model);
  model.emit("msg:custom", { kind: "patch", seq: 5, nodes: { "/agents/slack": { count: 13 } } });
  await frame();
  expect(outline(one.el)).toEqual(outline(two.el));
  expect(outline(one.el)[3]).toBe("    slack, 13 events");
  byRole(one.el, "button", "Collapse /agents").click();
  await frame();
  expect(outline(two.el)).toEqual(["/, 1,827 events", "  agents, 1 event", "  billing"]);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  expect(new Set(ids).size).toBe(ids.length);
});

it("writes the quiet tree into the model without a word to the kernel", async () => {
  const { model, initialize } = widget();
  initialize();
  beat(model);
  model.sent.length = 0;
  model.emit("msg:custom", { kind: "patch", seq: 5, nodes: { "/billing": loaded(3) } });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(model.written).toEqual(["snapshot"]);
  expect(model.traits.snapshot).toMatchObject({ seq: 5, nodes: { "/billing": loaded(3) } });
  expect(model.sent).toEqual([]);
});

it("takes the kernel's answer to a resync from the trait", async () => {
  const { model, initialize, view } = widget();
  initialize();
  const { el } = view();
  beat(model, 9);
  expect(model.sent.at(-1)).toEqual({ kind: "resync", have: 4 });
  model.change("snapshot", snapshotOf({ seq: 9, nodes: { "/": loaded(9, ["new"]) } }));
  await frame();
  expect(outline(el)).toEqual(["/, 9 events", "  new"]);
});

it("says that it is cut off after a restart, and stays usable", async () => {
  const { model, initialize, view } = widget();
  initialize();
  const { el } = view();
  beat(model);
  model.isDead = true;
  model.emit("comm_live_update");
  await frame();
  expect(byRole(el, "status").textContent).toMatch(/^cut off from the kernel since/);
  byRole(el, "button", "Collapse /agents").click();
  await frame();
  expect(outline(el)).toEqual(["/, 1,827 events", "  agents, 1 event", "  billing"]);
});

it("follows the height trait", async () => {
  const { model, initialize, view } = widget();
  initialize();
  const { el } = view();
  expect(byRole(el, "tree").style.maxHeight).toBe("300px");
  model.change("height", 500);
  await frame();
  expect(byRole(el, "tree").style.maxHeight).toBe("500px");
  model.change("height", "tall");
  await frame();
  expect(byRole(el, "tree").style.maxHeight).toBe("420px");
});

it.each(["the returned function", "the signal"])("releases everything by %s", async (way) => {
  const { model, initialize, view } = widget();
  const [modelEnd, viewEnd] = [new AbortController(), new AbortController()];
  const stopModel = initialize({}, modelEnd.signal);
  const { el, stop } = view(viewEnd.signal);
  beat(model);
  model.emit("msg:custom", { kind: "patch", seq: 5 });
  if (way === "the signal") {
    viewEnd.abort();
    modelEnd.abort();
  } else {
    stop();
    stopModel();
  }
  expect(el.childNodes.length).toBe(0);
  expect(model.listenerCount).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

it("removes one view and leaves the other at work", async () => {
  const { model, initialize, view } = widget();
  initialize();
  const [one, two] = [view(), view()];
  beat(model);
  one.stop();
  model.emit("msg:custom", { kind: "patch", seq: 5, nodes: { "/": { count: 1 } } });
  await frame();
  expect(one.el.childNodes.length).toBe(0);
  expect(outline(two.el)[0]).toBe("/, 1 event");
});
