import { render } from "preact";
import { expect, it } from "vitest";
import { TreeStore } from "../../src/store.ts";
import { useFrames } from "../../src/view/useFrames.ts";
import { FakeClock } from "../helpers/FakeClock.ts";
import { drawn } from "../helpers/queries.ts";
import { snapshotOf } from "../helpers/values.ts";

class CountedStore extends TreeStore {
  listeners = 0;

  override subscribe(listener: () => void): () => void {
    this.listeners++;
    const unsubscribe = super.subscribe(listener);
    return () => {
      this.listeners--;
      unsubscribe();
    };
  }
}

function mount() {
  const store = new CountedStore({ clock: new FakeClock(), send: () => undefined, save: () => undefined });
  store.load(snapshotOf());
  const seen: (number | null | undefined)[] = [];
  const Probe = () => {
    useFrames(store);
    seen.push(store.tree.get("/")?.count);
    return null;
  };
  const el = document.createElement("div");
  render(<Probe />, el);
  const count = (seq: number) => store.receive({ kind: "patch", seq, nodes: { "/": { count: seq } } });
  return { store, seen, count, unmount: () => render(null, el) };
}

it("draws once for all patches of a frame, and sees the last", async () => {
  const { seen, count } = mount();
  for (let seq = 5; seq < 30; seq++) count(seq);
  await drawn();
  expect(seen).toEqual([1827, 29]);
  count(30);
  await drawn();
  expect(seen).toEqual([1827, 29, 30]);
});

it("lets go of the store, and of a frame still to come", async () => {
  const { store, seen, count, unmount } = mount();
  expect(store.listeners).toBe(1);
  count(5);
  unmount();
  expect(store.listeners).toBe(0);
  await drawn();
  expect(seen).toEqual([1827]);
});
