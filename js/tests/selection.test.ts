// Which stream the details show: the selected one, whoever selected it.

import { beforeEach, expect, it } from "vitest";
import type { Outgoing, Patch } from "../src/channel.ts";
import { FRESH_MS, TreeStore } from "../src/store.ts";
import { FakeClock } from "./helpers/FakeClock.ts";
import { snapshotOf } from "./helpers/values.ts";

let clock: FakeClock;
let sent: Outgoing[];

beforeEach(() => {
  clock = new FakeClock();
  sent = [];
});

function openStore(selected: string | null, takenAt = clock.now()): TreeStore {
  const store = new TreeStore({ clock, send: (message) => sent.push(message), save: () => undefined });
  store.load(snapshotOf({ selected, taken_at: takenAt }));
  store.open();
  return store;
}

const beat = (store: TreeStore, seq = 4) =>
  store.receive({ kind: "heartbeat", seq, session: "life-1", now: clock.now(), views: null });
const patch = (store: TreeStore, seq: number, more: Partial<Patch>) =>
  store.receive({ kind: "patch", seq, ...more });
const asked = () => sent.filter((message) => message.kind === "events");

it("are of what was selected from Python, and close with it", () => {
  const store = openStore(null);
  beat(store);
  patch(store, 5, { selected: "/agents" });
  expect([store.details.path, asked().length]).toEqual(["/agents", 1]);
  patch(store, 6, { selected: null });
  expect(store.details.path).toBe(null);
});

it("are of the selection of a saved notebook once a kernel answers", () => {
  const store = openStore("/agents", clock.now() - FRESH_MS);
  expect([store.link.phase, store.details.path, asked()]).toEqual(["snapshot", null, []]);
  beat(store);
  expect([store.details.path, asked().length]).toEqual(["/agents", 1]);
});

it("stay closed where they were closed, until another is selected", () => {
  const store = openStore("/agents");
  beat(store);
  store.showDetails(null);
  patch(store, 5, { selected: "/agents" });
  beat(store, 5);
  expect(store.details.path).toBe(null);
  patch(store, 6, { selected: "/billing" });
  expect(store.details.path).toBe("/billing");
});

it("open again at a click on what is selected already", () => {
  const store = openStore("/agents");
  beat(store);
  store.showDetails(null);
  store.select("/agents");
  expect(store.details.path).toBe("/agents");
});

it("are not loaded anew by the echo of a click", () => {
  const store = openStore(null);
  beat(store);
  store.select("/agents");
  patch(store, 5, { selected: "/agents" });
  expect(asked().length).toBe(1);
});

it("follow a selection that only a snapshot told of", () => {
  const store = openStore(null);
  beat(store);
  store.load(snapshotOf({ seq: 9, selected: "/billing" }));
  expect(store.details.path).toBe("/billing");
});

it("are asked for at once when the kernel is back", () => {
  const store = openStore("/agents");
  beat(store);
  store.doubt();
  const before = asked().length;
  beat(store);
  expect(asked().length).toBe(before + 1);
});
