import { useLayoutEffect, useReducer } from "preact/hooks";
import type { TreeStore } from "../store.ts";

/** Draw the component again after changes of the store, at most once per animation frame. */
export function useFrames(store: TreeStore): void {
  const [, redraw] = useReducer((frames: number) => frames + 1, 0);
  useLayoutEffect(() => {
    let frame: number | null = null;
    const unsubscribe = store.subscribe(() => {
      frame ??= requestAnimationFrame(() => {
        frame = null;
        redraw(undefined);
      });
    });
    return () => {
      unsubscribe();
      if (frame !== null) cancelAnimationFrame(frame);
    };
  }, [store]);
}
