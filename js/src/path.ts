// Paths as the tree needs them: how they nest, and the one order that children, rows and searches share.

export function joinPath(parent: string, segment: string): string {
  return parent === "/" ? `/${segment}` : `${parent}/${segment}`;
}

/** The parent's path; `/` for `/` itself. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The last segment; empty for `/`. */
export function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** How many steps `path` lies below `root`, which must be it or an ancestor of it. */
export function depthBelow(path: string, root: string): number {
  return countSegments(path) - countSegments(root);
}

/** Is `path` strictly below `ancestor`? */
export function isBelow(path: string, ancestor: string): boolean {
  return path.length > ancestor.length && path.startsWith(ancestor === "/" ? "/" : `${ancestor}/`);
}

/**
 * Order of a tree read from top to bottom: a node before its descendants, those before its next sibling, siblings
 * by code point. The slash therefore counts as the smallest character.
 */
export function comparePaths(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left !== right) return rank(left) - rank(right);
  }
  return a.length - b.length;
}

/**
 * Rank of a UTF-16 unit such that comparing units compares code points: surrogates stand for characters above
 * U+FFFF, hence after U+E000 to U+FFFF, although their units are smaller.
 */
function rank(unit: number): number {
  if (unit === 0x2f) return -1;
  if (unit >= 0xe000) return unit - 0x800;
  return unit >= 0xd800 ? unit + 0x2000 : unit;
}

function countSegments(path: string): number {
  if (path === "/") return 0;
  let count = 0;
  for (let i = 0; i < path.length; i++) if (path.charCodeAt(i) === 0x2f) count++;
  return count;
}
