// The rows of a search, and of an order other than that of names. The twin of `tree/arrange.py`.
//
// Neither can be kept up a row at a time, as the plain tree is: they are walked anew, once for each frame that is
// drawn.

import type { Sort, TreeNode } from "./channel.ts";
import { joinPath, lastSegment } from "./path.ts";

export interface Arrangement {
  /** What is searched for, trimmed and in lower case; empty where nothing is. */
  text: string;
  sort: Sort;
}

/** The rows from `root` down: what holds the text, and the way to it; or what is open. */
export function arrangeRows(
  root: string,
  { text, sort }: Arrangement,
  nodes: ReadonlyMap<string, TreeNode>,
  expanded: ReadonlySet<string>,
): string[] {
  const rows: string[] = [];
  const rank = (path: string): number => {
    const node = nodes.get(path);
    return (sort === "count" ? node?.count : node?.active_at) ?? -1;
  };
  const visit = (path: string): boolean => {
    const at = rows.length;
    rows.push(path);
    let isKept = path === root || path.toLowerCase().includes(text);
    if (text || expanded.has(path)) {
      const children = (nodes.get(path)?.children ?? []).map((segment) => joinPath(path, segment));
      // Stable, so equals stay in the order of their names.
      if (sort !== "name") children.sort((a, b) => rank(b) - rank(a));
      for (const child of children) if (visit(child)) isKept = true;
    }
    if (!isKept) rows.length = at;
    return isKept;
  };
  visit(root);
  return rows;
}

/** Where the last segment of `path` shows what was found, as `[start, end)` within it; null where it does not. */
export function foundIn(path: string, text: string): [number, number] | null {
  const at = text ? path.toLowerCase().lastIndexOf(text) : -1;
  const begin = path.length - lastSegment(path).length;
  const end = at + text.length - begin;
  return at < 0 || end <= 0 ? null : [Math.max(0, at - begin), end];
}
