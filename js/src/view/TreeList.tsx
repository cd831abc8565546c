import type { JSX, RefObject } from "preact";
import { useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import type { NodeTable } from "../nodes.ts";
import { parentOf } from "../path.ts";
import type { TreeStore } from "../store.ts";
import { offsetOf, ROW_HEIGHT, rowAt, type TallRow, tallRows, visibleRange } from "../window.ts";
import { ChildrenPopup } from "./ChildrenPopup.tsx";
import { isLetter, stepFor } from "./keys.ts";
import { Row } from "./Row.tsx";
import { useKeptFocus } from "./useKeptFocus.ts";

interface TreeListProps {
  store: TreeStore;
  height: number;
  id: string;
}

/** Letters that follow each other as quickly as this are one word. */
const TYPE_AHEAD_MS = 600;

/** The row at the top edge and how far it is scrolled past it; null at the very top. */
type Anchor = { path: string; into: number } | null;

/**
 * The scrolling list. Only the rows in sight are drawn, and the active one, which holds the focus (by
 * `aria-activedescendant`) and must exist wherever it is scrolled to.
 */
export function TreeList({ store, height, id }: TreeListProps): JSX.Element {
  const { tree } = store;
  const { rows } = tree;
  const list = useRef<HTMLDivElement>(null);
  const measured = useRef(new Map<string, number>());
  const anchor = useRef<Anchor>(null);
  const shown = useRef(store.revealed);
  const typed = useRef({ text: "", at: Number.NEGATIVE_INFINITY });
  const [{ viewHeight }, setView] = useState({ viewHeight: height });
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const [wanted, setActive] = useState<string | null>(null);
  const [branching, setBranching] = useState<string | null>(null);
  const branch = useRef<HTMLElement | null>(null);

  const active = nearestVisible(tree, wanted ?? store.selected ?? tree.root);
  const activeIndex = Math.max(0, tree.find(active));
  const tall = tallRows((path) => tree.find(path), tree.troubled, measured.current);
  const total = offsetOf(rows.length, tall);
  const top = Math.max(0, Math.min(anchoredTop(tree, tall, anchor.current), total - viewHeight));

  // Rows that arrive or grow above the view must not push away what somebody is reading.
  useLayoutEffect(() => {
    const element = list.current;
    if (element && element.clientHeight > 0 && Math.abs(element.scrollTop - top) >= 1)
      element.scrollTop = top;
  });
  useLayoutEffect(() => {
    if (list.current && measureTallRows(list.current, measured.current)) redraw(undefined);
  });
  useHeight(list, setView);
  useKeptFocus(list);

  const scrolled = () => {
    const element = list.current;
    // Hidden by the notebook (its windowing sets no height): keep the place for the return.
    if (!element || element.clientHeight === 0) return;
    const index = rowAt(element.scrollTop, rows.length, tall);
    const path = rows[index] ?? tree.root;
    anchor.current =
      element.scrollTop <= 0 ? null : { path, into: element.scrollTop - offsetOf(index, tall) };
    redraw(undefined);
  };

  const activate = (index: number) => {
    const element = list.current;
    const path = rows[index];
    if (!element || path === undefined) return;
    setActive(path);
    const rowTop = offsetOf(index, tall);
    const rowBottom = offsetOf(index + 1, tall);
    if (rowTop < element.scrollTop) element.scrollTop = rowTop;
    else if (rowBottom > element.scrollTop + viewHeight) element.scrollTop = rowBottom - viewHeight;
    scrolled();
  };

  // Once in each view, when the way to it is loaded.
  useLayoutEffect(() => {
    const index = store.revealed === shown.current ? -1 : tree.find(store.revealed?.path ?? "");
    if (index < 0) return;
    shown.current = store.revealed;
    activate(index);
  });

  const branchOff = (path: string) => {
    const drawn = [...(list.current?.querySelectorAll<HTMLElement>("[data-path]") ?? [])];
    branch.current = drawn.find((row) => row.dataset.path === path)?.querySelector(".itx-branch") ?? null;
    setBranching(branching === path ? null : path);
  };
  const closeBranch = (isEscape: boolean, gone?: string) => {
    setBranching(null);
    if (isEscape || gone !== undefined) list.current?.focus({ preventScroll: true });
  };

  const pressed = (event: KeyboardEvent) => {
    if (isMenuKey(event) && !store.isReadOnly && store.canAsk) {
      event.preventDefault();
      event.stopPropagation();
      branchOff(active);
      return;
    }
    // Long details scroll by the same keys.
    if (event.target instanceof HTMLPreElement) return;
    const isInButton = event.target !== list.current;
    if (isLetter(event)) {
      const isGoingOn = event.timeStamp - typed.current.at < TYPE_AHEAD_MS;
      typed.current = { text: (isGoingOn ? typed.current.text : "") + event.key, at: event.timeStamp };
    }
    const isRtl = list.current !== null && getComputedStyle(list.current).direction === "rtl";
    const place = { store, index: activeIndex, isRtl, typed: typed.current.text };
    const step = stepFor(event, isInButton, place);
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    if (isInButton) list.current?.focus({ preventScroll: true });
    step.act?.();
    if (step.moveTo !== undefined) activate(step.moveTo);
  };

  return (
    <>
      <div
        ref={list}
        class="itx-list"
        style={`max-height:${height}px`}
        role="tree"
        aria-label={`Streams of ${store.project.slug}`}
        aria-activedescendant={rowId(id, active)}
        tabIndex={0}
        data-lm-suppress-shortcuts="true"
        onScroll={scrolled}
        onKeyDown={pressed}
      >
        <div class="itx-rows" role="presentation" style={`height:${total}px`}>
          {drawnIndexes(activeIndex, visibleRange(top, viewHeight, rows.length, tall)).map((index) => {
            const path = rows[index] ?? tree.root;
            return (
              <Row
                key={path}
                store={store}
                path={path}
                id={rowId(id, path)}
                top={offsetOf(index, tall)}
                isActive={index === activeIndex}
                onActivate={setActive}
                onResize={() => redraw(undefined)}
                isBranching={branching === path}
                onBranch={branchOff}
              />
            );
          })}
        </div>
      </div>
      {branching !== null && (
        <ChildrenPopup
          key={branching}
          store={store}
          path={branching}
          anchor={branch}
          id={`${id}-branch`}
          onClose={closeBranch}
        />
      )}
    </>
  );
}

/** The key that opens the menu of what one is at, or what stands in for it. */
function isMenuKey({ key, shiftKey }: KeyboardEvent): boolean {
  return key === "ContextMenu" || (key === "F10" && shiftKey);
}

/** `path`, or the nearest of its ancestors that has a row. */
function nearestVisible(tree: NodeTable, path: string): string {
  let candidate = path;
  while (candidate !== "/" && tree.find(candidate) < 0) candidate = parentOf(candidate);
  return tree.find(candidate) < 0 ? tree.root : candidate;
}

function anchoredTop(tree: NodeTable, tall: readonly TallRow[], anchor: Anchor): number {
  if (!anchor) return 0;
  const index = tree.find(anchor.path);
  // A row that went leaves its place to the one after it.
  return index < 0 ? offsetOf(-index - 1, tall) : offsetOf(index, tall) + anchor.into;
}

/** The rows in sight in their order, with the active one wherever it is. */
function drawnIndexes(active: number, { first, last }: { first: number; last: number }): number[] {
  const indexes: number[] = [];
  if (active < first) indexes.push(active);
  for (let index = first; index <= last; index++) indexes.push(index);
  if (active > last) indexes.push(active);
  return indexes;
}

/** Take over the real heights of the drawn rows that carry a message; true where one was supposed wrongly. */
function measureTallRows(list: HTMLElement, measured: Map<string, number>): boolean {
  let hasChanged = false;
  for (const row of list.querySelectorAll<HTMLElement>("[data-tall]")) {
    const path = row.dataset.path ?? "";
    const extra = row.offsetHeight - ROW_HEIGHT;
    if (extra <= 0 || measured.get(path) === extra) continue;
    measured.set(path, extra);
    hasChanged = true;
  }
  return hasChanged;
}

/**
 * Follow the list's height: under the notebook's windowing it is 0 at first, and again whenever out of sight. Each
 * report draws anew, even of a height known before: a list taken out of the page comes back scrolled to its top.
 */
function useHeight(
  list: RefObject<HTMLElement | null>,
  setView: (view: { viewHeight: number }) => void,
): void {
  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      if (element.clientHeight > 0) setView({ viewHeight: element.clientHeight });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [list, setView]);
}

/** An id must hold no space and be the same for the same path; the dots keep two paths from sharing one. */
function rowId(id: string, path: string): string {
  return `${id}-${path.replace(/[^a-z0-9_/-]/g, (unit) => `.${unit.charCodeAt(0).toString(16)}.`)}`;
}
