// What the tree knows, what is open, and the rows that follow from both, kept in step.
//
// Every change costs what it touches, not what the tree holds: counts leave the rows alone, a new child is one
// binary search and one insertion, opening and closing copy the branch.

import { ArrangedRows, type Arrangement } from "./arrange.ts";
import type { NodeError, NodePatch, Sort, TreeNode } from "./channel.ts";
import { comparePaths, joinPath, parentOf } from "./path.ts";
import { findRow, lowerBound, replaceRows, rowsBelow, subtreeEnd, visibleRows } from "./rows.ts";

/** From this many new children on, sorting once is cheaper than inserting each. */
const MAX_INSERTED = 64;

const NO_CHILDREN: readonly string[] = [];

export class NodeTable {
  #nodes = new Map<string, TreeNode>();
  #expanded = new Set<string>();
  #troubled = new Set<string>();
  #rows: string[] = ["/"];
  #root = "/";
  /** Full paths of children, of every node whose children were drawn or searched: the rows are the same strings. */
  readonly #paths = new Map<string, string[]>();
  readonly #arranged: ArrangedRows;

  constructor() {
    const table = this;
    this.#arranged = new ArrangedRows({
      get root() {
        return table.#root;
      },
      childrenOf: this.#pathsBelow,
      isOpen: (path) => this.#expanded.has(path),
      rankOf: (path, sort) => rankOf(this.#nodes.get(path), sort),
    });
  }

  get root(): string {
    return this.#root;
  }

  /** Visible paths from top to bottom. */
  get rows(): readonly string[] {
    return this.isPlain ? this.#rows : this.#arranged.rows;
  }

  /** Is the tree as people opened it, in the order of names? */
  get isPlain(): boolean {
    const { text, sort } = this.arrangement;
    return !text && sort === "name";
  }

  get arrangement(): Arrangement {
    return this.#arranged.arrangement;
  }

  /** Search and order; what was open stays so for the time after a search. */
  arrange(arrangement: Arrangement): void {
    this.#arranged.arrange(arrangement);
  }

  /** How many paths hold what is searched for. */
  get found(): number {
    return this.#arranged.found;
  }

  /** Index of the row of `path`, or a negative number: in the plain tree, where it would stand as `-(index + 1)`. */
  find(path: string): number {
    return this.isPlain ? findRow(this.#rows, path) : this.#arranged.find(path);
  }

  /** Paths of nodes with an error, visible or not: their rows are taller. */
  get troubled(): ReadonlySet<string> {
    return this.#troubled;
  }

  get(path: string): TreeNode | undefined {
    return this.#nodes.get(path);
  }

  childrenOf(path: string): readonly string[] {
    return this.#nodes.get(path)?.children ?? NO_CHILDREN;
  }

  isExpanded(path: string): boolean {
    return this.arrangement.text ? this.childrenOf(path).length > 0 : this.#expanded.has(path);
  }

  /** Is it open, and every step to it? Then the kernel follows it. */
  isOpenToTheRoot(path: string): boolean {
    for (let step = path; ; step = parentOf(step)) {
      if (!this.#expanded.has(step)) return false;
      if (step === this.#root) return true;
    }
  }

  /** Replace everything. The node objects become the table's own. */
  load(root: string, nodes: Record<string, TreeNode>, expanded: readonly string[]): void {
    this.#root = root;
    this.#paths.clear();
    this.#arranged.reset();
    this.#nodes = new Map(Object.entries(nodes));
    this.#expanded = new Set(expanded);
    this.#troubled = new Set();
    for (const [path, node] of this.#nodes) {
      node.children = sortedSegments(node.children);
      if (troubleOf(node)) this.#troubled.add(path);
    }
    this.#rows = visibleRows(root, this.#pathsBelow, this.#expanded);
  }

  /** Fold one node's patch in; `null` forgets the node, whose row stays as long as its parent names it. */
  patch(path: string, patch: NodePatch | null): void {
    if (patch === null) {
      this.#nodes.delete(path);
      this.#troubled.delete(path);
      this.#paths.delete(path);
      this.#arranged.noteChildren(path);
      this.#arranged.noteRank(path);
      this.#redrawBelow(path);
      return;
    }
    const known = this.#nodes.get(path);
    const node = known ?? {
      state: "unloaded",
      count: null,
      children: [],
      error: null,
      updated_at: null,
      active_at: null,
    };
    const { added, children, ...fields } = patch;
    Object.assign(node, fields);
    if (!known) this.#nodes.set(path, node);
    if (troubleOf(node)) this.#troubled.add(path);
    else this.#troubled.delete(path);
    this.#arranged.noteRank(path);
    if (children || (added && added.length > MAX_INSERTED)) {
      node.children = sortedSegments([...(children ?? node.children), ...(added ?? [])]);
      this.#paths.delete(path);
      this.#arranged.noteChildren(path);
      this.#redrawBelow(path);
    } else if (added) {
      for (const segment of added) this.#addChild(path, node, segment);
    }
  }

  /** Open a node; false where it was open. */
  expand(path: string): boolean {
    if (this.#expanded.has(path)) return false;
    this.#expanded.add(path);
    this.#arranged.noteOpening();
    this.#redrawBelow(path);
    return true;
  }

  /** Close a node; false where it was closed. What is open below it stays so for the next time. */
  collapse(path: string): boolean {
    if (!this.#expanded.delete(path)) return false;
    this.#arranged.noteOpening();
    this.#redrawBelow(path);
    return true;
  }

  /** A copy that shares nothing with the table, in the shape of the snapshot. */
  copy(): { nodes: Record<string, TreeNode>; expanded: string[] } {
    const nodes: Record<string, TreeNode> = {};
    for (const [path, node] of this.#nodes) nodes[path] = { ...node, children: node.children.slice() };
    return { nodes, expanded: [...this.#expanded] };
  }

  #addChild(path: string, node: TreeNode, segment: string): void {
    const { children } = node;
    const at = lowerBound(children.length, (i) => comparePaths(children[i] ?? "", segment) < 0);
    if (children[at] === segment) return;
    children.splice(at, 0, segment);
    const child = joinPath(path, segment);
    this.#paths.get(path)?.splice(at, 0, child);
    this.#arranged.noteChildren(path);
    if (!this.#expanded.has(path) || findRow(this.#rows, path) < 0) return;
    const below = rowsBelow(child, this.#pathsBelow, this.#expanded);
    replaceRows(this.#rows, -findRow(this.#rows, child) - 1, 0, [child, ...below]);
  }

  readonly #pathsBelow = (path: string): readonly string[] => {
    const children = this.childrenOf(path);
    if (children.length === 0) return NO_CHILDREN;
    let paths = this.#paths.get(path);
    if (!paths) {
      paths = children.map((segment) => joinPath(path, segment));
      this.#paths.set(path, paths);
    }
    return paths;
  };

  #redrawBelow(path: string): void {
    const index = findRow(this.#rows, path);
    if (index < 0) return;
    const removed = subtreeEnd(this.#rows, index) - index - 1;
    const below = rowsBelow(path, this.#pathsBelow, this.#expanded);
    if (removed + below.length > 0) replaceRows(this.#rows, index + 1, removed, below);
  }
}

function rankOf(node: TreeNode | undefined, sort: Sort): number {
  return (sort === "count" ? node?.count : node?.active_at) ?? -1;
}

/** Has the node anything to show besides its name? */
export function hasData(node: TreeNode | undefined): boolean {
  if (!node) return false;
  const { state, count, children, updated_at } = node;
  return state === "loaded" || count !== null || updated_at !== null || children.length > 0;
}

/** What went wrong with the node last, or null. A node in error always has something to say. */
export function troubleOf(node: TreeNode | undefined): NodeError | null {
  if (node?.state !== "error") return node?.error ?? null;
  return node.error ?? UNEXPLAINED;
}

const UNEXPLAINED: NodeError = {
  code: "INTERNAL",
  message: "The stream state could not be read.",
  hint: null,
  details: null,
};

/** Segments in order and each once; the kernel mostly sends them so, and then nothing is sorted. */
function sortedSegments(segments: readonly string[]): string[] {
  const isSorted = segments.every((s, i) => i === 0 || comparePaths(segments[i - 1] ?? "", s) < 0);
  return isSorted ? segments.slice() : [...new Set(segments)].sort(comparePaths);
}
