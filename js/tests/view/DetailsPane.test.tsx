import { afterEach, expect, it, vi } from "vitest";
import { PATIENCE_MS } from "../../src/details.ts";
import { formatTime } from "../../src/status.ts";
import { show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, press } from "../helpers/queries.ts";
import { aboutOf, failure } from "../helpers/values.ts";

const EVENT = { offset: 2, type: "demo.paid", createdAt: "2026-11-23T12:00:00.000Z", payload: { n: [1] } };

afterEach(() => {
  vi.unstubAllGlobals();
});

async function open() {
  const panel = show();
  panel.store.select("/agents/slack");
  const answer = (more: object = {}) => {
    const asked = panel.sent.filter((message) => message.kind === "events").at(-1);
    const page = { events: [], before: null, about: aboutOf(), error: null };
    panel.store.receive({ ...page, ...asked, ...more, kind: "events" });
    return drawn();
  };
  await drawn();
  const field = (name: string) => {
    const found = panel.el.querySelector<HTMLInputElement>(`[aria-label="${name}"]`);
    if (!found) throw new Error(`no field ${name}`);
    return found;
  };
  const type = (name: string, text: string) => {
    field(name).value = text;
    field(name).dispatchEvent(new Event("input", { bubbles: true }));
  };
  return { ...panel, answer, field, type, pane: byRole(panel.el, "region") };
}

function unfold(within: Element): Promise<void> {
  for (const each of within.querySelectorAll("details")) each.open = true;
  for (const each of within.querySelectorAll("details")) each.dispatchEvent(new Event("toggle"));
  return drawn();
}

it("shows the events of the selected stream and unfolds them", async () => {
  const { el, answer, pane } = await open();
  expect(el.textContent).toContain("Loading…");
  const about = aboutOf({ metadata: '{"owner":9007199254740993}' });
  await answer({
    events: [
      { ...EVENT, metadata: {} },
      { ...EVENT, offset: 1, bytes: 9_000 },
    ],
    about,
  });
  expect(pane.textContent).not.toContain("payload");
  await unfold(pane);
  expect(pane.textContent).toContain("/agents/slack 12 events");
  expect(pane.textContent).not.toContain("metadata: {}");
  expect(pane.textContent).toContain("2 demo.paid 2026-11-23");
  expect(pane.textContent).toContain("9000 bytes: too large to show. Read it with get_event(1).");
  expect(pane.textContent).toContain("payload: {1}n: [1]");
  expect(pane.textContent).toContain("metadata: {1}owner: 9007199254740993");
});

it("keeps the keys of everything in it from the notebook", async () => {
  const { answer, pane, type } = await open();
  await answer({ events: [EVENT], before: 2, about: aboutOf({ metadata: '{"owner":9007199254740993}' }) });
  type("Only events of the type", "x");
  await unfold(pane);
  const focusable = [...pane.querySelectorAll("button, input, textarea, summary, [tabindex]")];
  expect(focusable.length).toBeGreaterThan(10);
  expect(focusable.filter((each) => each.getAttribute("data-lm-suppress-shortcuts") !== "true")).toEqual([]);
});

it("says what else there is to say of the stream", async () => {
  const { answer, pane } = await open();
  const processor = { version: "1", description: null, detail: null, served: null };
  await answer({
    about: aboutOf({
      created_at: EVENT.createdAt,
      active_at: EVENT.createdAt,
      paused: true,
      pause_reason: "stock-taking",
      metadata: null,
      processors: [
        { ...processor, slug: "totals", state: "running", served: 4 },
        { ...processor, slug: "mailer", state: "failed", detail: "no route" },
        { ...processor, slug: "idle", state: "absent" },
        { ...processor, slug: "circuit-breaker", state: "tripped" },
      ],
      connections: [
        { key: "k", name: "Ada", direction: "inbound", since: EVENT.createdAt, served: 4 },
        { key: "p", name: null, direction: "outbound", since: EVENT.createdAt, served: 2 },
      ],
      connection_count: 60,
    }),
  });
  await unfold(pane);
  expect(pane.textContent).toMatch(/Created 2026-11-23 \S+ Newest event 2026-11-23/);
  expect(pane.textContent).toContain("Paused: stock-taking. It takes no events until somebody appends");
  expect(pane.textContent).toContain("Processors (4): failed");
  expect(
    [...pane.querySelectorAll("li")].map((line) => line.textContent?.replace(/ \d{4}-\S+ \S+,/, "")),
  ).toEqual([
    "totals 1 running up to event 4",
    "mailer 1 failedno route",
    "idle 1 not connected",
    "circuit-breaker 1 circuit open",
    "Ada (k), since up to event 4",
    "p, called by the stream, since up to event 2",
    "and 58 more",
  ]);
  expect(pane.textContent).toContain("Its metadata is too large to show.");
  await answer({ about: aboutOf({ paused: null, processors: null, connections: null }) });
});

it("says that an itx tells no more, and nothing of what is not so", async () => {
  const { answer, pane } = await open();
  await answer({ about: aboutOf({ paused: null, processors: null, connections: null }) });
  expect(pane.textContent).toContain("This itx tells no more of its streams.");
  for (const word of ["Paused", "Processors", "Connected", "metadata", "Created"]) {
    expect(pane.textContent).not.toContain(word);
  }
});

it("pauses, and closes with the focus back in the tree", async () => {
  const { el, answer, patch } = await open();
  await answer();
  expect(el.textContent).toContain("No events.");
  byRole(el, "button", "Pause").click();
  patch({ nodes: { "/agents/slack": { count: 15 } } });
  await drawn();
  byRole(el, "button", "Resume (3)").click();
  await answer();
  byRole(el, "button", "Close details").click();
  await drawn();
  expect(allByRole(el, "region")).toEqual([]);
  expect(document.activeElement).toBe(byRole(el, "tree"));
});

it("says what failed and what to do, keeps what it has, and tries again", async () => {
  const { answer, pane, sent } = await open();
  await answer({ events: [], about: null, error: failure("the disk is full", { hint: "Free some." }) });
  expect(pane.textContent).toContain("the disk is full Free some.");
  expect(pane.textContent).not.toContain("Loading");
  byRole(pane, "button", "Retry").click();
  expect(sent.at(-1)).toMatchObject({ kind: "events", before: null });
  await answer({ events: [{ ...EVENT, offset: 1 }], before: 1 });
  expect(pane.textContent).not.toContain("the disk is full");
  byRole(pane, "button", "Older").click();
  await drawn();
  expect(byRole(pane, "button", "Loading older…").hasAttribute("disabled")).toBe(true);
  await answer({ events: [], about: null, error: failure("gone") });
  expect(pane.textContent).toContain("Not up to date: gone");
  expect(pane.textContent).toContain("1 demo.paid");
});

it("says since when nobody answers, and that nobody is there", async () => {
  const { clock, beat, pane } = await open();
  const askedAt = clock.now();
  for (let waited = 0; waited < PATIENCE_MS; waited += 2_000) {
    clock.advance(2_000);
    beat();
  }
  await drawn();
  expect(pane.textContent).toContain(`Nobody has answered since ${formatTime(askedAt)}.`);
  clock.advance(6_000);
  await drawn();
  expect(pane.textContent).toContain("Not loaded: nobody to ask.");
  expect(pane.textContent).not.toContain("Nobody has answered");
});

it("asks for one type: at Enter, or at once where it was seen, and for all again", async () => {
  const { el, sent, answer, beat, field, type } = await open();
  const name = "Only events of the type";
  await answer({ events: [EVENT] });
  type(name, " other ");
  beat();
  await drawn();
  expect(field(name).value).toBe(" other ");
  press(field(name), "Enter");
  expect(sent.at(-1)).toMatchObject({ kind: "events", type: "other" });
  await answer();
  expect(el.textContent).toContain("No events of this type.");
  expect(
    [...el.querySelectorAll("option[value^=demo]")].map((option) => option.getAttribute("value")),
  ).toEqual(["demo.paid"]);
  type(name, "demo.paid");
  expect(sent.at(-1)).toMatchObject({ kind: "events", type: "demo.paid" });
  await drawn();
  expect(press(field(name), "Escape").defaultPrevented).toBe(true);
  await drawn();
  expect([field(name).value, sent.at(-1)]).toMatchObject(["", { kind: "events", type: null }]);
  expect(press(field(name), "Escape").defaultPrevented).toBe(false);
});

it("copies one event and all that are shown, and says so", async () => {
  const writeText = vi.fn(async (_text: string) => undefined);
  vi.stubGlobal("navigator", { clipboard: { writeText } });
  const { answer, pane } = await open();
  await answer({ events: [EVENT, { offset: 1, type: "demo.n", createdAt: EVENT.createdAt }] });
  await unfold(pane);
  const copied = async (name: string, index = 0) => {
    allByRole(pane, "button")
      .filter((button) => button.textContent === name)
      [index]?.click();
    await drawn();
    return [writeText.mock.calls.at(-1)?.[0], allByRole(pane, "status")[0]?.textContent];
  };
  expect(await copied("Copy JSON")).toEqual([JSON.stringify(EVENT, null, 2), "Copied event 2 as JSON."]);
  expect(await copied("Copy Python")).toEqual([
    'itx.streams.get("/agents/slack").append("demo.paid", {"n": [1]})',
    "Copied event 2 as Python.",
  ]);
  const [json, said] = await copied("Copy all JSON");
  expect(JSON.parse(json ?? "").map(({ offset }: { offset: number }) => offset)).toEqual([1, 2]);
  expect(said).toBe("Copied 2 events as JSON.");
  expect((await copied("Copy all Python"))[0]).toContain(
    'stream.append("demo.n")\nstream.append("demo.paid", ',
  );
});

it("copies where the clipboard is out of reach, or says that it cannot", async () => {
  vi.stubGlobal("navigator", {});
  const { answer, pane } = await open();
  await answer({ events: [EVENT] });
  const button = byRole(pane, "button", "Copy all JSON");
  button.focus();
  const execCommand = vi.fn(() => true);
  Object.assign(document, { execCommand });
  button.click();
  await drawn();
  expect([execCommand.mock.calls, allByRole(pane, "status")[0]?.textContent]).toEqual([
    [["copy"]],
    "Copied 1 event as JSON.",
  ]);
  expect([
    document.activeElement,
    pane.querySelectorAll("[aria-hidden] textarea, textarea[aria-hidden]").length,
  ]).toEqual([button, 0]);
  execCommand.mockReturnValue(false);
  button.click();
  await drawn();
  expect(allByRole(pane, "status")[0]?.textContent).toBe("This page may not copy: select the text instead.");
});
