import { afterEach, describe, expect, it, vi } from "vitest";
import type { Snapshot, TreeNode } from "../src/channel.ts";
import { PACKED_FROM, pack, Queue, unpack } from "../src/packing.ts";
import factory from "../src/tree.tsx";
import { FakeModel } from "./helpers/FakeModel.ts";
import { loaded, snapshotOf } from "./helpers/values.ts";

afterEach(() => {
  document.body.replaceChildren();
});

/** A tree whose nodes are more text than is left plain. */
function makeLarge(more: Partial<Snapshot> = {}): Snapshot {
  const names = Array.from({ length: 4_000 }, (_, n) => `stream-${n}`);
  const nodes: Record<string, TreeNode> = { "/": loaded(1, names) };
  for (const name of names) nodes[`/${name}`] = loaded(7);
  return snapshotOf({ nodes, expanded: ["/"], ...more });
}

it("leaves a small tree as it is", () => {
  const small = snapshotOf();
  expect(pack(small)).toBe(small);
  expect(unpack(small)).toBe(small);
  expect(unpack(null)).toBe(null);
});

it("gives a large tree back as it was, from a fraction of the bytes", async () => {
  const large = makeLarge();
  const packed = await pack(large);
  if (!("packed" in packed)) throw new Error("it was left plain");
  expect(packed.nodes).toEqual({});
  expect(packed.packed.byteLength).toBeLessThan(PACKED_FROM / 4);
  expect(await unpack(packed)).toEqual(large);
});

it("rejects what cannot be inflated", async () => {
  await expect(unpack({ ...snapshotOf(), packed: new DataView(new ArrayBuffer(9)) })).rejects.toThrow();
});

describe("the queue", () => {
  it("does at once what it can, and the rest in order after what takes its time", async () => {
    const done: string[] = [];
    const queue = new Queue();
    queue.put(() => done.push("at once"));
    let finish: () => void = () => undefined;
    queue.put(() => new Promise<void>((resolve) => (finish = resolve)).then(() => done.push("slow")));
    queue.put(() => done.push("after"));
    queue.put(() => Promise.resolve().then(() => done.push("last")));
    expect(done).toEqual(["at once"]);
    finish();
    await vi.waitFor(() => expect(done).toEqual(["at once", "slow", "after", "last"]));
    await vi.waitFor(() => {
      const length = done.length;
      queue.put(() => done.push("at once again"));
      expect(done.length).toBe(length + 1);
    });
  });
});

it("draws a packed tree, and the patches that came before it was unpacked", async () => {
  const packed = await pack(makeLarge({ seq: 4 }));
  const model = new FakeModel({ snapshot: packed, height: 300 });
  const { initialize, render } = factory();
  const stop = initialize({ model: model.proxy() });
  model.emit("msg:custom", { kind: "patch", seq: 5, nodes: { "/": { count: 2 } } });
  model.emit("msg:custom", { kind: "patch", seq: 6, nodes: { "/": { count: 3 } } });
  const el = document.body.appendChild(document.createElement("div"));
  render({ model: model.proxy(), el });
  await vi.waitFor(() =>
    expect(el.querySelector('[role="treeitem"]')?.getAttribute("aria-label")).toContain("3 events"),
  );
  expect(model.sent.map(({ kind }) => kind)).not.toContain("resync");
  // What it writes for whoever saves the notebook is packed too, and not taken for news.
  await vi.waitFor(() => expect(model.written).toEqual(["snapshot"]), 3_000);
  expect(await unpack(model.traits.snapshot)).toMatchObject({ seq: 6 });
  stop();
});

it("says so where a packed tree cannot be unpacked", async () => {
  const model = new FakeModel({ snapshot: { ...snapshotOf(), packed: new DataView(new ArrayBuffer(9)) } });
  const { initialize, render } = factory();
  const stop = initialize({ model: model.proxy() });
  const el = document.body.appendChild(document.createElement("div"));
  render({ model: model.proxy(), el });
  await vi.waitFor(() => expect(el.querySelector('[role="alert"]')?.textContent).toContain("was left out"));
  stop();
});
