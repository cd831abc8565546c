import type { RefObject } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

/** Give the focus to `list` when the focused element inside it was drawn away, instead of to nobody. */
export function useKeptFocus(list: RefObject<HTMLElement | null>): void {
  const focused = useRef<Element | null>(null);
  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    const entered = (event: FocusEvent) => {
      focused.current = event.target as Element;
    };
    const left = (event: FocusEvent) => {
      const target = event.target as Element;
      // Some browsers report a removed element as left, and only later is it seen to be gone.
      queueMicrotask(() => {
        if (target.isConnected && focused.current === target) focused.current = null;
      });
    };
    element.addEventListener("focusin", entered);
    element.addEventListener("focusout", left);
    return () => {
      element.removeEventListener("focusin", entered);
      element.removeEventListener("focusout", left);
    };
  }, [list]);
  useLayoutEffect(() => {
    if (!focused.current || focused.current.isConnected) return;
    focused.current = null;
    list.current?.focus({ preventScroll: true });
  });
}
