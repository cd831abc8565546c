// What a key does in the tree, by the WAI-ARIA tree pattern.

import { isBelow, joinPath, lastSegment, parentOf } from "../path.ts";
import type { TreeStore } from "../store.ts";
import { canExpand } from "./Row.tsx";

export interface Step {
  /** Index of the row that becomes the active one. */
  moveTo?: number;
  act?: () => void;
}

const MIRRORED: Record<string, string> = { ArrowLeft: "ArrowRight", ArrowRight: "ArrowLeft" };

type Key = Pick<KeyboardEvent, "key" | "altKey" | "ctrlKey" | "metaKey" | "shiftKey">;

export interface Place {
  store: TreeStore;
  index: number;
  /** Do names begin at the right? Then what is deeper lies to the left. */
  isRtl: boolean;
  /** The letters typed in quick succession, the one of this key included. */
  typed: string;
}

/** Is this key a letter of a name, rather than a command? */
export function isLetter(key: Key): boolean {
  const isCommand = key.altKey || key.ctrlKey || key.metaKey;
  return !isCommand && key.key.length === 1 && key.key !== " " && key.key !== "*";
}

/** The step for a key pressed on the row at `index`; null leaves the key to the browser. */
export function stepFor(key: Key, isInButton: boolean, { store, index, isRtl, typed }: Place): Step | null {
  if (key.altKey || key.ctrlKey || key.metaKey || (key.shiftKey && key.key.length > 1)) return null;
  const { tree } = store;
  const { rows } = tree;
  const path = rows[index] ?? tree.root;
  const isOpen = tree.isExpanded(path) && canExpand(tree.get(path));
  switch ((isRtl && MIRRORED[key.key]) || key.key) {
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
      if (isOpen && !tree.arrangement.text) return { act: () => store.collapse(path) };
      return path === tree.root ? {} : { moveTo: tree.find(parentOf(path)) };
    case "Enter":
    case " ":
      return isInButton ? null : { act: () => store.select(path) };
    case "*":
      return { act: () => expandSiblings(store, path) };
    default:
      return isLetter(key) ? { moveTo: findTyped(store, index, typed.toLowerCase()) } : null;
  }
}

/** Open what stands beside `path`, and itself. */
function expandSiblings(store: TreeStore, path: string): void {
  const { tree } = store;
  if (path === tree.root) {
    store.expand(path);
    return;
  }
  const parent = parentOf(path);
  for (const segment of tree.childrenOf(parent)) {
    const sibling = joinPath(parent, segment);
    if (canExpand(tree.get(sibling))) store.expand(sibling);
  }
}

/**
 * The next row, past the end from the top again, whose name begins with what was typed; the same letter again and
 * again goes from one to the next. Where there is none, the row stays.
 */
function findTyped({ tree }: TreeStore, index: number, typed: string): number {
  const { rows } = tree;
  const isRepeated = typed === (typed[0] ?? "").repeat(typed.length);
  const start = isRepeated ? (typed[0] ?? "") : typed;
  for (let step = isRepeated ? 1 : 0; step < rows.length; step++) {
    const at = (index + step) % rows.length;
    if (
      lastSegment(rows[at] ?? "")
        .toLowerCase()
        .startsWith(start)
    )
      return at;
  }
  return index;
}
