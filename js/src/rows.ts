// The visible rows: paths in the order they are drawn.
//
// Rows are sorted by `comparePaths`, so a path's row, the end of its subtree and the place of a new row are binary
// searches. A patch then costs what it changes, however many rows are open.

import { comparePaths, isBelow } from "./path.ts";

/** Paths of a node's known children in their order; empty where nothing is known. */
export type ChildrenOf = (path: string) => readonly string[];

/** Above this many rows a copy is cheaper than moving the tail, and `splice` could run out of stack. */
const MAX_SPLICED = 1_000;

/** All visible rows from `root` down. */
export function visibleRows(root: string, childrenOf: ChildrenOf, expanded: ReadonlySet<string>): string[] {
  const rows = rowsBelow(root, childrenOf, expanded);
  rows.unshift(root);
  return rows;
}

/** The visible rows below `path`, without itself; none unless it is expanded. */
export function rowsBelow(path: string, childrenOf: ChildrenOf, expanded: ReadonlySet<string>): string[] {
  const rows: string[] = [];
  const visit = (parent: string): void => {
    if (!expanded.has(parent)) return;
    for (const child of childrenOf(parent)) {
      rows.push(child);
      visit(child);
    }
  };
  visit(path);
  return rows;
}

/** Index of `path`, or where it would stand as `-(index + 1)`. */
export function findRow(rows: readonly string[], path: string): number {
  const index = lowerBound(rows.length, (i) => comparePaths(rows[i] ?? "", path) < 0);
  return rows[index] === path ? index : -index - 1;
}

/** Index after the last visible descendant of the row at `index`. */
export function subtreeEnd(rows: readonly string[], index: number): number {
  const path = rows[index] ?? "/";
  return index + 1 + lowerBound(rows.length - index - 1, (i) => isBelow(rows[index + 1 + i] ?? "", path));
}

/** Replace `removed` rows at `index` in place. */
export function replaceRows(rows: string[], index: number, removed: number, added: readonly string[]): void {
  if (added.length <= MAX_SPLICED) {
    rows.splice(index, removed, ...added);
    return;
  }
  const tail = rows.slice(index + removed);
  rows.length = index;
  for (const row of added) rows.push(row);
  for (const row of tail) rows.push(row);
}

/** The first index for which `isBefore` no longer holds. */
export function lowerBound(length: number, isBefore: (index: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}
