import type { AriaAttributes, JSX } from "preact";
import { useRef } from "preact/hooks";
import { formatAge, formatFixed } from "../ages.ts";
import { foundIn } from "../arrange.ts";
import type { TreeNode } from "../channel.ts";
import { hasData, troubleOf } from "../nodes.ts";
import { comparePaths, depthBelow, lastSegment, parentOf } from "../path.ts";
import { lowerBound } from "../rows.ts";
import { formatMoment, formatTime } from "../status.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { Chevron, PlusIcon, RefreshIcon } from "./icons.tsx";
import { Shortened } from "./Shortened.tsx";
import { Trouble } from "./Trouble.tsx";

interface RowProps {
  store: TreeStore;
  path: string;
  id: string;
  top: number;
  isActive: boolean;
  onActivate: (path: string) => void;
  onResize: () => void;
  /** Is the list of its children open? */
  isBranching: boolean;
  onBranch: (path: string) => void;
}

/** One node of the tree, with its message where it has one. */
export function Row(props: RowProps): JSX.Element {
  const { store, path, id, top, isActive, onActivate, onResize, isBranching, onBranch } = props;
  const { tree } = store;
  const node = tree.get(path);
  const isRoot = path === tree.root;
  const isExpanded = tree.isExpanded(path);
  const isSelected = store.selected === path;
  const segment = isRoot ? path : lastSegment(path);
  const trouble = troubleOf(node);
  const progress = describeProgress(store, node, isExpanded);
  // Only the active row's buttons are in the tab order: Tab leaves a tree of thousands in a few steps.
  const tabIndex = isActive ? 0 : -1;
  return (
    // biome-ignore lint/a11y/useFocusableInteractive: the tree holds the focus and names the active item
    <div
      id={id}
      class="itx-row"
      style={`top:${top}px;--itx-depth:${depthBelow(path, tree.root)}`}
      role="treeitem"
      aria-label={describeRow(segment, node, progress)}
      aria-description={describeTimes(store, path, node) || undefined}
      aria-level={depthBelow(path, tree.root) + 1}
      {...placeAmongSiblings(store, path, segment)}
      aria-expanded={canExpand(node) ? isExpanded : undefined}
      aria-selected={isSelected}
      data-active={isActive || undefined}
      data-path={path}
      data-tall={trouble ? "" : undefined}
      onFocusIn={() => onActivate(path)}
    >
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: Enter and Space select through the tree, which holds the focus */}
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the treeitem around it carries the role */}
      <div
        class="itx-line"
        onClick={() => {
          onActivate(path);
          store.select(path);
        }}
      >
        <span class="itx-indent" />
        <Disclosure store={store} path={path} node={node} isExpanded={isExpanded} onActivate={onActivate} />
        <Label
          text={segment}
          path={path}
          found={isRoot ? null : foundIn(path, tree.arrangement.text)}
          isPending={node?.state === "loading" && store.isFlowing}
        />
        {progress && <span class="itx-progress">{progress}</span>}
        <span class="itx-gap" />
        {node?.active_at != null && (
          <span class="itx-activity" title={`Last event ${formatMoment(node.active_at)}`} aria-hidden="true">
            {store.canAsk
              ? formatAge(node.active_at, store.takenAt)
              : formatFixed(node.active_at, store.takenAt)}
          </span>
        )}
        {node?.count != null && <Count store={store} path={path} node={node} count={node.count} />}
        {!store.isReadOnly && (
          <Button
            className="itx-icon-button itx-on-demand itx-branch"
            label={`New child of ${path}`}
            tabIndex={tabIndex}
            disabled={!store.canAsk}
            aria={{ "aria-haspopup": "dialog", "aria-expanded": isBranching }}
            onPress={() => {
              onActivate(path);
              onBranch(path);
            }}
          >
            <PlusIcon />
          </Button>
        )}
        <Button
          className="itx-icon-button itx-on-demand"
          label={`Refresh ${path}`}
          tabIndex={tabIndex}
          disabled={!store.canAsk}
          onPress={() => store.refresh(path)}
        >
          <RefreshIcon />
        </Button>
      </div>
      {trouble && (
        <Trouble
          error={trouble}
          lead={hasData(node) ? describeAge(node) : undefined}
          canAsk={store.canAsk}
          tabIndex={tabIndex}
          onResize={onResize}
          onRetry={() => store.refresh(path)}
        />
      )}
    </div>
  );
}

/** Known at no cost where the siblings stand in the order of their names, and all of them. */
function placeAmongSiblings({ tree }: TreeStore, path: string, segment: string): AriaAttributes {
  if (!tree.isPlain) return {};
  const siblings = path === tree.root ? [segment] : tree.childrenOf(parentOf(path));
  const place = lowerBound(siblings.length, (i) => comparePaths(siblings[i] ?? "", segment) < 0) + 1;
  return { "aria-setsize": siblings.length, "aria-posinset": place };
}

/** Might there be children below? Not where a node is known to have none, or could not be read at all. */
export function canExpand(node: TreeNode | undefined): boolean {
  if (!node || node.children.length > 0) return true;
  return node.state === "unloaded" || node.state === "loading";
}

interface CountProps {
  store: TreeStore;
  path: string;
  node: TreeNode;
  count: number;
}

/** The number of events. It lights up when it moves, and is told apart where it is of an earlier moment. */
function Count({ store, path, node, count }: CountProps): JSX.Element {
  const before = useRef(count);
  const hasMoved = useRef(false);
  if (before.current !== count) hasMoved.current = true;
  before.current = count;
  const isOld = !store.isFollowed(path);
  const times = describeTimes(store, path, node);
  return (
    <span
      // Another element each time, so that it lights up anew.
      key={count}
      class="itx-badge"
      data-moved={hasMoved.current || undefined}
      data-old={isOld || undefined}
      title={describeCount(count) + (times && `, ${times}`)}
    >
      {formatCount(count)}
    </span>
  );
}

interface DisclosureProps {
  store: TreeStore;
  path: string;
  node: TreeNode | undefined;
  isExpanded: boolean;
  onActivate: (path: string) => void;
}

function Disclosure({ store, path, node, isExpanded, onActivate }: DisclosureProps): JSX.Element {
  if (!canExpand(node)) return <span class="itx-disclosure" />;
  const verb = isExpanded ? "Collapse" : hasData(node) ? "Expand" : "Load";
  const isSearched = isExpanded && store.tree.arrangement.text !== "";
  const isOutOfReach = verb === "Load" && !store.canAsk;
  return (
    <Button
      className="itx-disclosure"
      label={`${verb} ${path}`}
      title={isOutOfReach ? "Not loaded: run the cell first" : undefined}
      // The arrow keys do the same from anywhere in the tree.
      tabIndex={-1}
      disabled={isOutOfReach || isSearched}
      onPress={() => {
        onActivate(path);
        store.toggle(path);
      }}
    >
      <Chevron />
    </Button>
  );
}

interface LabelProps {
  text: string;
  path: string;
  /** What a search found in it. */
  found: [number, number] | null;
  isPending: boolean;
}

function Label({ text, path, found, isPending }: LabelProps): JSX.Element {
  // Hidden from readers, who would hear the two halves as two words; the row's own name has it whole.
  return (
    <span class={isPending ? "itx-label itx-pending" : "itx-label"} title={path} aria-hidden="true">
      <Shortened text={text} found={found} />
    </span>
  );
}

/** All that is drawn in the row, for those who do not see it. */
function describeRow(segment: string, node: TreeNode | undefined, progress: string): string {
  const count = node?.count == null ? "" : describeCount(node.count);
  return [segment, count, progress, troubleOf(node)?.message].filter(Boolean).join(", ");
}

/** What is going on with the node's data, or is not although it looks so; empty where there is nothing to say. */
function describeProgress(store: TreeStore, node: TreeNode | undefined, isExpanded: boolean): string {
  const state = node?.state ?? "unloaded";
  if (state === "loading" && store.canAsk) return hasData(node) ? "refreshing…" : "loading…";
  const isAwaited = state === "loading" || (state === "unloaded" && isExpanded);
  return isAwaited && !store.canAsk && !hasData(node) ? "not loaded" : "";
}

/** Of when the count is where it is not of now, and when the stream was last written to. */
function describeTimes(store: TreeStore, path: string, node: TreeNode | undefined): string {
  if (node?.count == null) return "";
  const isOld = !store.isFollowed(path) && node.updated_at !== null;
  return [
    isOld && `as of ${formatMoment(node.updated_at ?? 0)}`,
    node.active_at !== null && `the newest of ${formatMoment(node.active_at)}`,
  ]
    .filter(Boolean)
    .join(", ");
}

function describeAge(node: TreeNode | undefined): string {
  const since = node?.updated_at ?? null;
  return since === null ? "Not up to date: " : `Not up to date since ${formatTime(since)}: `;
}

function describeCount(count: number): string {
  return count === 1 ? "1 event" : `${formatCount(count)} events`;
}

const COUNTS = new Intl.NumberFormat("en");

function formatCount(count: number): string {
  return COUNTS.format(count);
}
