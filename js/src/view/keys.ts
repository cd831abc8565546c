// What a key does in the tree, by the WAI-ARIA tree pattern.

import { isBelow, parentOf } from "../path.ts";
import type { TreeStore } from "../store.ts";
import { canExpand } from "./Row.tsx";

export interface Step {
  /** Index of the row that becomes the active one. */
  moveTo?: number;
  act?: () => void;
}

type Key = Pick<KeyboardEvent, "key" | "altKey" | "ctrlKey" | "metaKey" | "shiftKey">;

/** The step for a key pressed on the row at `index`; null leaves the key to the browser. */
export function stepFor(key: Key, isInButton: boolean, at: { store: TreeStore; index: number }): Step | null {
  if (key.altKey || key.ctrlKey || key.metaKey || key.shiftKey) return null;
  const { store, index } = at;
  const { tree } = store;
  const { rows } = tree;
  const path = rows[index] ?? tree.root;
  const isOpen = tree.isExpanded(path) && canExpand(tree.get(path));
  switch (key.key) {
    case "ArrowDown":
      return { moveTo: Math.min(index + 1, rows.length - 1) };
    case "ArrowUp":
      return { moveTo: Math.max(index - 1, 0) };
    case "Home":
      return { moveTo: 0 };
    case "End":
      return { moveTo: rows.length - 1 };
    case "ArrowRight":
      if (!isOpen) return { act: () => canExpand(tree.get(path)) && store.expand(path) };
      return isBelow(rows[index + 1] ?? "", path) ? { moveTo: index + 1 } : {};
    case "ArrowLeft":
      if (isOpen) return { act: () => store.collapse(path) };
      return path === tree.root ? {} : { moveTo: tree.find(parentOf(path)) };
    case "Enter":
    case " ":
      return isInButton ? null : { act: () => store.select(path) };
    default:
      return null;
  }
}
