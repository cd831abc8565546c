// The stream tree browser as anywidget runs it: one store per model, made before any view, shared by all of them.

import { render as draw } from "preact";
import { browserClock } from "./clock.ts";
import { type InitializeProps, listen, type Model, type RenderProps, releaseOnce } from "./model.ts";
import { pack, Queue, unpack } from "./packing.ts";
import { TreeStore } from "./store.ts";
import { TreePanel } from "./view/TreePanel.tsx";

/** The stylesheet, put here by build.mjs. */
declare const STYLES: string;

/** Height of the list where the trait is none, in CSS pixels. */
const DEFAULT_HEIGHT = 420;

export default () => {
  let store: TreeStore | undefined;

  return {
    initialize({ model, signal }: InitializeProps) {
      const written = new WeakSet<object>();
      const opened = openStore(model, written);
      store = opened;
      // A large snapshot takes a moment to unpack, and the patches after it must wait for it.
      const incoming = new Queue();
      const load = () =>
        incoming.put(() => {
          const raw = model.get("snapshot");
          // Writing the model reports a change as the kernel's own writing does.
          return written.has(raw as object) ? undefined : loadSnapshot(opened, raw);
        });
      const unlisten = listen(model, {
        "change:snapshot": load,
        "msg:custom": (message) => incoming.put(() => opened.receive(message)),
        "change:read_only": () => {
          opened.isReadOnly = model.get("read_only") === true;
        },
        comm_live_update: () => opened.doubt(),
      });
      load();
      let isOver = false;
      incoming.put(() => !isOver && opened.open());
      const leave = () => opened.views.leave();
      window.addEventListener("pagehide", leave);
      return releaseOnce(signal, () => {
        isOver = true;
        window.removeEventListener("pagehide", leave);
        unlisten();
        opened.close();
      });
    },

    render({ model, el, signal }: RenderProps) {
      if (!store) throw new Error("itx-notebook: the host rendered a view before it initialised the model");
      const shown = store;
      // Each model loads a module of its own, so a counter here would repeat the ids of its neighbour.
      const id = `itx-${Math.random().toString(36).slice(2, 10)}`;
      // The styles come with what they are for: into a shadow root as well, and never later than it.
      const paint = () =>
        draw(
          <>
            <style>{STYLES}</style>
            <TreePanel store={shown} height={heightOf(model)} id={id} />
          </>,
          el,
        );
      paint();
      const unlisten = listen(model, { "change:height": paint });
      const takeBack = shown.views.add();
      return releaseOnce(signal, () => {
        takeBack();
        unlisten();
        draw(null, el);
      });
    },
  };
};

/** Give the store what the model holds. What cannot be unpacked is told as what cannot be read. */
function loadSnapshot(store: TreeStore, raw: unknown): unknown {
  const unpacked = unpack(raw);
  if (!(unpacked instanceof Promise)) return store.load(unpacked);
  return unpacked.then(
    (snapshot) => store.load(snapshot),
    () => store.load(null),
  );
}

/** The store of a model; what it writes there it adds to `written`. */
function openStore(model: Model, written: WeakSet<object>): TreeStore {
  // One after the other, so that the newest is written last.
  const outgoing = new Queue();
  const write = (snapshot: object): unknown => {
    if (snapshot instanceof Promise) return snapshot.then(write);
    written.add(snapshot);
    model.set("snapshot", snapshot);
    return undefined;
  };
  const store = new TreeStore({
    clock: browserClock,
    // With the callbacks Jupyter shows a handler's traceback in its log; without them it shows it nowhere.
    send: (message) => model.send(message, model.widget_manager?.callbacks?.()),
    // Never followed by `save_changes`: the kernel knows its own tree.
    save: (snapshot) => outgoing.put(() => write(pack(snapshot))),
  });
  store.isReadOnly = model.get("read_only") === true;
  return store;
}

function heightOf(model: Model): number {
  const height = model.get("height");
  return typeof height === "number" && height > 0 ? height : DEFAULT_HEIGHT;
}
