// The rows of a search, and of an order other than that of names. The twin of `tree/arrange.py`.
//
// Neither can be kept up a row at a time, as the plain tree is: they are walked anew where a change may move a row, and
// only there. What a walk needs is kept from one to the next (full paths, the order of the siblings), so that it makes
// no string and sorts nothing: 100,000 rows then take some milliseconds.

import type { Sort } from "./channel.ts";
import { comparePaths, lastSegment, parentOf } from "./path.ts";
import type { ChildrenOf } from "./rows.ts";

export interface Arrangement {
  /** What is searched for, trimmed and in lower case; empty where nothing is. */
  text: string;
  sort: Sort;
}

/** What there is to arrange. */
export interface Branches {
  readonly root: string;
  /** In the order of their names. */
  readonly childrenOf: ChildrenOf;
  readonly isOpen: (path: string) => boolean;
  /** The larger stand first; -1 where it is not known. */
  readonly rankOf: (path: string, sort: Sort) => number;
}

/** So many rows are looked for one by one; from then on a table of all is cheaper. */
const MAX_SCANS = 16;

export class ArrangedRows {
  readonly #branches: Branches;
  #arrangement: Arrangement = { text: "", sort: "name" };
  /** Children from the highest rank down, of every parent whose children were walked. */
  readonly #ordered = new Map<string, readonly string[]>();
  #walked: { rows: string[]; found: number } | null = null;
  /** Where rows stand, as far as somebody asked. */
  readonly #places = new Map<string, number>();
  #areAllPlaced = false;

  constructor(branches: Branches) {
    this.#branches = branches;
  }

  get arrangement(): Arrangement {
    return this.#arrangement;
  }

  get rows(): readonly string[] {
    return this.#walk().rows;
  }

  /** How many paths hold what is searched for. */
  get found(): number {
    return this.#walk().found;
  }

  /** Index of the row of `path`, or -1. */
  find(path: string): number {
    const { rows } = this.#walk();
    const known = this.#places.get(path);
    if (known !== undefined) return known;
    if (this.#areAllPlaced) return -1;
    if (this.#places.size >= MAX_SCANS) {
      rows.forEach((row, index) => {
        this.#places.set(row, index);
      });
      this.#areAllPlaced = true;
      return this.#places.get(path) ?? -1;
    }
    const index = rows.indexOf(path);
    this.#places.set(path, index);
    return index;
  }

  arrange(arrangement: Arrangement): void {
    const { text, sort } = this.#arrangement;
    if (arrangement.text === text && arrangement.sort === sort) return;
    if (arrangement.sort !== sort) this.#ordered.clear();
    this.#arrangement = arrangement;
    this.#moveRows();
  }

  /** Everything is another. */
  reset(): void {
    this.#ordered.clear();
    this.#moveRows();
  }

  /** A node was opened or closed. */
  noteOpening(): void {
    // A search opens everything.
    if (!this.#arrangement.text) this.#moveRows();
  }

  /** The children of `path` are others, or more. */
  noteChildren(path: string): void {
    this.#ordered.delete(path);
    this.#moveRows();
  }

  /** What decides where `path` stands among its siblings may have changed. */
  noteRank(path: string): void {
    const { sort } = this.#arrangement;
    if (sort === "name" || path === this.#branches.root) return;
    const parent = parentOf(path);
    const siblings = this.#ordered.get(parent);
    if (!siblings) return;
    const rank = (sibling: string) => this.#branches.rankOf(sibling, sort);
    const isInOrder = (first: string | undefined, second: string | undefined) =>
      first === undefined ||
      second === undefined ||
      rank(first) > rank(second) ||
      (rank(first) === rank(second) && comparePaths(first, second) < 0);
    const at = siblings.indexOf(path);
    if (at >= 0 && isInOrder(siblings[at - 1], path) && isInOrder(path, siblings[at + 1])) return;
    this.noteChildren(parent);
  }

  #moveRows(): void {
    this.#walked = null;
    this.#places.clear();
    this.#areAllPlaced = false;
  }

  #walk(): { rows: string[]; found: number } {
    this.#walked ??= walk(this.#branches, this.#arrangement.text, (path) => this.#orderedChildrenOf(path));
    return this.#walked;
  }

  #orderedChildrenOf(path: string): readonly string[] {
    const { childrenOf, rankOf } = this.#branches;
    const { sort } = this.#arrangement;
    if (sort === "name") return childrenOf(path);
    let ordered = this.#ordered.get(path);
    if (!ordered) {
      ordered = orderByRank(childrenOf(path), (child) => rankOf(child, sort));
      this.#ordered.set(path, ordered);
    }
    return ordered;
  }
}

/** The rows from the root down: what holds the text, and the way to it; or what is open. */
function walk(
  { root, isOpen }: Branches,
  text: string,
  childrenOf: ChildrenOf,
): { rows: string[]; found: number } {
  const rows: string[] = [];
  let found = 0;
  const visit = (path: string): boolean => {
    const at = rows.length;
    rows.push(path);
    let isKept = path === root;
    if (text && path.toLowerCase().includes(text)) {
      isKept = true;
      found++;
    }
    if (text || isOpen(path)) for (const child of childrenOf(path)) if (visit(child)) isKept = true;
    if (text && !isKept) rows.length = at;
    return isKept;
  };
  visit(root);
  return { rows, found };
}

/** Equals stay in their order, and so do those without a rank, which stand last. */
function orderByRank(paths: readonly string[], rankOf: (path: string) => number): readonly string[] {
  const ranked: { path: string; rank: number }[] = [];
  const unranked: string[] = [];
  for (const path of paths) {
    const rank = rankOf(path);
    if (rank < 0) unranked.push(path);
    else ranked.push({ path, rank });
  }
  ranked.sort((a, b) => b.rank - a.rank);
  return ranked.map(({ path }) => path).concat(unranked);
}

/** Where the last segment of `path` shows what was found, as `[start, end)` within it; null where it does not. */
export function foundIn(path: string, text: string): [number, number] | null {
  const at = text ? path.toLowerCase().lastIndexOf(text) : -1;
  const begin = path.length - lastSegment(path).length;
  const end = at + text.length - begin;
  return at < 0 || end <= 0 ? null : [Math.max(0, at - begin), end];
}
