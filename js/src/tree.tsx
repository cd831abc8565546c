// The stream tree browser as anywidget runs it: one store per model, made before any view, shared by all of them.

import { render as draw } from "preact";
import { browserClock } from "./clock.ts";
import { type InitializeProps, listen, type Model, type RenderProps, releaseOnce } from "./model.ts";
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
      const opened = openStore(model);
      store = opened;
      const unlisten = listen(model, {
        "change:snapshot": () => opened.load(model.get("snapshot")),
        "msg:custom": (message) => opened.receive(message),
        "change:read_only": () => {
          opened.isReadOnly = model.get("read_only") === true;
        },
        comm_live_update: () => opened.doubt(),
      });
      opened.open();
      const leave = () => opened.views.leave();
      window.addEventListener("pagehide", leave);
      return releaseOnce(signal, () => {
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

function openStore(model: Model): TreeStore {
  const store = new TreeStore({
    clock: browserClock,
    // With the callbacks Jupyter shows a handler's traceback in its log; without them it shows it nowhere.
    send: (message) => model.send(message, model.widget_manager?.callbacks?.()),
    // Never followed by `save_changes`: the kernel knows its own tree.
    save: (snapshot) => model.set("snapshot", snapshot),
  });
  store.load(model.get("snapshot"));
  store.isReadOnly = model.get("read_only") === true;
  return store;
}

function heightOf(model: Model): number {
  const height = model.get("height");
  return typeof height === "number" && height > 0 ? height : DEFAULT_HEIGHT;
}
