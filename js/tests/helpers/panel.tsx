import { render } from "preact";
import { afterEach } from "vitest";
import type { Outgoing, Patch, Snapshot } from "../../src/channel.ts";
import { TreeStore } from "../../src/store.ts";
import { TreePanel } from "../../src/view/TreePanel.tsx";
import { FakeClock } from "./FakeClock.ts";
import { snapshotOf } from "./values.ts";

export interface Shown {
  el: HTMLElement;
  store: TreeStore;
  clock: FakeClock;
  sent: Outgoing[];
  /** The next patch of the snapshot's life. */
  patch(more: Partial<Patch>): void;
  beat(): void;
}

const shown = new Set<HTMLElement>();

afterEach(() => {
  for (const el of shown) {
    render(null, el);
    el.remove();
  }
  shown.clear();
});

/** Draw the panel over a real store, which has heard its kernel unless told otherwise. */
export function show(more: Partial<Snapshot> = {}, { isLive = true, height = 400 } = {}): Shown {
  const clock = new FakeClock();
  const sent: Outgoing[] = [];
  const store = new TreeStore({ clock, send: (message) => sent.push(message), save: () => undefined });
  const snapshot = snapshotOf(more);
  let seq = snapshot.seq;
  store.load(snapshot);
  store.open();
  const beat = () => store.receive({ kind: "heartbeat", seq, session: snapshot.session, now: clock.now() });
  if (isLive) beat();
  sent.length = 0;
  const el = document.body.appendChild(document.createElement("div"));
  shown.add(el);
  render(<TreePanel store={store} height={height} id="view" />, el);
  return {
    el,
    store,
    clock,
    sent,
    beat,
    patch: (change) => store.receive({ kind: "patch", seq: ++seq, ...change }),
  };
}

/** Give the list a height, which the test DOM cannot work out. */
export function layOut(list: HTMLElement, height: number): void {
  Object.defineProperty(list, "clientHeight", { value: height, configurable: true });
}

/** The visible tree as text: indented names, as the rows stand. */
export function outline(el: Element): string[] {
  return [...el.querySelectorAll('[role="treeitem"]')].map((row) => {
    const level = Number(row.getAttribute("aria-level"));
    return `${"  ".repeat(level - 1)}${row.getAttribute("aria-label")}`;
  });
}
