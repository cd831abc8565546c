import { expect, it } from "vitest";
import { formatTime } from "../../src/status.ts";
import { show } from "../helpers/panel.tsx";
import { allByRole, byRole, drawn, namesOf } from "../helpers/queries.ts";
import { blank, failure, loaded } from "../helpers/values.ts";

it("names what it is, whose it is, and that it is live", () => {
  const { el } = show();
  expect(el.textContent).toMatch(/^Streamsacme/);
  expect(byRole(el, "status").textContent).toBe("live");
  expect(byRole(el, "status").getAttribute("aria-live")).toBe("polite");
});

it("tells the truth through a whole life of the link", async () => {
  const { el, clock, beat, patch, store } = show({}, { isLive: false });
  const said = async () => {
    await drawn();
    return byRole(el, "status").textContent;
  };
  expect(await said()).toBe("connecting…");
  clock.advance(6_000);
  expect(await said()).toMatch(/^snapshot of 2026-11-23 \d\d:59:58 — run the cell to go live$/);
  beat();
  const heardAt = clock.now();
  expect(await said()).toBe("live");
  patch({ connection: { state: "reconnecting", since: 0, detail: "socket closed" } });
  expect(await said()).toBe(`reconnecting since ${formatTime(0)}`);
  expect(byRole(el, "status").title).toBe("socket closed");
  store.doubt();
  expect(await said()).toBe(
    `cut off from the kernel since ${formatTime(heardAt)} — showing the state of then; re-run the cell`,
  );
});

it("refreshes the root, while there is somebody to ask", async () => {
  const { el, sent, clock } = show();
  byRole(el, "button", "Refresh root stream").click();
  expect(sent).toEqual([{ kind: "refresh", path: "/" }]);
  clock.advance(6_000);
  await drawn();
  expect(byRole(el, "button", "Refresh root stream").hasAttribute("disabled")).toBe(true);
});

it("shows a box with a way to try again where the root could not be read", () => {
  const error = failure('no stream "/" here', { hint: "Check the project.", details: "line 1\nline 2" });
  const { el, sent } = show({ nodes: { "/": blank({ state: "error", error }) } });
  expect(byRole(el, "heading").textContent).toBe("Could not load stream tree");
  expect(el.textContent).toContain('no stream "/" here Check the project.');
  expect(byRole(el, "group").hasAttribute("open")).toBe(false);
  expect(allByRole(el, "tree")).toEqual([]);
  byRole(el, "button", "Retry").click();
  expect(sent).toEqual([{ kind: "refresh", path: "/" }]);
});

it("has words for a root that failed without a reason", () => {
  const { el } = show({ nodes: { "/": blank({ state: "error", error: failure("") }) } });
  expect(el.textContent).toContain("The root stream state could not be read.");
});

it("keeps the tree when a refresh of the root fails", () => {
  const { el } = show({
    nodes: { "/": loaded(3, ["a"], { state: "error", error: failure("timed out") }) },
    expanded: ["/"],
  });
  expect(namesOf(el, "treeitem")).toEqual(["/, 3 events, timed out", "a"]);
  expect(allByRole(el, "heading")).toEqual([]);
});

it("says that it loads only while it can", async () => {
  const { el, clock } = show({ nodes: {} });
  expect(el.textContent).toContain("Loading stream tree...");
  clock.advance(6_000);
  await drawn();
  expect(el.textContent).not.toContain("Loading");
  expect(el.textContent).toContain("The stream tree was not loaded when this was saved.");
});

it("says that a loaded root has no children, and only then", async () => {
  const { el, patch } = show({ nodes: { "/": loaded(3) } });
  expect(el.textContent).toContain("No child streams yet.");
  patch({ nodes: { "/": { added: ["first"] } }, expand: ["/"] });
  await drawn();
  expect(el.textContent).not.toContain("No child streams yet.");
  expect(namesOf(el, "treeitem")).toEqual(["/, 3 events", "first"]);
});

it("shows a trouble of the whole widget until it is dismissed", async () => {
  const { el, store } = show();
  store.receive({ kind: "error", error: failure("the token has expired", { hint: "Sign in again." }) });
  await drawn();
  expect(byRole(el, "alert").textContent).toContain("the token has expired Sign in again.");
  byRole(el, "button", "Dismiss notice").click();
  await drawn();
  expect(allByRole(el, "alert")).toEqual([]);
});

it("reports a message it could not read, with the value, and keeps the tree", async () => {
  const { el, store } = show();
  store.receive({ kind: "patch", seq: "five" });
  await drawn();
  expect(byRole(el, "alert").textContent).toContain('patch.seq is "five", not a whole number');
  expect(allByRole(el, "treeitem").length).toBe(5);
});

it("takes every focusable element out of the notebook's shortcuts", async () => {
  const error = failure("no", { details: "why" });
  const { el, store } = show({
    nodes: { "/": loaded(1, ["a", "b"]), "/a": blank({ state: "error", error }) },
    expanded: ["/"],
  });
  store.receive({ kind: "error", error });
  await drawn();
  const focusable = [...el.querySelectorAll<HTMLElement>("button, summary, a, input, [tabindex]")];
  expect(focusable.length).toBeGreaterThan(8);
  expect(focusable.filter((element) => element.dataset.lmSuppressShortcuts !== "true")).toEqual([]);
});
